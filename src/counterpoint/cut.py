"""The model before and after a layer.

A cut runs the model up to a layer, `features`, and from it on, `head`. It is a real cut if the layer's output decides the model's output
alone; only then can the parts of an explanation at the layer sum to the change of the score. There are three kinds:

split     the graph proves a real cut, and only the part after the layer is run by `head`.
replaced  the graph cannot be followed; `head` runs the whole model and puts z in the place of the layer's output. That this is a real cut
          was tested, not proven: under fixed z another input changes neither the output nor its gradient.
partial   not a real cut, accepted with bypass="intervene": the whole model runs, with z put in. What passes by the layer stays.

Verdicts are kept for as long as the module lives, by identity: whoever changes its structure afterwards works with a copy or a new one.
Weights, device, type and training mode may change.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Literal, Protocol
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor, fx, nn

from counterpoint import graph, layers
from counterpoint.errors import InputError, LayerError, ModelError

Kind = Literal["split", "replaced", "partial"]
Bypass = Literal["refuse", "intervene"]


class _Parts(Protocol):
    """A way to run the two parts. It keeps no reference to the module, which would keep it alive in the cache."""

    def features(self, module: nn.Module, inputs: Tensor) -> Any: ...

    def head(self, module: nn.Module, z: Tensor, inputs: Tensor) -> Any: ...


@dataclass(frozen=True, eq=False)
class Cut:
    """A module, cut at one layer. Made by `open_cut`."""

    module: nn.Module = field(repr=False)
    layer: str
    """The layer's name as the user knows it."""
    kind: Kind
    _parts: _Parts = field(repr=False)
    _modes: tuple[bool, ...] = field(repr=False)

    def features(self, inputs: Float[Tensor, "rows *input"]) -> Float[Tensor, "rows *features"]:
        """What the layer returns for these inputs; differentiable, and a tensor of its own that later steps do not overwrite."""
        self._check_unchanged()
        features: Tensor = self._parts.features(self.module, inputs)
        return features

    def head(self, z: Float[Tensor, "rows *features"], inputs: Float[Tensor, "rows *input"]) -> Any:
        """What the module would return for `inputs` if the layer's output were `z`; differentiable in z, which is left as it is.

        Args:
            z: Features, as many rows as `inputs`.
            inputs: Where the kind is "split" only their shape may be read; otherwise they go through the whole module.
        """
        self._check_unchanged()
        return self._parts.head(self.module, z, inputs)

    def _check_unchanged(self) -> None:
        if self.kind == "split" and (
            graph.modes(self.module) != self._modes or graph.hooked_inside(self.module)
        ):
            raise LayerError(
                f"the model got hooks, or went from or to training mode, after the cut at '{self.layer}' was opened; open it again."
            )


@dataclass(frozen=True, eq=False)
class _Split:
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
class _Replaced:
    """The whole module, with a hook at the layer."""

    layer: str

    def features(self, module: nn.Module, inputs: Tensor) -> Any:
        found: list[Any] = []

        def keep(layer: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
            found.append(output.clone() if isinstance(output, Tensor) else output)

        with layers.watching(module, keep, layers.find_layer(module, self.layer)):
            module(inputs)
        if len(found) != 1:
            times = "does not run" if not found else f"runs {len(found)} times"
            raise LayerError(
                f"layer '{self.layer}' {times} in a forward of the model, so it has no single output."
            )
        return found[0]

    def head(self, module: nn.Module, z: Tensor, inputs: Tensor) -> Any:
        def put_in(layer: nn.Module, arguments: tuple[Any, ...], output: Any) -> Tensor:
            return z.clone()

        with layers.watching(module, put_in, layers.find_layer(module, self.layer)):
            return module(inputs)


@dataclass(frozen=True, eq=False)
class _Verdict:
    """What was found out about one layer: how to run it, or why it is no real cut."""

    parts: _Parts
    kind: Kind
    refusal: str = ""


@dataclass(eq=False)
class _Known:
    """What was found out about one module."""

    flows: dict[tuple[bool, ...], graph.Flow | None] = field(default_factory=dict)
    verdicts: dict[tuple[nn.Module | str | bool | tuple[bool, ...], ...], _Verdict] = field(
        default_factory=dict
    )


_known: WeakKeyDictionary[nn.Module, _Known] = WeakKeyDictionary()


def open_cut(
    module: nn.Module, layer: str, example: Float[Tensor, "batch *input"], *, bypass: Bypass = "refuse"
) -> Cut:
    """Cut a module at a layer.

    Args:
        module: The whole network, normalisation included.
        layer: The layer's name, see `layers.layer_names`.
        example: Inputs to check the cut on; the first two are used, once per module and layer.
        bypass: What to do where something passes by the layer, as a skip connection does: "refuse", or "intervene" and accept it as
            an intervention, kind "partial".

    Raises:
        UnknownNameError: no such layer.
        LayerError: the layer does not run, runs more than once, returns no single tensor, or is passed by; the message names the
            nearest layer that is a real cut.
        ModelError: the model gives two answers to one input.
    """
    if bypass not in ("refuse", "intervene"):
        raise InputError(f"bypass must be 'refuse' or 'intervene', got {bypass!r}.")
    if isinstance(module, layers.DataParallel | layers.DistributedDataParallel):
        module = module.module
    name = layers.own_name(module, layers.find_layer(module, layer))
    now = graph.modes(module)
    known = _known.setdefault(module, _Known())
    hooked = graph.hooked_inside(module)
    key = (name, now, hooked)
    if key not in known.verdicts:
        # Outside of inference mode, and with gradients: the check compares them too.
        with torch.inference_mode(False), torch.enable_grad(), graph.left_as_found(module):
            known.verdicts[key] = _judge(module, name, example[:2].detach().clone(), _flow(module, hooked))
    verdict = known.verdicts[key]
    if verdict.refusal and bypass == "refuse":
        raise LayerError(verdict.refusal)
    return Cut(module=module, layer=name, kind=verdict.kind, _parts=verdict.parts, _modes=now)


def _flow(module: nn.Module, hooked: bool) -> graph.Flow | None:
    flows, now = _known.setdefault(module, _Known()).flows, graph.modes(module)
    if hooked:
        return None
    if now not in flows:
        flows[now] = graph.trace(module)
    return flows[now]


def _judge(module: nn.Module, name: str, inputs: Tensor, flow: graph.Flow | None) -> _Verdict:
    """Find out how to cut at the layer, by the graph where there is one, else by trying."""
    replaced = _Replaced(name)
    expected = module(inputs)
    if not _close(module(inputs), expected):
        raise ModelError("the model gives two different outputs for one input; call .eval() on it first.")
    z = _checked_features(replaced, module, inputs, flow)
    if not _close(replaced.head(module, z, inputs), expected):
        raise LayerError(
            f"putting the output of layer '{name}' back in its place changes the model's output."
        )
    if flow is not None and (run := _single_run(flow, module, name)) is not None:
        cuts = flow.cuts()
        if run.node in cuts:
            split = _split(flow, run.node)
            if split is not None and _agree(split, replaced, module, inputs):
                return _Verdict(split, "split")
        elif nearest := _nearest(flow, cuts, module, name):
            return _Verdict(replaced, "partial", _refusal(name, nearest))
    if _decides(replaced, module, z, inputs, expected):
        return _Verdict(replaced, "replaced")
    return _Verdict(replaced, "partial", _refusal(name, _nearest_by_trying(module, name, inputs, expected)))


def _checked_features(
    replaced: _Replaced, module: nn.Module, inputs: Tensor, flow: graph.Flow | None
) -> Tensor:
    """The layer's features, with the real cut that lies nearest in the message where it has none."""
    try:
        z = replaced.features(module, inputs)
        if isinstance(z, Tensor) and z.is_floating_point():
            return z
        came = (
            f"a tensor of {z.dtype}"
            if isinstance(z, Tensor)
            else f"a {type(z).__name__}" + (f" of {len(z)}" if isinstance(z, tuple | list | Mapping) else "")
        )
        raise LayerError(f"layer '{replaced.layer}' returns {came}; a cut needs one tensor of real numbers.")
    except LayerError as error:
        nearest = _nearest(flow, flow.cuts(), module, replaced.layer) if flow else None
        nearest = nearest or _nearest_by_trying(module, replaced.layer, inputs, module(inputs))
        raise LayerError(f"{error}{_advice(nearest)}") from None


def _single_run(flow: graph.Flow, module: nn.Module, name: str) -> graph.LayerRun | None:
    runs = flow.runs_of(_full_name(module, name))
    return runs[0] if len(runs) == 1 and runs[0].node is not None else None


def _full_name(module: nn.Module, name: str) -> str:
    layer = layers.find_layer(module, name)
    return next(full for full, candidate in module.named_modules() if candidate is layer)


def _split(flow: graph.Flow, node: fx.Node | None) -> _Split | None:
    after = flow.after(node) if node is not None else None
    if node is None or after is None:
        return None
    return _Split(node=node, entry=flow.entry, before=flow.before(node), after=after)


def _agree(split: _Split, replaced: _Replaced, module: nn.Module, inputs: Tensor) -> bool:
    """Whether the split parts give the values and gradients that the module itself gives.

    Gradients too: code under torch.no_grad() in a forward leaves no trace in the graph.
    """
    z = replaced.features(module, inputs).detach()
    pairs: list[tuple[Callable[[Tensor], Any], Callable[[Tensor], Any], Tensor]] = [
        (lambda x: split.features(module, x), lambda x: replaced.features(module, x), inputs),
        (lambda y: split.head(module, y, inputs), lambda y: replaced.head(module, y, inputs), z),
    ]
    for ours, theirs, point in pairs:
        start = point.detach().clone().requires_grad_()
        here, there = ours(start), theirs(start)
        if type(here) is not type(there) or not _close(here, there):
            return False
        if not _close(_gradient(here, start), _gradient(there, start)):
            return False
    return True


def _decides(replaced: _Replaced, module: nn.Module, z: Tensor, inputs: Tensor, expected: Any) -> bool:
    """Whether z alone decides the output: under fixed z, other inputs change nothing, and no gradient reaches the inputs."""
    generator = torch.Generator().manual_seed(0)
    low, high = inputs.min(), inputs.max()
    noise = torch.rand(inputs.shape, generator=generator).to(inputs)
    other = (low + (high - low) * noise).requires_grad_()
    output = replaced.head(module, z.detach(), other)
    return _close(output, expected) and not bool(_gradient(output, other).any())


def _gradient(output: Any, point: Tensor) -> Tensor:
    """The gradient of a fixed random mixture of the outputs; zero where there is none."""
    generator = torch.Generator().manual_seed(0)
    mixed = [
        (leaf * torch.rand(leaf.shape, generator=generator).to(leaf)).sum().float()
        for leaf in _tensors(output)
        if leaf.requires_grad and leaf.is_floating_point()
    ]
    if not mixed:
        return torch.zeros_like(point)
    (gradient,) = torch.autograd.grad(torch.stack(mixed).sum(), point, allow_unused=True)
    return torch.zeros_like(point) if gradient is None else gradient


def _tensors(output: Any) -> Iterator[Tensor]:
    """The tensors in an output: a tensor, or any nesting of sequences, mappings and dataclasses."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping):
        for value in output.values():
            yield from _tensors(value)
    elif isinstance(output, list | tuple):
        for value in output:
            yield from _tensors(value)
    elif is_dataclass(output):
        for each in fields(output):
            yield from _tensors(getattr(output, each.name))


def _close(output: Any, expected: Any) -> bool:
    """Whether all tensors are equal but for rounding, relative to the largest number in each."""
    pairs = list(_tensors(output)), list(_tensors(expected))
    if [tensor.shape for tensor in pairs[0]] != [tensor.shape for tensor in pairs[1]]:
        return False
    for one, two in zip(*pairs, strict=True):
        if not two.is_floating_point():
            if not torch.equal(one, two):
                return False
            continue
        size = float(two.detach().abs().nan_to_num(0.0, 0.0, 0.0).max()) if two.numel() else 0.0
        tolerance = min(100 * torch.finfo(two.dtype).eps, 0.05) * size
        if not torch.allclose(one, two, rtol=0.0, atol=tolerance, equal_nan=True):
            return False
    return True


def _refusal(name: str, nearest: str | None) -> str:
    return (
        f"layer '{name}' is passed by: the output also depends on the input by another way, such as a skip connection, so the layer's "
        f"features do not decide the score.{_advice(nearest)} bypass='intervene' accepts the layer as an intervention."
    )


def _advice(nearest: str | None) -> str:
    return (
        f" The nearest layer that is a real cut is '{nearest}'."
        if nearest
        else " No layer near it is a real cut."
    )


def _nearest(flow: graph.Flow, cuts: Mapping[fx.Node, int], module: nn.Module, name: str) -> str | None:
    """The nearest real cut at or after the layer, else the nearest before it; of several names for one value, the outermost."""
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
        replaced = _Replaced(candidate)
        try:
            z = replaced.features(module, inputs)
        except LayerError:
            continue
        if isinstance(z, Tensor) and _decides(replaced, module, z, inputs, expected):
            return candidate
    return None
