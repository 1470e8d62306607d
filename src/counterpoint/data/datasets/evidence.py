"""Where the labelled object of an image is, on the pixels that a model sees."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from counterpoint.data.datasets.item import Item
from counterpoint.data.datasets.segments import Mask
from counterpoint.errors import ImageError, InputError
from counterpoint.images import read_image
from counterpoint.preprocessing import Preprocessing

Size = tuple[int, int]

_ORIENTATION = 0x0112  # in EXIF; 5 to 8 lie on their side
_MIDDLE_GREY = 128


def item_evidence(item: Item, preprocessing: Preprocessing) -> Bool[Tensor, "height width"] | None:
    """Where the labelled object is, resized and cropped as the photograph is; None where nobody has said.

    Of a box those pixels are in whose centre it holds. All False where the object lies outside the crop.

    Raises:
        InputError: a mask, or an annotation, for a picture of another size.
        ImageError: a photograph or a mask that cannot be read.
    """
    if item.path is None or not (item.note.mask or item.note.segments or item.note.boxes):
        return None
    return on_input(_upright_mask(item, item.path), preprocessing)


def on_input(mask: Image.Image, preprocessing: Preprocessing) -> Bool[Tensor, "height width"]:
    """A mask in grey, 0 or 255, resized and cropped as photographs are, but each pixel from the nearest one."""
    nearest = replace(preprocessing, mean=(0.0,), std=(1.0,), interpolation="nearest")
    return nearest(mask)[0] > 0.5


def grey(mask: Mask) -> Image.Image:
    """A mask as a picture, 255 where it is True."""
    return Image.fromarray(mask.astype(np.uint8) * 255)


def _upright_mask(item: Item, path: Path) -> Image.Image:
    stored, orientation = _header(path)
    upright = stored[::-1] if orientation >= 5 else stored
    if item.note.mask is not None:
        light = np.asarray(read_image(item.note.mask).convert("L")) >= _MIDDLE_GREY
        mask, size, what = grey(light), (light.shape[1], light.shape[0]), f"the mask '{item.note.mask}'"
    else:
        size = item.note.size or stored
        what = "the annotation"
        mask = grey(_drawn(item, size))
    if item.note.mask is not None and size == upright:
        return mask
    if size == stored:
        return _turned(mask, orientation)
    if size == upright:  # drawn on the picture as viewers show it
        return mask
    raise InputError(
        f"{what} of '{item.name}' must be for its {stored[0]} x {stored[1]} pixels, but is for {size[0]} x {size[1]}."
    )


def _drawn(item: Item, size: Size) -> Mask:
    mask = np.zeros((size[1], size[0]), dtype=bool)
    for segment in item.note.segments:
        mask |= segment.mask(size)
    if not item.note.segments:
        for box in item.note.boxes:
            left, top, right, bottom = (max(0, int(np.ceil(edge - 0.5))) for edge in box)
            mask[top:bottom, left:right] = True
    return mask


def _turned(mask: Image.Image, orientation: int) -> Image.Image:
    if orientation == 1:
        return mask
    mask.getexif()[_ORIENTATION] = orientation
    return ImageOps.exif_transpose(mask)


def _header(path: Path) -> tuple[Size, int]:
    """Width and height as stored, and the EXIF orientation, 1 to 8."""
    try:
        with Image.open(path) as opened:
            orientation = opened.getexif().get(_ORIENTATION, 1)
            return opened.size, orientation if orientation in range(1, 9) else 1
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError, SyntaxError) as error:
        raise ImageError(f"the size of '{path}' cannot be read: {error}.") from error
