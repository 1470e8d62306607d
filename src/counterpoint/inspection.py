"""The layers of a model: type, shape and how it lies on the image, whether each is a real cut, and how much comes after it."""

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from counterpoint import graph, layers, progress
from counterpoint.checks import check_batch
from counterpoint.classifier import Classifier
from counterpoint.compute import share_after
from counterpoint.cut import open_cut
from counterpoint.default_layers import default_map_layer
from counterpoint.errors import InputError, LayerError
from counterpoint.everything_through import passed_by
from counterpoint.layers import penultimate_layer, run_once
from counterpoint.layout_finding import NoLayout, layouts_of
from counterpoint.scores.reading import mismatch_explained
from counterpoint.state import left_as_found

_PASSED = "passed by: the output also depends on the input by another way"


@dataclass(frozen=True)
class LayerFacts:
    """One layer as it ran."""

    name: str
    kind: str
    """The class of the module."""
    shape: tuple[int, ...]
    """Of its output for one image, without the batch axis; () where it returned no tensor."""
    layout: str
    """How its features lie on the image, such as "maps 7 x 7" or "tokens 1 + 14 x 14"; empty where they do not."""
    cut: str | None
    """"split" or "replaced" where the model can be cut here, see `counterpoint.cut`; None where it cannot."""
    reason: str
    """Why it cannot."""
    share_after: float | None
    """The part of the model's multiply-adds that comes after it, an estimate; None where it did not run."""
    role: str
    """The default that it is, if any."""

    @property
    def depth(self) -> int:
        """How many layers it is inside of."""
        return self.name.count(".")

    @property
    def cut_text(self) -> str:
        """For a table: yes or no, and how."""
        if self.cut is None:
            return "no, passed by" if "passed by" in self.reason else f"no, {_short(self.reason)}"
        return {"split": "yes", "replaced": "yes (whole model runs)"}[self.cut]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "shape": list(self.shape)}


def inspect_layers(
    model: Any, images: str | os.PathLike[str] | Tensor | None = None, *, depth: int | None = None
) -> list[LayerFacts]:
    """Every layer, each before those inside it, in the order in which they were registered.

    Args:
        model: A Classifier or a detector; or any module, with images.
        images: What to run it on: a photograph, or inputs of which the first is run; noise of the model's input size by default.
        depth: Leave out layers that are inside of more others; whether those are cuts is then not asked.

    Raises:
        ImageError: a photograph that cannot be read.
        InputError: a module without inputs, or a depth below 0.
        ModelError: the model fails on inputs of this shape.
    """
    if depth is not None and depth < 0:
        raise InputError(f"depth must be at least 0, got {depth}.")
    module, inputs = _module_and_inputs(model, images)
    network = layers.unwrapped(module)[1]
    chosen = {
        name: layer
        for name, layer in network.named_modules()
        if name and (depth is None or name.count(".") <= depth)
    }
    with torch.inference_mode(False), left_as_found(module), mismatch_explained(module, inputs):
        seen = run_once(module, inputs)
    shapes = {each.name: tuple(each.output.shape[1:]) for each in seen}
    layouts = {}
    if inputs.ndim == 4:
        size = (int(inputs.shape[2]), int(inputs.shape[3]))
        layouts = layouts_of(module, seen, size, {each.name for each in seen})
    roles, after = _roles(module, inputs), share_after(module, inputs)
    cuts = _cuts(module, inputs, [name for name in chosen if name in shapes])
    found = []
    for name, layer in chosen.items():
        shape, layout = shapes.get(name, ()), layouts.get(name)
        how, reason = cuts.get(name, (None, "returns no tensor" if name in after else "does not run"))
        found.append(
            LayerFacts(
                name=name,
                kind=type(layer).__name__,
                shape=shape,
                layout="" if layout is None or isinstance(layout, NoLayout) else layout.text(shape),
                cut=how,
                reason=reason,
                share_after=after.get(name),
                role=roles.get(name, ""),
            )
        )
    return found


def _module_and_inputs(
    model: Any, images: str | os.PathLike[str] | Tensor | None
) -> tuple[nn.Module, Tensor]:
    owner = model if isinstance(model, Classifier) or hasattr(model, "preprocess") else None
    module = model if owner is None else owner.module
    if not isinstance(module, nn.Module):
        raise InputError(f"model must be a Classifier or a torch.nn.Module, got {type(model).__name__}.")
    if isinstance(images, Tensor):
        check_batch("images", images)
        return module, images[:1].detach().clone()
    if owner is None:
        raise InputError("images must be inputs of the model: a module does not say what it takes.")
    if images is not None:
        return module, owner.preprocess([images])
    return module, _noise(owner)


def _noise(owner: Any) -> Tensor:
    """One image of noise, as large as the model takes them."""
    preprocessing = getattr(owner, "preprocessing", None)
    height, width = (224, 224) if preprocessing is None else preprocessing.size
    channels = 3 if preprocessing is None else len(preprocessing.mean)
    generator = torch.Generator().manual_seed(0)
    return torch.rand(1, channels, height, width, generator=generator).to(owner.device)


def _roles(module: nn.Module, inputs: Tensor) -> dict[str, str]:
    roles: dict[str, list[str]] = {}
    finders: tuple[tuple[Callable[[nn.Module, Tensor], str], str], ...] = (
        (default_map_layer, "default for class activation maps"),
        (penultimate_layer, "penultimate"),
    )
    for find, role in finders:
        try:
            roles.setdefault(find(module, inputs), []).append(role)
        except LayerError:
            continue  # a model without such a layer has no default
    return {name: ", ".join(each) for name, each in roles.items()}


def _cuts(module: nn.Module, inputs: Tensor, names: list[str]) -> dict[str, tuple[str | None, str]]:
    """For each layer the kind of cut, or None and why not."""
    # The graph answers for all layers at once, else autograd's record; the numbers are compared when a layer is used.
    flow = graph.trace(layers.eager(module))
    cuts = {} if flow is None else flow.cuts()
    full = {layer: name for name, layer in layers.eager(module).named_modules()}
    passed = passed_by(module, inputs)
    found: dict[str, tuple[str | None, str]] = {}
    for k, name in enumerate(names):
        progress.advance(k, len(names), f"layer {name}")
        runs = [] if flow is None else flow.runs_of(full[layers.find_layer(module, name)])
        if flow is not None and len(runs) == 1 and (node := runs[0].node) is not None:
            kind = None if node not in cuts else "replaced" if flow.after(node) is None else "split"
            found[name] = (kind, "" if kind else _PASSED)
        elif passed.get(name):
            found[name] = (None, _PASSED)
        else:
            found[name] = _tried(module, name, inputs)
    progress.advance(len(names), len(names), "layers")
    return found


def _short(reason: str) -> str:
    """The part of a refusal that fits into a table."""
    if "its first axis is not the batch" in reason:
        return "first axis is no batch"
    for words in ("runs ", "does not run", "returns "):
        if words in reason:
            return (
                words
                + reason.split(words, 1)[1].split(",")[0].split(";")[0].split(" in a forward")[0].strip()
            )
    return reason.split(";")[0]


def _tried(module: nn.Module, name: str, inputs: Tensor) -> tuple[str | None, str]:
    """The kind of cut and, where there is none, the reason, for a layer that neither record shows."""
    try:
        return open_cut(module, name, inputs).kind, ""
    except LayerError as error:
        return None, str(error)
