"""Photographs one after another.

The first photograph that can be read settles whether the question makes sense: whatever is wrong with model, target, baseline or layer ends
the work there, before anything long was done. From then on a photograph that fails is recorded, and the rest goes on.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from counterpoint import progress
from counterpoint.errors import CounterpointError, ImageError, NotFiniteError, OutputError

Answer = TypeVar("Answer")


@dataclass(frozen=True, kw_only=True)
class Failed:
    """A photograph that could not be answered for."""

    photograph: Path
    error: CounterpointError


def one_by_one(
    paths: Sequence[Path], names: Sequence[str], answer: Callable[[Path, str], Answer]
) -> list[Answer | Failed]:
    """One result for each photograph, in their order.

    Args:
        paths: Image files.
        names: What the files of each are called, without an ending.
        answer: Of one photograph, from its path and name.

    Raises:
        CounterpointError: the question makes no sense for the first photograph that can be read.
        OutputError: nothing can be written.
    """
    results: list[Answer | Failed] = []
    sensible = False
    for k, (path, name) in enumerate(zip(paths, names, strict=True)):
        with progress.stage(k, k + 1, len(paths)):
            try:
                results.append(answer(path, name))
                sensible = True
            except (OutputError, MemoryError):
                raise
            except CounterpointError as error:
                if not (isinstance(error, ImageError | NotFiniteError) or sensible):
                    raise
                results.append(Failed(photograph=path, error=error))
    return results
