"""Numbers and names as a reader sees them, the same in figures and tables."""

import math
import re
from collections.abc import Mapping

from counterpoint.numerals import number as number
from counterpoint.protocols import Claim
from counterpoint.spec import Description, is_object, unusual

UNITS = {
    "logit": "logit",
    "probability": "probability",
    "log_probability": "log-probability",
    "log_odds": "log-odds",
    "contrast": "logit difference",
    "label_probability": "probability",
    "region_mean_logit": "mean logit",
    "region_sum_logit": "logit × px",  # noqa: RUF001 (a multiplication sign)
    "region_mean_probability": "mean probability",
    "region_sum_probability": "probability × px",  # noqa: RUF001
    "cosine_similarity": "cosine",
    "dot_similarity": "dot product",
    "callable": "score",
}
CLAIMS: dict[Claim, str] = {
    "shares": "shares of the target, so their sum is checked",
    "rate": "rates of change, so they have no sum to check",
    "importance": "importances without a unit, so they have no sum to check",
}

NOTHING_LEARNED = "its weights are random: this explains a network that has learned nothing"
"""What is said of models with random weights."""

# What the two ends of a map's scale mean: only shares speak for or against a class.
ENDS: dict[Claim, tuple[str, str]] = {
    "shares": ("speaks against", "speaks for"),
    "rate": ("more lowers f", "more raises f"),
    "importance": ("below zero", "important"),
}


def percent(share: float | None) -> str:
    """A share in per cent: two digits, and no false precision at either end."""
    if share is None or not math.isfinite(share):
        return "–"  # noqa: RUF001
    if 0 < share < 5e-5:
        return "<0.01 %"
    return f"{number(100 * share, 2) if share < 0.995 else number(float(round(100 * share)), 6)} %"


def runs_text(cost: Mapping[str, int]) -> str:
    """What an explanation cost: "57 gradients, 2 forwards"."""
    parts = [f"{cost[kind]} {kind}" for kind in ("gradients", "forwards") if cost[kind]]
    return ", ".join(parts) or "none"


def name_text(description: Description) -> str:
    """The name in words: "integrated gradients"."""
    return description.name.rpartition(".")[2].replace("_", " ")


def parameters_text(description: Description) -> str:
    """The parameters in words, those that are none left out: "sigma 10, seed 0"."""
    text = command_text(description).partition(":")[2]
    return text.replace("=", " ").replace(",", ", ")


def command_text(description: Description) -> str:
    """Name and parameters as the command line takes them, those that are none left out: "blur:sigma=10"."""
    given = {name: value for name, value in description.parameters.items() if value is not None}
    text = Description(description.name, given, description.version).text
    return re.sub(r"\.0(?=[,)]|$)", "", text)


def telling(baseline: Description) -> Description:
    """The baseline with the parameters worth showing: one or two always (a blur needs its sigma), of more the unusual ones; the same
    for a baseline that is a parameter."""
    few = baseline if len(baseline.parameters) <= 2 else unusual("baseline", baseline)
    parameters = {
        name: {**value, "parameters": telling(Description(**value)).parameters} if is_object(value) else value
        for name, value in few.parameters.items()
    }
    return Description(few.name, parameters, few.version)
