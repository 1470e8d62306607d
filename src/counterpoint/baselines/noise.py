"""Baselines of noise."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from counterpoint.checks import check_range
from counterpoint.errors import InputError
from counterpoint.protocols import Baseline

Inputs = Float[Tensor, "batch *input"]
Pictures = Float[Tensor, "..."]


@dataclass(frozen=True)
class Uniform(Baseline):
    """Every number drawn from [low, high], the same picture for all images.

    Parameters:
        draws: How many pictures each image is compared with; above 1 for methods that average over baselines.

    Reference: Picard et al. 2025, arXiv:2512.11433, baseline "uniform".
    """

    low: float = 0.0
    high: float = 1.0
    seed: int = 0
    draws: int = 1

    def __post_init__(self) -> None:
        check_range("draws", self.draws, 1)
        if not self.low < self.high:
            raise InputError(f"low must be below high, got {self.low!r} and {self.high!r}.")

    def __call__(self, inputs: Inputs) -> Pictures:
        """The pictures that the seed stands for: (batch, ...), or (draws, batch, ...) of several."""
        generator = torch.Generator().manual_seed(self.seed)
        shape = (self.draws, *inputs.shape[1:])
        noise = torch.rand(shape, generator=generator, dtype=torch.float64)
        return _for_all(self.low + (self.high - self.low) * noise, inputs)


@dataclass(frozen=True)
class Normal(Baseline):
    """Gaussian noise around mid-grey, 0.5 + 0.5 clip(N(0, 1), -1, 1): a third of the numbers are black or white.

    Parameters:
        draws: How many pictures each image is compared with; above 1 for methods that average over baselines.

    Reference: Picard et al. 2025, arXiv:2512.11433, baseline "normal", from [-1, 1] to [0, 1].
    """

    seed: int = 0
    draws: int = 1

    def __post_init__(self) -> None:
        check_range("draws", self.draws, 1)

    def __call__(self, inputs: Inputs) -> Pictures:
        """The pictures that the seed stands for: (batch, ...), or (draws, batch, ...) of several."""
        generator = torch.Generator().manual_seed(self.seed)
        shape = (self.draws, *inputs.shape[1:])
        noise = torch.randn(shape, generator=generator, dtype=torch.float64)
        return _for_all(0.5 + 0.5 * noise.clamp(-1.0, 1.0), inputs)


def _for_all(noise: Float[Tensor, "draws *image"], inputs: Inputs) -> Pictures:
    """The same pictures for every input.

    They are drawn on the CPU, so that one seed means one picture on every device, and once for the batch, so that an image's
    baseline is the same alone or in company.
    """
    pictures = noise.to(inputs).unsqueeze(1).expand(-1, *inputs.shape).clone()
    return pictures[0] if len(pictures) == 1 else pictures
