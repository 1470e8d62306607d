"""What controls offer: baselines, methods in groups, and the parameters that can be typed in."""

from collections.abc import Sequence
from typing import Any

from counterpoint.studio.catalogue import Catalogue, Choice
from counterpoint.studio.pages.views import parameters_of

GROUPS = {"shares": "shares of the score", "rate": "rates of change", "importance": "importances"}
"""Claim -> the name of the group: what the values of its methods say they are."""
Field = tuple[str, str, str]
"""Name, what is typed in, and what is usual."""


def baselines(
    catalogue: Catalogue | None, chosen: Sequence[str] = (), *, fills: bool = False
) -> list[Choice]:
    """The baselines that can be chosen; while the catalogue is loading, those that are chosen already.

    Args:
        catalogue: None while it is loading.
        chosen: Text forms.
        fills: Also those that serve curves only.
    """
    if catalogue is None:
        return _known(chosen, "")
    return [each for each in catalogue.baselines if each.available and (fills or not each.fill_only)]


def methods(catalogue: Catalogue | None, chosen: Sequence[str] = ()) -> list[Choice]:
    """The methods that can be chosen; while the catalogue is loading, those that are chosen already."""
    if catalogue is None:
        return _known(chosen, "shares")
    return [each for each in catalogue.methods if each.available]


def _known(texts: Sequence[str], claim: str) -> list[Choice]:
    names = dict.fromkeys(text.partition(":")[0] for text in texts)
    return [Choice(name=name, text=name, summary="", parameters={}, claim=claim) for name in names]


def grouped(choices: Sequence[Choice]) -> list[tuple[str, list[Choice]]]:
    """Methods by what their values say they are."""
    found = [(title, [each for each in choices if each.claim == claim]) for claim, title in GROUPS.items()]
    return [(title, group) for title, group in found if group]


def chosen(choices: Sequence[Choice], text: str) -> Choice | None:
    """The choice that a text form names: one of the command line's own, or by its name."""
    exact = next((each for each in choices if each.text == text), None)
    return exact or next((each for each in choices if each.name == text.partition(":")[0]), None)


def fields(choices: Sequence[Choice], text: str) -> list[Field]:
    """The parameters of a choice that can be typed in, with what `text` gives them."""
    choice = chosen(choices, text)
    if choice is None or choice.text != choice.name:
        return []
    given = parameters_of(text)
    return [
        (name, given.get(name, ""), _plain(value))
        for name, value in choice.parameters.items()
        if name in given or not isinstance(value, list | dict | tuple)
    ]


def _plain(value: Any) -> str:
    match value:
        case None:
            return "none"
        case bool():
            return str(value).lower()
        case float():
            return f"{value:g}"
    return str(value)
