"""Runs of perturbed images that meet each activation together with what it was for the original image."""

from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from counterpoint.activations.chosen import ACTIVATIONS, Activation, is_activation
from counterpoint.activations.modes import Mode
from counterpoint.activations.operations import Operation
from counterpoint.activations.pathway import Pathway
from counterpoint.checks import shape_text
from counterpoint.errors import InputError, ModelError


class Following(Mode):
    """Meets the activations of a run in their order, each with what it was for the original image.

    Raises:
        InputError: a row belongs to none of the images recorded.
        ModelError: the run takes another way than the recorded one.
    """

    def __init__(self, pathway: Pathway, image: Int[Tensor, " rows"]) -> None:
        super().__init__(ACTIVATIONS)
        if len(image) and not 0 <= int(image.min()) <= int(image.max()) < pathway.images:
            raise InputError(
                f"image must be from 0 to {pathway.images - 1}, the images of the pathway, got {sorted(set(image.tolist()))}."
            )
        self.pathway = pathway
        self.rows = len(image)
        same = self.rows > 0 and bool((image == image[0]).all())
        # Rows of one image share its numbers, by broadcasting.
        self.image = image[:1] if same else image
        self._left: Iterator[tuple[int, Activation]] = enumerate(pathway.activations)

    def meet(self, operation: Operation) -> Tensor:
        """The operation as it is, but for chosen activations."""
        if not is_activation(operation):
            return operation.as_called()
        place, twin = next(self._left, (-1, None))
        here = operation.tensors[0].shape
        if (
            twin is None
            or operation.name != twin.function
            or here != (self.rows * twin.shape[0], *twin.shape[1:])
        ):
            raise _other_way(f"{operation.name} of {shape_text(here)}", twin, self.rows)
        return self.follow(place, operation) if place in self.pathway.values else operation.as_called()

    @abstractmethod
    def follow(self, place: int, operation: Operation) -> Tensor:
        """The result of a chosen activation, the `place`-th of all; as for `meet`."""

    def original(self, place: int) -> Float[Tensor, "rows_or_1 fold *unit"]:
        """What the activation was for the original image of each row."""
        return self.pathway.values[place][self.image]

    def by_rows(self, tensor: Float[Tensor, "all *unit"]) -> Float[Tensor, "rows fold *unit"]:
        """An activation of this run, in the form of `original`."""
        return torch.unflatten(tensor, 0, (self.rows, -1))

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        super().__exit__(kind, error, trace)  # type: ignore[no-untyped-call]
        if kind is None and (left := next(self._left, None)) is not None:
            raise _other_way(None, left[1], self.rows)


class Watch(Following):
    """Shows every chosen activation of a run to `look`, and changes nothing."""

    def __init__(
        self, pathway: Pathway, image: Int[Tensor, " rows"], look: "Callable[[Watch, int, Tensor], None]"
    ) -> None:
        super().__init__(pathway, image)
        self._look = look

    def follow(self, place: int, operation: Operation) -> Tensor:
        """The output as it is; it is shown as it is at that moment, and the network may overwrite it later."""
        result = operation.as_called()
        self._look(self, place, result)
        return result


def _other_way(here: str | None, twin: Activation | None, rows: int) -> ModelError:
    there = (
        "the end"
        if twin is None
        else f"{twin.function} of {shape_text((rows * twin.shape[0], *twin.shape[1:]))}"
    )
    return ModelError(
        f"the model computes otherwise than for the original image: {here or 'its end'} where there was {there}. "
        "Its steps must not depend on the numbers."
    )
