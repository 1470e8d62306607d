"""The capped forward: no activation of a perturbed image beyond that of the original one."""

import torch
from jaxtyping import Int
from torch import Tensor

from counterpoint.activations.following import Following
from counterpoint.activations.operations import Operation
from counterpoint.activations.pathway import Pathway
from counterpoint.errors import InputError


class Cap(Following):
    """Every chosen activation clamped, before the next operation sees it, to the range between 0 and what it was for the original image.

    What follows the last activation, the logits for one, is not clamped. For the original image itself nothing changes.

    Parameters:
        pathway: Of the original images, recorded with reading "output".
        image: Which of them each row belongs to.

    Raises:
        InputError: a pathway of another reading, or a row of no image.
        ModelError: the run takes another way than the recorded one.

    Reference: our definition, after the hidden-layer test that Zhang and McMillan 2025, arXiv:2509.04588, left open.
    """

    def __init__(self, pathway: Pathway, image: Int[Tensor, " rows"]) -> None:
        super().__init__(pathway, image)
        if pathway.reading != "output":
            raise InputError("capping needs a pathway recorded with reading='output', got 'unit'.")

    def follow(self, place: int, operation: Operation) -> Tensor:
        """The clamped output."""
        first, *others = operation.tensors
        # An in-place form overwrites its input at the end, which the backward pass of the function may want to read.
        result = operation.run(first if operation.overwritten is None else first.clone(), *others)
        original = self.original(place)
        low, high = original.clamp(max=0), original.clamp(min=0)
        return torch.clamp(self.by_rows(result), low, high).reshape(result.shape)
