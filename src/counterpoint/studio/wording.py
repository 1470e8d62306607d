"""An explanation in plain sentences: only what its numbers say, in the words of somebody who looks at a photograph."""

import math
import re
from array import array
from collections.abc import Mapping, Sequence
from typing import Any

from counterpoint import numerals
from counterpoint.studio.textform import parts_of
from counterpoint.trusting.verdict import correlations

# A map that misses less than this share of its target, one way or the other, is called complete.
CLOSE = 0.05
# From so many times its target on, the sizes of a map's values cancel in its sum: it then says little about the map.
CANCELS = 100.0
# Of what speaks for the class, this share must lie in a region before a sentence names the region.
NAMED_FROM = 0.5
# Regions with their share of the picture's area: one is named if the map favours it clearly over an even spread.
_REGIONS: tuple[tuple[str, float, float, float, float], ...] = (
    ("in the upper left quarter", 0.0, 0.5, 0.0, 0.5),
    ("in the upper right quarter", 0.0, 0.5, 0.5, 1.0),
    ("in the lower left quarter", 0.5, 1.0, 0.0, 0.5),
    ("in the lower right quarter", 0.5, 1.0, 0.5, 1.0),
    ("in the middle", 0.25, 0.75, 0.25, 0.75),
    ("in the upper half", 0.0, 0.5, 0.0, 1.0),
    ("in the lower half", 0.5, 1.0, 0.0, 1.0),
    ("in the left half", 0.0, 1.0, 0.0, 0.5),
    ("in the right half", 0.0, 1.0, 0.5, 1.0),
)
_HALF_FROM = 0.65
# The map is summed in 16 x 16 squares first.
_SQUARES = 16

UNITS = {
    "logit": ("logit", "logits"),
    "probability": ("probability", "probability"),
    "log_probability": ("log-probability", "log-probability"),
    "log_odds": ("log-odds", "log-odds"),
}

_BASELINES = {
    "black": "a black image",
    "white": "a white image",
    "zero": "a mid-grey image",
    "grey": "a mid-grey image",
    "constant": "an image of one colour",
    "mean": "an image of its mean colour",
    "median": "an image of its median colour",
    "random_color": "an image of one random colour",
    "blur": "a blurred image",
    "uniform": "an image of noise",
    "normal": "an image of noise",
    "permutation": "an image of its own pixels in a random order",
    "local_mean": "a mosaic of the image",
    "local_permutation": "a mosaic of the image in a random order",
    "scramble_phase": "an image with its phases scrambled",
    "scramble_amplitude": "an image with its amplitudes scrambled",
    "nearest": "the nearest other image",
    "samples": "other images",
    "boundary": "the nearest image on the decision boundary",
    "maximum_entropy": "an image about which the model is undecided",
    "learned": "a learned image",
    "learned_per_image": "an image learned for this one",
}
_CLAIMS = {
    "rate": "The values are rates of change: how fast the score moves at a pixel, not how much of it is owed to the pixel. "
    "They have no sum to check.",
    "importance": "The values are importances without a unit. They have no sum to check.",
}
PARTS = {
    "baseline": ("other baseline", "The method compares with something else than x′."),  # noqa: RUF001 (a prime)
    "quadrature": ("quadrature", "The path was read at finitely many points."),
    "one_step": ("one step", "One gradient stands for the whole way."),
    "operator": ("operator", "Another gradient than the score's: averaged, cut at zero or smoothed."),
    "display": ("display", "Values dropped for the sake of the picture."),
}
"""The parts of the error budget: name and meaning."""


def number(value: float | None, digits: int = 3) -> str:
    """A number in three digits, unless more are asked for."""
    return numerals.number(value, digits)


def evenly(*values: float | None) -> list[str]:
    """Numbers with one count of decimals, so that a sum can be followed by eye: four digits for the largest."""
    known = [abs(value) for value in values if value is not None and math.isfinite(value)]
    largest = max(known, default=0.0)
    if not 1e-4 <= largest < 1e5:
        return [number(value) for value in values]
    decimals = max(0, 3 - math.floor(math.log10(largest)))
    plainly = [
        number(value) if value is None or not math.isfinite(value) else f"{value:.{decimals}f}"
        for value in values
    ]
    return [re.sub(r"^-(0\.?0*)$", r"\1", text).replace("-", "−") for text in plainly]  # noqa: RUF001 (a minus sign)


def percent(share: float | None) -> str:
    """A share in per cent, no digits that do not matter: "96 %", "0.9 %", "<0.01 %"."""
    if share is None or not math.isfinite(share):
        return "–"  # noqa: RUF001 (a dash)
    if 0 < share < 5e-5:
        return "<0.01 %"
    return f"{number(100 * share, 2) if share < 0.1 else number(float(round(100 * share)), 6)} %"


def baseline_text(baseline: str) -> str:
    """What the baseline is, from the form of the command line: "blur:sigma=20" is "a blurred image"."""
    name = baseline.partition(":")[0]
    return _BASELINES.get(name, f"the baseline “{plain(name)}”")


def plain(name: str) -> str:
    """A registry's name in words: "integrated gradients"."""
    return name.replace("_", " ")


def form(text: str) -> str:
    """A text form to be read: "integrated gradients: rule gauss_legendre(8)". Values stay as they are written."""
    name, _, parameters = text.partition(":")
    given = [part for part in parts_of(parameters) if not part.endswith("=none")]
    shown = ", ".join(_parameter(part) for part in given)
    return f"{plain(name)}: {shown}" if shown else plain(name)


def _parameter(part: str) -> str:
    name, equals, value = part.partition("=")
    if not equals or "(" in name:
        return part
    return f"{plain(name)} {re.sub(r'[.]0$', '', value)}"


def amount(value: float, score: str) -> str:
    """A difference of scores with its unit: "8.6 logits"."""
    one, many = UNITS.get(score, ("of the score", "of the score"))
    text = f"{value:.1f}" if 1 <= abs(value) < 100 else number(value, 2 if abs(value) < 1 else 3)
    return f"{text} {one if text == '1.0' else many}"


def sentence(answer: Mapping[str, Any]) -> str:
    """What one explanation explains, as one sentence on its numbers.

    Args:
        answer: Of a Cell: score, baseline_score, target, result, relative_error, undefined, claim, label, baseline.
    """
    against = baseline_text(answer["baseline"])
    label, kind = answer["label"], answer.get("score_kind", "logit")
    target, result = answer["target"], answer["result"]
    if answer["claim"] != "shares":
        change = (
            f"the score for “{label}” {'falls' if target >= 0 else 'rises'} by {amount(abs(target), kind)}"
        )
        return f"Against {against}, {change}. {_CLAIMS.get(answer['claim'], '')}".strip()
    if answer.get("relative_error") is None or not target:
        reason = answer.get("undefined") or "the target is too small"
        return f"Against {against} there is next to nothing to explain for “{label}”: {reason}."
    share, missing = result / target, abs(answer["relative_error"])
    what = f"the {amount(abs(target), kind)} of “{label}”"
    if target < 0:
        what = f"the {amount(abs(target), kind)} that “{label}” has less than there"
    if share < 0:
        return f"Against {against}, the map explains none of {what}: its sum has the opposite sign."
    if share > 1 + CLOSE:
        return f"Against {against}, the map explains {what}, and {percent(share - 1)} more that is not there."
    if share > 1:
        return f"Against {against}, {what} are explained with an error of {percent(missing)}."
    return f"Against {against}, {_explained(1 - missing)} of {what} is explained."


def reliance(answer: Mapping[str, Any]) -> tuple[str, str]:
    """How far the error of the sum can be relied on: its look, and what has to be known beside it.

    "alert" above 5 %, where the sum itself is far off; "guarded" where the sum is close but the map need not be: its own error is the
    larger one, or values of more than a hundred times the target cancel in it; "fine" otherwise; empty where there is no error.
    """
    error, own, cancelled = (answer.get(name) for name in ("relative_error", "value_error", "cancellation"))
    if error is None:
        return "", ""
    notes = []
    if cancelled is not None and cancelled >= CANCELS:
        notes.append(
            f"Values of {number(cancelled, 2)} times the target cancel in this sum: that it is close says little about single places."
        )
    if own is not None and own > error:
        notes.append(f"The map itself is known to about {percent(own)}, less well than its sum.")
    look = "alert" if error > CLOSE else "guarded" if notes else "fine"
    return look, " ".join(notes)


def _explained(share: float) -> str:
    """A share near 1 keeps the digits that tell it from 1."""
    if share > 0.9:
        return f"{100 * share:.1f} %" if share < 0.9995 else "all"
    return percent(share)


def where(values: Sequence[float], height: int, width: int) -> str:
    """Where what speaks for the class lies: "63 % of what speaks for it lies in the upper left quarter."; empty where nothing does.

    The map is summed in 16 x 16 squares, and positive sums count. A quarter or the middle is named from half of the total on, a half from
    65 %; otherwise none is said to dominate.

    Args:
        values: (height * width,), row by row.
        height: In pixels.
        width: In pixels.
    """
    total, shares = _regions(values, height, width)
    if total <= 0:
        return ""
    small = [each for each in shares if each[0] in _SMALL]
    best = max(small, key=lambda each: each[1])
    if best[1] >= NAMED_FROM:
        return f"{percent(best[1])} of what speaks for it lies {best[0]}."
    half = max((each for each in shares if each[0] not in _SMALL), key=lambda each: each[1])
    if half[1] >= _HALF_FROM:
        return f"{percent(half[1])} of what speaks for it lies {half[0]}."
    return "No quarter or half of the picture dominates."


_SMALL = {name for name, top, bottom, left, right in _REGIONS if (bottom - top) * (right - left) <= 0.25}


def _regions(values: Sequence[float], height: int, width: int) -> tuple[float, list[tuple[str, float]]]:
    """What speaks for the class, in squares, and the share of it in each region."""
    cells = [[0.0] * _SQUARES for _ in range(_SQUARES)]
    edges = [k * width // _SQUARES for k in range(_SQUARES + 1)]
    for row in range(height):
        line = values[row * width : (row + 1) * width]
        into = cells[row * _SQUARES // height]
        for k in range(_SQUARES):
            into[k] += sum(line[edges[k] : edges[k + 1]])
    # Neighbouring pixels cancel: what a square speaks for is what is left of them.
    kept = [[max(0.0, value) for value in row] for row in cells]
    total = math.fsum(map(math.fsum, kept))
    if not math.isfinite(total) or total <= 0:
        return 0.0, []
    found = []
    for name, top, bottom, left, right in _REGIONS:
        rows = kept[int(_SQUARES * top) : int(_SQUARES * bottom)]
        columns = slice(int(_SQUARES * left), int(_SQUARES * right))
        found.append((name, math.fsum(math.fsum(row[columns]) for row in rows) / total))
    return total, found


def floats(data: bytes) -> "array[float]":
    """Little-endian float32 numbers from bytes, as map.f32 holds them."""
    import sys

    numbers = array("f")
    numbers.frombytes(data)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def unit(answer: Mapping[str, Any], *, one: bool = False) -> str:
    """The unit of a score: "logits", or "logit" before "per"."""
    return UNITS.get(answer.get("score_kind", "logit"), ("score", "score"))[0 if one else 1]


def cost(cost: Mapping[str, Any]) -> str:
    """What an explanation cost: "57 gradients, 2 forwards, 3.1 s"."""
    parts = []
    for kind in ("gradients", "forwards"):
        if count := cost.get(kind):
            parts.append(f"{count} {kind if count != 1 else kind[:-1]}")
    if (seconds := cost.get("seconds")) is not None:
        parts.append(f"{number(seconds, 2)} s")
    return ", ".join(parts) or "none"


def pathway(answer: Mapping[str, Any]) -> str:
    """What the activation deviation of a map says beside that of random masks."""
    sentences = []
    for kind, numbers in answer["kinds"].items():
        mean, floor = numbers.get("mean"), numbers.get("mean_floor")
        if mean is None or floor is None:
            continue
        beside = "less than" if mean < floor else "more than" if mean > floor else "as much as"
        sentences.append(
            f"On {kind}, {percent(mean)} of the layers' activity lies beyond the original's, {beside} the {percent(floor)} of random masks."
        )
    return " ".join(sentences)


def random_weights(answer: Mapping[str, Any]) -> str:
    """What is left of a map when all weights are random."""
    last = answer["steps"][-1] if answer["steps"] else {}
    numbers = [last.get("spearman"), last.get("absolute_spearman")]
    if all(number is None for number in numbers):
        return "With random weights the map becomes constant: there is nothing to compare."
    return f"With all {answer['layers']} layers random, the rank correlation with the map as it was is {correlations(*numbers)}."
