"""Which files are there, and which that should be are not."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from counterpoint.errors import InputError
from counterpoint.images import IMAGE_SUFFIXES


def files_below(folder: Path, suffixes: tuple[str, ...] = IMAGE_SUFFIXES) -> list[str]:
    """The files of a folder and the folders in it, relative to it, with slashes, sorted; hidden ones left out.

    Plain texts: a million Path objects would take minutes and gigabytes.

    Raises:
        InputError: a folder that cannot be read.
    """
    found = []
    for place, folders, names in os.walk(folder, onerror=_refuse):  # links to folders are not followed
        folders[:] = [name for name in folders if not name.startswith(".")]
        prefix = os.path.relpath(place, folder).replace(os.sep, "/") + "/"
        prefix = "" if prefix == "./" else prefix
        found += [
            prefix + name for name in names if name.lower().endswith(suffixes) and not name.startswith(".")
        ]
    # By the parts of the path, as nothing sorts before "\0"; lists of parts would take a gigabyte for a million names.
    return sorted(found, key=lambda name: name.replace("/", "\0"))


def folders_in(folder: Path) -> list[str]:
    """The names of the folders in a folder, sorted; hidden ones left out.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return sorted(
            entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith(".")
        )
    except OSError as error:
        raise InputError(f"the folder '{folder}' cannot be read: {error.strerror}.") from error


def check_there(what: str, folder: Path, names: Iterable[str], *, listed_in: str) -> None:
    """Raise InputError, with the count and the first few names, unless all the files are there.

    Args:
        what: What they are, in the plural: "images".
        folder: What names are relative to.
        names: With slashes.
        listed_in: What says that they should be there.
    """
    all_names = list(names)
    there: dict[str, set[str]] = {}
    missing = []
    for name in all_names:
        place, _, file = name.rpartition("/")
        if place not in there:  # one look into each folder, not one for each file
            there[place] = _names_in(folder / place)
        if file not in there[place]:
            missing.append(name)
    if missing:
        raise InputError(
            f"{len(missing):,} of the {len(all_names):,} {what} that {listed_in} asks for are not in '{folder}': {few(missing)}."
        )


def stem(name: str) -> str:
    """The last part of a path with slashes, without its ending."""
    return os.path.splitext(name.rpartition("/")[2])[0]


def few(names: Sequence[str], shown: int = 3) -> str:
    """The first of some names, and how many more there are."""
    more = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {more:,} more" if more > 0 else "")


def read_text(file: Path) -> str:
    """The whole of a text file.

    Raises:
        InputError: it cannot be read, or is no text.
    """
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise InputError(f"'{file}' cannot be read as text: {error}.") from error


def read_rows(file: Path, form: str) -> list[tuple[int, list[str]]]:
    """The lines of a text file that are not empty: their number, counted from 1, and their words.

    Args:
        file: Read whole.
        form: What every line must look like, as many words: "image_id x y width height".

    Raises:
        InputError: it cannot be read, is empty, or a line has another number of words.
    """
    rows = []
    for number, line in enumerate(read_text(file).splitlines(), 1):
        words = line.split()
        if words and len(words) != len(form.split()):
            raise wrong_line(file, number, form, line)
        if words:
            rows.append((number, words))
    if not rows:
        raise InputError(f"'{file}' is empty; its lines must be '{form}'.")
    return rows


def wrong_line(file: Path, number: int, form: str, line: str) -> InputError:
    """The error for a line that is not what it should be."""
    shown = line if len(line) <= 60 else line[:60] + "..."
    return InputError(f"line {number} of '{file}' must be '{form}', got {shown!r}.")


def _names_in(folder: Path) -> set[str]:
    try:
        return set(os.listdir(folder))
    except OSError:
        return set()


def _refuse(error: OSError) -> None:
    raise InputError(f"the folder '{error.filename}' cannot be read: {error.strerror}.") from error
