"""From the settings of a data set to its images, all that must be there checked."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from counterpoint.data.datasets.coco import coco_source
from counterpoint.data.datasets.cub import cub_source
from counterpoint.data.datasets.data_set import DataSet
from counterpoint.data.datasets.folder import folder_source, list_source
from counterpoint.data.datasets.generated import shapes_source
from counterpoint.data.datasets.imagenet import imagenet_source
from counterpoint.data.datasets.items import Items
from counterpoint.data.datasets.labelled import labelled_source
from counterpoint.data.datasets.listing import check_there
from counterpoint.data.datasets.selection import of_classes, stratified
from counterpoint.data.datasets.settings import Settings
from counterpoint.data.datasets.source import LeftOut, Source
from counterpoint.errors import InputError, UnknownNameError

COMMON = ("classes", "sample", "seed", "limit")
"""Options of every kind."""


@dataclass(frozen=True)
class Kind:
    """A layout that can be read."""

    source: Callable[[Settings], Source]
    options: tuple[str, ...] = ()
    """Beside its own name and the common ones."""


KINDS: dict[str, Kind] = {
    "folder": Kind(folder_source, ("masks",)),
    "list": Kind(list_source, ("masks",)),
    "labelled": Kind(labelled_source, ("masks",)),
    "imagenet": Kind(imagenet_source, ("labels", "synsets", "boxes")),
    "cub": Kind(cub_source, ("split",)),
    "coco": Kind(coco_source, ("annotations",)),
    "shapes": Kind(shapes_source, ("size",)),
}
"""By the option that names them."""


def open_data_set(settings: Mapping[str, Any]) -> DataSet:
    """The data set that some settings describe.

    Folders are listed and annotations are read; no image is opened. Relative paths start from the working directory.

    Args:
        settings: One of `KINDS` with what it needs, for example `{"cub": "CUB_200_2011", "split": "test"}`; then, in this order,
            `classes`, a list of names or numbers; `sample`, the size of a sample stratified by label, drawn with `seed`; and `limit`, the
            first so many. An option that is None counts as not given.

    Raises:
        InputError: what is missing on the disk, with the first few names; an option that is not what it should be.
        UnknownNameError: no option, class, split or sample of that name.
        MissingPackageError: a sample of scikit-image is asked for, and scikit-image is not installed.
    """
    if not isinstance(settings, Mapping):
        raise InputError(f"the settings of a data set must be a mapping, got {settings!r}.")
    given = Settings(settings)
    kinds = [name for name in KINDS if name in given]
    if len(kinds) != 1:
        got = " and ".join(kinds) or "none of them"
        raise InputError(f"a data set needs exactly one of {', '.join(KINDS)}; got {got}.")
    (kind,) = kinds
    known = (kind, *KINDS[kind].options, *COMMON)
    for name in settings:
        if name not in known:
            raise UnknownNameError.among(f"option of the data set '{kind}'", str(name), known)
    seed = given.whole("seed", 0, least=0)
    count = given.whole("sample", None, least=1)
    limit = given.whole("limit", None, least=1)
    wanted = given.labels("classes") if "classes" in given else None

    source = KINDS[kind].source(given)
    items, left_out = source.items, list(source.left_out)

    def keep(indices: np.ndarray, why: str) -> Items:
        if len(indices) < len(items):
            left_out.append(LeftOut(images=len(items) - len(indices), why=why))
        return items.take(indices)

    if wanted is not None:
        items = keep(of_classes(items, wanted, source.other_names), "of other classes")
    if not len(items):
        raise InputError(f"the data set '{kind}' has no images: {source.of}.")
    if source.listed_in is not None and items.folder is not None:
        # All of them, not only those in the sample: which images are missing must not depend on the seed.
        check_there("images", items.folder, items.names, listed_in=source.listed_in)
    if count is not None:
        codes = items.codes if items.codes is not None else np.zeros(len(items), dtype=np.int32)
        why = f"not in the stratified sample of {count:,}, seed {seed}"
        items = keep(stratified(codes, count, seed), why)
    if limit is not None:
        items = keep(np.arange(min(limit, len(items))), f"after the first {limit:,}")
    items = source.annotate(items)
    return source.data_set(kind=kind, items=items, facts=_card(kind, source, items, left_out, given))


def _card(
    kind: str, source: Source, items: Items, left_out: list[LeftOut], given: Settings
) -> dict[str, Any]:
    return {
        "kind": kind,
        "images": len(items),
        "of": source.of,
        "classes": None if items.codes is None else len(np.unique(items.codes)),
        "evidence": source.evidence,
        "licence_note": source.licence_note,
        "left_out": [asdict(reason) for reason in left_out],
        "settings": given.plain(),
    }
