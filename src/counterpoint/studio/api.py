"""The routes for programs and for the pages' own scripts: JSON, pictures and files."""

import asyncio
import json
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from counterpoint.studio.questions import question_of
from counterpoint.studio.refusals import Refused
from counterpoint.studio.studio import Studio

_TYPES = {
    "png": "image/png",
    "json": "application/json",
    "html": "text/html; charset=utf-8",
}


def routes(studio: Studio) -> list[Route]:
    """All of them."""
    reading_uploads = asyncio.Semaphore(2)

    def catalogue(request: Request) -> Response:
        if studio.catalogue is None:
            return JSONResponse({"loading": True}, status_code=200)
        return JSONResponse({"loading": False, **studio.catalogue.as_dict()})

    def list_photos(request: Request) -> Response:
        return JSONResponse([_plain(photo) for photo in studio.photos()])

    def thumbnail(request: Request) -> Response:
        return Response(studio.thumbnail(request.path_params["id"]), media_type="image/png")

    async def add_photo(request: Request) -> Response:
        _check_type(request, "multipart/form-data")
        # Few at once: each may hold its photograph in memory.
        async with reading_uploads:
            async with request.form(max_files=1, max_fields=4) as form:
                sent = next((value for value in form.values() if isinstance(value, UploadFile)), None)
                if sent is None:
                    raise Refused(
                        422, "no photograph came with the request: send one file as multipart/form-data."
                    )
                content, name = await sent.read(), sent.filename or ""
            photo = await run_in_threadpool(studio.add_upload, content, name)
        return JSONResponse(_plain(photo), status_code=201)

    async def ask(request: Request) -> Response:
        _check_type(request, "application/json")
        question = question_of(_json(await request.body()))
        job = await run_in_threadpool(studio.ask, question)
        return JSONResponse(job.as_dict(), status_code=202)

    def job(request: Request) -> Response:
        return JSONResponse(_found(studio.job(request.path_params["key"])).as_dict())

    def cancel(request: Request) -> Response:
        return JSONResponse(_found(studio.cancel(request.path_params["key"])).as_dict())

    def answer(request: Request) -> Response:
        return JSONResponse(_found(studio.answer(request.path_params["key"])))

    def file(request: Request) -> Response:
        name = request.path_params["file"]
        content = studio.file(request.path_params["key"], name)
        # A report is a whole page with scripts: it has a route and a policy of its own.
        if content is None or name.endswith(".html"):
            raise Refused(404, "there is no such file.")
        kind = _TYPES.get(name.rpartition(".")[2], "application/octet-stream")
        return Response(content, media_type=kind)

    def report(request: Request) -> Response:
        content = _found(studio.file(request.path_params["key"], "report.html"))
        return Response(
            content, media_type=_TYPES["html"], headers={"content-security-policy": policy_of(content)}
        )

    def save(request: Request) -> Response:
        name, content = studio.save(request.path_params["key"])
        headers = {"content-disposition": f'attachment; filename="{name}"'}
        return Response(content, media_type="application/zip", headers=headers)

    def code(request: Request) -> Response:
        return JSONResponse(
            studio.code(question_of(_json(request.query_params.get("question", "").encode())))
        )

    return [
        Route("/api/catalogue", catalogue),
        Route("/api/photos", list_photos, methods=["GET"]),
        Route("/api/photos", add_photo, methods=["POST"]),
        Route("/api/jobs", ask, methods=["POST"]),
        Route("/api/jobs/{key}", job),
        Route("/api/jobs/{key}/cancel", cancel, methods=["POST"]),
        Route("/api/answers/{key}", answer),
        Route("/api/code", code),
        Route("/photos/{id}.png", thumbnail),
        Route("/answers/{key}/{file}", file),
        Route("/report/{key}", report),
        Route("/save/{key}.zip", save),
    ]


def policy_of(report: bytes) -> str:
    """The policy that a report states for itself, and that nobody frames it."""
    beginning = report[:4000].decode("utf-8", "replace")
    marker = 'http-equiv="Content-Security-Policy" content="'
    stated = beginning.partition(marker)[2].partition('"')[0]
    return (stated or "default-src 'none'") + "; frame-ancestors 'none'"


def _plain(photo: Any) -> dict[str, str]:
    return {"id": photo.id, "title": photo.title, "source": photo.source}


def _found(thing: Any) -> Any:
    if thing is None:
        raise Refused(404, "there is no such job or answer; it may have made room for others: ask again.")
    return thing


def _check_type(request: Request, expected: str) -> None:
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given != expected:
        raise Refused(415, f"the request must be {expected}, but is {given[:60] or 'of no stated type'}.")


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refused(400, "the question is not JSON.") from error
