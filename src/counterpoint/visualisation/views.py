"""What a network is shown of an image while it is optimised: random crops, or all of it."""

from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from counterpoint.checks import check_images, check_range
from counterpoint.errors import InputError
from counterpoint.visualisation.resampling import resampled, whole_box

Images = Float[Tensor, "1 channel height width"]


class Views(Protocol):
    """From one image to the batch that the network is shown."""

    def __call__(
        self, image: Images, size: tuple[int, int], generator: torch.Generator
    ) -> Float[Tensor, "views channel out_height out_width"]:
        """The views, of the size that the network takes; all that is random comes from the generator, which is the CPU's."""
        ...


@dataclass(frozen=True)
class Crops:
    """Random crops at the network's size, with noise.

    A crop has the shape of the network's input, square for most. Its longer side is U(a, b) of the image's shorter side; its centre is
    N(1/2, centre_spread) of the image's sides, moved inwards where the crop would stick out. Crops are resized bilinearly, with
    antialiasing where they shrink. To each pixel N(0, normal_noise) and U(-uniform_noise, uniform_noise) are added.

    Parameters:
        count: Crops in each batch. The published recipe has 32 for ResNets, 8 for vision transformers.
        sides: The least and the largest side, as fractions of the image's.
        centre_spread: Standard deviation of the centre, as a fraction of the image's sides.
        normal_noise: Standard deviation, in units of pixels in [0, 1].
        uniform_noise: Half the range, in units of pixels in [0, 1].

    Raises:
        InputError: no crops, sides that are not 0 < a <= b <= 1, or a negative number.

    Reference: Picard et al. 2025, arXiv:2512.11433, whose noise, 0.08 and 0.04 of pixels in [-1, 1], is 0.04 and 0.02 here; there crops
        may stick out of the image.
    """

    count: int = 6
    sides: tuple[float, float] = (0.05, 0.7)
    centre_spread: float = 0.15
    normal_noise: float = 0.04
    uniform_noise: float = 0.02

    def __post_init__(self) -> None:
        check_count("count", self.count)
        if len(self.sides) != 2 or not 0 < self.sides[0] <= self.sides[1] <= 1:
            raise InputError(
                f"sides must be the least and the largest side, 0 < a <= b <= 1, got {self.sides!r}."
            )
        for name in ("centre_spread", "normal_noise", "uniform_noise"):
            check_range(name, getattr(self, name), 0)

    def __call__(
        self, image: Images, size: tuple[int, int], generator: torch.Generator
    ) -> Float[Tensor, "views channel out_height out_width"]:
        """The crops of one image.

        Raises:
            ShapeError: not images.
        """
        check_images("image", image)
        boxes = self.boxes((image.shape[2], image.shape[3]), size, generator)
        views = torch.cat(
            [resampled(image, (box[0], box[1], box[2], box[3]), size) for box in boxes.tolist()]
        )
        return _noisy(views, self.normal_noise, self.uniform_noise, generator)

    def boxes(
        self, image_size: tuple[int, int], size: tuple[int, int], generator: torch.Generator
    ) -> Float[Tensor, "count 4"]:
        """Where the crops lie: top, left, bottom and right, in pixels from the image's corner, float64."""
        low, high = self.sides
        share = torch.rand(self.count, generator=generator, dtype=torch.float64)
        centre = torch.randn(self.count, 2, generator=generator, dtype=torch.float64)
        longer = (low + (high - low) * share).clamp(low, high) * min(image_size)
        sides = longer[:, None] * torch.tensor(size, dtype=torch.float64) / max(size)
        room = torch.tensor(image_size, dtype=torch.float64) - sides
        corner = (0.5 + self.centre_spread * centre) * torch.tensor(image_size) - sides / 2
        corner = corner.clamp(min=0).minimum(room)
        return torch.cat([corner, corner + sides], 1)


@dataclass(frozen=True)
class Whole:
    """The image as it is used: all of it at the network's size, resized with antialiasing, with or without noise.

    For a network whose input has another shape than the image it is the largest central part of that shape.

    Parameters:
        count: Views in each batch; above 1 they differ by their noise.
        normal_noise: Standard deviation, in units of pixels in [0, 1].
        uniform_noise: Half the range, in units of pixels in [0, 1].

    Raises:
        InputError: no views, or a negative number.
    """

    count: int = 1
    normal_noise: float = 0.0
    uniform_noise: float = 0.0

    def __post_init__(self) -> None:
        check_count("count", self.count)
        for name in ("normal_noise", "uniform_noise"):
            check_range(name, getattr(self, name), 0)

    def __call__(
        self, image: Images, size: tuple[int, int], generator: torch.Generator
    ) -> Float[Tensor, "views channel out_height out_width"]:
        """The image at the network's size.

        Raises:
            ShapeError: not images.
        """
        check_images("image", image)
        views = resampled(image, whole_box(image, size), size).expand(self.count, -1, -1, -1)
        return _noisy(views, self.normal_noise, self.uniform_noise, generator)


def check_count(name: str, count: int, least: int = 1) -> None:
    """Raise InputError unless `count` is a whole number of at least `least`."""
    if type(count) is not int or count < least:
        raise InputError(f"{name} must be a whole number of at least {least}, got {count!r}.")


def _noisy(views: Tensor, normal: float, uniform: float, generator: torch.Generator) -> Tensor:
    # Drawn on the CPU in one type, so that one seed means the same noise everywhere.
    if normal > 0:
        views = views + normal * torch.randn(views.shape, generator=generator).to(views)
    if uniform > 0:
        views = views + uniform * (2 * torch.rand(views.shape, generator=generator) - 1).to(views)
    return views
