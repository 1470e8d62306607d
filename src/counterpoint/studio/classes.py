"""Which class is meant by what somebody typed: a label, one of its synonyms, or an index; nothing else is guessed at."""

import re
from collections.abc import Sequence
from difflib import SequenceMatcher

from counterpoint.studio.refusals import Refused

LARGEST = 1_000_000
"""The largest index that a question takes, where the number of classes is not known."""
_MOST_NAMED = 5
_NEAR = 0.6


class NoSuchClass(Refused):
    """A text that stands for no class, or for several."""

    def __init__(self, words: str) -> None:
        super().__init__(422, words)


def class_sought(text: str, labels: Sequence[str]) -> int:
    """The index of the class that a text names.

    Args:
        text: An index; a label, or one of its synonyms, in any case: of "tiger cat, Felis catus" either; or both, as suggestions have it,
            "282 tiger cat".
        labels: Of the model's classes, by index; empty where it has none.

    Raises:
        NoSuchClass: it names none, or several, with the nearest labels.
    """
    sought = _plain(text)
    if re.fullmatch(r"[+-]?\d{1,30}", sought):
        return _indexed(int(sought), text, labels)
    if not labels:
        raise NoSuchClass(
            f"this model's classes have no labels, so “{text[:60]}” names none: give the number of one, from 0 on."
        )
    found = _labelled(sought, labels)
    if len(found) > 1:
        raise NoSuchClass(
            f"“{text[:60]}” names {len(found)} classes, {_listed(found, labels)}: give its number."
        )
    if found:
        return found[0]
    numbered = re.fullmatch(r"(\d{1,9}) (.+)", sought)
    if numbered is None:
        raise NoSuchClass(f"no class is called “{text[:60]}”{_near(sought, labels)}")
    return _both(int(numbered[1]), numbered[2], text, labels)


def suggestions(text: str, labels: Sequence[str], most: int) -> list[tuple[int, str]]:
    """Classes whose index and label contain a text, those that begin with it first."""
    sought = _plain(text)
    found = [(k, label) for k, label in enumerate(labels) if sought in _plain(f"{k} {label}")]
    found.sort(key=lambda each: not _plain(each[1]).startswith(sought))
    return found[:most]


def _indexed(index: int, text: str, labels: Sequence[str]) -> int:
    last = len(labels) - 1 if labels else LARGEST
    if not 0 <= index <= last:
        raise NoSuchClass(f"there is no class {text.strip()[:40]}: classes are numbered from 0 to {last}.")
    return index


def _both(index: int, name: str, text: str, labels: Sequence[str]) -> int:
    """An index with a label: both must name the same class."""
    if index < len(labels) and name in _names(labels[index]):
        return index
    own = f"class {index} is “{labels[index]}”" if index < len(labels) else f"there is no class {index}"
    others = _labelled(name, labels)
    other = f", and “{name}” is {_listed(others, labels)}." if others else _near(name, labels)
    raise NoSuchClass(f"“{text[:60]}” names no class: {own}{other}")


def _labelled(sought: str, labels: Sequence[str]) -> list[int]:
    """The classes of a whole label; where there are none, of a synonym."""
    whole = [k for k, label in enumerate(labels) if sought == _plain(label)]
    return whole or [k for k, label in enumerate(labels) if sought in _names(label)]


def _names(label: str) -> set[str]:
    """A label and its synonyms."""
    return {_plain(label), *(_plain(part) for part in label.split(","))} - {""}


def _near(sought: str, labels: Sequence[str]) -> str:
    """The nearest labels: those that contain the text, then those that are spelled like it."""
    found = [k for k, _ in suggestions(sought, labels, _MOST_NAMED)]
    matcher = SequenceMatcher(b=sought, autojunk=False)
    likeness: dict[int, float] = {}
    for k, label in enumerate(labels):
        for name in _names(label):
            matcher.set_seq1(name)
            if matcher.real_quick_ratio() >= _NEAR and matcher.quick_ratio() >= _NEAR:
                likeness[k] = max(likeness.get(k, 0.0), matcher.ratio())
    alike = sorted((k for k, ratio in likeness.items() if ratio >= _NEAR), key=lambda k: -likeness[k])
    near = list(dict.fromkeys([*found, *alike]))[:_MOST_NAMED]
    return f"; near it: {_listed(near, labels)}." if near else "; type a part of its label to see some."


def _listed(found: Sequence[int], labels: Sequence[str]) -> str:
    shown = ", ".join(f"{k} {labels[k]}" for k in found[:_MOST_NAMED])
    return shown + (", …" if len(found) > _MOST_NAMED else "")


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())
