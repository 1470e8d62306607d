"""From a photograph to the numbers that a model takes."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from counterpoint.errors import InputError
from counterpoint.images import as_rgb

Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]


@dataclass(frozen=True)
class Preprocessing:
    """From a photograph to the numbers that a model was trained on.

    The largest central part with the shape of `size` is cut out, `crop` times as long on each side, and
    resized. The pixels stay in [0, 1]: `mean` and `std` are applied by the first layer of the module, so that
    black is 0 for every model.

    Raises:
        InputError: a size that is not positive, a crop outside (0, 1], an unknown interpolation, `mean` and
            `std` of different lengths, a mean that is in units of 0..255, or a standard deviation that is not
            positive.
    """

    size: tuple[int, int]
    """Height and width of the model's input, in pixels."""
    mean: tuple[float, ...]
    """Subtracted from each channel, in units of pixels in [0, 1]."""
    std: tuple[float, ...]
    """What each channel is divided by afterwards, in units of pixels in [0, 1]."""
    crop: float = 1.0
    """Side of the central cut-out, as a fraction of the largest that fits."""
    interpolation: Interpolation = "bicubic"

    def __post_init__(self) -> None:
        sides = self.size if isinstance(self.size, tuple) else ()
        if len(sides) != 2 or not all(type(side) is int and side > 0 for side in sides):
            raise InputError(f"size must be (height, width) in whole pixels above 0, got {self.size!r}.")
        if len(self.mean) != len(self.std) or not self.mean:
            raise InputError(
                "mean and std must have one number per channel, "
                f"got {len(self.mean)} in mean and {len(self.std)} in std."
            )
        if not all(math.isfinite(value) for value in self.mean):
            raise InputError(f"mean must be finite, got {self.mean}.")
        if max(self.mean) > 1:
            raise InputError(
                f"mean must be in units of pixels in [0, 1], got {self.mean}; "
                "divide by 255 both mean and std of a model that was trained on 0..255."
            )
        if not all(math.isfinite(value) and value > 0 for value in self.std):
            raise InputError(f"std must be finite and above 0 in every channel, got {self.std}.")
        if not 0 < self.crop <= 1:
            raise InputError(f"crop must be above 0 and at most 1, got {self.crop!r}.")
        if self.interpolation not in get_args(Interpolation):
            raise InputError(
                f"interpolation must be one of {', '.join(get_args(Interpolation))}, "
                f"got {self.interpolation!r}."
            )

    def __call__(self, image: Image.Image) -> Float[Tensor, "channel height width"]:
        """The pixels of one picture, in [0, 1], float32; models of one channel get it in grey.

        Raises:
            InputError: a model of another number of channels than 1 or 3.
            ImageError: a picture that cannot be read as a photograph.
        """
        channels = len(self.mean)
        if channels not in (1, 3):
            raise InputError(
                f"photographs have 1 or 3 channels, but the model takes {channels}; "
                "make its inputs yourself, with pixels in [0, 1]."
            )
        picture = as_rgb(image)
        picture = picture if channels == 3 else picture.convert("L")
        height, width = self.size
        scale = min(picture.width / width, picture.height / height)
        # One side is the picture's own: taken as it is, so that no rounding error costs it a pixel.
        whole = [
            picture.height if scale == picture.height / height else scale * height,
            picture.width if scale == picture.width / width else scale * width,
        ]
        cut_height, cut_width = (max(1, int(side * self.crop)) for side in whole)
        top, left = (picture.height - cut_height) // 2, (picture.width - cut_width) // 2
        # Cut first: no pixel from outside the cut-out leaks in at its border.
        cut = picture.crop((left, top, left + cut_width, top + cut_height))
        resized = cut.resize((width, height), Image.Resampling[self.interpolation.upper()])
        pixels = torch.from_numpy(np.array(resized)).view(height, width, channels)
        return pixels.permute(2, 0, 1).float() / 255  # (channel, height, width)
