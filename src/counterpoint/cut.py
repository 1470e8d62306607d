"""The model before and after a layer.

A cut runs the model up to a layer, `features`, and from it on, `head`. It is a real cut if the layer's output decides the model's output
alone; only then can the parts of an explanation at the layer sum to the change of the score. There are three kinds:

split     the graph proves a real cut, and only the part after the layer is run by `head`.
replaced  the graph cannot be followed; `head` runs the whole model and puts z in the place of the layer's output. That this is a real cut
          was tested, not proven: under fixed z another input changes neither the output nor its gradient.
partial   not a real cut, accepted with bypass="intervene": the whole model runs, with z put in. What passes by the layer stays.

Several layers, "a+b", are cut at once: each is passed by through the others, and together they may decide the output. Their features are
one tensor (rows, numbers), each layer's flattened, one after the other; the kind is replaced or partial.

Verdicts are kept for as long as the module lives, by identity: whoever changes its structure afterwards works with a copy or a new one.
Weights, device, type and training mode may change.
"""

from dataclasses import dataclass, field
from typing import Any, Literal
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor, nn

from counterpoint import graph, layers
from counterpoint.cutting import Kind, Parts, Verdict, judge
from counterpoint.errors import InputError, LayerError
from counterpoint.state import left_as_found, modes

Bypass = Literal["refuse", "intervene"]


@dataclass(frozen=True, eq=False)
class Cut:
    """A module, cut at one layer. Made by `open_cut`."""

    module: nn.Module = field(repr=False)
    layer: str
    """The layer's name as the user knows it; "a+b" for several that are cut at once."""
    kind: Kind
    _parts: Parts = field(repr=False)
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
        if self.kind == "split" and (modes(self.module) != self._modes or graph.hooked_inside(self.module)):
            raise LayerError(
                f"the model got hooks, or went from or to training mode, after the cut at '{self.layer}' was opened; open it again."
            )


@dataclass(eq=False)
class _Known:
    """What was found out about one module."""

    flows: dict[tuple[bool, ...], graph.Flow | None] = field(default_factory=dict)
    verdicts: dict[tuple[str, bool, tuple[bool, ...]], Verdict] = field(default_factory=dict)


_known: WeakKeyDictionary[nn.Module, _Known] = WeakKeyDictionary()


def open_cut(
    module: nn.Module, layer: str, example: Float[Tensor, "batch *input"], *, bypass: Bypass = "refuse"
) -> Cut:
    """Cut a module at a layer.

    Args:
        module: The whole network, normalisation included.
        layer: The layer's name, see `layers.layer_names`; or `layers.joint(...)`.
        example: Inputs to check the cut on; the first two are used, once per module and layer.
        bypass: What to do where something passes by the layer, as a skip connection does: "refuse", or "intervene" and accept it as
            an intervention, kind "partial".

    Raises:
        UnknownNameError: no such layer.
        LayerError: the layer does not run, runs more than once, returns no single tensor with a row for each row of the inputs, or is
            passed by; the message names the nearest layer that is a real cut.
        ModelError: the model gives two answers to one input.
    """
    if bypass not in ("refuse", "intervene"):
        raise InputError(f"bypass must be 'refuse' or 'intervene', got {bypass!r}.")
    module = layers.eager(module)
    parts = layers.layer_parts(module, layer)
    name = layers.JOIN.join(layers.own_name(module, layers.find_layer(module, part)) for part in parts)
    now = modes(module)
    known = _known.setdefault(module, _Known())
    hooked = graph.hooked_inside(module)
    key = (name, hooked, now)
    refused = bypass == "refuse"
    if key not in known.verdicts or (refused and not known.verdicts[key].advised):
        # Outside of inference mode, and with gradients: the check compares them too.
        with torch.inference_mode(False), torch.enable_grad(), left_as_found(module):
            few = example[:2].detach().clone()
            known.verdicts[key] = judge(module, name, few, _flow(module, hooked), advise=refused)
    verdict = known.verdicts[key]
    if verdict.refusal and refused:
        raise LayerError(verdict.refusal)
    return Cut(module=module, layer=name, kind=verdict.kind, _parts=verdict.parts, _modes=now)


def _flow(module: nn.Module, hooked: bool) -> graph.Flow | None:
    flows, now = _known.setdefault(module, _Known()).flows, modes(module)
    if hooked:
        return None
    if now not in flows:
        flows[now] = graph.trace(module)
    return flows[now]
