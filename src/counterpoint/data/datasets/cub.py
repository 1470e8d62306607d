"""CUB-200-2011: birds of 200 species, with a box and, from a download of its own, a segmentation of each."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from counterpoint.data.datasets.item import Box, Note
from counterpoint.data.datasets.items import Items
from counterpoint.data.datasets.listing import check_there, read_rows, wrong_line
from counterpoint.data.datasets.settings import Settings
from counterpoint.data.datasets.source import LeftOut, Source
from counterpoint.errors import InputError

# Each file, and what its lines hold.
_FORMS = {
    "images.txt": "image_id path",
    "image_class_labels.txt": "image_id class_id",
    "classes.txt": "class_id name",
    "bounding_boxes.txt": "image_id x y width height",
    "train_test_split.txt": "image_id is_training",
}
_SPLITS = ("test", "train", "all")


def cub_source(settings: Settings) -> Source:
    """`cub = "CUB_200_2011/"`, `split = "test"`, "train" or "all".

    Segmentations are read from `segmentations/` in the folder or beside it; where there are none, the boxes are the evidence. A pixel of a
    segmentation is the bird's where at least half of those who drew it say so.

    Raises:
        InputError: a file of the layout is missing, a line is not what it should be, or the files speak of different images.
        UnknownNameError: no split of that name.

    Reference: Wah et al. 2011, The Caltech-UCSD Birds-200-2011 Dataset, CNS-TR-2011-001.
    """
    folder = settings.folder("cub", what="the folder CUB_200_2011")
    split = settings.choice("split", _SPLITS)
    lacking = [name for name in _FORMS if not (folder / name).is_file()]
    lacking += [] if (folder / "images").is_dir() else ["images/"]
    if lacking:
        raise InputError(
            f"cub must be the folder CUB_200_2011 of the data set, but '{folder}' lacks {', '.join(lacking)}."
        )
    paths = _table(folder, "images.txt")
    labels = _table(folder, "image_class_labels.txt", like=paths)
    boxes = _table(folder, "bounding_boxes.txt", like=paths)
    training = _table(folder, "train_test_split.txt", like=paths)
    names = _table(folder, "classes.txt")
    classes = {class_id: code for code, class_id in enumerate(sorted(names, key=int))}
    unknown = sorted({words[0] for words in labels.values()} - set(classes))
    if unknown:
        raise InputError(
            f"image_class_labels.txt in '{folder}' has the class {unknown[0]}, which classes.txt lacks."
        )
    chosen = [k for k in paths if split == "all" or (training[k][0] == "1") == (split == "train")]
    notes = {paths[k][0]: Note(boxes=(_box(folder, k, boxes[k]),)) for k in chosen}
    items = Items(
        names=tuple(paths[k][0] for k in chosen),
        folder=folder / "images",
        codes=np.array([classes[labels[k][0]] for k in chosen], dtype=np.int32),
        classes=tuple(names[class_id][0] for class_id in classes),
        numbered=True,
        notes=notes,
    )
    other = LeftOut(images=len(paths) - len(chosen), why=f"not in the {split} split")
    source = Source(
        of=f"CUB-200-2011, {split} split" if split != "all" else "CUB-200-2011, both splits",
        items=items,
        listed_in=f"'{folder / 'images.txt'}'",
        evidence="boxes",
        left_out=(other,) if other.images else (),
        licence_note="CUB-200-2011: for non-commercial research and education; photographs belong to those who took them",
    )
    beside = folder.absolute().parent / "segmentations"
    for segmentations in (folder / "segmentations", beside):
        if segmentations.is_dir():
            return replace(source, evidence="segmentations", annotate=partial(_segmented, segmentations))
    return source


def _segmented(segmentations: Path, items: Items) -> Items:
    files = {name: name.rpartition(".")[0] + ".png" for name in items.names}
    check_there("segmentations", segmentations, files.values(), listed_in="images.txt")
    notes = {name: replace(items.notes[name], mask=segmentations / file) for name, file in files.items()}
    return replace(items, notes=notes)


def _table(folder: Path, name: str, *, like: dict[str, list[str]] | None = None) -> dict[str, list[str]]:
    """The lines of a file by their first word, in the order of the file; all keys of `like` must be there."""
    file, form = folder / name, _FORMS[name]
    table: dict[str, list[str]] = {}
    for number, words in read_rows(file, form):
        if not words[0].isdecimal() or words[0] in table:
            raise wrong_line(file, number, f"{form}, each {form.split()[0]} once", " ".join(words))
        table[words[0]] = words[1:]
    missing = [key for key in like or {} if key not in table]
    if missing:
        raise InputError(
            f"'{file}' must have a line for each image of images.txt, but lacks {len(missing):,}, the first for image {missing[0]}."
        )
    return table


def _box(folder: Path, image: str, words: list[str]) -> Box:
    try:
        x, y, width, height = (float(word) for word in words)
    except ValueError:
        file = folder / "bounding_boxes.txt"
        raise InputError(
            f"'{file}' must have four numbers for image {image}, got {' '.join(words)!r}."
        ) from None
    return x, y, x + width, y + height
