"""Which contender is best on average, and how sure that is: means and ranks with intervals by paired bootstrap over images."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.stats import rankdata

from counterpoint.audit.statistics import Resampling, interval
from counterpoint.bench.contenders import Contender
from counterpoint.bench.results import Results
from counterpoint.bench.values import Values, settled, values
from counterpoint.checks import check_range
from counterpoint.errors import InputError

_AT_ONCE = 4_000_000
"""Numbers in a matrix of resamples x images that is held at once."""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A contender's place in one ranking. Ends of intervals hold 95 % of the resamples."""

    contender: Contender
    mean: float
    """Over the images, in units of the metric."""
    low: float
    high: float
    rank: int
    """1 is best; tied ones share the better rank."""
    rank_low: int
    rank_high: int
    first: float
    """The share of resamples in which it is first; tied ones divide it."""
    images: int
    """How many every contender has a number for; only these count."""
    left_out: int
    """Images that some contender lacks a number for."""


def ranking(
    results: Results,
    metric: str,
    *,
    evaluation: str | None = None,
    model: str | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> list[Standing]:
    """Every contender's mean and rank, best first; largest first for metrics where neither way is better.

    Seeds are averaged within an image first. All contenders are compared on the same images and the same resamples of them.

    Args:
        results: Of a benchmark.
        metric: As in its table `measures`.
        evaluation: The baseline that the metric removed with; the mean over all of them if left out.
        model: One model's; the mean over all models if left out.
        resamples: Of the images.
        seed: Of the resamples.

    Raises:
        UnknownNameError: no such metric, evaluation baseline or model in the results.
        InputError: no image has a number for every contender, or fewer than one resample.
    """
    found = values(results, metric, model=model)
    return standings(found, evaluation, resamples=resamples, seed=seed)


def standings(
    found: Values, evaluation: str | None = None, *, resamples: int = 2000, seed: int = 0
) -> list[Standing]:
    """The same, of numbers that were read before."""
    check_range("resamples", resamples, 1)
    scores = compared(found, evaluation) * found.sign
    means = resampled_means(scores, resamples=resamples, seed=seed)
    low, high = interval(torch.from_numpy(means)).numpy()
    ranks = ranks_of(means)
    rank_low, rank_high = interval(torch.from_numpy(ranks.astype(float))).numpy()
    leads = ranks == 1
    first = (leads / leads.sum(1, keepdims=True)).mean(0)
    point = scores.mean(1)
    rank = ranks_of(point[None])[0]
    lower, upper = (low, high) if found.sign > 0 else (-high, -low)
    order = sorted(range(len(point)), key=lambda c: (rank[c], -first[c], found.contenders[c]))
    return [
        Standing(
            contender=found.contenders[c],
            mean=float(point[c] * found.sign) + 0.0,  # no negative zero
            low=float(lower[c]) + 0.0,
            high=float(upper[c]) + 0.0,
            rank=int(rank[c]),
            rank_low=int(np.floor(rank_low[c])),
            rank_high=int(np.ceil(rank_high[c])),
            first=float(first[c]),
            images=scores.shape[1],
            left_out=found.images - scores.shape[1],
        )
        for c in order
    ]


def compared(found: Values, evaluation: str | None) -> Float[np.ndarray, "contenders images"]:
    """The numbers of all contenders on the images that they have in common.

    Raises:
        InputError: there is none.
    """
    scores = found.scores(evaluation)
    if not scores.shape[1]:
        raise InputError(
            f"no image has a number of {found.metric} for every one of {len(found.contenders)} contenders."
        )
    return scores


def resampled_means(
    numbers: Float[np.ndarray, "*rows images"], *, resamples: int, seed: int
) -> Float[np.ndarray, "resamples *rows"]:
    """The mean of each row over the images of each resample; the same resamples for one number of images and one seed."""
    images = numbers.shape[-1]
    block = max(1, _AT_ONCE // images)
    given = torch.from_numpy(np.ascontiguousarray(numbers))
    found = [
        Resampling.of(images, resamples=min(block, resamples - k), seed=seed + k).means(given)
        for k in range(0, resamples, block)
    ]
    means: NDArray[np.float64] = torch.cat(found).numpy()
    return means


def ranks_of(
    means: Float[np.ndarray, "resamples contenders *rankings"],
) -> Float[np.ndarray, "resamples contenders *rankings"]:
    """1 is the highest; tied ones share the better rank."""
    ranks: NDArray[np.float64] = rankdata(-settled(means), method="min", axis=1).astype(float)
    return ranks
