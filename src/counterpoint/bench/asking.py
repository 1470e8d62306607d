"""A spec, made ready: models loaded, layers and baselines tried, images listed and hashed, all before any long work starts."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TypeVar

import torch
from torch import Tensor

from counterpoint import progress
from counterpoint import spec as objects
from counterpoint.bench.metrics import METRICS
from counterpoint.bench.questions import Question, questions_of
from counterpoint.bench.spec import BenchSpec
from counterpoint.bench.work import prepared
from counterpoint.classifier import Classifier
from counterpoint.comparison import Comparison, compare
from counterpoint.data.datasets import DataSet, Item, open_data_set
from counterpoint.errors import CounterpointError, InputError
from counterpoint.layers import layer_parts
from counterpoint.scores import ClassScore
from counterpoint.store import key_of

T = TypeVar("T")


@dataclass(frozen=True)
class Asking:
    """All that is to be asked, and of what."""

    spec: BenchSpec
    data: DataSet
    models: tuple[Classifier, ...]
    questions: tuple[Question, ...]
    bank: tuple[Item, ...]
    left_out: tuple[str, ...]
    """Combinations that cannot be, with the reason."""

    @property
    def fixed(self) -> dict[str, object]:
        """What moves results by rounding."""
        return _fixed(self.spec)

    def of_model(self, model: int) -> list[Question]:
        """The questions to one model."""
        return [question for question in self.questions if question.model == model]

    def hashes(self, *, what: str = "reading images") -> list[str]:
        """The SHA-256 of each image's file, in order; of one that cannot be read, something that stands for its name."""
        found = []
        for k, item in enumerate(self.data.items):
            progress.advance(k, len(self.data.items), what)
            found.append(item_hash(self.data, item))
        return found


def asking(
    spec: BenchSpec,
    *,
    models: Mapping[str, Classifier] | None = None,
) -> Asking:
    """Check a spec against the world.

    Args:
        spec: The benchmark.
        models: Live models by name, instead of those of that name.

    Raises:
        InputError: something does not fit; the message says what.
        LayerError: a layer where the model cannot be cut.
        UnknownNameError: no such model, layer or label.
    """
    live = dict(models or {})
    for part in spec.model:
        if part.name in live and (part.precision != "float32" or part.title != part.name):
            raise InputError(
                f"model '{part.name}' is a live object, which is used as it is; leave precision and weights out."
            )
    _check_device(spec.run.device)
    data = open_data_set(spec.images)
    _check_labels(spec, data)
    bank: tuple[Item, ...] = ()
    if any(METRICS[name].group == "distance" for name in spec.evaluate.metrics):
        bank = _spread(data.items, spec.evaluate.bank)
        if len(bank) < 3:
            raise InputError(
                "out_of_distribution needs at least three images that say what is in distribution."
            )
    bank_hash = key_of({"bank": [item_hash(data, item) for item in bank]})
    loaded: list[Classifier] = []
    questions: list[Question] = []
    left_out: list[str] = []
    for number, part in enumerate(spec.model):
        classifier = prepared(live, part, spec.run.device)
        layers = spec.explain.layers if part.layers is None else part.layers
        for layer in layers:
            if layer != "input":
                layer_parts(classifier.module, layer)
        _check_targets(spec, data, classifier)
        loaded.append(classifier)
        candidates = questions_of(spec, number, classifier, _fixed(spec), bank_hash, len(questions))
        possible, impossible = _tried_out(spec, classifier, candidates, data)
        left_out += impossible
        questions += [replace(question, number=len(questions) + k) for k, question in enumerate(possible)]
    return Asking(
        spec=spec,
        data=data,
        models=tuple(loaded),
        questions=tuple(questions),
        bank=bank,
        left_out=tuple(dict.fromkeys(left_out)),
    )


def item_hash(data: DataSet, item: Item) -> str:
    """The SHA-256 of an image's file; of a generated one, of what it is generated from."""
    if item.path is None:
        return key_of({"generated": data.card()["of"], "number": item.number})
    try:
        with item.path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return key_of({"unreadable": item.name})


def _check_device(name: str) -> None:
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().split("\n")[0]
        raise InputError(f"[run] device '{name}' cannot be used here: {reason}") from error


def _check_labels(spec: BenchSpec, data: DataSet) -> None:
    """Refuse measures and targets that nothing in the data set can answer to."""
    wanting = [name for name in spec.evaluate.metrics if METRICS[name].group == "evidence"]
    if wanting and data.card().get("evidence") is None:
        raise InputError(
            f"metric '{wanting[0]}' asks where the object is, but nothing in the data set says so; give masks, or leave the metric out."
        )
    if spec.explain.target == "label" and all(item.label is None for item in data.items):
        raise InputError(
            'target is "label", but the data set has no labels; use labelled = "dir/", or another target.'
        )


def _check_targets(spec: BenchSpec, data: DataSet, classifier: Classifier) -> None:
    """Refuse labels that the model does not know."""
    if spec.explain.target == "label":
        for label in dict.fromkeys(item.label for item in data.items):
            if label is not None:
                ClassScore(classifier, label, spec.explain.score).bind(_example(classifier))


def without_items(data: DataSet) -> DataSet:
    """The same data set as workers get it, who are handed one item at a time."""
    return replace(data, items=()) if any(each.name == "items" for each in fields(data)) else data  # type: ignore[type-var,arg-type]


def _fixed(spec: BenchSpec) -> dict[str, object]:
    return {"threads": spec.run.threads, "micro_batch": spec.run.micro_batch, "device": spec.run.device}


def _spread(items: Sequence[Item], count: int) -> tuple[Item, ...]:
    """So many of the items, evenly over their order."""
    if len(items) <= count:
        return tuple(items)
    return tuple(items[round(k * (len(items) - 1) / (count - 1))] for k in range(count))


def _tried_out(
    spec: BenchSpec, classifier: Classifier, candidates: Sequence[Question], data: DataSet
) -> tuple[list[Question], list[str]]:
    """The questions that can be asked, and in words those that cannot; on a plain image, without any long work.

    Raises:
        CounterpointError: a method, a baseline, a layer or a target with which nothing is left.
    """
    example = _example(classifier)
    score = _score(spec, classifier, example)
    bound = score.bind(example)
    for text in spec.evaluate.baselines:
        objects.build("baseline", text).prepare(bound, example)
    whole: dict[str, Comparison | CounterpointError] = {}
    places: dict[tuple[str, str], Comparison | CounterpointError] = {}
    possible, reasons, errors = [], [], {}
    for question in candidates:
        place = (question.against, question.layer)
        if question.against not in whole:
            whole[question.against] = _attempt(
                lambda q=question: compare(score, example, baseline=objects.build("baseline", q.against))
            )
        if place not in places:
            before = whole[question.against]
            places[place] = (
                before
                if isinstance(before, CounterpointError)
                else _attempt(lambda q=question, b=before: b.at(q.layer, bypass=spec.explain.bypass))
            )
        here = places[place]
        refusal: CounterpointError | None
        if isinstance(here, CounterpointError):
            refusal = here
        else:
            refusal = _attempt(lambda q=question, c=here: c.check_method(objects.build("method", q.method)))
        if refusal is not None:
            where = "" if question.layer == "input" else f" at {question.layer}"
            reasons.append(
                f"{question.method_name} against {question.against}{where}: {str(refusal).split(';')[0]}"
            )
            errors[question.number] = refusal
        else:
            possible.append(question)
    for attribute in ("method_name", "against", "layer"):
        left = {getattr(question, attribute) for question in possible}
        for question in candidates:
            if getattr(question, attribute) not in left:
                raise errors[question.number]
    return possible, reasons


def _attempt(work: Callable[[], T]) -> T | CounterpointError:
    try:
        return work()
    except CounterpointError as error:
        return error


def _example(classifier: Classifier) -> Tensor:
    """A plain image, not quite flat, as the model takes it."""
    height, width = classifier.preprocessing.size
    ramp = torch.linspace(0.2, 0.8, height * width).view(1, 1, height, width)
    first = next(classifier.module.parameters(), None)
    example = ramp.expand(1, len(classifier.preprocessing.mean), height, width).contiguous()
    return example.to(classifier.device) if first is None else example.to(first)


def _score(spec: BenchSpec, classifier: Classifier, example: Tensor) -> ClassScore:
    target = "top1" if spec.explain.target == "label" else spec.explain.target
    return ClassScore(classifier, target, spec.explain.score)
