"""A model that takes its time without computing: what a benchmark costs beside its models shows against it."""

import time

import torch
from torch import Tensor, nn

import counterpoint as cp

SECONDS = 0.25
"""That each forward sleeps."""


class Sleeping(nn.Module):
    """A linear classifier behind a pause."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(3 * 16 * 16, 4, generator=generator))

    def forward(self, x: Tensor) -> Tensor:
        time.sleep(self.seconds)
        return x.flatten(1) @ self.weight


def sleeping() -> cp.Classifier:
    """About one second for each image: four forwards."""
    return cp.Classifier(Sleeping(SECONDS).eval(), mean=0.5, std=0.25, size=16, name="sleeping")


def trivial() -> cp.Classifier:
    """No pause."""
    return cp.Classifier(Sleeping(0.0).eval(), mean=0.5, std=0.25, size=16, name="trivial")
