"""What stands in a part of a page: its answer, how far the work is, or why there is none."""

from dataclasses import dataclass
from typing import Any

from starlette.responses import HTMLResponse

from counterpoint.studio.jobs import Job
from counterpoint.studio.pages import comparing, explaining, outcomes, trusting
from counterpoint.studio.pages.asking import question_text
from counterpoint.studio.pages.rendering import Pages
from counterpoint.studio.pages.views import Given, view_of
from counterpoint.studio.questions import Cell, Question
from counterpoint.studio.refusals import Refused

_IN_CONTROLS = {
    "top": "top.html",
    "preview": "preview.html",
    "layers": "layers.html",
    "layerpicks": "layer_picks.html",
}
"""These stand in the controls: while they wait, their place keeps its look."""
_TEMPLATES = {
    "explain": "explanation.html",
    "cell": "compare_cell.html",
    "removal": "removal.html",
    "curves": "trust_curves.html",
    "deviation": "trust_deviation.html",
    "sanity": "trust_sanity.html",
    "verdict": "trust_verdict.html",
    "results": "results_shown.html",
}
KINDS = (*_IN_CONTROLS, *_TEMPLATES)
"""As what an answer can be shown."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where an answer goes, and as what it is shown."""

    kind: str
    part: str
    given: Given
    """The fields that came with the request: of controls, what is chosen in them."""
    follows: bool = False
    """Whether the request asks how far the work is: then only that is replaced while it goes on."""


def shown(pages: Pages, question: Question, key: str, answer: dict[str, Any], place: Place) -> HTMLResponse:
    """The finished part, which takes the place of the one that waited."""
    if place.kind in _IN_CONTROLS:
        return _in_controls(pages, place, key=key, answer=answer)
    match place.kind, question:
        case "explain", Cell():
            values = explaining.result(pages, question, key, answer)
        case "cell", Cell():
            values = comparing.cell(question, key, answer)
        case "results", _:
            values = outcomes.shown(key, answer)
        case _:
            values = trusting.shown(pages, question, key, answer)
    part = "main" if place.kind == "explain" else place.part
    headers = {"HX-Retarget": f"#part-{part}", "HX-Reswap": "outerHTML"}
    return pages.part(_TEMPLATES[place.kind], headers=headers, part=place.part, view=None, **values)


def waiting(pages: Pages, question: Question, job: Job, place: Place, words: str) -> HTMLResponse:
    """How far the work is."""
    if place.kind in _IN_CONTROLS:
        if job.is_finished:
            return _in_controls(pages, place, error=words)
        # While something long runs, a place in the controls would stay empty without a word.
        queued = "waits for other work" if job.place else ""
        return _in_controls(pages, place, poll=_carried(question, place), queued=queued)
    share = job.progress.done / job.progress.total if job.state == "running" and job.progress.total else None
    return _waiting(pages, job, place, words, share, _carried(question, place))


def refused(pages: Pages, refusal: Refused, place: Place, question: Question | None) -> HTMLResponse:
    """Why there is nothing, in words, and a way to ask again."""
    words = refusal.words[:1].upper() + refusal.words[1:]
    if place.kind in _IN_CONTROLS:
        return _in_controls(pages, place, error=words)
    job = Job(key="", kind="", state="failed", error=words)
    again = None if question is None else _carried(question, place)
    return _waiting(pages, job, place, words, None, again, status=refusal.status)


def _carried(question: Question, place: Place) -> dict[str, str]:
    return {"question": question_text(question), "as": place.kind, "part": place.part}


def _waiting(
    pages: Pages,
    job: Job,
    place: Place,
    words: str,
    share: float | None,
    carried: dict[str, str] | None,
    *,
    status: int = 200,
) -> HTMLResponse:
    unfinished = not job.is_finished
    template = "progress.html" if place.follows and unfinished else "waiting.html"
    headers = {} if unfinished else {"HX-Retarget": f"#wait-{place.part}", "HX-Reswap": "outerHTML"}
    if unfinished and not place.follows:
        headers["HX-Trigger"] = "studio:asked"  # the status line listens
    return pages.part(
        template,
        status=status,
        headers=headers,
        job=job,
        part=place.part,
        words=words,
        share=share,
        carried=carried,
    )


def _in_controls(
    pages: Pages,
    place: Place,
    *,
    key: str | None = None,
    answer: dict[str, Any] | None = None,
    poll: dict[str, str] | None = None,
    error: str = "",
    queued: str = "",
) -> HTMLResponse:
    found = answer or {}
    view = view_of(place.given, pages.studio.settings, pages.photo_ids)
    return pages.part(
        _IN_CONTROLS[place.kind],
        view=view,
        key=key,
        poll=poll,
        error=error,
        queued=queued,
        top=found.get("top", []),
        layers=found.get("layers", []),
    )
