"""Class activation maps whose channels are weighted with more than the mean of a gradient."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from counterpoint.comparison import Comparison
from counterpoint.layouts import on_maps
from counterpoint.methods.arithmetic import exact
from counterpoint.methods.cam import (
    Reference,
    Stack,
    check_places,
    layer_gradient,
    positive_places,
    weighted_outcome,
)
from counterpoint.protocols import Claim, Level, Outcome

# A channel whose values cancel to less than this share of their size has no sum to divide by: what is left of it is rounding.
_CANCELLED = 1e-5


@dataclass(frozen=True)
class GradCAMPlusPlus:
    """Each channel weighted with a sum over places of its positive gradients, the larger ones damped.

    Formula: ReLU(sum over channels of w_k A_k), w_k = sum_ij alpha_ij ReLU(g_ij), alpha_ij = 1 / (2 + g_ij sum_ab A_ab), g = df/dA_k

    Values: the shape of the features; an importance: the weights come from derivatives of exp(f), and the factor exp(f), the same
    for every place, is left out. alpha is meant for features that are not negative: elsewhere its denominator can come close to 0.

    Parameters:
        relu: Drop the places whose channel sum is negative, as published.

    Raises:
        LayerError: the layer has no channels and places on the image.

    Reference: Chattopadhay et al. 2018, arXiv:1710.11063.
    """

    relu: bool = True
    claim: ClassVar[Claim] = "importance"
    level: ClassVar[Level] = "layer"
    version: ClassVar[int] = 1

    def __call__(self, comparison: Comparison) -> Outcome:
        """One gradient for each image."""
        layout = check_places(comparison)
        values = on_maps(layout, _damped, layer_gradient(comparison), exact(comparison.end))
        return Outcome(values=on_maps(layout, positive_places, values) if self.relu else values)


@dataclass(frozen=True)
class XGradCAM:
    """Each channel weighted with the mean of its gradient over places, each place counted by its share of the channel.

    Formula: ReLU(sum over channels of w_k A_k), w_k = sum_ij g_ij A_ij / sum_ij A_ij, g = df/dA_k

    Values: the shape of the features, in units of the score, read as shares of f(x) - f(A = 0): before the ReLU every channel sums
    to its gradient times features, so that the sum is that of hires_cam, and only its distribution over places differs.

    A channel whose values cancel (|sum| below 1e-5 of the sum of |values|; never after a ReLU) has no such weight and is left out;
    `extras["left_out"]` says how many were.

    Parameters:
        relu: Drop the places whose channel sum is negative, as published.
        reference: "zeros" weights A, as published; "comparison" weights A - A', the corrected form.

    Raises:
        LayerError: the layer has no channels and places on the image.

    Reference: Fu et al. 2020, arXiv:2008.02312.
    """

    relu: bool = True
    reference: Reference = "zeros"
    claim: ClassVar[Claim] = "shares"
    level: ClassVar[Level] = "layer"
    version: ClassVar[int] = 1

    def __call__(self, comparison: Comparison) -> Outcome:
        """One gradient for each image, and one forward of zero features."""
        layout = check_places(comparison)
        gradient = layer_gradient(comparison)
        difference = exact(comparison.end)
        if self.reference == "comparison":
            difference = difference - exact(comparison.start)
        weights = on_maps(layout, _conserving, gradient, difference)
        outcome = weighted_outcome(comparison, gradient, weights, self.reference, relu=self.relu)
        left_out = torch.stack([_cancelled(maps).flatten(1).sum(1) for maps in layout.maps(difference)]).sum(
            0
        )
        return Outcome(
            values=outcome.values,
            reference=outcome.reference,
            own_target=outcome.own_target,
            stages=outcome.stages,
            extras={"left_out": left_out},
        )


@dataclass(frozen=True)
class EigenCAM:
    """The features projected on their first principal direction: what varies most, whatever the class.

    Formula: sum over channels of v_k A_k, v the first right singular vector of A as (places, channels)

    Values: the shape of the features, signed, in units of the features; an importance. Neither the score nor its gradient is
    asked: the map of an image is the same for every class. A singular vector has no sign; it is turned so that the map is high
    where the features are.

    Parameters:
        centred: Subtract each channel's mean over places first, as a principal component analysis does and the paper does not.

    Raises:
        LayerError: the layer has no channels and places on the image.

    Reference: Muhammad and Yeasin 2020, arXiv:2008.00299.
    """

    centred: bool = False
    claim: ClassVar[Claim] = "importance"
    level: ClassVar[Level] = "layer"
    version: ClassVar[int] = 1

    def __call__(self, comparison: Comparison) -> Outcome:
        """Nothing is run: the features are the comparison's."""
        layout = check_places(comparison)
        return Outcome(values=on_maps(layout, self._projected, exact(comparison.end)))

    def _projected(self, features: Stack) -> Stack:
        """Each channel's part of the projection on the first principal direction of the channels."""
        if self.centred:
            features = features - features.mean((2, 3), keepdim=True)
        places = features.flatten(2).transpose(1, 2)  # (batch, places, channels)
        direction = torch.linalg.svd(places, full_matrices=False).Vh[:, 0]
        values: Tensor = features * direction[:, :, None, None]
        along = (values.sum(1) * features.sum(1)).flatten(1).sum(1)
        return torch.where(along < 0, -1.0, 1.0).to(values)[:, None, None, None] * values


def _damped(gradient: Stack, features: Stack) -> Stack:
    """Features weighted as in Grad-CAM++."""
    # The published g^2 / (2 g^2 + g^3 sum A), divided through by g^2: nothing underflows, and no epsilon is needed.
    denominator = 2.0 + gradient * features.sum((2, 3), keepdim=True)
    weights = (gradient.relu() / denominator.where(denominator != 0, math.inf)).sum((2, 3), keepdim=True)
    return weights * features


def _conserving(gradient: Stack, difference: Stack) -> Tensor:
    """One weight for each channel, with which it sums to its gradient times features; 0 where it cancels."""
    total = difference.sum((2, 3), keepdim=True)
    size = difference.abs().sum((2, 3), keepdim=True)
    weights: Tensor = (gradient * difference).sum((2, 3), keepdim=True)
    return weights / total.where(total.abs() > _CANCELLED * size, math.inf)


def _cancelled(difference: Stack) -> Tensor:
    """Which channels, (batch, channel, 1, 1), have values but no sum."""
    size = difference.abs().sum((2, 3), keepdim=True)
    cancelled: Tensor = (difference.sum((2, 3), keepdim=True).abs() <= _CANCELLED * size) & (size > 0)
    return cancelled
