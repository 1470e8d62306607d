"""The data flow of a network, as torch.fx sees it: which values every path to the output goes through.

One symbolic run serves all layers. It is a proof only for what it could see, so whoever runs a part of it also compares numbers once.
"""

import dataclasses
import functools
import threading
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx, nn
from torch.fx.node import map_arg

from counterpoint.state import left_as_found, modes

# The shape of a tensor says nothing about its numbers: what reads only these does not carry features past a layer.
_SHAPE_METHODS = {"size", "dim", "ndimension", "numel", "nelement", "stride", "is_contiguous", "get_device"}
_SHAPE_ATTRIBUTES = {"shape", "ndim", "dtype", "device", "layout", "is_cuda", "itemsize"}


@dataclass(frozen=True, eq=False)
class LayerRun:
    """One run of one module: its full name, and the value that it returned, if that was a single one."""

    name: str
    leaf: bool
    """Whether the module is one step of the graph; otherwise the steps inside it are."""
    node: fx.Node | None


@dataclass(frozen=True, eq=False)
class Program:
    """Some steps of a network, to be run on values that are given for the steps before."""

    steps: tuple[fx.Node, ...]
    result: Any
    constants: Mapping[str, Any]

    def run(self, module: nn.Module, given: Mapping[fx.Node, Any]) -> Any:
        """Run the steps with the weights, modes and hooks that the module has now."""
        values = dict(given)
        for step, finished in zip(self.steps, self._finished, strict=True):
            values[step] = self._step(module, step, values)
            for node in finished:  # a value is let go as early as in the network's own forward
                values.pop(node, None)
        return _thawed(map_arg(self.result, values.__getitem__))

    @functools.cached_property
    def _finished(self) -> list[list[fx.Node]]:
        last = {node: k for k, step in enumerate(self.steps) for node in (*step.all_input_nodes, step)}
        kept = set(nodes_in(self.result))
        finished: list[list[fx.Node]] = [[] for _ in self.steps]
        for node, k in last.items():
            if node not in kept:
                finished[k].append(node)
        return finished

    def _step(self, module: nn.Module, step: fx.Node, values: dict[fx.Node, Any]) -> Any:
        arguments: Any = map_arg(step.args, values.__getitem__)
        options: Any = map_arg(step.kwargs, values.__getitem__)
        if step.op == "get_attr":
            return self._attribute(module, str(step.target))
        if step.op == "call_module":
            return self._attribute(module, str(step.target))(*arguments, **options)
        if step.op == "call_method":
            return getattr(arguments[0], str(step.target))(*arguments[1:], **options)
        call: Any = step.target
        return call(*arguments, **options)

    def _attribute(self, module: nn.Module, target: str) -> Any:
        # Looked up at each run, in the network itself: weights that were replaced or moved meanwhile are the ones used.
        root, _, path = target.partition(".")
        if root != _ROOT:
            return self.constants[target]
        found: Any = module
        for name in path.split(".") if path else ():
            found = getattr(found, name)
        return found


@dataclass(frozen=True, eq=False)
class Flow:
    """The graph of a network in the modes (training or not) that it was traced in. It holds no reference to the network."""

    graph: fx.Graph
    runs: tuple[LayerRun, ...]
    constants: Mapping[str, Any]
    modes: tuple[bool, ...]

    @property
    def entry(self) -> fx.Node:
        """The network's input."""
        entry: fx.Node = next(iter(self.graph.nodes))
        return entry

    @property
    def result(self) -> Any:
        """The network's output: a node, or a structure of nodes."""
        return next(iter(reversed(self.graph.nodes))).args[0]

    def runs_of(self, name: str) -> list[LayerRun]:
        """Every run of the layer with this full name."""
        return [run for run in self.runs if run.name == name]

    def cuts(self) -> dict[fx.Node, int]:
        """Every value that all paths from the input's numbers to the output go through, with its place in the order of steps.

        The steps are in order, so a value is such a cut if nothing computed before it from the input is read after it by a step that the
        output needs.
        """
        place = {node: k for k, node in enumerate(self.graph.nodes)}
        live = _needed(nodes_in(self.result))
        carrying = _carrying({self.entry}, self.graph.nodes) & live
        cuts: dict[fx.Node, int] = {}
        reaches = 0  # the last step that reads a number known before the present one
        for node, k in place.items():
            if node not in carrying:
                continue
            if reaches <= k and node is not self.entry:
                cuts[node] = k
            readers = [place[user] for user in node.users if user.op == "output" or user in carrying]
            reaches = max([reaches, *readers])
        return cuts

    def before(self, node: fx.Node) -> Program:
        """The steps up to this value; they run on {entry: inputs}."""
        steps = []
        for step in self.graph.nodes:
            if step.op != "placeholder":
                steps.append(step)
            if step is node:
                break
        return Program(steps=tuple(steps), result=node, constants=self.constants)

    def after(self, node: fx.Node) -> Program | None:
        """The steps after a cut, to be run on {node: z, entry: inputs}; the inputs' shape may be read, their numbers are not.

        None where they need the shape of a value from before the cut, which would have to be computed.
        """
        steps = list(self.graph.nodes)
        carrying = _carrying({self.entry}, steps, stop=node)
        # Steps that work in place on something made from z may be read by nobody and still count.
        effects = [s for s in _carrying({node}, steps) - carrying if s.op != "output"]
        needed = _needed([*nodes_in(self.result), *effects], stop=node)
        if any(step in carrying and step is not self.entry for step in needed):
            return None
        chosen = tuple(
            s for s in steps if s in needed and s is not node and s.op not in ("placeholder", "output")
        )
        return Program(steps=chosen, result=self.result, constants=self.constants)


_ROOT = "network"
_one_at_a_time = threading.Lock()


class _OneInput(nn.Module):
    """Calls the network with its input alone, so that the other parameters of its forward keep their defaults."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Tensor) -> Any:
        return self.network(inputs)


class _Tracer(fx.Tracer):
    proxy_buffer_attributes = True  # else what is computed from buffers alone would be frozen into the graph

    def __init__(self) -> None:
        super().__init__()
        self.runs: list[LayerRun] = []
        self._thread = threading.get_ident()

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        # Tracing replaces nn.Module.__call__ for the whole process: other threads are let through.
        if threading.get_ident() != self._thread:
            return forward(*args, **kwargs)
        if "_orig_mod" in m._modules:  # a compiled module: what it would compute uncompiled
            return getattr(m, "_orig_mod")(*args, **kwargs)  # noqa: B009 (typed as a tensor otherwise)
        path = self.path_of_module(m)
        result = super().call_module(m, forward, args, kwargs)
        if path.startswith(_ROOT + "."):
            node = result.node if isinstance(result, fx.Proxy) else None
            self.runs.append(LayerRun(path.removeprefix(_ROOT + "."), self.is_leaf_module(m, path), node))
        return result

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        if threading.get_ident() != self._thread:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)


def trace(module: nn.Module) -> Flow | None:
    """The network's data flow, or None where it cannot be followed without numbers (control flow that depends on them)."""
    tracer, root = _Tracer(), _OneInput(module)
    if hooked_inside(module):  # their hooks would meet the stand-ins now, and be left out later
        return None
    try:
        with _one_at_a_time, left_as_found(module), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            graph = tracer.trace(root)
    except Exception:
        # A stand-in for a tensor meets the user's own code: there is no telling what that raises.
        return None
    constants = {
        str(node.target): getattr(root, str(node.target))
        for node in graph.nodes
        if node.op == "get_attr" and not str(node.target).startswith(_ROOT)
    }
    return Flow(graph=graph, runs=tuple(tracer.runs), constants=constants, modes=modes(module))


def hooked_inside(module: nn.Module) -> bool:
    """Whether a part that tracing goes through, instead of leaving it one step, has forward hooks; those of single steps do run."""
    leaf = fx.Tracer().is_leaf_module
    return any(
        (part._forward_hooks or part._forward_pre_hooks) and not leaf(part, "") for part in module.modules()
    )


def nodes_in(structure: Any) -> list[fx.Node]:
    """The nodes in a structure of arguments."""
    nodes: list[fx.Node] = []

    def keep(node: fx.Node) -> fx.Node:
        nodes.append(node)
        return node

    map_arg(structure, keep)
    return nodes


def _reads_shape(node: fx.Node) -> bool:
    if node.op == "call_method":
        return node.target in _SHAPE_METHODS
    return node.op == "call_function" and node.target is getattr and node.args[1] in _SHAPE_ATTRIBUTES


def _carrying(
    sources: set[fx.Node], steps: Iterable[fx.Node], *, stop: fx.Node | None = None
) -> set[fx.Node]:
    """The sources and what is computed from their numbers, not going beyond `stop`."""
    carrying = set(sources)
    for step in steps:
        if (
            step is not stop
            and not _reads_shape(step)
            and any(node in carrying for node in step.all_input_nodes)
        ):
            carrying.add(step)
    return carrying


def _needed(ends: Iterable[fx.Node], *, stop: fx.Node | None = None) -> set[fx.Node]:
    """The ends and all that they are computed from, not looking behind `stop`."""
    needed: set[fx.Node] = set()
    waiting = list(ends)
    while waiting:
        node = waiting.pop()
        if node not in needed:
            needed.add(node)
            waiting.extend(() if node is stop else node.all_input_nodes)
    return needed


def _thawed(structure: Any) -> Any:
    """Plain lists and dictionaries in place of torch.fx's unchangeable ones."""
    if isinstance(structure, Mapping) and not dataclasses.is_dataclass(structure):
        return (
            {key: _thawed(value) for key, value in structure.items()}
            if type(structure).__module__.startswith("torch.fx")
            else structure
        )
    if isinstance(structure, list):
        return [_thawed(value) for value in structure]
    if type(structure) is tuple:
        return tuple(_thawed(value) for value in structure)
    return structure
