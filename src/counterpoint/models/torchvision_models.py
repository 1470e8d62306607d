"""Networks of torchvision: `torchvision:resnet50`, `torchvision:resnet50.IMAGENET1K_V1`."""

import inspect
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from counterpoint.classifier import Classifier
from counterpoint.errors import InputError, MissingPackageError, UnknownNameError
from counterpoint.models.lacking import package_needed
from counterpoint.models.naming import shown_name, unknown_network
from counterpoint.models.random_weights import RANDOM, seeded
from counterpoint.models.weight_files import (
    WeightFile,
    Weights,
    check_name_hash,
    classes_in,
    fit,
    fits,
    read_weights,
)

if TYPE_CHECKING:
    from counterpoint.detectors import Detector

_BUILDING = threading.Lock()
"""torchvision's entries are objects of the process; one at a time is made to answer with our tensors."""


def torchvision_names() -> list[str]:
    """Every network that can be loaded: classifiers, segmentation, detectors.

    Raises:
        MissingPackageError: torchvision is not installed.
    """
    models = _models()
    kinds = ("ImageClassification", "SemanticSegmentation", "ObjectDetection")
    return [
        name
        for name in models.list_models()
        if not name.startswith("quantized_") and _kind(models.get_model_weights(name)) in kinds
    ]


def torchvision_model(
    name: str, *, weights: WeightFile | None = None, random_weights: bool = False
) -> "Classifier | Detector":
    """A network of torchvision with its preprocessing and labels.

    Args:
        name: As torchvision has it; with the name of an entry of its weights after a point, whose preprocessing it then has.
        weights: A file of weights; without one, the library's own cache is looked into.
        random_weights: Random ones instead.

    Returns:
        A Classifier. For segmentation its output is (batch, classes, height, width). For detectors, a Detector.

    Raises:
        MissingPackageError: torchvision is not installed, or its weights are not in its cache.
        UnknownNameError: no such network, or no such entry.
        InputError: the file cannot be read, or the network takes no photographs.
        ModelError: the weights do not fit.
    """
    models = _models()
    architecture, _, tag = name.partition(".")
    known = torchvision_names()
    if architecture not in known:
        if architecture in models.list_models():
            raise InputError(
                f"'torchvision:{architecture}' is quantised or takes no single photograph; networks that classify, segment or detect "
                "objects are loaded by name, others as a Classifier of your own."
            )
        raise unknown_network("torchvision", architecture, known)
    entries = models.get_model_weights(architecture)
    if tag and tag not in entries.__members__:
        raise UnknownNameError.among(f"weights of torchvision:{architecture}", tag, entries.__members__)
    entry = entries[tag] if tag else entries.DEFAULT
    file = None if weights is None else read_weights(weights)
    if file is None and not random_weights:
        file = _cached(entry, f"torchvision:{name}")
    with _BUILDING, seeded():
        network, source, labels = _built(architecture, entry, file)
    title = shown_name(f"torchvision:{name}", weights=weights, random=random_weights)
    said = RANDOM if random_weights else source if weights is not None else f"torchvision {entry}, {source}"
    kind = _kind(entries)
    if kind == "ObjectDetection":
        from counterpoint.detectors import torchvision_detector

        return torchvision_detector(title, network.eval(), labels, weights=said)
    transforms = entry.transforms()
    side = (transforms.crop_size if kind == "ImageClassification" else transforms.resize_size)[0]
    return Classifier(
        network.eval(),
        mean=transforms.mean,
        std=transforms.std,
        size=side,
        crop=min(1.0, side / transforms.resize_size[0]),
        interpolation=transforms.interpolation.value,
        labels=labels,
        name=title,
        weights=said,
        output=None if kind == "ImageClassification" else "out",
    )


def _models() -> Any:
    with package_needed("torchvision", "torchvision"):
        import torchvision.models
    return torchvision.models


def _kind(entries: Any) -> str:
    """What the network is for, by the name of its preprocessing."""
    return type(entries.DEFAULT.transforms()).__name__


def _cached(entry: Any, name: str) -> Weights:
    """The weights from where torch.hub keeps what it has downloaded."""
    file = _cache_file(entry)
    if not file.is_file():
        raise MissingPackageError(
            f"the weights of '{name}' are not in the cache of torch.hub: there is no {file}, and nothing is downloaded here. Put "
            f"{entry.url} there, give a file with --weights FILE (weights=), or ask for random ones with --random-weights."
        )
    check_name_hash(file)
    return read_weights(file)


def _cache_file(entry: Any) -> Path:
    return Path(torch.hub.get_dir(), "checkpoints", entry.url.rsplit("/", 1)[1])


def _built(architecture: str, entry: Any, file: Weights | None) -> tuple[nn.Module, str, list[str] | None]:
    """The network, where its weights come from, and the names of its classes where they are known."""
    models, plain = _models(), _plain_arguments(architecture)
    labels: list[str] | None = list(entry.meta["categories"])
    if file is None:
        return models.get_model(architecture, weights=None, **plain), RANDOM, labels
    # The library's own builder knows what a network with weights is like: size, auxiliary heads, frozen norms.
    try:
        with _answering(entry, file.tensors):
            return models.get_model(architecture, weights=entry), file.source, labels
    except RuntimeError:
        network: nn.Module = models.get_model(architecture, weights=None, **plain)
    if not fits(network, file) and (classes := classes_in(network, file)) is not None:
        network, labels = models.get_model(architecture, weights=None, num_classes=classes, **plain), None
    return network, fit(network, file, what=f"torchvision's {architecture}"), labels


def _plain_arguments(architecture: str) -> dict[str, Any]:
    """What keeps a builder from downloading the weights of a part, and from warning of what is to change."""
    parameters = inspect.signature(_models().get_model_builder(architecture)).parameters
    plain: dict[str, Any] = {"weights_backbone": None} if "weights_backbone" in parameters else {}
    if architecture in ("googlenet", "inception_v3"):
        plain |= {"init_weights": True, "transform_input": True}
    return plain


@contextmanager
def _answering(entry: Any, tensors: dict[str, Tensor]) -> Iterator[None]:
    """An entry of the library that hands out these tensors instead of downloading a pickle."""

    def answer(*_: Any, **__: Any) -> dict[str, Tensor]:
        return dict(tensors)

    entry.get_state_dict = answer
    try:
        yield
    finally:
        del entry.get_state_dict
