"""Insertion and deletion curves of finished maps, with the pictures on the way and how far out of distribution these are."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from counterpoint import progress, spec
from counterpoint.errors import CounterpointError
from counterpoint.metrics import Bank, CurveTable, out_of_distribution
from counterpoint.metrics import curves as curve_table
from counterpoint.metrics.curve_table import KINDS, Kind, points_of
from counterpoint.metrics.ordering import ordering
from counterpoint.metrics.similarity import spearman
from counterpoint.protocols import Baseline
from counterpoint.scores import ClassScore
from counterpoint.studio.jobs import Task
from counterpoint.studio.questions import Curves
from counterpoint.studio.worker.answering import Folder, read_answer, read_map
from counterpoint.studio.worker.workshop import Workshop

_NO_BANK = "start the studio with --images and a folder of at least 20 photographs: they say what is in distribution."


def curves(workshop: Workshop, question: Curves, task: Task, folder: Folder) -> dict[str, Any]:
    """Every cell under every baseline."""
    baselines: list[Baseline] = [spec.build("baseline", text) for text in question.baselines]
    loaded = workshop.model(question.cells[0].model)
    inputs = loaded.inputs(task.photos[question.cells[0].photo])
    folders = [task.needs[task.keys[cell]] for cell in question.cells]
    answers = [read_answer(each) for each in folders]
    maps = [read_map(each, inputs.shape[2:]) for each in folders]
    # The class as it was settled, so that all maps are judged by the same score.
    score = loaded.score(question.cells[0].score, answers[0]["index"])
    with progress.stage(0, 5, 10, "curves"):
        named = {str(place): heat[None].to(inputs) for place, heat in enumerate(maps)}
        table = curve_table(score, inputs, named, baselines, steps=question.steps)
    with progress.stage(5, 6, 10):
        bank = loaded.bank
    lines, pairs = [], len(maps) * len(baselines)
    for place, heat in enumerate(maps):
        for b, baseline in enumerate(table.baselines):
            k = place * len(baselines) + b
            with progress.stage(6 + 4 * k / pairs, 6 + 4 * (k + 1) / pairs, 10, "pictures on the way"):
                for kind in KINDS:
                    _write_pictures(folder, table, inputs, heat, kind, place, b)
                    far = _far(score, inputs, heat, baselines[b], kind, question.steps, bank)
                    lines.append(_line(table, kind, place, b, baseline, question, far))
    ranks = spearman(
        torch.stack(maps).flatten(1)[:, None].expand(-1, len(maps), -1).reshape(len(maps) ** 2, -1),
        torch.stack(maps).flatten(1)[None].expand(len(maps), -1, -1).reshape(len(maps) ** 2, -1),
    ).view(len(maps), len(maps))
    return {
        "cells": [
            {"method": a["method"], "baseline": a["baseline"], "layer": a["layer"], "claim": a["claim"]}
            for a in answers
        ],
        "baselines": [spec.describe(each).text for each in table.baselines],
        "steps": question.steps,
        "curves": lines,
        "agreement": ranks.tolist(),
        "no_bank": None if bank is not None else _NO_BANK,
    }


def _line(
    table: CurveTable,
    kind: Kind,
    place: int,
    b: int,
    baseline: Baseline,
    question: Curves,
    far: dict[str, Any] | None,
) -> dict[str, Any]:
    curve = table.curve(kind, baseline=baseline, saliency=str(place))
    points = range(question.steps + 1)[points_of(kind, baseline)]
    return {
        "kind": kind,
        "cell": place,
        "baseline": b,
        "fractions": curve.fractions.tolist(),
        "scores": curve.scores[0].tolist(),
        "area": float(curve.area[0]),
        "area_error": float(curve.area_error[0]),
        "tied": float(curve.tied[0]),
        "pictures": [picture_name(kind, place, b, point) for point in points],
        "out_of_distribution": far,
    }


def picture_name(kind: str, cell: int, baseline: int, point: int) -> str:
    """The file with the perturbed image of a point."""
    return f"{kind}-{cell}-{baseline}-{point}.png"


def _write_pictures(
    folder: Folder, table: CurveTable, inputs: Tensor, heat: Tensor, kind: Kind, place: int, b: int
) -> None:
    """The perturbed image at each point, as it was scored."""
    rank = ordering(heat[None].to(inputs), order=table.order, seed=table.seed).rank
    baseline = table.baselines[b]
    for point in range(len(table.counts))[points_of(kind, baseline)]:
        count = int(table.counts[point])
        removed = rank < count if kind == "deletion" else rank >= count
        with torch.no_grad():
            filled = baseline.fill(inputs, removed)
        folder.write_picture(picture_name(kind, place, b, point), filled[0])


def _far(
    score: ClassScore,
    inputs: Tensor,
    heat: Tensor,
    baseline: Baseline,
    kind: Kind,
    steps: int,
    bank: Bank | None,
) -> dict[str, Any] | None:
    """How far each point is from real photographs, in units of their spread; None without a bank."""
    if bank is None:
        return None
    try:
        found = out_of_distribution(
            score,
            inputs,
            heat[None].to(inputs),
            baseline=baseline,
            bank=bank,
            kind=kind,
            steps=steps,
            include_last=not baseline.fill_only,
        )
    except CounterpointError as error:
        return {"reason": str(error)}
    return {
        "fractions": found.fractions.tolist(),
        "excesses": _plain(found.excesses[0]),
        "beyond_limit": found.beyond_limit[0].tolist(),
    }


def _plain(numbers: Tensor) -> Sequence[float]:
    plain: list[float] = numbers.tolist()
    return plain
