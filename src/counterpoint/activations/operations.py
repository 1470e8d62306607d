"""One call of a torch function, whatever its form, made ready to be run again."""

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from counterpoint.errors import ModelError

RECTIFIERS = frozenset({"relu", "relu6", "leaky_relu", "gelu", "silu", "hardswish"})
"""Activations that let through what is positive and hold back what is not. ReLU6 as a module is a `hardtanh` from 0, and counts too."""

ELEMENTWISE = RECTIFIERS | frozenset(
    "abs absolute celu clamp clamp_max clamp_min clip elu erf exp expm1 hardshrink hardsigmoid hardtanh log log1p "
    "log_sigmoid logit mish pow prelu reciprocal __rdiv__ __rpow__ rsqrt selu sigmoid softplus softshrink softsign sqrt square tanh "
    "tanhshrink threshold _threshold".split()
)
"""Functions of one number each, none of them linear."""

_ALIASES = {"subtract": "sub", "multiply": "mul", "divide": "div", "true_divide": "div", "__rsub__": "rsub"}


@dataclass(frozen=True, eq=False)
class Operation:
    """One call of a torch function, made ready to be run again, out of place and on other numbers."""

    name: str
    """Of the function, the same for module, functional, method and in-place forms: "relu"."""
    tensors: tuple[Tensor, ...]
    """Its floating-point tensors, in the order of its arguments; those in lists are not among them."""
    overwritten: Tensor | None
    """What the call wants to see overwritten with its result, of an in-place form."""
    _called: Callable[[], Any]
    _function: Callable[..., Any]
    _args: tuple[Any, ...]
    _kwargs: Mapping[str, Any]

    @classmethod
    def of(
        cls, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> "Operation":
        """What was called, its in-place form replaced by the ordinary one."""
        called = functools.partial(function, *args, **kwargs)
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
        return cls(name, tensors, overwritten, called, function, args, kwargs)

    def as_called(self) -> Tensor:
        """The result of the call itself, in place where it was asked to be; to be asked for once."""
        result: Tensor = self._called()
        return result

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
        if self.overwritten is None or result is self.overwritten:
            return result
        return self.overwritten.copy_(result)


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


def at_least_float32(tensor: Tensor) -> torch.dtype:
    """The type in which numbers of a tensor are summed and compared."""
    return torch.promote_types(tensor.dtype, torch.float32)
