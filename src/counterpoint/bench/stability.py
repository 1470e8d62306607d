"""Does a ranking survive another evaluation baseline, another seed, other images?"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from counterpoint.audit.rankings import between_baselines, taus_of, within_baselines
from counterpoint.audit.statistics import Resampling, interval
from counterpoint.bench.results import Results
from counterpoint.bench.standings import ranks_of, resampled_means
from counterpoint.bench.values import Values, values
from counterpoint.checks import check_range
from counterpoint.errors import InputError
from counterpoint.metrics.ranking import rank_stability

Over = Literal["evaluation", "seed", "subset"]

_SPLITS, _SPLITS_OF_W = 200, 40
_FEWEST = 4
_AT_ONCE = 8_000_000
"""Signs of differences that are held at once."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Stability:
    """How far rankings of the same contenders agree."""

    names: tuple[str, ...]
    """What the rankings belong to: evaluation baselines, seeds, or two halves of the images."""
    taus: Float[np.ndarray, "rankings rankings"]
    """Kendall's tau-b of each two rankings; of halves, the mean over splits and evaluation baselines."""
    mean_tau: float
    """Over all pairs of different rankings; NaN where all contenders are tied in one."""
    low: float
    """The ends of its 95 % interval: 1.96 standard errors by bootstrap over images to either side; of halves, percentiles over splits."""
    high: float
    concordance: float
    """Kendall's W, 0 to 1; of halves, the mean over 40 of the splits and all evaluation baselines."""
    p_value: float
    """The share of random rankings that agree as well; NaN for halves, where there is no one table to shuffle."""
    images: int


@dataclass(frozen=True, kw_only=True)
class Dependence:
    """What a ranking owes to the evaluation baseline, beyond what it owes to the choice of images."""

    within: float
    """The noise ceiling: mean tau between two halves of the images under one evaluation baseline."""
    gap: float
    """How much less two halves agree under two different evaluation baselines."""
    low: float
    """The ends of the gap's 95 % interval over splits."""
    high: float
    images: int


def stability(
    results: Results,
    metric: str,
    *,
    model: str | None = None,
    over: Over = "evaluation",
    resamples: int = 2000,
    seed: int = 0,
) -> Stability:
    """How far the rankings agree under different evaluation baselines, with different seeds, or on two halves of the images.

    Args:
        results: Of a benchmark.
        metric: As in its table `measures`.
        model: One model's; the mean over all models if left out.
        over: "evaluation", "seed" (means over evaluation baselines), or "subset": 200 random splits of the images into halves, each
            compared under one evaluation baseline, which is as much as any two rankings on so few images can be expected to agree.
        resamples: Of the images.
        seed: Of resamples, splits and random rankings.

    Raises:
        UnknownNameError: no such metric or model in the results.
        InputError: `over` is another word, or there are fewer than two rankings, two contenders or (for halves) four images.

    Reference: as of `cp.metrics.rank_stability`; halves and intervals are ours.
    """
    return stability_of(values(results, metric, model=model), over, resamples=resamples, seed=seed)


def stability_of(found: Values, over: Over, *, resamples: int = 2000, seed: int = 0) -> Stability:
    """The same, of numbers that were read before."""
    check_range("resamples", resamples, 1)
    if over == "subset":
        return _of_halves(found, seed)
    if over == "evaluation":
        names, numbers = found.evaluations, found.by_evaluation()
    elif over == "seed":
        names, numbers = tuple(map(str, found.seeds)), found.by_seed()
    else:
        raise InputError(f"over must be 'evaluation', 'seed' or 'subset', got {over!r}.")
    _check(found, numbers, 1)
    if len(names) < 2:
        kind = "evaluation baselines" if over == "evaluation" else "seeds"
        raise InputError(f"{found.metric} needs at least 2 {kind} to compare rankings, got {len(names)}.")
    table = torch.from_numpy(ranks_of(numbers.mean(2)[None])[0])
    whole = rank_stability(table, seed=seed)
    tables = torch.from_numpy(ranks_of(resampled_means(numbers, resamples=resamples, seed=seed)))
    # Resampling adds the images' chance a second time, so that resampled rankings agree less than the images' own: their percentiles would
    # lie below the estimate. Their spread does not.
    reach = 1.96 * float(between_baselines(_all_taus(tables, tables)).std())
    return Stability(
        names=names,
        taus=whole.taus.numpy(),
        mean_tau=whole.mean_tau,
        low=max(-1.0, whole.mean_tau - reach),
        high=min(1.0, whole.mean_tau + reach),
        concordance=whole.concordance,
        p_value=whole.p_value,
        images=numbers.shape[2],
    )


def dependence(results: Results, metric: str, *, model: str | None = None, seed: int = 0) -> Dependence:
    """How much less rankings agree under two evaluation baselines than under one, both between halves of the images.

    Raises:
        UnknownNameError: no such metric or model in the results.
        InputError: fewer than two evaluation baselines, two contenders or four images.
    """
    return dependence_of(values(results, metric, model=model), seed=seed)


def dependence_of(found: Values, *, seed: int = 0) -> Dependence:
    """The same, of numbers that were read before."""
    numbers = found.by_evaluation()
    _check(found, numbers, _FEWEST)
    if len(found.evaluations) < 2:
        raise InputError(f"{found.metric} needs at least 2 evaluation baselines to compare rankings, got 1.")
    taus = _all_taus(*_halves(numbers, seed))
    within = within_baselines(taus)
    gap = within - between_baselines(taus)
    low, high = _interval(gap)
    return Dependence(
        within=float(within.nanmean()),
        gap=float(gap.nanmean()),
        low=low,
        high=high,
        images=numbers.shape[2],
    )


def _of_halves(found: Values, seed: int) -> Stability:
    numbers = found.by_evaluation()
    _check(found, numbers, _FEWEST)
    one, two = _halves(numbers, seed)
    each = within_baselines(_all_taus(one, two))
    low, high = _interval(each)
    tau = float(each.nanmean())
    both = (
        torch.stack([one, two], -1).transpose(1, 2).flatten(0, 1)
    )  # (splits x baselines, contenders, halves)
    concordances = torch.tensor([rank_stability(table, permutations=1).concordance for table in both])
    return Stability(
        names=("one half", "the other half"),
        taus=np.array([[1.0, tau], [tau, 1.0]]),
        mean_tau=tau,
        low=low,
        high=high,
        concordance=float(concordances.nanmean()),
        p_value=math.nan,
        images=numbers.shape[2],
    )


def _check(found: Values, numbers: Float[np.ndarray, "contenders rankings images"], fewest: int) -> None:
    if numbers.shape[0] < 2 or numbers.shape[2] < fewest:
        raise InputError(
            f"rankings of {found.metric} need at least 2 contenders and {fewest} images that all of them have numbers for, "
            f"got {numbers.shape[0]} and {numbers.shape[2]}."
        )


def _halves(
    numbers: Float[np.ndarray, "contenders rankings images"], seed: int
) -> tuple[Float[Tensor, "splits contenders rankings"], Float[Tensor, "splits contenders rankings"]]:
    """The ranks on two random halves of the images."""
    images = numbers.shape[-1]
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.stack([torch.randperm(images, generator=generator) for _ in range(_SPLITS)])
    counts = (drawn < images // 2).double()
    given = torch.from_numpy(np.ascontiguousarray(numbers))
    one, two = (
        torch.from_numpy(ranks_of(Resampling(half).means(given).numpy())) for half in (counts, 1 - counts)
    )
    return one, two


def _all_taus(
    one: Float[Tensor, "some contenders rankings"], two: Float[Tensor, "some contenders others"]
) -> Float[Tensor, "some rankings others"]:
    """Tau-b of every ranking of one table with every one of the other, a few tables at a time."""
    block = max(1, _AT_ONCE // (one.shape[1] ** 2 * max(one.shape[2], two.shape[2])))
    return torch.cat([taus_of(one[k : k + block], two[k : k + block]) for k in range(0, len(one), block)])


def _interval(each: Float[Tensor, "some"]) -> tuple[float, float]:
    """95 % of those that there are; NaN if there are none."""
    known = each[each.isfinite()]
    if not len(known):
        return math.nan, math.nan
    low, high = interval(known).tolist()
    return low, high
