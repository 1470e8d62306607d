"""Whether and how a model can be cut at a layer: by the graph where there is one, else by trying."""

import math
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, fx, nn

from counterpoint import graph, layers
from counterpoint.checks import shape_text
from counterpoint.equality import close, mixed_gradient
from counterpoint.errors import LayerError, ModelError
from counterpoint.everything_through import passed_by
from counterpoint.state import modes

# Rows that a layer mixes change by as much as they are; rounding, which depends on how many rows there are, by far less.
_MIXED = 0.02
_MIXED_IN_HALF_PRECISION = 0.2

Kind = Literal["split", "replaced", "partial"]


class Parts(Protocol):
    """A way to run the two parts. It keeps no reference to the module, which would keep it alive in the cache."""

    def features(self, module: nn.Module, inputs: Tensor) -> Any: ...

    def head(self, module: nn.Module, z: Tensor, inputs: Tensor) -> Any: ...


@dataclass(frozen=True, eq=False)
class Split:
    """The two parts of the graph."""

    node: fx.Node
    entry: fx.Node
    before: graph.Program
    after: graph.Program

    def features(self, module: nn.Module, inputs: Tensor) -> Any:
        return self.before.run(module, {self.entry: inputs})

    def head(self, module: nn.Module, z: Tensor, inputs: Tensor) -> Any:
        # Cloned: an in-place activation right after the layer would overwrite the caller's features.
        return self.after.run(module, {self.node: z.clone(), self.entry: inputs})


@dataclass(frozen=True, eq=False)
class Replaced:
    """The whole module, with a hook at the layer, or at each of several at once."""

    layers: tuple[str, ...]
    _shapes: dict[tuple[int, ...], tuple[tuple[int, ...], ...]] = field(default_factory=dict)
    """Of the features of several layers, for each size of the inputs; without the first axis."""

    def features(self, module: nn.Module, inputs: Tensor) -> Any:
        return self.observe(module, inputs)[0]

    def observe(self, module: nn.Module, inputs: Tensor) -> tuple[Any, Any]:
        """The layer's output, of several each flattened and one after the other; and the module's, of one run.

        Raises:
            LayerError: a layer does not run exactly once, or returns no features.
        """
        found: dict[str, list[Any]] = {name: [] for name in self.layers}

        def keep(name: str) -> Any:
            def hook(layer: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
                found[name].append(output.clone() if isinstance(output, Tensor) else output)

            return hook

        output = self._run(module, inputs, {name: keep(name) for name in self.layers})
        for name, runs in found.items():
            if len(runs) != 1:
                times = "does not run" if not runs else f"runs {len(runs)} times"
                raise LayerError(
                    f"layer '{name}' {times} in a forward of the model, so it has no single output."
                )
            _check_features(name, runs[0], len(inputs))
        features: list[Tensor] = [found[name][0] for name in self.layers]
        if len(features) == 1:
            return features[0], output
        self._shapes[tuple(inputs.shape[1:])] = tuple(tuple(each.shape[1:]) for each in features)
        return torch.cat([each.flatten(1) for each in features], 1), output

    def head(self, module: nn.Module, z: Tensor, inputs: Tensor) -> Any:
        def put(piece: Tensor) -> Any:
            # Cloned: an in-place activation right after the layer would overwrite the caller's features.
            return lambda layer, arguments, output: piece.clone()

        return self._run(
            module,
            inputs,
            {n: put(p) for n, p in zip(self.layers, self._pieces(module, z, inputs), strict=True)},
        )

    def _pieces(self, module: nn.Module, z: Tensor, inputs: Tensor) -> list[Tensor]:
        """The features of each layer, in its own shape."""
        if len(self.layers) == 1:
            return [z]
        size = tuple(inputs.shape[1:])
        if size not in self._shapes:
            with torch.no_grad():
                self.observe(module, inputs[:1])
        shapes = self._shapes[size]
        pieces = torch.split(z, [math.prod(shape) for shape in shapes], 1)
        return [piece.reshape(len(z), *shape) for piece, shape in zip(pieces, shapes, strict=True)]

    def _run(self, module: nn.Module, inputs: Tensor, hooks: Mapping[str, Any]) -> Any:
        with ExitStack() as stack:
            for name, hook in hooks.items():
                stack.enter_context(layers.watching(module, hook, layers.find_layer(module, name)))
            return module(inputs)


@dataclass(frozen=True, eq=False)
class Verdict:
    """What was found out about one layer: how to run it, and why it is no real cut where it is none."""

    parts: Parts
    kind: Kind
    refusal: str = ""
    advised: bool = True
    """Whether the refusal names the nearest layer that is a real cut."""


def judge(
    module: nn.Module, name: str, inputs: Tensor, flow: graph.Flow | None, *, advise: bool = True
) -> Verdict:
    """Find out how to cut at the layer.

    Args:
        module: The network, with its wrappers.
        name: The layer, as the user names it; "a+b" for several at once.
        inputs: A few rows to compare numbers on.
        flow: The network's data flow, None where it cannot be followed.
        advise: Look for the nearest layer that is a real cut, by running others where there is no graph, if this one is none.

    Raises:
        LayerError: the layer has no single output, or putting it back changes the model's output.
        ModelError: the model gives two answers to one input.
    """
    names = layers.layer_parts(module, name)
    replaced, point = Replaced(names), inputs.detach().clone().requires_grad_()
    try:
        features, expected = replaced.observe(module, point.clone())  # a leaf cannot be worked on in place
        _check_rows(replaced, module, name, inputs, features)
    except LayerError as error:
        nearest = _nearest(flow, module, names[-1]) or _nearest_by_trying(
            module, names[-1], inputs, module(inputs)
        )
        raise LayerError(f"{error}{_advice(nearest)}") from None
    z = features.detach().clone().requires_grad_()
    output = replaced.head(module, z, inputs)
    if not close(output, expected):
        if not close(module(inputs), module(inputs)):
            raise ModelError("the model gives two different outputs for one input; call .eval() on it first.")
        raise LayerError(
            f"putting the output of layer '{name}' back in its place changes the model's output."
        )

    # Several at once are put in by hooks: their parts would have to be fed in where each belongs.
    run = _only_run(flow, module, name) if len(names) == 1 else None
    if flow is not None and run is not None:
        split = _split(flow, run)
        if split is not None:
            # Gradients are compared too: code under torch.no_grad() in a forward leaves no trace in the graph.
            ours = split.features(module, point.clone())
            if _same(ours, features, point):
                part = split.head(module, z, inputs)
                if type(part) is type(output) and _same(part, output, z):
                    return Verdict(split, "split")
        elif run not in flow.cuts() and (nearest := _nearest(flow, module, name)):
            return Verdict(replaced, "partial", _refusal(name, nearest))
    if _decides(replaced, module, z, inputs, expected):
        return Verdict(replaced, "replaced")
    nearest = _nearest_by_trying(module, names[-1], inputs, expected) if advise else None
    return Verdict(replaced, "partial", _refusal(name, nearest), advised=advise)


def _check_features(name: str, features: Any, rows: int) -> None:
    if isinstance(features, Tensor) and features.is_floating_point():
        if features.ndim and len(features) == rows:
            return
        raise LayerError(
            f"layer '{name}' returns {shape_text(features)} for {rows} row{'s' if rows > 1 else ''} of inputs: its first axis is not the "
            "batch (attention within windows has windows there), and a cut needs one row of features for each row of inputs."
        )
    came = f"a tensor of {features.dtype}" if isinstance(features, Tensor) else f"a {type(features).__name__}"
    if isinstance(features, tuple | list | Mapping):
        came += f" of {len(features)}"
    raise LayerError(f"layer '{name}' returns {came}; a cut needs one tensor of real numbers.")


def _check_rows(replaced: Replaced, module: nn.Module, name: str, inputs: Tensor, features: Tensor) -> None:
    """Raise LayerError where a row of the features depends on the rows beside it."""
    if any(modes(module)):  # batch norm and drop-out are meant to; that is warned of elsewhere
        return
    company = torch.cat([inputs[:1], inputs[:1].flip(-1)])
    try:
        with torch.no_grad():
            alone, together = features[:1], replaced.features(module, company)[:1]
    except (RuntimeError, AssertionError):
        return  # a model for one row at a time, such as an exported one, mixes none
    half = torch.finfo(features.dtype).eps > 1e-5
    size = alone.detach().abs().nan_to_num().max()
    gap = (together - alone.detach()).abs().nan_to_num().max()
    if together.shape != alone.shape or gap > (_MIXED_IN_HALF_PRECISION if half else _MIXED) * size:
        raise LayerError(
            f"layer '{name}' mixes the rows of a batch: what it returns for an image depends on the images beside it."
        )


def _same(ours: Any, theirs: Any, point: Tensor) -> bool:
    return close(ours, theirs) and close(mixed_gradient(ours, point), mixed_gradient(theirs, point))


def _only_run(flow: graph.Flow | None, module: nn.Module, name: str) -> fx.Node | None:
    """The value that the layer returns, if the graph has exactly one."""
    runs = flow.runs_of(_full_name(module, name)) if flow is not None else []
    return runs[0].node if len(runs) == 1 else None


def _full_name(module: nn.Module, name: str) -> str:
    names: dict[nn.Module, str] = {layer: full for full, layer in module.named_modules()}
    return names[layers.find_layer(module, name)]


def _split(flow: graph.Flow, node: fx.Node) -> Split | None:
    if node not in flow.cuts() or (after := flow.after(node)) is None:
        return None
    return Split(node=node, entry=flow.entry, before=flow.before(node), after=after)


def _decides(replaced: Replaced, module: nn.Module, z: Tensor, inputs: Tensor, expected: Any) -> bool:
    """Whether z alone decides the output: under fixed z, other inputs change nothing, and no gradient reaches the inputs."""
    generator = torch.Generator().manual_seed(0)
    low, high = inputs.min(), inputs.max()
    noise = torch.rand(inputs.shape, generator=generator).to(inputs)
    other = (low + (high - low) * noise).requires_grad_()
    output = replaced.head(module, z.detach(), other.clone())
    return close(output, expected) and not bool(mixed_gradient(output, other).any())


def _refusal(name: str, nearest: str | None) -> str:
    what = f"layers '{name}' together are" if layers.JOIN in name else f"layer '{name}' is"
    return (
        f"{what} passed by: the output also depends on the input by another way, such as a skip connection, so the layer's "
        f"features do not decide the score.{_advice(nearest)} bypass='intervene' (--bypass intervene) accepts the layer as an intervention."
    )


def _advice(nearest: str | None) -> str:
    return (
        f" The nearest layer that is a real cut is '{nearest}'."
        if nearest
        else " No layer near it is a real cut."
    )


def _nearest(flow: graph.Flow | None, module: nn.Module, name: str) -> str | None:
    """The nearest real cut at or after the layer, else the nearest before it; of several names for one value, the outermost."""
    if flow is None:
        return None
    cuts = flow.cuts()
    place = {node: k for k, node in enumerate(flow.graph.nodes)}
    own = layers.unwrapped(module)[0]
    full = _full_name(module, name)
    inside = full + "."
    ends = [k for k, run in enumerate(flow.runs) if run.name == full or run.name.startswith(inside)]
    here = max((place[n] for k in ends if (n := flow.runs[k].node) is not None), default=0)
    best: dict[int, str] = {}
    for run in flow.runs:
        if (
            run.node in cuts
            and run.name.startswith(own)
            and len(flow.runs_of(run.name)) == 1
            and run.name != full
        ):
            best[cuts[run.node]] = run.name.removeprefix(
                own
            )  # an enclosing layer returns later: the outermost stays
    later, earlier = [k for k in best if k >= here], [k for k in best if k < here]
    return best[min(later)] if later else best[max(earlier)] if earlier else None


def _nearest_by_trying(
    module: nn.Module, name: str, inputs: Tensor, expected: Any, *, tries: int = 16
) -> str | None:
    """The same without a graph: enclosing layers from the innermost on, then those that return later, then earlier ones."""
    order = list(layers.output_shapes(module, inputs[:1]))
    parts = name.split(".")
    enclosing = [".".join(parts[:k]) for k in range(len(parts) - 1, 0, -1)]
    here = order.index(name) if name in order else 0
    candidates = dict.fromkeys([*enclosing, *order[here + 1 :], *reversed(order[:here])])
    # What autograd saw pass by is not tried: networks that cannot be traced have hundreds of layers.
    passed = passed_by(module, inputs[:1])
    for candidate in [each for each in candidates if not passed.get(each) and each != name][:tries]:
        replaced = Replaced((candidate,))
        try:
            z = replaced.features(module, inputs)
        except LayerError:
            continue
        if _decides(replaced, module, z, inputs, expected):
            return candidate
    return None
