"""Baselines taken from given images: the nearest of them, or several."""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from counterpoint.baselines.scrambled import permutation
from counterpoint.checks import check_batch, check_images, check_range, shape_text
from counterpoint.errors import InputError, ShapeError
from counterpoint.protocols import Baseline

Image = Float[Tensor, "channel height width"]
Images = Float[Tensor, "batch channel height width"]
Bank = Float[Tensor, "count channel height width"]

# Numbers of the bank that are compared with an image at once.
_AT_ONCE = 32 * 3 * 224 * 224


def _not_given() -> Tensor:
    raise InputError(
        "images must be given, a tensor (count, channel, height, width), which no text can stand for; in Python: "
        "cp.baselines.Nearest(images), cp.baselines.Samples(images)."
    )


@dataclass(frozen=True, eq=False)
class Nearest(Baseline):
    """The nearest of given images, by the Euclidean distance of their pixels; never the image itself.

    Parameters:
        images: What to choose from, (count, channel, height, width), pixels in [0, 1]; one that is identical to the input is left out.
            Given in Python only.

    Reference: our own definition; baselines drawn from data as in Sturmfels et al. 2020, doi:10.23915/distill.00022.
    """

    images: Bank = field(default_factory=_not_given)

    def __post_init__(self) -> None:
        _check_bank(self.images)

    def __eq__(self, other: object) -> bool:
        return _equal(self, other)

    def __hash__(self) -> int:
        return _hash(self)

    def __call__(self, inputs: Images) -> Images:
        """The nearest image of each input.

        Raises:
            ShapeError: the inputs have another size than the images.
            InputError: no image is another one than the input.
        """
        _check_size(self.images, inputs)
        return torch.stack([self._nearest(image) for image in inputs])

    def _nearest(self, image: Image) -> Image:
        exact = torch.promote_types(image.dtype, torch.float32)
        distances = []
        for some, other in _compared(self.images, image):
            # Differences, not products: two images that are nearly the same would be lost to rounding.
            squares = (some.to(exact) - image.to(exact)).square().flatten(1).sum(1)
            distances.append(squares.masked_fill(~other, torch.inf))
        distance = torch.cat(distances)
        if bool(distance.isinf().all()):
            raise InputError("images must hold another image than the input, but all are identical to it.")
        return self.images[int(distance.argmin())].to(image)


@dataclass(frozen=True, eq=False)
class Samples(Baseline):
    """Several of given images, the same for every input; never the image itself.

    Parameters:
        images: What to choose from, (count, channel, height, width), pixels in [0, 1]. An input that is among them gets the next in the
            order instead of itself. Given in Python only.
        draws: How many different ones; above 1 for methods that average over baselines.
        seed: Which.

    Reference: Erion et al. 2021, arXiv:1906.10670 (baselines drawn from data).
    """

    images: Bank = field(default_factory=_not_given)
    draws: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        _check_bank(self.images)
        check_range("draws", self.draws, 1)
        if self.draws > len(self.images):
            raise InputError(
                f"draws must be at most the number of images, {len(self.images)}, got {self.draws}."
            )

    def __eq__(self, other: object) -> bool:
        return _equal(self, other)

    def __hash__(self) -> int:
        return _hash(self)

    def __call__(self, inputs: Images) -> Float[Tensor, "..."]:
        """The images drawn: (batch, ...), or (draws, batch, ...) of several.

        Raises:
            ShapeError: the inputs have another size than the images.
            InputError: fewer than `draws` images are another one than the input.
        """
        _check_size(self.images, inputs)
        order = permutation(len(self.images), self.seed)
        pictures = torch.stack([self._drawn(image, order) for image in inputs], dim=1)
        return pictures[0] if self.draws == 1 else pictures

    def _drawn(
        self, image: Image, order: Int[Tensor, " count"]
    ) -> Float[Tensor, "draws channel height width"]:
        other = torch.cat([other for _, other in _compared(self.images, image)]).cpu()
        drawn = order[other[order]][: self.draws]
        if len(drawn) < self.draws:
            raise InputError(
                f"images must hold {self.draws} others than the input to draw from, but hold {len(drawn)}; give more, or lower draws."
            )
        return self.images[drawn.to(self.images.device)].to(image)


def _check_bank(images: Bank) -> None:
    check_batch("images", images)
    check_images("images", images)


def _check_size(images: Bank, inputs: Images) -> None:
    check_images("inputs", inputs)
    if inputs.shape[1:] != images.shape[1:]:
        raise ShapeError(
            "images to choose from must have the size of the inputs, but images are "
            f"{shape_text(images)}, inputs are {shape_text(inputs)}."
        )


def _compared(images: Bank, image: Image) -> Iterator[tuple[Bank, Bool[Tensor, " count"]]]:
    """The images a few at a time, as `image` is stored, and which of them are another image than it."""
    many = max(1, _AT_ONCE // images[0].numel())
    for start in range(0, len(images), many):
        here = images[start : start + many].to(image)
        yield here, (here != image).flatten(1).any(1)


def _equal(one: Nearest | Samples, other: Any) -> bool:
    """Whether images and parameters are equal; generated comparisons would ask a tensor whether it is true."""
    if type(other) is not type(one):
        return False
    plain = [f.name for f in fields(one) if f.name != "images"]
    if any(getattr(one, name) != getattr(other, name) for name in plain):
        return False
    ours, theirs = one.images, other.images
    alike = ours.dtype == theirs.dtype and ours.device == theirs.device
    return ours is theirs or (alike and torch.equal(ours, theirs))


def _hash(one: Nearest | Samples) -> int:
    """Of what is cheap: the images themselves are compared only where all this is equal."""
    plain = tuple(getattr(one, f.name) for f in fields(one) if f.name != "images")
    return hash((type(one), tuple(one.images.shape), *plain))
