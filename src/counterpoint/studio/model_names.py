"""Whether the models of the command line can be what they are called, found out before the first page and without torch."""

import os
import re
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path, PurePath

from counterpoint.errors import InputError, MissingPackageError, UnknownNameError
from counterpoint.models import MODELS, SOURCES


def check_models(names: Sequence[str]) -> None:
    """Raise where a name can be no model's. What only loading shows, such as weights that are not there, is found out later.

    Raises:
        UnknownNameError: no such model, or no such module of one's own.
        InputError: a name of no such form, or no such file.
        MissingPackageError: the library of a network is not installed.
    """
    for name in names:
        _check(name)


def _check(name: str) -> None:
    source, colon, rest = name.partition(":")
    if colon and source in SOURCES:
        if not rest:
            raise InputError(f"'{name}' names no network: write {SOURCES[source].example}.")
        _check_installed(source)
    elif PurePath(name).suffix.lower() == ".pt2":
        if not Path(name).is_file():
            raise InputError(f"there is no file '{name}'.")
    elif colon:
        _check_own(name, source, rest)
    elif name not in MODELS:
        unknown = UnknownNameError.among("model", name, MODELS)
        raise UnknownNameError(
            f"{unknown} Networks of libraries are torchvision:NAME, timm:NAME and hf:NAME, your own package.module:function."
        )


def _check_installed(source: str) -> None:
    package = SOURCES[source].package
    if PathFinder.find_spec(package) is None:
        raise MissingPackageError(
            f'{source}: networks need {package}; install it with: pip install "counterpoint[{SOURCES[source].extra}]"'
        )


def _check_own(name: str, module: str, function: str) -> None:
    if not all(part.isidentifier() for part in module.split(".")) or not function.isidentifier():
        raise InputError(
            f"a model of your own is given as package.module:function, without folders or '.py', got '{name}'."
        )
    places: Sequence[str] | None = [os.getcwd(), *sys.path]
    found: ModuleSpec | None = None
    for k, part in enumerate(module.split("."), 1):
        # Not `importlib.util.find_spec`, which would run the packages on the way.
        path = ".".join(module.split(".")[:k])
        found = PathFinder.find_spec(path if k > 1 else part, places)
        if found is None:
            raise UnknownNameError(
                f"no module '{path}', looked for in the current folder ({os.getcwd()}) and among the installed packages."
            )
        places = found.submodule_search_locations
        if places is None and k < len(module.split(".")):
            raise UnknownNameError(f"no module '{module}': '{path}' is no package.")
    _check_function(found, module, function)


def _check_function(found: ModuleSpec | None, module: str, function: str) -> None:
    """A module that nowhere speaks of a name does not have it, unless it takes in everything of others."""
    origin = None if found is None else found.origin
    if origin is None or not origin.endswith(".py"):
        return
    try:
        text = Path(origin).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return
    if not re.search(rf"\b{re.escape(function)}\b|import \*|__getattr__|globals\(", text):
        raise UnknownNameError(f"module '{module}' has no function '{function}'.")
