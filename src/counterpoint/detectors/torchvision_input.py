"""The first step of torchvision's detectors, done so that their feature maps tile the picture."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from counterpoint.detectors.sizing import Sizing


def sizing_of(transform: Any) -> Sizing:
    """What size a detector's own transform brings pictures to."""
    if transform.fixed_size is not None:
        width, height = transform.fixed_size
        return Sizing(
            shorter=min(height, width), longest=max(height, width), multiple=1, fixed=(height, width)
        )
    return Sizing(
        shorter=transform.min_size[-1], longest=transform.max_size, multiple=transform.size_divisible
    )


def prepared(
    transform: Any, pixels: Float[Tensor, "rows 3 height width"]
) -> tuple[Float[Tensor, "rows 3 tall wide"], tuple[float, float]]:
    """Normalised pixels at the size that the transform asks for, and (across, down): pixels of the input for one of the network's.

    The transform itself pads to whole multiples of 32, so that its maps reach beyond the picture; here the picture is stretched to them,
    by less than that. Where there is nothing to pad, as for what `Detector.preprocess` makes, both are the same to the last bit.
    """
    height, width = pixels.shape[2:]
    tall, wide = sizing_of(transform).size_of(height, width)
    mean = torch.tensor(transform.image_mean, dtype=pixels.dtype, device=pixels.device)[:, None, None]
    std = torch.tensor(transform.image_std, dtype=pixels.dtype, device=pixels.device)[:, None, None]
    normalised = (pixels - mean) / std
    if (tall, wide) != (height, width):
        normalised = interpolate(normalised, (tall, wide), mode="bilinear", align_corners=False)
    return normalised, (width / wide, height / tall)
