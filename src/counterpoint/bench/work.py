"""The work of a benchmark: the questions to one image, answered. It runs in this process, in a pool's or on a Ray cluster alike."""

import io
import os
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from counterpoint import spec as objects
from counterpoint.attribution import Attribution
from counterpoint.bench.jobs import Done, Job, Setup, Task
from counterpoint.bench.measuring import Asked, measured
from counterpoint.bench.questions import Question
from counterpoint.bench.rows import Rows
from counterpoint.bench.spec import ModelPart
from counterpoint.bench.tables import picture_file
from counterpoint.bench.trying import Retry, tried
from counterpoint.classifier import Classifier
from counterpoint.comparison import Comparison, compare
from counterpoint.errors import CounterpointError, InputError, NotFiniteError
from counterpoint.metrics import Bank
from counterpoint.models import load_model
from counterpoint.scores import ClassScore

PICTURE = 256
"""Pixels along the longer side of the photographs that are kept for it."""
_TYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class _Asking:
    """One image before one model."""

    job: Job
    classifier: Classifier
    inputs: Tensor
    comparisons: dict[str, Comparison]
    """By attribution baseline, made when first asked for."""


class Worker:
    """Answers jobs, one after the other; keeps models and their banks."""

    def __init__(self, setup: Setup, loaded: Sequence[Classifier] = ()) -> None:
        self.setup = setup
        self._models = dict(enumerate(loaded))
        self._banks: dict[int, Bank] = {}

    def ready(self) -> "Worker":
        """Itself, models and methods loaded. What cannot be is left for the first job to say so."""
        for model in range(len(self.setup.spec.model)):
            with suppress(CounterpointError):
                self.classifier(model)
        for question in self.setup.questions:
            with suppress(CounterpointError):
                objects.build("method", question.method)
        return self

    def do(self, job: Job) -> Done:
        """Answer all tasks of a job. What fails is a row with its reason.

        Raises:
            Retry: something failed that need not fail again.
        """
        started = time.time()
        rows = Rows(self.setup, job)
        files: dict[str, bytes] = {}
        with threads(self.setup.spec.run.threads):
            try:
                classifier = self.classifier(job.model)
                inputs = self._inputs(classifier, job)
            except CounterpointError as error:
                for task in job.tasks:
                    rows.fail(task, str(error))
            else:
                if job.gallery:
                    files[picture_file(job.sha256, asdict(classifier.preprocessing))] = _small(inputs)
                asking = _Asking(job, classifier, inputs, {})
                for task in job.tasks:
                    self._answer(asking, task, rows, files)
        attempt = {
            "key": f"{self.setup.run}-{job.model}-{job.position}-{job.attempt}",
            "run": self.setup.run,
            "model": self.setup.part(job.model).title,
            "image": job.item.name,
            "rows": len(job.tasks),
            "attempt": job.attempt,
            "status": "failed" if rows.failed else "ok",
            "reason": "",
            "started": started,
            "seconds": time.time() - started,
            "host": socket.gethostname(),
            "process": os.getpid(),
            "engine": self.setup.engine,
        }
        return Done(rows={**rows.tables, "attempts": [attempt]}, files=files, failed=rows.failed)

    def classifier(self, model: int) -> Classifier:
        """A model, loaded once."""
        if model not in self._models:
            self._models[model] = prepared(
                self.setup.models, self.setup.part(model), self.setup.spec.run.device
            )
        return self._models[model]

    def bank(self, model: int) -> Bank:
        """What is in distribution for a model, computed once."""
        if model not in self._banks:
            classifier = self.classifier(model)
            kept = {}
            for item in self.setup.bank:
                try:
                    kept[item.name] = classifier.preprocess(self.setup.data.picture(item))
                except CounterpointError:
                    continue  # a broken image is a row of its own elsewhere
            if len(kept) < 3:
                raise InputError("out_of_distribution needs at least three images that can be read.")
            images = torch.cat(list(kept.values())).to(type_of(classifier))
            self._banks[model] = Bank.of(classifier, images, groups=list(kept), fold=False)
        return self._banks[model]

    def _inputs(self, classifier: Classifier, job: Job) -> Tensor:
        """The image as the model takes it."""
        try:
            picture = self.setup.data.picture(job.item)
        except OSError as error:
            raise Retry(str(error)) from error
        return classifier.preprocess(picture).to(type_of(classifier))

    def _answer(self, asking: "_Asking", task: Task, rows: Rows, files: dict[str, bytes]) -> None:
        question, job, classifier = self.setup.questions[task.question], asking.job, asking.classifier
        outcome = tried(lambda: self._explained(asking, question))
        if isinstance(outcome, str):
            rows.fail(task, outcome)
            return
        attribution, probability = outcome
        if task.explain:
            key = rows.map(question, attribution, probability)
            if self.setup.spec.keep.maps:
                files[f"maps/{key}.safetensors"] = attribution.to_bytes()
        asked = Asked(
            setup=self.setup.spec,
            classifier=classifier,
            inputs=asking.inputs,
            name=job.item.name,
            attribution=attribution,
            bank=lambda: self.bank(job.model),
            evidence=lambda: self.setup.data.evidence(job.item, classifier.preprocessing),
            again=lambda module, images, target: self._again(question, module, images, target),
        )
        for part in measured(asked, task.measures):
            for metric, evaluation, value in part.values:
                rows.measure(question, metric, evaluation, value, part.reason)
            for table, found in part.tables.items():
                rows.further(question, table, found)

    def _explained(self, asking: "_Asking", question: Question) -> tuple[Attribution, float]:
        """The map, and the probability of the class that it is of."""
        spec, item, classifier = self.setup.spec.explain, asking.job.item, asking.classifier
        if question.against not in asking.comparisons:
            target = item.label if spec.target == "label" else spec.target
            if target is None:
                raise InputError(f"target is \"label\", but the data set has none for '{item.name}'.")
            asking.comparisons[question.against] = compare(
                ClassScore(classifier, target, spec.score),
                asking.inputs,
                baseline=objects.build("baseline", question.against),
                fold=spec.fold,
                micro_batch=self.setup.spec.run.micro_batch,
            )
        comparison = asking.comparisons[question.against].at(question.layer, bypass=spec.bypass)
        attribution = comparison.explain(objects.build("method", question.method))
        if not bool(torch.isfinite(attribution.values).all()):
            raise NotFiniteError(f"{question.method_name} gives NaN or infinity here.")
        (index,) = attribution.question["class_target"]
        with torch.no_grad():
            logits = classifier.module(asking.inputs)
        return attribution, float(logits.float().softmax(1)[0, index])

    def _again(self, question: Question, module: Any, images: Tensor, target: int) -> Attribution:
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


def prepared(models: Mapping[str, Classifier], part: ModelPart, device: str) -> Classifier:
    """A model in the precision and on the device that are asked for.

    Raises:
        InputError: it is no classifier; and whatever `load_model` raises.
    """
    if part.name in models:
        return models[part.name]
    classifier = load_model(part.name, weights=part.weights, random_weights=part.random_weights)
    if not isinstance(classifier, Classifier):
        raise InputError(f"model '{part.name}' is a {type(classifier).__name__}; benchmarks ask classifiers.")
    classifier.module.to(device=device, dtype=_TYPES[part.precision])
    return classifier.with_output(part.output)


def type_of(classifier: Classifier) -> torch.dtype:
    """The type that a model computes in."""
    first = next(classifier.module.parameters(), None)
    return torch.float32 if first is None else first.dtype


def _small(inputs: Tensor) -> bytes:
    """A JPEG of the image as the model sees it, so that maps and picture have one frame."""
    pixels = inputs[0].float().clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).cpu().numpy()
    seen = Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[:, :, 0]).convert("RGB")
    seen.thumbnail((PICTURE, PICTURE))
    stream = io.BytesIO()
    seen.save(stream, "JPEG", quality=85)
    return stream.getvalue()


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
