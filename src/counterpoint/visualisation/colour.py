"""Colour in axes that photographs leave nearly uncorrelated: lightness, red against blue, green against purple.

An optimiser that steps equally far along each of these axes changes colours as photographs vary, mostly in lightness; in red, green and
blue it would first of all make them gaudy.

Source: the square root of the colour covariance of ImageNet, with the largest column norm 1, as Olah et al. 2017 ("Feature Visualization",
Distill, doi:10.23915/distill.00007) published it and Picard et al. 2025, arXiv:2512.11433, use it.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from counterpoint.checks import shape_text
from counterpoint.errors import ShapeError

# Rows: what one unit of each axis adds to red, green and blue.
AXES = (
    (0.56282854, 0.58447580, 0.58447580),
    (0.19482528, 0.0, -0.19482528),
    (0.04329450, -0.10823626, 0.06494176),
)


def recorrelate(colour: Float[Tensor, "*batch 3 height width"]) -> Float[Tensor, "*batch 3 height width"]:
    """From the three axes to red, green and blue: c C, with the rows of C above. No offset: grey is 0 in both.

    Raises:
        ShapeError: not three channels.
    """
    return _mixed("colour", colour, torch.tensor(AXES, dtype=torch.float64))


def decorrelate(pixels: Float[Tensor, "*batch 3 height width"]) -> Float[Tensor, "*batch 3 height width"]:
    """From red, green and blue to the three axes: the inverse of `recorrelate`.

    Raises:
        ShapeError: not three channels.
    """
    return _mixed("pixels", pixels, torch.linalg.inv(torch.tensor(AXES, dtype=torch.float64)))


def _mixed(name: str, values: Tensor, matrix: Tensor) -> Tensor:
    if values.ndim < 3 or values.shape[-3] != 3:
        raise ShapeError(f"{name} must be (..., 3, height, width), got {shape_text(values)}.")
    return torch.einsum("...chw,cd->...dhw", values, matrix.to(values))
