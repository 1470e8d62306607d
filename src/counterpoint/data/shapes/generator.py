"""Batches of generated images with their evidence, each image from a generator of its own."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from PIL import Image
from torch import Tensor

from counterpoint.checks import check_range
from counterpoint.data.shapes.scene import CLASSES, Scene, draw_scene
from counterpoint.errors import InputError

SMALLEST = 48
"""Below this side the stripes of the smallest objects run together."""

# What is drawn from a seed: the order of the classes, and the images.
_LABELS, _IMAGES = 0, 1


@dataclass(frozen=True, kw_only=True, eq=False)
class ShapeBatch:
    """Images, the class of each, and which pixels decide it."""

    images: Float[Tensor, "batch 3 size size"]
    """float32 in [0, 1], whole multiples of 1/255: a PNG file holds them exactly."""
    backgrounds: Float[Tensor, "batch 3 size size"]
    """The same images without object and decoys; equal to `images` elsewhere."""
    labels: Int[Tensor, " batch"]
    """Indices into CLASSES."""
    evidence: Bool[Tensor, "batch size size"]
    """The object's pixels, all of them and no others: nothing else depends on the class."""
    decoys: Bool[Tensor, "batch size size"]
    """The decoys' pixels; never those of the object."""

    @property
    def names(self) -> tuple[str, ...]:
        """The class of each image in words."""
        return tuple(CLASSES[label] for label in self.labels.tolist())

    def without(self, removed: Bool[Tensor, "batch size size"]) -> Float[Tensor, "batch 3 size size"]:
        """The images with what lies behind them in place of the removed pixels.

        `batch.without(batch.evidence)` has no object, not even its outline, which a flat fill would leave to be seen.
        """
        return torch.where(removed.unsqueeze(1), self.backgrounds, self.images)

    def picture(self, index: int) -> Image.Image:
        """One image as a picture, to be saved or shown."""
        pixels = self.images[index].permute(1, 2, 0).mul(255).round().to(torch.uint8)
        return Image.fromarray(pixels.numpy())


def generate(count: int, *, seed: int, size: int = 64) -> ShapeBatch:
    """Draw images with known evidence.

    Image number i of a seed is the same however many are asked for. The classes come in blocks, each of them once in a block, so that no
    class is ahead of another by more than one.

    Args:
        count: How many.
        seed: Other seeds give other images.
        size: Side in pixels. Things and their textures grow with it.

    Raises:
        InputError: `count` below 1, `seed` below 0, `size` below SMALLEST, or any of them no whole number.
    """
    for name, value, least in (("count", count, 1), ("seed", seed, 0), ("size", size, SMALLEST)):
        if type(value) is not int:
            raise InputError(f"{name} must be a whole number, got {value!r}.")
        check_range(name, value, least)
    labels = _labels(count, seed)
    scenes = [
        draw_scene(label, size, np.random.default_rng((_IMAGES, seed, index)))
        for index, label in enumerate(labels)
    ]
    return _batch(scenes, labels)


def _labels(count: int, seed: int) -> list[int]:
    labels: list[int] = []
    while len(labels) < count:
        block = len(labels) // len(CLASSES)
        labels += np.random.default_rng((_LABELS, seed, block)).permutation(len(CLASSES)).tolist()
    return labels[:count]


def _batch(scenes: list[Scene], labels: list[int]) -> ShapeBatch:
    def pixels(pictures: list[np.ndarray]) -> Tensor:
        return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous().float() / 255

    return ShapeBatch(
        images=pixels([scene.image for scene in scenes]),
        backgrounds=pixels([scene.background for scene in scenes]),
        labels=torch.tensor(labels),
        evidence=torch.from_numpy(np.stack([scene.evidence for scene in scenes])),
        decoys=torch.from_numpy(np.stack([scene.decoys for scene in scenes])),
    )
