"""Find the photographs that somebody asked for: files, folders, and samples by name."""

import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from counterpoint.errors import InputError, MissingPackageError, UnknownNameError
from counterpoint.images import IMAGE_SUFFIXES

SAMPLE_PREFIX = "sample:"


@dataclass(frozen=True)
class Sample:
    """A photograph that comes with scikit-image."""

    file: str
    """Its name in scikit-image's folder of data."""
    title: str
    licence: str
    """As scikit-image states it, with whom to thank."""


# Those photographs of the package itself (not of its downloads) whose licence it states.
SAMPLES: dict[str, Sample] = {
    "astronaut": Sample("astronaut.png", "Eileen Collins, astronaut", "public domain, NASA"),
    "camera": Sample("camera.png", "A photographer and his camera", "CC0, Lav Varshney"),
    "chelsea": Sample("chelsea.png", "Chelsea the cat", "CC0, Stefan van der Walt"),
    "clock": Sample(
        "clock_motion.png", "A wall clock, blurred by motion", "public domain, Stefan van der Walt"
    ),
    "coffee": Sample(
        "coffee.png", "A cup of coffee", "CC0, Rachel Michetti, courtesy of Pikolo Espresso Bar"
    ),
    "coins": Sample(
        "coins.png", "Greek coins from Pompeii", "no known copyright restrictions, Brooklyn Museum"
    ),
    "rocket": Sample("rocket.jpg", "Falcon 9 lifts off with DSCOVR", "public domain, SpaceX"),
}


def find_photographs(arguments: Sequence[str | os.PathLike[str]]) -> list[Path]:
    """The image files that some arguments stand for, each once, in the order of the arguments.

    Args:
        arguments: Each a file; a folder, searched with the folders in it for names that end as images do,
            sorted by path, hidden ones left out; or `sample:name`, a photograph of scikit-image (see
            `SAMPLES`).

    Raises:
        InputError: no arguments, no such file or folder, or a folder without images.
        UnknownNameError: no sample of that name.
        MissingPackageError: a sample is asked for and scikit-image is not installed.
    """
    if isinstance(arguments, str):
        raise InputError(f"arguments must be a list of photographs, got one string, {arguments!r}.")
    found: dict[Path, Path] = {}
    for argument in arguments:
        for path in _paths(os.fspath(argument)):
            found.setdefault(path.resolve(), path)
    if not found:
        raise InputError("no photographs given; name image files, a folder of them, or sample:chelsea.")
    return list(found.values())


def sample_path(name: str) -> Path:
    """The file of a sample, found without running scikit-image.

    Raises:
        UnknownNameError: no sample of that name.
        MissingPackageError: scikit-image is not installed, or is a version without this photograph.
    """
    if name not in SAMPLES:
        raise UnknownNameError.among("sample", name, SAMPLES)
    spec = find_spec("skimage")
    folders = list(spec.submodule_search_locations or []) if spec is not None else []
    for folder in folders:
        file = Path(folder, "data", SAMPLES[name].file)
        if file.is_file():
            return file
    lack = "the installed version lacks it" if folders else "which is not installed"
    raise MissingPackageError(
        f"the photograph '{SAMPLE_PREFIX}{name}' comes with scikit-image, {lack}: "
        'pip install "counterpoint[demo]"'
    )


def output_names(paths: Iterable[str | os.PathLike[str]]) -> list[str]:
    """One name per path to write results under: its stem, made safe for every file system, and unique.

    Letters and digits of any script, `_`, `-` and inner dots stay; anything else becomes `_`. Names that
    differ in capitals only count as the same, as they do on macOS and Windows: later ones get `-2`, `-3` and
    so on.
    """
    names: list[str] = []
    taken: set[str] = set()
    for path in paths:
        stem = _safe(Path(path).stem)
        name, number = stem, 1
        while name.casefold() in taken:
            number += 1
            name = f"{stem}-{number}"
        taken.add(name.casefold())
        names.append(name)
    return names


def _paths(argument: str) -> Iterator[Path]:
    if argument.startswith(SAMPLE_PREFIX):
        yield sample_path(argument.removeprefix(SAMPLE_PREFIX))
        return
    path = Path(argument)
    try:
        is_folder, exists = path.is_dir(), path.exists()
    except (OSError, ValueError) as error:  # no permission, or a name that no file can have
        raise InputError(f"'{argument}' cannot be read: {error}.") from error
    if not argument or not exists:
        hint = f"; did you mean '{SAMPLE_PREFIX}{argument}'?" if argument in SAMPLES else "."
        raise InputError(f"no file or folder '{argument}'{hint}")
    if not is_folder:
        yield path
        return
    images = sorted(_images_in(path))
    if not images:
        raise InputError(f"no images in the folder '{argument}'; looked for {', '.join(IMAGE_SUFFIXES)}.")
    yield from images


def _images_in(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder, onerror=_refuse):  # links to folders are not followed
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            # A leading dot also marks the shadow files of macOS on foreign disks: ._cat.jpg is no image.
            if name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith("."):
                yield Path(place, name)


def _refuse(error: OSError) -> None:
    raise InputError(f"the folder '{error.filename}' cannot be read: {error.strerror}.") from error


def _safe(stem: str) -> str:
    plain = re.sub(r"[^\w.-]+", "_", unicodedata.normalize("NFC", stem)).strip(".-")
    # File systems allow 255 bytes; the rest is for what callers add, "-integrated_gradients.png".
    plain = plain.encode()[:120].decode(errors="ignore").rstrip(".") or "image"
    # Windows keeps these for devices, whatever comes after the first dot.
    if re.fullmatch(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", plain, re.IGNORECASE):
        return f"_{plain}"
    return plain
