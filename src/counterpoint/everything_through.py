"""Which layers everything goes through, as autograd's record of one run shows.

Removing the layer's output from the record, no way leads from the model's output back to its input. That serves all layers at once, also
where the graph cannot be traced. It is a sign, not a proof: what has no gradient, such as the index of a maximum, leaves no record.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from counterpoint import layers
from counterpoint.equality import tensors_in
from counterpoint.state import left_as_found

Step = Any  # a node of autograd's record; torch has no public type for it


def passed_by(module: nn.Module, inputs: Float[Tensor, "batch *input"]) -> dict[str, bool]:
    """For each layer that ran once and returned a tensor with a gradient: whether something passes it by.

    Args:
        module: The network, with its wrappers.
        inputs: What to run; one row is enough.

    Returns:
        Nothing for layers of which the record cannot say; empty where no gradient reaches the input.
    """
    network = layers.unwrapped(module)[1]
    names = {layer: name for name, layer in network.named_modules() if name}
    steps: dict[str, list[Step]] = {}

    def keep(layer: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
        # The step of now: a later one in place would be found otherwise.
        step = output.grad_fn if isinstance(output, Tensor) else None
        if layer in names:
            steps.setdefault(names[layer], []).append(step)

    with torch.inference_mode(False), torch.enable_grad(), left_as_found(module):
        point = inputs.detach().clone().requires_grad_()
        with layers.watching(module, keep):
            output = module(point.clone())  # a leaf cannot be worked on in place
        roots = [tensor.grad_fn for tensor in tensors_in(output) if tensor.grad_fn is not None]
        through = _through(roots, point)
    return {
        name: runs[0] not in through
        for name, runs in steps.items()
        if through and len(runs) == 1 and runs[0] is not None
    }


def _through(roots: list[Step], point: Tensor) -> set[Step]:
    """Every step that all ways from the roots to the point go through."""
    order = _in_order(roots)
    before: dict[Step, list[Step]] = {step: [s for s, _ in step.next_functions if s] for step in order}
    reaches = {step: False for step in order}
    for step in order:  # the input's side first
        reaches[step] = getattr(step, "variable", None) is point or any(reaches[s] for s in before[step])
    way = [step for step in reversed(order) if reaches[step]]
    place = {step: k for k, step in enumerate(way)}
    through: set[Step] = set()
    furthest = max((place[step] for step in roots if step in place), default=0)
    for k, step in enumerate(way):
        # No way jumps over this step: nothing before it leads further than to it.
        if furthest <= k:
            through.add(step)
        furthest = max([furthest, *(place[s] for s in before[step] if reaches[s])])
    return through


def _in_order(roots: list[Step]) -> list[Step]:
    """All steps that lead to the roots, each after those that it was computed from."""
    done: dict[Step, None] = {}
    entered: set[Step] = set()
    waiting: list[tuple[Step, bool]] = [(root, False) for root in roots]
    while waiting:
        step, finished = waiting.pop()
        if finished:
            done[step] = None
        elif step not in entered:
            entered.add(step)
            waiting.append((step, True))
            waiting.extend((s, False) for s, _ in step.next_functions if s and s not in entered)
    return list(done)
