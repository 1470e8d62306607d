"""The page that explains one photograph against one baseline with one method."""

from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from counterpoint.studio import wording
from counterpoint.studio.answers import EXAMPLE
from counterpoint.studio.pages import choices
from counterpoint.studio.pages.asking import answer_of, question_text
from counterpoint.studio.pages.budget import bar_of
from counterpoint.studio.pages.rendering import Pages, beside_others
from counterpoint.studio.pages.views import View
from counterpoint.studio.questions import Cell, Layers, Preview, Top
from counterpoint.studio.refusals import Refused


def routes(pages: Pages) -> list[Route]:
    """The first page, and the one with an address of its own."""

    def explain(request: Request) -> Response:
        start = not request.query_params
        if start and request.url.path == "/" and pages.studio.settings.results is not None:
            return RedirectResponse("/results", 303)
        view = pages.view(request)
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
    top = top_of(pages, view)
    layers = answer_of(pages, Layers(model=view.model))[1]
    preview: tuple[str | None, dict[str, Any] | None]
    try:
        preview = answer_of(pages, Preview(photo=view.photo, model=view.model, baseline=view.baseline))
    except Refused:
        preview = None, None
    return {
        **sought(pages, view, top),
        "photos": pages.studio.photos(),
        "baselines": offered,
        "baseline_fields": choices.fields(offered, view.baseline),
        "method_groups": choices.grouped(methods),
        "method_fields": choices.fields(methods, view.method),
        "method_summary": method.summary if method else "",
        "top": top,
        "layers": (layers or {}).get("layers", []),
        "preview": preview[0] if preview[1] else None,
        "poll": None,
        "error": "",
        "queued": "",
    }


def top_of(pages: Pages, view: View) -> list[dict[str, Any]]:
    """The most probable classes, where they are known already."""
    found = answer_of(pages, Top(photo=view.photo, model=view.model))[1]
    example = pages.example
    if found is None and example is not None:
        asked = example["question"]
        if (asked["photo"], asked["model"]) == (view.photo, view.model):
            found = example
    top: list[dict[str, Any]] = (found or {}).get("top", [])
    return top


def not_sought(words: str) -> dict[str, Any]:
    """Why what was typed for the class stands for none."""
    return {"sought_mark": "", "sought": None, "sought_refused": words[:1].upper() + words[1:]}


def sought(pages: Pages, view: View, top: list[dict[str, Any]]) -> dict[str, Any]:
    """The chosen class: which of the most probable ones it is, or a choice of its own beside them."""
    chosen = view.target
    if top and chosen == str(top[0]["index"]):
        chosen = "top1"
    if chosen == "top1" or chosen in {str(each["index"]) for each in top}:
        return {"sought_mark": chosen, "sought": None, "sought_refused": ""}
    catalogue = pages.studio.catalogue
    labels = () if catalogue is None else catalogue.labels(view.model)
    index = int(chosen)
    label = labels[index] if index < len(labels) else f"class {index}"
    return {"sought_mark": chosen, "sought": {"index": index, "label": label}, "sought_refused": ""}


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
    if values is not None and answer["claim"] == "shares" and answer["relative_error"] is not None:
        place = wording.where(wording.floats(values), height, width)
    view = View(
        photo=cell.photo,
        model=cell.model,
        target=str(cell.target),
        score=cell.score,
        baselines=(cell.baseline,),
        methods=(cell.method,),
        layers=(cell.layer,),
    )
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
        "reliance": wording.reliance(answer),
        "links": {"compare": f"/compare?{beside_others(view).query}", "trust": f"/trust?{view.query}"},
    }


def codes(pages: Pages, question: Any) -> list[tuple[str, str]]:
    """What makes the same elsewhere: language and text."""
    try:
        found = pages.studio.code(question)
    except Refused:
        return []
    titles = {"command": "Command line", "python": "Python"}
    return [(title, text) for name, title in titles.items() if (text := found.get(name))]
