"""Fragments: work is asked for with a POST, followed with GETs, and replaced by what it found."""

import json
import re
from dataclasses import replace
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from counterpoint.studio import wording
from counterpoint.studio.classes import NoSuchClass, suggestions
from counterpoint.studio.jobs import Job
from counterpoint.studio.pages import choices, explaining, finished
from counterpoint.studio.pages.rendering import Pages
from counterpoint.studio.pages.views import Given, View, view_of
from counterpoint.studio.questions import Question, question_of
from counterpoint.studio.refusals import Refused

_PART = re.compile(r"[a-z0-9-]{1,40}")
_MOST_LABELS = 20


def routes(pages: Pages) -> list[Route]:
    """All fragments."""

    async def ask(request: Request) -> Response:
        async with request.form(max_files=0, max_fields=200) as form:
            return await run_in_threadpool(
                _answered, pages, form, lambda question: pages.studio.ask(question)
            )

    async def cancel(request: Request) -> Response:
        async with request.form(max_files=0, max_fields=200) as form:
            return await run_in_threadpool(
                _answered, pages, form, lambda question: pages.studio.cancel(pages.studio.key(question))
            )

    def follow(request: Request) -> Response:
        return _answered(
            pages,
            request.query_params,
            lambda question: pages.studio.job(pages.studio.key(question)),
            follows=True,
        )

    def status(request: Request) -> Response:
        # Once the worker is ready, the controls come alive: they listen for this, once.
        awaited = request.query_params.get("awaited") == "yes"
        headers = {"HX-Trigger": "studio:ready"} if pages.is_ready and awaited else None
        return pages.part("status.html", headers=headers, oob=True)

    def labels(request: Request) -> Response:
        view = view_of(request.query_params, pages.studio.settings, pages.photo_ids)
        catalogue = pages.studio.catalogue
        known = () if catalogue is None else catalogue.labels(view.model)
        found = suggestions(view.search, known, _MOST_LABELS)
        return pages.part("labels.html", labels=found, typed=bool(view.search), **_meant(pages, view))

    def parameters(request: Request) -> Response:
        kind = "method" if request.query_params.get("kind") == "method" else "baseline"
        catalogue = pages.studio.catalogue
        offered = choices.methods(catalogue) if kind == "method" else choices.baselines(catalogue)
        text = request.query_params.get(kind, "")
        return pages.part("parameters.html", kind=kind, fields=choices.fields(offered, text))

    return [
        Route("/parts/ask", ask, methods=["POST"]),
        Route("/parts/cancel", cancel, methods=["POST"]),
        Route("/parts/job", follow),
        Route("/parts/status", status),
        Route("/parts/labels", labels),
        Route("/parts/parameters", parameters),
    ]


def _meant(pages: Pages, view: View) -> dict[str, Any]:
    """The class that is meant by what is typed so far, or why none is."""
    if not view.search:
        return {}
    try:
        view = replace(view, target=str(pages.class_of(view.model, view.search)))
    except NoSuchClass as refusal:
        return explaining.not_sought(refusal.words)
    return explaining.sought(pages, view, explaining.top_of(pages, view))


def _answered(pages: Pages, given: Any, act: Any, *, follows: bool = False) -> Response:
    """The fragment that follows from asking, following or cancelling a question."""
    kind, part = str(given.get("as", "")), str(given.get("part", ""))
    if kind not in finished.KINDS or not _PART.fullmatch(part):
        raise Refused(422, "there is no such part of a page.")
    place = finished.Place(kind=kind, part=part, given=given, follows=follows)
    try:
        question = _question(pages, given)
    except Refused as refused:
        return finished.refused(pages, refused, place, None)
    try:
        job: Job | None = act(question)
        if job is None or (job.state == "done" and pages.studio.answer(job.key) is None):
            raise Refused(404, "this answer made room for others; ask for it again.")
    except Refused as refused:
        return finished.refused(pages, refused, place, question)
    if job.state == "done":
        return finished.shown(pages, question, job.key, pages.studio.answer(job.key) or {}, place)
    return finished.waiting(pages, question, job, place, _words(job))


def _question(pages: Pages, given: Given) -> Question:
    """The question that a part carries, or that the controls ask as they are now."""
    if text := given.get("question", ""):
        try:
            plain = json.loads(text)
        except (ValueError, TypeError, RecursionError) as error:
            raise Refused(400, "the question is not JSON.") from error
        return question_of(plain)
    view = view_of(given, pages.studio.settings, pages.photo_ids)
    kind = given.get("kind", "")
    fields = {
        "top": {"photo": view.photo, "model": view.model},
        "preview": {"photo": view.photo, "model": view.model, "baseline": view.baseline},
        "layers": {"model": view.model},
    }
    if kind not in fields:
        raise Refused(422, "the question is missing.")
    return question_of({"kind": kind, **fields[kind]})


def _words(job: Job) -> str:
    match job.state:
        case "queued":
            return "next in line" if job.place <= 1 else f"{job.place} before it in the queue"
        case "running":
            return wording.plain(job.progress.what) or "working…"
        case "cancelled":
            return "Cancelled."
    return job.error or "This could not be worked out."
