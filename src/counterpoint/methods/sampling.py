"""Means over samples of each image's values: their standard error, and when they are precise enough."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from counterpoint import progress
from counterpoint.methods.arithmetic import as_column

# Precision is looked at after every so many samples, whatever the micro-batch: an image's samples are the same alone or in company.
ROUND = 16
# The mean distance of a normal variable from its mean, in standard deviations.
_MEAN_DISTANCE = math.sqrt(2 / math.pi)

Draw = Callable[[range, Int[Tensor, " active"]], Iterable[Float[Tensor, "active *shape"]]]
"""The samples with these numbers, one after the other, of the images with these indices. Sample n must be the same however it is asked
for: draw it from a generator of its own, or in order."""


@dataclass(frozen=True, eq=False)
class Samples:
    """What a number of samples says of each image."""

    mean: Float[Tensor, "batch *shape"]
    squares: Float[Tensor, "batch *shape"]
    """Sum of the squared distances from the mean."""
    count: Int[Tensor, " batch"]
    """How many samples were taken."""
    value_error: Float[Tensor, " batch"]
    """Expected relative L1 distance of the mean from the converged one, for errors that are normal."""
    converged: Bool[Tensor, " batch"] | None
    """Whether `value_error` came down to the precision asked for; None where none was asked for."""

    @property
    def standard_error(self) -> Float[Tensor, "batch *shape"]:
        """Of the mean, for samples that are independent."""
        n = as_column(self.count, self.squares)
        return (self.squares / (n * (n - 1))).sqrt()


def mean_of_samples(
    draw: Draw,
    like: Float[Tensor, "batch *shape"],
    *,
    samples: int,
    precision: float | None,
    name: str,
    centred: bool = False,
) -> Samples:
    """Average samples, each image until it is precise enough.

    Args:
        draw: Gives the samples; see `Draw`.
        like: A tensor of the shape and type of the result.
        samples: How many at most, 2 or more.
        precision: The `value_error` at which an image has enough; None to take all samples.
        name: Shown with the progress.
        centred: Measure the error against the map's distance from its own mean: for maps whose level says nothing.
    """
    mean, squares = torch.zeros_like(like), torch.zeros_like(like)
    count = torch.zeros(len(like), dtype=torch.int64, device=like.device)
    error = torch.full((len(like),), math.nan, dtype=like.dtype, device=like.device)
    active = torch.arange(len(like), device=like.device)
    done = 0
    while done < samples and len(active):
        numbers = range(done, min(done + ROUND, samples))
        for n, sample in enumerate(draw(numbers, active), start=done + 1):  # Welford's running variance
            step = sample.to(like) - mean[active]
            mean[active] += step / n
            squares[active] += step * (sample.to(like) - mean[active])
        done = numbers.stop
        count[active] = done
        error[active] = _value_error(mean[active], squares[active], done, centred=centred)
        if precision is not None:
            active = active[~(error[active] <= precision)]
        progress.advance(len(like) * samples - len(active) * (samples - done), len(like) * samples, name)
    return Samples(
        mean=mean,
        squares=squares,
        count=count,
        value_error=error,
        converged=None if precision is None else error <= precision,
    )


def _value_error(mean: Tensor, squares: Tensor, count: int, *, centred: bool) -> Float[Tensor, " images"]:
    standard_error = (squares / (count * max(1, count - 1))).sqrt().flatten(1).sum(1)
    flat = mean.flatten(1)
    size = (flat - flat.mean(1, keepdim=True) if centred else flat).abs().sum(1)
    # A map of exact zeros is precise; anything else of no size is not.
    return torch.where(standard_error == 0, 0.0, _MEAN_DISTANCE * standard_error / size)
