"""Shapley values of regions: a region's share averaged over all orders in which regions could be put in."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from counterpoint import progress
from counterpoint.checks import check_range
from counterpoint.comparison import Comparison
from counterpoint.errors import InputError
from counterpoint.methods.coalitions import Game, expected_error, games, on_channels
from counterpoint.methods.regions import Grid, Regions
from counterpoint.protocols import Claim, Level, Outcome

# Precision is looked at after every so many sampled pairs.
_ROUND = 32


@dataclass(frozen=True)
class KernelSHAP:
    """Shapley values of regions, by weighted least squares over coalitions: exact where all of them can be scored.

    Formula: shares s minimise sum over coalitions S of w(S) (f(S) - f(none) - sum of s_i over S)^2, sum of s = f(x) - f(x'),
    w(S) = (n - 1) / (C(n, |S|) |S| (n - |S|)); f(S): the regions outside S removed

    Values: (batch, channel, height, width), signed, in units of the score, a region's share spread evenly over its pixels and the
    channels. Their sum is f(x) - f(x') by the constraint, so the error is forced to 0 and proves nothing; what is left is the sampling,
    and `standard_error` says how much. Coalitions come with their complements, for which the sum of squares above is, but for a
    constant, one of (f(S) - f(not S) - sum of s over S + sum of s outside S)^2. Sizes from both ends are enumerated as far as
    `samples` go, so all 2^n - 2 are where they fit; of the others coalitions are drawn in proportion to w. The standard error is that
    of the regression over what is drawn (its sandwich estimate, with left-out residuals).

    Parameters:
        regions: `grid(4)`, `patches(16)` or `superpixels(50)`.
        samples: How many coalitions are scored for each image, at most; at least two for each region.
        seed: Of the coalitions, which are the same for all images with as many regions.
        precision: Stop where the expected relative L1 error of the shares is this small; None takes all samples.

    Raises:
        ShapeError: the inputs are no images.
        InputError: fewer than two samples for each region.

    Reference: Lundberg and Lee 2017, arXiv:1705.07874; pairs and their errors after Covert and Lee 2021, arXiv:2012.01536.
    """

    regions: Regions = Grid(4)  # noqa: RUF009 (frozen)
    samples: int = 1024
    seed: int = 0
    precision: float | None = 0.2
    claim: ClassVar[Claim] = "shares"
    level: ClassVar[Level] = "input"
    version: ClassVar[int] = 1
    error_is_forced: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_range("samples", self.samples, 2)
        if self.precision is not None:
            check_range("precision", self.precision, 0.0, open_low=True)

    def __call__(self, comparison: Comparison) -> Outcome:
        """At most `samples` forwards for each image."""
        every = games(comparison, self.regions)
        for game in every:
            if 2 * _needed(game.regions) > self.samples:
                raise InputError(
                    f"samples must be at least {2 * _needed(game.regions)}, two for each of the {game.regions} regions, got {self.samples}."
                )
        found = [self._explained(game, len(every)) for game in every]
        values, errors = (
            on_channels(
                torch.stack([game.spread(n) for game, n in zip(every, each, strict=True)]), comparison
            )
            for each in ([fit.shares for fit in found], [fit.standard_error for fit in found])
        )
        value_error = torch.stack([fit.value_error for fit in found]).to(comparison.score)
        return Outcome(
            values=values,
            standard_error=errors,
            value_error=value_error,
            converged=None if self.precision is None else value_error <= self.precision,
            stages={"quadrature": values.flatten(1).sum(1)},
        )

    def _explained(self, game: Game, batch: int) -> "_Fit":
        comparison, i = game.comparison, game.image
        total = (comparison.score[i] - comparison.baseline_score[i]).cpu().double()
        plan = _Plan.of(game.regions, self.samples // 2)
        generator = torch.Generator().manual_seed(self.seed)
        data = _Data(game.regions)

        def score(coalitions: Tensor, weights: Tensor | None = None) -> None:
            done = len(data.signs)
            first, last = (i + pairs / plan.pairs for pairs in (done, done + len(coalitions)))
            with progress.stage(first, last, batch, "kernel_shap"):
                data.add(game, coalitions, weights)

        for coalitions, weights in plan.enumerated():
            score(coalitions, weights)
        fit = data.fit(total, plan.drawn_mass)
        while data.drawn < plan.drawn and not (
            self.precision is not None and fit.value_error <= self.precision
        ):
            score(plan.draw(min(_ROUND, plan.drawn - data.drawn), generator))
            fit = data.fit(total, plan.drawn_mass)
        progress.advance(i + 1, batch, "kernel_shap")
        return fit


def _needed(regions: int) -> int:
    """The pairs of a single region with the rest: with these the least squares have one solution."""
    return min(regions, (1 << regions - 1) - 1)


@dataclass(frozen=True)
class _Plan:
    """Which pairs of a coalition and its complement are scored; a pair's size is the smaller of the two."""

    regions: int
    whole: tuple[int, ...]
    """Sizes that are enumerated."""
    sizes: tuple[int, ...]
    """Sizes that are drawn from."""
    drawn: int
    """How many pairs are drawn, at most."""

    @classmethod
    def of(cls, regions: int, pairs: int) -> "_Plan":
        """Enumerate sizes from 1 on while a size would be drawn at least as often as it has pairs."""
        sizes = list(range(1, regions // 2 + 1))
        whole: list[int] = []
        left = pairs
        while sizes:
            expected = left * _mass(regions, sizes[0]) / sum(_mass(regions, size) for size in sizes)
            # Size 1 always, and the rounding of the expectation must not lose the last size.
            if whole and expected * (1 + 1e-9) < _pairs(regions, sizes[0]):
                break
            left -= _pairs(regions, sizes[0])
            whole.append(sizes.pop(0))
        return cls(regions, tuple(whole), tuple(sizes), left if sizes else 0)

    @property
    def pairs(self) -> int:
        """How many pairs are scored, at most."""
        return sum(_pairs(self.regions, size) for size in self.whole) + self.drawn

    @property
    def drawn_mass(self) -> float:
        """The weight of all pairs that are drawn from, together."""
        return sum(_mass(self.regions, size) for size in self.sizes)

    def enumerated(self) -> Iterator[tuple[Bool[Tensor, "pairs regions"], Float[Tensor, " pairs"]]]:
        """For each whole size one coalition of every pair, and the weights."""
        for size in self.whole:
            count = _pairs(self.regions, size)
            chosen = combinations(range(self.regions), size)
            # Of half the regions either coalition of a pair has that size: those with region 0 are one of each.
            members = torch.tensor([next(chosen) for _ in range(count)]).view(count, size)
            coalitions = torch.zeros(count, self.regions, dtype=torch.bool).scatter_(1, members, True)
            weight = _mass(self.regions, size) / count
            yield coalitions, torch.full((count,), weight, dtype=torch.float64)

    def draw(self, count: int, generator: torch.Generator) -> Bool[Tensor, "count regions"]:
        """One coalition of each of `count` pairs."""
        mass = torch.tensor([_mass(self.regions, size) for size in self.sizes], dtype=torch.float64)
        which = torch.multinomial(mass, count, replacement=True, generator=generator)
        size = torch.tensor(self.sizes)[which]
        order = torch.rand(count, self.regions, generator=generator, dtype=torch.float64).argsort(1)
        return order.argsort(1) < size[:, None]


def _pairs(regions: int, size: int) -> int:
    """How many pairs have this size."""
    return math.comb(regions, size) // (2 if 2 * size == regions else 1)


def _mass(regions: int, size: int) -> float:
    """The Shapley kernel's weight of all pairs of this size, but for the factor n - 1."""
    return 1.0 / (size * (regions - size)) / (2 if 2 * size == regions else 1)


@dataclass(frozen=True, eq=False)
class _Fit:
    shares: Float[Tensor, " regions"]
    standard_error: Float[Tensor, " regions"]
    value_error: Float[Tensor, ""]


class _Data:
    """Pairs scored so far: signs (+1 within the coalition, -1 outside), differences f(S) - f(not S), weights."""

    def __init__(self, regions: int) -> None:
        self.signs = torch.empty(0, regions, dtype=torch.float64)
        self.differences = torch.empty(0, dtype=torch.float64)
        self.weights = torch.empty(0, dtype=torch.float64)
        """Of the enumerated pairs, which come first."""

    @property
    def drawn(self) -> int:
        """How many pairs were drawn."""
        return len(self.signs) - len(self.weights)

    def add(
        self,
        game: Game,
        coalitions: Bool[Tensor, "pairs regions"],
        weights: Float[Tensor, " pairs"] | None = None,
    ) -> None:
        """Score pairs; those without weights are drawn, and come after all that are enumerated."""
        scores = game(torch.cat([coalitions, ~coalitions])).view(2, -1)
        self.signs = torch.cat([self.signs, coalitions.double() * 2 - 1])
        self.differences = torch.cat([self.differences, scores[0] - scores[1]])
        if weights is not None:
            self.weights = torch.cat([self.weights, weights])

    def fit(self, total: Float[Tensor, ""], drawn_mass: float) -> _Fit:
        """The shares that fit best and sum to `total`, the drawn pairs sharing `drawn_mass` evenly."""
        n, whole, drawn = self.signs.shape[1], len(self.weights), self.drawn
        share = torch.full((drawn,), drawn_mass / max(1, drawn), dtype=torch.float64)
        weights = torch.cat([self.weights, share])
        weighted = self.signs * weights[:, None]
        # The normal equations with a multiplier for the constraint; solvable although the matrix alone may not be.
        system = torch.zeros(n + 1, n + 1, dtype=torch.float64)
        system[:n, :n] = self.signs.T @ weighted
        system[:n, n] = system[n, :n] = 1.0
        inverse = torch.linalg.inv(system)
        solver = inverse[:n, :n]
        shares = solver @ (weighted.T @ self.differences) + inverse[:n, n] * total
        if drawn_mass == 0.0:
            error = torch.zeros_like(shares)
        elif drawn < 2:
            error = torch.full_like(shares, math.nan)  # nothing to tell it from
        else:
            rows, weight = self.signs[whole:], weights[whole:]
            leverage = weight * ((rows @ solver) * rows).sum(1)
            residual = (self.differences[whole:] - rows @ shares) / (1 - leverage)
            pull = rows * (weight * residual)[:, None]  # of each drawn pair on the normal equations
            spread = (pull - pull.mean(0)) @ solver
            error = (spread.square().sum(0) * drawn / (drawn - 1)).sqrt()
        return _Fit(shares, error, expected_error(error, shares))
