"""Photographs in; verdicts, with their figures, out."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from counterpoint import progress, scores, spec
from counterpoint.classifier import Classifier
from counterpoint.comparison import compare
from counterpoint.cut import Bypass
from counterpoint.data.photographs import output_names
from counterpoint.errors import InputError
from counterpoint.explain import (
    ScoreKind,
    check_no_photograph_is_overwritten,
    file_part,
    short_names,
)
from counterpoint.files import results_folder, whole_file
from counterpoint.layers import layer_parts
from counterpoint.metrics import Bank
from counterpoint.numerals import finite
from counterpoint.one_by_one import Failed, one_by_one
from counterpoint.places import FirstSettles, Places
from counterpoint.protocols import Baseline, Method
from counterpoint.report import card, save_png
from counterpoint.trusting.figure import trust_figure
from counterpoint.trusting.reference import LEAST, reference_of
from counterpoint.trusting.trust import Trust, trust
from counterpoint.trusting.verdict import Check


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One verdict, with its files."""

    photograph: Path
    figure: Path
    record: Path
    facts: dict[str, Any] = field(repr=False)
    """What the record says: the card of the explanation, the verdict, and what each check found."""


@dataclass(frozen=True, kw_only=True)
class _Job:
    """All that is the same for every photograph."""

    classifier: Classifier
    score: scores.ClassScore
    baselines: dict[Baseline, str]
    methods: dict[Method, str]
    bypass: Bypass
    judges: tuple[Baseline, ...]
    checks: tuple[Check, ...]
    steps: int
    bank: Bank | None
    folder: Path
    model: dict[str, Any]


def judge_photographs(
    classifier: Classifier,
    paths: Sequence[str | os.PathLike[str]],
    *,
    target: scores.Target = "top1",
    score: ScoreKind = "logit",
    baselines: Sequence[Baseline],
    methods: Sequence[Method],
    layers: Sequence[str] = (),
    bypass: Bypass = "refuse",
    judges: Sequence[Baseline],
    checks: Sequence[Check],
    steps: int = 10,
    bank: Sequence[str | os.PathLike[str]] = (),
    out: str | os.PathLike[str],
) -> list[Judged | Failed]:
    """Explain each photograph in each way asked for, and say how far the maps can be trusted; see `trust`.

    For each: `NAME.BASELINE.METHOD[.LAYER].trust.png` (the figure) and `.trust.json` (the record, written last). Files are replaced where
    they are there already. The first photograph that can be read settles whether the question makes sense.

    Args:
        classifier, paths, target, score, baselines, methods, layers, bypass, out: As in `explain_photographs`, which says what is raised.
        judges, checks, steps: As in `trust`.
        bank: Photographs that say what is in distribution, at least 20, of which at most 100 are looked at; none leaves that out.

    Raises:
        InputError: a bank of too few.
    """
    files = [Path(path) for path in paths]
    if not files or not baselines or not methods:
        raise InputError("a verdict needs at least one photograph, one baseline and one method.")
    for layer in layers:
        if layer != "input":
            layer_parts(classifier.module, layer)
    places = FirstSettles(Places.of(methods, layers), classifier.module)
    names = output_names(files)
    job = _Job(
        classifier=classifier,
        score=scores.ClassScore(classifier, target, score),
        baselines=dict(zip(baselines, short_names("baseline", baselines), strict=True)),
        methods=dict(zip(methods, short_names("method", methods), strict=True)),
        bypass=bypass,
        judges=tuple(judges),
        checks=tuple(checks),
        steps=steps,
        bank=_bank(classifier, bank),
        folder=Path(out),
        model=classifier.card(),
    )
    with results_folder(job.folder):
        results = one_by_one(files, names, partial(_judged, job, places, files))
    return [each for found in results for each in ([found] if isinstance(found, Failed) else found)]


def _bank(classifier: Classifier, paths: Sequence[str | os.PathLike[str]]) -> Bank | None:
    if not paths:
        return None
    chosen = reference_of(paths)
    if not chosen:
        raise InputError(
            f"bank must have at least {LEAST} photographs to say what is in distribution, got {len(paths)}."
        )
    with progress.stage(0, 1, 1, "looking at the bank's photographs"):
        return Bank.of(classifier, (classifier.preprocess([path]) for path in chosen))


def _judged(job: _Job, settled: FirstSettles, files: list[Path], path: Path, name: str) -> list[Judged]:
    inputs = job.classifier.preprocess([path])
    places = settled(inputs)
    asked = [(baseline, method, layer) for baseline in job.baselines for method, layer in places.pairs]
    comparisons = {baseline: compare(job.score, inputs, baseline=baseline) for baseline, _, _ in asked}
    results = []
    for k, (baseline, method, layer) in enumerate(asked):
        short = file_part(f"{job.baselines[baseline]}.{job.methods[method]}", layer)
        figure = job.folder / f"{name}.{short}.trust.png"
        check_no_photograph_is_overwritten(job.folder, files, [figure.name])
        comparison = comparisons[baseline].at(layer, bypass=job.bypass)
        with progress.stage(k, k + 1, len(asked)):
            found = trust(
                comparison, method, judges=job.judges, checks=job.checks, steps=job.steps, bank=job.bank
            )
        facts = _facts(job, path, found)
        save_png(trust_figure(found, inputs, caption=f"{path.name}  ·  {job.classifier.name}"), figure)
        record = figure.with_suffix(".json")
        with whole_file(record) as partial:
            partial.write_text(json.dumps(facts, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        results.append(Judged(photograph=path, figure=figure, record=record, facts=facts))
    return results


def _facts(job: _Job, path: Path, found: Trust) -> dict[str, Any]:
    shown = card([found.attribution], model=job.model, photograph=path, device=job.classifier.device)
    return {
        "card": shown,
        "verdict": finite(found.verdict.as_dict()),
        "checks": dict(found.facts),
        "missing": dict(found.missing),
        "judges": [spec.describe(each).text for each in job.judges],
    }
