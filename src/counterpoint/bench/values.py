"""What a benchmark measured, as arrays: one number for each contender, evaluation baseline, seed and image."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from counterpoint.bench.contenders import Contender
from counterpoint.bench.metrics import HIGHER_IS_BETTER
from counterpoint.bench.results import Results
from counterpoint.errors import InputError, UnknownNameError

_QUERY = """
WITH found AS MATERIALIZED (
    SELECT model, precision, method, against, layer, seed, metric, evaluation, image,
        CASE WHEN status = 'ok' THEN value END AS value
    FROM measures
), numbered AS (
    SELECT image, row_number() OVER (ORDER BY image) - 1 AS place FROM (SELECT DISTINCT image FROM found)
)
SELECT model, precision, method, against, layer, seed, metric, evaluation,
    list(place) AS places, list(value) AS values
FROM found JOIN numbered USING (image)
GROUP BY ALL ORDER BY ALL
"""
_Name = TypeVar("_Name")
_read: WeakKeyDictionary[Results, list[dict[str, Any]]] = WeakKeyDictionary()


@dataclass(frozen=True, kw_only=True, eq=False)
class Values:
    """The numbers of one metric; NaN where there is none."""

    metric: str
    contenders: tuple[Contender, ...]
    evaluations: tuple[str, ...]
    """The baselines that the metric removed with; one empty name for a metric without."""
    seeds: tuple[int, ...]
    numbers: Float[np.ndarray, "contenders evaluations seeds images"]
    """As measured, the mean over models and precisions if there are several. A contender with one seed has its numbers under every seed."""
    absent: tuple[Contender, ...]
    """Contenders that lack a number on more than half of the images; they are not among the contenders."""

    @property
    def sign(self) -> float:
        """What numbers are multiplied by so that higher is better; 1 where neither way is better."""
        return -1.0 if HIGHER_IS_BETTER.get(self.metric) is False else 1.0

    @property
    def images(self) -> int:
        """How many images somebody has a number for."""
        return int(self.numbers.shape[-1])

    def by_evaluation(self) -> Float[np.ndarray, "contenders evaluations complete"]:
        """The mean over seeds, on the images that every contender has a number for under every evaluation baseline."""
        return _complete(_mean_of_known(self.numbers, 2))

    def by_seed(self) -> Float[np.ndarray, "contenders seeds complete"]:
        """The mean over evaluation baselines, on the images that every contender has a number for with every seed."""
        return _complete(self.numbers.mean(1))

    def scores(self, evaluation: str | None = None) -> Float[np.ndarray, "contenders complete"]:
        """Each contender's number on each image that all have one for, under one evaluation baseline, or the mean over all."""
        means = _mean_of_known(self.numbers, 2)
        if evaluation is None:
            return _complete(means.mean(1))
        if evaluation not in self.evaluations:
            raise UnknownNameError.among("evaluation baseline", evaluation, self.evaluations)
        return _complete(means[:, self.evaluations.index(evaluation)])


def values(results: Results, metric: str, *, model: str | None = None) -> Values:
    """What was measured by one metric.

    A number is the mean over models and precisions where there are several: NaN where one lacks it, so that like is compared with like.

    Raises:
        UnknownNameError: no such metric or model in the results.
        InputError: nothing was measured, or no contender has numbers on half of the images.
    """
    rows = _rows(results)
    images = 1 + max(max(row["places"]) for row in rows)
    rows = _chosen("metric", metric, rows)
    if model is not None:
        rows = _chosen("model", model, rows)
    networks = _distinct((row["model"], row["precision"]) for row in rows)
    contenders = _distinct(_contender(row) for row in rows)
    evaluations = _in_order(
        _distinct(row["evaluation"] for row in rows), results.manifest.get("evaluations", ())
    )
    seeds = _distinct(row["seed"] for row in rows)
    numbers = np.full((len(networks), len(contenders), len(evaluations), len(seeds), images), np.nan)
    own: dict[tuple[Any, Contender], set[int]] = {}
    for row in rows:
        network, contender = (row["model"], row["precision"]), _contender(row)
        n, c, s = networks.index(network), contenders.index(contender), seeds.index(row["seed"])
        numbers[n, c, evaluations.index(row["evaluation"]), s, row["places"]] = row["values"]
        own.setdefault((network, contender), set()).add(s)
    for (network, contender), places in own.items():
        if len(places) == 1:  # a method without chance is run once
            n, c = networks.index(network), contenders.index(contender)
            numbers[n, c] = numbers[n, c][:, list(places)]
    numbers[~np.isfinite(numbers)] = np.nan
    gathered = numbers.mean(0)
    known = np.isfinite(_mean_of_known(gathered, 2)).all(1)
    present = known.sum(1) * 2 >= known.any(0).sum()
    present &= known.any(1)
    if not present.any():
        raise InputError(f"no method has numbers of {metric} on at least half of the images.")
    return Values(
        metric=metric,
        contenders=tuple(each for each, here in zip(contenders, present, strict=True) if here),
        evaluations=tuple(evaluations),
        seeds=tuple(seeds),
        numbers=gathered[present],
        absent=tuple(each for each, here in zip(contenders, present, strict=True) if not here),
    )


def measured(results: Results) -> tuple[list[str], list[str]]:
    """The models and the metrics that there are numbers of, in the order of the benchmark's specification."""
    rows = _rows(results)
    known = [model["name"] for model in results.manifest.get("models", ())]
    models = _in_order(_distinct(row["model"] for row in rows), known)
    return models, _in_order(_distinct(row["metric"] for row in rows), results.manifest.get("metrics", ()))


def _rows(results: Results) -> list[dict[str, Any]]:
    if results not in _read:
        _read[results] = results.rows(_QUERY)
    if not _read[results]:
        raise InputError(f"'{results.folder}' holds no measures.")
    return _read[results]


def _mean_of_known(numbers: Float[np.ndarray, "..."], axis: int) -> Float[np.ndarray, "..."]:
    """The mean over an axis, NaN left out."""
    known = np.isfinite(numbers)
    counts = known.sum(axis)
    sums = np.where(known, numbers, 0.0).sum(axis)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _complete(numbers: Float[np.ndarray, "*rows images"]) -> Float[np.ndarray, "*rows complete"]:
    """Only the images that have every number, these settled."""
    every = np.isfinite(numbers).all(tuple(range(numbers.ndim - 1)))
    return settled(numbers[..., every])


def settled(numbers: Float[np.ndarray, "*any"]) -> Float[np.ndarray, "*any"]:
    """Rounded to 36 bits, so that equal means are equal in whatever order they were summed, and ties stay ties."""
    mantissa, exponent = np.frexp(numbers)
    found: NDArray[np.float64] = np.ldexp(np.round(np.ldexp(mantissa, 36)), exponent - 36)
    return found


def _contender(row: dict[str, Any]) -> Contender:
    return Contender(row["method"], row["against"], row["layer"])


def _chosen(kind: str, name: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found = [row for row in rows if row[kind] == name]
    if not found:
        raise UnknownNameError.among(kind, name, _distinct(row[kind] for row in rows))
    return found


def _distinct(found: Iterable[_Name]) -> list[_Name]:
    return list(dict.fromkeys(found))


def _in_order(names: list[str], order: Sequence[str]) -> list[str]:
    """As the benchmark's specification names them, others at the end."""
    return sorted(names, key=lambda name: order.index(name) if name in order else len(order))
