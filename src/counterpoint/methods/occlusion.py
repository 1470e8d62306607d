"""What the score loses when one part of the image is removed."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from counterpoint import progress
from counterpoint.checks import check_places, check_range
from counterpoint.comparison import Comparison
from counterpoint.errors import InputError
from counterpoint.methods.coalitions import games, masked_scores, on_channels
from counterpoint.methods.regions import Grid, Regions
from counterpoint.protocols import Claim, Level, Outcome


@dataclass(frozen=True)
class Occlusion:
    """What the score loses when a window of the image is removed, for windows that slide over it.

    Formula: m(p) = mean over windows w that hold p of (f(x) - f(x without w)) / |w|, |w| the window's pixels within the image

    Values: (batch, channel, height, width), signed, in units of the score; marginal effects read as shares, a window's spread evenly
    over its pixels and the channels. The error is what interactions leave unexplained: 0 where the score is a sum over pixels and
    `stride` divides `size`. Windows begin outside the image, so that pixels at its edges are removed as often as the others.

    Signals and volumes have windows of as many axes.

    Parameters:
        size: Side of the square window in pixels.
        stride: From one window to the next, at most `size`.

    Raises:
        ShapeError: the inputs have no places.

    Reference: Zeiler and Fergus 2013, arXiv:1311.2901.
    """

    size: int = 28
    stride: int = 14
    claim: ClassVar[Claim] = "shares"
    level: ClassVar[Level] = "input"
    version: ClassVar[int] = 1
    fills: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_range("size", self.size, 1)
        check_range("stride", self.stride, 1)
        if self.stride > self.size:
            raise InputError(
                f"stride must be at most size, or pixels between windows are never removed; got size {self.size}, stride {self.stride}."
            )

    def __call__(self, comparison: Comparison) -> Outcome:
        """One forward for each window, of all images."""
        check_places("inputs", comparison.inputs)
        windows = [self._windows(side) for side in comparison.inputs.shape[2:]]
        counts = [len(along) for along in windows]

        def without(numbers: range, image: Int[Tensor, " rows"]) -> Tensor:
            number = torch.tensor(numbers)
            removed = torch.ones(len(number), dtype=torch.bool)
            for axis, along in enumerate(windows):
                place = number // math.prod(counts[axis + 1 :]) % len(along)
                removed = removed[..., None] & along[place].view(len(number), *[1] * axis, -1)
            return comparison.filled(removed.to(image.device), image)

        batch, scores = len(comparison.inputs), []
        for i in range(batch):
            with progress.stage(i, i + 1, batch, "occlusion"):
                scores.append(masked_scores(comparison, without, i, range(math.prod(counts))))
        effects = comparison.score.cpu().double()[:, None] - torch.stack(scores)
        maps = effects.view(-1, *counts)
        # Axis by axis: windows are products of one along each.
        for axis, along in enumerate(windows, start=1):
            inside = along.double()
            shares = inside / inside.sum(1, keepdim=True) / inside.sum(0)
            maps = torch.tensordot(maps, shares, ([axis], [0])).movedim(-1, axis)
        values = on_channels(maps.to(comparison.inputs.device), comparison)
        return Outcome(values=values, stages={"one_step": values.flatten(1).sum(1)})

    def _windows(self, side: int) -> Bool[Tensor, "windows side"]:
        """Along one side of the image, which pixels each window holds."""
        first = torch.arange(self.stride - self.size, side, self.stride)[:, None]
        pixel = torch.arange(side)
        return (first <= pixel) & (pixel < first + self.size)


@dataclass(frozen=True)
class FeatureAblation:
    """What the score loses when one region of the image is removed, for each region.

    Formula: share of region r = f(x) - f(x without r)

    Values: (batch, channel, height, width), signed, in units of the score; marginal effects read as shares, a region's spread evenly
    over its pixels and the channels. The error is what interactions between regions leave unexplained.

    Parameters:
        regions: `grid(7)`, `patches(16)` or `superpixels(50)`.

    Raises:
        ShapeError: the inputs are no images.

    Reference: the leave-one-out effect; Zeiler and Fergus 2013, arXiv:1311.2901, for regions of any shape.
    """

    regions: Regions = Grid(7)  # noqa: RUF009 (frozen)
    claim: ClassVar[Claim] = "shares"
    level: ClassVar[Level] = "input"
    version: ClassVar[int] = 1
    fills: ClassVar[bool] = True

    def __call__(self, comparison: Comparison) -> Outcome:
        """One forward for each region."""
        maps = []
        every = games(comparison, self.regions)
        for i, game in enumerate(every):
            with progress.stage(i, i + 1, len(every), "feature_ablation"):
                scores = game(~torch.eye(game.regions, dtype=torch.bool))
            maps.append(game.spread(comparison.score[i].cpu().double() - scores))
        values = on_channels(torch.stack(maps), comparison)
        return Outcome(values=values, stages={"one_step": values.flatten(1).sum(1)})
