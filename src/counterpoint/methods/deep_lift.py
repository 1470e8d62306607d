"""DeepLIFT: what each step of the network makes of the difference from the baseline, multiplied up from the score to the input."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from counterpoint import progress
from counterpoint.activations import ELEMENTWISE, Operation, Recording, Replay, is_weight, with_gradient
from counterpoint.comparison import Comparison
from counterpoint.errors import ModelError
from counterpoint.methods.arithmetic import exact
from counterpoint.methods.modified import step_by_step
from counterpoint.protocols import Claim, Level, Outcome


@dataclass(frozen=True)
class DeepLIFT:
    """Differences from the baseline, multiplied through the network by the rescale rule.

    Formula: (x - x') * m, where m is the gradient of f at x with each derivative s'(z) replaced by (s(z) - s(z')) / (z - z')

    Values: (batch, *features), signed, in units of the score; their sum is f(x) - f(x') wherever every step has a rule. The error is
    what those without one leave open: layer norm, fused attention, the larger of two activations keep their plain gradient at x.

    Steps with a rule, all of them complete:

    - elementwise functions: the quotient above; the plain derivative where z and z' are equal but for rounding.
    - max pooling: an increase of the maximum goes to where x has its maximum, a decrease to where x' has it.
    - products a b of two activations, also matrix products: (b + b') / 2 for a, (a + a') / 2 for b; a quotient a / b is the product of a
      and 1 / b. Our addition: the paper has no such step.
    - softmax and log-sum-exp: written out as exponentials, sums and logarithms. Our addition.

    Raises:
        ModelError: the network takes other steps for x than for x', so that they cannot be compared; or a part of the model is compiled
            or scripted, and its steps cannot be seen.

    Reference: Shrikumar et al. 2017, arXiv:1704.02685 (rescale rule).
    """

    claim: ClassVar[Claim] = "shares"
    level: ClassVar[Level] = "any"
    version: ClassVar[int] = 1

    def __call__(self, comparison: Comparison) -> Outcome:
        """One forward of the baseline and one gradient for each image."""
        comparison = step_by_step(comparison)
        end, start = comparison.end, comparison.start
        multipliers: list[Tensor] = []
        done = 0
        while done < len(end):
            rows = comparison.micro.rows
            image = torch.arange(done, min(done + rows, len(end)), device=end.device)
            try:
                multipliers.append(_multipliers(comparison, end[image], start[image], image))
            except ModelError:
                if comparison.micro.rows == rows:
                    raise
                continue  # memory ran out between the two runs: again with as few rows as fit
            done += len(image)
            progress.advance(done, len(end), "deep_lift")
        values = (exact(end) - exact(start)) * exact(torch.cat(multipliers))
        return Outcome(values=values, stages={"operator": values.flatten(1).sum(1)})


def _multipliers(comparison: Comparison, end: Tensor, start: Tensor, image: Tensor) -> Tensor:
    """Both runs on the same rows, so that each step meets its own twin."""
    recording = Recording(frozenset(_RULES))
    comparison.scores(start, image, under=lambda rows: recording)
    return comparison.gradients(end, image, under=lambda rows: Replay(recording, _RULES))


def _quotient(after: Tensor, before: Tensor, x: Tensor, b: Tensor, slope: Callable[[], Tensor]) -> Tensor:
    """(after - before) / (x - b); the slope where x and b are equal but for rounding."""
    difference = x - b
    # Below this the quotient is mostly rounding, and what the slope misses is smaller still. Of two infinite numbers the difference is NaN.
    least = x.abs().add_(b.abs()).mul_(torch.finfo(x.dtype).eps ** (2 / 3))
    same = (difference.abs() > least).logical_not_()
    quotient = (after - before).div_(difference)
    return torch.where(same, slope(), quotient) if same.any() else quotient


def _elementwise(operation: Operation, before: tuple[Tensor, ...]) -> Tensor:
    if len(operation.tensors) > 1 and operation.name != "prelu":
        return operation.run(*operation.tensors)
    x, value = operation.tensors[0].detach(), operation.value()
    with torch.no_grad():
        multiplier = _quotient(value, operation.run(*before), x, before[0], operation.slope)
    return with_gradient(value, operation.tensors[:1], lambda gradient: (gradient * multiplier,))


def _product(operation: Operation, before: tuple[Tensor, ...]) -> Tensor:
    """A function linear in each of two tensors: each one's gradient is taken at the middle of the other."""
    if len(operation.tensors) != 2 or any(map(is_weight, operation.tensors)):
        return operation.run(*operation.tensors)
    with torch.no_grad():
        middles = [(now + then) / 2 for now, then in zip(operation.tensors, before, strict=True)]

    def pull(gradient: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            points = [middle.detach().requires_grad_() for middle in middles]
            one, two = torch.autograd.grad(operation.run(*points), points, gradient)
        return one, two

    return with_gradient(operation.value(), operation.tensors, pull)


def _ratio(operation: Operation, before: tuple[Tensor, ...]) -> Tensor:
    """a / b as the product of a and 1 / b, whose multiplier is -1 / (b b')."""
    if len(operation.tensors) != 2 or any(map(is_weight, operation.tensors)):
        return operation.run(*operation.tensors)
    a, b = (tensor.detach() for tensor in operation.tensors)
    with torch.no_grad():
        for_a = (1 / b + 1 / before[1]) / 2
        for_b = -(a + before[0]) / (2 * b * before[1])

    def pull(gradient: Tensor) -> tuple[Tensor, Tensor]:
        return (gradient * for_a).sum_to_size(a.shape), (gradient * for_b).sum_to_size(b.shape)

    return with_gradient(operation.value(), operation.tensors, pull)


def _log_sum_exp(operation: Operation, before: tuple[Tensor, ...]) -> Tensor:
    x, value = operation.tensors[0].detach(), operation.value()
    with torch.no_grad():
        multiplier = _of_log_sum_exp(x, before[0], operation.option("dim", 1))
    keeps = operation.option("keepdim", 2, False)

    def pull(gradient: Tensor) -> tuple[Tensor]:
        whole = gradient if keeps else _restored(gradient, operation.option("dim", 1), x.ndim)
        return (whole * multiplier,)

    return with_gradient(value, operation.tensors, pull)


def _of_log_sum_exp(x: Tensor, b: Tensor, dim: Any) -> Tensor:
    """The multipliers of log(sum(exp)), as a chain of exponentials, a sum and a logarithm."""
    shift = torch.maximum(x, b).amax(dim, keepdim=True)
    one, two = (x - shift).exp(), (b - shift).exp()
    of_exp = _quotient(one, two, x - shift, b - shift, lambda: one)
    one_sum, two_sum = one.sum(dim, keepdim=True), two.sum(dim, keepdim=True)
    of_log = _quotient(one_sum.log(), two_sum.log(), one_sum, two_sum, one_sum.reciprocal)
    return of_exp * of_log


def _softmax(operation: Operation, before: tuple[Tensor, ...]) -> Tensor:
    """softmax(z) = exp(z - log-sum-exp(z)), log_softmax without the exponential."""
    dim = operation.option("dim", 1)
    if dim is None:  # torch then guesses, and warns
        return operation.run(*operation.tensors)
    x, b = operation.tensors[0].detach(), before[0]
    value = operation.value()
    with torch.no_grad():
        of_sum = _of_log_sum_exp(x, b, dim)
        if operation.name == "softmax":
            then = operation.run(b)
            of_exp = _quotient(value, then, x.log_softmax(dim), b.log_softmax(dim), lambda: value)
        else:
            of_exp = torch.ones_like(of_sum)

    def pull(gradient: Tensor) -> tuple[Tensor]:
        passed = gradient * of_exp
        return (passed - of_sum * passed.sum(dim, keepdim=True),)

    return with_gradient(value, operation.tensors, pull)


def _restored(gradient: Tensor, dim: int | tuple[int, ...], ndim: int) -> Tensor:
    """The axes that a reduction took away, put back with length 1."""
    for axis in sorted(axis % ndim for axis in ((dim,) if isinstance(dim, int) else dim)):
        gradient = gradient.unsqueeze(axis)
    return gradient


def _max_pool(operation: Operation, before: tuple[Tensor, ...]) -> Tensor:
    """All of a rise goes to where x has its maximum, all of a fall to where x' has it: both changed by at least as much."""
    axes = int(operation.name[-2])  # of max_pool2d and its like
    x, b = (tensor.detach().flatten(-axes) for tensor in (operation.tensors[0], before[0]))
    with torch.no_grad():
        now, here = _maxima(operation, operation.tensors[0].detach())
        then, there = _maxima(operation, before[0])
        place = torch.where(now >= then, here, there).flatten(-axes)
        now, then = now.flatten(-axes), then.flatten(-axes)
        multiplier = _quotient(
            now, then, x.gather(-1, place), b.gather(-1, place), lambda: torch.ones_like(now)
        )

    def pull(gradient: Tensor) -> tuple[Tensor]:
        routed = torch.zeros_like(x).scatter_add(-1, place, gradient.flatten(-axes) * multiplier)
        return (routed.view(operation.tensors[0].shape),)

    return with_gradient(operation.value(), operation.tensors, pull)


def _maxima(operation: Operation, point: Tensor) -> tuple[Tensor, Tensor]:
    """The maxima, and where each was among all places of its channel."""
    adaptive = operation.name.startswith("adaptive")
    names = ["output_size"] if adaptive else ["kernel_size", "stride", "padding", "dilation", "ceil_mode"]
    given = {name: operation.option(name, place) for place, name in enumerate(names, start=1)}
    given = {name: value for name, value in given.items() if value is not None}
    value, place = getattr(F, operation.name)(point, **given, return_indices=True)
    return value, place


_RULES: dict[str, Callable[[Operation, tuple[Tensor, ...]], Tensor]] = {
    **dict.fromkeys(ELEMENTWISE, _elementwise),
    **dict.fromkeys(("mul", "matmul", "__matmul__", "bmm", "einsum"), _product),
    **dict.fromkeys(("softmax", "log_softmax"), _softmax),
    **{f"{kind}max_pool{axes}d": _max_pool for kind in ("", "adaptive_") for axes in (1, 2, 3)},
    "div": _ratio,
    "logsumexp": _log_sum_exp,
}
