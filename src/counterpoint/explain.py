"""Photographs in; figures, cards and values out. The command and the studio both work through here."""

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from counterpoint import progress, scores, spec
from counterpoint.attribution import Attribution
from counterpoint.classifier import Classifier
from counterpoint.comparison import Comparison, compare
from counterpoint.cut import Bypass
from counterpoint.data.photographs import find_photographs, output_names
from counterpoint.errors import InputError, NotFiniteError
from counterpoint.files import results_folder, whole_file
from counterpoint.layers import layer_parts
from counterpoint.one_by_one import Failed, one_by_one
from counterpoint.places import FirstSettles, Places
from counterpoint.protocols import Baseline, Method, Score
from counterpoint.report import card, plot, save_png
from counterpoint.report.further import further_figure
from counterpoint.report.wording import name_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ScoreKind = Literal["logit", "probability", "log_probability", "log_odds", "label_probability"]


@dataclass(frozen=True, kw_only=True)
class Explained:
    """A photograph with its results on disk."""

    photograph: Path
    figure: Path
    card: Path
    values: tuple[Path, ...]
    """One file for each explanation, in the order of the card."""
    further: tuple[Path, ...]
    """Figures of what only some methods find."""
    facts: dict[str, Any] = field(repr=False)
    """What the card says."""


@dataclass(frozen=True, kw_only=True)
class _Answer:
    """One explanation of a photograph."""

    file: str
    """What tells its files from those of the others: "blur.grad_cam.layer4"."""
    attribution: Attribution
    further: "Figure | None"


@dataclass(frozen=True, kw_only=True)
class _Job:
    """All that is the same for every photograph."""

    classifier: Classifier
    score: Score
    baselines: tuple[Baseline, ...]
    baseline_names: tuple[str, ...]
    method_names: dict[Method, str]
    bypass: Bypass
    model: dict[str, Any]
    folder: Path
    note: str


def photographs_for(arguments: Sequence[str], out: str | os.PathLike[str]) -> list[Path]:
    """The photographs that some arguments name, without earlier figures: what a folder search finds below `out` is left out.

    Raises:
        InputError: no such file or folder, or no photographs but those below `out`.
    """
    found = find_photographs(arguments)
    named = {Path(argument).resolve() for argument in arguments}
    below = Path(out).resolve()
    kept = [path for path in found if path.resolve() in named or below not in path.resolve().parents]
    if not kept:
        raise InputError(
            f"all images found lie in the output folder '{out}', whose figures are no photographs; choose another --out."
        )
    return kept


def explain_photographs(
    classifier: Classifier,
    paths: Sequence[str | os.PathLike[str]],
    *,
    target: scores.Target = "top1",
    score: ScoreKind | Score = "logit",
    baselines: Sequence[Baseline],
    methods: Sequence[Method],
    layers: Sequence[str] = (),
    bypass: Bypass = "refuse",
    out: str | os.PathLike[str],
    note: str = "",
) -> list[Explained | Failed]:
    """Explain each photograph against each baseline with each method, and write what was found.

    For each: `NAME.png` (the figure), `NAME.json` (the card, written last) and `NAME.BASELINE.METHOD[.LAYER].safetensors` (the values).
    A method that finds more than values, as FEI does, gets a figure of it too, `NAME.BASELINE.METHOD.png`.
    Files are replaced where they are there already.

    Args:
        classifier: The model.
        paths: Image files.
        target: The class to explain: "top1", a label or an index.
        score: What is read of it; or any other score of the classifier, `cp.region(...)` or its like,
            and `target` does not count.
        baselines: What each photograph is compared with.
        methods: Ways to explain. One for layers gets the model's last layer with maps where `layers` is empty.
        layers: Where to explain; empty for the input.
        bypass: "intervene" accepts a layer that a skip connection passes by, as an intervention.
        out: The folder for results, made if it is not there.
        note: A sentence for the foot of each figure.

    Returns:
        One result for each photograph, in their order.

    Raises:
        InputError: an argument that makes no sense for any photograph, or a figure that would overwrite a photograph.
        LayerError: a layer where the model cannot be cut.
        ModelError: the model does not return what the score reads.
        OutputError: the folder cannot be written, or the disk is full.
        Cancelled: the progress listener stopped the work.
    """
    files = [Path(path) for path in paths]
    if not files or not baselines or not methods:
        raise InputError("explaining needs at least one photograph, one baseline and one method.")
    for layer in layers:
        if layer != "input":
            layer_parts(classifier.module, layer)
    places = FirstSettles(Places.of(methods, layers), classifier.module)
    names = output_names(files)
    job = _Job(
        classifier=classifier,
        score=scores.ClassScore(classifier, target, score) if isinstance(score, str) else score,
        baselines=tuple(baselines),
        baseline_names=short_names("baseline", baselines),
        method_names=dict(zip(methods, short_names("method", methods), strict=True)),
        bypass=bypass,
        model=classifier.card(),
        folder=Path(out),
        note=note,
    )
    parts = ["", *(f".{b}.{m}" for b in job.baseline_names for m in job.method_names.values())]
    figures = [f"{name}{part}.png" for name in names for part in parts]
    check_no_photograph_is_overwritten(job.folder, files, figures)
    with results_folder(job.folder):
        return one_by_one(files, names, partial(_explain, job, places))


def _explain(job: _Job, settled: FirstSettles, path: Path, name: str) -> Explained:
    inputs = job.classifier.preprocess([path])
    places = settled(inputs)
    # All comparisons first: they are cheap, and fail if the question makes no sense.
    comparisons = [compare(job.score, inputs, baseline=baseline) for baseline in job.baselines]
    layers = dict.fromkeys(layer for _, layer in places.pairs)
    questions = [
        {layer: comparison.at(layer, bypass=job.bypass) for layer in layers} for comparison in comparisons
    ]
    caption = _caption(job, path)
    found: list[_Answer] = []
    total = len(questions) * len(places.pairs)
    for b, question in enumerate(questions):
        for method, layer in places.pairs:
            short = f"{job.baseline_names[b]}.{job.method_names[method]}"
            words = f"{path.name}: {name_text(spec.describe(method))} against {job.baseline_names[b]}"
            with progress.stage(len(found), len(found) + 1, total, words):
                with progress.stage(0, 9, 10):
                    attribution = _finite(question[layer], method)
                with progress.stage(9, 10, 10):
                    further = further_figure(attribution, job.score, inputs, caption)
                found.append(_Answer(file=file_part(short, layer), attribution=attribution, further=further))
    return _write(job, path, name, inputs, found)


def _finite(comparison: Comparison, method: Method) -> Attribution:
    attribution = comparison.explain(method)
    if not bool(torch.isfinite(attribution.values).all()):
        raise NotFiniteError(
            f"{spec.describe(method).name} gives NaN or infinity here; the model's gradients may overflow: try float32."
        )
    return attribution


def _caption(job: _Job, path: Path) -> str:
    return f"{path.name}  ·  {job.model['name']}"


def _write(job: _Job, path: Path, name: str, inputs: Tensor, found: list[_Answer]) -> Explained:
    attributions = [answer.attribution for answer in found]
    facts = card(attributions, model=job.model, photograph=path, device=job.classifier.device)
    figure = plot(attributions, inputs, caption=_caption(job, path), note=job.note)
    values, pictures = [], []
    for answer, explanation in zip(found, facts["explanations"], strict=True):
        file = job.folder / f"{name}.{answer.file}.safetensors"
        answer.attribution.save(file)
        explanation["values_file"] = file.name
        values.append(file)
        if answer.further is not None:
            pictures.append(job.folder / f"{name}.{answer.file}.png")
            save_png(answer.further, pictures[-1])
            explanation["figure_file"] = pictures[-1].name
    picture, text = job.folder / f"{name}.png", job.folder / f"{name}.json"
    facts["figure_file"] = picture.name
    save_png(figure, picture)
    # The card comes last: where it is, everything that it names is there too.
    with whole_file(text) as partial:
        partial.write_text(json.dumps(facts, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    return Explained(
        photograph=path, figure=picture, card=text, values=tuple(values), further=tuple(pictures), facts=facts
    )


def check_no_photograph_is_overwritten(folder: Path, files: Sequence[Path], figures: Sequence[str]) -> None:
    """Raise InputError where one of the figures, by their names in the folder, would take the place of a photograph."""
    photographs = {path.resolve() for path in files}
    for figure in (folder.resolve() / name for name in figures):
        if figure in photographs:
            raise InputError(f"the figure would overwrite the photograph '{figure}'; choose another --out.")


def short_names(kind: str, things: Sequence[Baseline] | Sequence[Method]) -> tuple[str, ...]:
    """One name for each to use in file names: the registry's, with the parameters where that is not enough.

    Raises:
        InputError: the same thing twice.
    """
    descriptions = [spec.describe(thing) for thing in things]
    names = [description.name for description in descriptions]
    short = []
    for k, description in enumerate(descriptions):
        if description in descriptions[:k]:
            raise InputError(f"{kind} '{description.text}' is given twice.")
        alone = names.count(description.name) == 1
        text = description.name if alone else description.text.replace(":", "-", 1)
        # Names of files: none longer than 60, told apart by the fingerprint where they were cut.
        text = re.sub(r"[^\w.=-]+", "_", text).strip("_")
        short.append(text if len(text) <= 60 else f"{text[:40]}-{description.fingerprint}")
    return tuple(short)


def file_part(short: str, layer: str) -> str:
    """What tells the files of an explanation from those of the others, with its layer."""
    return short if layer == "input" else short + "." + re.sub(r"[^\w.-]+", "_", layer)
