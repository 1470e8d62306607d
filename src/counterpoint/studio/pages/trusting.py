"""The page that judges one explanation: its curves, the network's pathway, random weights, and a verdict with reasons."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from counterpoint.studio import wording
from counterpoint.studio.pages import choices, comparing
from counterpoint.studio.pages.asking import answer_of, question_text
from counterpoint.studio.pages.explaining import codes, controls
from counterpoint.studio.pages.rendering import Pages
from counterpoint.studio.pages.views import View
from counterpoint.studio.questions import MOST_BASELINES, USUAL_BASELINES, Question, Verdict

_MOST_ROWS = 24
"""Layers in a heat table; of more, evenly spaced ones."""


@dataclass(frozen=True)
class Table:
    """Deviations of one kind of path, layer by layer."""

    rows: Sequence[tuple[str, Sequence[tuple[str, float | None]]]]
    """Layer -> for each fraction its text and its level in [-1, 1]."""
    of: int
    """How many layers there are."""


def routes(pages: Pages) -> list[Route]:
    """The page."""

    def trust(request: Request) -> Response:
        view = pages.view(request)
        view = replace(view, judges=(view.judges or USUAL_BASELINES)[:MOST_BASELINES])
        return pages.page(request, "trust.html", "trust", view, **_whole(pages, view))

    return [Route("/trust", trust)]


def _whole(pages: Pages, view: View) -> dict[str, Any]:
    cell = view.cell()
    verdict = Verdict(cell=cell, baselines=view.judges)
    key, answer = answer_of(pages, cell)
    found = (
        comparing.cell(cell, key, answer)
        if answer
        else {"key": None, "answer": None, "name": "", "explained": None}
    )
    parts: dict[str, Question] = {
        "verdict": verdict,
        "curves": verdict.curves,
        "deviation": verdict.deviation,
        "sanity": verdict.sanity,
    }
    shown_parts = {name: _part(pages, question) for name, question in parts.items()}
    return {
        **controls(pages, view),
        "map": {**found, "ask": question_text(cell)},
        **shown_parts,
        "tables": shown_parts["deviation"].get("tables", []),
        "judges": choices.baselines(pages.studio.catalogue, view.judges, fills=True),
        "codes": codes(pages, verdict),
        "words": "",
    }


def _part(pages: Pages, question: Question) -> dict[str, Any]:
    key, answer = answer_of(pages, question)
    if answer is None:
        return {"key": None, "answer": None, "ask": question_text(question)}
    return {**shown(pages, question, key, answer), "ask": question_text(question)}


def shown(pages: Pages, question: Question, key: str, answer: dict[str, Any]) -> dict[str, Any]:
    """A finished part of the page."""
    values: dict[str, Any] = {"key": key, "answer": answer}
    if question.kind == "deviation":
        values["tables"] = tables(answer)
        values["words"] = wording.pathway(answer)
    elif question.kind == "sanity":
        values["words"] = wording.random_weights(answer)
    return values


def tables(answer: dict[str, Any]) -> list[tuple[str, Table]]:
    """What a map adds to the deviation of random masks, one table for each kind of path, on one scale of colours."""
    found: dict[str, list[list[float | None]]] = {}
    for kind, numbers in answer["kinds"].items():
        found[kind] = [
            [
                None if one is None or other is None else one - other
                for one, other in zip(row, floor, strict=True)
            ]
            for row, floor in zip(numbers["excess"], numbers["floor"], strict=True)
        ]
    sizes = sorted(
        abs(value) for rows in found.values() for row in rows for value in row if value is not None
    )
    # One layer far off must not pale the rest.
    end = sizes[int(0.98 * (len(sizes) - 1))] if sizes else 0.0
    names = answer["layers"]
    count = min(len(names), _MOST_ROWS)
    kept = sorted({round(k * (len(names) - 1) / max(1, count - 1)) for k in range(count)})
    return [
        (kind, Table([(names[k], [_cell(value, end) for value in rows[k]]) for k in kept], len(names)))
        for kind, rows in found.items()
    ]


def _cell(value: float | None, end: float) -> tuple[str, float | None]:
    if value is None:
        return "–", None  # noqa: RUF001 (a dash)
    text = f"{100 * value:+.0f}".replace("-", "−")  # noqa: RUF001 (a minus sign)
    # At most 0.75 of the way to the ends, which are nearly black.
    level = 0.0 if end == 0 else max(-1.0, min(1.0, value / end))
    return ("0" if text in ("+0", "−0") else text), round(0.75 * level, 4)  # noqa: RUF001
