"""Photographs from a folder or a list, with masks by their names."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from counterpoint.data.datasets.item import Item, Note
from counterpoint.data.datasets.items import Items
from counterpoint.data.datasets.listing import few, files_below, stem
from counterpoint.data.datasets.settings import Settings, expanded
from counterpoint.data.datasets.source import Source
from counterpoint.data.photographs import SAMPLE_PREFIX, SAMPLES, find_photographs
from counterpoint.errors import InputError


def folder_source(settings: Settings) -> Source:
    """`folder = "photos/"`: all images in it.

    Raises:
        InputError: no such folder, or no images.
    """
    folder = settings.folder("folder", what="a folder of photographs")
    paths = _without_masks(find_photographs([folder]), settings)
    names = [path.relative_to(folder).as_posix() for path in paths]
    items = Items(names=names, folder=folder)
    return _with_masks(Source(of="photographs in a folder", items=items), settings)


def list_source(settings: Settings) -> Source:
    """`list = ["a.jpg", "photos/", "sample:coffee"]`: files, folders and samples, each image once.

    Raises:
        InputError: a file or folder that is not there, or a folder without images.
        UnknownNameError: no sample of that name.
        MissingPackageError: a sample is asked for and scikit-image is not installed.
    """
    named: dict[Path, tuple[str, Path]] = {}
    taken: set[str] = set()
    for argument in settings.texts("list"):
        is_sample = argument.startswith(SAMPLE_PREFIX)
        place = argument if is_sample else expanded(argument)
        for path in _without_masks(find_photographs([place]), settings):
            if path.resolve() not in named:
                name = argument if is_sample else _relative(path, Path(place))
                named[path.resolve()] = (_unique(name, taken), path)
    if not named:
        raise InputError("list must name at least one photograph that is no mask.")
    names, files = zip(*named.values(), strict=True)
    samples = [name.removeprefix(SAMPLE_PREFIX) for name in names if name.startswith(SAMPLE_PREFIX)]
    note = "; ".join(f"{SAMPLES[name].title}: {SAMPLES[name].licence}" for name in samples)
    source = Source(of="listed photographs", items=Items(names=names, files=files), licence_note=note)
    return _with_masks(source, settings)


def masks_by_name(folder: Path) -> Callable[[Items], Items]:
    """What adds masks to photographs.

    A mask has the relative path of its photograph, up to the ending; or lies in `folder` itself and has the name of the photograph's file.

    The function that is returned raises InputError for photographs without a mask, or two masks for one photograph, or one for two.
    """
    by_name: dict[str, list[str]] = {}
    for name in files_below(folder):
        by_name.setdefault(_without_ending(name), []).append(name)

    def annotate(items: Items) -> Items:
        found = {item.name: _masks_of(item, by_name) for item in items}
        if missing := [name for name, masks in found.items() if not masks]:
            raise InputError(
                f"masks must have an image of the same name for each photograph, but '{folder}' has none for "
                f"{len(missing):,} of {len(items):,}: {few(missing)}."
            )
        owners: dict[str, str] = {}
        for name, masks in found.items():
            if len(masks) > 1:
                raise InputError(f"masks must have one image for '{name}', but has {few(masks)}.")
            if owners.setdefault(masks[0], name) != name:
                raise InputError(
                    f"masks must have one image for each photograph, but '{masks[0]}' would be for '{owners[masks[0]]}' and '{name}'; "
                    "give masks the folders of their photographs."
                )
        return replace(items, notes={name: Note(mask=folder / masks[0]) for name, masks in found.items()})

    return annotate


def masks_folder(settings: Settings) -> Path | None:
    """The folder of masks, if one is given."""
    return settings.folder("masks", what="a folder of masks") if "masks" in settings else None


def _masks_of(item: Item, by_name: Mapping[str, list[str]]) -> list[str]:
    file = "" if item.path is None else item.path.stem
    return by_name.get(_without_ending(item.name)) or by_name.get(file, [])


def _with_masks(source: Source, settings: Settings) -> Source:
    masks = masks_folder(settings)
    return source if masks is None else replace(source, evidence="masks", annotate=masks_by_name(masks))


def _without_masks(paths: Sequence[Path], settings: Settings) -> list[Path]:
    """Masks may lie in a folder among the photographs."""
    masks = masks_folder(settings)
    if masks is None:
        return list(paths)
    inside = masks.resolve()
    return [path for path in paths if inside not in path.resolve().parents]


def _relative(path: Path, place: Path) -> str:
    """As it was written; of a path from the root, or from a folder further up, the last name and what is below it."""
    if not place.is_absolute() and ".." not in place.parts:
        return path.as_posix()
    return (Path(place.resolve().name) / path.relative_to(place)).as_posix()


def _unique(name: str, taken: set[str]) -> str:
    plain, number = PurePosixPath(name), 1
    while name in taken:
        number += 1
        name = plain.with_stem(f"{plain.stem}-{number}").as_posix()
    taken.add(name)
    return name


def _without_ending(name: str) -> str:
    place, slash, _ = name.rpartition("/")
    return place + slash + stem(name)
