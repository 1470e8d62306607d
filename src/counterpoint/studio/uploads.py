"""Photographs from the outside: known by their content, decoded with guards, kept under their hash; what they were called is shown only."""

import hashlib
import re
import threading
import unicodedata
from pathlib import Path

from PIL import Image

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
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
)
_AVIF = (b"ftypavif", b"ftypavis")
_PPM = re.compile(rb"P[1-6][\s#]")
FORMATS = "PNG, JPEG, WebP, GIF, AVIF, BMP, TIFF, JPEG 2000 or PPM"
"""What a folder of photographs may hold can be sent too."""
_USUAL_NAME = "photograph.png"


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

    def add(self, content: bytes, name: str = "") -> Photo:
        """Take one in; the same content again is the same photograph, by its first name.

        Args:
            content: Of the file.
            name: What the file was called.

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
            called = name_of(name)
            photo = Photo(id, called, "upload")
            self._kept[id] = Kept(photo, path, called)
            return photo

    def _decoded(self, id: str, content: bytes) -> bytes:
        """The pixels, upright, as a new PNG: nothing else of the file is kept."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        sent = self._folder / f"{id}.sent"
        try:
            sent.write_bytes(content)
            return png_bytes(read_image(sent, max_pixels=self._limits.upload_pixels), quick=True)
        except ImageError as error:
            if isinstance(error.__cause__, Image.DecompressionBombError):
                raise Refused(
                    413,
                    f"the photograph is too large to decode: at most {self._limits.upload_pixels:,} pixels are taken; scale it down first.",
                ) from error
            words = str(error).replace(f"'{sent}'", "the photograph")
            raise Refused(413 if "too large" in words else 422, words) from error
        finally:
            sent.unlink(missing_ok=True)


def format_of(content: bytes) -> str | None:
    """The format that a file begins like; None for one that is not taken."""
    if content[4:12] in _AVIF:
        return "AVIF"
    if _PPM.match(content):
        return "PPM"
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "WebP"
    return next((name for beginning, name in _BEGINNINGS if content.startswith(beginning)), None)


def name_of(sent: str) -> str:
    """What a file was called, fit to be shown and to stand in code: without folders, signs that mean something there, or an end.

    It is no place on the disk. A command takes neither an option nor a sample for it.
    """
    last = re.split(r"[/\\]", unicodedata.normalize("NFC", sent))[-1]
    kept = "".join(each if each.isprintable() and each != ":" else "_" for each in last).strip().lstrip(".-~")
    stem, dot, suffix = kept[:200].rpartition(".")
    short = f"{stem[:80]}{dot}{suffix[:8]}" if stem else kept[:80]
    return short or _USUAL_NAME
