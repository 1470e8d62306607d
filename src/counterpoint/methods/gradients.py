"""One-step methods: the gradient at a point, alone, averaged over noise, or as a Taylor expansion."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from counterpoint import progress
from counterpoint.checks import check_range
from counterpoint.comparison import Comparison
from counterpoint.protocols import Claim, Level, Outcome


@dataclass(frozen=True)
class Gradient:
    """The gradient of the score at the input: how fast the score changes, not how much of it is owed to a feature.

    Formula: f'(x)

    Values: (batch, *features), signed, score per unit of the feature; a rate, so that no sum and no error is defined.

    Reference: Simonyan et al. 2013, arXiv:1312.6034.
    """

    claim: ClassVar[Claim] = "rate"
    level: ClassVar[Level] = "any"
    version: ClassVar[int] = 1

    def __call__(self, comparison: Comparison) -> Outcome:
        """One gradient for each image."""
        return Outcome(values=_exact(comparison.gradients(comparison.end)))


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
        check_range("samples", self.samples, 2)
        check_range("noise", self.noise, 0.0, open_low=True)

    def __call__(self, comparison: Comparison) -> Outcome:
        """`samples` gradients for each image, with the standard error of their mean."""
        end = comparison.end
        batch = len(end)
        flat = _exact(end).flatten(1)
        sigma = self.noise * (flat.amax(1) - flat.amin(1)).view(-1, *[1] * (end.ndim - 1))
        # Drawn on the CPU and in one sequence, so that neither device nor micro-batch changes a draw.
        generator = torch.Generator().manual_seed(self.seed)
        mean, squares = torch.zeros_like(_exact(end)), torch.zeros_like(_exact(end))
        group = max(1, comparison.micro.rows // batch)
        done = 0
        while done < self.samples:
            count = min(group, self.samples - done)
            noise = torch.randn(count, *end.shape[1:], generator=generator, dtype=torch.float64).to(sigma)
            points = (end.unsqueeze(1) + sigma.unsqueeze(1) * noise).flatten(
                0, 1
            )  # (batch * count, *features)
            image = torch.arange(batch, device=end.device).repeat_interleave(count)
            gradients = _exact(comparison.gradients(points.to(end.dtype), image))
            gradients = gradients.view(batch, count, *end.shape[1:])
            for n, gradient in enumerate(gradients.unbind(1), start=done + 1):  # Welford's running variance
                step = gradient - mean
                mean = mean + step / n
                squares = squares + step * (gradient - mean)
            done += count
            progress.advance(done, self.samples, "smooth_grad")
        error = (squares / (self.samples * (self.samples - 1))).sqrt()
        return Outcome(values=mean, standard_error=error)


@dataclass(frozen=True)
class Taylor:
    """First-order Taylor expansion of the score, read from one end of the straight path to the other.

    Formula: (x - x') * f'(x) at the input, (x - x') * f'(x') at the baseline

    Values: (batch, *features), signed, in units of the score; additive, but exact for linear scores only: the error is the remainder.

    Parameters:
        at: Where the gradient is taken.
        reference: "comparison" reads the expansion at the comparison's baseline; "zeros" at zero pixels (black) or zero features, as
            "gradient times input" does. The target stays the comparison's; the error against the own reference stands beside it.

    Reference: Cui and Fan 2026, arXiv:2605.22417 (the one-step members of the family; our derivation).
    """

    at: Literal["input", "baseline"] = "input"
    reference: Literal["comparison", "zeros"] = "comparison"
    claim: ClassVar[Claim] = "shares"
    level: ClassVar[Level] = "any"
    version: ClassVar[int] = 1

    def __call__(self, comparison: Comparison) -> Outcome:
        """One gradient for each image, and one forward where the reference is zeros."""
        end, start = comparison.end, comparison.start
        own_target = None
        if self.reference == "zeros":
            start = torch.zeros_like(end)
            own_target = comparison.score - comparison.scores(start)
        gradient = _exact(comparison.gradients(end if self.at == "input" else start))
        return Outcome(
            values=(_exact(end) - _exact(start)) * gradient,
            reference="zeros" if self.reference == "zeros" else None,
            own_target=own_target,
        )


def GradientTimesInput() -> Taylor:
    """The input times its gradient: a Taylor expansion at the input, read at zero pixels (black) or zero features.

    Formula: x * f'(x)

    Values: (batch, *features), signed, in units of the score.

    Reference: Shrikumar et al. 2016, arXiv:1605.01713.
    """
    return Taylor(at="input", reference="zeros")


def _exact(tensor: torch.Tensor) -> torch.Tensor:
    """float32 at least: sums and products of bfloat16 lose too much."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
