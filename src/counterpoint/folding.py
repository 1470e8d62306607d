"""An equal, faster copy of a model: batch norm folded into the layer before it, convolutions in the channels-last layout.

In eval mode a batch norm is a fixed scale and shift per channel, which the weights of the convolution before it can take over:
(W x + b - m) g / s + h = (W g / s) x + (b - m) g / s + h, with s = sqrt(variance + eps).

The copy is compared with the original before it is handed out. That the two compute the same is checked in float64, in value and in
gradient; in float32 only the value is, since there rounding alone moves gradients: a ReLU whose input is almost zero falls to either side.
On EfficientNet-Lite0 folding moved an input gradient by up to 0.3 % of its length, and so did a mere change of layout.
"""

import copy
import math
import weakref
from collections.abc import Collection
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights, fuse_linear_bn_weights

from counterpoint import graph, layers
from counterpoint.classifier import weights_hash
from counterpoint.equality import mixed_gradient, tensors_in
from counterpoint.state import left_as_found

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)

_VALUE_TOLERANCE = 1e-5  # max |difference| / max |output|, in the model's own type, where that is float32
_EXACT_TOLERANCE = 1e-8  # the same in float64, and for input gradients, |difference| / |gradient| in L2

# Copies of each model that is still in use, by what they depend on: audits ask for the same one again and again.
_Key = tuple[str, tuple[str, ...], bool, torch.dtype, torch.device]
_made: "weakref.WeakKeyDictionary[nn.Module, dict[_Key, Folding]]" = weakref.WeakKeyDictionary()


@dataclass(frozen=True, eq=False)
class Folding:
    """A model to compute with, and what was done to get it."""

    module: nn.Module
    """The copy, its weights frozen; the original itself where nothing was done."""
    folded: bool
    """Whether `module` is such a copy."""
    reason: str
    """What was done, or why nothing was."""


def fold(
    module: nn.Module,
    example: Float[Tensor, "batch *input"],
    *,
    keep: Collection[str] = (),
    channels_last: bool = True,
) -> Folding:
    """Make an equal, faster copy of a model.

    Every layer keeps its name. A batch norm that was folded away is an `nn.Identity` and still returns what it did, but the convolution
    or linear layer before it now returns that too: name it in `keep` if its own output is asked for. All other layers return what they
    did, to rounding.

    Asked again for a model whose weights are still the same, it gives the same copy, after comparing outputs on the new example only.

    Args:
        module: In eval mode, and without hooks. It is not changed; changes of its weights after this do not reach the copy.
        example: Inputs to compare the two on: outputs on the first two, in float64 and with gradients on the first.
        keep: Names of layers that must return what they do now; norms right behind their last step stay.
        channels_last: Also keep convolutions in the channels-last layout, which changes no shape.
    """
    if any(isinstance(part, _NORMS) and part.training for part in module.modules()) or module.training:
        return Folding(module, False, "the model is in training mode, where batch norm follows the batch.")
    if any(_has_hooks(part) for part in module.modules()):
        return Folding(module, False, "the model has hooks, which may change what its layers do.")
    kept = [layers.find_layer(module, name) for name in keep]  # before the work: a wrong name is an error
    key = (weights_hash(module), tuple(sorted(keep)), channels_last, example.dtype, example.device)
    known = _made.get(module, {}).get(key)
    if known is not None and not _value_fault(module, known.module, example[:2]):
        return known
    flow = graph.trace(module)
    pairs = _pairs(module, flow, kept) if flow is not None else []
    convolutions = any(isinstance(part, nn.Conv2d) for part in module.modules())
    if not pairs and not (channels_last and convolutions):
        why = "has no batch norm to fold" if flow is not None else "cannot be followed without numbers"
        return Folding(module, False, f"the model {why}.")
    try:
        faster = _faster(module, pairs, channels_last=channels_last)
    except (RuntimeError, TypeError) as error:
        return Folding(module, False, f"the model cannot be copied: {error}")
    if fault := _difference(module, faster, example[:2], pairs):
        return Folding(module, False, fault)
    layout = ", channels-last" if channels_last and convolutions else ""
    folding = Folding(faster, True, f"{len(pairs)} batch norms folded{layout}.")
    same_weights = {other: made for other, made in _made.get(module, {}).items() if other[0] == key[0]}
    _made[module] = {**same_weights, key: folding}
    return folding


def _pairs(module: nn.Module, flow: graph.Flow, kept: list[nn.Module]) -> list[tuple[str, str]]:
    """The full names of each convolution or linear layer whose only reader is a batch norm, and of that norm."""
    parts: dict[str, nn.Module] = dict(module.named_modules())
    own = {part: name for name, part in parts.items()}
    ends = {run.node for part in kept for run in flow.runs_of(own[part])}
    owners: dict[Tensor, int] = {}
    for part in parts.values():
        for parameter in part.parameters(recurse=False):
            owners[parameter] = owners.get(parameter, 0) + 1
    runs = {run.node: run.name for run in flow.runs if run.leaf and len(flow.runs_of(run.name)) == 1}
    pairs = []
    for node, name in runs.items():
        source = node.args[0] if node is not None and node.args else None
        if not isinstance(source, fx.Node) or source not in runs or source in ends or len(source.users) > 1:
            continue
        layer, norm = parts[runs[source]], parts[name]
        shared = any(owners[parameter] > 1 for part in (layer, norm) for parameter in part.parameters())
        if not shared and _foldable(layer, norm):
            pairs.append((runs[source], name))
    return pairs


def _foldable(layer: nn.Module, norm: nn.Module) -> bool:
    # Exact types: a subclass may compute something else. A parametrised layer is of a subclass.
    if type(norm) not in _NORMS or norm.running_mean is None:
        return False
    return type(layer) in _CONVOLUTIONS or (type(layer) is nn.Linear and type(norm) is nn.BatchNorm1d)


def _faster(module: nn.Module, pairs: list[tuple[str, str]], *, channels_last: bool) -> nn.Module:
    """A copy with these pairs folded."""
    faster = copy.deepcopy(module).requires_grad_(False)
    for layer, norm in pairs:
        _fold_pair(faster, layer, norm)
    return faster.to(memory_format=torch.channels_last) if channels_last else faster


def _fold_pair(module: nn.Module, layer_name: str, norm_name: str) -> None:
    layer, norm = module.get_submodule(layer_name), module.get_submodule(norm_name)
    merge = fuse_linear_bn_weights if isinstance(layer, nn.Linear) else fuse_conv_bn_weights
    parts = (layer.weight, layer.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias)
    # In float64 and on the CPU, since not every device knows it: rounded once, at the end.
    exact = [part.detach().cpu().double() if isinstance(part, Tensor) else part for part in parts]
    merged = merge(*exact)  # type: ignore[arg-type]
    for name, part in zip(("weight", "bias"), merged, strict=True):
        setattr(layer, name, nn.Parameter(part.to(cast(Tensor, layer.weight)), requires_grad=False))
    parent, _, child = norm_name.rpartition(".")
    setattr(module.get_submodule(parent), child, nn.Identity().train(norm.training))


def _difference(module: nn.Module, faster: nn.Module, inputs: Tensor, pairs: list[tuple[str, str]]) -> str:
    """In words, how the copy's outputs or input gradients differ by more than rounding; empty where they do not."""
    with torch.inference_mode(False), torch.enable_grad(), left_as_found(module):
        inputs = inputs.detach().clone()
        if fault := _value_fault(module, faster, inputs):
            return fault
        try:  # on the CPU: not every device knows float64
            exact = copy.deepcopy(module).cpu().double()
            folded = _faster(exact, pairs, channels_last=False)
            points = [inputs[:1].cpu().double().requires_grad_() for _ in range(2)]
            expected, came = exact(points[0]), folded(points[1])
        except (RuntimeError, TypeError) as error:
            return f"the model does not run in float64 on the CPU, so the copy cannot be checked: {error}"
        gap = _gap(came, expected)
        gradient, other = mixed_gradient(expected, points[0]), mixed_gradient(came, points[1])
        bend = float((other - gradient).norm() / gradient.norm().clamp_min(torch.finfo(torch.float64).tiny))
        if not (gap <= _EXACT_TOLERANCE and bend <= _EXACT_TOLERANCE):
            return f"in float64 the copy's outputs differ by {gap:.2g} of the largest, its input gradients by {bend:.2g}."
    return ""


def _value_fault(module: nn.Module, faster: nn.Module, inputs: Tensor) -> str:
    """In words, how the copy's outputs differ in the model's own type by more than rounding; empty where they do not."""
    eps = torch.finfo(inputs.dtype).eps / torch.finfo(torch.float32).eps
    with torch.no_grad(), left_as_found(module):
        gap = _gap(faster(inputs), module(inputs))
    return (
        ""
        if gap <= min(_VALUE_TOLERANCE * max(eps, 1e-3), 0.05)
        else f"the copy's outputs differ by {gap:.2g} of the largest."
    )


def _gap(output: object, expected: object) -> float:
    """max |difference| / max |expected| over the tensors of an output."""
    pairs = zip(tensors_in(output), tensors_in(expected), strict=True)
    gaps = [
        float((one - two).detach().abs().max()) / (float(two.detach().abs().max()) or 1.0)
        for one, two in pairs
    ]
    return math.nan if any(math.isnan(gap) for gap in gaps) else max(gaps, default=0.0)


def _has_hooks(part: nn.Module) -> bool:
    hooks = (part._forward_hooks, part._forward_pre_hooks, part._backward_hooks, part._backward_pre_hooks)
    return any(hooks)
