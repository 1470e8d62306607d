"""The error budget as a bar: what is explained, then what is missing up to the target, then what lies beyond it."""

from collections.abc import Mapping
from dataclasses import dataclass

from counterpoint.studio.wording import PARTS, number, percent

# Of the target; what is smaller is rounding.
_ROUNDING = 1e-6
_WIDTH = 1000.0
# What is there is seen.
_LEAST = 3.0


@dataclass(frozen=True)
class Part:
    """One part of the error."""

    name: str
    meaning: str
    text: str
    share: str
    """Of the target, in per cent."""
    colour: int
    x: float
    width: float


@dataclass(frozen=True)
class Bar:
    """The target and the parts of the error on one scale, 0 to 1000."""

    parts: tuple[Part, ...]
    explained: tuple[float, float]
    """Where what is explained, and belongs to the target, begins, and how wide it is."""
    target: float
    """Where the target ends."""
    low: str
    high: str


def bar_of(budget: Mapping[str, float | None], target: float, result: float, *, unit: str) -> Bar:
    """The bar of an error budget.

    Args:
        budget: Part -> its signed share of the error, in units of the score.
        target: f(x) - f(x').
        result: The sum of the map.
        unit: Of the score.
    """
    turned = -1.0 if target < 0 else 1.0
    floor = _ROUNDING * max(1.0, abs(target))
    kept = {
        name: turned * value
        for name in PARTS
        if (value := budget.get(name)) is not None and abs(value) > floor
    }
    missing = sum(value for value in kept.values() if value > 0)
    beyond = -sum(value for value in kept.values() if value < 0)
    size = abs(target)
    start = min(0.0, size - missing)
    scale = _WIDTH / ((size + beyond - start) or 1.0)
    left, right, parts = (size - missing - start) * scale, (size - start) * scale, []
    for colour, (name, value) in enumerate(kept.items()):
        width = max(_LEAST, abs(value) * scale)
        if value > 0:
            x, left = left, left + abs(value) * scale
        else:
            x, right = right, right + abs(value) * scale
        title, meaning = PARTS[name]
        parts.append(
            Part(
                name=title,
                meaning=meaning,
                text=("+" if turned * value > 0 else "") + number(turned * value),
                share=percent(abs(value) / size) if size else "",
                colour=colour,
                x=round(min(x, _WIDTH - width), 2),
                width=round(width, 2),
            )
        )
    own = max(0.0, size - missing)
    return Bar(
        parts=tuple(parts),
        explained=(round(-start * scale, 2), round(own * scale, 2)),
        target=round((size - start) * scale, 2),
        low=f"the map's sum: {number(result)}",
        high=f"the target: {number(target)} {unit}",
    )
