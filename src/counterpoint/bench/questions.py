"""What a benchmark asks of every image: which maps, and which measures of each; with the hashes that results are found again by."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from counterpoint import spec as objects
from counterpoint.bench.metrics import METRICS
from counterpoint.bench.spec import BenchSpec
from counterpoint.bench.tables import FORMAT
from counterpoint.classifier import Classifier
from counterpoint.places import Places, default_map_layer
from counterpoint.protocols import Method
from counterpoint.store import key_of

NO_BASELINE = ""
"""The evaluation baseline of a metric that needs none."""


@dataclass(frozen=True)
class Question:
    """One map of each image, and what is measured on it. Plain data, so that a worker anywhere can answer it."""

    number: int
    """Its place among the questions of all models."""
    model: int
    """Which of the spec's models."""
    method: Mapping[str, Any]
    """Its description, with the seed put in."""
    method_name: str
    """As the spec writes it, and the tables: the same for all seeds."""
    against: str
    """As the spec writes it."""
    layer: str
    seed: int
    asked: str
    """The hash of all that the map depends on, but for the image."""
    measures: Mapping[str, Mapping[str, str]]
    """Metric -> evaluation baseline, as the spec writes it -> the hash of all that the number depends on, but for the image."""

    def key(self, image: str, asked: str | None = None) -> str:
        """Of the row of an image in a table.

        Args:
            image: Its SHA-256, with the class that is asked for where the data set names it.
            asked: Of a measure; of the map itself by default.
        """
        return key_of({"asked": asked or self.asked, "image": image})


def questions_of(
    spec: BenchSpec, model: int, classifier: Classifier, fixed: Mapping[str, Any], bank: str, first: int
) -> list[Question]:
    """All questions to one model.

    Args:
        spec: The benchmark.
        model: Which of its models.
        classifier: That model.
        fixed: Threads, micro-batch and device: they move results by rounding.
        bank: The hash of the images that say what is in distribution.
        first: The number of the first question.

    Raises:
        InputError: a method that works at none of the layers.
        LayerError: no layer for class activation maps.
        UnknownNameError: no such layer.
    """
    part, explain, evaluate = spec.model[model], spec.explain, spec.evaluate
    layers = explain.layers if part.layers is None else part.layers
    methods: dict[Method, str] = {objects.build("method", text): text for text in explain.methods}
    places = Places.of(list(methods), layers)
    if any(layer == "" for _, layer in places.pairs):
        places = places.settled(_default_layer(classifier))
    common = {
        "format": FORMAT,
        "model": classifier.weights_hash,
        "preprocessing": classifier.card()["preprocessing"],
        **({} if part.output is None else {"output": part.output}),
        "precision": part.precision,
        "score": explain.score,
        "target": explain.target,
        "bypass": explain.bypass,
        "fold": explain.fold,
        **fixed,
    }
    evaluations = {text: objects.describe(objects.build("baseline", text)) for text in evaluate.baselines}
    found: list[Question] = []
    for method, layer in places.pairs:
        for seed in explain.seeds if _seeded(method) else explain.seeds[:1]:
            here = objects.describe(replace(method, seed=seed) if _seeded(method) else method)  # type: ignore[type-var]
            for against in explain.against:
                compared = objects.describe(objects.build("baseline", against))
                asked = key_of(
                    {
                        **common,
                        "method": [methods[method], here.fingerprint],
                        "against": [against, compared.fingerprint],
                        "layer": layer,
                        "seed": seed,
                    }
                )
                measures = {
                    metric: {
                        name: key_of(
                            {
                                "map": asked,
                                "metric": metric,
                                "evaluation": None if by is None else [name, by.fingerprint],
                                "settings": _settings(spec, metric, bank),
                            }
                        )
                        for name, by in (
                            evaluations.items() if METRICS[metric].per_baseline else [(NO_BASELINE, None)]
                        )
                    }
                    for metric in evaluate.metrics
                }
                found.append(
                    Question(
                        number=first + len(found),
                        model=model,
                        method=here.as_dict(),
                        method_name=methods[method],
                        against=against,
                        layer=layer,
                        seed=seed,
                        asked=asked,
                        measures=measures,
                    )
                )
    return found


def every_hash(questions: Sequence[Question]) -> list[str]:
    """All that rows of results to these questions can be asked by."""
    maps = [each.asked for each in questions]
    measures = [asked for each in questions for by in each.measures.values() for asked in by.values()]
    return sorted({*maps, *measures})


def _settings(spec: BenchSpec, metric: str, bank: str) -> dict[str, Any]:
    """What a metric depends on beside the map and the evaluation baseline."""
    evaluate, group = spec.evaluate, METRICS[metric].group
    if group in ("map", "evidence", "error"):
        return {}
    if group == "masked":
        return {"score": evaluate.score}
    if group == "disturbed":
        return {"samples": evaluate.samples, "seed": evaluate.seed}
    if group == "randomised":
        return {"seed": evaluate.seed}
    settings = {"score": evaluate.score, "order": evaluate.order, "seed": evaluate.seed}
    if group != "deviation":
        settings["steps"] = evaluate.steps
    return {**settings, "bank": bank} if group == "distance" else settings


def _seeded(method: Method) -> bool:
    return any(each.name == "seed" for each in fields(method))  # type: ignore[arg-type]


def _default_layer(classifier: Classifier) -> str:
    import torch

    height, width = classifier.preprocessing.size
    example = torch.full(
        (1, len(classifier.preprocessing.mean), height, width), 0.5, device=classifier.device
    )
    first = next(classifier.module.parameters(), None)
    return default_map_layer(classifier.module, example if first is None else example.to(first.dtype))
