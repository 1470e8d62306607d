"""The boxes of ImageNet's images, from a folder with one XML file for each."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

from counterpoint.data.datasets.ilsvrc_labels import inclusive_box
from counterpoint.data.datasets.item import Box, Note
from counterpoint.data.datasets.items import Items
from counterpoint.data.datasets.listing import few, files_below, stem
from counterpoint.errors import InputError


def boxes_by_name(folder: Path) -> Callable[[Items], Items]:
    """What adds boxes to images: each needs a file of its name, ending in .xml, at any depth in `folder`.

    All boxes of a file are taken: those of the classification and localisation task hold objects of the image's class only.
    """
    files = {stem(name): folder / name for name in files_below(folder, (".xml",))}

    def annotate(items: Items) -> Items:
        missing = [name for name in items.names if stem(name) not in files]
        if missing:
            raise InputError(
                f"boxes must have an XML file for each image, but '{folder}' has none for {len(missing):,} of {len(items):,}: "
                f"{few(missing)}."
            )
        return replace(items, notes={name: Note(boxes=_read(files[stem(name)])) for name in items.names})

    return annotate


def _read(file: Path) -> tuple[Box, ...]:
    try:
        found = ElementTree.parse(file).getroot().findall("object/bndbox")
        return tuple(
            inclusive_box(*(float(box.findtext(edge) or "") for edge in ("xmin", "ymin", "xmax", "ymax")))
            for box in found
        )
    except (OSError, ValueError, ElementTree.ParseError) as error:
        raise InputError(
            f"'{file}' must be an annotation with object/bndbox/xmin, ymin, xmax, ymax: {error}."
        ) from error
