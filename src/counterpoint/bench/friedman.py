"""Are the contenders different at all, and which of them are not told apart? For the critical-difference diagram."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from scipy.stats import friedmanchisquare, rankdata, studentized_range

from counterpoint.bench.contenders import Contender
from counterpoint.bench.pairs import LEVEL, pair_tests
from counterpoint.bench.results import Results
from counterpoint.bench.standings import compared
from counterpoint.bench.values import Values, values
from counterpoint.errors import InputError

_MOST_GROUPS = 200


@dataclass(frozen=True, kw_only=True)
class Friedman:
    """Friedman's test of all contenders, and the groups that pairwise tests leave together; the best mean rank comes first."""

    metric: str
    contenders: tuple[Contender, ...]
    mean_ranks: tuple[float, ...]
    """Over the images, 1 is best; tied ones share the mean of theirs."""
    statistic: float
    """Friedman's chi-squared; 0 where all are tied on every image."""
    p_value: float
    """Of the hypothesis that no contender is better than another."""
    critical_difference: float
    """Nemenyi's, at 5 %: what mean ranks must differ by. It depends on all contenders and is weaker than the pairwise tests."""
    groups: tuple[tuple[Contender, ...], ...]
    """The largest groups, of two or more, in which Wilcoxon's test with Holm's correction tells no pair apart."""
    images: int


def friedman(
    results: Results, metric: str, *, evaluation: str | None = None, model: str | None = None
) -> Friedman:
    """Friedman's test over images. Arguments as of `ranking`.

    Raises:
        UnknownNameError: no such metric, evaluation baseline or model in the results.
        InputError: fewer than three contenders, or fewer than two images have a number for all of them.

    Reference: Friedman 1937, doi:10.1080/01621459.1937.10503522; Demsar 2006 (the diagram and Nemenyi's critical difference); Benavoli,
        Corani and Mangili 2016 (pairwise tests in place of mean ranks).
    """
    return friedman_of(values(results, metric, model=model), evaluation)


def friedman_of(found: Values, evaluation: str | None = None) -> Friedman:
    """The same, of numbers that were read before."""
    scores = compared(found, evaluation) * found.sign
    contenders, images = scores.shape
    if contenders < 3 or images < 2:
        raise InputError(
            f"Friedman's test needs at least 3 contenders and 2 images, got {contenders} and {images}."
        )
    ranks = rankdata(-scores, axis=0).mean(1)
    statistic, p_value = 0.0, 1.0
    if bool((np.ptp(scores, axis=0) > 0).any()):
        test = friedmanchisquare(*scores)
        statistic, p_value = float(test.statistic), float(test.pvalue)
    tests = pair_tests(scores)
    alike = [set[int]() for _ in range(contenders)]
    for i, j, p in zip(tests.first, tests.second, tests.p_holm, strict=True):
        if p >= LEVEL:
            alike[i].add(j)
            alike[j].add(i)
    order = sorted(range(contenders), key=lambda c: (ranks[c], found.contenders[c]))
    groups = [sorted(group, key=order.index) for group in islice(_cliques(alike), _MOST_GROUPS)]
    groups = sorted(
        (group for group in groups if len(group) > 1), key=lambda group: [*map(order.index, group)]
    )
    quantile = studentized_range.ppf(1 - LEVEL, contenders, np.inf) / 2**0.5
    return Friedman(
        metric=found.metric,
        contenders=tuple(found.contenders[c] for c in order),
        mean_ranks=tuple(float(ranks[c]) for c in order),
        statistic=statistic,
        p_value=p_value,
        critical_difference=float(quantile * (contenders * (contenders + 1) / (6 * images)) ** 0.5),
        groups=tuple(tuple(found.contenders[c] for c in group) for group in groups),
        images=images,
    )


def _cliques(neighbours: list[set[int]]) -> Iterator[set[int]]:
    """Every largest set of nodes that are all neighbours of each other.

    Reference: Bron and Kerbosch 1973, doi:10.1145/362342.362367.
    """

    def grown(clique: set[int], open_: set[int], closed: set[int]) -> Iterator[set[int]]:
        if not open_ and not closed:
            yield clique
            return
        pivot = max(open_ | closed, key=lambda node: len(neighbours[node] & open_))
        for node in sorted(open_ - neighbours[pivot]):
            yield from grown(clique | {node}, open_ & neighbours[node], closed & neighbours[node])
            open_ = open_ - {node}
            closed = closed | {node}

    yield from grown(set(), set(range(len(neighbours))), set())
