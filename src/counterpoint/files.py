"""Files are written beside their place and then renamed, so that nothing half-written is ever found."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from counterpoint.errors import OutputError


def writable_folder(folder: str | Path) -> Path:
    """The folder, made if it is not there, after a trial write.

    Raises:
        OutputError: it cannot be made or written.
    """
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path) as trial:
            trial.write(b"\0" * 4096)
            trial.flush()
    except OSError as error:
        raise OutputError(
            f"cannot write to folder '{path}': {_reason(error)}. Choose another one with --out."
        ) from error
    return path


@contextmanager
def results_folder(folder: str | Path) -> Iterator[Path]:
    """The folder, made if it is not there, and removed again where the block leaves a new one empty.

    Raises:
        OutputError: it cannot be made or written.
    """
    path = Path(folder)
    new = not path.exists()
    writable_folder(path)
    try:
        yield path
    finally:
        if new and not any(path.iterdir()):
            path.rmdir()


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path`, renamed to it when the block ends well and removed when it does not.

    Raises:
        OutputError: the disk is full, the folder is missing or cannot be written.
    """
    target = Path(path)
    # Its suffix is kept: some writers choose the format by it.
    partial = target.with_name(f".{target.stem}.{os.getpid()}.partial{target.suffix}")
    try:
        yield partial
        os.replace(partial, target)
    except OSError as error:
        raise OutputError(f"cannot write '{target}': {_reason(error)}.") from error
    finally:
        partial.unlink(missing_ok=True)


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
