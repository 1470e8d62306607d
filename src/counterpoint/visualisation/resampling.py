"""Boxes of an image, brought to another size."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

Box = tuple[float, float, float, float]
"""Top, left, bottom and right, in pixels from the image's corner; they need not be whole."""


def resampled(
    image: Float[Tensor, "batch channel height width"], box: Box, size: tuple[int, int]
) -> Float[Tensor, "batch channel out_height out_width"]:
    """A box of the image at another size, bilinear, and with as wide a filter as needed where it shrinks, so that nothing is aliased.

    Each axis is one matrix product, and pixels outside the box are not read. So it is differentiable any number of times, and its
    gradient has the same bits in every run, which that of `grid_sample` has not on a GPU. Of a whole image it is what
    `F.interpolate(mode="bilinear", antialias=True)` returns.
    """
    top, left, bottom, right = box
    rows, down = _weights(top, bottom, image.shape[2], size[0])
    columns, across = _weights(left, right, image.shape[3], size[1])
    part = image[:, :, rows, columns]
    return down.to(image) @ part @ across.to(image).T


def whole_box(image: Tensor, size: tuple[int, int]) -> Box:
    """The largest central box of the image with the shape of `size`; all of it where the shapes agree."""
    height, width = image.shape[2:]
    scale = min(height / size[0], width / size[1])
    high, wide = (
        (height, width) if height * size[1] == width * size[0] else (scale * size[0], scale * size[1])
    )
    top, left = (height - high) / 2, (width - wide) / 2
    return top, left, top + high, left + wide


def _weights(start: float, stop: float, pixels: int, outputs: int) -> tuple[slice, Float[Tensor, "out part"]]:
    """Which pixels are read along one axis, and with which weights: a triangle about each output's centre."""
    scale = (stop - start) / outputs
    first, last = max(0, math.floor(start)), min(pixels, math.ceil(stop))
    centres = start + (torch.arange(outputs, dtype=torch.float64) + 0.5) * scale
    places = torch.arange(first, last, dtype=torch.float64) + 0.5
    weights = (1 - (places - centres[:, None]).abs() / max(scale, 1.0)).clamp(min=0)
    return slice(first, last), weights / weights.sum(1, keepdim=True)
