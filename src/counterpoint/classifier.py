"""A model together with all that is needed to ask it about a photograph: its preprocessing and its labels."""

import hashlib
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from dataclasses import asdict
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from counterpoint.adapting import Adapted, adapted, uncompiled
from counterpoint.checks import check_batch, check_images, shape_text
from counterpoint.errors import InputError, ModelError, ShapeError
from counterpoint.images import read_image
from counterpoint.outputs import Output, only_tensor, ways_out
from counterpoint.preprocessing import Interpolation, Preprocessing

__all__ = ["Classifier", "Normalise", "Normalised", "Prediction", "Preprocessing", "weights_hash"]

Photograph = str | os.PathLike[str] | Image.Image
"""A file, or a picture that is open already."""

_ROWS_AT_ONCE = 16
# How far pixels may lie outside [0, 1]: bicubic resizing and rounding overshoot a little.
_OUTSIDE = 0.1
_HALF = (torch.bfloat16, torch.float16)


class Normalise(nn.Module):
    """(x - mean) / std, channel by channel, in the type and on the device of x."""

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        # Plain attributes, not buffers: `module.half()` must not round them for good, and Apple's GPUs know
        # no float64.
        self.mean = torch.tensor(mean, dtype=torch.float64).view(-1, 1, 1)
        self.std = torch.tensor(std, dtype=torch.float64).view(-1, 1, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalise pixels (batch, channel, height, width), which lie in [0, 1].

        Raises:
            ShapeError: another number of channels, which would otherwise be broadcast in silence.
        """
        if isinstance(pixels, Tensor):  # not so while torch.fx traces
            channels = self.mean.shape[0]
            if pixels.ndim < 3 or pixels.shape[-3] != channels:
                raise ShapeError(
                    f"inputs must be (batch, {channels}, height, width), got {shape_text(pixels)}."
                )
        return (pixels - self.mean.to(pixels)) / self.std.to(pixels)

    def extra_repr(self) -> str:
        """The numbers, for `print(module)`."""
        return f"mean={self.mean.flatten().tolist()}, std={self.std.flatten().tolist()}"


class Normalised(nn.Module):
    """A model that takes pixels in [0, 1]: its normalisation, then the model itself.

    The model is held, not copied. Training mode, gradients and hooks are left as they are. For weights of half precision the pixels are
    normalised as they come and cast after that, so that inputs, gradients and paths keep their digits.
    """

    wraps = "model"
    """The child whose layer names are the user's own; see counterpoint.layers."""
    hands_on = True
    """That child is called with one tensor and nothing else; see counterpoint.adapting."""

    def __init__(self, normalise: Normalise, model: nn.Module, labels: tuple[str, ...] | None = None) -> None:
        super().__init__()
        self.normalise = normalise
        self.model = model
        self.labels = labels
        # Set one by one, as train() would change the model as well.
        self.training = self.normalise.training = model.training

    def check_pixels(self, name: str, pixels: Tensor) -> None:
        """Check images before they are explained. Points on the way, such as noisy ones, may leave the range.

        Raises:
            ShapeError: not (batch, channel, height, width).
            InputError: pixels outside [0, 1], where this module takes "black" and "white" to be.
        """
        check_images(name, pixels)
        low, high = float(pixels.min()), float(pixels.max())
        if low < -_OUTSIDE or high > 1 + _OUTSIDE:
            hint = "; 0..255 become that by inputs / 255" if high > 2 else ""
            raise InputError(
                f"{name} must be pixels in [0, 1], but go from {low:.3g} to {high:.3g}{hint}. The module normalises them itself."
            )

    def forward(self, pixels: Tensor) -> Any:
        """The model's own output for pixels (batch, channel, height, width) in [0, 1]."""
        normal, half = self.normalise(pixels), self._half_weight()
        return self.model(normal if half is None else normal.type_as(half))

    def reading(self, output: Output | None) -> "Normalised":
        """This with another part of the model's output picked; itself for None. One and the same when asked again."""
        model = adapted(self.model, output=output)
        if model is self.model:
            return self
        key = (id(self.normalise), id(model))
        found = _readings.get(key)
        if found is None:
            found = _readings[key] = Normalised(self.normalise, model, self.labels)
        return found

    def _half_weight(self) -> Tensor | None:
        """The model's first weight, where that is of half precision."""
        for part in self.model.modules():
            for name, weight in part._parameters.items():
                if weight is not None and weight.is_floating_point():
                    # Asked for by its name, so that a traced graph looks its type up anew.
                    return getattr(part, name) if weight.dtype in _HALF else None
        return None


# For as long as somebody uses them, as in counterpoint.adapting; the first number is that of an object whose `normalise` they hold.
_readings: "WeakValueDictionary[tuple[int, int], Normalised]" = WeakValueDictionary()


class Prediction(NamedTuple):
    """One class that a model sees in an image."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody asks of three fields
    label: str | None
    probability: float


class Classifier:
    """A model, its preprocessing and its labels.

    `module` takes pixels in [0, 1]; its first layer normalises, its second is the model, which is held and
    not copied. A model in training mode is left in it, with a warning: batch norm would make its scores
    depend on the rest of the batch.

    Args:
        module: Any module from normalised images (batch, channel, height, width) to class scores (batch,
            classes).
        mean: Subtracted from each channel, in units of pixels in [0, 1]; one number stands for all channels.
            There is no default, since a model with the wrong scaling still answers, only worse. A model that
            takes pixels as they are has mean 0 and std 1.
        std: What each channel is divided by afterwards, in the same units.
        size: Height and width of the input in pixels, or one number for a square.
        labels: The names of the classes, in the order of the outputs.
        name: What results and cards call the model; the name of its class by default.
        crop: Side of the central cut-out of a photograph, as a fraction of the largest that fits.
        interpolation: How a photograph is resized: "nearest", "bilinear", "bicubic" or "lanczos".
        weights: Where the weights come from, in words; "random" for a model that was not trained.
        output: Which part of the module's output holds the class scores, where it returns several tensors: a key of a dict, a field, an
            index, or a function of the output.

    Raises:
        InputError: not a module, or an argument that `Preprocessing` refuses, or labels that are not strings.

    Example:
        `Classifier(resnet, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), size=224, crop=224 / 232)`
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        mean: float | Iterable[float],
        std: float | Iterable[float],
        size: int | tuple[int, int],
        labels: Iterable[str] | None = None,
        name: str | None = None,
        crop: float = 1.0,
        interpolation: Interpolation = "bicubic",
        weights: str | None = None,
        output: Output | None = None,
    ) -> None:
        if isinstance(module, Classifier | Normalised):
            raise InputError(
                "module is wrapped already; normalising twice would be wrong. Give the model itself."
            )
        if not isinstance(module, nn.Module):
            raise InputError(f"module must be a torch.nn.Module, got {type(module).__name__}.")
        means, stds = _per_channel(mean, std)
        self.preprocessing = Preprocessing(
            size=(size, size) if type(size) is int else size,  # type: ignore[arg-type]  # checked there
            mean=means,
            std=stds,
            crop=crop,
            interpolation=interpolation,
        )
        self.labels = None if labels is None else _checked_labels(labels)
        self.name = type(module).__name__ if name is None else name
        self.weights = weights
        module = uncompiled(module, stacklevel=3)
        self.module = Normalised(Normalise(means, stds), adapted(module, output=output), self.labels)
        warn_of_training_mode(module, stacklevel=3)

    def __repr__(self) -> str:
        height, width = self.preprocessing.size
        classes = "" if self.labels is None else f", {len(self.labels)} labels"
        return f"Classifier({self.name!r}, {len(self.preprocessing.mean)} x {height} x {width}{classes})"

    def with_output(self, output: Output | None) -> "Classifier":
        """This classifier with another part of the model's output read as class scores, see `output`; itself for None."""
        if output is None:
            return self
        other = copy(self)
        other.module = self.module.reading(output)
        return other

    @property
    def network(self) -> nn.Module:
        """The model that was given, without normalisation."""
        model = self.module.model
        return model.model if isinstance(model, Adapted) else model

    @property
    def device(self) -> torch.device:
        """Where the model's first parameter lies; the CPU for a model without any."""
        first = next(self.module.parameters(), None)
        return torch.device("cpu") if first is None else first.device

    def to(self, device: torch.device | str) -> "Classifier":
        """This classifier, its model moved to `device` in place, as torch's own `to` does."""
        self.module.to(device)
        return self

    def preprocess(
        self, images: Photograph | Iterable[Photograph]
    ) -> Float[Tensor, "batch channel height width"]:
        """The inputs for some photographs: pixels in [0, 1], float32, on the model's device.

        Args:
            images: Files or open pictures; a single one makes a batch of one.

        Raises:
            ImageError: a file that cannot be read as an image.
            InputError: something that is neither, or no image at all.
        """
        rows = [self.preprocessing(_opened(image)) for image in _listed(images)]
        if not rows:
            raise InputError("images must name at least one photograph, got none.")
        return torch.stack(rows).to(self.device)

    def top(self, inputs: Float[Tensor, "batch channel height width"], k: int = 5) -> list[list[Prediction]]:
        """The `k` most probable classes of each image, the most probable first.

        Args:
            inputs: Pixels in [0, 1].
            k: How many classes; all of them where there are fewer.

        Raises:
            InputError: `k` below 1.
            ShapeError: not (batch, channel, height, width), or another number of channels than the model's.
            ModelError: the output is not (batch, classes), or there are more or fewer labels than classes.
        """
        if k < 1:
            raise InputError(f"k must be at least 1, got {k!r}.")
        check_batch("inputs", inputs)
        predictions = []
        with torch.no_grad():
            for start in range(0, len(inputs), _ROWS_AT_ONCE):
                scores = self._class_scores(inputs[start : start + _ROWS_AT_ONCE])
                # float32 at least: bfloat16 keeps three digits of a probability
                probabilities = scores.softmax(1, dtype=torch.promote_types(scores.dtype, torch.float32))
                best = probabilities.topk(min(k, probabilities.shape[1]), dim=1)
                predictions += [
                    [self._prediction(index, value) for index, value in zip(indices, values, strict=True)]
                    for indices, values in zip(best.indices.tolist(), best.values.tolist(), strict=True)
                ]
        return predictions

    def _class_scores(self, rows: Tensor) -> Tensor:
        output = self.module(rows)
        scores = only_tensor(output)
        if scores is None or scores.ndim != 2 or scores.shape[0] != rows.shape[0]:
            came = output if scores is None else scores
            raise ModelError(
                f"the model must return class scores ({rows.shape[0]}, classes), got {ways_out(came)}."
            )
        if self.labels is not None and len(self.labels) != scores.shape[1]:
            raise ModelError(
                f"the model has {scores.shape[1]} classes, but there are {len(self.labels)} labels."
            )
        return scores

    def _prediction(self, index: int, probability: float) -> Prediction:
        return Prediction(index, None if self.labels is None else self.labels[index], probability)

    @property
    def weights_hash(self) -> str:
        """SHA-256 of the model's state, see `weights_hash`; computed anew, as weights can change."""
        return weights_hash(self.network)

    def card(self) -> dict[str, Any]:
        """What a report has to say about the model, JSON-ready.

        `classes` is None where there are no labels. `random_weights` is True for weights that were declared
        random or whose batch norms have never seen data (statistics and offsets as they were born), None where nothing is known.
        """
        random = self.weights == "random" or _is_untrained(self.network)
        return {
            "name": self.name,
            "weights": self.weights,
            "weights_sha256": self.weights_hash,
            "random_weights": random or (None if self.weights is None else False),
            "classes": None if self.labels is None else len(self.labels),
            "preprocessing": {
                field: list(value) if isinstance(value, tuple) else value
                for field, value in asdict(self.preprocessing).items()
            },
        }


def weights_hash(module: nn.Module) -> str:
    """SHA-256 over the names, shapes, types and bytes of a module's state, in order.

    64 hexadecimal digits, the same on every device. State that is not a tensor counts by its repr.
    """
    digest = hashlib.sha256()
    for name, value in module.state_dict().items():
        if not isinstance(value, Tensor):
            digest.update(f"{name} {value!r}\n".encode())
            continue
        digest.update(f"{name} {shape_text(value)} {value.dtype}\n".encode())
        plain = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        digest.update(memoryview(plain.numpy()))  # type: ignore[arg-type]  # a buffer since 3.12, to types
    return digest.hexdigest()


def _per_channel(
    mean: float | Iterable[float], std: float | Iterable[float]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Both as one number per channel; two single numbers mean three channels."""
    given = [_numbers(name, value) for name, value in (("mean", mean), ("std", std))]
    channels = max((len(values) for values in given if isinstance(values, tuple)), default=3)
    means, stds = (values if isinstance(values, tuple) else (values,) * channels for values in given)
    return means, stds


def _numbers(name: str, value: float | Iterable[float]) -> float | tuple[float, ...]:
    try:
        return tuple(float(item) for item in value) if isinstance(value, Iterable) else float(value)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} must be a number, or one per channel, got {value!r}.") from error


def _checked_labels(labels: Iterable[str]) -> tuple[str, ...]:
    if isinstance(labels, str):
        raise InputError(f"labels must be a list of names, got one string, {labels!r}.")
    names = tuple(labels)
    for index, label in enumerate(names):
        if not isinstance(label, str):
            raise InputError(f"labels must be strings, but number {index} is {label!r}.")
    if not names:
        raise InputError("labels must name at least one class; leave them out if there are none.")
    return names


def _listed(images: Photograph | Iterable[Photograph]) -> list[Photograph]:
    if isinstance(images, str | os.PathLike | Image.Image):
        return [images]
    if isinstance(images, Tensor | np.ndarray) or not isinstance(images, Iterable):
        raise InputError(
            f"images must be files or PIL images, got {type(images).__name__}; "
            "tensors with pixels in [0, 1] need no preprocessing."
        )
    return list(images)


def _opened(image: Photograph) -> Image.Image:
    if isinstance(image, Image.Image):
        return image
    if isinstance(image, str | os.PathLike):
        return read_image(image)
    raise InputError(f"images must be files or PIL images, but one is of type {type(image).__name__}.")


def _batch_norms(module: nn.Module) -> Iterator[nn.modules.batchnorm._NormBase]:
    for child in module.modules():
        if isinstance(child, nn.modules.batchnorm._NormBase) and child.running_mean is not None:
            yield child


def _is_untrained(module: nn.Module) -> bool:
    """Whether the module has batch norms, and they are as they were born: their statistics, and offsets of 0.

    One whose statistics were folded into other weights has learned offsets.
    """
    norms = list(_batch_norms(module))
    return bool(norms) and all(
        bool((norm.running_mean == 0).all())  # type: ignore[union-attr]
        and bool((norm.running_var == 1).all())  # type: ignore[union-attr]
        and (norm.bias is None or bool((norm.bias == 0).all()))
        for norm in norms
    )


def warn_of_training_mode(module: nn.Module, *, stacklevel: int) -> None:
    """Warn where scores would depend on the rest of the batch, or on chance."""
    kinds = (nn.modules.batchnorm._NormBase, nn.modules.dropout._DropoutNd, nn.RReLU)
    names = [
        f"'{name}' ({type(child).__name__})"
        for name, child in module.named_modules()
        # timm's DropPath and torchvision's StochasticDepth are known by their names only
        if child.training
        and (isinstance(child, kinds) or type(child).__name__ in ("DropPath", "StochasticDepth"))
    ]
    if names:
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        warnings.warn(
            f"the model is in training mode, where {names[0]}{more} make scores depend on the rest "
            "of the batch or on chance; call model.eval() first.",
            UserWarning,
            stacklevel=stacklevel,
        )
