"""Layers by name: which there are, which module a name means, and which are the usual choices.

Names are the user's own. A wrapper (normalisation before the network, `torch.compile`, data parallel) adds a prefix to the names of
everything inside it; that prefix is left out here and accepted where it is given. "a+b" names two layers together, as one cut.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from counterpoint.errors import InputError, LayerError, UnknownNameError

JOIN = "+"
"""Stands between the names of layers that are cut together."""


@dataclass(frozen=True, eq=False)
class Seen:
    """One run of a layer that returned a tensor."""

    name: str
    module: nn.Module
    output: Tensor
    read: Tensor | None = None
    """The first argument, where that is a tensor."""
    version: int = 0
    """Of the output at its return: it is raised by each step in place, so that equal memory of another version is another value."""


def unwrapped(module: nn.Module) -> tuple[str, nn.Module]:
    """The user's own network inside its wrappers, and the prefix that they put before its layer names.

    A wrapper is a module whose class names the child it wraps, `wraps = "model"`; a compiled module; a data-parallel one.

    Returns:
        ("model.", the network) for one wrapper; ("", module) for a module that is none.
    """
    prefix = ""
    while (child := _wrapped_child(module)) is not None:
        prefix += f"{child}."
        module = getattr(module, child)
    return prefix, module


def _wrapped_child(module: nn.Module) -> str | None:
    wraps = getattr(type(module), "wraps", None)
    if isinstance(wraps, str):
        return wraps
    if "_orig_mod" in module._modules:  # torch.compile's OptimizedModule
        return "_orig_mod"
    return "module" if isinstance(module, DataParallel | DistributedDataParallel) else None


def eager(module: nn.Module) -> nn.Module:
    """The module without `torch.compile` or data parallelism around it: there layers run one by one, in one process, and hooks see them."""
    while isinstance(module, DataParallel | DistributedDataParallel) or "_orig_mod" in module._modules:
        module = getattr(module, str(_wrapped_child(module)))
    return module


def layer_names(module: nn.Module) -> list[str]:
    """The dotted name of every layer, in the order in which they were registered; the network itself is none of them."""
    return [name for name, _ in unwrapped(module)[1].named_modules() if name]


def own_name(module: nn.Module, layer: nn.Module) -> str:
    """The name of a layer as the user knows it; a part of a wrapper keeps its full name."""
    inner = unwrapped(module)[1]
    for root in (inner, module):
        names: dict[nn.Module, str] = {candidate: name for name, candidate in root.named_modules()}
        if layer in names:
            return names[layer]
    raise LayerError(f"a {type(layer).__name__} is no layer of this {type(inner).__name__}.")


def find_layer(module: nn.Module, name: str) -> nn.Module:
    """The layer of that name, with or without the prefix of the wrappers.

    Raises:
        UnknownNameError: there is none; the message has the nearest name.
    """
    _check_name(name)
    prefix, inner = unwrapped(module)
    for root in (inner, module):
        layers: dict[str, nn.Module] = dict(
            root.named_modules(remove_duplicate=False)
        )  # a shared module answers to all its names
        if name and name in layers and layers[name] is not inner:
            return layers[name]
    raise UnknownNameError.among("layer", name.removeprefix(prefix), layer_names(module))


def joint(*names: str) -> str:
    """Several layers as one cut: their features are put in together, and together they must decide the output.

    The levels of a feature pyramid are such layers: each is passed by through the others, all of them are not.

    Args:
        names: The layers, two or more; their features come in this order.

    Returns:
        The text that stands for them wherever a layer is named: "p3+p4".

    Raises:
        InputError: fewer than two, one of them twice, or one inside another.

    Example:
        `cp.compare(score, images, baseline=blur, layer=cp.joint("fpn.p3", "fpn.p4"))`
    """
    parts = [part for name in names for part in name.split(JOIN)]
    if len(parts) < 2:
        raise InputError(f"joint needs the names of two layers or more, got {len(parts)}.")
    _check_apart(parts)
    return JOIN.join(parts)


def _check_name(name: object) -> None:
    if not isinstance(name, str):
        came = f"the module {type(name).__name__}(...)" if isinstance(name, nn.Module) else repr(name)
        raise InputError(
            f"layer must be a dotted name, such as 'layer4', or cp.joint(...) of several, got {came}."
        )


def layer_parts(module: nn.Module, name: str) -> tuple[str, ...]:
    """The layers that a name means: itself, or the parts of "a+b".

    Raises:
        UnknownNameError: no such layer; the message has the nearest name.
        InputError: one layer twice, or one inside another.
    """
    _check_name(name)
    if JOIN not in name or name in layer_names(module):
        find_layer(module, name)
        return (name,)
    parts = tuple(name.split(JOIN))
    _check_apart([own_name(module, find_layer(module, part)) for part in parts])
    return parts


def _check_apart(names: list[str]) -> None:
    """Raise InputError where features would be there twice."""
    for k, name in enumerate(names):
        if name in names[:k]:
            raise InputError(f"a joint cut takes each layer once, but '{name}' is there twice.")
        inside = next((other for other in names if other != name and name.startswith(other + ".")), None)
        if inside is not None:
            raise InputError(
                f"a joint cut takes layers beside each other, but '{name}' is inside '{inside}'; leave one of them out."
            )


@contextmanager
def watching(
    module: nn.Module, hook: Callable[[nn.Module, tuple[Any, ...], Any], Any], *layers: nn.Module
) -> Iterator[None]:
    """Have `hook(layer, arguments, output)` called after each run of the layers (all of them if none is named).

    What the hook returns, unless None, takes the place of the output. It sees what the network's own hooks on the layer left, and is
    gone at the end of the block, also after an exception.
    """
    watched = layers or tuple(child for child in unwrapped(module)[1].modules())
    handles = [layer.register_forward_hook(hook) for layer in watched]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def run_once(module: nn.Module, inputs: Float[Tensor, "batch *input"]) -> list[Seen]:
    """Run the network once, without gradients, and list every tensor that a layer returned, in the order of their return.

    A layer that runs twice is there twice; one that returns a tuple is not there. Enclosing layers return after the layers inside them.
    """
    with torch.no_grad():
        return run_and_output(module, inputs)[0]


def run_and_output(module: nn.Module, inputs: Float[Tensor, "batch *input"]) -> tuple[list[Seen], Any]:
    """What `run_once` lists, with gradients where the caller has them on, and the output of the network."""
    names = {layer: name for name, layer in unwrapped(module)[1].named_modules() if name}
    seen: list[Seen] = []

    def keep(layer: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
        if isinstance(output, Tensor) and layer in names:
            read = arguments[0] if arguments and isinstance(arguments[0], Tensor) else None
            version = 0 if output.is_inference() else output._version
            seen.append(Seen(names[layer], layer, output, read, version))

    with watching(module, keep):
        output = module(inputs)
    return seen, output


def output_shapes(module: nn.Module, inputs: Float[Tensor, "batch *input"]) -> dict[str, tuple[int, ...]]:
    """The shape of what each layer returns for these inputs, in the order in which the layers return.

    Layers that do not run, or return no tensor, are left out; one that runs several times has its last shape.
    """
    return {seen.name: tuple(seen.output.shape) for seen in run_once(module, inputs)}


def last_linear(
    module: nn.Module, inputs: Float[Tensor, "batch *input"]
) -> tuple[str, Float[Tensor, "batch features"]]:
    """The name of the last linear layer that runs on (batch, features), and what went into it.

    Raises:
        LayerError: no linear layer runs on (batch, features).
    """
    return _last_linear(module, inputs)[:2]


def penultimate_layer(module: nn.Module, inputs: Float[Tensor, "batch *input"]) -> str:
    """The layer whose output the last linear layer reads: pooling, or the drop-out or activation after it.

    The output may have another shape than the linear layer's input, (batch, features, 1, 1) for one, but the same numbers; where the
    linear layer reads only a part (the class token), it is the layer that returns the whole.

    Raises:
        LayerError: there is no such linear layer, or what it reads was computed outside every layer.
    """
    linear, read, earlier = _last_linear(module, inputs)
    # `earlier` holds every output, so no memory was given out twice: equal addresses are one tensor, or views of it.
    memory = read.untyped_storage().data_ptr()
    same = [each for each in earlier if each.output.untyped_storage().data_ptr() == memory]
    whole = [each for each in same if each.output.numel() == read.numel()]
    if not same:
        raise LayerError(
            f"what '{linear}' reads is computed outside every layer; name the layer to use instead."
        )
    return (whole or same)[-1].name


def _last_linear(module: nn.Module, inputs: Tensor) -> tuple[str, Tensor, list[Seen]]:
    """The last linear layer, its input, and what the layers before it returned."""
    inner = unwrapped(module)[1]
    names = {layer: name for name, layer in inner.named_modules()}
    seen: list[Seen] = []
    found: list[tuple[str, Tensor, list[Seen]]] = []

    def keep(layer: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
        if isinstance(layer, nn.Linear) and arguments and arguments[0].ndim == 2:
            found.append((names[layer], arguments[0], list(seen)))
        if isinstance(output, Tensor) and names[layer]:
            seen.append(Seen(names[layer], layer, output))

    with torch.no_grad(), watching(module, keep):
        module(inputs)
    if not found:
        raise LayerError("no nn.Linear runs on (batch, features); name the layer.")
    return found[-1]


def token_grid(tokens: int, image_size: tuple[int, int]) -> tuple[int, int, int] | None:
    """How a sequence of tokens lies on the image: (tokens before the grid, rows, columns).

    The grid is that of square patches which tile the image; what comes before it are class, distillation and register tokens. The
    fewest of these are taken that fit, at most 16; None where no grid fits.
    """
    height, width = image_size
    sides = [side for side in range(1, math.gcd(height, width) + 1) if height % side == width % side == 0]
    for extra in range(min(17, tokens)):
        for side in sides:
            if (height // side) * (width // side) == tokens - extra:
                return extra, height // side, width // side
    return None
