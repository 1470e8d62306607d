"""Expected gradients with noise on the input as well."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from counterpoint.checks import check_range
from counterpoint.comparison import Comparison
from counterpoint.methods.arithmetic import as_column, exact
from counterpoint.methods.sampling import mean_of_samples
from counterpoint.protocols import Claim, Level, Outcome


@dataclass(frozen=True)
class GradientSHAP:
    """Integrated gradients averaged over several baselines and over Gaussian noise on the input, each at a random point of its path.

    Formula: mean over draws b, noise e and t ~ U(0, 1) of (x + e - b) * f'(b + t (x + e - b)), e ~ N(0, (noise * (max x - min x))^2)

    Values: (batch, *features), signed, in units of the score, with the standard error of the mean (an upper estimate: t is drawn in
    strata). Shares of mean f(x + e) - mean f(b): by what the noise itself changes the score, the sum misses f(x) - mean f(b), and that is
    part of the error that is reported.

    Parameters:
        samples: How many gradients for each image, at most, spread evenly over the draws of the baseline.
        noise: Standard deviation of the noise as a share of each image's own range; with 0 these are expected gradients.
        seed: Of noise and points on the paths, which are the same for every image.
        precision: Stop where the expected relative L1 error of the map is this small; None takes all samples.

    Reference: Lundberg and Lee 2017, arXiv:1705.07874 (its package's gradient explainer); Erion et al. 2021, arXiv:1906.10670.
    """

    samples: int = 100
    noise: float = 0.1
    seed: int = 0
    precision: float | None = None
    claim: ClassVar[Claim] = "shares"
    level: ClassVar[Level] = "any"
    version: ClassVar[int] = 1
    many_draws: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_range("samples", self.samples, 2)
        check_range("noise", self.noise, 0.0)
        if self.precision is not None:
            check_range("precision", self.precision, 0.0, open_low=True)

    def __call__(self, comparison: Comparison) -> Outcome:
        """At most `samples` gradients for each image."""
        end = exact(comparison.end)
        starts = exact(comparison.start if comparison.draws > 1 else comparison.start.unsqueeze(0))
        flat = end.flatten(1)
        sigma = as_column(self.noise * (flat.amax(1) - flat.amin(1)), end)
        # On the CPU and in one sequence, the points first, so that neither device nor micro-batch changes a draw.
        generator = torch.Generator().manual_seed(self.seed)
        jitter = torch.rand(self.samples, generator=generator, dtype=torch.float64)
        places = (torch.randperm(self.samples, generator=generator) + jitter) / self.samples

        def draw(numbers: range, images: Tensor) -> Iterator[Tensor]:
            group = max(1, comparison.micro.rows // len(images))
            for first in range(numbers.start, numbers.stop, group):
                here = torch.arange(first, min(first + group, numbers.stop))
                noise = torch.randn(len(here), *end.shape[1:], generator=generator, dtype=torch.float64)
                # (images, samples here, *features), then one row a point
                noisy = end[images].unsqueeze(1) + sigma[images].unsqueeze(1) * noise.to(end)
                start = starts[(here % len(starts)).to(end.device)][:, images].transpose(0, 1)
                way = (noisy - start).flatten(0, 1)
                points = start.flatten(0, 1) + as_column(places[here].repeat(len(images)), end) * way
                gradients = comparison.gradients(
                    points.to(comparison.end.dtype), images.repeat_interleave(len(here))
                )
                yield from (way * exact(gradients)).view(len(images), len(here), *end.shape[1:]).unbind(1)

        found = mean_of_samples(
            draw, end, samples=self.samples, precision=self.precision, name="gradient_shap"
        )
        return Outcome(
            values=found.mean,
            standard_error=found.standard_error,
            value_error=found.value_error,
            converged=found.converged,
            stages={"quadrature": found.mean.flatten(1).sum(1)},
        )
