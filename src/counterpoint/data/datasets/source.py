"""What a layout on the disk has been found to hold, before anything is chosen from it."""

from collections.abc import Callable
from dataclasses import dataclass

from counterpoint.data.datasets.data_set import DataSet, PhotographSet
from counterpoint.data.datasets.items import Items


def _as_they_are(items: Items) -> Items:
    return items


@dataclass(frozen=True, kw_only=True, eq=False)
class LeftOut:
    """Images that are there, or are listed, and are not part of the data set."""

    images: int
    why: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Source:
    """All images of a data set."""

    of: str
    """What it is, in words."""
    items: Items
    listed_in: str | None = None
    """The file that lists the images, which may then be missing; None where a folder was searched for them."""
    other_names: tuple[str, ...] = ()
    """Second names of the classes, in the order of `items.classes`: WordNet ids."""
    evidence: str | None = None
    annotate: Callable[[Items], Items] = _as_they_are
    """Adds notes to those that were chosen, and raises InputError where one is missing."""
    left_out: tuple[LeftOut, ...] = ()
    licence_note: str = ""
    data_set: Callable[..., DataSet] = PhotographSet
    """Called with kind, items and facts."""
