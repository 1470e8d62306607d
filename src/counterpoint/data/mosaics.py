"""Mosaics of cut-out photographs: four different objects in a 2 x 2 grid, and the exact pixels of each.

The cut-outs are the user's own: a folder of pictures whose alpha channel is the mask of one object.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from counterpoint.checks import check_range
from counterpoint.data.shapes.textures import clouds
from counterpoint.errors import ImageError, InputError

OBJECTS = 4
SMALLEST = 32
"""Of a mosaic's side, in pixels."""

Background = Literal["plain", "cloudy"]

_SCALE = (0.75, 0.95)  # the object's longer side in units of the cell's
_SUFFIXES = (".png", ".webp")  # common formats with an alpha channel


@dataclass(frozen=True, kw_only=True, eq=False)
class MosaicBatch:
    """Images of four objects, where each of them is, and what it is."""

    images: Float[Tensor, "batch 3 size size"]
    """float32 in [0, 1]."""
    masks: Bool[Tensor, "batch 4 size size"]
    """The pixels of each object, which hold nothing but the object; top left, top right, bottom left, bottom right. They share no pixel."""
    names: tuple[tuple[str, ...], ...]
    """What the objects of each image are called: the name of the file without number and ending."""
    classes: tuple[tuple[int | None, ...], ...]
    """The number in front of the file's name, by custom an ImageNet class; None where there is none."""


@dataclass(frozen=True, eq=False)
class Cutout:
    """One object on a transparent ground, cropped to it."""

    name: str
    number: int | None
    picture: Image.Image
    """RGBA."""


def compose(
    folder: str | os.PathLike[str],
    count: int,
    *,
    seed: int,
    size: int = 224,
    background: Background = "plain",
) -> MosaicBatch:
    """Paste cut-outs side by side.

    Each image has four different objects, each of random size and place within its cell. A pixel is wholly the object's, where alpha is one
    half or more, or wholly the background's. Image number i of a seed and a folder is the same however many are asked for.

    Args:
        folder: Holds at least four PNG or WebP files with an alpha channel, named like `354_camel.png` or `camel.png`.
        count: How many images.
        seed: Other seeds give other mosaics.
        size: Side of the images in pixels; an odd one leaves a line of background.
        background: "plain", one grey per image, or "cloudy", smooth random colours.

    Raises:
        InputError: a number that is too small or no whole number, no such folder, or fewer than four cut-outs in it.
        ImageError: a file that is no picture, or has no alpha channel, or is wholly transparent.
    """
    for name, value, least in (("count", count, 1), ("seed", seed, 0), ("size", size, SMALLEST)):
        if type(value) is not int:
            raise InputError(f"{name} must be a whole number, got {value!r}.")
        check_range(name, value, least)
    if background not in ("plain", "cloudy"):
        raise InputError(f"background must be 'plain' or 'cloudy', got {background!r}.")
    cutouts = read_cutouts(folder)
    images = np.empty((count, size, size, 3), dtype=np.uint8)
    masks = np.zeros((count, OBJECTS, size, size), dtype=bool)
    chosen = []
    for index in range(count):
        rng = np.random.default_rng((seed, index))
        objects = [cutouts[k] for k in rng.permutation(len(cutouts))[:OBJECTS]]
        images[index] = _background(background, size, rng)
        for k, cutout in enumerate(objects):
            _paste(cutout, k, images[index], masks[index, k], rng)
        chosen.append(objects)
    return MosaicBatch(
        images=torch.from_numpy(images).permute(0, 3, 1, 2).contiguous().float() / 255,
        masks=torch.from_numpy(masks),
        names=tuple(tuple(cutout.name for cutout in objects) for objects in chosen),
        classes=tuple(tuple(cutout.number for cutout in objects) for objects in chosen),
    )


def read_cutouts(folder: str | os.PathLike[str]) -> list[Cutout]:
    """The cut-outs of a folder, by the names of their files.

    Raises:
        InputError: no such folder, or fewer than four cut-outs in it.
        ImageError: a file that is no picture, or has no alpha channel, or is wholly transparent.
    """
    path = Path(folder)
    if not path.is_dir():
        raise InputError(f"folder must be a folder of cut-outs, but there is none at '{path}'.")
    found = sorted(
        file for file in path.iterdir() if file.suffix.lower() in _SUFFIXES and not file.name.startswith(".")
    )
    if len(found) < OBJECTS:
        raise InputError(
            f"folder must hold at least {OBJECTS} cut-outs ({', '.join(_SUFFIXES)}), but '{path}' holds {len(found)}."
        )
    return [_read(file) for file in found]


def _read(file: Path) -> Cutout:
    try:
        with Image.open(file, formats=("PNG", "WEBP")) as opened:
            if not opened.has_transparency_data:
                raise ImageError(f"the cut-out '{file}' has no alpha channel, which would be its mask.")
            picture = opened.convert("RGBA")
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise ImageError(f"the cut-out '{file}' cannot be read as a PNG or WebP picture: {error}") from error
    box = picture.getchannel("A").point(lambda alpha: 255 * (alpha >= 128)).getbbox()
    if box is None:
        raise ImageError(f"the cut-out '{file}' is transparent everywhere.")
    number, name = re.findall(r"^(?:(\d+)_)?(.*)", file.stem)[0]
    return Cutout(name.replace("_", " "), int(number) if number else None, picture.crop(box))


def _background(kind: Background, size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """(size, size, 3)"""
    if kind == "plain":
        picture = np.full((size, size, 3), rng.uniform(0.3, 0.7))
    else:
        centres = (np.arange(size) + 0.5) / size
        heights = [clouds(centres[None, :], centres[:, None], rng) for _ in range(3)]
        picture = rng.uniform(0.3, 0.7, 3) + 0.1 * np.stack(heights, axis=2)
    rounded: NDArray[np.uint8] = np.rint(255 * picture.clip(0, 1)).astype(np.uint8)
    return rounded


def _paste(
    cutout: Cutout, cell: int, image: NDArray[np.uint8], mask: NDArray[np.bool_], rng: np.random.Generator
) -> None:
    """Put the object into its cell of `image` and `mask`, both changed in place."""
    side = image.shape[0] // 2
    scale = rng.uniform(*_SCALE) * side / max(cutout.picture.size)
    width, height = (max(1, round(scale * length)) for length in cutout.picture.size)
    # Pillow weighs colours with alpha when it resizes RGBA, so that what is transparent leaves no trace.
    pixels = np.asarray(cutout.picture.resize((width, height), Image.Resampling.LANCZOS))
    row, column = divmod(cell, 2)
    top = row * (image.shape[0] - side) + int(rng.integers(side - height + 1))
    left = column * (image.shape[1] - side) + int(rng.integers(side - width + 1))
    inside = pixels[..., 3] >= 128
    where = (slice(top, top + height), slice(left, left + width))
    image[where][inside] = pixels[inside, :3]
    mask[where] = inside
