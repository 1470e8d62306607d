"""How much of a network's arithmetic comes after each layer: an estimate of what a run from there on costs."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from counterpoint import layers
from counterpoint.state import left_as_found


def share_after(module: nn.Module, inputs: Tensor) -> dict[str, float]:
    """For each layer, the part of the network's multiply-adds that is done after the layer has returned for the last time.

    Counted are convolutions, linear layers and the two products of attention, as torch's own counter knows them; not activations, norms,
    sums and interpolation, which are memory traffic more than arithmetic. It is an order in time: of branches side by side the later ones
    count as after the earlier. Empty where nothing of that kind runs.

    Args:
        module: The network, with its wrappers.
        inputs: What to run.
    """
    names = {layer: name for name, layer in layers.unwrapped(module)[1].named_modules() if name}
    until: dict[str, int] = {}
    # The counter knows the fused attention of GPUs; that of CPUs does the same two products.
    known = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention}
    counter = FlopCounterMode(display=False, custom_mapping=known)

    def note(layer: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
        if layer in names:
            until[names[layer]] = counter.get_total_flops()

    # With gradients on: without them torch runs whole encoder layers as one operation that the counter does not know.
    with left_as_found(module), torch.inference_mode(False), torch.enable_grad(), counter:
        with layers.watching(module, note):
            module(inputs.detach().clone())
    total = counter.get_total_flops()
    return {name: 1 - done / total for name, done in until.items()} if total else {}


def _attention(
    query: Any, key: Any, value: Any, *arguments: Any, out_shape: Any = None, **options: Any
) -> int:
    return int(sdpa_flop_count(query, key, value))  # type: ignore[no-untyped-call]
