"""Class activation maps: the features of a layer, weighted with a gradient there.

They work on every layer that has a layout on the image: maps, channels last, tokens on a grid, several layers at once. Channels and places
are those of the layout's maps; of several layers each has its own. Values come back in the shape of the features, and what lies in no map,
such as a class token, has the value 0: what it holds is then missing from the sum, in the step "operator" of the error budget.

All are one-step expansions around the features A, read at A = 0 as published (for most networks no input has such features), or at A', the
features of the baseline: the corrected form.
"""

import math
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from counterpoint.checks import check_range
from counterpoint.comparison import Comparison
from counterpoint.errors import LayerError
from counterpoint.layout_finding import NoLayout
from counterpoint.layouts import Layout, on_maps
from counterpoint.methods.arithmetic import exact
from counterpoint.protocols import Claim, Level, Outcome

Reference = Literal["zeros", "comparison"]
Features = Float[Tensor, "batch *features"]
Stack = Float[Tensor, "batch channel height width"]


@dataclass(frozen=True)
class GradCAM:
    """Each channel weighted with the spatial mean of its gradient.

    Formula: ReLU(sum over channels of mean_ij(df/dA) * A)

    Values: the shape of the features, in units of the score, read as shares of f(x) - f(A = 0): a one-step expansion with
    averaged gradients, so that the error is usually large; summed over channels they are the published map.

    Parameters:
        relu: Drop the places whose channel sum is negative, as published.
        reference: "zeros" weights A, as published; "comparison" weights A - A', the corrected form.

    Raises:
        LayerError: the layer has no channels and places on the image.

    Reference: Selvaraju et al. 2017, arXiv:1610.02391; baseline A = 0 named by Cui and Fan 2026, arXiv:2605.22417.
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
        weights = on_maps(layout, channel_means, gradient)
        return weighted_outcome(comparison, gradient, weights, self.reference, relu=self.relu)


@dataclass(frozen=True)
class HiResCAM:
    """Each place of each channel weighted with its own gradient: gradient times features.

    Formula: sum over channels of df/dA * A

    Values: the shape of the features, signed, in units of the score, shares of f(x) - f(A = 0); exact where what follows the
    layer is linear, as pooling and a linear head are.

    Parameters:
        reference: "zeros" weights A, as published; "comparison" weights A - A', the corrected form.

    Raises:
        LayerError: the layer has no channels and places on the image.

    Reference: Draelos and Carin 2020, arXiv:2011.08891.
    """

    reference: Reference = "zeros"
    claim: ClassVar[Claim] = "shares"
    level: ClassVar[Level] = "layer"
    version: ClassVar[int] = 1

    def __call__(self, comparison: Comparison) -> Outcome:
        """One gradient for each image, and one forward of zero features."""
        layout = check_places(comparison)
        gradient = layer_gradient(comparison)
        weights = on_maps(layout, lambda g: g, gradient)
        return weighted_outcome(comparison, gradient, weights, self.reference, relu=False)


@dataclass(frozen=True)
class LayerCAM:
    """Each place of each channel weighted with its own gradient, negative gradients dropped.

    Formula: M = sum over channels of ReLU(df/dA) * A; with `gamma`, tanh(gamma M / max M)

    Values: the shape of the features, in units of the score, read as shares of f(x) - f(A = 0); as only what speaks for the class is
    counted, the result exceeds its target even where the rest of the network is linear. Scaled by `gamma` they are importances. Places
    with a negative sum, possible only where features can be negative, are kept; other packages drop them.

    Parameters:
        reference: "zeros" weights A, as published; "comparison" weights A - A', the corrected form.
        gamma: The paper's scaling for shallow layers, 2 there; by default none.

    Raises:
        LayerError: the layer has no channels and places on the image.

    Reference: Jiang et al. 2021, doi:10.1109/TIP.2021.3089943; flaw described by Cui and Fan 2026, arXiv:2605.22417.
    """

    reference: Reference = "zeros"
    gamma: float | None = None
    level: ClassVar[Level] = "layer"
    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if self.gamma is not None:
            check_range("gamma", self.gamma, 0.0, open_low=True)

    @property
    def claim(self) -> Claim:
        """Shares, unless scaled: a squashed map has no unit."""
        return "shares" if self.gamma is None else "importance"

    def __call__(self, comparison: Comparison) -> Outcome:
        """One gradient for each image, and one forward of zero features."""
        layout = check_places(comparison)
        gradient = layer_gradient(comparison)
        weights = on_maps(layout, torch.relu, gradient)
        outcome = weighted_outcome(comparison, gradient, weights, self.reference, relu=False)
        if self.gamma is None:
            return outcome
        gamma = self.gamma
        return Outcome(values=on_maps(layout, lambda values: _squashed(values, gamma), outcome.values))


@dataclass(frozen=True)
class ODAM:
    """Gradient times features of the level that a detection comes from, places with a negative sum dropped.

    Formula: ReLU(sum over channels of df/dA * A); with `sigma`, the gradient smoothed over places first

    Values: the shape of the features, in units of the score, read as shares of f(x) - f(A = 0).

    Parameters:
        sigma: Standard deviation, in cells of the layer, of the Gaussian window that the paper smooths the gradient with; its public
            script does not, and by default neither do we.
        reference: "zeros" weights A, as published; "comparison" weights A - A', the corrected form.

    Raises:
        LayerError: the layer has no channels and places on the image.

    Reference: Zhao and Chan 2023, arXiv:2304.06354; flaw described by Cui and Fan 2026, arXiv:2605.22417.
    """

    sigma: float | None = None
    reference: Reference = "zeros"
    claim: ClassVar[Claim] = "shares"
    level: ClassVar[Level] = "layer"
    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if self.sigma is not None:
            check_range("sigma", self.sigma, 0.0, open_low=True)

    def __call__(self, comparison: Comparison) -> Outcome:
        """One gradient for each image, and one forward of zero features."""
        layout, sigma = check_places(comparison), self.sigma
        gradient = layer_gradient(comparison)
        weights = on_maps(layout, lambda g: g if sigma is None else _smoothed(g, sigma), gradient)
        return weighted_outcome(comparison, gradient, weights, self.reference, relu=True)


@dataclass(frozen=True)
class DifferenceMap(GradCAM):
    """The features minus those of the baseline, weighted as in Grad-CAM: our reconstruction of a map of unknown origin.

    Formula: ReLU(sum over channels of mean_ij(df/dA) * (A - A'))

    Values: the shape of the features, in units of the score, read as shares of f(x) - f(x').

    Reference: named, without a definition that we could find, in Cui and Fan 2026, arXiv:2605.22417; reconstruction after the
    difference term of Sattarzadeh et al. 2021, arXiv:2102.07805.
    """

    reference: Reference = field(default="comparison", init=False)


@dataclass(frozen=True)
class IntegratedGradCAM:
    """Grad-CAM of the features minus those of the baseline, averaged along the path of the inputs; details are our reconstruction.

    Formula: mean over t of ReLU(sum over channels of mean_ij(df/dA at x_t) * (A(x_t) - A(x'))), x_t = x' + t (x - x')

    Values: the shape of the features; an importance: the average of differences on the way is no share of the whole difference.

    Parameters:
        steps: How many points on the path, the middles of equal pieces.

    Raises:
        LayerError: the layer has no channels and places on the image.
        InputError: a layer baseline given in feature space, where no path of inputs begins.

    Reference: Sattarzadeh et al. 2021, arXiv:2102.07805 (spatial mean and number of steps are our reconstruction).
    """

    steps: int = 20
    claim: ClassVar[Claim] = "importance"
    level: ClassVar[Level] = "layer"
    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_range("steps", self.steps, 1)

    def __call__(self, comparison: Comparison) -> Outcome:
        """`steps` gradients and runs of the part before the layer for each image."""
        layout = check_places(comparison)
        comparison.check_induced_path("IntegratedGradCAM")
        x, b = comparison.inputs, comparison.baseline_inputs
        values = torch.zeros_like(exact(comparison.end))
        for k in range(self.steps):
            features = comparison.features(b + (k + 0.5) / self.steps * (x - b))
            weights = on_maps(layout, channel_means, exact(comparison.gradients(features)))
            difference = exact(features) - exact(comparison.start)
            values += on_maps(layout, positive_places, weights * difference) / self.steps
        return Outcome(values=values)


def check_places(comparison: Comparison) -> Layout:
    """How the features lie on the image.

    Raises:
        LayerError: they do not; the message says why.
    """
    found = comparison.layout_or_reason
    if isinstance(found, NoLayout):
        raise LayerError(
            "class activation maps need features (batch, channel, height, width), or others with places on the image, not layer "
            f"'{comparison.layer}', {found}; `counterpoint layers` lists where each layer's features lie."
        )
    return found


def layer_gradient(comparison: Comparison) -> Features:
    """The gradient at the features of the inputs."""
    return exact(comparison.gradients(comparison.end))


def channel_means(maps: Stack) -> Float[Tensor, "batch channel 1 1"]:
    """The mean of each channel over its places."""
    return maps.mean((2, 3), keepdim=True)


def positive_places(values: Stack) -> Stack:
    """Places whose channel sum is negative dropped, for all channels: the channel sum is then ReLU of the map."""
    return values * (values.sum(1, keepdim=True) > 0)


def weighted_outcome(
    comparison: Comparison, gradient: Features, weights: Features, reference: Reference, *, relu: bool
) -> Outcome:
    """weights * (A - reference), with the sum of the values after each step that costs accuracy."""
    own_target = None
    difference = exact(comparison.end)
    if reference == "zeros":
        own_target = comparison.score - comparison.scores(torch.zeros_like(comparison.end))
    else:
        difference = difference - exact(comparison.start)
    values = weights * difference
    stages = {"one_step": gradient * difference, "operator": values}
    if relu:
        stages["display"] = values = on_maps(check_places(comparison), positive_places, values)
    return Outcome(
        values=values,
        reference="zero features" if reference == "zeros" else None,
        own_target=own_target,
        stages={step: each.flatten(1).sum(1) for step, each in stages.items()},
    )


def _squashed(values: Stack, gamma: float) -> Stack:
    """Every channel of a place by one factor, so that the channel sum is tanh(gamma M / max M)."""
    places = values.sum(1, keepdim=True)
    largest = places.amax((2, 3), keepdim=True)
    scaled = torch.tanh(gamma * places / largest.where(largest > 0, 1.0))
    return values * (scaled / places.where(places != 0, 1.0))


def _smoothed(gradient: Stack, sigma: float) -> Stack:
    """Each channel under a Gaussian of `sigma` cells, cut off at 3 sigma, cells outside left out of the mean."""
    reach = max(1, math.ceil(3 * sigma))
    steps = torch.arange(-reach, reach + 1, device=gradient.device, dtype=gradient.dtype)
    kernel = torch.exp(-0.5 * (steps / sigma) ** 2)
    flat = gradient.flatten(0, 1).unsqueeze(1)

    def blur(image: Tensor) -> Tensor:
        down = F.conv2d(image, kernel.view(1, 1, -1, 1), padding=(reach, 0))
        return F.conv2d(down, kernel.view(1, 1, 1, -1), padding=(0, reach))

    return (blur(flat) / blur(torch.ones_like(flat[:1]))).view_as(gradient)
