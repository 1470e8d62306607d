"""Photographs from the outside: known by their content, decoded with guards, kept under their hash, never under a name of their own."""

import hashlib
import threading
from pathlib import Path

from counterpoint.errors import ImageError
from counterpoint.images import read_image
from counterpoint.studio.photos import Kept, Photo, png_bytes
from counterpoint.studio.refusals import Refused
from counterpoint.studio.settings import Limits

# How files of the formats begin that are taken; what a file is called, or says it is, does not count.
_BEGINNINGS = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
)
FORMATS = "PNG, JPEG, WebP, BMP or TIFF"


class Uploads:
    """The photographs that were sent.

    Args:
        folder: Made when the first one comes.
        limits: How large, and how many.
    """

    def __init__(self, folder: Path, limits: Limits) -> None:
        self._folder, self._limits = folder, limits
        self._kept: dict[str, Kept] = {}
        self._bytes = 0
        # One at a time: a decoded photograph may take a few hundred megabytes.
        self._lock = threading.Lock()

    def all(self) -> list[Kept]:
        """In the order in which they came."""
        return list(self._kept.values())

    def get(self, id: str) -> Kept | None:
        """The one of an id."""
        return self._kept.get(id)

    def add(self, content: bytes) -> Photo:
        """Take one in; the same content again is the same photograph.

        Raises:
            Refused: 413 for too many bytes, pixels or photographs, 415 for what is none, 422 for a damaged one.
        """
        if len(content) > self._limits.upload_bytes:
            raise Refused(
                413,
                f"the photograph is too large: {len(content):,} bytes, at most {self._limits.upload_bytes:,} are taken.",
            )
        if format_of(content) is None:
            raise Refused(415, f"this is not a photograph that can be read here: it must be {FORMATS}.")
        id = f"upload-{hashlib.sha256(content).hexdigest()[:32]}"
        with self._lock:
            if (known := self._kept.get(id)) is not None:
                return known.photo
            if len(self._kept) >= self._limits.uploads:
                raise Refused(
                    413,
                    f"{self._limits.uploads} photographs are kept already; restart the studio for new ones.",
                )
            png = self._decoded(id, content)
            if self._bytes + len(png) > self._limits.uploads_bytes:
                raise Refused(
                    413,
                    "the photographs kept here take all the room there is; restart the studio for new ones.",
                )
            path = self._folder / f"{id}.png"
            path.write_bytes(png)
            self._bytes += len(png)
            photo = Photo(id, f"your photograph {len(self._kept) + 1}", "upload")
            self._kept[id] = Kept(photo, path, "photograph.png")
            return photo

    def _decoded(self, id: str, content: bytes) -> bytes:
        """The pixels, upright, as a new PNG: nothing else of the file is kept."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        sent = self._folder / f"{id}.sent"
        try:
            sent.write_bytes(content)
            return png_bytes(read_image(sent, max_pixels=self._limits.upload_pixels), quick=True)
        except ImageError as error:
            words = str(error).replace(f"'{sent}'", "the photograph")
            raise Refused(413 if "too large" in words else 422, words) from error
        finally:
            sent.unlink(missing_ok=True)


def format_of(content: bytes) -> str | None:
    """The format that a file begins like; None for one that is not taken."""
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "WebP"
    return next((name for beginning, name in _BEGINNINGS if content.startswith(beginning)), None)
