"""The photographs that the studio offers. Pages know their ids only; where they lie on the disk stays in here."""

import hashlib
import io
import os
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image

from counterpoint.data.photographs import SAMPLE_PREFIX, SAMPLES, find_photographs, sample_path
from counterpoint.errors import CounterpointError
from counterpoint.images import read_image

Source = Literal["sample", "folder", "upload"]

FIRST_SAMPLE = "chelsea"
_THUMBNAIL_SIDE = 256
_THUMBNAILS_BYTES = 16_000_000


@dataclass(frozen=True)
class Photo:
    """A photograph as pages know it."""

    id: str
    title: str
    source: Source


@dataclass(frozen=True)
class Kept:
    """A photograph and its place."""

    photo: Photo
    path: Path
    argument: str
    """What names it on the command line."""

    @property
    def name(self) -> str:
        """What its file is called: an upload as it was sent, whatever it is called here."""
        return self.argument if self.photo.source == "upload" else self.path.name

    @property
    def stamp(self) -> str:
        """Changes when the file does."""
        try:
            facts = os.stat(self.path)
        except OSError:
            return "gone"
        return f"{facts.st_size}-{facts.st_mtime_ns}"


def samples() -> list[Kept]:
    """The photographs that come with scikit-image, the first one first; none where it is not installed."""
    found = []
    for name in sorted(SAMPLES, key=lambda name: (name != FIRST_SAMPLE, name)):
        try:
            path = sample_path(name)
        except CounterpointError:
            continue
        photo = Photo(f"sample-{name}", SAMPLES[name].title, "sample")
        found.append(Kept(photo, path, SAMPLE_PREFIX + name))
    return found


def photographs_in(folder: Path) -> list[Kept]:
    """The photographs of a folder.

    Raises:
        InputError: no such folder, or none in it.
    """
    found = []
    for path in find_photographs([folder]):
        # Of the path, not of the content: a folder may be too large to read before the first page.
        digest = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:16]
        found.append(Kept(Photo(f"folder-{digest}", path.stem, "folder"), path, str(path)))
    return found


class Thumbnails:
    """Small pictures, made when they are first asked for; the least recently seen are forgotten."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, str], bytes] = OrderedDict()
        # One at a time: a decoded photograph may take a few hundred megabytes.
        self._lock = threading.Lock()

    def of(self, kept: Kept) -> bytes:
        """A PNG of at most 256 pixels a side.

        Raises:
            ImageError: the file cannot be read as a photograph.
        """
        key = (kept.photo.id, kept.stamp)
        with self._lock:
            if key not in self._kept:
                self._kept[key] = thumbnail(kept.path)
                while len(self._kept) > 1 and sum(map(len, self._kept.values())) > _THUMBNAILS_BYTES:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(key)
            return self._kept[key]


def thumbnail(path: Path) -> bytes:
    """A PNG of at most 256 pixels a side.

    Raises:
        ImageError: the file cannot be read as a photograph.
    """
    picture = read_image(path)
    picture.thumbnail((_THUMBNAIL_SIDE, _THUMBNAIL_SIDE), Image.Resampling.LANCZOS, reducing_gap=2.0)
    return png_bytes(picture)


def png_bytes(picture: Image.Image, *, quick: bool = False) -> bytes:
    """The picture as PNG; `quick` for large ones, which then take a little more room."""
    stream = io.BytesIO()
    picture.save(stream, "PNG", compress_level=1 if quick else 6)
    return stream.getvalue()
