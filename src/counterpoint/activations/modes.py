"""Contexts that meet the operations of a run: record what they are given, replay, hand back another gradient."""

from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from torch.overrides import TorchFunctionMode

from counterpoint.activations.operations import Operation, name_of
from counterpoint.checks import shape_text
from counterpoint.errors import ModelError

Under = Callable[[Int[Tensor, " rows"]], AbstractContextManager[Any]]
"""Makes the context that some rows are run in, from which of the images each of them belongs to."""

Pull = Callable[..., tuple[Tensor | None, ...]]


class _Substitute(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, value: Callable[[], Tensor], pull: Pull, kept: tuple[Tensor, ...], *inputs: Tensor
    ) -> Tensor:
        ctx.pull = pull
        ctx.save_for_backward(*kept)
        return value()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return (None, None, None, *ctx.pull(gradient, *ctx.saved_tensors))


def with_gradient(
    value: Tensor, inputs: tuple[Tensor, ...], pull: Pull, kept: tuple[Tensor, ...] = ()
) -> Tensor:
    """`value` as a function of `inputs`, with the gradient that `pull` says.

    Args:
        value: A tensor of its own, with no history.
        inputs: What it is a function of.
        pull: From the gradient of the value, and `kept`, to one gradient for each input. Tensors that it holds itself must be its own.
        kept: Tensors that others hold too: if one is overwritten meanwhile, torch refuses the backward pass.
    """
    result: Tensor = _Substitute.apply(lambda: value, pull, kept, *inputs)
    return result


class Mode(TorchFunctionMode):
    """Meets the operations of some names; all others run as they are."""

    def __init__(self, names: Collection[str]) -> None:
        super().__init__()
        self._names = names

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Called by torch in the place of `func`."""
        kwargs = kwargs or {}
        if name_of(func)[0] not in self._names:
            return func(*args, **kwargs)
        operation = Operation.of(func, args, kwargs)
        if not operation.tensors:
            return func(*args, **kwargs)
        return operation.finished(self.meet(operation))

    @abstractmethod
    def meet(self, operation: Operation) -> Tensor:
        """The result of an operation: of its out-of-place form, or `operation.as_called()`."""


@dataclass(frozen=True, eq=False)
class Recorded:
    """What one operation was given."""

    name: str
    tensors: tuple[Tensor, ...]
    """Copies: the network may overwrite what it has used."""


class Recording(Mode):
    """Keeps what the operations of some names are given, in the order of their calls."""

    def __init__(self, names: Collection[str]) -> None:
        super().__init__(names)
        self.operations: list[Recorded] = []

    def meet(self, operation: Operation) -> Tensor:
        """The operation as it is."""
        copies = tuple(tensor.detach().clone() for tensor in operation.tensors)
        self.operations.append(Recorded(operation.name, copies))
        return operation.as_called()


class Replay(Mode):
    """Hands each operation, with what it was given in a recording, to the rule of its name.

    Raises:
        ModelError: the run takes another way than the recorded one.
    """

    def __init__(
        self, recording: Recording, rules: Mapping[str, Callable[[Operation, tuple[Tensor, ...]], Tensor]]
    ) -> None:
        super().__init__(frozenset(rules))
        self._recorded = iter(recording.operations)
        self._rules = rules

    def meet(self, operation: Operation) -> Tensor:
        """What the rule makes of it."""
        recorded = next(self._recorded, None)
        here = (operation.name, [tensor.shape for tensor in operation.tensors])
        if recorded is None or here != (recorded.name, [tensor.shape for tensor in recorded.tensors]):
            raise _other_way(_text(operation), None if recorded is None else _text(recorded))
        return self._rules[operation.name](operation, recorded.tensors)

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        super().__exit__(kind, error, trace)  # type: ignore[no-untyped-call]
        if kind is None and (left := next(self._recorded, None)) is not None:
            raise _other_way(None, _text(left))


def _other_way(here: str | None, before: str | None) -> ModelError:
    return ModelError(
        "the model computes otherwise for the input than for what it is compared with: "
        f"{here or 'its end'} where there was {before or 'the end'}. Its steps must not depend on the numbers."
    )


def _text(operation: Operation | Recorded) -> str:
    return f"{operation.name} of {', '.join(shape_text(tensor) for tensor in operation.tensors)}"
