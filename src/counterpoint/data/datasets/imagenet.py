"""ImageNet's validation images, in folders by WordNet id or flat with a file of labels."""

from dataclasses import replace
from importlib.resources import files

import numpy as np

from counterpoint.data.datasets.ilsvrc_boxes import boxes_by_name
from counterpoint.data.datasets.ilsvrc_labels import Labels, read_labels
from counterpoint.data.datasets.item import Note
from counterpoint.data.datasets.items import Items
from counterpoint.data.datasets.listing import files_below, folders_in, stem
from counterpoint.data.datasets.settings import Settings
from counterpoint.data.datasets.source import LeftOut, Source
from counterpoint.data.datasets.synsets import Synsets, is_wordnet_id, read_synsets, synsets_of
from counterpoint.errors import InputError

_WHAT = "the folder of ImageNet's validation images"
_LICENCE = "ImageNet: for non-commercial research and education; photographs belong to those who took them"


def imagenet_source(settings: Settings) -> Source:
    """`imagenet = "val/"`, with `labels`, `synsets` and `boxes` where they are needed.

    Without `labels`, images are in folders named by WordNet id; the order of the classes is that of the sorted ids, known where the folders
    are all 1000 or `synsets` names all of them. With `labels` they may lie anywhere in the folder; see `read_labels`. Boxes are read from
    `boxes`, a folder of XML files, or from Kaggle's file of labels.

    Raises:
        InputError: what is missing, or cannot be understood.

    Reference: Russakovsky et al. 2015, arXiv:1409.0575.
    """
    folder = settings.folder("imagenet", what=_WHAT)
    synsets = None
    if "synsets" in settings:
        synsets = read_synsets(settings.file("synsets", what="a file of the 1000 WordNet ids"))
    boxes = settings.folder("boxes", what="a folder of XML annotations") if "boxes" in settings else None
    found = files_below(folder)
    if "labels" in settings:
        file = settings.file("labels", what="a file of labels")
        source = _by_file(Items(names=found, folder=folder), read_labels(file, synsets), f"'{file}'")
    else:
        source = _by_folder(Items(names=found, folder=folder), synsets)
    if boxes is not None:
        return replace(source, evidence="boxes", annotate=boxes_by_name(boxes))
    return source


def _by_file(found: Items, labels: Labels, listed_in: str) -> Source:
    there = {stem(name): name for name in found.names}
    if len(there) < len(found):
        raise InputError(
            f"imagenet must be a folder in which every image has its own name, but '{found.folder}' has {len(found) - len(there)} twice."
        )
    # Images that are listed and not there are kept for now: they are counted when they are looked for.
    names = {there.get(key, labels.names[key]): code for key, code in labels.codes.items()}
    bare = len(there.keys() - labels.codes.keys())
    notes = {there[key]: Note(boxes=boxes) for key, boxes in labels.boxes.items() if key in there}
    return Source(
        of="ImageNet, validation images",
        items=_items(replace(found, notes=notes), dict(sorted(names.items()))),
        listed_in=listed_in,
        other_names=labels.ids,
        evidence="boxes" if notes else None,
        left_out=(LeftOut(images=bare, why=f"without a label in {listed_in}"),) if bare else (),
        licence_note=_LICENCE,
    )


def _by_folder(found: Items, synsets: Synsets | None) -> Source:
    folder = found.folder
    ids = [name for name in folders_in(folder) if is_wordnet_id(name)] if folder is not None else []
    if not ids:
        flat = f"holds {len(found):,} images but no folders named by WordNet id (n01440764)"
        raise InputError(
            f"imagenet must be {_WHAT}, but '{folder}' {flat}; for images that lie side by side give labels as well: "
            'labels = "val.txt", "ILSVRC2012_validation_ground_truth.txt" or "LOC_val_solution.csv".'
        )
    order = synsets or synsets_of(ids, where=f"imagenet '{folder}' has folders of")
    codes = order.codes()
    if unknown := [name for name in ids if name not in codes]:
        raise InputError(f"imagenet '{folder}' has the folder {unknown[0]}, which synsets lacks.")
    inside = {name: codes[top] for name in found.names if (top := name.partition("/")[0]) in codes}
    loose = len(found) - len(inside)
    return Source(
        of="ImageNet, validation images",
        items=_items(found, inside),
        other_names=order.ids,
        left_out=(LeftOut(images=loose, why="in no folder named by WordNet id"),) if loose else (),
        licence_note=_LICENCE,
    )


def _items(found: Items, codes: dict[str, int]) -> Items:
    return replace(
        found,
        names=tuple(codes),
        codes=np.fromiter(codes.values(), dtype=np.int32, count=len(codes)),
        classes=_class_names(),
        numbered=True,
    )


def _class_names() -> tuple[str, ...]:
    """Read from the file, as data come before models and import nothing of them."""
    text = files("counterpoint").joinpath("models", "imagenet_labels.txt").read_text(encoding="utf-8")
    return tuple(text.splitlines())
