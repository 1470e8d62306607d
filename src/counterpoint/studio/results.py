"""Results given on the command line: a benchmark's folder, or one saved attribution. The worker reads them."""

from pathlib import Path

from counterpoint.errors import InputError

MANIFEST = "manifest.json"


def check_results(path: Path) -> None:
    """Raise unless it looks like results.

    Raises:
        InputError: no such file or folder, or a folder without a benchmark.
    """
    if path.is_file() or (path.is_dir() and (path / MANIFEST).is_file()):
        return
    what = f"holds no {MANIFEST}" if path.is_dir() else "does not exist"
    raise InputError(
        f"--results must be what `counterpoint bench` wrote, or a saved attribution (.safetensors), but '{path}' {what}."
    )


def stamp_of(path: Path) -> list[int]:
    """How many files there are, and how large: changes while a benchmark runs."""
    files = [path] if path.is_file() else [path / MANIFEST, *path.glob("*/parts/part-*.parquet")]
    sizes = [file.stat().st_size for file in files if file.exists()]
    return [len(sizes), sum(sizes)]
