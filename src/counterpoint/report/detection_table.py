"""Explained detections as rows of a table, made from their cards."""

from collections.abc import Mapping, Sequence
from typing import Any

from counterpoint.report.wording import command_text, number, percent, telling
from counterpoint.spec import Description, unusual


def detection_rows(cards: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """The headings, and one row for each explanation; what is the same as in the row above is left out."""
    headings = [
        "photograph",
        "detection",
        "method",
        "f(x)",
        "target",
        "result",
        "error",
        "in box",
        "box",
        "deletion",
        "insertion",
    ]
    rows = []
    for card in cards:
        name = card["photograph"]["file"]
        for each in card["detections"]:
            label = each["name"] if each["name"] is not None else f"class {each['label']}"
            head = f"{label} {each['score']:.2f}" + ("" if each["reported"] else " (not reported)")
            for fact in each["explanations"]:
                rows.append([name, head, _method_text(fact), *_numbers(fact)])
                name = head = ""
    return headings, rows


def _method_text(fact: Mapping[str, Any]) -> str:
    method, baseline = _described(fact["method"]), telling(_described(fact["baseline"]))
    place = "" if fact["layer"] == "input" else f" at {fact['layer']}"
    return f"{command_text(unusual('method', method))}{place} against {command_text(baseline)}"


def _numbers(fact: Mapping[str, Any]) -> list[str]:
    shares = fact["claim"] == "shares"
    return [
        number(fact["score"]),
        number(fact["attribution_target"]),
        number(fact["result"]) if shares else "not defined",
        percent(fact["relative_error"]) if shares else "not defined",
        percent(fact["energy_in_box"]),
        percent(fact["box_area"]),
        number(fact["deletion"], 3),
        number(fact["insertion"], 3),
    ]


def _described(fact: Mapping[str, Any]) -> Description:
    return Description(fact["name"], fact["parameters"], fact["version"])
