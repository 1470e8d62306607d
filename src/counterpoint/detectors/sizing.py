"""From a photograph to the pixels that a detector takes: the whole picture, its shape kept."""

from dataclasses import dataclass
from typing import get_args

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from counterpoint.errors import InputError
from counterpoint.images import as_rgb
from counterpoint.preprocessing import Interpolation


@dataclass(frozen=True, kw_only=True)
class Sizing:
    """How large a picture goes in: its shorter side has `shorter` pixels, unless the longer one then had more than `longest`.

    Nothing is cut off, as an object may lie at the edge. Both sides are rounded to whole multiples of `multiple`, so that the cells of a
    detector's feature maps tile the picture without padding; the shape changes by less than that.

    Raises:
        InputError: sides that are not positive, or an unknown interpolation.
    """

    shorter: int
    longest: int
    multiple: int = 32
    fixed: tuple[int, int] | None = None
    """Height and width where the detector takes one size only; the shape of the picture is then not kept."""
    interpolation: Interpolation = "bilinear"

    def __post_init__(self) -> None:
        for name in ("shorter", "longest", "multiple"):
            if type(getattr(self, name)) is not int or getattr(self, name) < 1:
                raise InputError(
                    f"{name} must be a whole number of pixels above 0, got {getattr(self, name)!r}."
                )
        if self.interpolation not in get_args(Interpolation):
            raise InputError(
                f"interpolation must be one of {', '.join(get_args(Interpolation))}, got {self.interpolation!r}."
            )

    def size_of(self, height: int, width: int) -> tuple[int, int]:
        """Height and width that a picture of this size is brought to."""
        if self.fixed is not None:
            return self.fixed
        scale = min(self.shorter / min(height, width), self.longest / max(height, width))
        # Whole pixels first, as the libraries count them; then whole cells.
        tall, wide = (int(side * scale + 1e-6) for side in (height, width))
        return self._whole(tall), self._whole(wide)

    def _whole(self, side: int) -> int:
        return max(1, round(side / self.multiple)) * self.multiple

    def __call__(self, image: Image.Image) -> Float[Tensor, "3 height width"]:
        """The pixels of one picture, in [0, 1], float32.

        Raises:
            ImageError: a picture that cannot be read as a photograph.
        """
        picture = as_rgb(image)
        height, width = self.size_of(picture.height, picture.width)
        resized = picture.resize((width, height), Image.Resampling[self.interpolation.upper()])
        return torch.from_numpy(np.array(resized)).permute(2, 0, 1).float() / 255
