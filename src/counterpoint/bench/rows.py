"""The rows that come of one job: numbers of maps and measures, or why there are none."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from counterpoint.attribution import Attribution
from counterpoint.bench.jobs import Done, Job, Row, Setup, Task, image_key
from counterpoint.bench.questions import Question
from counterpoint.bench.tables import COLUMNS, RESULTS
from counterpoint.checks import check_finite

THUMBNAIL = 64
"""Cells along each side of the maps that are kept for the report."""

_TELLING = ("kind", "path", "measure", "activation_number")
"""Columns that tell rows of one hash apart, in `curves` and `deviations`."""


class Rows:
    """Gathers the rows of a job."""

    def __init__(self, setup: Setup, job: Job) -> None:
        self._setup, self._job = setup, job
        self.tables: dict[str, list[Row]] = {name: [] for name in RESULTS}

    @property
    def failed(self) -> int:
        """How many rows say that something failed."""
        return sum(
            row["status"] == "failed" for name in ("explanations", "measures") for row in self.tables[name]
        )

    def map(self, question: Question, attribution: Attribution, probability: float) -> str:
        """A map that was made; its key."""
        row = self._shared(question, question.asked) | _numbers(attribution)
        row |= {"status": "ok", "reason": None, "probability": probability}
        row |= (
            _thumbnail(attribution.heatmap()[0]) if self._job.gallery else {"thumbnail": None, "scale": None}
        )
        self.tables["explanations"].append(row)
        return str(row["key"])

    def measure(
        self, question: Question, metric: str, evaluation: str, value: float | None, reason: str | None = None
    ) -> None:
        """A number, or why there is none. NaN is a finding too, such as a target too small to divide by: it is kept as no value."""
        told = {
            "metric": metric,
            "evaluation": evaluation,
            "status": "ok" if reason is None else "failed",
            "reason": reason,
            "value": value if value is not None and math.isfinite(value) else None,
        }
        self.tables["measures"].append(self._shared(question, question.measures[metric][evaluation]) | told)

    def further(self, question: Question, table: str, found: Sequence[Row]) -> None:
        """Rows of `curves` or `deviations`, each with the metric `of` which it is a part."""
        for each in found:
            asked = question.measures[each["of"]][each["evaluation"]]
            telling = [each[name] for name in _TELLING if name in each]
            told = {name: value for name, value in each.items() if name != "of"}
            self.tables[table].append(self._shared(question, asked, *telling) | told)

    def fail(self, task: Task, reason: str) -> None:
        """A task of which nothing came."""
        question = self._setup.questions[task.question]
        if task.explain:
            empty = dict.fromkeys(COLUMNS["explanations"])
            told = self._shared(question, question.asked) | {"status": "failed", "reason": reason}
            self.tables["explanations"].append(empty | told)
        for metric, evaluation in task.measures:
            self.measure(question, metric, evaluation, None, reason)

    def _shared(self, question: Question, asked: str, *telling: Any) -> Row:
        job, part = self._job, self._setup.part(self._job.model)
        key = question.key(image_key(self._setup.spec, job.sha256, job.item.label), asked)
        return {
            "key": "-".join([key, *(str(each) for each in telling)]),
            "asked": asked,
            "model": part.title,
            "precision": part.precision,
            "image": job.item.name,
            "position": job.position,
            "sha256": job.sha256,
            "label": None if job.item.label is None else str(job.item.label),
            "method": question.method_name,
            "against": question.against,
            "layer": question.layer,
            "seed": question.seed,
        }


def lost(setup: Setup, job: Job, reason: str) -> Done:
    """What is written down of a job whose worker died each time."""
    rows = Rows(setup, job)
    for task in job.tasks:
        rows.fail(task, reason)
    return Done(rows=rows.tables, failed=rows.failed)


def _numbers(attribution: Attribution) -> Row:
    """What the table says of a map."""

    def one(values: Tensor) -> float | None:
        value = float(values[0])
        return value if math.isfinite(value) else None

    labels = attribution.question.get("label")
    (index,) = attribution.question["class_target"]
    return {
        "claim": attribution.claim,
        "class_target": None if labels is None else labels[0],
        "class_index": int(index),
        "score": one(attribution.score),
        "baseline_score": one(attribution.baseline_score),
        "attribution_target": one(attribution.target),
        "result": one(attribution.result),
        "error": one(attribution.error),
        "relative_error": one(attribution.relative_error),
        "own_error": one(attribution.own_error),
        "path_error": one(attribution.path_error),
        "value_error": one(attribution.value_error),
        "cancellation": one(attribution.cancellation),
        **{f"budget_{part}": one(values) for part, values in attribution.budget().items()},
        "converged": None if attribution.converged is None else bool(attribution.converged[0]),
        "gradients": int(attribution.gradient_evaluations[0]),
        "forwards": int(attribution.forward_evaluations[0]),
        "prefixes": int(attribution.prefix_evaluations[0]),
    }


def _thumbnail(heat: Float[Tensor, "height width"]) -> Row:
    """64 x 64 signed bytes, and what 127 stands for."""
    check_finite("heat map", heat)
    small = adaptive_avg_pool2d(heat.detach().float().cpu()[None], (THUMBNAIL, THUMBNAIL))[0]
    scale = float(small.abs().max())
    levels = torch.zeros_like(small) if scale == 0 else (small / scale * 127).round()
    return {"thumbnail": levels.to(torch.int8).numpy().tobytes(), "scale": scale}
