"""Relevance in the place of the gradient: a mode that sends it back through every operation by a rule, and the rules."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from counterpoint.activations import ELEMENTWISE, Operation, is_weight, name_of, with_gradient
from counterpoint.equality import tensors_in
from counterpoint.errors import ModelError

Rule = Literal["epsilon", "plus", "gamma", "flat", "box"]

STABILISER = 1e-6


@dataclass(frozen=True)
class Rules:
    """How steps divide relevance among what they were given."""

    convolution: Rule
    linear: Rule
    first: Rule | None = None
    """Of the first step with weights that pixels meet; None for no other rule there."""
    epsilon: float = STABILISER
    """Added to the denominators of the epsilon rule, with their own sign."""
    stabiliser: float = STABILISER
    """The same of all others."""
    gamma: float = 0.0
    """Of convolutions under the gamma rule."""
    linear_gamma: float = 0.0
    """Of linear layers under the gamma rule."""
    bias: bool = True
    """Whether biases take their part."""
    excitation: bool = False
    """Whether sums and averages divide among positive contributions only."""
    further: Mapping[str, Callable[["Call"], Tensor]] = field(default_factory=dict)
    """Rules of operations that have none here, or another one, by the name of the operation."""
    written_out: Mapping[str, Callable[[tuple[Any, ...], dict[str, Any]], Tensor]] = field(
        default_factory=dict
    )
    """Of functions that hide several operations: the same as operations that have rules, from the arguments of the call."""


class Propagation(TorchFunctionMode):
    """Sends relevance in the place of the gradient back through every operation that depends on the point.

    The point is the one leaf that needs a gradient and is no parameter. What is computed from weights alone is a constant.

    Raises:
        ModelError: an operation that has no rule, or that cannot be seen.
    """

    def __init__(self, rules: Rules) -> None:
        super().__init__()
        self._rules = rules
        # By identity, and kept alive for as long as the forward lasts, so that no other tensor gets the same one.
        self._known: dict[int, Tensor] = {}
        self._constants: dict[int, Tensor] = {}
        self._bounds: dict[int, tuple[Tensor, Tensor]] = {}
        """Least and greatest value of what is still the input: only moved, shifted and scaled."""
        self._made: dict[int, tuple[Call, int]] = {}
        """What steps with weights returned, with the version of its numbers: a norm behind is folded into the step."""

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        super().__exit__(kind, error, trace)  # type: ignore[no-untyped-call]
        for each in (self._known, self._constants, self._bounds, self._made):
            each.clear()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Called by torch in the place of `func`."""
        kwargs = kwargs or {}
        given = list(tensors_in((args, kwargs)))
        if not given:
            return func(*args, **kwargs)
        name, _ = name_of(func)
        carriers = {id(tensor): tensor for tensor in given if self._carries(tensor, name)}
        if not carriers:
            with torch.no_grad():
                result = func(*args, **kwargs)
            # A view of a parameter needs a gradient even so.
            self._constants |= {id(tensor): tensor for tensor in tensors_in(result) if tensor.requires_grad}
            return result
        if (written_out := self._rules.written_out.get(name)) is not None:
            return self._through(written_out, func, args, kwargs)
        call = self._call(Operation.of(func, args, kwargs), tuple(carriers.values()))
        if (step := self._rules.further.get(name) or _STEPS.get(name)) is not None:
            result = call.operation.finished(step(call))
        else:
            result = func(*args, **kwargs)
            if name not in _MOVES:
                if any(tensor.requires_grad for tensor in tensors_in(result)):
                    raise no_rule(name)
                return result
        for tensor in tensors_in(result):
            if tensor.requires_grad:  # not so inside an autograd function of the network's own
                self._known[id(tensor)] = tensor
            self._made.pop(id(tensor), None)
        if name in _FOLDS:
            self._made[id(result)] = (call, result._version)
        if name in _STILL_INPUT and isinstance(result, Tensor) and (bounds := call.bounds()):
            self._bounds[id(result)] = call.moved(bounds)
        return result

    def _through(
        self, written_out: Callable[..., Tensor], func: Callable[..., Any], args: tuple[Any, ...], kwargs: Any
    ) -> Any:
        """The function's own value, with relevance sent back through the operations that it hides."""
        with torch.no_grad():
            own = func(*args, **kwargs)
        with _Again(self):
            inner = written_out(args, kwargs)
        value = own[0] if isinstance(own, tuple) else own
        result = with_gradient(value, (inner,), lambda relevance: (relevance,))
        self._known[id(result)] = result
        self._made.pop(id(result), None)
        return (result, *own[1:]) if isinstance(own, tuple) else result

    def _call(self, operation: Operation, carriers: tuple[Tensor, ...]) -> "Call":
        made, version = self._made.get(id(carriers[0]), (None, 0))
        untouched = carriers[0]._version == version
        return Call(operation, carriers, self._rules, self._bounds, made if untouched else None)

    def _carries(self, tensor: Tensor, name: str) -> bool:
        if not tensor.requires_grad or is_weight(tensor):
            return False
        if id(tensor) in self._known or id(tensor) in self._constants:
            return id(tensor) in self._known
        if not tensor.is_leaf:
            raise ModelError(
                f"relevance cannot be followed: what '{name}' is given comes from an operation that cannot be seen, such as a scripted "
                "or compiled module, or an autograd function of its own."
            )
        self._known[id(tensor)] = tensor
        if self._rules.first is not None:
            self._bounds[id(tensor)] = (torch.zeros_like(tensor), torch.ones_like(tensor))
        return True


class _Again(TorchFunctionMode):
    """Hands calls to a mode that is at work on one already."""

    def __init__(self, mode: Propagation) -> None:
        super().__init__()
        self._mode = mode

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Called by torch in the place of `func`."""
        return self._mode.__torch_function__(func, types, args, kwargs)


@dataclass(frozen=True, eq=False)
class Call:
    """An operation that depends on the point."""

    operation: Operation
    carriers: tuple[Tensor, ...]
    """Which of its tensors do."""
    rules: Rules
    _bounds: Mapping[int, tuple[Tensor, Tensor]]
    source: "Call | None"
    """The step with weights whose result it is given."""

    @property
    def single(self) -> bool:
        """Whether it is a function of one such tensor, given once."""
        return (
            len(self.carriers) == 1
            and sum(tensor is self.carriers[0] for tensor in self.operation.tensors) == 1
        )

    def bounds(self) -> tuple[Tensor, Tensor] | None:
        """Least and greatest value of the tensor, if it is still the input."""
        return self._bounds.get(id(self.carriers[0])) if self.single else None

    def of(self, part: Tensor) -> Tensor:
        """The operation on another tensor in the place of the single one."""
        return self.operation.run(
            *[part if tensor is self.carriers[0] else tensor.detach() for tensor in self.operation.tensors]
        )

    def moved(self, bounds: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """What the operation makes of bounds."""
        with torch.no_grad():
            one, two = map(self.of, bounds)
        return torch.minimum(one, two), torch.maximum(one, two)

    def check_first(self, what: str) -> None:
        """Raise ModelError unless its first tensor alone depends on the point."""
        if not self.single or self.operation.tensors[0] is not self.carriers[0]:
            raise no_rule(self.operation.name, f" with {what} that depend on the input")

    def passed(self) -> Tensor:
        """The value, with relevance handed through as it is."""
        shape = self.carriers[0].shape
        return with_gradient(
            self.operation.value(), self.carriers, lambda relevance: (relevance.sum_to_size(shape),)
        )


_TWO = " of two activations"


def no_rule(name: str, what: str = "") -> ModelError:
    """The error for an operation that relevance cannot be sent through."""
    other = "cp.methods.IntegratedGradients()"
    if what == _TWO:
        other = f"cp.methods.AttnLRP(), which has one, or {other}"
    return ModelError(
        f"relevance has no rule for the operation '{name}'{what}; use another method, such as {other}."
    )


# Dividing relevance: each term is a sign, a part of the activations, and the weights that it meets.
Term = tuple[float, Tensor, Sequence[Tensor]]


def divided(
    terms: Sequence[Term], run: Callable[..., Tensor], relevance: Tensor, stabiliser: float
) -> Tensor:
    """sum over terms of part * d(sign * run(part)) / d part, weighted with relevance / sum over terms of sign * run(part)."""
    with torch.enable_grad():
        parts = [part.detach().requires_grad_() for _, part, _ in terms]
        z = torch.zeros_like(relevance)
        for (sign, _, weights), part in zip(terms, parts, strict=True):
            z = z + sign * run(part, *weights)
        gradients = torch.autograd.grad(z, parts, relevance / stabilised(z.detach(), stabiliser))
    shares = torch.zeros_like(gradients[0])
    for part, gradient in zip(parts, gradients, strict=True):
        shares = shares + part.detach() * gradient
    return shares


def stabilised(z: Tensor, stabiliser: float) -> Tensor:
    """Denominators, moved away from 0."""
    return torch.where(z >= 0, z + stabiliser, z - stabiliser)


def _divided_by_sign(
    a: Tensor,
    for_positive: Sequence[Tensor],
    for_negative: Sequence[Tensor],
    run: Callable[..., Tensor],
    relevance: Tensor,
    stabiliser: float,
) -> Tensor:
    """Positive and negative activations with weights of their own."""
    terms: list[Term] = [(1.0, a.clamp(min=0), for_positive)]
    if bool((a < 0).any()):  # after a ReLU there are none, and half of the work is saved
        terms.append((1.0, a.clamp(max=0), for_negative))
    return divided(terms, run, relevance, stabiliser)


def _by_weights(
    rule: Rule,
    rules: Rules,
    a: Tensor,
    weights: Sequence[Tensor],
    bounds: tuple[Tensor, Tensor] | None,
    run: Callable[..., Tensor],
    relevance: Tensor,
) -> Tensor:
    """The relevance of a step with weights, divided among its activations `a`."""
    weight, *bias = weights
    no_bias = [torch.zeros_like(each) for each in bias]
    bias = bias if rules.bias else no_bias
    least = rules.stabiliser
    up, down = weight.clamp(min=0), weight.clamp(max=0)
    if rule == "epsilon":
        return divided([(1.0, a, [weight, *bias])], run, relevance, rules.epsilon)
    if rule == "plus":
        kept = [each.clamp(min=0) for each in bias]
        return _divided_by_sign(a, [up, *kept], [down, *no_bias], run, relevance, least)
    if rule == "gamma":
        raised = [each + rules.gamma * each.clamp(min=0) for each in (weight, *bias)]
        lowered = [each + rules.gamma * each.clamp(max=0) for each in (weight, *bias)]
        with torch.no_grad():
            z = run(a, *weights)
        above = _divided_by_sign(a, raised, [lowered[0], *no_bias], run, relevance * (z > 0), least)
        below = _divided_by_sign(a, lowered, [raised[0], *no_bias], run, relevance * (z < 0), least)
        return above + below
    if rule == "box" and bounds is not None:
        low, high = bounds
        terms: list[Term] = [
            (1.0, a, [weight, *no_bias]),
            (-1.0, low, [up, *no_bias]),
            (-1.0, high, [down, *no_bias]),
        ]
        return divided(terms, run, relevance, least)
    flat: Term = (1.0, torch.ones_like(a), [torch.ones_like(weight), *no_bias])
    return divided([flat], run, relevance, least)


def _weighted(call: Call) -> Tensor:
    """A convolution or a linear layer: of (activations, weights) or (activations, weights, bias)."""
    call.check_first("weights")
    weights = [weight.detach() for weight in call.operation.tensors[1:]]
    return _by_rule(call, call.operation.value(), weights, call.operation.run)


def _by_rule(call: Call, value: Tensor, weights: Sequence[Tensor], run: Callable[..., Tensor]) -> Tensor:
    bounds = call.bounds()
    rules, rule = call.rules, call.rules.convolution
    if call.operation.name == "linear":
        rules, rule = replace(rules, gamma=rules.linear_gamma), rules.linear
    if bounds is not None and rules.first is not None:
        rule = rules.first

    def pull(relevance: Tensor, a: Tensor) -> tuple[Tensor]:
        return (_by_weights(rule, rules, a, weights, bounds, run, relevance),)

    return with_gradient(value, call.carriers, pull, call.carriers)


def _batch_norm(call: Call) -> Tensor:
    """In eval mode: a part of the step with weights before it, or else a shift and a scale."""
    operation, source = call.operation, call.source
    if operation.option("training", 5, False):
        raise no_rule("batch_norm", " in training mode")
    call.check_first("statistics")
    # A linear layer of tokens has its channels elsewhere than the norm behind it.
    if source is None or call.carriers[0].ndim != source.operation.tensors[1].ndim:
        return call.passed()
    step = source.operation
    with torch.no_grad():
        mean, variance = operation.option("running_mean", 1), operation.option("running_var", 2)
        scale = (variance + operation.option("eps", 7, 1e-5)).rsqrt()
        if (factor := operation.option("weight", 3)) is not None:
            scale = scale * factor
        shift = -mean * scale
        if (offset := operation.option("bias", 4)) is not None:
            shift = shift + offset
        weight, *bias = step.tensors[1:]
        shift = shift + bias[0] * scale if bias else shift
        folded = [weight * scale.view(-1, *[1] * (weight.ndim - 1)), shift]
        no_bias = [torch.zeros_like(each) for each in bias]

    def run(part: Tensor, weight: Tensor, shift: Tensor) -> Tensor:
        return step.run(part, weight, *no_bias) + shift.view(-1, *[1] * (weight.ndim - 2))

    return _by_rule(source, operation.value(), folded, run)


def product_with_constant(call: Call) -> Tensor:
    """A matrix product with something that does not depend on the input: a linear layer written out."""
    if not call.single or call.rules.excitation:
        raise no_rule(call.operation.name, _of_several(call))
    return _in_proportion(call, call.rules.epsilon)


def _average(call: Call) -> Tensor:
    if not call.single:
        raise no_rule(call.operation.name, _of_several(call))
    return _in_proportion(call, call.rules.stabiliser)


def _in_proportion(call: Call, stabiliser: float) -> Tensor:
    """A linear function of one tensor: by what each number contributes."""

    def pull(relevance: Tensor, a: Tensor) -> tuple[Tensor]:
        part = a.clamp(min=0) if call.rules.excitation else a
        return (divided([(1.0, part, [])], call.of, relevance, stabiliser),)

    return with_gradient(call.operation.value(), call.carriers, pull, call.carriers)


def _sum(call: Call) -> Tensor:
    """Of two activations in proportion; with a constant it is a shift."""
    if call.single:
        return call.passed()
    operation = call.operation
    value, (one, two) = operation.value(), operation.tensors
    with torch.no_grad():
        first = -one if operation.name == "rsub" else one
        parts = [first, value - first]
        if call.rules.excitation:
            parts = [part.clamp(min=0) for part in parts]
        whole = stabilised(parts[0] + parts[1], call.rules.stabiliser)
        ratios = [part / whole for part in parts]

    def pull(relevance: Tensor) -> tuple[Tensor, ...]:
        shares = [ratio * relevance for ratio in ratios]
        return shares[0].sum_to_size(one.shape), shares[1].sum_to_size(two.shape)

    return with_gradient(value, (one, two), pull)


def _scale(call: Call) -> Tensor:
    if call.operation.name == "div":
        call.check_first("divisors")
    if not call.single:
        raise no_rule(call.operation.name, _of_several(call))
    return call.passed()


def _activation(call: Call) -> Tensor:
    call.check_first("parameters")
    x, *rest = call.operation.tensors
    with torch.no_grad():
        at_zero = call.operation.run(x.new_zeros(1, *x.shape[1:]), *rest)
    if bool((at_zero != 0).any()):
        raise no_rule(call.operation.name, ", which is not 0 at 0")
    return call.passed()


def _dropout(call: Call) -> Tensor:
    if call.operation.option("training", 2, call.operation.option("train", 2, True)):
        raise no_rule(call.operation.name, " in training mode")
    return with_gradient(call.operation.value().clone(), call.carriers, lambda relevance: (relevance,))


def _of_several(call: Call) -> str:
    return "" if call.single else _TWO


# What only moves, copies, picks or drops numbers: relevance goes the way of the gradient.
_MOVES = frozenset(
    "view reshape view_as reshape_as flatten unflatten permute transpose swapaxes movedim moveaxis t T mT squeeze unsqueeze expand "
    "expand_as repeat repeat_interleave broadcast_to contiguous clone to type type_as float double half bfloat16 cpu cuda __getitem__ "
    "select narrow gather index_select take_along_dim masked_select masked_fill where chunk split tensor_split unbind cat concat "
    "concatenate stack hstack vstack roll flip pad pixel_shuffle pixel_unshuffle channel_shuffle unfold tile amax max amin min "
    "maximum minimum".split()
) | {
    f"{kind}max_pool{axes}d{form}"
    for kind in ("", "adaptive_")
    for axes in (1, 2, 3)
    for form in ("", "_with_indices")
}

_STEPS: dict[str, Callable[[Call], Tensor]] = {
    **dict.fromkeys(ELEMENTWISE, _activation),
    **{f"conv{kind}{axes}d": _weighted for kind in ("", "_transpose") for axes in (1, 2, 3)},
    **{f"{kind}avg_pool{axes}d": _average for kind in ("", "adaptive_") for axes in (1, 2, 3)},
    **dict.fromkeys(("mean", "sum", "interpolate"), _average),
    **dict.fromkeys(("matmul", "__matmul__", "mm", "bmm", "einsum"), product_with_constant),
    **dict.fromkeys(("add", "sub", "rsub"), _sum),
    **dict.fromkeys(("mul", "div", "neg"), _scale),
    **dict.fromkeys(("dropout", "dropout1d", "dropout2d", "dropout3d"), _dropout),
    "linear": _weighted,
    "batch_norm": _batch_norm,
}

# What a batch norm behind can be folded into; the weights of transposed convolutions are laid out otherwise.
_FOLDS = frozenset({"conv1d", "conv2d", "conv3d", "linear"})

_STILL_INPUT = _MOVES | {"add", "sub", "rsub", "mul", "div", "neg"}
