"""One folder for each class, as torchvision's ImageFolder reads them."""

from dataclasses import replace
from itertools import groupby

import numpy as np

from counterpoint.data.datasets.folder import masks_by_name, masks_folder
from counterpoint.data.datasets.items import Items
from counterpoint.data.datasets.listing import few, files_below, folders_in
from counterpoint.data.datasets.settings import Settings
from counterpoint.data.datasets.source import LeftOut, Source
from counterpoint.errors import InputError


def labelled_source(settings: Settings) -> Source:
    """`labelled = "dir/"`: the label of an image is the name of the folder in `dir` that it is in, at whatever depth.

    Images in no folder are left out, and so are folders without images.

    Raises:
        InputError: no such folder, or no folders with images in it.
    """
    folder = settings.folder("labelled", what="a folder with one folder for each class")
    masks = masks_folder(settings)
    names = files_below(folder)
    if masks is not None and masks.resolve().is_relative_to(folder.resolve()):
        inside = masks.resolve().relative_to(folder.resolve()).as_posix() + "/"
        names = [name for name in names if not name.startswith(inside)]
    inside_folders = [name for name in names if "/" in name]
    if not inside_folders:
        raise InputError(
            f"labelled must be a folder with one folder for each class, but '{folder}' has no images in folders."
        )
    by_class = {label: sum(1 for _ in group) for label, group in groupby(inside_folders, _top)}
    items = Items(
        names=tuple(inside_folders),
        folder=folder,
        codes=np.repeat(np.arange(len(by_class), dtype=np.int32), list(by_class.values())),
        classes=tuple(by_class),
    )
    source = Source(
        of="photographs in one folder for each class",
        items=items,
        left_out=tuple(_left_out(len(names) - len(inside_folders), set(folders_in(folder)) - set(by_class))),
    )
    return source if masks is None else replace(source, evidence="masks", annotate=masks_by_name(masks))


def _left_out(loose: int, empty: set[str]) -> list[LeftOut]:
    reasons = [LeftOut(images=loose, why="in no folder of a class")] if loose else []
    if empty:
        reasons.append(LeftOut(images=0, why=f"folders without images: {few(sorted(empty))}"))
    return reasons


def _top(name: str) -> str:
    return name.partition("/")[0]
