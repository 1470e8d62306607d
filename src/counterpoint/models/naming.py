"""What a model is called, and which names are near to one that is not there."""

import os
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import PurePath

from counterpoint.errors import UnknownNameError


def unknown_network(library: str, name: str, known: Sequence[str]) -> UnknownNameError:
    """The error for a network that a library does not have, with the names that are near."""
    lower = name.lower()
    parts = [each for each in known if lower and lower in each.lower()]
    near = list(dict.fromkeys([*get_close_matches(lower, known, n=3, cutoff=0.6), *parts]))[:5]
    hint = f"; near it: {', '.join(near)}." if near else "."
    return UnknownNameError(
        f"{library} has no network '{name}'{hint} `counterpoint models --search WORD` lists its {len(known)}."
    )


def shown_name(name: str, *, weights: str | os.PathLike[str] | None = None, random: bool = False) -> str:
    """What figures, tables and cards call a model: random weights, and a file of one's own, are part of the name."""
    if random:
        return f"{name} (random weights)"
    return name if weights is None else f"{name} ({PurePath(weights).name})"
