"""The 1000 WordNet ids of ImageNet's classes: their usual order, and the numbers that the challenge gave them."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scipy.io import loadmat

from counterpoint.data.datasets.listing import read_text
from counterpoint.errors import InputError

CLASSES = 1000

_ID = re.compile(r"n\d{8}")
# An id with the number of the challenge on either side, alone or with words after it.
_NUMBERED = re.compile(r"(?:(\d+)\s+(n\d{8})|(n\d{8})\s+(\d+))(?:\s.*)?")


@dataclass(frozen=True)
class Synsets:
    """WordNet ids, and what they stand for."""

    ids: tuple[str, ...]
    """1000, sorted: the place of an id is the index of its class."""
    numbers: Mapping[int, str] | None = None
    """The ids by the challenge's own numbers, 1 to 1000, which are in another order."""

    def codes(self) -> dict[str, int]:
        """The index of the class of each id."""
        return {name: code for code, name in enumerate(self.ids)}


def is_wordnet_id(text: str) -> bool:
    """Whether a text looks like n01440764."""
    return _ID.fullmatch(text) is not None


def synsets_of(ids: Iterable[str], *, where: str) -> Synsets:
    """The order of exactly 1000 different ids.

    Raises:
        InputError: another number of them, of which no order of 1000 follows.
    """
    found = sorted(set(ids))
    if len(found) != CLASSES:
        raise InputError(
            f"{where} {len(found)} WordNet ids, and only all {CLASSES} say which class index each of them has; give a file with all: "
            'synsets = "LOC_synset_mapping.txt", or meta.mat or map_clsloc.txt of a development kit.'
        )
    return Synsets(tuple(found))


def read_synsets(file: Path) -> Synsets:
    """The ids in a file: `meta.mat` of the development kit, or a text with one id in each line.

    A line may also have the challenge's number before or after the id (`n02119789 1 kit_fox`), and words at the end.

    Raises:
        InputError: it cannot be read, or does not hold 1000 ids.
    """
    numbers = _of_matlab(file) if file.suffix.lower() == ".mat" else _of_text(file)
    if isinstance(numbers, list):
        return synsets_of(numbers, where=f"synsets '{file}' holds")
    synsets = synsets_of(numbers.values(), where=f"synsets '{file}' holds")
    if set(numbers) != set(range(1, CLASSES + 1)):
        raise InputError(f"synsets '{file}' must number its WordNet ids from 1 to {CLASSES}, each once.")
    return Synsets(synsets.ids, numbers)


def _of_text(file: Path) -> dict[int, str] | list[str]:
    lines = [line.strip() for line in read_text(file).splitlines()]
    matches = [_NUMBERED.fullmatch(line) for line in lines if line]
    if matches and all(matches):
        parts = [match.groups() for match in matches if match]
        return {int(before or after): first or second for before, first, second, after in parts}
    found = [_ID.search(line) for line in lines if line]
    if not found or not all(found):
        bad = next((line for line in lines if line and not _ID.search(line)), "nothing")
        raise InputError(
            f"synsets '{file}' must have a WordNet id (n01440764) in each line, got {bad[:60]!r}."
        )
    return [match.group() for match in found if match]


def _of_matlab(file: Path) -> dict[int, str]:
    try:
        table: Any = loadmat(str(file), squeeze_me=True)["synsets"]
        pairs = zip(table["ILSVRC2012_ID"].tolist(), table["WNID"].tolist(), strict=True)
        # The rows after the first 1000 are groups of classes.
        return {int(number): str(name) for number, name in pairs if int(number) <= CLASSES}
    except Exception as error:  # scipy raises what it happens to meet in a damaged file
        raise InputError(
            f"synsets '{file}' must be meta.mat of the ILSVRC2012 development kit, with ILSVRC2012_ID and WNID: {error}."
        ) from error
