"""Attention as it runs: its probabilities and, on the way back, the gradient of the score with respect to them.

Three forms are seen, whatever the model around them: `multi_head_attention_forward`, the function behind `nn.MultiheadAttention`;
`scaled_dot_product_attention`; and a softmax whose result is multiplied with values. The first two do not hand out their probabilities:
these are computed again from what went in, and the output that follows from them is held against the model's own.
"""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from counterpoint.activations.operations import Operation, at_least_float32, name_of
from counterpoint.checks import shape_text
from counterpoint.errors import ModelError

FUSED = frozenset({"multi_head_attention_forward", "scaled_dot_product_attention"})
"""Attention as one function, its softmax hidden inside."""

_PRODUCTS = frozenset({"matmul", "__matmul__", "bmm", "einsum"})

# What may stand between the softmax and the product: none of these changes the order of the numbers.
_BETWEEN = frozenset(
    "to type type_as float half bfloat16 double contiguous clone dropout view reshape flatten unflatten squeeze unsqueeze".split()
)

# Recomputed and own output, as a share of the largest number. Fused kernels in float32 differ by about 1e-6.
_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}
_TOLERANCE_16_BITS = 0.05

Reduce = Callable[[Tensor, Tensor], Tensor]
"""From probabilities (rows, heads, tokens, tokens) and the gradient with respect to them to what is kept of one attention."""


@dataclass(frozen=True, eq=False)
class DotProducts:
    """Scaled dot-product attention, written out: softmax(scale * Q K^T + mask) V."""

    query: Float[Tensor, "*rows queries part"]
    key: Float[Tensor, "*rows keys part"]
    value: Float[Tensor, "*rows keys part_of_value"]
    mask: Tensor | None
    """Added to the products where it holds numbers; where it holds booleans, False is left out."""
    scale: float

    @classmethod
    def of_fused(cls, args: tuple[Any, ...], kwargs: dict[str, Any]) -> "DotProducts":
        """What `scaled_dot_product_attention` was asked for.

        Raises:
            ModelError: its dropout is active.
        """
        given = dict(
            zip(("query", "key", "value", "attn_mask", "dropout_p", "is_causal"), args, strict=False)
        )
        given |= kwargs
        _check_dropout(given.get("dropout_p", 0.0))
        query, key, value = given["query"], given["key"], given["value"]
        if given.get("enable_gqa", False):  # each key and value serves several queries
            key = key.repeat_interleave(query.shape[-3] // key.shape[-3], -3)
            value = value.repeat_interleave(query.shape[-3] // value.shape[-3], -3)
        mask = given.get("attn_mask")
        if given.get("is_causal", False):
            mask = query.new_ones(query.shape[-2], key.shape[-2], dtype=torch.bool).tril()
        scale = given.get("scale")
        return cls(query, key, value, mask, 1 / math.sqrt(query.shape[-1]) if scale is None else scale)

    def probabilities(self) -> Float[Tensor, "*rows queries keys"]:
        """What each query takes from each key; rows sum to 1."""
        products = (self.scale * self.query) @ self.key.transpose(-2, -1)
        if self.mask is None:
            return products.softmax(-1)
        if self.mask.dtype == torch.bool:
            return products.masked_fill(~self.mask, -math.inf).softmax(-1)
        return (products + self.mask).softmax(-1)

    def output(self) -> Float[Tensor, "*rows queries part_of_value"]:
        """The values, each weighted with its probability."""
        return self.probabilities() @ self.value


@dataclass(frozen=True, eq=False)
class MultiHead:
    """A call of `multi_head_attention_forward`: projections, attention, and a projection of what comes out of it."""

    given: dict[str, Any]
    """Its arguments by their names."""

    @classmethod
    def of(cls, args: tuple[Any, ...], kwargs: dict[str, Any]) -> "MultiHead":
        """The call, checked.

        Raises:
            ModelError: its dropout is active, or it has keys of its own: `bias_k`, `add_zero_attn`, static ones.
        """
        bound = _MULTI_HEAD.bind(*args, **kwargs)
        bound.apply_defaults()
        given = dict(bound.arguments)
        _check_dropout(given["dropout_p"] if given["training"] else 0.0)
        for name in ("bias_k", "bias_v", "static_k", "static_v"):
            if given[name] is not None:
                raise ModelError(
                    f"attention with keys of its own ({name}) has no reading as attention between tokens."
                )
        if given["add_zero_attn"]:
            raise ModelError(
                "attention with keys of its own (add_zero_attn) has no reading as attention between tokens."
            )
        return cls(given)

    def dot_products(self) -> DotProducts:
        """The attention itself; rows come first, also of a network that has tokens first."""
        heads = self.given["num_heads"]
        # (tokens, rows, heads * part) to (rows, heads, tokens, part)
        query, key, value = (
            torch.unflatten(each, -1, (heads, -1)).permute(1, 2, 0, 3) for each in self._projected()
        )
        return DotProducts(query, key, value, self._mask(query), 1 / math.sqrt(query.shape[-1]))

    def joined(self, output: Float[Tensor, "rows heads queries part"]) -> Tensor:
        """What the call returns, in its own shape, from what the attention returned."""
        flat = output.permute(2, 0, 1, 3).flatten(2)
        joined: Tensor = F.linear(flat, self.given["out_proj_weight"], self.given["out_proj_bias"])
        return joined if self._batched else joined.squeeze(1)

    def output_gradient(self, gradient: Tensor) -> Float[Tensor, "rows heads queries part"]:
        """The gradient with respect to what the attention returned, from that of what the call returned."""
        gradient = gradient if self._batched else gradient.unsqueeze(1)
        flat = gradient @ self.given["out_proj_weight"]
        return torch.unflatten(flat, -1, (self.given["num_heads"], -1)).permute(1, 2, 0, 3)

    @property
    def _batched(self) -> bool:
        return bool(self.given["query"].ndim == 3)

    def _projected(self) -> tuple[Tensor, Tensor, Tensor]:
        tensors = [self.given[name] for name in ("query", "key", "value")]
        if not self._batched:
            same = [tensor is tensors[0] for tensor in tensors]
            first = tensors[0].unsqueeze(1)
            tensors = [
                first if is_same else tensor.unsqueeze(1)
                for is_same, tensor in zip(same, tensors, strict=True)
            ]
        bias = self.given["in_proj_bias"]
        if self.given["use_separate_proj_weight"]:
            weights = [self.given[f"{name}_proj_weight"] for name in "qkv"]
        elif tensors[0] is tensors[1] and tensors[1] is tensors[2]:
            query, key, value = F.linear(tensors[0], self.given["in_proj_weight"], bias).chunk(3, -1)
            return query, key, value
        else:
            weights = list(self.given["in_proj_weight"].chunk(3))
        biases = [None] * 3 if bias is None else list(bias.chunk(3))
        query, key, value = (F.linear(*each) for each in zip(tensors, weights, biases, strict=True))
        return query, key, value

    def _mask(self, query: Tensor) -> Tensor | None:
        """Both masks as numbers to be added: what is True in them is left out."""
        whole: Tensor | None = None
        mask, padding = self.given["attn_mask"], self.given["key_padding_mask"]
        if mask is not None:
            whole = _as_numbers(mask, query)
            if whole.ndim == 3:  # (rows * heads, queries, keys)
                whole = torch.unflatten(whole, 0, query.shape[:2])
        if padding is not None:
            # (rows, keys)
            kept = _as_numbers(padding, query).view(-1, 1, 1, padding.shape[-1])
            whole = kept if whole is None else whole + kept
        return whole


_MULTI_HEAD = inspect.signature(F.multi_head_attention_forward)


class Attending(TorchFunctionMode):
    """Keeps, of every attention that the score depends on, what `reduce` makes of its probabilities and their gradient.

    Values and gradients of the run stay what they are, bit for bit. The gradient is known once the backward pass has come by; until then
    `calls` hold none.

    Parameters:
        reduce: Called on the way back, last attention first, with numbers in float32 at least.

    Raises:
        ModelError: dropout on the probabilities is active, or the output that follows from them is not the model's own.
    """

    def __init__(self, reduce: Reduce) -> None:
        super().__init__()
        self._reduce = reduce
        self.calls: list[AttentionCall] = []
        """In the order of their run."""
        self.loose: list[tuple[int, ...]] = []
        """Shapes of softmax results (three axes at least, over the last) that were multiplied with no values."""
        self.token_counts: set[int] = set()
        """How long the sequences were that linear layers met: (rows, tokens, channels), or tokens first."""
        # By identity, and kept alive while the forward lasts, so that no other tensor gets the same one.
        self._softmax: dict[int, _Softmax] = {}

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        super().__exit__(kind, error, trace)  # type: ignore[no-untyped-call]
        found = {id(each.probabilities): each for each in self._softmax.values()}
        self.loose = [tuple(each.probabilities.shape) for each in found.values() if not each.used]
        self._softmax.clear()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Called by torch in the place of `func`."""
        kwargs = kwargs or {}
        name, _ = name_of(func)
        if name == "linear" and args and args[0].ndim == 3:
            self.token_counts |= set(args[0].shape[:2])
        if name in FUSED:
            result = func(*args, **kwargs)
            self._meet_fused(name, args, kwargs, result)
            return result
        known = (
            [self._softmax[id(each)] for each in args if id(each) in self._softmax] if self._softmax else []
        )
        if known and name == "dropout":
            _check_dropout(_active_dropout(Operation.of(func, args, kwargs)))
        result = func(*args, **kwargs)
        if (
            name == "softmax"
            and result.ndim >= 3
            and _over_last(Operation.of(func, args, kwargs), result.ndim)
        ):
            self._softmax[id(result)] = _Softmax(result)
        elif known and name in _PRODUCTS:
            self._meet_product(Operation.of(func, args, kwargs), known[0], result)
        elif known and name in _BETWEEN:
            self._softmax[id(result)] = known[0].through(result)
        return result

    def _meet_fused(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        multi_head = MultiHead.of(args, kwargs) if name == "multi_head_attention_forward" else None
        with torch.no_grad():
            parts = DotProducts.of_fused(args, kwargs) if multi_head is None else multi_head.dot_products()
        output = result if multi_head is None else result[0]
        call = AttentionCall(parts.query.shape[:-1] + parts.key.shape[-2:-1])
        self.calls.append(call)

        def meet(gradient: Tensor) -> None:
            exact = at_least_float32(parts.query)
            kept = DotProducts(
                parts.query.to(exact),
                parts.key.to(exact),
                parts.value.to(exact),
                parts.mask if parts.mask is None or parts.mask.dtype == torch.bool else parts.mask.to(exact),
                parts.scale,
            )
            probabilities = kept.probabilities()
            if multi_head is not None:
                gradient = multi_head.output_gradient(gradient)
            _finish(
                call, self._reduce, probabilities, gradient.to(exact) @ kept.value.transpose(-2, -1), gradient
            )

        with torch.no_grad():
            again = parts.output()
            _check_equal(again if multi_head is None else multi_head.joined(again), output)
        if output.requires_grad:
            output.register_hook(meet)

    def _meet_product(self, operation: Operation, softmax: "_Softmax", result: Tensor) -> None:
        if softmax.used:
            return  # more values under the same probabilities; the first ones speak for them
        softmax.used = True
        whole = softmax.probabilities
        call = AttentionCall(tuple(whole.shape))
        self.calls.append(call)
        place = next(k for k, each in enumerate(operation.tensors) if id(each) in self._softmax)
        tensors = [tensor.detach() for tensor in operation.tensors]

        def meet(gradient: Tensor) -> None:
            with torch.enable_grad():
                point = tensors[place].detach().requires_grad_()
                again = operation.run(*tensors[:place], point, *tensors[place + 1 :])
                (slope,) = torch.autograd.grad(again, point, gradient)
            exact = at_least_float32(whole)
            numbers = whole.detach().to(exact)
            _finish(call, self._reduce, numbers, slope.to(exact).reshape(numbers.shape), gradient)

        if result.requires_grad:
            result.register_hook(meet)  # type: ignore[no-untyped-call]


@dataclass(eq=False)
class AttentionCall:
    """One attention in a run."""

    shape: tuple[int, ...]
    """Of its probabilities, usually (rows, heads, queries, keys)."""
    kept: Tensor | None = None
    """What was made of them; None before the backward pass, and where the score does not depend on them."""
    read: Tensor | None = None
    """Which queries' outputs the score depends on from here on, (rows, queries)."""


def _finish(
    call: AttentionCall, reduce: Reduce, probabilities: Tensor, slope: Tensor, gradient: Tensor
) -> None:
    if probabilities.ndim == 3:  # one head
        probabilities, slope, gradient = (each.unsqueeze(1) for each in (probabilities, slope, gradient))
    if probabilities.ndim != 4 or gradient.ndim != 4:
        return
    call.kept = reduce(probabilities, slope)
    call.read = (gradient != 0).any(-1).any(1)


@dataclass(eq=False)
class _Softmax:
    """A softmax that may turn out to be the probabilities of an attention."""

    probabilities: Tensor
    used: bool = False
    _same: "tuple[Tensor, ...]" = ()

    def through(self, result: Tensor) -> "_Softmax":
        """The same, known by another tensor too, which is kept alive."""
        self._same = (*self._same, result)
        return self


def _over_last(operation: Operation, ndim: int) -> bool:
    dim = operation.option("dim", 1)
    return dim is not None and dim % ndim == ndim - 1


def _active_dropout(operation: Operation) -> float:
    active = operation.option("training", 2, operation.option("train", 2, True))
    return float(operation.option("p", 1, 0.5)) if active else 0.0


def _check_dropout(share: float) -> None:
    if share > 0:
        raise ModelError(
            f"dropout of {share:g} on the attention is active, so that there is no one attention to look at; call model.eval()."
        )


def _as_numbers(mask: Tensor, like: Tensor) -> Tensor:
    if mask.dtype != torch.bool:
        return mask.to(like)
    return like.new_zeros(mask.shape).masked_fill(mask, -math.inf)


def _check_equal(again: Tensor, own: Tensor) -> None:
    """Raise unless recomputed attention is the model's own, but for rounding."""
    own = own.detach()
    tolerance = _TOLERANCE.get(own.dtype, _TOLERANCE_16_BITS)
    difference, largest = (again - own).abs().max(), own.abs().max()
    if again.shape != own.shape or bool(difference > tolerance * largest):
        raise ModelError(
            f"attention of {shape_text(own)} cannot be recomputed: what follows from its queries, keys and values differs from its output "
            f"by {float(difference / largest):.1e} of the largest number."
        )
