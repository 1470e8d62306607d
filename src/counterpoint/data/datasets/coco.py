"""Boxes and segmentations in one JSON file, as COCO writes them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from counterpoint.data.datasets.item import Box, Note
from counterpoint.data.datasets.items import Items
from counterpoint.data.datasets.listing import read_text
from counterpoint.data.datasets.segments import Polygons, Segment, runs
from counterpoint.data.datasets.settings import Settings
from counterpoint.data.datasets.source import LeftOut, Source
from counterpoint.errors import InputError

# What must be in each entry of the three lists.
_KEYS = {
    "images": ("id", "file_name"),
    "categories": ("id", "name"),
    "annotations": ("image_id", "category_id", "bbox"),
}


def coco_source(settings: Settings) -> Source:
    """`coco = "images/"` and `annotations = "instances.json"`.

    The label of an image is the category of its largest object, by area; regions marked as crowds count only where there is nothing else.
    The evidence is all objects of this category, crowds as well. Images without objects are left out.

    Raises:
        InputError: a file that is missing, no JSON, or not of this form.

    Reference: Lin et al. 2014, arXiv:1405.0312.
    """
    folder = settings.folder("coco", what="a folder of images")
    if "annotations" not in settings:
        raise InputError('coco needs annotations as well: annotations = "instances_val2017.json".')
    file = settings.file("annotations", what="a JSON file in COCO's form")
    content = _read(file)
    categories = {entry["id"]: str(entry["name"]) for entry in content["categories"]}
    objects: dict[Any, list[dict[str, Any]]] = {}
    for entry in content["annotations"]:
        if entry["category_id"] not in categories:
            raise InputError(
                f"'{file}' has an annotation of category {entry['category_id']!r}, which is not among its categories."
            )
        objects.setdefault(entry["image_id"], []).append(entry)
    images = sorted(content["images"], key=lambda entry: str(entry["file_name"]))
    shown = {str(entry["file_name"]): entry for entry in images if entry["id"] in objects}
    if not shown:
        raise InputError(f"'{file}' must have annotations of at least one of its images.")
    main = {name: _category(objects[entry["id"]]) for name, entry in shown.items()}
    places = {category: code for code, category in enumerate(categories)}

    def annotate(items: Items) -> Items:
        notes = {}
        for name in items.names:
            same = [entry for entry in objects[shown[name]["id"]] if entry["category_id"] == main[name]]
            try:
                notes[name] = _note(shown[name], same)
            except (TypeError, ValueError, KeyError, OverflowError) as error:
                raise InputError(f"an annotation of '{name}' in '{file}' cannot be used: {error}") from error
        return replace(items, notes=notes)

    bare = len(images) - len(shown)
    return Source(
        of="photographs with objects in COCO's form",
        items=Items(
            names=tuple(shown),
            folder=folder,
            codes=np.array([places[main[name]] for name in shown], dtype=np.int32),
            classes=tuple(categories.values()),
        ),
        listed_in=f"'{file}'",
        evidence="segmentations" if any(map(_has_segments, content["annotations"])) else "boxes",
        annotate=annotate,
        left_out=(LeftOut(images=bare, why="without objects"),) if bare else (),
        licence_note="COCO's annotations: CC BY 4.0; its photographs: the terms of Flickr and of those who took them",
    )


def _read(file: Path) -> Mapping[str, Sequence[dict[str, Any]]]:
    try:
        content = json.loads(read_text(file))
    except (ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"annotations must be JSON, but '{file}' is not: {error}.") from error
    for part, keys in _KEYS.items():
        entries = content.get(part) if isinstance(content, dict) else None
        if not isinstance(entries, list) or not entries:
            raise InputError(f"annotations must have a list '{part}' that is not empty; '{file}' has none.")
        for k, entry in enumerate(entries):
            lacking = [key for key in keys if key not in entry] if isinstance(entry, dict) else list(keys)
            if lacking:
                raise InputError(f"entry {k} of '{part}' in '{file}' lacks {', '.join(lacking)}.")
    return content  # type: ignore[no-any-return]


def _category(objects: Sequence[dict[str, Any]]) -> Any:
    largest = max(objects, key=lambda entry: (not entry.get("iscrowd"), _area(entry)))
    return largest["category_id"]


def _area(entry: dict[str, Any]) -> float:
    """In pixels; that of the box where nothing is said."""
    try:
        left, top, right, bottom = _box(entry)
        return float(entry.get("area", (right - left) * (bottom - top)))
    except (TypeError, ValueError) as error:
        raise InputError(
            f"an annotation of image {entry['image_id']!r} must have four numbers in bbox and one in area, got {entry['bbox']!r} "
            f"and {entry.get('area')!r}."
        ) from error


def _note(image: dict[str, Any], objects: Sequence[dict[str, Any]]) -> Note:
    size = (int(image["width"]), int(image["height"])) if {"width", "height"} <= image.keys() else None
    boxes = tuple(_box(entry) for entry in objects)
    segments: tuple[Segment, ...] = ()
    if any(map(_has_segments, objects)):
        segments = tuple(_segment(entry, box) for entry, box in zip(objects, boxes, strict=True))
    return Note(boxes=boxes, segments=segments, size=size)


def _has_segments(entry: dict[str, Any]) -> bool:
    return bool(entry.get("segmentation"))


def _segment(entry: dict[str, Any], box: Box) -> Segment:
    """What is drawn of one object: polygons, runs of pixels, or its box where there is nothing finer."""
    found = entry.get("segmentation")
    if isinstance(found, dict):
        height, width = found["size"]
        return runs(found["counts"], (int(width), int(height)))
    left, top, right, bottom = box
    rings = found or [[left, top, right, top, right, bottom, left, bottom]]
    return Polygons(tuple(np.array(ring, dtype=np.float32) for ring in rings))


def _box(entry: dict[str, Any]) -> Box:
    x, y, width, height = (float(number) for number in entry["bbox"])
    return x, y, x + width, y + height
