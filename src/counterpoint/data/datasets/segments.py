"""Outlines and runs of pixels, as COCO writes them, turned into masks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from counterpoint.errors import InputError

Mask = NDArray[np.bool_]
"""(height, width)"""


class Segment(Protocol):
    """One object on a picture."""

    def mask(self, size: tuple[int, int]) -> Mask:
        """(height, width), True on the object; `size` is width and height of the picture."""


@dataclass(frozen=True, slots=True, eq=False)
class Polygons:
    """One object as the union of polygons: a pixel belongs to it where its centre lies inside, by the even-odd rule.

    pycocotools rounds corners to a fifth of a pixel instead and differs from this along edges, by a pixel at most.
    """

    rings: tuple[NDArray[np.float32], ...]
    """Of each polygon x, y, x, y, ... in pixels; 0, 0 is the outer corner of the first pixel."""

    def __post_init__(self) -> None:
        if not self.rings:
            raise InputError("a segmentation must have at least one polygon.")
        for ring in self.rings:
            if ring.ndim != 1 or len(ring) < 6 or len(ring) % 2:
                raise InputError(
                    f"a polygon must be x, y, x, y, ... of at least 3 corners, got {ring.size} numbers."
                )
            if not np.isfinite(ring).all():
                raise InputError("the corners of a polygon must be finite.")

    def mask(self, size: tuple[int, int]) -> Mask:
        """(height, width), True inside any of the polygons."""
        inside = np.zeros((size[1], size[0]), dtype=bool)
        for ring in self.rings:
            inside |= _filled(ring.astype(np.float64), *size)
        return inside


@dataclass(frozen=True, slots=True, eq=False)
class RunLengths:
    """One object as lengths of runs down the columns, from the left: so many pixels off it, then so many on it, and so on."""

    counts: NDArray[np.int64]
    size: tuple[int, int]
    """Width and height."""

    def __post_init__(self) -> None:
        width, height = self.size
        if (self.counts < 0).any() or self.counts.sum() != width * height:
            raise InputError(
                f"runs of pixels must be 0 or more and sum to {width} x {height} = {width * height}, "
                f"but they sum to {self.counts.sum()}."
            )

    def mask(self, size: tuple[int, int]) -> Mask:
        """(height, width), True on the object.

        Raises:
            InputError: the runs are for a picture of another size.
        """
        if size != self.size:
            raise InputError(
                f"runs of pixels are for {_text(self.size)}, but the picture is {_text(size)} pixels."
            )
        on = np.repeat(np.arange(len(self.counts)) % 2 == 1, self.counts)
        return on.reshape(size[0], size[1]).T  # columns first


def decompressed(text: str) -> list[int]:
    """The run lengths in COCO's compressed text.

    Each character holds five bits above the code of "0", lowest first, and a sixth that says that more follow; the last five bits carry the
    sign. From the fourth number on what is written is the difference from the last but one.

    Raises:
        InputError: a character out of range, or a text that ends within a number.
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64:
            raise InputError(f"compressed runs of pixels must have characters '0' to 'o', got {character!r}.")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    if shift:
        raise InputError("compressed runs of pixels end within a number.")
    return counts


def runs(counts: Sequence[int] | str, size: tuple[int, int]) -> RunLengths:
    """Runs from a list of numbers, or from COCO's compressed text.

    Raises:
        InputError: they do not fill a picture of `size`, width and height.
    """
    plain = decompressed(counts) if isinstance(counts, str) else counts
    return RunLengths(np.array(plain, dtype=np.int64), size)


def _filled(ring: NDArray[np.float64], width: int, height: int) -> Mask:
    """Every edge turns around all that is right of it; what is turned an odd number of times is inside."""
    turned = np.zeros((height, width + 1), dtype=bool)
    corners = ring.reshape(-1, 2)
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        low, high = sorted((y0, y1))
        # The rows whose centre lies between the ends, the lower one included: no corner is counted twice.
        rows = np.arange(max(0, np.ceil(low - 0.5)), min(height, np.ceil(high - 0.5)), dtype=np.int64)
        if len(rows):
            x = x0 + (rows + 0.5 - y0) * (x1 - x0) / (y1 - y0)
            turned[rows, np.ceil(x - 0.5).clip(0, width).astype(np.int64)] ^= True
    filled: Mask = np.logical_xor.accumulate(turned, axis=1)[:, :width]
    return filled


def _text(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"
