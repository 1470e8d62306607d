"""The layers of a model, each with its type, shape, and whether it is a real cut."""

import os
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from counterpoint import graph, progress
from counterpoint.classifier import Classifier
from counterpoint.cut import open_cut
from counterpoint.errors import LayerError
from counterpoint.layers import penultimate_layer, run_once
from counterpoint.places import default_map_layer


@dataclass(frozen=True)
class LayerFacts:
    """One layer as it ran."""

    name: str
    kind: str
    """The class of the module."""
    shape: tuple[int, ...]
    """Of its output for one image, without the batch axis."""
    cut: str | None
    """"split" or "replaced" where the model can be cut here, see `counterpoint.cut`; None where it cannot."""
    reason: str
    """Why it cannot."""
    role: str
    """The default that it is, if any."""

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
    classifier: Classifier, photograph: str | os.PathLike[str] | None = None
) -> list[LayerFacts]:
    """Every layer that returns a tensor, in the order in which they return.

    Args:
        classifier: The model.
        photograph: What to run it on; noise by default.

    Raises:
        ImageError: a photograph that cannot be read.
    """
    if photograph is None:
        height, width = classifier.preprocessing.size
        channels = len(classifier.preprocessing.mean)
        generator = torch.Generator().manual_seed(0)
        inputs = torch.rand(1, channels, height, width, generator=generator).to(classifier.device)
    else:
        inputs = classifier.preprocess([photograph])
    module = classifier.module
    last = {seen.name: seen for seen in run_once(module, inputs)}
    roles: dict[str, str] = {}
    for find, role in (
        (default_map_layer, "default for class activation maps"),
        (penultimate_layer, "penultimate"),
    ):
        try:
            roles[find(module, inputs)] = role
        except LayerError:
            continue  # a model without such a layer has no default
    # The graph answers for all layers at once; the numbers are compared when a layer is used.
    flow = graph.trace(module)
    cuts = {} if flow is None else flow.cuts()
    full = {layer: name for name, layer in module.named_modules()}
    found = []
    for k, (name, seen) in enumerate(last.items()):
        progress.advance(k, len(last), f"layer {name}")
        runs = [] if flow is None else flow.runs_of(full[seen.module])
        if flow is not None and len(runs) == 1 and (node := runs[0].node) is not None:
            kind = None if node not in cuts else "replaced" if flow.after(node) is None else "split"
            reason = "" if kind else "passed by: the output also depends on the input by another way"
        else:
            kind, reason = _tried(module, name, inputs)
        shape = tuple(seen.output.shape[1:])
        found.append(LayerFacts(name, type(seen.module).__name__, shape, kind, reason, roles.get(name, "")))
    progress.advance(len(last), len(last), "layers")
    return found


def _short(reason: str) -> str:
    """The part of a refusal that fits into a table."""
    for words in ("runs ", "does not run", "returns "):
        if words in reason:
            return (
                words
                + reason.split(words, 1)[1].split(",")[0].split(";")[0].split(" in a forward")[0].strip()
            )
    return reason.split(";")[0]


def _tried(module: nn.Module, name: str, inputs: Tensor) -> tuple[str | None, str]:
    """The kind of cut and, where there is none, the reason, for a layer that the graph does not show."""
    try:
        return open_cut(module, name, inputs).kind, ""
    except LayerError as error:
        return None, str(error)
