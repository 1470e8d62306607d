"""A linear model of the score around the image, over regions that are there or not."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from counterpoint import progress
from counterpoint.checks import check_range
from counterpoint.comparison import Comparison
from counterpoint.methods.coalitions import Game, expected_error, games, on_channels
from counterpoint.methods.regions import Grid, Regions
from counterpoint.protocols import Claim, Level, Outcome

# Precision is looked at after every so many coalitions.
_ROUND = 64


@dataclass(frozen=True)
class LIME:
    """The coefficients of a linear model of the score, fitted to coalitions of regions, those near the whole image counting more.

    Formula: minimise over c and c_0 sum over coalitions z of pi(z) (f(z) - c_0 - sum of c_i z_i)^2 + ridge |c|^2,
    pi(z) = exp(-d^2 / (2 kernel_width^2)), d = 1 - sqrt(share of regions that are there), the cosine distance of z from the whole

    Values: (batch, channel, height, width), signed; each region's coefficient on all of its pixels, shared by the channels: an importance.
    They are no shares of f(x) - f(x'): nothing makes them sum to it. `extras["r_squared"]` says how much of the scores' weighted
    variance the linear model has, (batch,).

    Parameters:
        regions: `grid(7)`, `patches(16)` or `superpixels(50)`, the paper's choice.
        samples: How many coalitions are scored for each image, at most; each region is there with probability 1/2. The whole image
            is one more.
        kernel_width: How fast coalitions count less with their distance.
        ridge: Weight of the penalty on the coefficients.
        seed: Of the coalitions, which are the same for all images with as many regions.
        precision: Stop where the expected relative L1 error of the coefficients is this small; None takes all samples.

    Raises:
        ShapeError: the inputs are no images.

    Reference: Ribeiro et al. 2016, arXiv:1602.04938, with the settings of its own package.
    """

    regions: Regions = Grid(7)  # noqa: RUF009 (frozen)
    samples: int = 1000
    kernel_width: float = 0.25
    ridge: float = 1.0
    seed: int = 0
    precision: float | None = None
    claim: ClassVar[Claim] = "importance"
    level: ClassVar[Level] = "input"
    version: ClassVar[int] = 1
    fills: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_range("samples", self.samples, 2)
        check_range("kernel_width", self.kernel_width, 0.0, open_low=True)
        check_range("ridge", self.ridge, 0.0, open_low=True)
        if self.precision is not None:
            check_range("precision", self.precision, 0.0, open_low=True)

    def __call__(self, comparison: Comparison) -> Outcome:
        """At most `samples` forwards for each image."""
        every = games(comparison, self.regions)
        found = [self._fitted(game, len(every)) for game in every]
        values, errors = (
            on_channels(
                torch.stack([game.painted(n) for game, n in zip(every, each, strict=True)]), comparison
            )
            for each in ([fit.coefficients for fit in found], [fit.standard_error for fit in found])
        )
        value_error = torch.stack([fit.value_error for fit in found]).to(comparison.score)
        return Outcome(
            values=values,
            standard_error=errors,
            value_error=value_error,
            converged=None if self.precision is None else value_error <= self.precision,
            extras={"r_squared": torch.stack([fit.r_squared for fit in found]).to(comparison.score)},
        )

    def _fitted(self, game: Game, batch: int) -> "_Fit":
        generator = torch.Generator().manual_seed(self.seed)
        present = torch.ones(1, game.regions, dtype=torch.bool)
        scores = game.comparison.score[game.image].cpu().double().view(1)
        done = 0
        while True:
            count = min(_ROUND, self.samples - done)
            drawn = torch.rand(count, game.regions, generator=generator, dtype=torch.float64) < 0.5
            first, last = (game.image + n / self.samples for n in (done, done + count))
            with progress.stage(first, last, batch, "lime"):
                present, scores = torch.cat([present, drawn]), torch.cat([scores, game(drawn)])
            done += count
            if done < self.samples and self.precision is None:
                continue
            fit = self._fit(present, scores)
            if done == self.samples or fit.value_error <= (self.precision or 0.0):
                progress.advance(game.image + 1, batch, "lime")
                return fit

    def _fit(self, present: Bool[Tensor, "rows regions"], scores: Float[Tensor, " rows"]) -> "_Fit":
        """Weighted ridge regression with an intercept that is not penalised: everything less its weighted mean."""
        there = present.double()
        distance = 1 - there.mean(1).sqrt()
        weight = torch.exp(-0.5 * (distance / self.kernel_width).square())
        share = weight / weight.sum()
        rows, target = there - share @ there, scores - share @ scores
        weighted = rows * weight[:, None]
        system = rows.T @ weighted + self.ridge * torch.eye(rows.shape[1], dtype=torch.float64)
        coefficients = torch.linalg.solve(system, weighted.T @ target)
        residual = target - rows @ coefficients
        # The sandwich estimate of the error, each residual as if its coalition had been left out of the fit.
        spread = torch.linalg.solve(system, weighted.T)  # (regions, rows)
        leverage = (rows * spread.T).sum(1) + share
        error = (spread * (residual / (1 - leverage).clamp(min=1e-9))).square().sum(1).sqrt()
        unexplained, variance = (weight * residual.square()).sum(), (weight * target.square()).sum()
        r_squared = torch.where(variance > 0, 1 - unexplained / variance, math.nan)
        return _Fit(coefficients, error, expected_error(error, coefficients), r_squared)


@dataclass(frozen=True, eq=False)
class _Fit:
    coefficients: Float[Tensor, " regions"]
    standard_error: Float[Tensor, " regions"]
    value_error: Float[Tensor, ""]
    r_squared: Float[Tensor, ""]
