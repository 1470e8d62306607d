"""Which pixels are removed together: sets drawn from a seed, the same for every image."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool
from torch import Tensor

from counterpoint.checks import check_range, shape_text
from counterpoint.errors import InputError, ShapeError


@runtime_checkable
class PixelSets(Protocol):
    """Sets of pixels of an image; a frozen dataclass that is called with the size of the image.

    Drawn on the CPU and once for all images: one seed means the same sets on every device, for an image alone or in company.
    """

    def __call__(self, height: int, width: int) -> Bool[Tensor, "sets {height} {width}"]:
        """True for the pixels that belong to the set."""
        ...


@dataclass(frozen=True)
class RandomPixels:
    """Sets of `count` pixels, all such sets equally likely."""

    count: int
    samples: int = 100
    """How many sets."""
    seed: int = 0

    def __post_init__(self) -> None:
        check_whole("count", self.count, 1)
        check_whole("samples", self.samples, 1)
        check_whole("seed", self.seed, 0)

    def __call__(self, height: int, width: int) -> Bool[Tensor, "sets {height} {width}"]:
        """Sets under the same seed are nested: those of a larger count hold those of a smaller one.

        Raises:
            InputError: the image does not have more than `count` pixels.
        """
        pixels = height * width
        if self.count >= pixels:
            raise InputError(
                f"count must be below {pixels}, the number of pixels, got {self.count}: there would be one set only."
            )
        removed = torch.zeros(self.samples, pixels, dtype=torch.bool)
        for row, order in zip(removed, _orders(pixels, self.samples, self.seed), strict=True):
            row[order[: self.count]] = True
        return removed.view(-1, height, width)


@dataclass(frozen=True)
class RandomCells:
    """Sets of cells of a grid: for large images, where single pixels hardly move the score."""

    grid: int = 12
    """Cells in each row and each column."""
    share: float = 0.2
    """The share of the cells in each set, which has round(share * grid * grid) of them."""
    samples: int = 100
    """How many sets."""
    seed: int = 0

    def __post_init__(self) -> None:
        check_whole("grid", self.grid, 2)
        check_whole("samples", self.samples, 1)
        check_whole("seed", self.seed, 0)
        check_range("share", self.share, 0.0, 1.0, open_low=True)
        if not 0 < self._count < self.grid**2:
            raise InputError(
                f"share must leave some of the {self.grid**2} cells in the set and some out of it, got {self.share:g}: {self._count} in it."
            )

    def __call__(self, height: int, width: int) -> Bool[Tensor, "sets {height} {width}"]:
        """Pixel (i, j) belongs to cell (i * grid // height, j * grid // width).

        Raises:
            InputError: the image has fewer rows or columns than the grid.
        """
        if self.grid > min(height, width):
            raise InputError(
                f"grid must be at most {min(height, width)} for images of {height} x {width} pixels, got {self.grid}."
            )
        cells = torch.zeros(self.samples, self.grid**2, dtype=torch.bool)
        for row, order in zip(cells, _orders(self.grid**2, self.samples, self.seed), strict=True):
            row[order[: self._count]] = True
        rows = torch.arange(height) * self.grid // height
        columns = torch.arange(width) * self.grid // width
        return cells.view(-1, self.grid, self.grid)[:, rows][:, :, columns]

    @property
    def _count(self) -> int:
        return round(self.share * self.grid**2)


@dataclass(frozen=True)
class RandomSquares:
    """Sets that are one square each, all places inside the image equally likely."""

    side: int
    """In pixels."""
    samples: int = 100
    """How many squares."""
    seed: int = 0

    def __post_init__(self) -> None:
        check_whole("side", self.side, 1)
        check_whole("samples", self.samples, 1)
        check_whole("seed", self.seed, 0)

    def __call__(self, height: int, width: int) -> Bool[Tensor, "sets {height} {width}"]:
        """The squares.

        Raises:
            InputError: the image has fewer rows or columns than the square.
        """
        if self.side > min(height, width):
            raise InputError(
                f"side must be at most {min(height, width)} for images of {height} x {width} pixels, got {self.side}."
            )
        generator = torch.Generator().manual_seed(self.seed)
        # One number for both, so that the first squares are the same however many are drawn.
        places = (height - self.side + 1, width - self.side + 1)
        place = torch.randint(math.prod(places), (self.samples,), generator=generator)
        inside = [
            (0 <= (away := torch.arange(size) - corner[:, None])) & (away < self.side)
            for size, corner in ((height, place // places[1]), (width, place % places[1]))
        ]
        return inside[0][:, :, None] & inside[1][:, None, :]


@dataclass(frozen=True, eq=False)
class GivenSets:
    """Sets that the caller made: the segments of an image, or sets to compare with another library on."""

    removed: Bool[Tensor, "sets height width"]

    def __post_init__(self) -> None:
        if not isinstance(self.removed, Tensor) or self.removed.dtype != torch.bool:
            kind = self.removed.dtype if isinstance(self.removed, Tensor) else type(self.removed).__name__
            raise InputError(f"removed must be a tensor of booleans (sets, height, width), got {kind}.")
        if self.removed.ndim != 3 or self.removed.numel() == 0:
            raise ShapeError(f"removed must be (sets, height, width), got {shape_text(self.removed)}.")

    def __call__(self, height: int, width: int) -> Bool[Tensor, "sets {height} {width}"]:
        """The sets.

        Raises:
            ShapeError: they belong to images of another size.
        """
        if self.removed.shape[1:] != (height, width):
            raise ShapeError(
                f"removed must be of the size of the images, {height} x {width}, but is {shape_text(self.removed)}."
            )
        return self.removed


def check_whole(name: str, value: int, low: int) -> None:
    """Raise InputError unless `value` is a whole number of at least `low`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise InputError(f"{name} must be a whole number of at least {low}, got {value!r}.")


def _orders(places: int, samples: int, seed: int) -> Iterator[Tensor]:
    """Random orders of the places, one for each set."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(samples):
        yield torch.randperm(places, generator=generator)
