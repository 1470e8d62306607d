"""Answers about one photograph: the classes that a model sees, what it is compared with, the layers, an explanation."""

import time
from typing import Any

import torch
from torch import Tensor

from counterpoint import spec
from counterpoint.attribution import Attribution
from counterpoint.baselines import Blur
from counterpoint.comparison import Comparison, compare
from counterpoint.errors import NotFiniteError
from counterpoint.inspection import inspect_layers
from counterpoint.places import Places
from counterpoint.protocols import Baseline
from counterpoint.report import card, plot, save_png
from counterpoint.report.card import number
from counterpoint.report.scale import scale_end
from counterpoint.scores import classes_of
from counterpoint.studio.jobs import Sent, Task
from counterpoint.studio.questions import Cell, Layers, Preview, Top
from counterpoint.studio.saving import plain_name
from counterpoint.studio.wording import sentence, where
from counterpoint.studio.worker.answering import Folder
from counterpoint.studio.worker.workshop import Loaded, Workshop

_CLASSES = 5
# The ends of the colour scale: all but this share of the pixels lie inside.
_BEYOND = 0.01
# Maps of pixels are drawn with this blur, as a share of the shorter side.
_SMOOTH = 3.0 / 224.0


def top(workshop: Workshop, question: Top, task: Task, folder: Folder) -> dict[str, Any]:
    """The most probable classes."""
    loaded = workshop.model(question.model)
    inputs = loaded.inputs(task.photos[question.photo].path)
    folder.write_picture("photo.png", inputs[0])
    seen = loaded.classifier.top(inputs, k=_CLASSES)[0]
    named = [
        {"index": index, "label": label or f"class {index}", "probability": p} for index, label, p in seen
    ]
    return {"top": named, "image_size": list(inputs.shape[2:])}


def preview(workshop: Workshop, question: Preview, task: Task, folder: Folder) -> dict[str, Any]:
    """x and x'."""
    baseline: Baseline = spec.build("baseline", question.baseline)
    loaded = workshop.model(question.model)
    inputs = loaded.inputs(task.photos[question.photo].path)
    folder.write_picture("x.png", inputs[0])
    comparison = compare(loaded.score("logit", "top1"), inputs, baseline=baseline)
    folder.write_picture("baseline.png", _baseline_picture(comparison))
    return {
        "baseline": spec.describe(comparison.baseline).text,
        "draws": baseline.draws,
        "score": number(comparison.score, 0),
        "baseline_score": number(comparison.baseline_score, 0),
        "image_size": list(inputs.shape[2:]),
    }


def layers(workshop: Workshop, question: Layers, task: Task, folder: Folder) -> dict[str, Any]:
    """The layers of a model, and where it can be cut."""
    found = inspect_layers(workshop.model(question.model).classifier)
    usual = next((each.name for each in found if each.role.startswith("default")), "")
    return {"layers": [{**each.as_dict(), "cut_text": each.cut_text} for each in found], "default": usual}


def cell(workshop: Workshop, question: Cell, task: Task, folder: Folder) -> dict[str, Any]:
    """One explanation."""
    loaded, inputs, baseline, method = workshop.of(question, task)
    places = Places.of([method], [question.layer] if question.layer else [])
    if places.pairs[0][1] == "":
        places = places.settled(loaded.map_layer(inputs))
    layer = places.pairs[0][1]
    score = loaded.score(question.score, question.target)
    comparison = compare(score, inputs, baseline=baseline, layer=layer)
    began = time.monotonic()
    attribution = comparison.explain(method)
    seconds = time.monotonic() - began
    if not bool(torch.isfinite(attribution.values).all()):
        raise NotFiniteError(f"{spec.describe(method).name} gives NaN or infinity here.")
    heat = attribution.heatmap()[0]
    folder.write_map(heat)
    folder.write_picture("photo.png", inputs[0])
    folder.write_picture("baseline.png", _baseline_picture(comparison))
    _write_results(loaded, task.photos[question.photo], inputs, attribution, folder)
    classes, _ = classes_of(comparison.bound)
    index = -1 if classes is None else classes[0]
    answer = {
        **explained(attribution),
        **_class_facts(loaded, inputs, index),
        "cost": {**cost(attribution), "seconds": round(seconds, 3)},
        **scale_ends(heat),
    }
    return {**answer, "sentence": sentence_of(answer, heat)}


def explained(attribution: Attribution) -> dict[str, Any]:
    """The numbers of an explanation of one image."""
    result = spec.describe(attribution.method)
    against = spec.describe(attribution.baseline)
    classes = attribution.question.get("class_target")
    labels = attribution.question.get("label")
    index = -1 if classes is None else int(classes[0])
    return {
        "index": index,
        "label": labels[0] if labels else (f"class {index}" if index >= 0 else "the score"),
        "score_kind": attribution.question.get("score") or "logit",
        "score": number(attribution.score, 0),
        "baseline_score": number(attribution.baseline_score, 0),
        "target": number(attribution.target, 0),
        "result": number(attribution.result, 0),
        "error": number(attribution.error, 0),
        "relative_error": number(attribution.relative_error, 0),
        "undefined": attribution.undefined[0],
        "budget": {part: number(values, 0) for part, values in attribution.budget().items()},
        "claim": attribution.claim,
        "image_size": list(attribution.image_size or ()),
        "layer": attribution.layer,
        "cut": attribution.cut,
        "method": result.text,
        "baseline": against.text,
        "method_short": _short("method", result),
        "baseline_short": _short("baseline", against),
        "reference": attribution.reference,
        "own_error": number(attribution.own_error, 0),
        "converged": None if attribution.converged is None else bool(attribution.converged[0]),
        "error_is_forced": attribution.error_is_forced,
        "cancellation": number(attribution.cancellation, 0),
        "value_error": number(attribution.value_error, 0),
    }


def cost(attribution: Attribution) -> dict[str, int]:
    """How often the model ran."""
    return {
        "gradients": int(attribution.gradient_evaluations[0]),
        "forwards": int(attribution.forward_evaluations[0]),
        "prefix_runs": int(attribution.prefix_evaluations[0]),
    }


def scale_ends(heat: Tensor) -> dict[str, float]:
    """The ends of the colour scale, of the values and of the map as it is drawn smoothed: one speck must not pale the rest.

    The rule is that of the figure (`counterpoint.report`), but not yet rounded up to two digits.
    """
    smoothed = Blur(sigma=_SMOOTH * min(heat.shape))(heat.detach().cpu()[None, None])[0, 0]
    return {"vmax": scale_end(heat) or 1.0, "vmax_smoothed": scale_end(smoothed) or 1.0}


def sentence_of(answer: dict[str, Any], heat: Tensor) -> str:
    """What is explained, and where it lies."""
    height, width = heat.shape
    explains = answer["claim"] == "shares" and answer["relative_error"] is not None
    place = where(heat.flatten().tolist(), height, width) if explains else ""
    return f"{sentence(answer)} {place}".strip()


def _short(kind: spec.Kind, description: spec.Description) -> str:
    return spec.unusual(kind, description).text


def _class_facts(loaded: Loaded, inputs: Tensor, index: int) -> dict[str, Any]:
    with torch.no_grad():
        probabilities = loaded.classifier.module(inputs).float().softmax(1)[0]
    known = 0 <= index < len(probabilities)
    return {"probability": float(probabilities[index]) if known else None, "model": loaded.classifier.name}


def _baseline_picture(comparison: Comparison) -> Tensor:
    """x'; of several draws the first."""
    found = comparison.baseline_inputs
    first: Tensor = found[0, 0] if comparison.baseline.draws > 1 else found[0]
    return torch.nan_to_num(first, nan=0.5)


def _write_results(
    loaded: Loaded, source: Sent, inputs: Tensor, attribution: Attribution, folder: Folder
) -> None:
    """Card, values and figure, as the command writes them."""
    facts = card([attribution], model=loaded.card, photograph=source.path, device=loaded.classifier.device)
    file = facts["photograph"]["file"] = source.name
    name = plain_name(file.rpartition(".")[0]) or "photograph"
    explanation = facts["explanations"][0]
    parts = [name, explanation["baseline"]["name"], explanation["method"]["name"]]
    if attribution.layer != "input":
        parts.append(plain_name(attribution.layer))
    explanation["values_file"] = ".".join(parts) + ".safetensors"
    facts["figure_file"] = f"{name}.png"
    attribution.save(folder.path / "attribution.safetensors")
    save_png(
        plot(attribution, inputs, caption=f"{file}  ·  {loaded.classifier.name}"), folder.path / "figure.png"
    )
    folder.write_json("card.json", facts)
