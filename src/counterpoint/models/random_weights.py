"""Random weights, drawn from a seed of their own."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

RANDOM = "random"
"""What `Classifier.weights` is for a network that has learned nothing."""


@contextmanager
def seeded(seed: int = 0) -> Iterator[None]:
    """Numbers drawn within the block come from `seed`; torch's own generator is afterwards as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
