"""What a network carries beside its weights, and how to leave it as it was found."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import nn


def modes(module: nn.Module) -> tuple[bool, ...]:
    """Whether each part is in training mode."""
    return tuple(part.training for part in module.modules())


def undisturbed(module: object) -> AbstractContextManager[None]:
    """`left_as_found` for a network of which a part is in training mode: batch norms change when they run. Nothing for any other."""
    training = isinstance(module, nn.Module) and any(modes(module))
    return left_as_found(module) if training else nullcontext()  # type: ignore[arg-type]


@contextmanager
def left_as_found(module: nn.Module) -> Iterator[None]:
    """Put back, at the end of the block, what runs of the network leave on it: attributes; in training mode buffers and random numbers."""
    attributes = {part: dict(vars(part)) for part in module.modules()}
    training = any(modes(module))
    buffers = [(buffer, buffer.clone()) for buffer in module.buffers()] if training else []
    devices = sorted({p.device.index or 0 for p in module.parameters() if p.is_cuda})
    try:
        with torch.random.fork_rng(devices=devices, enabled=training):
            yield
    finally:
        for part, found in attributes.items():
            if vars(part).keys() != found.keys() or any(
                vars(part)[name] is not found[name] for name in found
            ):
                vars(part).clear()
                vars(part).update(found)
        with torch.no_grad():
            for buffer, found_buffer in buffers:
                if not torch.equal(buffer, found_buffer):  # an expanded buffer cannot be written to
                    buffer.copy_(found_buffer)
