"""Path methods with another sum: over random baselines, or over the squares of the gradients."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from counterpoint import progress
from counterpoint.checks import check_range
from counterpoint.comparison import Comparison
from counterpoint.methods.arithmetic import as_column, exact
from counterpoint.methods.sampling import mean_of_samples
from counterpoint.protocols import Claim, Level, Outcome


@dataclass(frozen=True)
class ExpectedGradients:
    """Integrated gradients averaged over several baselines, each at random points of its path.

    Formula: mean over draws b and t ~ U(0, 1) of (x - b) * f'(b + t (x - b))

    Values: (batch, *features), signed, in units of the score; shares of f(x) - mean f(b), with the standard error of the mean
    (an upper estimate: t is drawn in strata).

    Parameters:
        samples: How many gradients for each image, at most, spread evenly over the draws of the baseline.
        seed: Of the points on the paths, which are the same for every image.
        precision: Stop where the expected relative L1 error of the map is this small; None takes all samples.

    Reference: Erion et al. 2021, arXiv:1906.10670.
    """

    samples: int = 100
    seed: int = 0
    precision: float | None = None
    claim: ClassVar[Claim] = "shares"
    level: ClassVar[Level] = "any"
    version: ClassVar[int] = 1
    many_draws: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_range("samples", self.samples, 2)
        if self.precision is not None:
            check_range("precision", self.precision, 0.0, open_low=True)

    def __call__(self, comparison: Comparison) -> Outcome:
        """At most `samples` gradients for each image."""
        end = comparison.end
        starts = comparison.start if comparison.draws > 1 else comparison.start.unsqueeze(0)
        generator = torch.Generator().manual_seed(self.seed)
        jitter = torch.rand(self.samples, generator=generator, dtype=torch.float64)
        stratum = torch.randperm(self.samples, generator=generator)
        places = (stratum + jitter) / self.samples

        def draw(numbers: range, images: Tensor) -> Iterator[Tensor]:
            group = max(1, comparison.micro.rows // len(images))
            for first in range(numbers.start, numbers.stop, group):
                here = torch.arange(first, min(first + group, numbers.stop))
                image = images.repeat_interleave(len(here))
                start = starts[(here % len(starts)).repeat(len(images)).to(end.device), image]
                way = end[image] - start
                gradients = comparison.gradients(
                    start + as_column(places[here].repeat(len(images)), end) * way, image
                )
                samples = (exact(end[image]) - exact(start)) * exact(gradients)
                yield from samples.view(len(images), len(here), *end.shape[1:]).unbind(1)

        found = mean_of_samples(
            draw, exact(end), samples=self.samples, precision=self.precision, name="expected_gradients"
        )
        return Outcome(
            values=found.mean,
            standard_error=found.standard_error,
            value_error=found.value_error,
            converged=found.converged,
            stages={"quadrature": found.mean.flatten(1).sum(1)},
        )


@dataclass(frozen=True)
class IDGI:
    """Each step's change of score, divided among the features by their squared gradients.

    Formula: sum over j of (f(x_j+1) - f(x_j)) * g_j^2 / |g_j|_2^2, g_j = f'(x_j), on the straight path

    Values: (batch, *features), signed, in units of the score. Their sum is f(x) - f(x') by construction, whatever the map: the error
    is forced, is left out of rankings by error, and proves nothing.

    Parameters:
        steps: How many equal steps.

    Reference: Yang et al. 2023, arXiv:2303.14242.
    """

    steps: int = 50
    claim: ClassVar[Claim] = "shares"
    level: ClassVar[Level] = "any"
    version: ClassVar[int] = 1
    error_is_forced: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_range("steps", self.steps, 1)

    def __call__(self, comparison: Comparison) -> Outcome:
        """`steps` gradients for each image; the scores come with them."""
        start, end = comparison.start, comparison.end
        values, share = torch.zeros_like(exact(end)), torch.zeros_like(exact(end))
        last = comparison.baseline_score
        for j in range(self.steps):
            score, gradient = comparison.scores_and_gradients(start + j / self.steps * (end - start))
            values += as_column(score - last, values) * share  # at j = 0 nothing has changed yet
            square = exact(gradient).square()
            norm = as_column(square.flatten(1).sum(1), values)
            share, last = square / norm.where(norm > 0, 1.0), score
            progress.advance(j + 1, self.steps, "idgi")
        values += as_column(comparison.score - last, values) * share
        return Outcome(values=values, stages={"quadrature": values.flatten(1).sum(1)})
