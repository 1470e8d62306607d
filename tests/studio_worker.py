"""A worker for the studio's tests: made-up answers of the right form, without torch, at once or when the test says so."""

import hashlib
import math
import struct
import threading
import zlib
from pathlib import Path

from counterpoint.studio.catalogue import Catalogue, Choice, Model
from counterpoint.studio.jobs import Progress
from counterpoint.studio.questions import Cell
from counterpoint.studio.settings import Settings
from counterpoint.studio.studio import Studio, write_answer

SIDE = 32
LABELS = ("tench", "goldfish", "tabby <b>cat</b>", "espresso", "cup", "lynx")
CATALOGUE = Catalogue(
    methods=(
        Choice(
            name="integrated_gradients",
            summary="The gradient integrated along the straight path.",
            parameters={"tolerance": 0.01, "rule": None},
            text="integrated_gradients",
            level="any",
            claim="shares",
        ),
        Choice(
            name="grad_cam",
            summary="Weighted channels.",
            parameters={"relu": True},
            text="grad_cam",
            level="layer",
            claim="shares",
        ),
        Choice(
            name="gradient",
            summary="The gradient at the input.",
            parameters={},
            text="gradient",
            level="any",
            claim="rate",
        ),
    ),
    baselines=(
        Choice(name="black", summary="Black.", parameters={}, text="black"),
        Choice(name="blur", summary="The image under a blur.", parameters={"sigma": 10.0}, text="blur"),
        Choice(name="mean", summary="The mean colour.", parameters={}, text="mean"),
        Choice(name="road", summary="Imputed.", parameters={"noise": 0.005}, text="road", fill_only=True),
    ),
    models=(Model(name="made_up", title="Made up", size=(SIDE, SIDE), labels=LABELS),),
)


class MadeUpWorker:
    """Answers every task. A baseline "mean" fails; while `held`, tasks run and do not end."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self.asked: list[str] = []
        self.held = threading.Event()
        self._let_go = threading.Event()
        self._cancelled: set[int] = set()
        self._closed = False

    def start(self) -> None:
        """Nothing: the test says when the worker is ready."""

    def close(self) -> None:
        """Let go of what runs, which then writes nothing."""
        self._closed = True
        self._let_go.set()

    def ready(self) -> None:
        """What a worker says when its models are loaded."""
        self.studio.catalogue = CATALOGUE
        self.studio.jobs.ready()

    def hold(self) -> None:
        """Tasks run from now on without an end."""
        self._let_go.clear()
        self.held.set()

    def let_go(self) -> None:
        """And end."""
        self.held.clear()
        self._let_go.set()

    def begin(self, task) -> None:
        """Answer on another thread, as the real one does."""
        self.asked.append(task.question.kind)
        threading.Thread(target=self._work, args=(task,), daemon=True).start()

    def cancel(self, serial: int) -> None:
        """Stop soon."""
        self._cancelled.add(serial)
        self._let_go.set()

    def _work(self, task) -> None:
        jobs = self.studio.jobs
        jobs.advanced(task.serial, Progress(3.0, 10.0, "integrated_gradients"))
        if self.held.is_set() and task.question.kind in ("cell", "curves"):
            self._let_go.wait(20)
        if self._closed:
            return
        if task.serial in self._cancelled:
            self.held.clear()
            jobs.stopped(task.serial)
        elif getattr(task.question, "baseline", "") == "mean":
            jobs.failed(task.serial, "the mean <i>colour</i> cannot be worked out today.")
        else:
            task.folder.mkdir()
            write_answer(task.folder, _ANSWERS[task.question.kind](task.question, task.folder))
            jobs.done(task.serial, task.folder)


def made_up_studio(port: int, **settings) -> tuple[Studio, MadeUpWorker]:
    """A studio whose worker makes its answers up."""
    studio = Studio(Settings(models=("made_up",), port=port, **settings))
    worker = MadeUpWorker(studio)
    studio._worker = studio.jobs.doing = worker
    return studio, worker


def values_of(question) -> list[float]:
    """The made-up map of a question: a bump in the upper left for shares, with a tilt that depends on the question."""
    tilt = int(hashlib.sha256(question.model_dump_json().encode()).hexdigest()[:4], 16) / 65535 - 0.5
    return [
        math.exp(-((row - 8) ** 2 + (column - 8) ** 2) / 20)
        - 0.1 * tilt * math.sin(row * (1 + abs(tilt)) + column)
        for row in range(SIDE)
        for column in range(SIDE)
    ]


def _top(question, folder: Path) -> dict:
    return {
        "top": [
            {"index": k, "label": LABELS[k], "probability": p}
            for k, p in ((2, 0.6), (3, 0.2), (0, 0.1), (1, 0.05), (5, 0.01))
        ]
    }


def _preview(question, folder: Path) -> dict:
    _picture(folder / "x.png", 200)
    _picture(folder / "baseline.png", 40)
    return {"score": 9.0, "baseline_score": 1.0}


def _layers(question, folder: Path) -> dict:
    shown = {"kind": "Conv2d", "cut_text": "yes", "reason": "", "role": ""}
    return {
        "layers": [
            {"name": "blocks.0", "shape": [16, 8, 8], "cut": "split", **shown},
            {
                "name": "blocks.1",
                "shape": [32, 4, 4],
                "cut": "split",
                **shown,
                "role": "default for class activation maps",
            },
            {"name": "blocks.1.inner", "shape": [32, 4, 4], "cut": None, **shown},
            {"name": "flat", "shape": [32], "cut": "split", **shown},
        ],
        "default": "blocks.1",
    }


def _cell(question, folder: Path) -> dict:
    values = values_of(question)
    (folder / "map.f32").write_bytes(struct.pack(f"<{len(values)}f", *values))
    _picture(folder / "photo.png", 200)
    _picture(folder / "baseline.png", 40)
    (folder / "figure.png").write_bytes((folder / "photo.png").read_bytes())
    result = sum(values)
    target = result / 0.96
    method = question.method.partition(":")[0]
    shares = method != "gradient"
    return {
        "index": 2,
        "label": LABELS[2],
        "score_kind": question.score,
        "score": target + 1.5,
        "baseline_score": 1.5,
        "target": target,
        "result": result,
        "error": target - result if shares else None,
        "relative_error": 0.04 if shares else None,
        "undefined": None if shares else "values are rates, not shares of the score",
        "budget": {
            "baseline": 0.0,
            "quadrature": (target - result) * 1.5 if shares else None,
            "one_step": 0.0,
            "operator": 0.0,
            "display": (result - target) * 0.5 if shares else None,
        },
        "claim": "shares" if shares else "rate",
        "image_size": [SIDE, SIDE],
        "layer": question.layer or ("blocks.1" if method == "grad_cam" else "input"),
        "cut": "split",
        "method": question.method,
        "baseline": question.baseline,
        "method_short": question.method,
        "baseline_short": question.baseline,
        "probability": 0.6,
        "model": "made_up",
        "cost": {"gradients": 12, "forwards": 2, "seconds": 0.25},
        "vmax": 1.0,
    }


def _curves(question, folder: Path) -> dict:
    fractions = [k / question.steps for k in range(question.steps + 1)]
    lines = []
    for cell in range(len(question.cells)):
        for baseline in range(len(question.baselines)):
            for kind in ("deletion", "insertion"):
                scores = [
                    9 * (1 - f) ** (2 + cell) if kind == "deletion" else 9 * f ** (0.5 + cell)
                    for f in fractions
                ]
                names = [f"{kind}-{cell}-{baseline}-{k}.png" for k in range(len(fractions))]
                for k, name in enumerate(names):
                    _picture(folder / name, 20 * k)
                lines.append(
                    {
                        "kind": kind,
                        "cell": cell,
                        "baseline": baseline,
                        "fractions": fractions,
                        "scores": scores,
                        "area": sum(scores) / len(scores),
                        "area_error": 0.0,
                        "tied": 0.0,
                        "pictures": names,
                        "out_of_distribution": {
                            "fractions": fractions,
                            "excesses": [3 * f for f in fractions],
                            "beyond_limit": [f > 0.5 for f in fractions],
                        },
                    }
                )
    cells = [
        {"method": c.method, "baseline": c.baseline, "layer": c.layer or "input", "claim": "shares"}
        for c in question.cells
    ]
    return {
        "cells": cells,
        "baselines": list(question.baselines),
        "steps": question.steps,
        "curves": lines,
        "agreement": [[1.0] * len(cells)] * len(cells),
        "no_bank": None,
    }


def _deviation(question, folder: Path) -> dict:
    layers, fractions = [f"blocks.{k}" for k in range(30)], [0.1, 0.3, 0.5]
    excess = [[0.02 * k * f for f in fractions] for k in range(30)]
    floor = [[0.01 * k for f in fractions] for k in range(30)]
    numbers = {"excess": excess, "floor": floor, "mean": 0.1, "mean_floor": 0.15}
    return {"layers": layers, "fractions": fractions, "kinds": {"insertion": numbers, "deletion": numbers}}


def _sanity(question, folder: Path) -> dict:
    steps = [
        {
            "randomised": 5 * k,
            "layer": f"blocks.{k}",
            "spearman": 0.8 - 0.2 * k,
            "absolute_spearman": 0.8 - 0.19 * k,
            "ssim": 0.7 - 0.15 * k,
        }
        for k in range(1, 5)
    ]
    return {"layers": 20, "steps": steps}


def _results(question, folder: Path) -> dict:
    saved = Cell(photo="sample-chelsea", model="made_up", baseline="blur", method="integrated_gradients")
    answer = _cell(saved, folder)
    return {"what": "attribution", "name": "saved.safetensors", **answer, "sentence": "96 % is explained."}


_ANSWERS = {
    "results": _results,
    "top": _top,
    "preview": _preview,
    "layers": _layers,
    "cell": _cell,
    "curves": _curves,
    "deviation": _deviation,
    "sanity": _sanity,
}


def _picture(path: Path, shade: int) -> None:
    """A plain PNG, SIDE pixels a side."""
    rows = b"".join(b"\0" + bytes([shade, (shade + 60) % 256, 90]) * SIDE for _ in range(SIDE))

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )
