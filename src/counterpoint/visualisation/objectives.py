"""What an image is to be made for: a number read of a network, larger where it answers more.

Each is an object that is called with views (rows, 3, height, width) and returns one number for each. The network is run only as far as
the layer that is read: there the run is broken off. Hooks are gone when the call ends, also after an error. Any function of views will do
as well.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from counterpoint import layers
from counterpoint.checks import check_finite, shape_text
from counterpoint.classifier import Classifier
from counterpoint.errors import InputError, LayerError, ShapeError
from counterpoint.layers import penultimate_layer, token_grid
from counterpoint.layout_finding import channels_of, find_layout
from counterpoint.layouts import ChannelsLast
from counterpoint.scores import BoundClassScore, ClassScore, Kind
from counterpoint.state import left_as_found, modes

PENULTIMATE = "penultimate"
"""Stands for the layer that the last linear layer reads, unless a layer has that name."""

Views = Float[Tensor, "rows 3 height width"]
Model = nn.Module | Classifier
Reading = Callable[[Tensor, Tensor], Tensor]
"""From the features of a layer, and the views, to one number for each view."""


class LayerObjective:
    """A number read of one layer's output; made by the functions below."""

    def __init__(self, model: Model, layer: str, text: str, read: Reading) -> None:
        self.module = layers.eager(_module(model))
        self.layer = layer
        self.text = text
        """What it is, in words."""
        self._read = read
        self._checked = False
        self._channels_last = False
        if layer != PENULTIMATE:
            layers.find_layer(self.module, layer)

    def __repr__(self) -> str:
        return self.text

    def __call__(self, views: Views) -> Float[Tensor, " rows"]:
        """The number of each view.

        Raises:
            LayerError: the layer does not run, runs more than once, or returns no single tensor of numbers for each view.
            InputError: there is no such channel or place in its output.
            ShapeError: its output has no places, or no channels.
        """
        return self._read(self.features(views), views)

    def features(self, views: Views) -> Float[Tensor, "rows *features"]:
        """What the layer returns for the views, maps with their channels first.

        Raises:
            LayerError: see above.
        """
        if not self._checked:
            self._check(views[:1].detach())
        found: list[Any] = []

        def reached(layer: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
            found.append(output)
            raise _Reached

        with (
            left_as_found(self.module),
            layers.watching(self.module, reached, layers.find_layer(self.module, self.layer)),
        ):
            with suppress(_Reached):
                _run(self.module, views)
        features: Tensor = found[0]
        return features.movedim(-1, 1) if self._channels_last else features

    def _check(self, view: Tensor) -> None:
        """Settle the layer, and make sure that it has one output: one whole run, of one view."""
        with torch.no_grad(), left_as_found(self.module):
            if self.layer == PENULTIMATE and PENULTIMATE not in layers.layer_names(self.module):
                self.layer = penultimate_layer(self.module, view)
            found: list[Any] = []

            def keep(layer: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
                found.append(output)

            with layers.watching(self.module, keep, layers.find_layer(self.module, self.layer)):
                _run(self.module, view)
        if len(found) != 1:
            times = "does not run" if not found else f"runs {len(found)} times"
            raise LayerError(
                f"layer '{self.layer}' {times} in a forward of the model, so it has no single output."
            )
        output = found[0]
        if not isinstance(output, Tensor) or not output.is_floating_point():
            what = output.dtype if isinstance(output, Tensor) else f"a {type(output).__name__}"
            raise LayerError(f"layer '{self.layer}' returns {what}; one tensor of real numbers is needed.")
        if output.ndim < 2 or output.shape[0] != 1:
            raise LayerError(
                f"layer '{self.layer}' returns {shape_text(output)} for one view, which has no row for it."
            )
        if output.ndim == 4:
            said = channels_of(layers.find_layer(self.module, self.layer), output.shape)
            self._channels_last = said != "first" and isinstance(
                find_layout(self.module, self.layer, view), ChannelsLast
            )
        self._checked = True


class _Reached(Exception):
    """The layer has run; the rest of the network need not."""


def _run(module: nn.Module, views: Tensor) -> None:
    if not any(modes(module)):
        module(views)
        return
    # In training mode batch norm writes to its buffers, which the backward pass may still need: it gets copies.
    copies = {name: buffer.clone() for name, buffer in module.named_buffers()}
    functional_call(module, copies, (views,))


def channel(model: Model, layer: str, channel: int) -> LayerObjective:
    """The mean of a channel over its places; of a layer without places, (rows, units), the unit itself.

    Channels are the second axis of maps (rows, channels, ...), and the last of tokens (rows, tokens, channels).

    Raises:
        UnknownNameError: no such layer; the message has the nearest name.
        InputError: a channel below 0 or, when the network first runs, one that it has not.
    """
    _check_index("channel", channel)

    def read(features: Tensor, views: Tensor) -> Tensor:
        return _per_view(_one_channel(features, channel, layer))

    return LayerObjective(model, layer, f"mean of channel {channel} of '{layer}'", read)


def unit(model: Model, layer: str, channel: int, position: tuple[int, int] | None = None) -> LayerObjective:
    """One channel at one place; of tokens that lie on a grid, the token at that row and column.

    Args:
        model: A Classifier, or a module that takes pixels.
        layer: The layer's name.
        channel: Which channel.
        position: Row and column in the layer's map; the centre by default.

    Raises:
        UnknownNameError: no such layer; the message has the nearest name.
        InputError: numbers below 0 or, when the network first runs, a channel or place that it has not.
        ShapeError: when the network first runs: the layer's output has no places.
    """
    _check_index("channel", channel)
    if position is not None:
        if len(position) != 2:
            raise InputError(f"position must be (row, column), got {position!r}.")
        for name, place in zip(("row", "column"), position, strict=True):
            _check_index(name, place)

    def read(features: Tensor, views: Tensor) -> Tensor:
        found = _map(_one_channel(features, channel, layer), features, views, layer)
        rows, columns = found.shape[1:]
        y, x = (rows // 2, columns // 2) if position is None else position
        if y >= rows or x >= columns:
            raise InputError(
                f"position must lie in the {rows} x {columns} places of layer '{layer}', got ({y}, {x})."
            )
        return found[:, y, x]

    where = "its centre" if position is None else f"row {position[0]}, column {position[1]}"
    return LayerObjective(model, layer, f"channel {channel} of '{layer}' at {where}", read)


def direction(model: Model, layer: str, vector: Float[Tensor, " channels"]) -> LayerObjective:
    """How far the features go along a direction: the dot product with the vector of length 1, mean over places.

    Args:
        model: A Classifier, or a module that takes pixels.
        layer: The layer's name.
        vector: One number for each channel: the weights of a probe, or the difference of two means.

    Raises:
        UnknownNameError: no such layer; the message has the nearest name.
        ShapeError: no vector or, when the network first runs, another number of channels.
        InputError: a vector of zeros.
        NotFiniteError: NaN or infinity.
    """
    if vector.ndim != 1:
        raise ShapeError(f"vector must be (channels,), got {shape_text(vector)}.")
    check_finite("vector", vector)
    length = vector.norm()
    if not length > 0:
        raise InputError("vector must have a direction, but it is all zeros.")

    def read(features: Tensor, views: Tensor) -> Tensor:
        places = _channels_last(features)
        if places.shape[-1] != len(vector):
            raise ShapeError(
                f"vector must have one number for each of the {places.shape[-1]} channels of layer '{layer}', got {len(vector)}."
            )
        along: Tensor = places @ (vector / length).to(features)
        return _per_view(along)

    return LayerObjective(model, layer, f"a direction in '{layer}'", read)


def mean_activation(model: Model, layer: str = PENULTIMATE) -> LayerObjective:
    """The mean of |features| over all units; `optimise(..., minimise=True)` silences the layer with it.

    Raises:
        UnknownNameError: no such layer; the message has the nearest name.

    Reference: Picard et al. 2025, arXiv:2512.11433, the loss of its learned baseline.
    """

    def read(features: Tensor, views: Tensor) -> Tensor:
        return features.flatten(1).abs().mean(1)

    return LayerObjective(model, layer, f"mean activity of '{layer}'", read)


def silence(model: Model, layer: str = PENULTIMATE, *, floor: float = 0.1) -> LayerObjective:
    """The mean of 1 / (features^2 + floor) over all units, to be made large: 1 / floor where the layer is silent.

    Unlike the mean of |features| it gains most by silencing units that are nearly silent already.

    Raises:
        UnknownNameError: no such layer; the message has the nearest name.
        InputError: a floor that is not positive.

    Reference: Picard et al. 2025, arXiv:2512.11433, the gallery of its code, with floor 0.1.
    """
    if not floor > 0:
        raise InputError(f"floor must be above 0, got {floor!r}.")

    def read(features: Tensor, views: Tensor) -> Tensor:
        return (1 / (features.square() + floor)).flatten(1).mean(1)

    return LayerObjective(model, layer, f"silence of '{layer}'", read)


class ClassObjective:
    """The score of one class; made by `class_` or `logit`."""

    def __init__(self, model: Model, target: int | str, kind: Kind) -> None:
        if target == "top1":
            raise InputError(
                "target must be a class, as an image that is only being made has no first choice."
            )
        self.module = _module(model)
        self._score = ClassScore(model, target, kind)
        self._bound: BoundClassScore | None = None
        self.text = f"{kind.replace('_', ' ')} of class {target}"
        """What it is, in words."""

    def __repr__(self) -> str:
        return self.text

    @property
    def index(self) -> int | None:
        """The class as a number; None until the network has run."""
        return None if self._bound is None else int(self._bound.classes[0])

    def __call__(self, views: Views) -> Float[Tensor, " rows"]:
        """The score of each view.

        Raises:
            ModelError: the model does not return (rows, classes).
            InputError: there is no such class.
        """
        with left_as_found(self.module):
            if self._bound is None:  # the class is settled once, with one run
                self._bound = self._score.bind(views[:1].detach().clamp(0, 1))
            return self._bound(views, torch.zeros(len(views), dtype=torch.int64, device=views.device))


def class_(
    model: Model,
    target: int | str,
    kind: Literal["logit", "probability", "log_probability", "log_odds"] = "logit",
) -> ClassObjective:
    """The score of a class. The logit keeps growing where a probability has come near 1 and stops.

    Args:
        model: A Classifier, or a module that takes pixels and returns (rows, classes).
        target: The class: its index, or its label where the model has labels.
        kind: What is read of it.

    Raises:
        InputError: no class but "top1".
    """
    return ClassObjective(model, target, kind)


def logit(model: Model, target: int | str) -> ClassObjective:
    """The score of a class before softmax, see `class_`."""
    return ClassObjective(model, target, "logit")


def _module(model: Model) -> nn.Module:
    if not isinstance(model, nn.Module | Classifier):
        raise InputError(f"model must be a torch.nn.Module or a Classifier, got {type(model).__name__}.")
    return model.module if isinstance(model, Classifier) else model


def _check_index(name: str, index: int) -> None:
    if type(index) is not int or index < 0:
        raise InputError(f"{name} must be a whole number of at least 0, got {index!r}.")


def _channels_last(features: Tensor) -> Tensor:
    """(rows, *places, channels); tokens (rows, tokens, channels) and units (rows, channels) are so already."""
    return features if features.ndim <= 3 else features.movedim(1, -1)


def _one_channel(features: Tensor, channel: int, layer: str) -> Tensor:
    places = _channels_last(features)
    if channel >= places.shape[-1]:
        raise InputError(
            f"channel must be from 0 to {places.shape[-1] - 1} at layer '{layer}', whose output is {shape_text(features[0])} "
            f"for one image, got {channel}."
        )
    return places[..., channel]


def _per_view(values: Tensor) -> Tensor:
    """The mean over places, of which there may be none."""
    return values.reshape(len(values), -1).mean(1)


def _map(values: Tensor, features: Tensor, views: Tensor, layer: str) -> Tensor:
    """One channel as (rows, height, width)."""
    if features.ndim == 4:
        return values
    grid = None
    if features.ndim == 3:
        grid = token_grid(features.shape[1], (views.shape[2], views.shape[3]))
    if grid is None:
        raise ShapeError(
            f"a unit has a place, but layer '{layer}' returns {shape_text(features[0])} for one image, which has none; ask for the channel."
        )
    extra, rows, columns = grid
    return values[:, extra:].reshape(len(values), rows, columns)
