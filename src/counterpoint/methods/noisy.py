"""Gradients under Gaussian noise around the input: their mean, their variance, their mean square."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from counterpoint import progress
from counterpoint.checks import check_range
from counterpoint.comparison import Comparison
from counterpoint.methods.arithmetic import exact
from counterpoint.protocols import Claim, Level, Outcome


@dataclass(frozen=True)
class SmoothGrad:
    """The gradient averaged over Gaussian noise around the input.

    Formula: mean over n of f'(x + noise_n), noise_n ~ N(0, (noise * (max x - min x))^2)

    Values: (batch, *features), signed, score per unit of the feature; a rate.

    Parameters:
        samples: How many gradients are averaged.
        noise: Standard deviation of the noise as a share of each image's own range.
        seed: Of the noise, which is the same for every image.

    Reference: Smilkov et al. 2017, arXiv:1706.03825.
    """

    samples: int = 50
    noise: float = 0.15
    seed: int = 0
    claim: ClassVar[Claim] = "rate"
    level: ClassVar[Level] = "any"
    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        _check(self.samples, self.noise)

    def __call__(self, comparison: Comparison) -> Outcome:
        """`samples` gradients for each image, with the standard error of their mean."""
        mean, squares = _moments(comparison, self.samples, self.noise, self.seed, "smooth_grad")
        return Outcome(values=mean, standard_error=(squares / (self.samples * (self.samples - 1))).sqrt())


@dataclass(frozen=True)
class VarGrad:
    """The variance of the gradient under Gaussian noise: where the score's slope is unsteady.

    Formula: variance over n of f'(x + noise_n), noise as in smooth_grad, divided by n - 1

    Values: (batch, *features), not negative, squared score per squared unit of the feature; an importance.

    Parameters:
        samples: How many gradients are drawn.
        noise: Standard deviation of the noise as a share of each image's own range.
        seed: Of the noise, which is the same for every image.

    Reference: Adebayo et al. 2018, arXiv:1810.03292.
    """

    samples: int = 50
    noise: float = 0.15
    seed: int = 0
    claim: ClassVar[Claim] = "importance"
    level: ClassVar[Level] = "any"
    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        _check(self.samples, self.noise)

    def __call__(self, comparison: Comparison) -> Outcome:
        """`samples` gradients for each image."""
        _, squares = _moments(comparison, self.samples, self.noise, self.seed, "var_grad")
        return Outcome(values=squares / (self.samples - 1))


@dataclass(frozen=True)
class SquareGrad:
    """The mean square of the gradient under Gaussian noise, SmoothGrad squared.

    Formula: mean over n of f'(x + noise_n)^2, noise as in smooth_grad

    Values: (batch, *features), not negative, squared score per squared unit of the feature; an importance.

    Parameters:
        samples: How many gradients are averaged.
        noise: Standard deviation of the noise as a share of each image's own range.
        seed: Of the noise, which is the same for every image.

    Reference: Hooker et al. 2019, arXiv:1806.10758.
    """

    samples: int = 50
    noise: float = 0.15
    seed: int = 0
    claim: ClassVar[Claim] = "importance"
    level: ClassVar[Level] = "any"
    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        _check(self.samples, self.noise)

    def __call__(self, comparison: Comparison) -> Outcome:
        """`samples` gradients for each image."""
        mean, squares = _moments(comparison, self.samples, self.noise, self.seed, "square_grad")
        return Outcome(values=squares / self.samples + mean**2)


def _check(samples: int, noise: float) -> None:
    check_range("samples", samples, 2)
    check_range("noise", noise, 0.0, open_low=True)


def _moments(
    comparison: Comparison, samples: int, noise: float, seed: int, name: str
) -> tuple[Tensor, Tensor]:
    """The mean of the gradients and the sum of their squared distances from it, (batch, *features) each."""
    end = comparison.end
    batch = len(end)
    flat = exact(end).flatten(1)
    sigma = noise * (flat.amax(1) - flat.amin(1)).view(-1, *[1] * (end.ndim - 1))
    # Drawn on the CPU and in one sequence, so that neither device nor micro-batch changes a draw.
    generator = torch.Generator().manual_seed(seed)
    mean, squares = torch.zeros_like(exact(end)), torch.zeros_like(exact(end))
    group = max(1, comparison.micro.rows // batch)
    done = 0
    while done < samples:
        count = min(group, samples - done)
        drawn = torch.randn(count, *end.shape[1:], generator=generator, dtype=torch.float64).to(sigma)
        points = (exact(end).unsqueeze(1) + sigma.unsqueeze(1) * drawn).flatten(
            0, 1
        )  # (batch * count, *features)
        image = torch.arange(batch, device=end.device).repeat_interleave(count)
        gradients = exact(comparison.gradients(points.to(end.dtype), image))
        by_draw = gradients.view(batch, count, *end.shape[1:]).unbind(1)
        for n, gradient in enumerate(by_draw, start=done + 1):  # Welford's running variance
            step = gradient - mean
            mean = mean + step / n
            squares = squares + step * (gradient - mean)
        done += count
        progress.advance(done, samples, name)
    return mean, squares
