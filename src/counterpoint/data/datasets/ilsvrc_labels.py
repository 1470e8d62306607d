"""The labels of ImageNet's validation images, in the forms in which they are handed around."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from counterpoint.data.datasets.item import Box
from counterpoint.data.datasets.listing import read_rows, read_text, stem, wrong_line
from counterpoint.data.datasets.synsets import CLASSES, Synsets, is_wordnet_id, synsets_of
from counterpoint.errors import InputError

_KAGGLE = "ImageId,PredictionString"
_PAIR = "name label"


@dataclass(frozen=True, kw_only=True)
class Labels:
    """What a file says about images; all by the name of the image without folder and ending."""

    codes: Mapping[str, int]
    """The index of its class, 0 to 999."""
    names: Mapping[str, str]
    """As the file has it, or as the challenge named it."""
    boxes: Mapping[str, tuple[Box, ...]] = field(default_factory=dict)
    ids: tuple[str, ...] = ()
    """The WordNet ids of all classes, in order, where they are known."""


def read_labels(file: Path, synsets: Synsets | None) -> Labels:
    """The labels in a file.

    One of: lines `name label`, the label an index from 0 or a WordNet id; lines of a label only, a WordNet id or one of the challenge's
    numbers, for ILSVRC2012_val_00000001.JPEG and so on (the development kit's ground truth); or Kaggle's LOC_val_solution.csv, with boxes.

    Args:
        file: Recognised by its first line.
        synsets: The WordNet ids of all classes. Needed for the challenge's numbers, with these; and for WordNet ids, where the labels have
            fewer than all 1000.

    Raises:
        InputError: a line that is none of these, an unknown label, or labels whose meaning does not follow without `synsets`.
    """
    first = read_text(file).lstrip().partition("\n")[0].strip()
    if first.replace(" ", "") == _KAGGLE:
        return _kaggle(file, synsets)
    if len(first.split()) == 2:
        return _pairs(file, synsets)
    return _in_order(file, synsets)


def _pairs(file: Path, synsets: Synsets | None) -> Labels:
    names: dict[str, str] = {}
    labels: dict[str, str] = {}
    for number, (name, label) in read_rows(file, _PAIR):
        if stem(name) in names:
            raise wrong_line(file, number, f"{_PAIR}, each name once", f"{name} {label}")
        names[stem(name)], labels[stem(name)] = name, label
    if not all(label.isdecimal() for label in labels.values()):
        return _of_ids(file, names, labels, synsets)
    codes = {name: int(label) for name, label in labels.items()}
    if max(codes.values()) >= CLASSES:
        name = max(codes, key=lambda name: codes[name])
        raise InputError(
            f"labels '{file}' must be class indices from 0 to {CLASSES - 1}, got {codes[name]} for '{names[name]}'; "
            "numbers from 1 may be those of the challenge, which are in another order."
        )
    return Labels(codes=codes, names=names, ids=synsets.ids if synsets else ())


def _in_order(file: Path, synsets: Synsets | None) -> Labels:
    rows = read_rows(file, "label")
    keys = [f"ILSVRC2012_val_{k:08d}" for k in range(1, len(rows) + 1)]
    names = {key: f"{key}.JPEG" for key in keys}
    labels = {key: words[0] for key, (_, words) in zip(keys, rows, strict=True)}
    if any(is_wordnet_id(label) for label in labels.values()):
        return _of_ids(file, names, labels, synsets)
    if synsets is None or synsets.numbers is None:
        raise InputError(
            f"labels '{file}' has the challenge's own numbers, which are not the usual class indices; say what they stand for: "
            'synsets = "meta.mat" of the development kit, or a text with lines like "n02119789 1 kit_fox" (map_clsloc.txt).'
        )
    known = {str(number): name for number, name in synsets.numbers.items()}
    for number, words in rows:
        if words[0] not in known:
            raise wrong_line(file, number, f"a number from 1 to {CLASSES}", words[0])
    return _of_ids(file, names, {key: known[label] for key, label in labels.items()}, synsets)


def _kaggle(file: Path, synsets: Synsets | None) -> Labels:
    names: dict[str, str] = {}
    labels: dict[str, str] = {}
    boxes: dict[str, tuple[Box, ...]] = {}
    rows = csv.reader(read_text(file).splitlines()[1:])
    for number, row in enumerate(rows, 2):
        words = row[1].split() if len(row) == 2 else []
        if not row:
            continue
        if not words or len(words) % 5 or not is_wordnet_id(words[0]):
            form = "image,id xmin ymin xmax ymax" + " and so on"
            raise wrong_line(file, number, form, ",".join(row))
        parts = [words[k : k + 5] for k in range(0, len(words), 5)]
        names[row[0]], labels[row[0]] = f"{row[0]}.JPEG", words[0]
        try:
            boxes[row[0]] = tuple(
                inclusive_box(*(float(edge) for edge in part[1:])) for part in parts if part[0] == words[0]
            )
        except ValueError:
            raise wrong_line(file, number, "image,id and four numbers", ",".join(row)) from None
    if not names:
        raise InputError(f"labels '{file}' has no images.")
    plain = _of_ids(file, names, labels, synsets)
    return Labels(codes=plain.codes, names=names, boxes=boxes, ids=plain.ids)


def inclusive_box(xmin: float, ymin: float, xmax: float, ymax: float) -> Box:
    """The challenge's boxes name their first and last pixel, counted from 0, as the + 1 in its overlaps says."""
    return xmin, ymin, xmax + 1, ymax + 1


def _of_ids(file: Path, names: dict[str, str], labels: dict[str, str], synsets: Synsets | None) -> Labels:
    wrong = next((name for name, label in labels.items() if not is_wordnet_id(label)), None)
    if wrong is not None:
        raise InputError(
            f"labels '{file}' must be all class indices or all WordNet ids (n01440764), got {labels[wrong]!r} for '{names[wrong]}'."
        )
    order = synsets or synsets_of(labels.values(), where=f"labels '{file}' has")
    codes = order.codes()
    unknown = next((name for name, label in labels.items() if label not in codes), None)
    if unknown is not None:
        raise InputError(
            f"labels '{file}' has '{labels[unknown]}' for '{names[unknown]}', which synsets lacks."
        )
    return Labels(codes={name: codes[label] for name, label in labels.items()}, names=names, ids=order.ids)
