"""From parameters to masks of given areas, in three ways: one score map, one mask for each share, or masks that only grow."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from counterpoint.methods.fei.quantiles import nested_masks

Variant = Literal["score_map", "masks", "cumulative"]
VARIANTS: tuple[Variant, ...] = ("score_map", "masks", "cumulative")


class Masks(Protocol):
    """Parameters of some images' masks."""

    def leaves(self) -> list[Tensor]:
        """What an optimiser changes."""
        ...

    def refined(self, cells: int) -> "Masks":
        """The same masks with more cells along each side."""
        ...

    def at(
        self, shares: Float[Tensor, "images quantiles"], temperature: float
    ) -> Float[Tensor, "images quantiles height width"]:
        """The share of each pixel that is kept; differentiable."""
        ...

    def penalty(self, shares: Float[Tensor, "images quantiles"], temperature: float) -> Float[Tensor, ""]:
        """What the form of the masks does not keep by itself: areas, or nesting."""
        ...

    def saliency(self) -> Float[Tensor, "images height width"]:
        """The order of the pixels: larger where a pixel is needed at small shares."""
        ...


@dataclass(eq=False)
class ScoreMap:
    """One number for each cell; masks are its smooth thresholds, nested and of the right area by construction."""

    cells: Float[Tensor, "images 1 rows columns"]
    size: tuple[int, int]

    def leaves(self) -> list[Tensor]:
        """The cells."""
        return [self.cells]

    def refined(self, cells: int) -> "ScoreMap":
        """The map, enlarged bilinearly."""
        return ScoreMap(_enlarged(self.cells.detach(), (cells, cells)).requires_grad_(), self.size)

    def at(
        self, shares: Float[Tensor, "images quantiles"], temperature: float
    ) -> Float[Tensor, "images quantiles height width"]:
        """The smooth thresholds of the standardised map: the temperature is in units of its standard deviation."""
        flat = self._standardised().flatten(1)
        masks = nested_masks(flat, shares.to(flat), temperature)
        return masks.view(*masks.shape[:2], *self.size)

    def penalty(self, shares: Float[Tensor, "images quantiles"], temperature: float) -> Float[Tensor, ""]:
        """None is needed."""
        return self.cells.new_zeros(())

    def saliency(self) -> Float[Tensor, "images height width"]:
        """The map itself."""
        return self._standardised().detach()

    def _standardised(self) -> Float[Tensor, "images height width"]:
        large = _enlarged(self.cells, self.size)[:, 0]
        centred = large - large.mean((1, 2), keepdim=True)
        scale = centred.detach().square().mean((1, 2), keepdim=True).sqrt()
        return centred / scale.clamp_min(torch.finfo(large.dtype).tiny)


@dataclass(eq=False)
class OwnMasks:
    """Numbers of its own for each share, thresholded to the right area; that larger shares hold the smaller ones is only encouraged."""

    cells: Float[Tensor, "images quantiles rows columns"]
    size: tuple[int, int]

    def leaves(self) -> list[Tensor]:
        """The cells of all masks."""
        return [self.cells]

    def refined(self, cells: int) -> "OwnMasks":
        """Each enlarged bilinearly."""
        return OwnMasks(_enlarged(self.cells.detach(), (cells, cells)).requires_grad_(), self.size)

    def at(
        self, shares: Float[Tensor, "images quantiles"], temperature: float
    ) -> Float[Tensor, "images quantiles height width"]:
        """Mask k thresholded at share k."""
        images, quantiles = self.cells.shape[:2]
        large = _enlarged(self.cells, self.size).flatten(0, 1).flatten(1)
        centred = large - large.mean(1, keepdim=True)
        scale = centred.detach().square().mean(1, keepdim=True).sqrt()
        flat = centred / scale.clamp_min(torch.finfo(large.dtype).tiny)
        masks = nested_masks(flat, shares.reshape(-1, 1).to(flat), temperature)
        return masks.view(images, quantiles, *self.size)

    def penalty(self, shares: Float[Tensor, "images quantiles"], temperature: float) -> Float[Tensor, ""]:
        """How much a mask has that the next larger one lacks, mean over pixels."""
        masks = self.at(shares, temperature)
        return (masks[:, :-1] - masks[:, 1:]).clamp_min(0).mean()

    def saliency(self) -> Float[Tensor, "images height width"]:
        """The mean of the masks: pixels that small shares hold already have the highest."""
        images, quantiles = self.cells.shape[:2]
        shares = (torch.arange(quantiles).add(0.5) / quantiles).expand(images, quantiles)
        with torch.no_grad():
            return self.at(shares, 0.1).mean(1)


@dataclass(eq=False)
class Growing:
    """A distribution over shares for each cell: from which share on it is kept. Nested by construction; areas are held by a penalty."""

    cells: Float[Tensor, "images steps rows columns"]
    """Logits of the share, from the smallest on, the last for never."""
    size: tuple[int, int]

    def leaves(self) -> list[Tensor]:
        """The logits."""
        return [self.cells]

    def refined(self, cells: int) -> "Growing":
        """Each enlarged bilinearly."""
        return Growing(_enlarged(self.cells.detach(), (cells, cells)).requires_grad_(), self.size)

    def at(
        self, shares: Float[Tensor, "images quantiles"], temperature: float
    ) -> Float[Tensor, "images quantiles height width"]:
        """The probability that a pixel is kept at a share: the sum of the steps up to it, linear between two."""
        kept = self._cumulative(temperature)  # (images, steps + 1, height, width), from 0 to 1
        place = shares.to(kept) * (kept.shape[1] - 1)
        lower = place.floor().clamp(0, kept.shape[1] - 2)
        rest = (place - lower)[..., None, None]
        index = lower.long()[..., None, None].expand(-1, -1, *self.size)
        return kept.gather(1, index) * (1 - rest) + kept.gather(1, index + 1) * rest

    def penalty(self, shares: Float[Tensor, "images quantiles"], temperature: float) -> Float[Tensor, ""]:
        """The mean square by which areas miss their shares, times ten."""
        masks = self.at(shares, temperature)
        return 10 * (masks.mean((2, 3)) - shares.to(masks)).square().mean()

    def saliency(self) -> Float[Tensor, "images height width"]:
        """The mean over shares of what is kept."""
        with torch.no_grad():
            return self._cumulative(1.0).mean(1)

    def _cumulative(self, temperature: float) -> Float[Tensor, "images steps height width"]:
        # At a low temperature each pixel comes at one share.
        steps = _enlarged(self.cells, self.size).div(max(temperature, 0.05)).softmax(1)
        grown = steps.cumsum(1)
        return torch.cat([torch.zeros_like(grown[:, :1]), grown], 1)


def masks_of(
    variant: Variant,
    saliency: Float[Tensor, "images height width"],
    *,
    cells: int,
    quantiles: int,
) -> Masks:
    """Masks that put pixels in the order of a map, as far as so many cells can show it.

    Args:
        variant: Which form.
        saliency: The map to start from.
        cells: Along each side of the grid.
        quantiles: How many shares.
    """
    size = (saliency.shape[1], saliency.shape[2])
    coarse = F.adaptive_avg_pool2d(saliency.detach().unsqueeze(1), (min(cells, size[0]), min(cells, size[1])))
    flat = coarse.flatten(1)
    ranks = flat.argsort(1).argsort(1).to(flat) / max(1, flat.shape[1] - 1)
    spread = (ranks.view_as(coarse) - 0.5) * 12**0.5  # uniform ranks, of unit variance
    if variant == "score_map":
        return ScoreMap(spread.clone().requires_grad_(), size)
    if variant == "masks":
        return OwnMasks(spread.repeat(1, quantiles, 1, 1).requires_grad_(), size)
    # The first pixels come at the first share: a peak of the distribution at (1 - rank).
    place = (1 - ranks.view_as(coarse)) * quantiles - 0.5
    steps = torch.arange(quantiles).to(place).view(1, -1, 1, 1)
    return Growing((-(place - steps).square() / 2).requires_grad_(), size)


def _enlarged(cells: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(cells, size=tuple(size), mode="bilinear", align_corners=False)
