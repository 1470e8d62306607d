"""The page that compares: one photograph, several baselines, and several methods or layers."""

from dataclasses import dataclass, replace
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from counterpoint.studio import wording
from counterpoint.studio.pages import choices
from counterpoint.studio.pages.asking import answer_of, question_text
from counterpoint.studio.pages.explaining import codes, controls
from counterpoint.studio.pages.rendering import Pages
from counterpoint.studio.pages.views import View
from counterpoint.studio.questions import MOST_BASELINES, MOST_CELLS, Cell, Curves

MOST_MAPS = 24
"""In one grid; what is asked for beyond them is left out, which the page says."""
_FIRST = ("black", "blur", "mean")


@dataclass(frozen=True)
class Row:
    """One method at one layer."""

    method: str
    layer: str

    @property
    def name(self) -> str:
        """In words."""
        return wording.form(self.method) + (f" at {self.layer}" if self.layer else "")


def routes(pages: Pages) -> list[Route]:
    """The page."""

    def compare(request: Request) -> Response:
        view = pages.view(request)
        if "baseline" not in request.query_params:
            view = replace(view, baselines=_FIRST)
        return pages.page(request, "compare.html", "compare", view, **_whole(pages, view))

    return [Route("/compare", compare)]


def _whole(pages: Pages, view: View) -> dict[str, Any]:
    baselines = view.baselines[:MOST_BASELINES]
    rows = [Row(method, layer) for method in view.methods for layer in view.layers]
    kept = rows[: max(1, MOST_MAPS // len(baselines))]
    grid = []
    for r, row in enumerate(kept):
        cells = []
        for b, baseline in enumerate(baselines):
            question = view.cell(baseline, row.method, row.layer)
            key, answer = answer_of(pages, question)
            found = (
                cell(question, key, answer)
                if answer
                else {"answer": None, "key": None, "name": "", "explained": None}
            )
            cells.append({**found, "ask": question_text(question), "part": f"cell-{r}-{b}"})
        grid.append((row, cells))
    first = [view.cell(baseline, row.method, row.layer) for row in kept for baseline in baselines][
        :MOST_CELLS
    ]
    curves = Curves(cells=tuple(first), baselines=baselines)
    key, answer = answer_of(pages, curves)
    one = view.cell()
    return {
        **controls(pages, view),
        "grid": grid,
        "columns": baselines,
        "left_out": len(rows) - len(kept) + len(view.baselines) - len(baselines),
        "film": len(kept) > 1,
        "removal_ask": question_text(curves),
        "removal": {"key": key, "answer": answer} if answer else None,
        "removed": len(first),
        "of": len(kept) * len(baselines),
        "codes": codes(pages, curves if len(first) > 1 else one),
        "method_choices": choices.grouped(choices.methods(pages.studio.catalogue, view.methods)),
        "baseline_own": _own(pages, view.baselines, "baseline"),
        "method_own": _own(pages, view.methods, "method"),
    }


def _own(pages: Pages, texts: tuple[str, ...], kind: str) -> tuple[str, ...]:
    """Those with parameters of their own, which no box in a list stands for."""
    catalogue = pages.studio.catalogue
    offered = (
        choices.baselines(catalogue, texts, fills=True)
        if kind == "baseline"
        else choices.methods(catalogue, texts)
    )
    known = {each.text for each in offered}
    return tuple(text for text in texts if text not in known)


def cell(question: Cell, key: str, answer: dict[str, Any]) -> dict[str, Any]:
    """A map in the grid with its numbers."""
    answer = {**answer, "score_kind": question.score}
    explained = None
    if answer["claim"] == "shares" and answer.get("relative_error") is not None:
        explained = answer["result"] / answer["target"]
    name = wording.form(question.method) + (f" at {question.layer}" if question.layer else "")
    return {
        "key": key,
        "answer": answer,
        "explained": explained,
        "name": f"{name} against {wording.form(question.baseline)}",
    }
