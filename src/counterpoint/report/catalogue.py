"""What there is to choose from, read off the registries: name, meaning, parameters, paper."""

import dataclasses
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from counterpoint import spec


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
    reference = re.search(r"^Reference: (.+?)(?:\n\s*\n|\Z)", text, re.MULTILINE | re.DOTALL)
    # A preset is a function; the class of what it makes states claim and level.
    made = make if isinstance(make, type) else type(make())
    return Entry(
        name=name,
        meaning=" ".join(text.split("\n\n")[0].split()),
        parameters=_parameters(make),
        reference=" ".join(reference[1].split()) if reference else "",
        claim=getattr(made, "claim", None),
        level=getattr(made, "level", None),
    )


def _parameters(make: Callable[..., Any]) -> dict[str, Any]:
    if not dataclasses.is_dataclass(make):
        return {}
    return {f.name: _default(f) for f in dataclasses.fields(make) if f.init and f.repr}


def _default(field: "dataclasses.Field[Any]") -> Any:
    if field.default is not dataclasses.MISSING:
        value = field.default
    elif field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    else:
        return "required"
    if dataclasses.is_dataclass(value):
        return spec.describe(value).as_dict()
    return list(value) if isinstance(value, tuple) else value
