"""The work of a benchmark: the questions to one image, answered. It runs in this process, in a pool's or on a Ray cluster alike."""

import io
import math
import os
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from counterpoint import spec as objects
from counterpoint.attribution import Attribution
from counterpoint.bench.measuring import Asked, measured
from counterpoint.bench.questions import Question
from counterpoint.bench.spec import BenchSpec, ModelPart
from counterpoint.bench.tables import COLUMNS, picture_file
from counterpoint.bench.trying import Retry, tried
from counterpoint.checks import check_finite
from counterpoint.classifier import Classifier
from counterpoint.comparison import Comparison, compare
from counterpoint.data.datasets import DataSet, Item
from counterpoint.errors import CounterpointError, InputError, NotFiniteError
from counterpoint.metrics import Bank
from counterpoint.models import load_model
from counterpoint.scores import ClassScore

THUMBNAIL = 64
"""Cells along each side of the maps that are kept for the report."""
PICTURE = 256
"""Pixels along the longer side of the photographs that are kept for it."""
_TYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16}

Row = dict[str, Any]


@dataclass(frozen=True)
class Task:
    """What is lacking of the answer to one question about one image."""

    question: int
    explain: bool
    """Whether the row of the map itself is lacking."""
    measures: tuple[tuple[str, str], ...]
    """(metric, evaluation baseline) of the measures that are."""


@dataclass(frozen=True)
class Job:
    """The tasks of one image and one model: what a worker is handed at once."""

    model: int
    item: Item
    position: int
    sha256: str
    gallery: bool
    """Whether small pictures are kept."""
    tasks: tuple[Task, ...]
    attempt: int = 1


@dataclass(frozen=True)
class Done:
    """What came of a job: rows for the tables, files for the folder."""

    rows: Mapping[str, list[Row]]
    files: Mapping[str, bytes] = field(default_factory=dict)
    """Path in the folder -> content."""
    failed: int = 0


@dataclass(frozen=True)
class Setup:
    """What every worker needs; plain data but for `models`, which only work in process."""

    spec: BenchSpec
    questions: tuple[Question, ...]
    data: DataSet
    """Without its items: each job brings its own."""
    bank: tuple[Item, ...]
    run: str
    engine: str
    models: Mapping[str, Classifier] = field(default_factory=dict)
    """Live models by name."""


class Worker:
    """Answers jobs, one after the other; keeps models and their banks."""

    def __init__(self, setup: Setup, loaded: Sequence[Classifier] = ()) -> None:
        self.setup = setup
        self._models = dict(enumerate(loaded))
        self._banks: dict[int, Bank] = {}

    def do(self, job: Job) -> Done:
        """Answer all tasks of a job. What fails is a row with its reason.

        Raises:
            Retry: something failed that need not fail again.
        """
        started = time.time()
        rows: dict[str, list[Row]] = {"explanations": [], "measures": [], "curves": [], "deviations": []}
        files: dict[str, bytes] = {}
        with threads(self.setup.spec.run.threads):
            try:
                classifier = self.classifier(job.model)
                inputs, picture = self._inputs(classifier, job)
            except CounterpointError as error:
                for task in job.tasks:
                    self._failed(rows, job, task, str(error))
            else:
                if job.gallery:
                    files[picture_file(job.sha256, asdict(classifier.preprocessing))] = picture
                comparisons: dict[str, Comparison] = {}
                for task in job.tasks:
                    self._answer(rows, files, classifier, job, task, inputs, comparisons)
        failed = sum(row["status"] == "failed" for row in [*rows["explanations"], *rows["measures"]])
        rows["attempts"] = [
            {
                "key": f"{self.setup.run}-{job.model}-{job.position}-{job.attempt}",
                "run": self.setup.run,
                "model": self.part(job.model).name,
                "image": job.item.name,
                "rows": len(job.tasks),
                "attempt": job.attempt,
                "status": "failed" if failed else "ok",
                "reason": "",
                "started": started,
                "seconds": time.time() - started,
                "host": socket.gethostname(),
                "process": os.getpid(),
                "engine": self.setup.engine,
            }
        ]
        return Done(rows=rows, files=files, failed=failed)

    def part(self, model: int) -> ModelPart:
        """A model's settings."""
        return self.setup.spec.model[model]

    def classifier(self, model: int) -> Classifier:
        """A model, loaded once."""
        if model not in self._models:
            self._models[model] = prepared(self.setup.models, self.part(model), self.setup.spec.run.device)
        return self._models[model]

    def bank(self, model: int) -> Bank:
        """What is in distribution for a model, computed once."""
        if model not in self._banks:
            classifier = self.classifier(model)
            kept = []
            for item in self.setup.bank:
                try:
                    kept.append(classifier.preprocess(self.setup.data.picture(item)))
                except CounterpointError:
                    continue  # a broken image is a row of its own elsewhere
            if len(kept) < 3:
                raise InputError("out_of_distribution needs at least three images that can be read.")
            images = torch.cat(kept).to(_type_of(classifier))
            self._banks[model] = Bank.of(
                classifier, images, groups=[item.name for item in self.setup.bank][: len(kept)], fold=False
            )
        return self._banks[model]

    def _inputs(self, classifier: Classifier, job: Job) -> tuple[Tensor, bytes]:
        """The image as the model takes it, and a small JPEG of it."""
        try:
            picture = self.setup.data.picture(job.item)
        except OSError as error:
            raise Retry(str(error)) from error
        inputs = classifier.preprocess(picture).to(_type_of(classifier))
        small = b""
        if job.gallery:
            # As the model sees it, so that maps and picture have one frame.
            from PIL import Image

            pixels = inputs[0].float().clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).cpu().numpy()
            seen = Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[:, :, 0])
            seen.thumbnail((PICTURE, PICTURE))
            stream = io.BytesIO()
            seen.convert("RGB").save(stream, "JPEG", quality=85)
            small = stream.getvalue()
        return inputs, small

    def _answer(
        self,
        rows: dict[str, list[Row]],
        files: dict[str, bytes],
        classifier: Classifier,
        job: Job,
        task: Task,
        inputs: Tensor,
        comparisons: dict[str, Comparison],
    ) -> None:
        question = self.setup.questions[task.question]
        outcome = tried(lambda: self._explained(classifier, job, question, inputs, comparisons))
        if isinstance(outcome, str):
            self._failed(rows, job, task, outcome)
            return
        attribution, probability = outcome
        if task.explain:
            row = self._row(job, question, question.asked) | _numbers(attribution)
            row |= {
                "status": "ok",
                "reason": None,
                "probability": probability,
                "thumbnail": None,
                "scale": None,
            }
            if job.gallery:
                row |= _thumbnail(attribution.heatmap()[0])
            rows["explanations"].append(row)
            if self.setup.spec.keep.maps:
                files[f"maps/{row['key']}.safetensors"] = attribution.to_bytes()
        asked = Asked(
            setup=self.setup.spec,
            classifier=classifier,
            inputs=inputs,
            attribution=attribution,
            bank=lambda: self.bank(job.model),
            evidence=lambda: self.setup.data.evidence(job.item, classifier.preprocessing),
            again=lambda module, images, target: self._again(classifier, question, module, images, target),
        )
        for part in measured(asked, task.measures):
            for metric, evaluation, value in part.values:
                self._measure(rows, job, question, metric, evaluation, value, part.reason)
            for table, found in part.tables.items():
                for each in found:
                    metric = str(each.pop("of"))
                    name = each["evaluation"]
                    row = self._row(
                        job,
                        question,
                        question.measures[metric][name],
                        **{k: each[k] for k in each if k in _TELLING},
                    )
                    rows[table].append(row | each)

    def _explained(
        self,
        classifier: Classifier,
        job: Job,
        question: Question,
        inputs: Tensor,
        comparisons: dict[str, Comparison],
    ) -> tuple[Attribution, float]:
        spec = self.setup.spec.explain
        if question.against not in comparisons:
            target = job.item.label if spec.target == "label" else spec.target
            if target is None:
                raise InputError(f"target is \"label\", but the data set has none for '{job.item.name}'.")
            comparisons[question.against] = compare(
                ClassScore(classifier, target, spec.score),
                inputs,
                baseline=objects.build("baseline", question.against),
                fold=spec.fold,
                micro_batch=self.setup.spec.run.micro_batch,
            )
        comparison = comparisons[question.against].at(question.layer, bypass=spec.bypass)
        attribution = comparison.explain(objects.build("method", question.method))
        if not bool(torch.isfinite(attribution.values).all()):
            raise NotFiniteError(f"{question.method_name} gives NaN or infinity here.")
        (index,) = attribution.question["class_target"]
        with torch.no_grad():
            logits = classifier.module(inputs)
        return attribution, float(logits.float().softmax(1)[0, index])

    def _again(
        self, classifier: Classifier, question: Question, module: Any, images: Tensor, target: int
    ) -> Attribution:
        """The same kind of map of other images, or of another module."""
        spec = self.setup.spec.explain
        comparison = compare(
            ClassScore(module, target, spec.score),
            images,
            baseline=objects.build("baseline", question.against),
            micro_batch=self.setup.spec.run.micro_batch,
        )
        return comparison.at(question.layer, bypass=spec.bypass).explain(
            objects.build("method", question.method)
        )

    def _row(self, job: Job, question: Question, asked: str, **telling: Any) -> Row:
        key = question.key(_image(job, self.setup.spec), asked)
        return {
            "key": "-".join([key, *(str(each) for each in telling.values())]),
            "asked": asked,
            "model": self.part(job.model).name,
            "precision": self.part(job.model).precision,
            "image": job.item.name,
            "position": job.position,
            "sha256": job.sha256,
            "label": None if job.item.label is None else str(job.item.label),
            "method": question.method_name,
            "against": question.against,
            "layer": question.layer,
            "seed": question.seed,
        }

    def _measure(
        self,
        rows: dict[str, list[Row]],
        job: Job,
        question: Question,
        metric: str,
        evaluation: str,
        value: float | None,
        reason: str | None,
    ) -> None:
        row = self._row(job, question, question.measures[metric][evaluation])
        undefined = value is not None and not math.isfinite(value)
        row |= {
            "metric": metric,
            "evaluation": evaluation,
            "status": "ok" if reason is None else "failed",
            "reason": reason,
            # Not a number is a finding, such as a target that is too small to divide by: it is counted, and kept as no value.
            "value": None if undefined else value,
        }
        rows["measures"].append(row)

    def _failed(self, rows: dict[str, list[Row]], job: Job, task: Task, reason: str) -> None:
        question = self.setup.questions[task.question]
        if task.explain:
            empty = dict.fromkeys(COLUMNS["explanations"])
            told = self._row(job, question, question.asked)
            rows["explanations"].append(empty | told | {"status": "failed", "reason": reason})
        for metric, evaluation in task.measures:
            self._measure(rows, job, question, metric, evaluation, None, reason)


def lost(setup: Setup, job: Job, reason: str) -> Done:
    """What is written down of a job whose worker died each time."""
    rows: dict[str, list[Row]] = {"explanations": [], "measures": [], "curves": [], "deviations": []}
    worker = Worker(setup)
    for task in job.tasks:
        worker._failed(rows, job, task, reason)
    return Done(rows=rows, failed=sum(map(len, rows.values())))


def prepared(models: Mapping[str, Classifier], part: ModelPart, device: str) -> Classifier:
    """A model in the precision and on the device that are asked for."""
    classifier = models[part.name] if part.name in models else load_model(part.name)
    if part.name not in models:
        classifier.module.to(device=device, dtype=_TYPES[part.precision])
    return classifier


def image_key(spec: BenchSpec, sha256: str, label: object) -> str:
    """What stands for an image in keys: its content, and its label where that decides what is explained."""
    return f"{sha256} {label}" if spec.explain.target == "label" else sha256


def _image(job: Job, spec: BenchSpec) -> str:
    return image_key(spec, job.sha256, job.item.label)


_TELLING = ("kind", "path", "measure", "activation_number")
"""Columns that tell rows of one hash apart, in `curves` and `deviations`."""


def _type_of(classifier: Classifier) -> torch.dtype:
    first = next(classifier.module.parameters(), None)
    return torch.float32 if first is None else first.dtype


class threads:
    """So many torch threads within the block."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __enter__(self) -> None:
        self.before = torch.get_num_threads()
        if self.before != self.count:
            torch.set_num_threads(self.count)

    def __exit__(self, *_: object) -> None:
        if torch.get_num_threads() != self.before:
            torch.set_num_threads(self.before)


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
