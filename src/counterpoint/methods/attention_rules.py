"""Rules of relevance beside those of plain convolutional networks: softmax, products of activations, normalisation, gates, attention."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from counterpoint.activations import DotProducts, MultiHead, with_gradient
from counterpoint.methods.propagation import Call, no_rule, product_with_constant, stabilised


def _softmax(call: Call) -> Tensor:
    """R_i = x_i (R'_i - s_i sum over j of R'_j), the gradient times the input."""
    call.check_first("a type")
    dim = call.operation.option("dim", 1)
    if dim is None:  # torch then guesses, and warns
        raise no_rule("softmax", " without dim")

    def pull(relevance: Tensor, x: Tensor) -> tuple[Tensor]:
        s = call.of(x)
        shares = x * (relevance - s * relevance.sum(dim, keepdim=True))
        # What a mask leaves out is minus infinity: it took nothing, and is given nothing.
        return (torch.where(torch.isinf(x), 0.0, shares).to(x.dtype),)

    return with_gradient(call.operation.value(), call.carriers, pull, call.carriers)


def _product(call: Call) -> Tensor:
    """A sum of products a b of activations: each product's share is divided equally between a and b."""
    if call.single:
        return product_with_constant(call)
    operation, epsilon = call.operation, call.rules.epsilon
    if len(operation.tensors) != 2:
        raise no_rule(operation.name, " of three activations")

    def pull(relevance: Tensor, one: Tensor, two: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            points = [each.detach().requires_grad_() for each in (one, two)]
            z = operation.run(*points)
            slopes = torch.autograd.grad(z, points, relevance / stabilised(2 * z.detach(), epsilon))
        return one * slopes[0], two * slopes[1]

    return with_gradient(operation.value(), operation.tensors, pull, operation.tensors)


def _gate(call: Call) -> Tensor:
    """A product number by number: half to each factor; all of it where the other is a constant."""
    if call.single:
        return call.passed()
    one, two = (tensor.shape for tensor in call.operation.tensors)

    def pull(relevance: Tensor) -> tuple[Tensor, Tensor]:
        half = relevance / 2
        return half.sum_to_size(one), half.sum_to_size(two)

    return with_gradient(call.operation.value(), call.operation.tensors, pull)


def _quotient(call: Call) -> Tensor:
    """A normaliser is a constant: all to what is divided."""
    first = call.operation.tensors[0]
    if all(first is not carrier for carrier in call.carriers):
        raise no_rule(call.operation.name, " by activations")
    shape = first.shape
    return with_gradient(call.operation.value(), (first,), lambda relevance: (relevance.sum_to_size(shape),))


def _normalised(call: Call) -> Tensor:
    call.check_first("weights")
    return call.passed()


def _constant(call: Call) -> Tensor:
    """A normaliser: it has no history."""
    return call.operation.value()


def _fused(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    return DotProducts.of_fused(args, kwargs).output()


def _multi_head(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    whole = MultiHead.of(args, kwargs)
    return whole.joined(whole.dot_products().output())


FURTHER: dict[str, Callable[[Call], Tensor]] = {
    "softmax": _softmax,
    **dict.fromkeys(("matmul", "__matmul__", "mm", "bmm", "einsum"), _product),
    "mul": _gate,
    "div": _quotient,
    **dict.fromkeys(("layer_norm", "group_norm", "instance_norm", "rms_norm", "normalize"), _normalised),
    # Gates, which are not 0 at 0: functions of one number each, whose relevance can go nowhere else.
    **dict.fromkeys(("sigmoid", "hardsigmoid"), _normalised),
    **dict.fromkeys(("rsqrt", "std", "var", "norm", "linalg_norm", "linalg_vector_norm"), _constant),
}
"""Beside, and in the place of, the rules for convolutional networks."""

CONSERVATIVE: dict[str, Callable[[Call], Tensor]] = {
    "softmax": _constant,
    **dict.fromkeys(("matmul", "__matmul__", "mm", "bmm", "einsum"), _product),
    "div": _quotient,
    **dict.fromkeys(("layer_norm", "group_norm", "instance_norm", "rms_norm", "normalize"), _normalised),
    **dict.fromkeys(("sigmoid", "hardsigmoid"), _constant),
    **dict.fromkeys(("rsqrt", "std", "var", "norm", "linalg_norm", "linalg_vector_norm"), _constant),
}
"""What decides how much of a signal passes counts as a constant: attention weights, gates, normalisers; all goes to the signal."""

WRITTEN_OUT: dict[str, Callable[[tuple[Any, ...], dict[str, Any]], Tensor]] = {
    "scaled_dot_product_attention": _fused,
    "multi_head_attention_forward": _multi_head,
}
"""Attention as one function, as the operations that it hides."""
