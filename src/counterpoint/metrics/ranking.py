"""Does a ranking survive another baseline? Agreement between the rankings of the same methods."""

import math
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import scipy
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from counterpoint.checks import check_finite, check_range, shape_text
from counterpoint.errors import InputError, ShapeError


@dataclass(frozen=True, eq=False)
class RankStability:
    """How far rankings of the same methods agree. 1 is full agreement; for `mean_tau` 0 is none at all."""

    taus: Float[Tensor, "baselines baselines"]
    """Kendall's tau-b of each two rankings, -1 to 1; NaN where all methods are tied in one of them."""
    mean_tau: float
    """The mean over all pairs of different baselines; NaN where one of these is."""
    concordance: float
    """Kendall's W with its correction for ties, 0 to 1; NaN where all methods are tied in every ranking."""
    null: float
    """What W is on average for rankings that have nothing to do with each other: 1 / baselines."""
    p_value: float
    """The share of random rankings (each baseline's own numbers, shuffled) whose W is at least as large, these counted among them."""


def rank_stability(
    table: Float[Tensor, "methods baselines"], *, permutations: int = 9999, seed: int = 0
) -> RankStability:
    """How much the ranking of methods depends on the baseline.

    W = 12 S / (m^2 (n^3 - n) - m T), for m baselines and n methods, where S is the sum over methods of the squared distances of the sum of
    its ranks from their mean, and T the sum over rankings and groups of t tied methods of t^3 - t.

    Args:
        table: One number for each method (row) and baseline (column), all columns of one metric and one direction, such as
            `curve_table.areas("insertion").mean(2).T`. Do not mix deletion, where lower is better, with insertion.
        permutations: Random tables for the p-value.
        seed: Of the random tables.

    Raises:
        ShapeError: not a table of at least two methods and two baselines.
        NotFiniteError: NaN or infinity in the table.
        InputError: no tensor, or fewer than one permutation.

    Reference: Kendall 1945, doi:10.1093/biomet/33.3.239 (tau-b); Kendall and Babington Smith 1939, doi:10.1214/aoms/1177732186 (W).
    """
    if not isinstance(table, Tensor):
        raise InputError(f"table must be a tensor (methods, baselines), got {type(table).__name__}.")
    if table.ndim != 2 or min(table.shape) < 2:
        raise ShapeError(
            f"table must be (methods, baselines), with at least two of each, got {shape_text(table)}."
        )
    check_finite("table", table)
    check_range("permutations", permutations, 1)
    numbers = table.detach().cpu().double().numpy()
    taus = np.eye(numbers.shape[1])
    for i, j in combinations(range(len(taus)), 2):
        taus[i, j] = taus[j, i] = _tau(numbers[:, i], numbers[:, j])
    ranks = scipy.stats.rankdata(numbers, axis=0)
    concordance = _concordance(ranks)
    many = np.broadcast_to(ranks, (permutations, *ranks.shape))
    shuffled = np.random.default_rng(seed).permuted(many, axis=1)
    # Shuffling leaves ties as they are, so that the spread alone decides. Sums of ranks are exact, their squares almost.
    reached = int((_spread(shuffled) >= _spread(ranks) * (1 - 1e-12)).sum())
    return RankStability(
        taus=torch.from_numpy(taus),
        mean_tau=float(taus[np.triu_indices(len(taus), 1)].mean()),
        concordance=concordance,
        null=1 / table.shape[1],
        p_value=(1 + reached) / (1 + permutations) if not math.isnan(concordance) else math.nan,
    )


def _tau(one: NDArray[np.float64], two: NDArray[np.float64]) -> float:
    if np.ptp(one) == 0 or np.ptp(two) == 0:
        return math.nan
    return float(scipy.stats.kendalltau(one, two, variant="b").statistic)


def _concordance(ranks: NDArray[np.float64]) -> float:
    """Kendall's W of ranks (methods, baselines), ties sharing the mean of theirs."""
    n, m = ranks.shape
    groups = [np.unique(column, return_counts=True)[1] for column in ranks.T]
    ties = sum(float((group.astype(float) ** 3 - group).sum()) for group in groups)
    most = m**2 * (n**3 - n) - m * ties
    return float(12 * _spread(ranks) / most) if most > 0 else math.nan


def _spread(ranks: NDArray[np.float64]) -> Any:
    """The sum over methods of the squared distances of their rank sums from the mean of these; ranks are (..., methods, baselines)."""
    sums = ranks.sum(-1)
    return ((sums - sums.mean(-1, keepdims=True)) ** 2).sum(-1)
