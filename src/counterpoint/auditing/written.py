"""What an audit leaves behind, and how it is written down."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from counterpoint.files import whole_file


@dataclass(frozen=True)
class Written:
    """What an audit left behind."""

    words: tuple[str, ...]
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    legend: tuple[str, ...]
    files: tuple[Path, ...]
    facts: dict[str, Any]
    """Everything in numbers, for JSON."""
    in_files_only: tuple[str, ...] = ()
    """Headings that a terminal has no room for."""


def markdown(
    title: str,
    words: Sequence[str],
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    legend: Sequence[str],
) -> str:
    """A page: title, sentences, table, legend."""
    lines = [f"# {title}", "", *(f"- {sentence}" for sentence in words), ""]
    lines += ["| " + " | ".join(headings) + " |", "|---" * len(headings) + "|"]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([*lines, "", *(f"- {each}" for each in legend)]) + "\n"


def write_text(path: Path, text: str) -> None:
    """Beside, then renamed."""
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def finite(value: Any) -> float | None:
    """For JSON, which knows no NaN."""
    number = float(value)
    return number if number == number and abs(number) != float("inf") else None
