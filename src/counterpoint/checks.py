"""Argument checks that several parts share, and their messages."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from counterpoint.errors import InputError, NotFiniteError, ShapeError


def shape_text(tensor: Tensor | Sequence[int]) -> str:
    """The shape as a message shows it: (1, 3, 224, 224)."""
    return str(tuple(tensor.shape if isinstance(tensor, Tensor) else tensor))


def check_same_shape(name: str, tensor: Tensor, other_name: str, other: Tensor) -> None:
    """Raise ShapeError unless the two tensors have one shape."""
    if tensor.shape != other.shape:
        raise ShapeError(
            f"shapes must be equal, but {name} is {shape_text(tensor)}, {other_name} is {shape_text(other)}."
        )


def check_finite(name: str, tensor: Tensor, *, hint: str = "") -> None:
    """Raise NotFiniteError, with the count, if the tensor holds NaN or infinity."""
    bad = int((~torch.isfinite(tensor)).sum())
    if bad:
        raise NotFiniteError(
            f"{name} must be finite, but {bad} of {tensor.numel()} values are NaN or infinite.{' ' + hint if hint else ''}"
        )


def check_batch(name: str, inputs: Tensor) -> None:
    """Raise unless `inputs` is a real floating tensor of at least (batch, one axis) with at least one row.

    Raises:
        InputError: not a tensor, or complex or integer numbers.
        ShapeError: no axis beside the batch, or no rows.
        NotFiniteError: NaN or infinity.
    """
    if not isinstance(inputs, Tensor):
        raise InputError(f"{name} must be a torch.Tensor, got {type(inputs).__name__}.")
    if not inputs.is_floating_point():
        raise InputError(
            f"{name} must be real floating-point numbers, got {inputs.dtype}; pixels in [0, 1]: inputs.float() / 255."
        )
    if inputs.ndim < 2 or inputs.shape[0] == 0:
        raise ShapeError(f"{name} must be (batch, ...) with at least one row, got {shape_text(inputs)}.")
    check_finite(name, inputs)


def check_images(name: str, inputs: Tensor) -> None:
    """Raise ShapeError unless `inputs` is (batch, channel, height, width)."""
    if inputs.ndim != 4:
        hint = ""
        if inputs.ndim in (3, 5):
            hint = (
                "; signals and volumes go through gradients, path methods, occlusion, regions of a grid and curves, the rest is made for "
                "images"
            )
        raise ShapeError(
            f"{name} must be images (batch, channel, height, width), got {shape_text(inputs)}{hint}."
        )


def check_places(name: str, inputs: Tensor) -> None:
    """Raise ShapeError unless `inputs` is (batch, channel, ...): signals, images or volumes."""
    if inputs.ndim < 3 or inputs[0].numel() == 0:
        raise ShapeError(
            f"{name} must have channels and places, (batch, channel, height, width) for images or (batch, channel, length) for signals, "
            f"got {shape_text(inputs)}."
        )


def check_range(
    name: str, value: float, low: float, high: float = math.inf, *, open_low: bool = False
) -> None:
    """Raise InputError unless low <= value <= high (low < value where `open_low`); NaN and infinity never pass."""
    inside = (low < value if open_low else low <= value) and value <= high and math.isfinite(value)
    if not inside:
        bounds = f"{'above' if open_low else 'at least'} {low:g}" + (
            f" and at most {high:g}" if high < math.inf else ""
        )
        raise InputError(f"{name} must be {bounds}, got {value!r}.")
