"""The image itself in a few even cells, in place or put out of order."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from counterpoint.baselines.scrambled import permutation
from counterpoint.checks import check_images, check_range
from counterpoint.protocols import Baseline

Images = Float[Tensor, "batch channel height width"]


@dataclass(frozen=True)
class LocalMean(Baseline):
    """A mosaic: the image cut into cells by cells, each filled with its mean colour.

    Where the size does not divide, cells are as even as can be; a side of fewer pixels than cells keeps its pixels.

    Parameters:
        cells: Cells along each side.
        as_published: The form of the published code: resized to cells by cells, bilinearly and without smoothing, and back to the
            nearest cell. Of each cell that reads about two by two pixels, which is no mean of it.

    Reference: Picard et al. 2025, arXiv:2512.11433, baseline "local_mean".
    """

    cells: int = 8
    as_published: bool = False

    def __post_init__(self) -> None:
        check_range("cells", self.cells, 1)

    def __call__(self, inputs: Images) -> Images:
        """Each image as a mosaic.

        Raises:
            ShapeError: the inputs are no images.
        """
        small = _small(inputs, self.cells, as_published=self.as_published)
        return _large(small, inputs, as_published=self.as_published)


@dataclass(frozen=True)
class LocalPermutation(Baseline):
    """The mosaic of LocalMean with its cells in a random order; the same order for all images of a size.

    Where the size does not divide, a colour may move to a cell that is one pixel larger or smaller.

    Parameters:
        cells: Cells along each side.
        seed: Which order.
        as_published: The form of the published code: the small picture is made as in LocalMean(as_published=True).

    Reference: Picard et al. 2025, arXiv:2512.11433, baseline "local_permutation".
    """

    cells: int = 8
    seed: int = 0
    as_published: bool = False

    def __post_init__(self) -> None:
        check_range("cells", self.cells, 1)

    def __call__(self, inputs: Images) -> Images:
        """Each image as a mosaic out of order.

        Raises:
            ShapeError: the inputs are no images.
        """
        small = _small(inputs, self.cells, as_published=self.as_published)
        order = permutation(small.shape[2] * small.shape[3], self.seed).to(inputs.device)
        return _large(small.flatten(2)[:, :, order].view_as(small), inputs, as_published=self.as_published)


def _small(
    inputs: Images, cells: int, *, as_published: bool
) -> Float[Tensor, "batch channel cells_y cells_x"]:
    """One number for each cell; float32 at least."""
    check_images("inputs", inputs)
    exact = inputs.to(torch.promote_types(inputs.dtype, torch.float32))
    if as_published:
        # The published code works in [-1, 1]; weights that sum to 1 give the same picture in [0, 1].
        return F.interpolate(
            exact, size=(cells, cells), mode="bilinear", align_corners=False, antialias=False
        )
    rows, columns = (_averages(_cell_of(size, cells)).to(exact) for size in inputs.shape[2:])
    return rows @ exact @ columns.T


def _large(
    small: Float[Tensor, "batch channel cells_y cells_x"], inputs: Images, *, as_published: bool
) -> Images:
    if as_published:
        return F.interpolate(small, size=inputs.shape[2:], mode="nearest-exact").to(inputs.dtype)
    y, x = (
        _cell_of(size, cells).to(inputs.device)
        for size, cells in zip(inputs.shape[2:], small.shape[2:], strict=True)
    )
    return small[:, :, y[:, None], x].to(inputs.dtype)


def _cell_of(size: int, cells: int) -> Int[Tensor, " size"]:
    """The cell of each pixel of a line."""
    return torch.arange(size) * min(cells, size) // size


def _averages(cell_of: Int[Tensor, " size"]) -> Float[Tensor, "cells size"]:
    """Row i takes the mean over cell i."""
    member = (cell_of == torch.arange(int(cell_of[-1]) + 1)[:, None]).double()
    return member / member.sum(1, keepdim=True)
