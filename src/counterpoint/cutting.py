"""Whether and how a model can be cut at a layer: by the graph where there is one, else by trying."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, fx, nn

from counterpoint import graph, layers
from counterpoint.equality import close, mixed_gradient
from counterpoint.errors import LayerError, ModelError

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


@dataclass(frozen=True)
class Replaced:
    """The whole module, with a hook at the layer."""

    layer: str

    def features(self, module: nn.Module, inputs: Tensor) -> Any:
        return self.observe(module, inputs)[0]

    def observe(self, module: nn.Module, inputs: Tensor) -> tuple[Any, Any]:
        """The layer's output, and the module's, of one run.

        Raises:
            LayerError: the layer does not run exactly once.
        """
        found: list[Any] = []

        def keep(layer: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
            found.append(output.clone() if isinstance(output, Tensor) else output)

        with layers.watching(module, keep, layers.find_layer(module, self.layer)):
            output = module(inputs)
        if len(found) != 1:
            times = "does not run" if not found else f"runs {len(found)} times"
            raise LayerError(
                f"layer '{self.layer}' {times} in a forward of the model, so it has no single output."
            )
        return found[0], output

    def head(self, module: nn.Module, z: Tensor, inputs: Tensor) -> Any:
        def put_in(layer: nn.Module, arguments: tuple[Any, ...], output: Any) -> Tensor:
            return z.clone()

        with layers.watching(module, put_in, layers.find_layer(module, self.layer)):
            return module(inputs)


@dataclass(frozen=True, eq=False)
class Verdict:
    """What was found out about one layer: how to run it, and why it is no real cut where it is none."""

    parts: Parts
    kind: Kind
    refusal: str = ""


def judge(module: nn.Module, name: str, inputs: Tensor, flow: graph.Flow | None) -> Verdict:
    """Find out how to cut at the layer.

    Args:
        module: The network, with its wrappers.
        name: The layer, as the user names it.
        inputs: A few rows to compare numbers on.
        flow: The network's data flow, None where it cannot be followed.

    Raises:
        LayerError: the layer has no single output, or putting it back changes the model's output.
        ModelError: the model gives two answers to one input.
    """
    replaced, point = Replaced(name), inputs.detach().clone().requires_grad_()
    try:
        features, expected = replaced.observe(module, point)
        _check_features(name, features)
    except LayerError as error:
        nearest = _nearest(flow, module, name) or _nearest_by_trying(module, name, inputs, module(inputs))
        raise LayerError(f"{error}{_advice(nearest)}") from None
    z = features.detach().clone().requires_grad_()
    output = replaced.head(module, z, inputs)
    if not close(output, expected):
        if not close(module(inputs), module(inputs)):
            raise ModelError("the model gives two different outputs for one input; call .eval() on it first.")
        raise LayerError(
            f"putting the output of layer '{name}' back in its place changes the model's output."
        )

    run = _only_run(flow, module, name)
    if flow is not None and run is not None:
        split = _split(flow, run)
        if split is not None:
            # Gradients are compared too: code under torch.no_grad() in a forward leaves no trace in the graph.
            ours = split.features(module, point)
            if _same(ours, features, point):
                part = split.head(module, z, inputs)
                if type(part) is type(output) and _same(part, output, z):
                    return Verdict(split, "split")
        elif run not in flow.cuts() and (nearest := _nearest(flow, module, name)):
            return Verdict(replaced, "partial", _refusal(name, nearest))
    if _decides(replaced, module, z, inputs, expected):
        return Verdict(replaced, "replaced")
    return Verdict(replaced, "partial", _refusal(name, _nearest_by_trying(module, name, inputs, expected)))


def _check_features(name: str, features: Any) -> None:
    if isinstance(features, Tensor) and features.is_floating_point():
        return
    came = f"a tensor of {features.dtype}" if isinstance(features, Tensor) else f"a {type(features).__name__}"
    if isinstance(features, tuple | list | Mapping):
        came += f" of {len(features)}"
    raise LayerError(f"layer '{name}' returns {came}; a cut needs one tensor of real numbers.")


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
    output = replaced.head(module, z.detach(), other)
    return close(output, expected) and not bool(mixed_gradient(output, other).any())


def _refusal(name: str, nearest: str | None) -> str:
    return (
        f"layer '{name}' is passed by: the output also depends on the input by another way, such as a skip connection, so the layer's "
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
    candidates = [*enclosing, *order[here + 1 :], *reversed(order[:here])]
    for candidate in list(dict.fromkeys(candidates))[:tries]:
        replaced = Replaced(candidate)
        try:
            z = replaced.features(module, inputs)
        except LayerError:
            continue
        if isinstance(z, Tensor) and _decides(replaced, module, z, inputs, expected):
            return candidate
    return None
