"""How far a map can be trusted: words with their reasons, from the numbers alone."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

Check = Literal["error", "curves", "pathway", "weights"]
CHECKS: tuple[Check, ...] = ("error", "curves", "pathway", "weights")

Standing = Literal["good", "doubtful", "bad", "unknown"]

# Thresholds are ours: conventions to decide by, not laws.
ERROR_GOOD, ERROR_BAD = 0.05, 0.20
"""Relative error: up to the first the map explains its target, above the second it does not."""
GAIN_MARGIN = 0.05
"""A map beats chance where its insertion area minus its deletion area exceeds a random map's by this share of |f(x) - f(x')|."""
PATHWAY_GOOD, PATHWAY_BAD = 1.1, 1.5
"""Excess activation over that of random masks of the same areas."""
SANITY_GOOD, SANITY_BAD = 0.3, 0.6
"""Rank correlation with the map of a model whose weights are all random: of the values or of their sizes, whichever is larger."""
FAR = 0.5
"""A curve says little where more than this share of its images is further out than 95 % of real photographs."""

MARKS: dict[Standing, str] = {"good": "✓", "doubtful": "!", "bad": "✗", "unknown": "?"}
"""A sign for each, told apart by its shape."""

_WORDS: dict[Standing, str] = {
    "good": "This map can be trusted, as far as these checks go.",
    "doubtful": "Trust this map with care: not every check speaks for it.",
    "bad": "Do not rely on this map: it fails a check.",
    "unknown": "Too little is known to trust this map or not.",
}


@dataclass(frozen=True, kw_only=True)
class Reason:
    """What one check says."""

    check: Check | Literal["distribution"]
    standing: Standing
    words: str
    value: float | None = None
    """The number that decided."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What all checks say together."""

    standing: Standing
    words: str
    reasons: tuple[Reason, ...]

    def as_dict(self) -> dict[str, Any]:
        """As plain data, with the thresholds that decided."""
        return {
            **asdict(self),
            "reasons": [asdict(reason) for reason in self.reasons],
            "thresholds": THRESHOLDS,
        }


THRESHOLDS: dict[str, float | list[float]] = {
    "relative_error": [ERROR_GOOD, ERROR_BAD],
    "gain_margin": GAIN_MARGIN,
    "pathway": [PATHWAY_GOOD, PATHWAY_BAD],
    "weights": [SANITY_GOOD, SANITY_BAD],
    "far": FAR,
}


def verdict(parts: Mapping[Check, Mapping[str, Any] | None], missing: Mapping[Check, str]) -> Verdict:
    """The verdict on a map.

    Bad beats doubtful beats good; good needs two checks that say so.

    Args:
        parts: What each check found, as plain data without NaN; None, or not there, for one that was not made. "error": the attribution's
            claim, relative_error, undefined and error_is_forced. "curves": see `curve_facts`, of the map and of a random one, in this
            order. "pathway": see `pathway_facts`. "weights": see `weight_facts`.
        missing: Why there is none, by the same names.
    """
    error, curves, pathway, weights = (parts.get(name) for name in CHECKS)
    reasons = [_of_error(error) if error else _unknown("error", missing.get("error"))]
    reasons += _of_curves(curves) if curves else [_unknown("curves", missing.get("curves"))]
    reasons.append(_of_pathway(pathway) if pathway else _unknown("pathway", missing.get("pathway")))
    reasons.append(_of_weights(weights) if weights else _unknown("weights", missing.get("weights")))
    standing = overall(reason.standing for reason in reasons)
    return Verdict(standing=standing, words=_WORDS[standing], reasons=tuple(reasons))


def overall(standings: Iterable[Standing]) -> Standing:
    """Bad beats doubtful beats good; good needs two checks that say so."""
    every = list(standings)
    if "bad" in every:
        return "bad"
    if "doubtful" in every:
        return "doubtful"
    return "good" if every.count("good") >= 2 else "unknown"


def _unknown(check: Any, reason: str | None) -> Reason:
    return Reason(check=check, standing="unknown", words=f"Not known: {reason or 'it was not asked'}")


def _of_error(found: Mapping[str, Any]) -> Reason:
    error = found.get("relative_error")
    if found.get("claim") != "shares":
        words = "Its values are no shares of the score, so there is no sum to check."
        return Reason(check="error", standing="unknown", words=words)
    if found.get("error_is_forced"):
        words = "The method sets its sum to the target by itself, so a small error proves nothing."
        return Reason(check="error", standing="unknown", words=words)
    if error is None:
        reason = found.get("undefined") or "the target is too small"
        return Reason(check="error", standing="unknown", words=f"The error cannot be judged: {reason}.")
    standing = _between(error, ERROR_GOOD, ERROR_BAD)
    means: dict[Standing, str] = {
        "good": "the map accounts for nearly all of what it had to explain",
        "doubtful": "a part of what it had to explain is not accounted for",
        "bad": "much of what it had to explain is not accounted for",
    }
    words = f"Its error is {_percent(error)} of the target: {means[standing]}."
    return Reason(check="error", standing=standing, words=words, value=error)


def _of_curves(curves: Mapping[str, Any]) -> list[Reason]:
    names: list[str] = curves["baselines"]
    found = {(line["kind"], line["cell"], line["baseline"]): line for line in curves["curves"]}
    margins = [_margin(found, b) for b in range(len(names))]
    known = [(name, margin) for name, margin in zip(names, margins, strict=True) if margin is not None]
    if not known:
        return [_unknown("curves", "the score does not change between the photograph and these baselines.")]
    beats = [name for name, margin in known if margin > GAIN_MARGIN]
    share = len(beats) / len(known)
    standing: Standing = "good" if share == 1 else "bad" if share == 0 else "doubtful"
    rest = [name for name, _ in known if name not in beats]
    words = {
        "good": f"Its insertion and deletion curves beat those of a random map under every baseline ({', '.join(beats)}).",
        "doubtful": f"Its curves beat those of a random map under {', '.join(beats)}, but not under {', '.join(rest)}: "
        "the baseline decides.",
        "bad": f"Its curves are no better than those of a random map under any baseline ({', '.join(rest)}).",
    }[standing]
    reasons = [Reason(check="curves", standing=standing, words=words, value=share)]
    far = [name for b, name in enumerate(names) if _is_far(found, b)]
    if far:
        words = (
            f"Under {', '.join(far)} most images on the way are further from real photographs than 95 % of these are: "
            "what the model says of them says little of the map."
        )
        reasons.append(Reason(check="distribution", standing="doubtful", words=words))
    return reasons


def _margin(found: Mapping[tuple[str, int, int], Mapping[str, Any]], b: int) -> float | None:
    """How much the map's gain exceeds that of the control, as a share of how far the score falls; None where that is nothing."""
    if ("deletion", 1, b) not in found:
        return None
    line = found["deletion", 0, b]
    first, last = line["scores"][0], line["scores"][-1]
    if first is None or last is None or math.isclose(first, last, rel_tol=1e-3, abs_tol=1e-9):
        return None
    gains = [found["insertion", cell, b]["area"] - found["deletion", cell, b]["area"] for cell in (0, 1)]
    # Where the baseline scores higher than the photograph, a good map makes the score rise.
    return float((gains[0] - gains[1]) / (first - last))


def _is_far(found: Mapping[tuple[str, int, int], Mapping[str, Any]], b: int) -> bool:
    beyond: list[bool] = []
    for kind in ("deletion", "insertion"):
        far = found[kind, 0, b].get("out_of_distribution") or {}
        beyond += far.get("beyond_limit") or []
    return bool(beyond) and sum(beyond) > FAR * len(beyond)


def _of_pathway(found: Mapping[str, Any]) -> Reason:
    kinds = found["kinds"].values()
    floors = [kind["mean_floor"] for kind in kinds]
    means = [kind["mean"] for kind in kinds]
    if not floors or any(number is None for number in [*floors, *means]) or sum(floors) <= 0:
        return _unknown("pathway", "random masks move no activation, so there is nothing to compare with.")
    ratio = sum(means) / sum(floors)
    standing = _between(ratio, PATHWAY_GOOD, PATHWAY_BAD)
    means_words: dict[Standing, str] = {
        "good": "the network reads its most relevant pixels with the units that it uses on the photograph",
        "doubtful": "its most relevant pixels wake units that the photograph does not",
        "bad": "its most relevant pixels work through other units than the photograph does",
    }
    words = f"Excess activation is {ratio:.2f} times that of random masks of the same size: {means_words[standing]}."
    return Reason(check="pathway", standing=standing, words=words, value=ratio)


def _of_weights(found: Mapping[str, Any]) -> Reason:
    last = found["steps"][-1] if found["steps"] else {}
    numbers = [last.get("spearman"), last.get("absolute_spearman")]
    known = [abs(number) for number in numbers if number is not None]
    if not known:
        return _unknown("weights", "the map of the random model is constant.")
    alike = max(known)
    standing = _between(alike, SANITY_GOOD, SANITY_BAD)
    means: dict[Standing, str] = {
        "good": "it shows what the model has learned",
        "doubtful": "a part of it comes from the photograph or the architecture, not from what was learned",
        "bad": "it hardly depends on what the model has learned",
    }
    words = f"With all weights random its rank correlation with itself is {correlations(*numbers, decides=True)}: {means[standing]}."
    return Reason(check="weights", standing=standing, words=words, value=alike)


def correlations(of_values: float | None, of_sizes: float | None = None, *, decides: bool = False) -> str:
    """The two rank correlations of maps in words: "0.00 of the values and 0.43 of their sizes".

    Args:
        of_values: None where it is not known, as of a constant map.
        of_sizes: Of the magnitudes.
        decides: Say which is the larger one, signs aside, where they differ.
    """
    named = [
        (number, name)
        for number, name in ((of_values, "of the values"), (of_sizes, "of their sizes"))
        if number is not None
    ]
    differ = len({_two_decimals(abs(number)) for number, _ in named}) > 1
    deciding = max(named, key=lambda each: abs(each[0]))[1] if decides and differ else ""
    return " and ".join(
        f"{_two_decimals(number)} {name}{' (which decides)' if name == deciding else ''}"
        for number, name in named
    )


def _two_decimals(number: float) -> str:
    return "0.00" if abs(number) < 0.005 else f"{number:.2f}".replace("-", "−")  # noqa: RUF001 (a minus sign)


def _between(number: float, good: float, bad: float) -> Standing:
    return "good" if number <= good else "doubtful" if number <= bad else "bad"


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.0f} %"
