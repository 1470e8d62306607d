"""Decode one image file, safely, into 8-bit RGB.

Only common raster formats are tried, so that no file can start an interpreter (as EPS does), and the size is
read from the header before a single pixel is decoded.
"""

import os
import threading
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from counterpoint.errors import ImageError

MAX_PIXELS = 100_000_000
"""Images of more pixels than this are refused unless the caller allows more: decoded, these take 300 MB."""

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".png", ".webp", ".avif", ".gif", ".bmp", ".tif", ".tiff", ".jp2"),
    *(".ppm", ".pgm", ".pnm"),
)
"""Endings that a folder is searched for, in lower case; files named one by one may be called anything."""

_FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "AVIF", "GIF", "BMP", "DIB", "TIFF", "JPEG2000", "PPM")

# The filters of `warnings` belong to the whole process: two threads that change them at once
# may leave them changed.
_OPENING = threading.Lock()


def read_image(path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The picture in a file, upright, as 8-bit RGB.

    The orientation in the file's EXIF data is applied; of an animation the first frame is read. What other
    modes become: see `as_rgb`. The file is closed again in every case.

    Args:
        path: An image file: JPEG, PNG, WebP, AVIF, GIF, BMP, TIFF, JPEG 2000 or PPM, recognised by its
            content.
        max_pixels: The largest width * height to decode; Pillow's own limit, 178,956,970, holds beside it.

    Raises:
        ImageError: no such file, not an image, cut short, larger than `max_pixels`, or of a mode without a
            plain meaning as a photograph. The message names the file.
    """
    file = Path(path)
    name = f"'{file}'"
    try:
        if file.is_dir():
            raise ImageError(f"{name} is a folder, not an image file.")
        if not file.exists():
            raise ImageError(f"no image file {name}.")
        if not file.is_file():  # reading a pipe or a device could wait for ever
            raise ImageError(f"{name} is not a regular file.")
        with file.open("rb") as stream:
            if not stream.peek(1):
                raise ImageError(f"{name} is empty (0 bytes).")
            with _opened(stream, name) as image:
                return as_rgb(image, name=name, max_pixels=max_pixels)
    except ImageError:
        raise
    except (OSError, ValueError) as error:  # no permission, or a name that no file can have
        raise ImageError(f"{name} cannot be read: {_reason(error)}.") from error


def as_rgb(image: Image.Image, *, name: str = "the image", max_pixels: int = MAX_PIXELS) -> Image.Image:
    """A new, upright 8-bit RGB copy of a picture of any mode.

    Greyscale fills all three channels; palettes are looked up; CMYK, YCbCr and HSV are converted without a
    colour profile; 16-bit greyscale is scaled from 0..65535 to 0..255. Transparent pixels are laid over
    white, as a viewer or a page shows them: dropping the alpha channel instead would bring out colours that
    nobody has seen.

    Args:
        image: The picture; it is decoded, but not changed.
        name: What messages call it.
        max_pixels: The largest width * height to decode.

    Raises:
        ImageError: no pixels, more than `max_pixels`, cannot be decoded, or floating-point or 32-bit pixels,
            for which no value means white.
    """
    width, height = image.size
    if width < 1 or height < 1:
        raise ImageError(f"{name} has no pixels: its size is {width} x {height}.")
    if width * height > max_pixels:
        raise ImageError(
            f"{name} is too large to decode: {width} x {height} = {width * height:,} pixels, "
            f"at most {max_pixels:,} are allowed; scale it down first."
        )
    # On broken files Pillow's decoders raise over a dozen types, from OSError to struct.error. Nothing but
    # Pillow is called in here.
    try:
        image.load()
        upright = ImageOps.exif_transpose(image)
        transparent = upright.has_transparency_data
    except Exception as error:
        raise ImageError(f"{name} is cut short or damaged: {_reason(error)}.") from error
    sixteen_bit = upright.mode.startswith("I;16") or (upright.mode == "I" and image.format in ("PNG", "PPM"))
    if sixteen_bit:
        upright = _eight_bit(upright)
    elif upright.mode in ("I", "F"):
        raise ImageError(
            f"{name} has pixels of mode {upright.mode} (32 bit), for which no value means white; "
            "save it with 8 or 16 bits a channel."
        )
    try:
        if transparent:
            layer = upright.convert("RGBA")
            return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
        return upright.convert("RGB")
    except ValueError as error:
        raise ImageError(
            f"{name} has pixels of mode {upright.mode}, which cannot be turned into RGB."
        ) from error


def _opened(stream: object, name: str) -> Image.Image:
    """The image with its header read and nothing decoded."""
    Image.init()
    # Formats that this build of Pillow lacks are left out: asking for one is a KeyError.
    formats = [known for known in _FORMATS if known in Image.OPEN]
    try:
        with _OPENING, warnings.catch_warnings():
            # `as_rgb` has a limit of its own; what else Pillow warns of here, it then also raises.
            warnings.simplefilter("ignore")
            return Image.open(stream, formats=formats)  # type: ignore[arg-type]
    except Image.DecompressionBombError as error:
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0)  # where Pillow stops warning and raises
        raise ImageError(
            f"{name} is too large to decode: it has more than the {most:,} pixels that Pillow opens; "
            "scale it down first."
        ) from error
    except UnidentifiedImageError as error:
        known = ", ".join(known for known in formats if known not in ("MPO", "DIB"))
        raise ImageError(f"{name} is not an image, or a damaged one; these can be read: {known}.") from error
    except Exception as error:  # see as_rgb
        raise ImageError(f"{name} has a damaged header: {_reason(error)}.") from error


def _eight_bit(image: Image.Image) -> Image.Image:
    """0..65535 to 0..255, rounded; Pillow's own conversion cuts everything above 255."""
    values = np.asarray(image).astype(np.float64)
    return Image.fromarray(np.rint(values / 257).clip(0, 255).astype(np.uint8))


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).rstrip(".")
