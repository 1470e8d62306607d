"""Photographs in; for each a figure, a card and values of what a detector sees there. The command works through here."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from counterpoint import metrics, progress, spec
from counterpoint.attribution import Attribution
from counterpoint.comparison import Comparison, compare
from counterpoint.cut import Bypass
from counterpoint.data.photographs import output_names
from counterpoint.detectors import Detection, Detector, box_masks, detection, energy_in_box, pointing_in_box
from counterpoint.detectors.crops import map_in_region
from counterpoint.detectors.score import Follow, Of
from counterpoint.errors import InputError, NotFiniteError
from counterpoint.explain import Explained, check_no_photograph_is_overwritten, file_part, short_names
from counterpoint.files import results_folder, whole_file
from counterpoint.layers import find_layer
from counterpoint.one_by_one import Failed, one_by_one
from counterpoint.places import Places
from counterpoint.protocols import Baseline, Method
from counterpoint.report import card, describe_result, save_png
from counterpoint.report.card import number
from counterpoint.report.detection_sheet import DetectionMap, detection_sheet
from counterpoint.report.wording import name_text

FORMAT = "counterpoint-detections-1"

_NOTHING_REPORTED = (
    "The detector reports nothing here, so its best candidates below the threshold are explained."
)


@dataclass(frozen=True, kw_only=True)
class _Job:
    """All that is the same for every photograph."""

    detector: Detector
    of: Of
    label: int | None
    most: int
    baselines: tuple[Baseline, ...]
    baseline_names: tuple[str, ...]
    method_names: dict[Method, str]
    places: Places
    bypass: Bypass
    steps: int
    model: dict[str, Any]
    folder: Path
    note: str


@dataclass(frozen=True, kw_only=True)
class _Question:
    """One way to explain."""

    baseline: Baseline
    method: Method
    layer: str
    """"" for the layer that the detection was read from."""
    file: str
    """What tells its files from those of the others."""

    @property
    def follow(self) -> Follow:
        """Methods that only remove pixels find the object again; gradients follow one candidate, whose score has no steps."""
        return "object" if getattr(self.method, "fills", False) else "candidate"


@dataclass(frozen=True, kw_only=True)
class _Answer:
    """One explanation of one detection."""

    question: _Question
    detection: Detection
    attribution: Attribution
    heat: Float[Tensor, "height width"]


def explain_detections(
    detector: Detector,
    paths: Sequence[str | os.PathLike[str]],
    *,
    detections: int = 3,
    label: int | str | None = None,
    of: Of = "logit",
    baselines: Sequence[Baseline],
    methods: Sequence[Method],
    layers: Sequence[str] = (),
    bypass: Bypass = "intervene",
    steps: int = 10,
    out: str | os.PathLike[str],
    note: str = "",
) -> list[Explained | Failed]:
    """Explain the best detections of each photograph against each baseline with each method, and write what was found.

    For each: `NAME.png` (the figure, a column for each detection), `NAME.json` (the card, written last) and
    `NAME.NUMBER.BASELINE.METHOD[.LAYER].safetensors` (the values). Where the detector reports nothing, its best candidates are explained,
    and it is said so.

    Args:
        detector: The model.
        paths: Image files.
        detections: How many detections of each photograph, the best.
        label: Only those of this class, by its label or index.
        of: What is read of each: "score", "logit", or a side of its box.
        baselines: What each photograph is compared with.
        methods: Ways to explain. One for layers gets the layer that the detection was read from where `layers` is empty.
        layers: Where to explain; empty for the input, or for that layer.
        bypass: What to do where other layers pass by. "intervene" explains the layer all the same, as ODAM does.
        steps: Steps of the deletion and insertion curves, in which each detection is found again.
        out: The folder for results, made if it is not there.
        note: A sentence for the foot of each figure.

    Returns:
        One result for each photograph, in their order.

    Raises:
        InputError: an argument that makes no sense for any photograph, or a figure that would overwrite a photograph.
        LayerError: a layer where the detector cannot be cut.
        OutputError: the folder cannot be written, or the disk is full.
        Cancelled: the progress listener stopped the work.
    """
    files = [Path(path) for path in paths]
    if not files or not baselines or not methods:
        raise InputError("explaining needs at least one photograph, one baseline and one method.")
    if detections < 1 or steps < 2:
        raise InputError(f"detections must be at least 1 and steps at least 2, got {detections} and {steps}.")
    for layer in layers:
        for part in layer.split("+"):  # of a joint cut
            if part != "input":
                find_layer(detector.module, part)
    job = _Job(
        detector=detector,
        of=of,
        label=None if label is None else detector.label_index(label),
        most=detections,
        baselines=tuple(baselines),
        baseline_names=short_names("baseline", baselines),
        method_names=dict(zip(methods, short_names("method", methods), strict=True)),
        places=Places.of(methods, layers),
        bypass=bypass,
        steps=steps,
        model=detector.card(),
        folder=Path(out),
        note=note,
    )
    names = output_names(files)
    check_no_photograph_is_overwritten(job.folder, files, [f"{name}.png" for name in names])
    with results_folder(job.folder):
        return one_by_one(files, names, partial(_explain, job))


def _explain(job: _Job, path: Path, name: str) -> Explained:
    inputs = job.detector.preprocess([path])
    progress.advance(0, 1, f"{path.name}: detecting")
    seen, reported = _chosen(job, inputs)
    questions = [
        _Question(baseline=baseline, method=method, layer=layer, file=f"{short}.{job.method_names[method]}")
        for baseline, short in zip(job.baselines, job.baseline_names, strict=True)
        for method, layer in job.places.pairs
    ]
    answers: list[list[_Answer]] = []
    areas: list[dict[tuple[int, int], tuple[float | None, float | None]]] = []
    for d, each in enumerate(seen):
        words = f"{path.name}: {each.text}"
        with progress.stage(2 * d, 2 * d + 1, 2 * len(seen)):
            answers.append(_answered(job, inputs, each, questions, words))
        with progress.stage(2 * d + 1, 2 * d + 2, 2 * len(seen), f"{words}: deletion and insertion"):
            areas.append(_curve_areas(job, inputs, each, answers[-1]))
    return _write(job, path, name, inputs, answers, areas, reported)


def _chosen(job: _Job, inputs: Tensor) -> tuple[list[Detection], int]:
    """The detections to explain, and how many the detector reports."""
    (reported,) = job.detector.detections(inputs)
    wanted = [each for each in reported if job.label in (None, each.label)]
    if wanted:
        return wanted[: job.most], len(reported)
    if job.label is not None and reported:
        raise InputError(f"the detector reports nothing of class {job.label} here, but {reported[0].text}.")
    (best,) = job.detector.best_candidates(inputs, job.most)
    if not best:
        raise InputError("the detector has no candidate with an area here.")
    return best, 0


def _answered(
    job: _Job, inputs: Tensor, each: Detection, questions: Sequence[_Question], words: str
) -> list[_Answer]:
    comparisons: dict[tuple[Follow, Baseline], Comparison] = {}
    answers = []
    for q, question in enumerate(questions):
        method = name_text(spec.describe(question.method))
        with progress.stage(q, q + 1, len(questions), f"{words}: {method}"):
            key = (question.follow, question.baseline)
            if key not in comparisons:
                score = detection(job.detector, each, of=job.of, follow=question.follow)
                comparisons[key] = compare(score, inputs, baseline=question.baseline)
            comparison, layer = comparisons[key], question.layer or each.layer
            if layer != "input":
                comparison = comparison.at(layer, bypass=job.bypass)
            attribution = comparison.explain(question.method)
            if not bool(torch.isfinite(attribution.values).all()):
                raise NotFiniteError(
                    f"{method} gives NaN or infinity here; the model's gradients may overflow: try float32."
                )
            settled = replace(question, layer=layer, file=file_part(question.file, layer))
            heat = _heat(job, attribution, each, inputs)
            answers.append(_Answer(question=settled, detection=each, attribution=attribution, heat=heat))
    return answers


def _heat(
    job: _Job, attribution: Attribution, each: Detection, inputs: Tensor
) -> Float[Tensor, "height width"]:
    size = (inputs.shape[2], inputs.shape[3])
    if attribution.layer != "input" and getattr(job.detector.module, "maps_in_regions", False):
        return map_in_region(attribution, [each], size)[0].detach()
    return attribution.heatmap()[0].detach()


def _curve_areas(
    job: _Job, inputs: Tensor, each: Detection, answers: Sequence[_Answer]
) -> dict[tuple[int, int], tuple[float | None, float | None]]:
    """Deletion and insertion area of each answer, by the places of its baseline and of its own; None for baselines of several draws."""
    areas: dict[tuple[int, int], tuple[float | None, float | None]] = {}
    score = detection(job.detector, each)
    for b, baseline in enumerate(job.baselines):
        own = {
            f"{k}": answer.heat[None]
            for k, answer in enumerate(answers)
            if answer.question.baseline == baseline
        }
        with progress.stage(b, b + 1, len(job.baselines)):
            if baseline.draws > 1:
                areas |= {(b, int(k)): (None, None) for k in own}
                continue
            table = metrics.curves(score, inputs, own, [baseline], steps=job.steps, fold=False)
            for k in own:
                deletion, insertion = (
                    number(table.curve(kind, saliency=k).area, 0) for kind in ("deletion", "insertion")
                )
                areas[b, int(k)] = (deletion, insertion)
    return areas


def _write(
    job: _Job,
    path: Path,
    name: str,
    inputs: Tensor,
    answers: Sequence[Sequence[_Answer]],
    areas: Sequence[Mapping[tuple[int, int], tuple[float | None, float | None]]],
    reported: int,
) -> Explained:
    values: list[Path] = []
    facts: dict[str, Any] = card(
        [answers[0][0].attribution], model=job.model, photograph=path, device=job.detector.device
    )
    columns: list[list[DetectionMap]] = []
    entries = []
    for d, (found, own) in enumerate(zip(answers, areas, strict=True), start=1):
        maps = []
        for k, answer in enumerate(found):
            b = job.baselines.index(answer.question.baseline)
            told = _told(answer, own[b, k], inputs)
            file = job.folder / f"{name}.{d}.{answer.question.file}.safetensors"
            answer.attribution.save(file)
            values.append(file)
            maps.append(DetectionMap(heat=answer.heat.cpu(), facts={**told, "values_file": file.name}))
        columns.append(maps)
        entries.append({**asdict(found[0].detection), "explanations": [dict(each.facts) for each in maps]})
    note = " ".join(part for part in (_NOTHING_REPORTED if not reported else "", job.note) if part)
    sheet = detection_sheet(
        inputs.detach().cpu(),
        [found[0].detection for found in answers],
        list(zip(*columns, strict=True)),
        score=job.of,
        caption=f"{path.name}  ·  {job.model['name']}",
        note=note,
    )
    from counterpoint.report.drawing import draw

    picture, text = job.folder / f"{name}.png", job.folder / f"{name}.json"
    save_png(draw(sheet), picture)
    told_of_all = {
        "format": FORMAT,
        "photograph": facts["photograph"],
        "model": facts["model"],
        "size": list(inputs.shape[2:]),
        "score": {"kind": f"detection_{job.of}"},
        "reported": reported,
        "curves": {"score": "detection_score", "steps": job.steps},
        "note": note,
        "detections": entries,
        "device": facts["device"],
        "versions": facts["versions"],
        "figure_file": picture.name,
    }
    # The card comes last: where it is, everything that it names is there too.
    with whole_file(text) as partial:
        partial.write_text(json.dumps(told_of_all, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    return Explained(
        photograph=path, figure=picture, card=text, values=tuple(values), further=(), facts=told_of_all
    )


def _told(answer: _Answer, areas: tuple[float | None, float | None], inputs: Tensor) -> dict[str, Any]:
    """One explanation, as the card has it: what every explanation says, and what lies in the box."""
    heat, each = answer.heat[None], [answer.detection]
    inside = box_masks(each, (inputs.shape[2], inputs.shape[3]))
    return {
        **describe_result(answer.attribution),
        "follow": answer.question.follow,
        "box_area": number(inside.double().mean((1, 2)), 0),
        "energy_in_box": number(energy_in_box(heat, each), 0),
        "pointing_in_box": number(pointing_in_box(heat, each), 0),
        "deletion": areas[0],
        "insertion": areas[1],
    }
