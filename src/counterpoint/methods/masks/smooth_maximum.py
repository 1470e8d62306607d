"""Smooth masks by max-convolution: each cell paints a soft disc, and a pixel takes the largest of what it gets."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import fold, pad, unfold

COLDNESS = 20.0
# Numbers held at a time: few enough to stay in the cache.
_AT_ONCE = 2**19


@dataclass(frozen=True)
class SmoothMaximum:
    """A mask from a grid of cells, cell (i, j) at pixel (step i, step j) of the image, on a canvas with a margin around the image.

    Formula: m(u) = Σ z e^(c z) / Σ e^(c z) over the cells near u, z = cell * k(|u - place| / sigma), c = 20,
    k(r) = exp(-2 max(0, r - 1/2)^2)

    Near are the (2 r + 1)^2 cells around the one at or before the pixel, r = 1 + ceil(sigma / step); outside the image cells are 0.
    The margin is sigma, up to whole cells. Area is counted there too: cells at the edge would else cost less than others.

    Parameters:
        size: Of the image.
        step: From cell to cell in pixels.
        sigma: Radius of a disc in pixels.

    Reference: Fong et al. 2019, arXiv:1910.08485.
    """

    size: tuple[int, int]
    step: int
    sigma: float

    @property
    def cells(self) -> tuple[int, int]:
        """The size of the grid."""
        high, wide = (math.ceil(side / self.step) for side in self.size)
        return high, wide

    @property
    def canvas(self) -> tuple[int, int]:
        """The size of the masks, with their margins."""
        high, wide = (side + 2 * self.step * self._margin for side in self.size)
        return high, wide

    @property
    def radius(self) -> int:
        """How many cells to each side are looked at."""
        return 1 + math.ceil(self.sigma / self.step)

    @property
    def _margin(self) -> int:
        """In cells."""
        return math.ceil(self.sigma / self.step)

    @property
    def _places(self) -> tuple[int, int]:
        """Cells of the canvas."""
        high, wide = (cells + 2 * self._margin for cells in self.cells)
        return high, wide

    def image(self, masks: Float[Tensor, "rows high wide"]) -> Float[Tensor, "rows height width"]:
        """The part of the canvas that is the image."""
        first = self.step * self._margin
        return masks[:, first : first + self.size[0], first : first + self.size[1]]

    def on_canvas(self, masks: Float[Tensor, "rows height width"]) -> Float[Tensor, "rows high wide"]:
        """The image as a part of the canvas, 0 around it."""
        return pad(masks, (self.step * self._margin,) * 4)

    def __call__(self, cells: Float[Tensor, "rows cells_high cells_wide"]) -> Float[Tensor, "rows high wide"]:
        """The masks on the whole canvas, from 0 to 1 as the cells."""
        near = self._near(cells)
        masks = near.new_empty(len(cells), self.step**2, near.shape[2])
        for here, weight in self._phases(near):
            painted = near.unsqueeze(1) * weight
            pull = (COLDNESS * painted).exp_()
            masks[:, here] = (painted * pull).sum(2) / pull.sum(2)
        high, wide = self._places
        whole = masks.view(-1, self.step, self.step, high, wide).permute(0, 3, 1, 4, 2)
        whole = whole.reshape(len(cells), high * self.step, wide * self.step)
        return whole[:, : self.canvas[0], : self.canvas[1]]

    def pull(
        self,
        cells: Float[Tensor, "rows cells_high cells_wide"],
        masks: Float[Tensor, "rows high wide"],
        gradient: Float[Tensor, "rows high wide"],
    ) -> Float[Tensor, "rows cells_high cells_wide"]:
        """The gradient with respect to the cells, given that with respect to the masks made of them.

        d m(u) / d cell = k e^(c z) (1 + c (z - m(u))) / Σ e^(c z), computed anew: to keep it would take the memory of hundreds of masks.
        """
        near = self._near(cells)
        values, slopes = self._by_phase(masks), self._by_phase(gradient)
        gathered = torch.zeros_like(near)
        for here, weight in self._phases(near):
            painted = near.unsqueeze(1) * weight
            pull = (COLDNESS * painted).exp_()
            share = (slopes[:, here] / pull.sum(2)).unsqueeze(2)
            lead = painted.sub_(values[:, here].unsqueeze(2)).mul_(COLDNESS).add_(1)
            gathered += lead.mul_(pull).mul_(weight).mul_(share).sum(1)
        whole = fold(gathered, self._places, 2 * self.radius + 1, padding=self.radius).squeeze(1)
        return whole[:, self._margin :, self._margin :][:, : self.cells[0], : self.cells[1]]

    def _near(self, cells: Tensor) -> Float[Tensor, "rows window places"]:
        """For each cell of the canvas all those near it."""
        padded = pad(cells.unsqueeze(1), (self._margin,) * 4)
        return unfold(padded, 2 * self.radius + 1, padding=self.radius)

    def _phases(self, near: Tensor) -> Iterator[tuple[slice, Float[Tensor, "phases window 1"]]]:
        """The pixels of a cell, a few at a time, with what each of them gets from the cells near: the same for all cells."""
        offsets = self.step * torch.arange(-self.radius, self.radius + 1, dtype=torch.float64)
        away = torch.arange(self.step)[:, None] - offsets  # (step, window side)
        distance = torch.hypot(away[:, None, :, None], away[None, :, None, :]) / self.sigma
        weights = torch.exp(-2 * (distance - 0.5).clamp(min=0).square())
        weights = weights.view(self.step**2, -1, 1).to(near)
        size = max(1, _AT_ONCE // near.numel())
        for first in range(0, len(weights), size):
            yield slice(first, first + size), weights[first : first + size]

    def _by_phase(self, masks: Tensor) -> Float[Tensor, "rows phases places"]:
        """Masks, ordered by the pixel's place in its cell; 0 beyond the canvas."""
        high, wide = self._places
        whole = masks.new_zeros(len(masks), high * self.step, wide * self.step)
        whole[:, : self.canvas[0], : self.canvas[1]] = masks
        split = whole.view(-1, high, self.step, wide, self.step).permute(0, 2, 4, 1, 3)
        return split.reshape(len(masks), self.step**2, high * wide)
