"""Many items in little memory: columns of names and labels, and an item made when it is asked for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from counterpoint.data.datasets.item import Item, Note

_NOTHING = Note()


@dataclass(frozen=True, kw_only=True, eq=False)
class Items(Sequence[Item]):
    """The images of a data set in their order: about 100 bytes each, so that a million fit."""

    names: Sequence[str]
    folder: Path | None = None
    """What names are relative to; None where `files` says where images are, or nothing does."""
    files: Sequence[Path] | None = None
    numbers: NDArray[np.int64] | None = None
    """Of generated images."""
    codes: NDArray[np.int32] | None = None
    """Of each image the place of its label in `classes`; None where nothing is labelled."""
    classes: tuple[str, ...] = ()
    numbered: bool = False
    """Labels are places in `classes`, not names."""
    notes: Mapping[str, Note] = field(default_factory=dict)
    """By name; images without one have nothing to say where their object is."""

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> "Items": ...
    def __getitem__(self, index: int | slice) -> "Item | Items":
        if isinstance(index, slice):
            return self.take(np.arange(len(self))[index])
        name = self.names[index]
        path = self.folder / name if self.folder is not None else None
        return Item(
            name=name,
            path=self.files[index] if self.files is not None else path,
            number=None if self.numbers is None else int(self.numbers[index]),
            label=self._label(index),
            note=self.notes.get(name, _NOTHING),
        )

    def take(self, indices: NDArray[np.int64]) -> "Items":
        """Some of them, in the order of `indices`."""
        names = tuple(self.names[k] for k in indices)
        return replace(
            self,
            names=names,
            files=None if self.files is None else tuple(self.files[k] for k in indices),
            numbers=None if self.numbers is None else self.numbers[indices],
            codes=None if self.codes is None else self.codes[indices],
            notes={name: self.notes[name] for name in names if name in self.notes},
        )

    def _label(self, index: int) -> int | str | None:
        if self.codes is None:
            return None
        code = int(self.codes[index])
        return code if self.numbered else self.classes[code]
