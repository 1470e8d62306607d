"""What the figure of an explanation says: which panels, which numbers, which scale. How it is drawn stands in drawing.py."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from counterpoint import spec
from counterpoint.attribution import Attribution
from counterpoint.baselines import Blur
from counterpoint.errors import ShapeError
from counterpoint.layer_baseline import FEATURES_OF_THE_BASELINE
from counterpoint.protocols import Baseline
from counterpoint.report.card import describe_result
from counterpoint.report.scale import scale_end
from counterpoint.report.wording import (
    CLAIMS,
    ENDS,
    UNITS,
    name_text,
    number,
    parameters_text,
    percent,
    runs_text,
    telling,
)

# The ends of the colour scale lie where all but this share of the pixels are inside: one speck must not pale the rest.
# Pixel maps are speckled. Drawn with this blur, as a share of the shorter side (3 px of 224), they can be read; it is always named.
_SMOOTH_SHARE = 3.0 / 224.0
# From this side on, amounts are given for squares of 10 x 10 pixels: for single pixels the numbers are too small to grasp.
_SQUARES_FROM = 64
# A relative error above this is set in bold.
_LARGE_ERROR = 0.05

# What a layer's features are compared with unless somebody asked for something else: not worth a line.
_USUAL = ("features of the baseline",)

Fact = tuple[str, str, bool]
"""Name, value, and whether it deserves attention."""
_Found = tuple[Attribution, dict[str, Any]]


@dataclass(frozen=True, eq=False)
class Panel:
    """One map with its numbers; instead of the map the reason why there is none."""

    heat: Float[Tensor, "height width"] | None
    reason: str
    facts: tuple[Fact, ...]


@dataclass(frozen=True, eq=False)
class Row:
    """One method at one layer, against each baseline, on one colour scale."""

    title: str
    lines: tuple[str, ...]
    limit: float
    unit: str
    ends: tuple[str, str]
    """What the two ends of the scale mean."""
    remarks: tuple[str, ...]
    panels: tuple[Panel | None, ...]


@dataclass(frozen=True, eq=False)
class Column:
    """One baseline."""

    title: str
    picture: Float[Tensor, "height width color"] | None
    reason: str
    facts: tuple[Fact, ...]


@dataclass(frozen=True, eq=False)
class Sheet:
    """All that a figure says."""

    title: str
    subtitle: str
    photograph: Column
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    note: str


def sheet_of(
    attributions: Sequence[Attribution],
    inputs: Tensor,
    image: int,
    caption: str,
    note: str,
    smooth: float | None,
) -> Sheet:
    facts = [describe_result(one, image=image) for one in attributions]
    columns: dict[str, Attribution] = {}
    rows: dict[tuple[str, ...], list[_Found]] = {}
    for one, fact in zip(attributions, facts, strict=True):
        # The baseline's own score stands below its picture, so it is taken from an answer that has it.
        key = fact["baseline"]["fingerprint"]
        if key not in columns or (_has_own_start(columns[key]) and not _has_own_start(one)):
            columns[key] = one
        place = (fact["method"]["fingerprint"], one.layer, one.layer_baseline, one.cut)
        rows.setdefault(place, []).append((one, fact))
    first = attributions[0]
    unit = UNITS.get(str(first.question.get("score")), "score")
    classes, labels = first.question.get("class_target"), first.question.get("label")
    index = None if classes is None else classes[image]
    name = labels[image] if labels is not None else "this score" if index is None else f"class {index}"
    details = [caption, "" if index is None or labels is None else f"class {index}", f"score: {unit}"]
    return Sheet(
        title=f"Why “{name}”, compared with what?"
        if index is not None
        else "Why this score, compared with what?",
        subtitle="  ·  ".join(part for part in details if part),
        photograph=Column(
            title="photograph",
            picture=picture_of(inputs),
            reason="",
            facts=((f"f(x), {unit}", number(facts[0]["score"]), False),),
        ),
        columns=tuple(_column(one, inputs, image) for one in columns.values()),
        rows=tuple(
            _row([_against(key, found) for key in columns], inputs, image, unit, smooth)
            for found in rows.values()
        ),
        note=note,
    )


def _has_own_start(attribution: Attribution) -> bool:
    """Whether f(x') is not the score of the baseline, but that of something put in at the layer."""
    return attribution.cut == "partial" or attribution.layer_baseline != FEATURES_OF_THE_BASELINE


def _against(fingerprint: str, found: Sequence[_Found]) -> _Found | None:
    return next((pair for pair in found if pair[1]["baseline"]["fingerprint"] == fingerprint), None)


def _column(attribution: Attribution, inputs: Tensor, image: int) -> Column:
    description = telling(spec.describe(attribution.baseline))
    parameters = parameters_text(description)
    picture, reason, draws = None, "not drawn: only its description was saved", 1
    if isinstance(attribution.baseline, Baseline) and attribution.baseline.without_image:
        reason = f"not drawn: {attribution.baseline.without_image}"
    elif isinstance(attribution.baseline, Baseline):
        # The same alone as in the batch, which every baseline promises.
        drawn, reason = attribution.baseline(inputs), ""
        picture = picture_of(drawn if drawn.ndim == inputs.ndim else drawn[0])
        draws = attribution.baseline.draws
    whose = "score of this baseline" if draws == 1 else f"mean of {draws} draws"
    if _has_own_start(attribution):
        whose = "with z′ put in at the layer"  # noqa: RUF001
    return Column(
        title=f"against {name_text(description)}" + (f" ({parameters})" if parameters else ""),
        picture=picture,
        reason=reason,
        facts=((f"f(x′), {whose}", number(float(attribution.baseline_score[image])), False),),  # noqa: RUF001
    )


def _row(
    found: Sequence[_Found | None],
    inputs: Tensor,
    image: int,
    unit: str,
    smooth: float | None,
) -> Row:
    first = next(one for one, _ in filter(None, found))
    size = min(inputs.shape[2:])
    sigma = smooth if smooth is not None else (size * _SMOOTH_SHARE if first.layer == "input" else 0.0)
    squares = first.claim == "shares" and size >= _SQUARES_FROM
    panels = tuple(
        None if pair is None else _panel(*pair, image, sigma=sigma, factor=100.0 if squares else 1.0)
        for pair in found
    )
    heats = [panel.heat.abs().flatten() for panel in panels if panel is not None and panel.heat is not None]
    limit, remarks = 0.0, []
    if heats:
        every = torch.cat(heats)
        limit = _rounded_up(scale_end(every))
        beyond = float((every > limit).double().mean())
        if sigma > 0:
            remarks.append(f"Drawn smoothed by {number(sigma, 2)} px; the values are not.")
        if beyond > 0:
            remarks.append(f"{percent(beyond)} of the pixels lie beyond the scale.")
        if limit == 0.0:
            remarks.append("All values are zero.")
    # Few of a method's parameters are set by anybody: the card has them all.
    description = spec.unusual("method", spec.describe(first.method))
    return Row(
        title=name_text(description),
        lines=tuple(
            line
            for line in (
                parameters_text(description),
                "at the input (pixels)" if first.layer == "input" else f"at layer {first.layer}",
                "" if first.layer_baseline in _USUAL else f"compared with {first.layer_baseline}",
                "an intervention: a skip connection passes this layer by" if first.cut == "partial" else "",
                f"Values are {CLAIMS[first.claim]}.",
            )
            if line
        ),
        limit=limit,
        unit=_map_unit(first, unit, squares),
        ends=ENDS[first.claim],
        remarks=tuple(remarks),
        panels=panels,
    )


def _map_unit(attribution: Attribution, unit: str, squares: bool) -> str:
    if attribution.claim == "shares":
        return f"{unit} per {'10 × 10 px' if squares else 'px'}"  # noqa: RUF001
    if attribution.claim == "rate":
        return f"{unit} per unit of {'brightness, each px' if attribution.layer == 'input' else 'feature, each px'}"
    return "importance"


def _panel(
    attribution: Attribution, fact: dict[str, Any], image: int, *, sigma: float, factor: float
) -> Panel:
    try:
        heat: Tensor | None = attribution.heatmap()[image].detach().cpu() * factor
        reason = ""
    except ShapeError as error:
        heat, reason = None, f"No map: {error}"
    if heat is not None and not bool(torch.isfinite(heat).all()):
        heat, reason = None, "No map: the values hold NaN or infinity."
    if heat is not None and sigma > 0:
        heat = Blur(sigma=sigma)(heat[None, None])[0, 0]
    return Panel(heat=heat, reason=reason, facts=_facts(fact))


def _facts(fact: dict[str, Any]) -> tuple[Fact, ...]:
    relative = fact["relative_error"]
    if fact["claim"] == "shares":
        error = number(fact["error"], 3) + (
            f" ({percent(relative)} of target)" if relative is not None else ""
        )
        if fact["error_is_forced"]:
            error = "0, set by the method"
        large = relative is None or relative > _LARGE_ERROR
        facts = [
            (_target_text(fact), number(fact["attribution_target"]), False),
            ("result  (sum of the map)", number(fact["result"]), False),
            ("error", error, large),
        ]
        if relative is None:
            reason = (
                "target too small" if fact["attribution_target"] is not None else "no f(x′) to compare with"  # noqa: RUF001
            )
            facts.append(("relative error", reason, True))
        if fact["own_target"] is not None:
            facts.append((f"target against {fact['reference']}", number(fact["own_target"]), False))
            tiny = abs(fact["own_error"] or 0.0) <= 1e-6 * abs(fact["own_target"] or 0.0)
            facts.append(("error against that", "≈ 0" if tiny else number(fact["own_error"], 3), False))
    else:
        facts = [
            (_target_text(fact), number(fact["attribution_target"]), False),
            ("result, error", "not defined", False),
        ]
    if fact["claim"] == "shares" and fact["cancellation"] is not None:
        facts.append(("cancellation  Σ |values| / |target|", number(fact["cancellation"], 2), False))
    if fact["value_error"] is not None:
        facts.append(
            ("error of the map, estimated", f"≈ {percent(fact['value_error'])}", fact["value_error"] > 0.2)
        )
    facts.append(("runs of the model", runs_text(fact["cost"]), False))
    if fact["converged"] is not None:
        given = fact["method"]["parameters"]
        asked = given.get("tolerance", given.get("precision"))
        name = "precision asked for" + (f" ({percent(asked)})" if isinstance(asked, float) else "")
        facts.append((name, "reached" if fact["converged"] else "NOT reached", not fact["converged"]))
    return tuple(facts)


def picture_of(inputs: Tensor) -> Float[Tensor, "height width color"]:
    """The first image as RGB in [0, 1]; other numbers of channels than 1 and 3 as the grey of their mean."""
    pixels = inputs[0].detach().cpu().float().clamp(0.0, 1.0)
    if pixels.shape[0] != 3:
        pixels = pixels.mean(0, keepdim=True).expand(3, -1, -1)
    return pixels.permute(1, 2, 0)


def _rounded_up(value: float) -> float:
    """The next number with two digits, so that the scale ends at one that can be read."""
    if value <= 0:
        return 0.0
    power = math.floor(math.log10(value)) - 1
    # In units of the last digit first: dividing by a power of ten keeps 0.12 from becoming 0.12000000000000001.
    digits = math.ceil(value / 10.0**power - 1e-9)
    return float(f"{digits}e{power}")


def _target_text(fact: Mapping[str, Any]) -> str:
    own = fact["cut"] == "partial" or fact["layer_baseline"] not in (None, FEATURES_OF_THE_BASELINE)
    return "target  f(x) − f(z′ put in)" if own else "target  f(x) − f(x′)"  # noqa: RUF001
