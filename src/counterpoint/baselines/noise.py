"""Baselines of noise."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from counterpoint.errors import InputError
from counterpoint.protocols import Baseline

Inputs = Float[Tensor, "batch *input"]


@dataclass(frozen=True)
class Uniform(Baseline):
    """Every number drawn from [low, high], the same picture for all images.

    Reference: Picard et al. 2025, arXiv:2512.11433, baseline "uniform".
    """

    low: float = 0.0
    high: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise InputError(f"low must be below high, got {self.low!r} and {self.high!r}.")

    def __call__(self, inputs: Inputs) -> Inputs:
        """The picture that the seed stands for."""
        # Drawn on the CPU, so that one seed means one picture on every device, and once for the batch, so that an
        # image's baseline is the same alone or in company.
        generator = torch.Generator().manual_seed(self.seed)
        noise = torch.rand(inputs.shape[1:], generator=generator, dtype=torch.float64)
        return (self.low + (self.high - self.low) * noise).to(inputs).expand_as(inputs).clone()


@dataclass(frozen=True)
class Normal(Baseline):
    """Gaussian noise around mid-grey, 0.5 + 0.5 clip(N(0, 1), -1, 1): a third of the numbers are black or white.

    Reference: Picard et al. 2025, arXiv:2512.11433, baseline "normal", from [-1, 1] to [0, 1].
    """

    seed: int = 0

    def __call__(self, inputs: Inputs) -> Inputs:
        """The picture that the seed stands for."""
        generator = torch.Generator().manual_seed(self.seed)
        noise = torch.randn(inputs.shape[1:], generator=generator, dtype=torch.float64)
        return (0.5 + 0.5 * noise.clamp(-1.0, 1.0)).to(inputs).expand_as(inputs).clone()
