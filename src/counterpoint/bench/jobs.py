"""What workers are handed, and what they hand back: plain data, so that it can go anywhere."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from counterpoint.bench.questions import Question
from counterpoint.bench.spec import BenchSpec, ModelPart
from counterpoint.classifier import Classifier
from counterpoint.data.datasets import DataSet, Item

Row = dict[str, Any]
"""Of one of the tables: column -> value."""


@dataclass(frozen=True)
class Task:
    """What is lacking of the answer to one question about one image."""

    question: int
    explain: bool
    """Whether the row of the map itself is lacking."""
    measures: tuple[tuple[str, str], ...]
    """(metric, evaluation baseline) of the measures that are."""


@dataclass(frozen=True)
class Job:
    """The tasks of one image and one model: what a worker is handed at once."""

    model: int
    item: Item
    position: int
    sha256: str
    gallery: bool
    """Whether small pictures are kept."""
    tasks: tuple[Task, ...]
    attempt: int = 1


@dataclass(frozen=True)
class Done:
    """What came of a job: rows for the tables, files for the folder."""

    rows: Mapping[str, list[Row]]
    files: Mapping[str, bytes] = field(default_factory=dict)
    """Path in the folder -> content."""
    failed: int = 0


@dataclass(frozen=True)
class Setup:
    """What every worker needs; plain data but for `models`, which only work in process."""

    spec: BenchSpec
    questions: tuple[Question, ...]
    data: DataSet
    """Without its items: each job brings its own."""
    bank: tuple[Item, ...]
    run: str
    engine: str
    models: Mapping[str, Classifier] = field(default_factory=dict)
    """Live models by name."""

    def part(self, model: int) -> ModelPart:
        """The settings of a model."""
        return self.spec.model[model]


def image_key(spec: BenchSpec, sha256: str, label: object) -> str:
    """What stands for an image in keys: its content, and its label where that decides what is explained."""
    return f"{sha256} {label}" if spec.explain.target == "label" else sha256
