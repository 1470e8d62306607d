"""A map as numbers, where there is no model to hold it against: checked, float32 at least."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from counterpoint.attribution import Attribution
from counterpoint.checks import check_finite, check_same_shape, shape_text
from counterpoint.errors import InputError, ShapeError


def map_numbers(name: str, saliency: Tensor | Attribution) -> Float[Tensor, "batch height width"]:
    """The map, one number for each pixel, in float32 at least; of an Attribution its heat map.

    Args:
        name: What messages call it.
        saliency: (batch, height, width), or an Attribution.

    Raises:
        InputError: neither a tensor nor an Attribution, or complex numbers.
        ShapeError: not (batch, height, width) with at least one image and one pixel.
        NotFiniteError: NaN or infinity.
    """
    if isinstance(saliency, Attribution):
        saliency = saliency.heatmap()
    if not isinstance(saliency, Tensor) or saliency.is_complex():
        kind = saliency.dtype if isinstance(saliency, Tensor) else type(saliency).__name__
        raise InputError(
            f"{name} must be a tensor of real numbers (batch, height, width) or an Attribution, got {kind}."
        )
    if saliency.ndim != 3 or saliency.numel() == 0:
        hint = "; sum its channels, or take their mean." if saliency.ndim == 4 else "."
        raise ShapeError(f"{name} must be (batch, height, width), but is {shape_text(saliency)}{hint}")
    check_finite(name, saliency)
    return saliency.detach().to(torch.promote_types(saliency.dtype, torch.float32))


def check_masks(
    masks: Tensor, saliency: Float[Tensor, "batch height width"]
) -> Bool[Tensor, "batch height width"]:
    """The masks, on the device of the map.

    Raises:
        InputError: no tensor of booleans.
        ShapeError: of another shape than the map.
    """
    if not isinstance(masks, Tensor) or masks.dtype != torch.bool:
        kind = masks.dtype if isinstance(masks, Tensor) else type(masks).__name__
        raise InputError(f"masks must be a tensor of booleans, True inside; got {kind}: masks > 0.5.")
    check_same_shape("masks", masks, "saliency", saliency)
    return masks.to(saliency.device)
