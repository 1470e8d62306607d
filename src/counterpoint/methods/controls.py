"""Maps that know nothing of the model: what an explanation must be better than."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import pad

from counterpoint.checks import check_images, check_places, check_range
from counterpoint.comparison import Comparison
from counterpoint.methods.arithmetic import exact
from counterpoint.methods.coalitions import on_channels
from counterpoint.protocols import Claim, Level, Outcome


@dataclass(frozen=True)
class RandomMap:
    """Noise: a control for measures that any order of the pixels would pass.

    Formula: m(p) ~ U(0, 1)

    Values: (batch, channel, height, width), the same for every image, shared by the channels; an importance that knows neither model
    nor image. The model is not run.

    Parameters:
        seed: Of the noise.

    Reference: the usual control; Hooker et al. 2019, arXiv:1806.10758.
    """

    seed: int = 0
    claim: ClassVar[Claim] = "importance"
    level: ClassVar[Level] = "input"
    version: ClassVar[int] = 1
    fills: ClassVar[bool] = True
    many_draws: ClassVar[bool] = True

    def __call__(self, comparison: Comparison) -> Outcome:
        """No forward, no gradient."""
        check_places("inputs", comparison.inputs)
        # Drawn on the CPU: one seed means one map on every device.
        generator = torch.Generator().manual_seed(self.seed)
        noise = torch.rand(comparison.inputs.shape[2:], generator=generator, dtype=torch.float64)
        return Outcome(values=_same_for_all(noise, comparison))


@dataclass(frozen=True)
class EdgeMap:
    """The edges of the image: a control for maps that look right because they trace what is there, whatever the model makes of it.

    Formula: m(p) = sqrt((S_x * grey)^2 + (S_y * grey)^2), S the 3 x 3 Sobel operators / 8, grey the mean of the channels

    Values: (batch, channel, height, width), not negative, brightness per pixel, shared by the channels; an importance that knows the
    image but not the model, which is not run. The image is repeated at its edges.

    Raises:
        ShapeError: the inputs are no images.

    Reference: the edge detector of Adebayo et al. 2018, arXiv:1810.03292.
    """

    claim: ClassVar[Claim] = "importance"
    level: ClassVar[Level] = "input"
    version: ClassVar[int] = 1
    fills: ClassVar[bool] = True
    many_draws: ClassVar[bool] = True

    def __call__(self, comparison: Comparison) -> Outcome:
        """No forward, no gradient."""
        check_images("inputs", comparison.inputs)
        grey = pad(exact(comparison.inputs).mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")[:, 0]
        across = (grey[:, :, 2:] - grey[:, :, :-2]) / 2
        down = (grey[:, 2:] - grey[:, :-2]) / 2
        # Each difference smoothed by (1, 2, 1) / 4 along the other axis.
        across = (across[:, :-2] + 2 * across[:, 1:-1] + across[:, 2:]) / 4
        down = (down[:, :, :-2] + 2 * down[:, :, 1:-1] + down[:, :, 2:]) / 4
        return Outcome(values=on_channels(torch.hypot(across, down), comparison))


@dataclass(frozen=True)
class CentredBlob:
    """A round spot in the middle: a control for measures that reward a guess at where photographers put things.

    Formula: m(p) = exp(-|p - centre|^2 / (2 s^2)), s = width * the image's shorter side

    Values: (batch, channel, height, width), in (0, 1], the same for every image, shared by the channels; an importance that knows
    neither model nor image. The model is not run.

    Parameters:
        width: Standard deviation of the spot as a share of the shorter side.

    Raises:
        ShapeError: the inputs are no images.

    Reference: the centre baseline of the pointing game, Zhang et al. 2016, arXiv:1608.00507; its shape is ours.
    """

    width: float = 0.25
    claim: ClassVar[Claim] = "importance"
    level: ClassVar[Level] = "input"
    version: ClassVar[int] = 1
    fills: ClassVar[bool] = True
    many_draws: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_range("width", self.width, 0.0, open_low=True)

    def __call__(self, comparison: Comparison) -> Outcome:
        """No forward, no gradient."""
        check_images("inputs", comparison.inputs)
        height, width = comparison.inputs.shape[2:]
        scale = self.width * min(height, width)
        down, across = (
            (torch.arange(side, dtype=torch.float64) - (side - 1) / 2) / scale for side in (height, width)
        )
        spot = torch.exp(-0.5 * (down[:, None] ** 2 + across**2))
        return Outcome(values=_same_for_all(spot, comparison))


def _same_for_all(one: Tensor, comparison: Comparison) -> Tensor:
    inputs = comparison.inputs
    return on_channels(one.to(inputs.device).expand(len(inputs), *one.shape), comparison)
