"""Where the optimisation of a mask begins: nowhere in particular, or at the map of another method."""

import torch
from jaxtyping import Float
from torch import Tensor

from counterpoint.comparison import Comparison
from counterpoint.default_layers import default_map_layer
from counterpoint.errors import InputError
from counterpoint.methods.arithmetic import exact
from counterpoint.protocols import Method, ModuleScore

_QUANTILE = 0.99


def start_map(
    comparison: Comparison, method: Method, layer: str | None
) -> Float[Tensor, "batch height width"]:
    """The heat map of a method, from 0 to 1: negative values are 0, the highest hundredth 1. What it costs is counted.

    Args:
        comparison: At the input.
        method: What to start from.
        layer: Where the method works; by default the input or, for methods of layers, the last layer with maps.

    Raises:
        InputError: no method, or a layer is needed and the score knows no module.
        LayerError: the layer is no place where the model can be cut.
    """
    if not hasattr(method, "level") or isinstance(method, type):
        raise InputError(f"start must be a method such as cp.methods.GradCAM(), got {method!r}.")
    if layer is None and method.level == "layer":
        if not isinstance(comparison.bound, ModuleScore):
            raise InputError(
                f"start {type(method).__name__} explains a layer, and needs a score that knows its module, such as cp.logit(module, ...)."
            )
        layer = default_map_layer(comparison.bound.module, comparison.inputs[:1])
    there = comparison if layer is None else comparison.at(layer)
    found = there.explain(method)
    comparison.tally.gradients += found.gradient_evaluations
    comparison.tally.forwards += found.forward_evaluations
    comparison.tally.prefixes += found.prefix_evaluations
    heat = exact(found.heatmap()).clamp(min=0)
    high = torch.quantile(heat.flatten(1), _QUANTILE, dim=1)
    high = high.where(high > 0, heat.flatten(1).amax(1))
    return (heat / high.where(high > 0, 1.0).view(-1, 1, 1)).clamp(max=1)
