"""The card: how an explanation was made and how wrong it is, as plain data for JSON.

Strict JSON has no NaN: a number that is not defined is null, and where that needs a reason it stands beside it.
"""

import hashlib
import math
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import counterpoint
from counterpoint import spec
from counterpoint.attribution import Attribution
from counterpoint.errors import InputError

FORMAT = "counterpoint-card-1"


def card(
    attributions: Sequence[Attribution],
    *,
    model: Mapping[str, Any],
    photograph: str | os.PathLike[str] | None = None,
    device: str | torch.device = "cpu",
    image: int = 0,
) -> dict[str, Any]:
    """The card of one image: its score, and every explanation of it.

    Args:
        attributions: Explanations of one score of one batch.
        model: `classifier.card()`: name, hash of the weights, preprocessing.
        photograph: The file that the image was read from; its name and SHA-256 are kept.
        device: Where the model ran.
        image: Which image of the batch.

    Returns:
        JSON-ready data; `json.dumps(..., allow_nan=False)` takes it.

    Raises:
        InputError: no attributions.
    """
    if not attributions:
        raise InputError("attributions must hold at least one explanation, got none.")
    first = attributions[0]
    classes, labels = first.question.get("class_target"), first.question.get("label")
    return {
        "format": FORMAT,
        "photograph": None if photograph is None else _file(Path(photograph)),
        "model": dict(model),
        "score": {
            "kind": first.question.get("score"),
            "class_target": None if classes is None else classes[image],
            "label": None if labels is None else labels[image],
            "value": number(first.score, image),
        },
        "explanations": [describe_result(attribution, image=image) for attribution in attributions],
        "device": str(device),
        "versions": {
            "counterpoint": counterpoint.__version__,
            "torch": str(torch.__version__),
            "python": platform.python_version(),
        },
    }


def describe_result(attribution: Attribution, *, image: int = 0) -> dict[str, Any]:
    """One explanation of one image: how it was made, its target, result, errors and cost."""
    return {
        "baseline": spec.describe(attribution.baseline).as_dict(),
        "method": spec.describe(attribution.method).as_dict(),
        "claim": attribution.claim,
        "layer": attribution.layer,
        "layer_baseline": None if attribution.layer == "input" else attribution.layer_baseline,
        "cut": attribution.cut,
        "score": number(attribution.score, image),
        "baseline_score": number(attribution.baseline_score, image),
        "attribution_target": number(attribution.target, image),
        "result": number(attribution.result, image),
        "error": number(attribution.error, image),
        "relative_error": number(attribution.relative_error, image),
        "relative_error_undefined": attribution.undefined[image],
        "error_is_forced": attribution.error_is_forced,
        "path_error": number(attribution.path_error, image),
        "pieces": int(attribution.pieces[image]),
        "value_error": number(attribution.value_error, image),
        "cancellation": number(attribution.cancellation, image),
        "converged": None if attribution.converged is None else bool(attribution.converged[image]),
        "reference": attribution.reference,
        "own_target": None if attribution.own_target is None else number(attribution.own_target, image),
        "own_error": number(attribution.own_error, image),
        "error_budget": {part: number(values, image) for part, values in attribution.budget().items()},
        "folded": attribution.folded,
        "cost": {
            "gradients": int(attribution.gradient_evaluations[image]),
            "forwards": int(attribution.forward_evaluations[image]),
            "prefix_runs": int(attribution.prefix_evaluations[image]),
        },
        "values_shape": list(attribution.values.shape[1:]),
    }


def number(values: Tensor, image: int) -> float | None:
    """One of `values` as a number, with the digits that its type holds; None for NaN and infinity."""
    value = values[image].item()
    digits = 17 if values.dtype == torch.float64 else 9
    return float(f"{value:.{digits}g}") if math.isfinite(value) else None


def _file(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as stream:
            return {"file": path.name, "sha256": hashlib.file_digest(stream, "sha256").hexdigest()}
    except OSError as error:
        raise InputError(f"cannot read photograph '{path}': {error.strerror or error}.") from error
