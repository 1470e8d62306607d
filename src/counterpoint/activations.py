"""Change what operations of a network hand back in the backward pass, or record what they were given, while a `with` block lasts.

The modes here see every call of a torch function on their thread: modules, functional code, in-place and reused activations alike.
Nothing is put on the model, and all ends with the block. Forward values stay what they are, bit for bit. Not seen is what runs inside
one compiled or scripted step, or inside a function that torch offers as a whole, such as `nn.MultiheadAttention`.
"""

import functools
import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from counterpoint.checks import shape_text
from counterpoint.errors import InputError, ModelError

RECTIFIERS = frozenset({"relu", "relu6", "leaky_relu", "gelu", "silu", "hardswish"})
"""Activations that let through what is positive and hold back what is not. ReLU6 as a module is a `hardtanh` from 0, and counts too."""

ELEMENTWISE = RECTIFIERS | frozenset(
    "abs absolute celu clamp clamp_max clamp_min clip elu erf exp expm1 hardshrink hardsigmoid hardtanh log log1p "
    "log_sigmoid logit mish pow prelu reciprocal __rdiv__ __rpow__ rsqrt selu sigmoid softplus softshrink softsign sqrt square tanh "
    "tanhshrink threshold _threshold".split()
)
"""Functions of one number each, none of them linear."""

_ALIASES = {"subtract": "sub", "multiply": "mul", "divide": "div", "true_divide": "div", "__rsub__": "rsub"}

RectifierRule = Literal["guided", "deconvnet"]
RECTIFIER_RULES: tuple[RectifierRule, ...] = ("guided", "deconvnet")


@dataclass(frozen=True, eq=False)
class Operation:
    """One call of a torch function, made ready to be run again, out of place and on other numbers."""

    name: str
    """Of the function, the same for module, functional, method and in-place forms: "relu"."""
    tensors: tuple[Tensor, ...]
    """Its floating-point tensors, in the order of its arguments; those in lists are not among them."""
    overwritten: Tensor | None
    """What the call wants to see overwritten with its result, of an in-place form."""
    _function: Callable[..., Any]
    _args: tuple[Any, ...]
    _kwargs: Mapping[str, Any]

    @classmethod
    def of(
        cls, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> "Operation":
        """What was called, its in-place form replaced by the ordinary one."""
        name, in_place = name_of(function)
        overwritten = None
        if in_place:
            function, overwritten = _out_of_place(name), args[0]
        elif (place := _place_of_flag(function)) is not None:
            flagged = args[place] if place < len(args) else kwargs.get("inplace", False)
            args = (*args[:place], False, *args[place + 1 :]) if place < len(args) else args
            kwargs = {key: value for key, value in kwargs.items() if key != "inplace"}
            overwritten = args[0] if flagged and args else kwargs.get("input") if flagged else None
        tensors = tuple(value for value in (*args, *kwargs.values()) if _is_number_tensor(value))
        return cls(name, tensors, overwritten, function, args, kwargs)

    def run(self, *tensors: Tensor) -> Tensor:
        """The same function of other tensors, as many as `tensors`."""
        given = iter(tensors)
        args = [next(given) if _is_number_tensor(value) else value for value in self._args]
        kwargs = {
            key: next(given) if _is_number_tensor(value) else value for key, value in self._kwargs.items()
        }
        result: Tensor = self._function(*args, **kwargs)
        return result

    def option(self, name: str, place: int, default: Any = None) -> Any:
        """An argument by its name, or by its place among all of them."""
        if name in self._kwargs:
            return self._kwargs[name]
        return self._args[place] if place < len(self._args) else default

    def value(self) -> Tensor:
        """The result, with no history."""
        with torch.no_grad():
            return self.run(*self.tensors)

    def slope(self) -> Tensor:
        """The plain derivative of an elementwise function."""
        with torch.enable_grad():
            point = self.tensors[0].detach().requires_grad_()
            (slope,) = torch.autograd.grad(self.run(point, *self.tensors[1:]).sum(), point)
        return slope

    def finished(self, result: Tensor) -> Tensor:
        """The result as the caller expects it: of an in-place form, the overwritten tensor itself."""
        if self.overwritten is None:
            return result
        return self.overwritten.copy_(result)


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

    def meet(self, operation: Operation) -> Tensor:
        """The result of an operation, in its out-of-place form."""
        raise NotImplementedError


class Rectified(Mode):
    """The gradient through every rectifying activation replaced by a rule.

    guided     ReLU of the gradient, times the plain derivative (Springenberg et al. 2014, arXiv:1412.6806).
    deconvnet  ReLU of the gradient alone (Zeiler and Fergus 2013, arXiv:1311.2901).
    """

    def __init__(self, rule: RectifierRule) -> None:
        if rule not in RECTIFIER_RULES:
            raise InputError(f"rule must be one of {', '.join(RECTIFIER_RULES)}, got {rule!r}.")
        super().__init__(RECTIFIERS | {"hardtanh"})
        self._rule = rule
        self.met = 0
        """How many activations a gradient went back through."""

    def meet(self, operation: Operation) -> Tensor:
        """The value as it is, the gradient by the rule."""
        if operation.name == "hardtanh" and operation.option("min_val", 1, -1.0) != 0.0:
            return operation.run(*operation.tensors)
        slope = operation.slope() if self._rule == "guided" else None

        def pull(gradient: Tensor) -> tuple[Tensor]:
            self.met += 1
            passed = gradient.relu()
            return (passed if slope is None else passed * slope,)

        return with_gradient(operation.value(), operation.tensors[:1], pull)


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
        return operation.run(*operation.tensors)


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


def name_of(function: Callable[..., Any]) -> tuple[str, bool]:
    """The name of a torch function without marks of its form, and whether it is an in-place one."""
    name: str = getattr(function, "__name__", "")
    if name == "__get__":  # an attribute of a tensor
        return getattr(getattr(function, "__self__", None), "__name__", name), False
    name = name.partition(".")[0]  # an overload such as relu.default
    in_place = name.endswith("_") and not name.endswith("__")
    name = name.removesuffix("_") if in_place else name
    return _ALIASES.get(name, name), in_place


def _is_number_tensor(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


@functools.cache
def _out_of_place(name: str) -> Callable[..., Any]:
    for holder in (Tensor, F, torch):
        if hasattr(holder, name):
            found: Callable[..., Any] = getattr(holder, name)
            return found
    raise ModelError(f"the in-place operation '{name}_' has no ordinary form.")


@functools.cache
def _place_of_flag(function: Callable[..., Any]) -> int | None:
    """Where a function takes `inplace`, if it does; torch's built-in ones have no signature and no such flag."""
    try:
        names = list(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return None
    return names.index("inplace") if "inplace" in names else None


def is_weight(tensor: Tensor) -> bool:
    """Whether a tensor is a parameter, which depends on no input."""
    return isinstance(tensor, nn.Parameter)
