"""What a benchmark costs, before anything starts: forwards and gradients, time, memory, disk; here, or on other machines."""

import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from counterpoint import progress
from counterpoint import spec as objects
from counterpoint.bench.asking import Asking, asking
from counterpoint.bench.jobs import image_key
from counterpoint.bench.known import Known
from counterpoint.bench.measuring import Asked, measured
from counterpoint.bench.metrics import METRICS, Group
from counterpoint.bench.paper import Count, Counted, counted
from counterpoint.bench.questions import NO_BASELINE, Question
from counterpoint.bench.spec import BenchSpec
from counterpoint.bench.timing import within
from counterpoint.bench.work import threads, type_of
from counterpoint.classifier import Classifier
from counterpoint.comparison import Comparison, compare
from counterpoint.errors import CounterpointError, ImageError
from counterpoint.methods import RandomMap
from counterpoint.scores import ClassScore

_SECONDS = 10.0
"""Of calibration, for each model."""
_LEAST = 0.2
_COUNTING = 10.0
"""Seconds for one method on paper, which needs no model: long searches are broken off."""
_ROW, _POINT, _DEVIATION, _PICTURE, _CELLS = 120, 10, 60, 20_000, 64 * 64


@dataclass(frozen=True, kw_only=True)
class ModelCost:
    """What one model is asked, for each image."""

    model: str
    questions: int
    method: Count
    """Of the methods: what the column of `explanations` will add up to."""
    exact: bool
    other: int
    """Forwards of comparisons and measures."""
    seconds: float
    """For each image, on one worker."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The cost of a benchmark."""

    models: tuple[ModelCost, ...]
    images: int
    lacking: float
    """The share of the answers that the folder lacks."""
    workers: int
    speed: float
    memory: int
    """Bytes of each worker."""
    disk: int
    """Bytes."""
    rough: tuple[str, ...]
    """Methods whose cost differs from image to image, or was not counted to the end."""

    @property
    def seconds(self) -> float:
        """Of the whole, on all workers."""
        each = sum(cost.seconds for cost in self.models)
        return each * self.images * self.lacking / (self.workers * self.speed)

    @property
    def headings(self) -> tuple[str, ...]:
        """Of the table."""
        return (
            "model",
            "maps of each image",
            "gradients",
            "forwards",
            "prefix runs",
            "other forwards",
            "seconds for each image",
        )

    @property
    def rows(self) -> list[list[str]]:
        """One for each model; counts are of all images."""
        return [
            [
                cost.model,
                str(cost.questions),
                *(
                    ("" if cost.exact else "about ") + f"{number * self.images:,}"
                    for number in vars(cost.method).values()
                ),
                f"{cost.other * self.images:,}",
                f"{cost.seconds:.3g}",
            ]
            for cost in self.models
        ]

    @property
    def words(self) -> tuple[str, ...]:
        """Time, memory and disk, and how they were put together."""
        each = sum(cost.seconds for cost in self.models)
        sentences = [
            f"{_time(self.seconds)} on {self.workers} worker{'s' if self.workers > 1 else ''}: {self.images:,} images x {each:.3g} s"
            + (f" x {self.lacking:.0%} that is lacking" if self.lacking < 1 else "")
            + f" / ({self.workers} workers x {self.speed:g} times as fast as here). Not counted: starting workers.",
            f"Memory: about {_bytes(self.memory)} for each worker, {_bytes(self.memory * self.workers)} in all.",
            f"Disk: about {_bytes(self.disk)}.",
        ]
        if self.rough:
            sentences.append(
                f"Rough, as they differ from image to image or are long: {', '.join(self.rough)}."
            )
        return tuple(sentences)

    def plain(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "images": self.images,
            "lacking": self.lacking,
            "workers": self.workers,
            "speed": self.speed,
            "seconds": self.seconds,
            "memory_of_each_worker": self.memory,
            "disk": self.disk,
            "rough": list(self.rough),
            "models": [
                {
                    "model": cost.model,
                    "maps_of_each_image": cost.questions,
                    **{name: number * self.images for name, number in vars(cost.method).items()},
                    "exact": cost.exact,
                    "other_forwards": cost.other * self.images,
                    "seconds_for_each_image": cost.seconds,
                }
                for cost in self.models
            ],
        }


def plan_of(
    spec: BenchSpec,
    folder: Path,
    *,
    images: int | None = None,
    workers: int | None = None,
    speed: float = 1.0,
) -> Plan:
    """Count and time the work on the first image that can be read, in about ten seconds for each model.

    Methods are counted on paper (see `counterpoint.bench.paper`); forwards of comparisons and measures follow from the settings. Times are
    those of the real methods, run for a while: they are those of one worker on a machine as busy as now.

    Args:
        spec: The benchmark.
        folder: Where results would go: what is there already is not counted.
        images: Plan for so many instead of those of the spec, from nothing.
        workers: By default as many as the spec would start.
        speed: How many times as fast as this one each worker is.

    Raises:
        InputError: see `counterpoint.bench.run`.
        ImageError: no image can be read.
    """
    with progress.stage(0, 0.1, 1):
        asked = asking(spec)
    costs, rough = [], []
    for number, part in enumerate(spec.model):
        with (
            progress.stage(number, number + 1, len(spec.model), f"trying {part.title}"),
            threads(spec.run.threads),
        ):
            cost, unsure = _of_model(asked, number)
            costs.append(cost)
            rough += unsure
    lacking = 1.0 if images is not None else _lacking(asked, folder)
    total = len(asked.data.items) if images is None else images
    usual = 1 if spec.run.engine == "in_process" else max(1, (os.cpu_count() or 1) // spec.run.threads)
    return Plan(
        models=tuple(costs),
        images=total,
        lacking=lacking,
        workers=workers or spec.run.workers or usual,
        speed=speed,
        memory=_memory(),
        disk=_disk(asked, total),
        rough=tuple(dict.fromkeys(rough)),
    )


def _of_model(asked: Asking, number: int) -> tuple[ModelCost, list[str]]:
    spec, classifier, questions = asked.spec, asked.models[number], asked.of_model(number)
    inputs = _first_image(asked, classifier)
    read = _again(lambda: _first_image(asked, classifier))
    comparisons: dict[str, Comparison] = {}
    count, exact, seconds, rough = Count(0, 0, 0), True, read, []
    share = _SECONDS / (len(questions) + 1)
    for k, question in enumerate(questions):
        progress.advance(k, len(questions), question.method_name)
        if question.against not in comparisons:
            make = partial(_compared, spec, classifier, inputs, question.against)
            comparisons[question.against] = make()
            seconds += _again(make)
        whole = comparisons[question.against]
        comparison = whole.at(question.layer, bypass=spec.explain.bypass)
        seconds += _again(lambda q=question, w=whole: w.at(q.layer, bypass=spec.explain.bypass))
        seconds += _again(lambda: classifier.module(inputs))
        method = objects.build("method", question.method)
        found: Counted = counted(method, comparison, seconds=_COUNTING)
        ran = within(lambda c=comparison, m=method: c.explain(m), max(_LEAST, share / 3))
        times = _maps_of(spec)
        count += found.count
        exact &= found.exact
        if not found.exact:
            rough.append(question.method_name)
        # Sensitivity and randomised weights make the same kind of map again.
        seconds += ran.expected * times
    seconds += len(questions) * _measuring(asked, number, classifier, inputs)
    return (
        ModelCost(
            model=spec.model[number].title,
            questions=len(questions),
            method=count,
            exact=exact,
            other=_other_forwards(spec, questions),
            seconds=seconds,
        ),
        rough,
    )


def _compared(spec: BenchSpec, classifier: Classifier, inputs: Tensor, against: str) -> Comparison:
    return compare(
        ClassScore(classifier, _target(spec), spec.explain.score),
        inputs,
        baseline=objects.build("baseline", against),
        fold=spec.explain.fold,
        micro_batch=spec.run.micro_batch,
    )


def _again(work: Callable[[], object]) -> float:
    """Seconds that some work takes once it was done before: what is made once for a model is not counted for each image."""
    begun = time.perf_counter()
    with torch.no_grad():
        work()
    return time.perf_counter() - begun


def _maps_of(spec: BenchSpec) -> int:
    """How many maps are made for one that is asked for."""
    names = spec.evaluate.metrics
    return 1 + ("sensitivity" in names) * (1 + spec.evaluate.samples) + ("randomised_weights" in names) * 2


def _measuring(asked: Asking, number: int, classifier: Classifier, inputs: Tensor) -> float:
    """Seconds that the measures of one map take."""
    spec = asked.spec
    comparison = compare(
        ClassScore(classifier, _target(spec), spec.explain.score),
        inputs,
        baseline=objects.build("baseline", "black"),
    )
    attribution = comparison.explain(RandomMap())
    question = Asked(
        setup=spec,
        classifier=classifier,
        inputs=inputs,
        name="",
        attribution=attribution,
        bank=lambda: _bank(asked, classifier),
        evidence=lambda: None,
        again=lambda module, images, target: attribution,
    )
    baselines = spec.evaluate.baselines
    seconds = 0.0
    groups: dict[Group, str] = {}
    for name in spec.evaluate.metrics:
        groups.setdefault(METRICS[name].group, name)
    for group, name in groups.items():
        if group in ("disturbed", "randomised"):
            continue
        chosen = baselines if METRICS[name].per_baseline else (NO_BASELINE,)
        ran = within(lambda n=name, c=chosen: list(measured(question, [(n, c[0])])), _SECONDS)
        seconds += ran.expected * len(chosen)
    return seconds


def _bank(asked: Asking, classifier: Classifier) -> Any:
    from counterpoint.metrics import Bank

    example = _first_image(asked, classifier)
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(3, *example.shape[1:], generator=generator).to(example)
    return Bank.of(classifier, noise, fold=False)


def _other_forwards(spec: BenchSpec, questions: Sequence[Question]) -> int:
    """Forwards of one image beside those of the methods: f(x) and f(x') of each attribution baseline, p(x), and the measures."""
    shared = 2 * len({question.against for question in questions})
    groups = {METRICS[name].group for name in spec.evaluate.metrics}
    steps = spec.evaluate.steps
    each = 1
    for text in spec.evaluate.baselines:
        fills = objects.build("baseline", text).fill_only
        each += ("curves" in groups) * (2 - fills + 2 * (steps - 1))
        each += (
            ("masked" in groups) * 2 * sum(METRICS[name].group == "masked" for name in spec.evaluate.metrics)
        )
        # Score, activations and gradient of the image, its baseline, five fractions of the map's path and of two random ones.
        each += ("deviation" in groups) * (4 - fills + 3 * 5)
        each += (("removal" in groups) + ("distance" in groups)) * (1 + steps)
    return shared + len(questions) * each


def _first_image(asked: Asking, classifier: Classifier) -> Tensor:
    for item in asked.data.items:
        try:
            inputs = classifier.preprocess(asked.data.picture(item))
        except CounterpointError:
            continue
        return inputs.to(type_of(classifier))
    raise ImageError("none of the images can be read.")


def _target(spec: BenchSpec) -> str | int:
    return "top1" if spec.explain.target == "label" else spec.explain.target


def _lacking(asked: Asking, folder: Path) -> float:
    """The share of the maps that the folder does not know."""
    known = Known(folder, failures=True)
    if not len(known):
        return 1.0
    lacking = total = 0
    for item, sha256 in zip(asked.data.items, asked.hashes(), strict=True):
        image = image_key(asked.spec, sha256, item.label)
        total += len(asked.questions)
        lacking += sum(question.key(image) not in known for question in asked.questions)
    return lacking / total


def _memory() -> int:
    """What this process has needed at most, with every model loaded and every method tried."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _disk(asked: Asking, images: int) -> int:
    """Bytes of the results: rows, points of curves, thumbnails, whole maps."""
    spec, maps = asked.spec, len(asked.questions)
    metrics, baselines = spec.evaluate.metrics, len(spec.evaluate.baselines)
    groups = {METRICS[name].group for name in metrics}
    rows = 1 + sum(baselines if METRICS[name].per_baseline else 1 for name in metrics)
    bytes_each = rows * _ROW
    if "curves" in groups and spec.keep.curves:
        bytes_each += 2 * baselines * (_ROW + _POINT * (spec.evaluate.steps + 1))
    if "deviation" in groups:
        layers = 40
        bytes_each += baselines * layers * _DEVIATION
    gallery = min(images, spec.keep.gallery) * (_PICTURE + maps * _CELLS)
    whole = 0
    if spec.keep.maps:
        sizes = [classifier.preprocessing.size for classifier in asked.models]
        whole = images * maps * max(3 * 4 * height * width for height, width in sizes)
    return images * maps * bytes_each + gallery + whole


def _bytes(number: float) -> str:
    for unit in ("bytes", "KB", "MB", "GB", "TB"):
        if number < 1000 or unit == "TB":
            return f"{number:.3g} {unit}"
        number /= 1000
    return ""


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:,.0f} hours" if seconds < 5 * 86400 else f"{seconds / 86400:,.0f} days"
