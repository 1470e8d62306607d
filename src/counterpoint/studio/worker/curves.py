"""Insertion and deletion curves of finished maps, with the pictures on the way and how far out of distribution these are."""

from typing import Any

import torch
from torch import Tensor

from counterpoint import progress, spec
from counterpoint.errors import CounterpointError
from counterpoint.metrics import Bank, CurveTable, out_of_distribution
from counterpoint.metrics.curve_table import Kind, points_of
from counterpoint.metrics.ordering import ordering
from counterpoint.protocols import Baseline
from counterpoint.scores import ClassScore
from counterpoint.studio.jobs import Task
from counterpoint.studio.questions import Curves
from counterpoint.studio.worker.answering import Folder, read_answer, read_map
from counterpoint.studio.worker.workshop import Workshop
from counterpoint.trusting.curves import curve_facts

_NO_BANK = "start the studio with --images and a folder of at least 20 photographs: they say what is in distribution."


def curves(workshop: Workshop, question: Curves, task: Task, folder: Folder) -> dict[str, Any]:
    """Every cell under every baseline."""
    baselines: list[Baseline] = [spec.build("baseline", text) for text in question.baselines]
    loaded = workshop.model(question.cells[0].model)
    inputs = loaded.inputs(task.photos[question.cells[0].photo].path)
    folders = [task.needs[task.keys[cell]] for cell in question.cells]
    answers = [read_answer(each) for each in folders]
    maps = torch.stack([read_map(each, inputs.shape[2:]) for each in folders])
    # The class as it was settled, so that all maps are judged by the same score.
    score = loaded.score(question.cells[0].score, answers[0]["index"])
    with progress.stage(0, 1, 10):
        bank = loaded.bank
    with progress.stage(1, 8, 10):
        table, facts = curve_facts(score, inputs, maps, baselines, steps=question.steps, bank=bank)
    with progress.stage(8, 10, 10, "pictures on the way"):
        for k, line in enumerate(facts["curves"]):
            progress.advance(k, len(facts["curves"]))
            line["pictures"] = _write_pictures(
                folder, table, inputs, maps[line["cell"]], line["kind"], line["cell"], line["baseline"]
            )
        limit = _limit(score, inputs, maps[:1], baselines, bank)
    for line in facts["curves"]:
        if line["out_of_distribution"] is not None and "excesses" in line["out_of_distribution"]:
            line["out_of_distribution"]["limit"] = limit
    cells = [
        {"method": a["method"], "baseline": a["baseline"], "layer": a["layer"], "claim": a["claim"]}
        for a in answers
    ]
    return {**facts, "cells": cells, "no_bank": None if bank is not None else _NO_BANK}


def _limit(
    score: ClassScore, inputs: Tensor, heat: Tensor, baselines: list[Baseline], bank: Bank | None
) -> float | None:
    """Beyond which excess an image is further out than 95 % of real photographs: in units of their spread, 0 for the photograph itself."""
    if bank is None:
        return None
    for baseline in baselines:
        try:
            found = out_of_distribution(score, inputs, heat.to(inputs), baseline=baseline, bank=bank, steps=2)
        except CounterpointError:
            continue  # such as a baseline of several draws: the limit does not depend on the baseline
        return (found.limit - float(found.clean_distances[0])) / found.spread if found.spread > 0 else None
    return None


def picture_name(kind: str, cell: int, baseline: int, point: int) -> str:
    """The file with the perturbed image of a point."""
    return f"{kind}-{cell}-{baseline}-{point}.png"


def _write_pictures(
    folder: Folder, table: CurveTable, inputs: Tensor, heat: Tensor, kind: Kind, place: int, b: int
) -> list[str]:
    """The perturbed image at each point, as it was scored; the names of their files."""
    rank = ordering(heat[None].to(inputs), order=table.order, seed=table.seed).rank
    baseline, names = table.baselines[b], []
    for point in range(len(table.counts))[points_of(kind, baseline)]:
        count = int(table.counts[point])
        removed = rank < count if kind == "deletion" else rank >= count
        with torch.no_grad():
            filled = baseline.fill(inputs, removed)
        names.append(picture_name(kind, place, b, point))
        folder.write_picture(names[-1], filled[0])
    return names
