"""One image of a data set: where it is, what it shows, and where on it that is."""

from dataclasses import dataclass
from pathlib import Path

from counterpoint.data.datasets.segments import Segment

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels; 0, 0 is the outer corner of the first pixel, x1 and y1 are the far edges."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """Where the labelled object is, in one of three ways; the first that is there is used: mask, segments, boxes."""

    boxes: tuple[Box, ...] = ()
    """In pixels of the file as it is stored, before its EXIF orientation turns it."""
    mask: Path | None = None
    """A picture of the photograph's size, light on the object."""
    segments: tuple[Segment, ...] = ()
    """The objects' outlines or runs of pixels, in pixels of the file as it is stored."""
    size: tuple[int, int] | None = None
    """Width and height of the picture that boxes and segments are for, if the annotation says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One image of a data set; nothing of it has been read."""

    name: str
    """Unique within the data set: a relative path with slashes, or the number of a generated image."""
    path: Path | None = None
    """The file; None for a generated image."""
    number: int | None = None
    """Of a generated image."""
    label: int | str | None = None
    """The index of its class where the data set numbers its classes (ImageNet 0 to 999, CUB 0 to 199), otherwise the name."""
    note: Note = Note()

    @property
    def boxes(self) -> tuple[Box, ...]:
        """The boxes of the labelled object; empty where none are known."""
        return self.note.boxes

    @property
    def mask(self) -> Path | None:
        """The file of a mask of the labelled object; None where there is none."""
        return self.note.mask
