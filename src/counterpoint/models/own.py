"""Models of the user's own: `package.module:function`, which builds a Classifier; with a file of weights beside it."""

import importlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any

from counterpoint.errors import CounterpointError, InputError, ModelError, UnknownNameError

if TYPE_CHECKING:
    from counterpoint.classifier import Classifier
    from counterpoint.detectors import Detector
    from counterpoint.models.weight_files import WeightFile


def own_model(name: str, *, weights: "WeightFile | None" = None) -> "Classifier | Detector":
    """What a function of the user's own returns, with weights from a file where one is given.

    Args:
        name: `package.module:function`; the module is imported, also from the current folder, and the function called without arguments.
        weights: A state dict for the module that the function wrapped; every tensor must fit.

    Raises:
        UnknownNameError: no such module or function.
        InputError: not of that form, or the function returns no Classifier, or the file cannot be read.
        ModelError: the module or the function raised an error, or the weights do not fit.
    """
    with _current_folder_importable():
        classifier = _called(_function(name), name)
    from counterpoint.classifier import Classifier
    from counterpoint.detectors import Detector

    if not isinstance(classifier, Classifier | Detector):
        raise InputError(
            f"'{name}' must return a counterpoint.Classifier, got {type(classifier).__name__}; "
            "return counterpoint.Classifier(module, mean=..., std=..., size=...)."
        )
    if weights is not None:
        from counterpoint.layers import unwrapped
        from counterpoint.models.naming import shown_name
        from counterpoint.models.weight_files import fit, read_weights

        network = (
            classifier.network if isinstance(classifier, Classifier) else unwrapped(classifier.module)[1]
        )
        source = fit(network, read_weights(weights), what=f"what '{name}' builds")
        classifier.weights = source
        classifier.name = shown_name(classifier.name, weights=weights)
    return classifier


def _function(name: str) -> Callable[[], Any]:
    path, _, attribute = name.partition(":")
    if not all(part.isidentifier() for part in path.split(".")) or not attribute.isidentifier():
        raise InputError(
            f"a model of your own is given as package.module:function, without folders or '.py', got '{name}'."
        )
    module = _imported(path)
    if not hasattr(module, attribute):
        public = [known for known in vars(module) if not known.startswith("_")]
        raise UnknownNameError.among(f"function of module '{path}'", attribute, public)
    build = getattr(module, attribute)
    if not callable(build):
        raise InputError(
            f"'{name}' must be a function that returns a counterpoint.Classifier, but it is of type {type(build).__name__}."
        )
    function: Callable[[], Any] = build
    return function


def _called(build: Callable[[], Any], name: str) -> Any:
    try:
        return build()
    except CounterpointError:
        raise  # says what is wrong by itself
    except Exception as error:
        raise ModelError(f"'{name}' failed: {type(error).__name__}: {error}") from error


def _imported(path: str) -> ModuleType:
    importlib.invalidate_caches()  # the file may be younger than Python's list of the folder
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as error:
        # The module itself, or something that it needs?
        if error.name is not None and (path == error.name or path.startswith(error.name + ".")):
            raise UnknownNameError(
                f"no module '{error.name}', looked for in the current folder ({os.getcwd()}) and among the installed packages."
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
