"""Whether two outputs of a model are the same, whatever their structure: a tensor, or sequences, mappings and dataclasses of them."""

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor


def tensors_in(output: Any) -> Iterator[Tensor]:
    """The tensors in an output, in order."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping):
        for value in output.values():
            yield from tensors_in(value)
    elif isinstance(output, list | tuple):
        for value in output:
            yield from tensors_in(value)
    elif is_dataclass(output):
        for each in fields(output):
            yield from tensors_in(getattr(output, each.name))


def close(output: Any, expected: Any) -> bool:
    """Whether all tensors are equal but for rounding, relative to the largest number in each; NaN equals NaN."""
    ours, theirs = list(tensors_in(output)), list(tensors_in(expected))
    if [tensor.shape for tensor in ours] != [tensor.shape for tensor in theirs]:
        return False
    return all(_close(one, two) for one, two in zip(ours, theirs, strict=True))


def _close(output: Tensor, expected: Tensor) -> bool:
    if not (expected.is_floating_point() and output.is_floating_point() and expected.numel()):
        return torch.equal(output, expected)
    size = float(expected.detach().abs().nan_to_num(0.0, 0.0, 0.0).max())
    tolerance = min(100 * torch.finfo(expected.dtype).eps, 0.05) * size
    return torch.allclose(output, expected, rtol=0.0, atol=tolerance, equal_nan=True)


def mixed_gradient(output: Any, point: Tensor) -> Tensor:
    """The gradient at `point` of a fixed random mixture of all numbers in the output; zero where none reaches it."""
    generator = torch.Generator().manual_seed(0)
    mixed = [
        (leaf * torch.rand(leaf.shape, generator=generator).to(leaf)).sum().double()
        for leaf in tensors_in(output)
        if leaf.requires_grad and leaf.is_floating_point()
    ]
    if not mixed:
        return torch.zeros_like(point)
    (gradient,) = torch.autograd.grad(torch.stack(mixed).sum(), point, allow_unused=True)
    return torch.zeros_like(point) if gradient is None else gradient
