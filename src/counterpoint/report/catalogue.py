"""What there is to choose from, read off the registries: name, meaning, parameters, paper."""

import dataclasses
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from counterpoint import spec
from counterpoint.errors import CounterpointError


@dataclass(frozen=True)
class Entry:
    """One method or baseline."""

    name: str
    meaning: str
    """The first line of its docstring."""
    parameters: Mapping[str, Any]
    """With their defaults, JSON-ready; "required" where there is none."""
    reference: str
    """The paragraph "Reference:" of its docstring."""
    formula: str | None = None
    """Of methods: the paragraph "Formula:" of its docstring."""
    claim: str | None = None
    """Of methods: what their values say they are."""
    level: str | None = None
    """Of methods: where they work."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON; what does not apply is left out."""
        return {key: value for key, value in dataclasses.asdict(self).items() if value is not None}

    @property
    def usage(self) -> str:
        """The form that the command line takes, defaults filled in."""
        given = {name: value for name, value in self.parameters.items() if value not in (None, "required")}
        return spec.Description(self.name, given, 1).text


def entries(kind: spec.Kind) -> list[Entry]:
    """Everything in the registry of a kind, in its order."""
    return [_entry(name, make) for name, make in spec.registry(kind).items()]


def _entry(name: str, make: Callable[..., Any]) -> Entry:
    text = inspect.cleandoc(make.__doc__ or "")
    made = _example(make)
    return Entry(
        name=name,
        meaning=" ".join(text.split("\n\n")[0].split()),
        parameters=_parameters(make, made),
        reference=_paragraph(text, "Reference") or "",
        formula=_paragraph(text, "Formula"),
        claim=getattr(made, "claim", None),
        level=getattr(made, "level", None),
    )


def _paragraph(text: str, title: str) -> str | None:
    found = re.search(rf"^{title}: (.+?)(?:\n\s*\n|\Z)", text, re.MULTILINE | re.DOTALL)
    return " ".join(found[1].split()) if found else None


def _example(make: Callable[..., Any]) -> Any:
    """One with its usual parameters, since some state claim and level by these; the class where a parameter must be given."""
    try:
        return make()
    except (CounterpointError, TypeError):
        return make


def _parameters(make: Callable[..., Any], example: Any) -> dict[str, Any]:
    """What can be set; of a preset nothing."""
    if not dataclasses.is_dataclass(make):
        return {}
    # As the example has them: a default of none may stand for a number.
    given = {} if isinstance(example, type) else spec.describe(example).parameters
    return {
        f.name: given.get(f.name, "required" if f.default is dataclasses.MISSING else f.default)
        for f in dataclasses.fields(make)
        if f.init and f.repr
    }
