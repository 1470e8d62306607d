"""The catalogue: read off the registries, and off the models."""

from collections.abc import Iterator
from dataclasses import replace

import counterpoint as cp
from counterpoint import spec
from counterpoint.errors import CounterpointError
from counterpoint.report.catalogue import Entry, entries
from counterpoint.studio.catalogue import Catalogue, Choice, Model
from counterpoint.studio.questions import FILE_READERS
from counterpoint.studio.worker.workshop import Workshop

_PLACES: tuple[tuple[spec.Kind, str], ...] = (
    ("baseline", "baselines"),
    ("method", "methods"),
    ("rule", "quadrature"),
    ("regions", "methods"),
)


def catalogue_of(workshop: Workshop) -> Catalogue:
    """What there is to choose from; models are loaded for it, the first one last, so that it stays in memory."""
    names = workshop.beginning.models
    models = {name: _model(workshop, name) for name in reversed(names)}
    return Catalogue(
        methods=tuple(_choice(entry) for entry in entries("method")),
        baselines=(
            *(_choice(entry) for entry in entries("baseline")),
            *(_given(text) for text in workshop.beginning.baselines),
        ),
        models=tuple(models[name] for name in names),
        python_names=dict(_python_names()),
    )


def _choice(entry: Entry) -> Choice:
    make = spec.registry("method" if entry.level else "baseline")[entry.name]
    required = "required" in entry.parameters.values()
    return Choice(
        name=entry.name,
        summary=entry.meaning,
        parameters=entry.parameters,
        text=entry.name,
        reference=entry.reference,
        level=entry.level,
        claim=entry.claim,
        fill_only=bool(getattr(make, "fill_only", False)) if entry.level is None else False,
        draws=int(entry.parameters.get("draws", 1) or 1) if entry.level is None else 1,
        available=not required and entry.name not in FILE_READERS,
    )


def _given(text: str) -> Choice:
    """A baseline with a file of its own; one that cannot be read says so when it is chosen."""
    choice = Choice(
        name=text.partition(":")[0], summary="Given when the studio was started.", parameters={}, text=text
    )
    try:
        baseline = spec.build("baseline", text)
    except CounterpointError:
        return choice
    return replace(choice, fill_only=baseline.fill_only, draws=baseline.draws)


def _model(workshop: Workshop, name: str) -> Model:
    try:
        loaded = workshop.model(name)
    except CounterpointError as error:
        return Model(name=name, title=name, error=" ".join(str(error).split()))
    classifier = loaded.classifier
    height, width = classifier.preprocessing.size
    return Model(
        name=name,
        title=classifier.name,
        size=(height, width),
        labels=tuple(classifier.labels or ()),
        random_weights=loaded.card["random_weights"],
    )


def _python_names() -> Iterator[tuple[str, str]]:
    for kind, module in _PLACES:
        for name, make in spec.registry(kind).items():
            called = getattr(make, "__name__", "")
            if getattr(getattr(cp, module), called, None) is make:
                yield name, f"cp.{module}.{called}"
