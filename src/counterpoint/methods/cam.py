"""Class activation maps: the features of a layer, weighted with the gradient there."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from counterpoint.checks import shape_text
from counterpoint.comparison import Comparison
from counterpoint.errors import LayerError
from counterpoint.protocols import Claim, Level, Outcome

Reference = Literal["zeros", "comparison"]
Features = Float[Tensor, "batch channel height width"]


@dataclass(frozen=True)
class GradCAM:
    """Each channel weighted with the spatial mean of its gradient.

    Formula: sum over channels of mean_ij(df/dA) * A, then ReLU

    Values: (batch, channel, height, width), in units of the score, read as shares of f(x) - f(A = 0): a one-step expansion with averaged
    gradients, so that the error is usually large; summed over channels they are the published map.

    Parameters:
        relu: Drop the places whose channel sum is negative, as published.
        reference: "zeros" weights A, as published; "comparison" weights A - A', the corrected form.

    Raises:
        LayerError: the layer has no channels and places.

    Reference: Selvaraju et al. 2017, arXiv:1610.02391; baseline A = 0 named by Cui and Fan 2026, arXiv:2605.22417.
    """

    relu: bool = True
    reference: Reference = "zeros"
    claim: ClassVar[Claim] = "shares"
    level: ClassVar[Level] = "layer"
    version: ClassVar[int] = 1

    def __call__(self, comparison: Comparison) -> Outcome:
        """One gradient for each image, and one forward of zero features."""
        gradient = _gradient(comparison)
        return _cam(comparison, gradient.mean((2, 3), keepdim=True), self.reference, relu=self.relu)


@dataclass(frozen=True)
class LayerCAM:
    """Each place of each channel weighted with its own gradient, negative gradients dropped.

    Formula: sum over channels of ReLU(df/dA) * A

    Values: (batch, channel, height, width), in units of the score, read as shares of f(x) - f(A = 0); as only what speaks for the class is
    counted, the result exceeds its target even where the rest of the network is linear.

    Parameters:
        reference: "zeros" weights A, as published; "comparison" weights A - A', the corrected form.

    Raises:
        LayerError: the layer has no channels and places.

    Reference: Jiang et al. 2021, doi:10.1109/TIP.2021.3089943; flaw described by Cui and Fan 2026, arXiv:2605.22417.
    """

    reference: Reference = "zeros"
    claim: ClassVar[Claim] = "shares"
    level: ClassVar[Level] = "layer"
    version: ClassVar[int] = 1

    def __call__(self, comparison: Comparison) -> Outcome:
        """One gradient for each image, and one forward of zero features."""
        return _cam(comparison, _gradient(comparison).relu(), self.reference, relu=False)


def _gradient(comparison: Comparison) -> Features:
    end = comparison.end
    if end.ndim != 4:
        raise LayerError(
            f"class activation maps need features (batch, channel, height, width), but layer '{comparison.layer}' "
            f"gives {shape_text(end)}; choose a convolutional layer before pooling."
        )
    return comparison.gradients(end).to(torch.promote_types(end.dtype, torch.float32))


def _cam(comparison: Comparison, weights: Features, reference: Reference, *, relu: bool) -> Outcome:
    end = comparison.end.to(weights.dtype)
    if reference == "zeros":
        values = weights * end
        own_target = comparison.score - comparison.scores(torch.zeros_like(comparison.end))
    else:
        values = weights * (end - comparison.start.to(weights.dtype))
        own_target = None
    if relu:
        # Dropped place by place, for all channels: the channel sum is then ReLU of the map.
        values = values * (values.sum(1, keepdim=True) > 0)
    return Outcome(
        values=values, reference="zero features" if own_target is not None else None, own_target=own_target
    )
