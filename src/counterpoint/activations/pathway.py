"""The activations of original images, recorded once, for runs of perturbed images to be held against."""

import functools
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from counterpoint.activations.chosen import (
    ACTIVATIONS,
    SATURATING,
    Activation,
    Chosen,
    Layers,
    is_activation,
    numbered_where_needed,
)
from counterpoint.activations.modes import Mode, Under
from counterpoint.activations.operations import Operation, at_least_float32
from counterpoint.checks import shape_text
from counterpoint.errors import InputError, ModelError
from counterpoint.layers import unwrapped

Reading = Literal["output", "unit"]
"""What is recorded of an activation.

output  what the next operation is given.
unit    the number whose interval clipping looks at: what goes into a SATURATING function, what comes out of the others.
"""


@dataclass(frozen=True, kw_only=True, eq=False)
class Pathway:
    """What the activations of the original images were; made by `recorded`."""

    activations: tuple[Activation, ...]
    """All of the network, in the order of their run."""
    reading: Reading
    images: int
    values: Mapping[int, Float[Tensor, "images fold *unit"]]
    """Of the chosen activations, by their place among all; `fold` is how many rows of the first axis belong to one image, usually 1."""

    @classmethod
    def recorded(
        cls,
        run: Callable[[Under], Any],
        module: nn.Module | None = None,
        *,
        layers: Layers = None,
        reading: Reading = "unit",
    ) -> "Pathway":
        """Run the original images and keep their activations.

        Rows must be the first axis of every chosen activation, or its outermost part. All chosen activations of all images are kept: an
        EfficientNet-Lite0 has 27 MB of them for an image of 224 x 224.

        Args:
            run: Runs each original once, under the contexts that it is given the maker of: `lambda under: comparison.scores(comparison.end,
                under=under)`. Without gradients.
            module: The network, for the names of its layers; None for one that is not known: then activations have the names of functions.
            layers: Which activations to keep; see `Layers`.
            reading: What to keep of them.

        Raises:
            InputError: no activation was seen, or fewer than are asked for, or `layers` is of another type.
            UnknownNameError: `layers` names neither a module nor an activation.
            LayerError: `layers` names a module in which no activation runs.
            ModelError: a part of the network is compiled or scripted, so that its activations cannot be seen; the rows of an image
                cannot be told apart in an activation; or the images do not take the same way.
        """
        names = _names_of(module)
        chosen = Chosen.of(layers)
        parts: list[_Part] = []

        def under(image: Int[Tensor, " rows"]) -> "_Recorder":
            return _Recorder(image, names, chosen, reading, parts)

        run(under)
        if not parts or not parts[0].activations:
            known = ", ".join(sorted(ACTIVATIONS))
            raise InputError(f"the model has no activations to look at: none of {known} was seen in its run.")
        chosen.check(parts[0].activations, module)
        return _joined(parts, reading)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the chosen activations, in the order of their run."""
        return tuple(self.activations[place].name for place in self.values)

    @functools.cached_property
    def scale(self) -> dict[int, Float[Tensor, " images"]]:
        """The root mean square of each chosen activation, for each image alone."""
        return {
            place: torch.linalg.vector_norm(value.flatten(1), dim=1, dtype=at_least_float32(value))
            / value[0].numel() ** 0.5
            for place, value in self.values.items()
        }


@dataclass(frozen=True, eq=False)
class _Part:
    """What some of the images left behind."""

    image: Int[Tensor, " rows"]
    activations: tuple[Activation, ...]
    values: dict[int, Tensor]


class _Recorder(Mode):
    """Keeps the chosen activations of some images, and hands them over if the run ends well."""

    def __init__(
        self,
        image: Int[Tensor, " rows"],
        layers: Mapping[nn.Module, str],
        chosen: "Chosen",
        reading: Reading,
        parts: list[_Part],
    ) -> None:
        super().__init__(ACTIVATIONS)
        self._image = image
        self._layers = layers
        self._chosen = chosen
        self._reading = reading
        self._parts = parts
        self._seen: list[Activation] = []
        self._values: dict[int, Tensor] = {}
        self._times: dict[str, int] = {}

    def meet(self, operation: Operation) -> Tensor:
        if not is_activation(operation):
            return operation.as_called()
        place, rows = len(self._seen), len(self._image)
        shape = operation.tensors[0].shape
        running = _running(self._layers)
        own = (running[0] if running else "") or operation.name
        self._times[own] = self._times.get(own, 0) + 1
        name = f"{own} ({self._times[own]})"
        if shape[0] % rows:
            raise ModelError(
                f"activation '{own}' is {shape_text(shape)} for {rows} rows: rows must be the first axis."
            )
        within = frozenset([own, *(part for full in running for part in _enclosing(full))])
        self._seen.append(Activation(name, operation.name, (shape[0] // rows, *shape[1:]), within))
        keeps = self._chosen.keeps(self._seen[-1])
        before = self._reading == "unit" and operation.name in SATURATING
        point = operation.tensors[0].detach().clone() if keeps and before else None
        result = operation.as_called()
        if keeps:
            value = result.detach().clone() if point is None else point
            self._values[place] = torch.unflatten(value, 0, (rows, -1))
            if self._chosen.last is not None and len(self._values) > self._chosen.last:
                del self._values[next(iter(self._values))]
        return result

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        super().__exit__(kind, error, trace)  # type: ignore[no-untyped-call]
        if kind is None:
            self._parts.append(_Part(self._image, numbered_where_needed(self._seen), self._values))


def _names_of(module: nn.Module | None) -> dict[nn.Module, str]:
    """The user's own name of each part of the network.

    Raises:
        ModelError: a part is compiled or scripted.
    """
    if module is None:
        return {}
    for name, part in module.named_modules():
        if isinstance(part, torch.jit.ScriptModule) or "_orig_mod" in part._modules:
            raise ModelError(
                f"the activations inside '{name or type(part).__name__}' cannot be seen, as it is compiled or scripted; use the model "
                "that it was made of."
            )
    return {part: name for name, part in unwrapped(module)[1].named_modules()}


def _running(names: Mapping[nn.Module, str]) -> list[str]:
    """The names of the modules that are running, innermost first, as the stack of calls has them.

    Nothing is hooked: a model with hooks may not be cut, and is not folded.
    """
    found: list[str] = []
    frame = sys._getframe(1) if names else None
    while frame is not None:
        part = frame.f_locals.get("self")
        if isinstance(part, nn.Module) and part in names and names[part] not in found:
            found.append(names[part])
        frame = frame.f_back
    return found


def _enclosing(name: str) -> Iterator[str]:
    """Its own name and those that it begins with: blocks.0.relu, blocks.0, blocks."""
    while name:
        yield name
        name = name.rpartition(".")[0]


def _joined(parts: list[_Part], reading: Reading) -> Pathway:
    """The images of all parts, in their order."""
    first = parts[0]
    here = [(each.function, each.shape) for each in first.activations]
    for part in parts[1:]:
        if [(each.function, each.shape) for each in part.activations] != here:
            raise ModelError(
                "the model computes otherwise for one image than for another. Its steps must not depend on the numbers."
            )
    image = torch.cat([part.image for part in parts])
    order = image.argsort()
    if not torch.equal(image[order], torch.arange(len(image), device=image.device)):
        raise InputError("run must run each of the original images once.")
    values = {}
    for place in list(first.values):
        pieces = [part.values.pop(place) for part in parts]
        values[place] = pieces[0] if len(pieces) == 1 else torch.cat(pieces)
        if not torch.equal(image, image[order]):
            values[place] = values[place][order]
    return Pathway(activations=first.activations, reading=reading, images=len(image), values=values)
