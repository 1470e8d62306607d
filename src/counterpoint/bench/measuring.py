"""Measures of one map of one image, computed in groups: what one metric needs serves its neighbours."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from counterpoint import metrics
from counterpoint import spec as objects
from counterpoint.attribution import Attribution
from counterpoint.bench.metrics import METRICS, Group
from counterpoint.bench.questions import NO_BASELINE
from counterpoint.bench.spec import BenchSpec
from counterpoint.bench.trying import tried
from counterpoint.classifier import Classifier
from counterpoint.metrics import Bank
from counterpoint.protocols import Baseline
from counterpoint.scores import ClassScore

_FLOORS = 2
"""Random masks that activation deviation is compared with."""


@dataclass(frozen=True)
class Asked:
    """A map, and what measures of it may need."""

    setup: BenchSpec
    classifier: Classifier
    inputs: Tensor
    name: str
    """Of the image: it is no neighbour of itself."""
    attribution: Attribution
    bank: Callable[[], Bank]
    evidence: Callable[[], Bool[Tensor, "height width"] | None]
    """Where the data set says that the object is."""
    again: Callable[[Any, Tensor, int], Attribution]
    """(module, images, class) -> the same kind of map of something else."""

    @property
    def score(self) -> ClassScore:
        """What curves follow: the class that was explained."""
        return ClassScore(self.classifier, self.target, self.setup.evaluate.score)

    @property
    def target(self) -> int:
        """The index of the class that was explained."""
        (index,) = self.attribution.question["class_target"]
        return int(index)


@dataclass(frozen=True)
class Measured:
    """What came of a group of metrics under one evaluation baseline."""

    values: Sequence[tuple[str, str, float | None]]
    """(metric, evaluation baseline, value)."""
    reason: str | None = None
    """Why there is none."""
    tables: Mapping[str, list[dict[str, Any]]] = field(default_factory=dict)
    """Rows of other tables; `of` names the metric that their hash is taken from."""


def measured(asked: Asked, wanted: Sequence[tuple[str, str]]) -> Iterator[Measured]:
    """The measures of a map; one that cannot be taken is there with its reason.

    Args:
        asked: The map.
        wanted: (metric, evaluation baseline, as in the tables).

    Raises:
        Retry: memory ran out.
    """
    groups: dict[tuple[Group, str], list[str]] = {}
    for metric, evaluation in wanted:
        groups.setdefault((METRICS[metric].group, evaluation), []).append(metric)
    for (group, evaluation), names in groups.items():
        found = tried(partial(_found, asked, group, names, evaluation))
        if isinstance(found, str):
            yield Measured([(name, evaluation, None) for name in names], found)
            continue
        numbers, tables = found
        yield Measured(
            [(name, evaluation, numbers[name]) for name in names],
            tables={
                table: [row | {"evaluation": evaluation} for row in rows] for table, rows in tables.items()
            },
        )


_Found = tuple[dict[str, float], dict[str, list[dict[str, Any]]]]
"""Metric -> value, and rows of other tables."""


def _found(asked: Asked, group: Group, names: Sequence[str], evaluation: str) -> _Found:
    if evaluation == NO_BASELINE:
        return _OF_THE_MAP[group](asked, names)
    return _WITH_A_BASELINE[group](asked, names, objects.build("baseline", evaluation))


def _path(asked: Asked) -> dict[str, Any]:
    """How the measures that follow a path go along it."""
    evaluate = asked.setup.evaluate
    return {"order": evaluate.order, "seed": evaluate.seed}


def _curves(asked: Asked, names: Sequence[str], baseline: Baseline) -> _Found:
    evaluate = asked.setup.evaluate
    table = metrics.curves(
        asked.score,
        asked.inputs,
        {"map": asked.attribution},
        [baseline],
        steps=evaluate.steps,
        **_path(asked),
        micro_batch=asked.setup.run.micro_batch,
    )
    found = {kind: table.curve(kind) for kind in ("deletion", "insertion")}
    areas = {kind: float(curve.area[0]) for kind, curve in found.items()}
    rows = [
        {
            "of": names[0],
            "kind": kind,
            "fractions": curve.fractions.double().tolist(),
            "scores": curve.scores[0].double().tolist(),
            "tied": float(curve.tied[0]),
        }
        for kind, curve in found.items()
    ]
    numbers = {**areas, "relevance_gain": areas["insertion"] - areas["deletion"]}
    return numbers, {"curves": rows} if asked.setup.keep.curves else {}


def _masked(asked: Asked, names: Sequence[str], baseline: Baseline) -> _Found:
    found = {}
    for name in names:
        function = metrics.average_drop if name == "average_drop" else metrics.average_increase
        found[name] = float(function(asked.score, asked.inputs, asked.attribution, baseline=baseline)[0])
    return found, {}


def _deviation(asked: Asked, names: Sequence[str], baseline: Baseline) -> _Found:
    found = metrics.activation_deviation(
        asked.score,
        asked.inputs,
        asked.attribution,
        baseline=baseline,
        kinds=("insertion",),
        floor=_FLOORS,
        **_path(asked),
        micro_batch=asked.setup.run.micro_batch,
    )
    rows = []
    for name in names:
        measure = name.removeprefix("activation_")
        own, floor = (found.values(measure, floor=random)[0].double() for random in (False, True))
        for number, layer in enumerate(found.layers):
            rows.append(
                {
                    "of": name,
                    "path": "insertion",
                    "measure": measure,
                    "activation": layer,
                    "activation_number": number,
                    "fractions": found.fractions.double().tolist(),
                    "found": own[number].tolist(),
                    "floor": floor[number].tolist(),
                }
            )
    means = {name: float(found.mean(name.removeprefix("activation_"))[0]) for name in names}
    return means, {"deviations": rows}


def _removal(asked: Asked, names: Sequence[str], baseline: Baseline) -> _Found:
    evaluate = asked.setup.evaluate
    found = metrics.information_removed(
        asked.score,
        asked.inputs,
        asked.attribution,
        baseline=baseline,
        steps=evaluate.steps,
        **_path(asked),
    )
    return {"information_removed": float(found.confidence_lost[0])}, {}


def _distance(asked: Asked, names: Sequence[str], baseline: Baseline) -> _Found:
    evaluate = asked.setup.evaluate
    found = metrics.out_of_distribution(
        asked.score,
        asked.inputs,
        asked.attribution,
        baseline=baseline,
        bank=asked.bank(),
        groups=[asked.name],
        steps=evaluate.steps,
        **_path(asked),
    )
    return {"out_of_distribution": float(found.excesses.mean(1)[0])}, {}


def _map(asked: Asked, names: Sequence[str]) -> _Found:
    known: dict[str, Callable[[Attribution], Tensor]] = {
        "complexity": metrics.complexity,
        "sparseness": metrics.sparseness,
    }
    return {name: float(known[name](asked.attribution)[0]) for name in names}, {}


def _evidence(asked: Asked, names: Sequence[str]) -> _Found:
    known: dict[str, Callable[[Attribution, Tensor], Tensor]] = {
        "pointing_game": metrics.pointing_game,
        "mass_in_mask": metrics.mass_in_mask,
        "rank_in_mask": metrics.rank_in_mask,
        "auc_in_mask": metrics.auc_in_mask,
    }
    where = asked.evidence()
    if where is None:
        # No finding, and no failure either: this image has no evidence that could be hit.
        return dict.fromkeys(names, torch.nan), {}
    masks = where[None].to(asked.inputs.device)
    return {name: float(known[name](asked.attribution, masks)[0]) for name in names}, {}


def _error(asked: Asked, names: Sequence[str]) -> _Found:
    return {"attribution_error": float(asked.attribution.relative_error[0])}, {}


def _disturbed(asked: Asked, names: Sequence[str]) -> _Found:
    evaluate = asked.setup.evaluate
    found = metrics.max_sensitivity(
        lambda images: asked.again(asked.classifier, images.clamp(0, 1), asked.target),
        asked.inputs,
        samples=evaluate.samples,
        seed=evaluate.seed,
    )
    return {"sensitivity": float(found[0])}, {}


def _randomised(asked: Asked, names: Sequence[str]) -> _Found:
    found = metrics.randomised_weights(
        asked.classifier,
        lambda module, images: asked.again(module, images, asked.target),
        asked.inputs,
        cascade="together",
        seed=asked.setup.evaluate.seed,
    )
    return {"randomised_weights": float(found.similarity.spearman[-1, 0])}, {}


_OF_THE_MAP: dict[Group, Callable[[Asked, Sequence[str]], _Found]] = {
    "map": _map,
    "evidence": _evidence,
    "error": _error,
    "disturbed": _disturbed,
    "randomised": _randomised,
}
_WITH_A_BASELINE: dict[Group, Callable[[Asked, Sequence[str], Baseline], _Found]] = {
    "curves": _curves,
    "masked": _masked,
    "deviation": _deviation,
    "removal": _removal,
    "distance": _distance,
}
