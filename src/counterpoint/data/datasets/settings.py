"""The settings of a data set, each checked as it is read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

from counterpoint.errors import InputError, UnknownNameError


@dataclass(frozen=True)
class Settings:
    """Plain data with messages that name the option."""

    values: Mapping[str, Any]

    def __contains__(self, name: str) -> bool:
        return self.values.get(name) is not None

    def folder(self, name: str, *, what: str) -> Path:
        """An existing folder."""
        path = self._path(name)
        if not _exists(path, folder=True):
            raise InputError(f"{name} must be {what}, but there is no folder '{path}'.")
        return path

    def file(self, name: str, *, what: str) -> Path:
        """An existing file."""
        path = self._path(name)
        if not _exists(path, folder=False):
            raise InputError(f"{name} must be {what}, but there is no file '{path}'.")
        return path

    @overload
    def whole(self, name: str, default: int, *, least: int) -> int: ...
    @overload
    def whole(self, name: str, default: None, *, least: int) -> int | None: ...
    def whole(self, name: str, default: int | None, *, least: int) -> int | None:
        """A whole number of `least` or more."""
        value = self.values.get(name)
        if value is None:
            return default
        if type(value) is not int or value < least:
            raise InputError(f"{name} must be a whole number, {least} or more, got {value!r}.")
        return value

    def choice(self, name: str, known: Sequence[str]) -> str:
        """One of some words; the first where nothing is said."""
        value = self.values.get(name, known[0])
        if value not in known:
            raise UnknownNameError.among(name, str(value), known)
        return str(value)

    def texts(self, name: str) -> list[str]:
        """A list of at least one text."""
        value = self._listed(name)
        if not all(isinstance(text, str) and text for text in value):
            raise InputError(f"{name} must be a list of texts, got {value!r}.")
        return value

    def labels(self, name: str) -> list[int | str]:
        """A list of at least one name or number of a class."""
        value = self._listed(name)
        if not all(type(label) in (int, str) for label in value):
            raise InputError(f"{name} must be a list of names or whole numbers, got {value!r}.")
        return value

    def plain(self) -> dict[str, Any]:
        """For the card: paths as text."""
        return {name: _plain(value) for name, value in self.values.items() if value is not None}

    def _listed(self, name: str) -> list[Any]:
        value = self.values[name]
        if isinstance(value, str) or not isinstance(value, Sequence) or not value:
            raise InputError(f"{name} must be a list that is not empty, got {value!r}.")
        return list(value)

    def _path(self, name: str) -> Path:
        value = self.values[name]
        if not isinstance(value, str | Path) or not str(value):
            raise InputError(f"{name} must be a path, got {value!r}.")
        return expanded(value)


def expanded(path: str | Path) -> Path:
    """The path with ~ as the user's home: nothing else expands it in a file."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:  # ~somebody, who is not known here
        raise InputError(f"'{path}' cannot be found: {error}") from error


def _exists(path: Path, *, folder: bool) -> bool:
    try:
        return path.is_dir() if folder else path.is_file()
    except (OSError, ValueError) as error:  # no permission, or a name that no file can have
        raise InputError(f"'{path}' cannot be read: {error}.") from error


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return value.as_posix()
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value
