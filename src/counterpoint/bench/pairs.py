"""Which of two contenders is better: paired over images, corrected for how many pairs are asked about."""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.stats import rankdata, wilcoxon

from counterpoint.audit.statistics import interval
from counterpoint.bench.contenders import Contender
from counterpoint.bench.results import Results
from counterpoint.bench.standings import compared, resampled_means
from counterpoint.bench.values import Values, values
from counterpoint.checks import check_range
from counterpoint.errors import InputError

LEVEL = 0.05
"""A difference is told apart where its corrected p-value is below."""

_PAIRS_AT_ONCE = 2048
_COUNTED_AT_ONCE = 256
_SMALL, _SMALL_TIED = 50, 13
"""Up to so many images p-values are exact: without ties of size, and with them."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two contenders on the same images."""

    better: Contender
    """The one with the better mean; for metrics where neither way is better, the larger."""
    worse: Contender
    difference: float
    """How much better the mean is, in units of the metric; never below 0."""
    low: float
    """The ends of the difference's 95 % bootstrap interval over images."""
    high: float
    p: float
    """Of Wilcoxon's signed-rank test, two-sided; 1 where all numbers are equal."""
    p_holm: float
    """Corrected by Holm's step-down procedure over all pairs of the ranking."""
    wins: float
    """The share of images on which `better` is better; equal ones count half."""
    agrees: bool
    """Whether the signed ranks point the same way as the means. Where they do not, a few images decide the mean."""

    @property
    def sure(self) -> bool:
        """Whether the corrected test tells the two apart, in the direction of their means."""
        return self.p_holm < LEVEL and self.agrees


@dataclass(frozen=True, kw_only=True, eq=False)
class PairTests:
    """Every pair (i, j), i < j, of the rows of a table, tested on the same images."""

    first: tuple[int, ...]
    second: tuple[int, ...]
    differences: Float[np.ndarray, "pairs images"]
    """Of `first` minus `second`; higher is better."""
    p: Float[np.ndarray, "pairs"]
    p_holm: Float[np.ndarray, "pairs"]
    wins: Float[np.ndarray, "pairs"]
    """The share of images on which `first` is better, equal ones counted half."""
    leaning: Float[np.ndarray, "pairs"]
    """Which way the signed ranks point: 1 for `first`, -1 for `second`, 0 for neither."""

    @property
    def sure(self) -> Float[np.ndarray, "pairs"]:
        """1 where `first` is better by the corrected test and on average, -1 where `second` is, 0 where neither is told apart."""
        agree = np.sign(self.differences.mean(1)) == self.leaning
        return np.where((self.p_holm < LEVEL) & agree, self.leaning, 0.0)


def pairs(
    results: Results,
    metric: str,
    *,
    evaluation: str | None = None,
    model: str | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> list[Pair]:
    """Every pair of contenders, the surest difference first. Arguments as of `ranking`.

    Raises:
        UnknownNameError: no such metric, evaluation baseline or model in the results.
        InputError: fewer than two contenders, no image has a number for all of them, or fewer than one resample.

    Reference: Wilcoxon 1945, doi:10.2307/3001968; Holm 1979 (the step-down procedure); Benavoli, Corani and Mangili 2016 (why pairs are
        tested by themselves instead of by their mean ranks among all).
    """
    return pairs_of(values(results, metric, model=model), evaluation, resamples=resamples, seed=seed)


def pairs_of(
    found: Values, evaluation: str | None = None, *, resamples: int = 2000, seed: int = 0
) -> list[Pair]:
    """The same, of numbers that were read before."""
    check_range("resamples", resamples, 1)
    tests = pair_tests(compared(found, evaluation) * found.sign)
    ends = []
    for k in range(0, len(tests.p), _PAIRS_AT_ONCE):
        means = resampled_means(tests.differences[k : k + _PAIRS_AT_ONCE], resamples=resamples, seed=seed)
        ends.append(interval(torch.from_numpy(means)).numpy())
    low, high = np.concatenate(ends, axis=1)
    made = []
    for k, difference in enumerate(tests.differences.mean(1)):
        i, j = found.contenders[tests.first[k]], found.contenders[tests.second[k]]
        turned = difference < 0
        made.append(
            Pair(
                better=j if turned else i,
                worse=i if turned else j,
                difference=abs(float(difference)),
                low=float(-high[k] if turned else low[k]),
                high=float(-low[k] if turned else high[k]),
                p=float(tests.p[k]),
                p_holm=float(tests.p_holm[k]),
                wins=float(1 - tests.wins[k] if turned else tests.wins[k]),
                agrees=bool(tests.leaning[k] == np.sign(difference)),
            )
        )
    return sorted(made, key=lambda pair: (pair.p_holm, pair.p, -pair.difference))


def pair_tests(scores: Float[np.ndarray, "contenders images"]) -> PairTests:
    """Test every pair of rows; higher is better.

    Raises:
        InputError: fewer than two rows.
    """
    if len(scores) < 2:
        raise InputError(f"contenders must be at least 2 to compare, got {len(scores)}.")
    first, second = (list(each) for each in zip(*combinations(range(len(scores)), 2), strict=True))
    differences = scores[first] - scores[second]
    ranks = rankdata(np.abs(differences), axis=1) - (differences == 0).sum(1, keepdims=True)
    p = signed_rank(differences)
    return PairTests(
        first=tuple(first),
        second=tuple(second),
        differences=differences,
        p=p,
        p_holm=holm(p),
        wins=((differences > 0) + 0.5 * (differences == 0)).mean(1),
        leaning=np.sign((np.sign(differences) * ranks).sum(1)),
    )


def signed_rank(differences: Float[np.ndarray, "pairs images"]) -> Float[np.ndarray, "pairs"]:
    """The two-sided p-value of Wilcoxon's signed-rank test of each row, zeros left out; 1 where all are zero.

    Exact for up to 50 images, or 13 where sizes are tied; the normal approximation beyond, as SciPy chooses.
    """
    p = np.ones(len(differences))
    counts = (differences != 0).sum(1)
    many = np.flatnonzero(counts > _SMALL)
    for k in range(0, len(many), _PAIRS_AT_ONCE):
        rows = many[k : k + _PAIRS_AT_ONCE]
        p[rows] = wilcoxon(differences[rows], axis=1, method="asymptotic").pvalue
    for count in np.unique(counts[(counts > 0) & (counts <= _SMALL)]):
        rows = np.flatnonzero(counts == count)
        known = differences[rows]
        known = known[known != 0].reshape(len(rows), count)
        tied = (np.diff(np.sort(np.abs(known)), axis=1) == 0).any(1)
        p[rows[~tied]] = _by_scipy(known[~tied], "exact")
        p[rows[tied]] = (
            _counted(known[tied]) if count <= _SMALL_TIED else _by_scipy(known[tied], "asymptotic")
        )
    return p


def _by_scipy(differences: Float[np.ndarray, "pairs images"], method: str) -> Float[np.ndarray, "pairs"]:
    if not len(differences):
        return np.ones(0)
    p: NDArray[np.float64] = wilcoxon(differences, axis=1, method=method).pvalue
    return p


def _counted(differences: Float[np.ndarray, "pairs images"]) -> Float[np.ndarray, "pairs"]:
    """The share of all ways to give the differences signs whose ranks are at least as uneven: SciPy counts the same, seconds a pair."""
    ranks = rankdata(np.abs(differences), axis=1)
    found = np.abs((ranks * np.sign(differences)).sum(1, keepdims=True))
    images = differences.shape[1]
    signs = 1.0 - 2.0 * (np.arange(2**images)[:, None] >> np.arange(images) & 1)
    # Sums of half ranks are exact, so that equal ones compare equal.
    reached = [
        (np.abs(ranks[k : k + _COUNTED_AT_ONCE] @ signs.T) >= found[k : k + _COUNTED_AT_ONCE]).mean(1)
        for k in range(0, len(ranks), _COUNTED_AT_ONCE)
    ]
    return np.concatenate([np.ones(0), *reached])


def holm(p: Float[np.ndarray, "tests"]) -> Float[np.ndarray, "tests"]:
    """P-values corrected so that the chance of any wrong rejection among them stays at the level; never below the raw ones."""
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(stepped, 1.0)
    return corrected
