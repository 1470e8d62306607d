"""What there is to choose from, as the worker tells it: methods, baselines, models and their labels."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A method or a baseline."""

    name: str
    summary: str
    parameters: Mapping[str, Any]
    """With their defaults, JSON-ready; "required" where there is none."""
    text: str
    """What to ask for: the name, or what was given on the command line."""
    reference: str = ""
    level: str | None = None
    """Of methods: "input", "layer" or "any"."""
    claim: str | None = None
    """Of methods: "shares", "rate" or "importance"."""
    fill_only: bool = False
    """Of baselines: for curves, but nothing to explain against."""
    draws: int = 1
    """Of baselines: how many images each photograph is compared with."""
    available: bool = True
    """False for one that needs a parameter which a page cannot give, such as a file."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model, or why it could not be loaded."""

    name: str
    """As on the command line, and in questions."""
    title: str
    """What it calls itself."""
    size: tuple[int, int] = (0, 0)
    """Height and width of its inputs."""
    labels: tuple[str, ...] = ()
    """Of its classes, by index; empty where it has none."""
    random_weights: bool | None = None
    error: str = ""
    """Why it could not be loaded, in words; empty where it was."""


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """Everything that pages offer."""

    methods: tuple[Choice, ...]
    baselines: tuple[Choice, ...]
    models: tuple[Model, ...]
    python_names: Mapping[str, str] = field(default_factory=dict)
    """Name in text form -> what it is called in Python: "blur" -> "cp.baselines.Blur"."""

    def model(self, name: str) -> Model | None:
        """The model of a name."""
        return next((model for model in self.models if model.name == name), None)

    def labels(self, model: str) -> tuple[str, ...]:
        """The labels of a model's classes; empty where it has none."""
        found = self.model(model)
        return () if found is None else found.labels

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)
