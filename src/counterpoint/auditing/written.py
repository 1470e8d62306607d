"""What an audit leaves behind, and how it is written down."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from counterpoint.classifier import Classifier
from counterpoint.files import whole_file
from counterpoint.report.wording import NOTHING_LEARNED


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


def model_facts(classifier: Classifier) -> dict[str, Any]:
    """Which model was audited, for JSON."""
    card = classifier.card()
    return {name: card[name] for name in ("name", "weights", "weights_sha256", "random_weights")}


def with_warning(words: Sequence[str], classifier: Classifier) -> tuple[str, ...]:
    """The sentences, and first of all that the model has learned nothing, where that is so."""
    random = classifier.card()["random_weights"]
    return (f"{classifier.name}: {NOTHING_LEARNED}.", *words) if random else tuple(words)


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
