"""The page that explains one photograph against one baseline with one method."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from counterpoint.studio import wording
from counterpoint.studio.answers import EXAMPLE
from counterpoint.studio.pages import choices
from counterpoint.studio.pages.asking import answer_of, question_text
from counterpoint.studio.pages.budget import bar_of
from counterpoint.studio.pages.rendering import Pages
from counterpoint.studio.pages.views import View
from counterpoint.studio.questions import Cell, Layers, Preview, Top
from counterpoint.studio.refusals import Refused


def routes(pages: Pages) -> list[Route]:
    """The first page, and the one with an address of its own."""

    def explain(request: Request) -> Response:
        view = pages.view(request)
        start = not request.query_params
        return pages.page(request, "explain.html", "explain", view, **_whole(pages, view, start=start))

    return [Route("/", explain), Route("/explain", explain)]


def _whole(pages: Pages, view: View, *, start: bool) -> dict[str, Any]:
    cell = view.cell()
    key, answer = answer_of(pages, cell)
    if (
        answer is None
        and (example := pages.example) is not None
        and (start or example["question"] == cell.model_dump())
    ):
        key, answer = EXAMPLE, example
    shown = result(pages, cell, key, answer) if answer else unanswered(cell)
    return {**shown, **controls(pages, view)}


def controls(pages: Pages, view: View) -> dict[str, Any]:
    """What the controls beside a result offer."""
    catalogue = pages.studio.catalogue
    offered = choices.baselines(catalogue, view.baselines)
    methods = choices.methods(catalogue, view.methods)
    method = choices.chosen(methods, view.method)
    top = answer_of(pages, Top(photo=view.photo, model=view.model))[1]
    layers = answer_of(pages, Layers(model=view.model))[1]
    preview: tuple[str | None, dict[str, Any] | None]
    try:
        preview = answer_of(pages, Preview(photo=view.photo, model=view.model, baseline=view.baseline))
    except Refused:
        preview = None, None
    example = pages.example
    if top is None and example is not None:
        asked = example["question"]
        if (asked["photo"], asked["model"]) == (view.photo, view.model):
            top = {"top": example["top"]}
    return {
        "photos": pages.studio.photos(),
        "baselines": offered,
        "baseline_fields": choices.fields(offered, view.baseline),
        "method_groups": choices.grouped(methods),
        "method_fields": choices.fields(methods, view.method),
        "method_summary": method.summary if method else "",
        "top": (top or {}).get("top", []),
        "layers": (layers or {}).get("layers", []),
        "preview": preview[0] if preview[1] else None,
        "poll": None,
        "error": "",
    }


def unanswered(cell: Cell) -> dict[str, Any]:
    """The part that starts the work once it is on the page."""
    return {
        "answer": None,
        "key": None,
        "ask": question_text(cell),
        "strip": ["–"] * 5,  # noqa: RUF001 (a dash)
        "baseline_words": wording.baseline_text(cell.baseline),
    }


def result(pages: Pages, cell: Cell, key: str, answer: dict[str, Any]) -> dict[str, Any]:
    """A finished explanation, in words, numbers and pictures."""
    answer = {**answer, "score_kind": cell.score}
    height, width = answer["image_size"]
    values = pages.studio.file(key, "map.f32")
    place = ""
    if values is not None and answer["claim"] == "shares":
        place = wording.where(wording.floats(values), height, width)
    query = View(
        photo=cell.photo,
        model=cell.model,
        target=str(cell.target),
        score=cell.score,
        baselines=(cell.baseline,),
        methods=(cell.method,),
        layers=(cell.layer,),
    ).query
    more = "".join(f"&baseline={name}" for name in ("black", "blur", "mean") if name != cell.baseline)
    return {
        "key": key,
        "answer": answer,
        "lead": wording.sentence(answer),
        "where": place,
        "budget": answer["claim"] == "shares"
        and bar_of(answer["budget"], answer["target"], answer["result"], unit=wording.unit(answer)),
        "strip": wording.evenly(
            *(answer[name] for name in ("score", "baseline_score", "target", "result", "error"))
        ),
        "codes": [] if key == EXAMPLE and not pages.is_ready else codes(pages, cell),
        "links": {"compare": f"/compare?{query}{more}", "trust": f"/trust?{query}"},
    }


def codes(pages: Pages, question: Any) -> list[tuple[str, str]]:
    """What makes the same elsewhere: language and text."""
    try:
        found = pages.studio.code(question)
    except Refused:
        return []
    titles = {"command": "Command line", "python": "Python"}
    return [(title, text) for name, title in titles.items() if (text := found.get(name))]
