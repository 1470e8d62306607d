"""Gradients under Gaussian noise around the input: their mean, their variance, their mean square."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from counterpoint.checks import check_range
from counterpoint.comparison import Comparison
from counterpoint.methods.arithmetic import as_column, exact
from counterpoint.methods.sampling import Samples, mean_of_samples
from counterpoint.protocols import Claim, Level, Outcome


@dataclass(frozen=True)
class SmoothGrad:
    """The gradient averaged over Gaussian noise around the input.

    Formula: mean over n of f'(x + noise_n), noise_n ~ N(0, (noise * (max x - min x))^2)

    Values: (batch, *features), signed, score per unit of the feature; a rate.

    Parameters:
        samples: How many gradients are averaged, at most.
        noise: Standard deviation of the noise as a share of each image's own range.
        seed: Of the noise, which is the same for every image.
        precision: Stop where the expected relative L1 error of the mean gradient is this small; None takes all samples.

    Reference: Smilkov et al. 2017, arXiv:1706.03825.
    """

    samples: int = 50
    noise: float = 0.15
    seed: int = 0
    precision: float | None = None
    claim: ClassVar[Claim] = "rate"
    level: ClassVar[Level] = "any"
    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        _check(self.samples, self.noise, self.precision)

    def __call__(self, comparison: Comparison) -> Outcome:
        """At most `samples` gradients for each image, with the standard error of their mean."""
        found = _gradients(comparison, self, "smooth_grad")
        return Outcome(
            values=found.mean,
            standard_error=found.standard_error,
            value_error=found.value_error,
            converged=found.converged,
        )


@dataclass(frozen=True)
class VarGrad:
    """The variance of the gradient under Gaussian noise: where the score's slope is unsteady.

    Formula: variance over n of f'(x + noise_n), noise as in smooth_grad, divided by n - 1

    Values: (batch, *features), not negative, squared score per squared unit of the feature; an importance.

    Parameters:
        samples: How many gradients are drawn, at most.
        noise: Standard deviation of the noise as a share of each image's own range.
        seed: Of the noise, which is the same for every image.
        precision: Stop where the expected relative L1 error of the mean gradient is this small; None takes all samples.

    Reference: Adebayo et al. 2018, arXiv:1810.03292.
    """

    samples: int = 50
    noise: float = 0.15
    seed: int = 0
    precision: float | None = None
    claim: ClassVar[Claim] = "importance"
    level: ClassVar[Level] = "any"
    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        _check(self.samples, self.noise, self.precision)

    def __call__(self, comparison: Comparison) -> Outcome:
        """At most `samples` gradients for each image."""
        found = _gradients(comparison, self, "var_grad")
        return Outcome(
            values=found.squares / as_column(found.count - 1, found.squares), converged=found.converged
        )


@dataclass(frozen=True)
class SquareGrad:
    """The mean square of the gradient under Gaussian noise, SmoothGrad squared.

    Formula: mean over n of f'(x + noise_n)^2, noise as in smooth_grad

    Values: (batch, *features), not negative, squared score per squared unit of the feature; an importance.

    Parameters:
        samples: How many gradients are averaged, at most.
        noise: Standard deviation of the noise as a share of each image's own range.
        seed: Of the noise, which is the same for every image.
        precision: Stop where the expected relative L1 error of the mean gradient is this small; None takes all samples.

    Reference: Hooker et al. 2019, arXiv:1806.10758.
    """

    samples: int = 50
    noise: float = 0.15
    seed: int = 0
    precision: float | None = None
    claim: ClassVar[Claim] = "importance"
    level: ClassVar[Level] = "any"
    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        _check(self.samples, self.noise, self.precision)

    def __call__(self, comparison: Comparison) -> Outcome:
        """At most `samples` gradients for each image."""
        found = _gradients(comparison, self, "square_grad")
        return Outcome(
            values=found.squares / as_column(found.count, found.squares) + found.mean**2,
            converged=found.converged,
        )


def _check(samples: int, noise: float, precision: float | None) -> None:
    check_range("samples", samples, 2)
    check_range("noise", noise, 0.0, open_low=True)
    if precision is not None:
        check_range("precision", precision, 0.0, open_low=True)


def _gradients(comparison: Comparison, method: "SmoothGrad | VarGrad | SquareGrad", name: str) -> Samples:
    """Moments of the gradient under noise; every image gets the same draws, scaled by its own range."""
    end = exact(comparison.end)
    flat = end.flatten(1)
    sigma = as_column(method.noise * (flat.amax(1) - flat.amin(1)), end)
    # Drawn on the CPU and in one sequence, so that neither device nor micro-batch changes a draw.
    generator = torch.Generator().manual_seed(method.seed)

    def draw(numbers: range, images: Tensor) -> Iterator[Tensor]:
        group = max(1, comparison.micro.rows // len(images))
        for first in range(numbers.start, numbers.stop, group):
            count = min(group, numbers.stop - first)
            noise = torch.randn(count, *end.shape[1:], generator=generator, dtype=torch.float64).to(end)
            # (images, count, *features), then one row a point
            points = (end[images].unsqueeze(1) + sigma[images].unsqueeze(1) * noise).flatten(0, 1)
            gradients = comparison.gradients(points.to(comparison.end.dtype), images.repeat_interleave(count))
            yield from exact(gradients).view(len(images), count, *end.shape[1:]).unbind(1)

    return mean_of_samples(draw, end, samples=method.samples, precision=method.precision, name=name)
