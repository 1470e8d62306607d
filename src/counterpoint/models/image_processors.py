"""What the image processors of transformers do to a photograph, as our preprocessing; held against the processor itself."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from counterpoint.classifier import Classifier
from counterpoint.errors import ModelError
from counterpoint.preprocessing import Interpolation

_FILTERS: dict[int, Interpolation] = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
"""Pillow's numbers."""
_ALLOWED = 0.01
"""Of the range of pixels: how far ours may be from the processor's on average, which rounds and smooths a little otherwise."""


@dataclass(frozen=True)
class Prepared:
    """How photographs are prepared."""

    size: tuple[int, int]
    crop: float
    stretched: bool
    interpolation: Interpolation
    mean: tuple[float, ...]
    std: tuple[float, ...]
    blue_first: bool
    """The network takes blue, green, red."""


class BlueFirst(nn.Module):
    """A network that takes blue, green, red, as one that takes red, green, blue."""

    wraps = "model"
    """The child whose layer names are the user's own; see counterpoint.layers."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.training = model.training

    def forward(self, images: Tensor) -> Any:
        """The network's output for (batch, red green blue, height, width)."""
        return self.model(images.flip(1))


def prepared_like(processor: Any, config: Any, channels: int, name: str) -> Prepared:
    """Read an image processor's settings.

    Args:
        processor: Of transformers.
        config: Of the model.
        channels: That the model takes.
        name: What messages call the model.

    Raises:
        ModelError: it resizes in a way that is not known here.
    """
    size, crop, stretched = _geometry(processor, config, name)
    resample = processor.resample
    if resample is not None and int(resample) not in _FILTERS:
        raise ModelError(f"{name} resizes photographs by filter {resample}, which is not known here.")
    # Theirs: (255 x * factor - offset - mean) / std for pixels x in [0, 1].
    factor = 255 * (processor.rescale_factor if processor.do_rescale else 1.0)
    offset = 1.0 if getattr(processor, "rescale_offset", None) else 0.0
    mean, std = [0.0] * channels, [1.0] * channels
    if processor.do_normalize:
        mean, std = _each(processor.image_mean, channels), _each(processor.image_std, channels)
    if getattr(processor, "include_top", None):  # EfficientNet's divides once more
        std = [a * b for a, b in zip(std, _each(processor.image_std, channels), strict=True)]
    return Prepared(
        size=size,
        crop=crop,
        stretched=stretched,
        interpolation=_FILTERS[int(resample)] if resample is not None else "bilinear",
        mean=tuple((offset + value) / factor for value in mean),
        std=tuple(value / factor for value in std),
        blue_first=bool(getattr(processor, "do_flip_channel_order", None)),
    )


def check_same(classifier: Classifier, processor: Any, *, blue_first: bool) -> None:
    """Prepare a picture by the processor and by the classifier, and refuse the model where they differ.

    Raises:
        ModelError: they do.
    """
    if len(classifier.preprocessing.mean) != 3:
        return  # a picture in grey is no common ground: some processors want three channels even so
    # A processor that cuts nothing off keeps the shape of the picture: only of a square one it makes a square.
    for picture in (_picture(320, 240), _picture(240, 240)):
        theirs = processor(images=picture, return_tensors="pt")["pixel_values"]
        ours = classifier.module.normalise(classifier.preprocessing(picture)[None])
        if theirs.shape == ours.shape:
            break
    what = f"{tuple(theirs.shape[1:])}, where {tuple(ours.shape[1:])} was read from its settings"
    if theirs.shape == ours.shape:
        std = torch.tensor(classifier.preprocessing.std).view(1, -1, 1, 1)
        apart = float(((theirs - (ours.flip(1) if blue_first else ours)) * std).abs().mean())
        if apart <= _ALLOWED:
            return
        what = f"pixels that are {apart:.2f} apart on average, of a range of 1"
    raise ModelError(
        f"{type(processor).__name__} prepares photographs in a way that is not known here: of a test picture it made {what}. Make a "
        "Classifier of your own, whose module takes pixels in [0, 1]."
    )


def _geometry(processor: Any, config: Any, name: str) -> tuple[tuple[int, int], float, bool]:
    """Size of the input, side of the central crop, and whether photographs are stretched."""
    size = dict(processor.size or {})
    cut = dict(processor.crop_size or {}) if processor.do_center_crop else {}
    side, percent = size.get("shortest_edge"), getattr(processor, "crop_pct", None)
    if not processor.do_resize:
        plain = cut.get("height") or getattr(config, "image_size", None)
        if not isinstance(plain, int):
            raise ModelError(f"{name} does not say to which size photographs are resized.")
        return (plain, plain), 1.0, False
    if size.get("height") and size.get("width"):
        height, width = size["height"], size["width"]
        if not cut:
            return (height, width), 1.0, True
        return (cut["height"], cut["width"]), min(1.0, cut["height"] / height), True
    if side is None:
        raise ModelError(f"{name} resizes photographs to {size}, which is not known here.")
    if percent is not None and not cut:  # ConvNeXt: large inputs are stretched, small ones cut out
        return ((side, side), 1.0, True) if side >= 384 else ((side, side), percent, False)
    if percent is not None:  # PoolFormer
        side = int(side / percent)
    if type(processor).__name__.startswith("Levit"):
        side = int(256 / 224 * side)
    if not cut:
        return (side, side), 1.0, False
    return (cut["height"], cut["width"]), min(1.0, cut["height"] / side), False


def _each(values: Any, channels: int) -> list[float]:
    found = [float(value) for value in values] if isinstance(values, list | tuple) else [float(values)]
    return found if len(found) == channels else found[:1] * channels


def _picture(width: int, height: int) -> Image.Image:
    """Smooth, and different in each colour, along each side and in each corner."""
    across, down = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    colours = (across, down, across * down)
    return Image.fromarray(np.stack([np.rint(255 * each) for each in colours], axis=2).astype(np.uint8))
