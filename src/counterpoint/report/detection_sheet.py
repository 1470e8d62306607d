"""What the figure of a photograph's detections says: a column for each detection, a row for each way to explain it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from counterpoint import spec
from counterpoint.baselines import Blur
from counterpoint.detectors.candidates import Detection
from counterpoint.report.scale import scale_end
from counterpoint.report.sheet import Column, Fact, Panel, Row, Sheet, picture_of
from counterpoint.report.wording import CLAIMS, ENDS, name_text, number, parameters_text, percent, telling

# The ends of the colour scale lie where all but this share of the pixels are inside: one speck must not pale the rest.
_LARGE_ERROR = 0.05
# Maps of the input are speckled. Drawn with this blur, as a share of the shorter side, they can be read; it is always named.
_SMOOTH_SHARE = 3.0 / 224.0
# Violet and green: told apart from the maps' blue and orange, and from each other, with every common kind of colour blindness.
_REPORTED, _UNREPORTED = (0.35, 0.0, 0.55), (0.0, 0.45, 0.25)


@dataclass(frozen=True, kw_only=True, eq=False)
class DetectionMap:
    """The map of one detection, and what its card says of it."""

    heat: Float[Tensor, "height width"]
    facts: Mapping[str, Any]


def detection_sheet(
    inputs: Float[Tensor, "1 channel height width"],
    detections: Sequence[Detection],
    rows: Sequence[Sequence[DetectionMap]],
    *,
    score: str,
    caption: str,
    note: str,
) -> Sheet:
    """The sheet of one photograph.

    Args:
        inputs: The photograph, pixels in [0, 1].
        detections: What was explained, the columns.
        rows: For each way to explain, one map for each detection.
        score: What was read of each detection: "score", "logit" or a side of the box.
        caption: Where the photograph is from, and which detector.
        note: A sentence below the figure.
    """
    plain = picture_of(inputs)
    names = ", ".join(f"“{each.text}”" for each in detections)
    return Sheet(
        title=f"Why {names}?",
        subtitle=f"{caption}  ·  explained: {_score_text(score)}",
        photograph=Column(
            title="photograph",
            picture=with_boxes(plain, detections),
            reason="",
            facts=(),
        ),
        columns=tuple(
            Column(
                title=f"{k}: {each.text}",
                picture=with_boxes(plain, [each]),
                reason="",
                facts=_detection_facts(each, [row[k - 1] for row in rows], score),
            )
            for k, each in enumerate(detections, start=1)
        ),
        rows=tuple(_row(row, score) for row in rows),
        note=note,
    )


def with_boxes(
    picture: Float[Tensor, "height width color"], detections: Sequence[Detection]
) -> Float[Tensor, "height width color"]:
    """The picture with a frame around each detection, violet where the detector reports it, else green; inside a line of white."""
    drawn = picture.clone()
    height, width = picture.shape[:2]
    thick = max(1, round(min(height, width) / 130))
    for each in reversed(detections):
        colour = torch.tensor(_REPORTED if each.reported else _UNREPORTED)
        x0, y0, x1, y1 = (round(side) for side in each.box)
        for inset, shade in ((0, colour), (thick, torch.ones(3))):
            line = thick if inset == 0 else max(1, thick // 2)
            left, top = min(max(x0, 0), width - 1) + inset, min(max(y0, 0), height - 1) + inset
            right, bottom = min(max(x1, 1), width) - inset, min(max(y1, 1), height) - inset
            if right - left > 2 * line and bottom - top > 2 * line:
                drawn[top : top + line, left:right] = shade
                drawn[bottom - line : bottom, left:right] = shade
                drawn[top:bottom, left : left + line] = shade
                drawn[top:bottom, right - line : right] = shade
    return drawn


def _score_text(score: str) -> str:
    return {"score": "class score", "logit": "logit of the class"}.get(
        score, f"side {score} of the box, in px"
    )


def _detection_facts(each: Detection, maps: Sequence[DetectionMap], score: str) -> tuple[Fact, ...]:
    x0, y0, x1, y1 = (number(round(side, 1)) for side in each.box)
    return (
        ("box, px", f"{x0}, {y0} – {x1}, {y1}", False),  # noqa: RUF001
        (
            "reported by the detector",
            "yes" if each.reported else "no, below its threshold",
            not each.reported,
        ),
        (f"f(x), {score}", number(maps[0].facts["score"]), False),
    )


def _row(maps: Sequence[DetectionMap], score: str) -> Row:
    facts = maps[0].facts
    layers = sorted({each.facts["layer"] for each in maps})
    sigma = _SMOOTH_SHARE * min(maps[0].heat.shape) if layers == ["input"] else 0.0
    shown = [_smoothed(each.heat, sigma) for each in maps]
    heats = torch.cat([heat.abs().flatten() for heat in shown]).double()
    limit = _two_digits(scale_end(heats))
    beyond = float((heats > limit).double().mean())
    remarks = [f"Drawn smoothed by {number(sigma, 2)} px; the values are not."] if sigma else []
    remarks += [f"{percent(beyond)} of the pixels lie beyond the scale."] if beyond > 0 and limit > 0 else []
    method, baseline = _described(facts["method"]), telling(_described(facts["baseline"]))
    against = name_text(baseline) + (f" ({parameters_text(baseline)})" if parameters_text(baseline) else "")
    where = "at the input (pixels)" if layers == ["input"] else f"at layer {', '.join(layers)}"
    claim = facts["claim"]
    partial = any(each.facts["cut"] == "partial" for each in maps)
    return Row(
        title=name_text(method),
        lines=tuple(
            line
            for line in (
                parameters_text(spec.unusual("method", method)),
                f"against {against}",
                where,
                "an intervention: other layers pass this one by" if partial else "",
                "the detection is found again where pixels change"
                if facts["follow"] == "object"
                else "the same candidate of the detector throughout",
                f"Values are {CLAIMS[claim]}.",
            )
            if line
        ),
        limit=limit,
        unit=f"{score} per px" if claim == "shares" else "importance",
        ends=ENDS[claim],
        remarks=tuple(remarks if heats.any() else ["All values are zero."]),
        panels=tuple(
            Panel(heat=heat, reason="", facts=_facts(each.facts))
            for heat, each in zip(shown, maps, strict=True)
        ),
    )


def _smoothed(heat: Float[Tensor, "height width"], sigma: float) -> Float[Tensor, "height width"]:
    return Blur(sigma=sigma)(heat[None, None])[0, 0] if sigma else heat


def _facts(fact: Mapping[str, Any]) -> tuple[Fact, ...]:
    facts: list[Fact] = []
    if fact["claim"] == "shares":
        relative = fact["relative_error"]
        error = number(fact["error"], 3) + (
            f" ({percent(relative)} of target)" if relative is not None else ""
        )
        facts += [
            ("target", number(fact["attribution_target"]), False),
            ("result  (sum of the map)", number(fact["result"]), False),
            ("error", error, relative is None or relative > _LARGE_ERROR),
        ]
        if fact["own_target"] is not None:
            facts.append((f"target against {fact['reference']}", number(fact["own_target"]), False))
    facts += [
        ("positive values in the box", percent(fact["energy_in_box"]), False),
        ("the box's share of the picture", percent(fact["box_area"]), False),
        ("largest value in the box", {1.0: "yes", 0.0: "no"}.get(fact["pointing_in_box"], "–"), False),  # noqa: RUF001
        (
            "deletion / insertion area",
            f"{number(fact['deletion'], 3)} / {number(fact['insertion'], 3)}",
            False,
        ),
    ]
    return tuple(facts)


def _described(fact: Mapping[str, Any]) -> spec.Description:
    return spec.Description(fact["name"], fact["parameters"], fact["version"])


def _two_digits(value: float) -> float:
    """The next number with two digits, so that the scale ends at one that can be read."""
    if value <= 0:
        return 0.0
    power = math.floor(math.log10(value)) - 1
    return float(f"{math.ceil(value / 10.0**power - 1e-9)}e{power}")
