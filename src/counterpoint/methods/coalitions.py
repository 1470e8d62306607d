"""Images with some of their regions removed: their scores, and what is found for regions put back on pixels."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from counterpoint import progress
from counterpoint.comparison import Comparison
from counterpoint.methods.arithmetic import exact
from counterpoint.methods.regions import Regions, labels_of


@dataclass(frozen=True, eq=False)
class Game:
    """One image's score, as a function of which of its regions are there."""

    comparison: Comparison
    image: int
    labels: Int[Tensor, " *space"]
    regions: int
    """How many there are."""

    def __call__(self, present: Bool[Tensor, "rows regions"]) -> Float[Tensor, " rows"]:
        """The score with only these regions there, the others removed; float64, on the CPU."""
        scores, done = [], 0
        while done < len(present):
            # Points are made for one micro-batch at a time: memory does not grow with the number of coalitions.
            rows = present[done : done + self.comparison.micro.rows].to(self.labels.device)
            image = torch.full((len(rows),), self.image, device=self.labels.device)
            scores.append(self.comparison.scores(self.comparison.filled(~rows[:, self.labels], image), image))
            done += len(rows)
            progress.advance(done, len(present))
        return torch.cat(scores).cpu().double()

    def painted(self, numbers: Float[Tensor, " regions"]) -> Float[Tensor, " *space"]:
        """Each region's number on each of its pixels."""
        return numbers.to(exact(self.comparison.end))[self.labels]

    def spread(self, shares: Float[Tensor, " regions"]) -> Float[Tensor, " *space"]:
        """Each region's share spread evenly over its pixels."""
        pixels = torch.bincount(self.labels.flatten(), minlength=self.regions).cpu()
        return self.painted(shares / pixels)


def games(comparison: Comparison, regions: Regions) -> list[Game]:
    """The game of each image.

    Raises:
        ShapeError: the inputs are no images.
        InputError: what `regions` gives is no labels.
    """
    labels = labels_of(regions, comparison.inputs)
    return [Game(comparison, i, each, int(each.max()) + 1) for i, each in enumerate(labels)]


def expected_error(
    standard_error: Float[Tensor, " regions"], numbers: Float[Tensor, " regions"]
) -> Float[Tensor, ""]:
    """Expected relative L1 distance of numbers from the converged ones, for errors that are normal."""
    # The mean distance of a normal variable from its mean is sqrt(2 / pi) standard deviations; numbers without error are precise, also 0.
    error = math.sqrt(2 / math.pi) * standard_error.sum()
    return torch.where(error == 0, 0.0, error / numbers.abs().sum())


def masked_scores(
    comparison: Comparison,
    points: Callable[[range, Int[Tensor, " rows"]], Float[Tensor, "rows channel *space"]],
    image: int,
    numbers: range,
) -> Float[Tensor, " numbers"]:
    """The score of one image under the masks with these numbers; float64, on the CPU.

    Args:
        points: Makes the inputs under the masks with some numbers, given which image each row belongs to.
        image: Which of the inputs.
        numbers: Which of the masks.
    """
    scores = []
    for first in range(numbers.start, numbers.stop, comparison.micro.rows):
        here = range(first, min(numbers.stop, first + comparison.micro.rows))
        rows = torch.full((len(here),), image, device=comparison.inputs.device)
        scores.append(comparison.scores(points(here, rows), rows).cpu().double())
        progress.advance(here.stop - numbers.start, len(numbers))
    return torch.cat(scores)


def on_channels(
    maps: Float[Tensor, "batch *space"], comparison: Comparison
) -> Float[Tensor, "batch channel *space"]:
    """A number a pixel, an equal part of it in each channel, so that channels sum to the map."""
    channels = comparison.end.shape[1]
    each = (maps.to(exact(comparison.end)) / channels).unsqueeze(1)
    return each.expand(-1, channels, *maps.shape[1:]).contiguous()
