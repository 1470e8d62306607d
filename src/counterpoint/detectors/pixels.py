"""Checks of images before a detector is asked about them."""

from torch import Tensor

from counterpoint.checks import check_images, shape_text
from counterpoint.errors import InputError, ShapeError

# How far pixels may lie outside [0, 1]: bicubic resizing and rounding overshoot a little.
_OUTSIDE = 0.1


def check_colour_pixels(name: str, pixels: Tensor) -> None:
    """Raise unless these are images of three channels with pixels in [0, 1].

    Raises:
        ShapeError: not (batch, 3, height, width).
        InputError: pixels outside [0, 1].
    """
    check_images(name, pixels)
    if pixels.shape[1] != 3:
        raise ShapeError(f"{name} must be (batch, 3, height, width), got {shape_text(pixels)}.")
    low, high = float(pixels.min()), float(pixels.max())
    if low < -_OUTSIDE or high > 1 + _OUTSIDE:
        hint = "; 0..255 become that by inputs / 255" if high > 2 else ""
        raise InputError(
            f"{name} must be pixels in [0, 1], but go from {low:.3g} to {high:.3g}{hint}. The detector normalises them itself."
        )
