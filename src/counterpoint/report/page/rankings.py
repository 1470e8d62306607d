"""Who is better, how sure that is, and under which evaluation baselines: the benchmark's statistics, as the page shows them."""

from collections.abc import Iterator
from typing import Any

from counterpoint.bench.pairs import Pair, pairs_of
from counterpoint.bench.results import Results
from counterpoint.bench.stability import stability_of
from counterpoint.bench.standings import standings
from counterpoint.bench.values import Values, values
from counterpoint.errors import InputError
from counterpoint.report.page.listing import Listing
from counterpoint.report.page.plain import rounded

PAIRS = 1000
"""Pairs of one metric in the page, those of the best contenders first."""


def rankings(results: Results, listing: Listing) -> dict[str, Any]:
    """(model, metric, evaluation) -> rows of contender, mean, its interval, rank, its interval, share of first places, images; best first.

    The place -1 of evaluations is the mean over all of them.
    """
    found: dict[str, Any] = {}
    for place, numbers in _every(results, listing):
        evaluated = [name for name in numbers.evaluations if name]
        for evaluation in (None, *evaluated):
            try:
                rows = standings(numbers, evaluation)
            except InputError:  # no image has a number for every contender: there is nothing to rank
                continue
            where = -1 if evaluation is None else listing.evaluations.index(evaluation)
            found[f"{place}/{where}"] = [
                [
                    listing.places[row.contender],
                    *(rounded(number) for number in (row.mean, row.low, row.high)),
                    row.rank,
                    row.rank_low,
                    row.rank_high,
                    rounded(row.first, 2),
                    row.images,
                ]
                for row in rows
            ]
    return found


def stabilities(results: Results, listing: Listing) -> dict[str, Any]:
    """(model, metric) -> agreement of the rankings under each two evaluation baselines; only where there are two, and two contenders."""
    found: dict[str, Any] = {}
    for place, numbers in _every(results, listing):
        if len(numbers.evaluations) < 2 or len(numbers.contenders) < 2:
            continue
        try:
            agreement = stability_of(numbers, "evaluation")
        except InputError:
            continue
        found[place] = {
            "evaluations": [listing.evaluations.index(name) for name in agreement.names],
            "taus": [[rounded(tau, 3) for tau in row] for row in agreement.taus.tolist()],
            **{
                name: rounded(getattr(agreement, name), 3)
                for name in ("mean_tau", "low", "high", "concordance", "p_value")
            },
        }
    return found


def pairwise(results: Results, listing: Listing) -> dict[str, Any]:
    """(model, metric) -> how many rivals each contender surely beats and loses to, and the pairs themselves with Holm's correction."""
    found: dict[str, Any] = {}
    for place, numbers in _every(results, listing):
        if len(numbers.contenders) < 2:
            continue
        try:
            rows = pairs_of(numbers)
            order = [listing.places[row.contender] for row in standings(numbers)]
        except InputError:
            continue
        found[place] = {"wins": _wins(rows, order, listing), **_kept(rows, order, listing)}
    return found


def _every(results: Results, listing: Listing) -> Iterator[tuple[str, Values]]:
    """What was measured by each metric that has a better and a worse, for each model."""
    for m, model in enumerate(listing.models):
        for k, metric in enumerate(listing.metrics):
            if listing.way(metric) is None:
                continue
            try:
                yield f"{m}/{k}", values(results, metric, model=model)
            except InputError:  # not measured on this model, or on less than half of its images
                continue


def _wins(rows: list[Pair], order: list[int], listing: Listing) -> list[list[int]]:
    """Contender, rivals surely beaten, rivals surely lost to, open; best first."""
    beaten, lost = dict.fromkeys(order, 0), dict.fromkeys(order, 0)
    for row in rows:
        if row.sure:
            beaten[listing.places[row.better]] += 1
            lost[listing.places[row.worse]] += 1
    rivals = len(order) - 1
    return [[each, beaten[each], lost[each], rivals - beaten[each] - lost[each]] for each in order]


def _kept(rows: list[Pair], order: list[int], listing: Listing) -> dict[str, Any]:
    """As many of the best contenders' pairs as fit."""
    best = len(order)
    while best > 2 and best * (best - 1) // 2 > PAIRS:
        best -= 1
    kept = set(order[:best])
    shown = [row for row in rows if {listing.places[row.better], listing.places[row.worse]} <= kept]
    return {
        "best": best,
        "of": len(order),
        "pairs": [
            [
                listing.places[row.better],
                listing.places[row.worse],
                *(rounded(number, 3) for number in (row.difference, row.low, row.high)),
                rounded(row.p_holm, 2),
                rounded(row.wins, 2),
                row.sure,
            ]
            for row in shown
        ],
    }
