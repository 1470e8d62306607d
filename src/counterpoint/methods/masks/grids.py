"""Masks on a coarse grid of cells: enlarged to the image and shrunk from it, and how rough they are."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d


@dataclass(frozen=True, eq=False)
class Enlargement:
    """Bilinear enlargement of a grid, whose outermost cells lie on the outermost pixels (`align_corners=True`, as in I-GOS).

    Two products of matrices, so that its transpose, which brings gradients from pixels to cells, is exact and cheap. Differentiable.
    """

    rows: Float[Tensor, "height cells_high"]
    columns: Float[Tensor, "width cells_wide"]

    @classmethod
    def to(cls, size: tuple[int, int], cells: int, like: Tensor) -> "Enlargement":
        """From a square of `cells` x `cells` to `size`, at most one cell for each pixel; type and device are those of `like`."""
        with torch.inference_mode(False):  # autograd may read them
            high, wide = (_hats(min(cells, side), side).to(like) for side in size)
        return cls(high, wide)

    @property
    def cells(self) -> tuple[int, int]:
        """The size of the grid."""
        return self.rows.shape[1], self.columns.shape[1]

    def __call__(
        self, grid: Float[Tensor, "*lead cells_high cells_wide"]
    ) -> Float[Tensor, "*lead height width"]:
        """The grid as a mask of the image's size."""
        return self.rows @ grid @ self.columns.T

    def pull(
        self, gradient: Float[Tensor, "*lead height width"]
    ) -> Float[Tensor, "*lead cells_high cells_wide"]:
        """The gradient with respect to the grid, given that with respect to the mask."""
        return self.rows.T @ gradient @ self.columns

    def shrink(
        self, mask: Float[Tensor, "batch height width"]
    ) -> Float[Tensor, "batch cells_high cells_wide"]:
        """The mean of a mask in each cell."""
        return adaptive_avg_pool2d(mask.unsqueeze(1), self.cells).squeeze(1)


def _hats(cells: int, side: int) -> Float[Tensor, "side cells"]:
    """What each cell of a line gives to each of its pixels: every row sums to 1."""
    if cells == 1:
        return torch.ones(side, 1, dtype=torch.float64)
    place = torch.arange(side, dtype=torch.float64)[:, None] * (cells - 1) / (side - 1)
    return (1.0 - (place - torch.arange(cells)).abs()).clamp(min=0.0)


def total_variation(mask: Float[Tensor, "batch height width"], *, power: float) -> Float[Tensor, " batch"]:
    """The sum over all pairs of neighbours, across and down, of |difference| ** power."""
    down, across = (mask.diff(dim=axis).abs().pow(power) for axis in (1, 2))
    return down.flatten(1).sum(1) + across.flatten(1).sum(1)


def edge_weights(
    images: Float[Tensor, "batch channel height width"], *, sigma: float
) -> tuple[Float[Tensor, "batch upper width"], Float[Tensor, "batch height left"]]:
    """exp(-d^2 / sigma) for all pairs of neighbours, down and across, d^2 the mean over the channels of their squared difference."""
    down, across = (images.diff(dim=axis).square().mean(1).div(-sigma).exp() for axis in (2, 3))
    return down, across


def bilateral_total_variation(
    mask: Float[Tensor, "batch height width"],
    weights: tuple[Float[Tensor, "batch upper width"], Float[Tensor, "batch height left"]],
    *,
    power: float,
) -> Float[Tensor, " batch"]:
    """`total_variation` in which each pair counts by its weight, so that a step of the mask at an edge of the image is nearly free."""
    down, across = (
        (mask.diff(dim=axis).abs().pow(power) * weight).flatten(1).sum(1)
        for axis, weight in zip((1, 2), weights, strict=True)
    )
    return down + across


def value_and_slope(
    function: Callable[[Tensor], Tensor], at: Float[Tensor, "batch *mask"]
) -> tuple[Float[Tensor, " batch"], Float[Tensor, "batch *mask"]]:
    """A function of each mask, (batch,), and its gradient, also under the caller's no_grad or inference_mode."""
    with torch.inference_mode(False), torch.enable_grad():
        leaf = at.detach().clone().requires_grad_()
        values = function(leaf)
        (slope,) = torch.autograd.grad(values.sum(), leaf)
    return values.detach(), slope
