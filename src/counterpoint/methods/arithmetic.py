"""What methods share in their arithmetic: the precision of sums, and the shape of one number an image."""

import torch
from jaxtyping import Real
from torch import Tensor


def exact(tensor: Tensor) -> Tensor:
    """float32 at least, float64 for float64: sums and products of bfloat16 lose too much."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def as_column(numbers: Real[Tensor, " rows"], like: Tensor) -> Tensor:
    """One number a row, ready to be multiplied with rows like `like`."""
    return numbers.to(like).view(-1, *[1] * (like.ndim - 1))
