"""The web app: routes for pages and programs, files of the pages, and what guards them all."""

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from counterpoint.errors import CounterpointError
from counterpoint.studio import api, pages
from counterpoint.studio.classes import NoSuchClass
from counterpoint.studio.pages.explaining import not_sought
from counterpoint.studio.pages.rendering import Pages
from counterpoint.studio.refusals import Refused, is_for_people
from counterpoint.studio.security import Security
from counterpoint.studio.studio import Studio

STATIC = Path(__file__).parent / "static"


def studio_app(studio: Studio) -> Starlette:
    """The app of a studio; while it serves, the worker runs."""

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        studio.start()
        try:
            yield
        finally:
            studio.close()

    return Starlette(
        routes=[
            *api.routes(studio),
            *pages.routes(studio),
            Mount("/static", _Static(directory=STATIC), name="static"),
        ],
        middleware=[Middleware(Security, settings=studio.settings)],
        exception_handlers=_handlers(Pages(studio)),
        lifespan=lifespan,
    )


class _Static(StaticFiles):
    """Files of the pages: asked for anew each time, and sent again only when they changed."""

    def file_response(self, *args: object, **options: object) -> Response:
        response = super().file_response(*args, **options)  # type: ignore[arg-type]
        response.headers["cache-control"] = "no-cache"
        return response


def _handlers(pages: Pages) -> dict[Any, Callable[[Request, Exception], Response]]:
    """What an error is answered with: a page for people, JSON for programs, and a field's own words for the form that was sent."""

    def said(request: Request, status: int, words: str, headers: Mapping[str, str] | None = None) -> Response:
        accepted = request.headers.get("accept", "")
        if request.method in ("GET", "HEAD") and is_for_people(request.url.path, accepted):
            return pages.refusal(request, status, words, headers=headers)
        return JSONResponse({"error": words}, status_code=status, headers=headers)

    def refused(request: Request, error: Exception) -> Response:
        status, words = (error.status, error.words) if isinstance(error, Refused) else (400, str(error))
        return said(request, status, words, {"retry-after": "5"} if status == 503 else None)

    def no_such_class(request: Request, error: Exception) -> Response:
        if not isinstance(error, NoSuchClass) or request.headers.get("HX-Target") != "view":
            return refused(request, error)
        # The form takes its field out of the answer by itself; nothing else of the page changes.
        headers = {"HX-Reswap": "none", "HX-Push-Url": "false"}
        return pages.part(
            "sought.html", status=error.status, headers=headers, oob=False, **not_sought(error.words)
        )

    def not_done(request: Request, error: Exception) -> Response:
        return said(request, 422, " ".join(str(error).split()))

    def http(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        words = {404: "there is no such page.", 405: "this address does not take such a request."}
        detail = str(getattr(error, "detail", "")) or "the request cannot be answered."
        return said(request, status, words.get(status, detail))

    return {
        NoSuchClass: no_such_class,
        Refused: refused,
        CounterpointError: not_done,
        HTTPException: http,
    }
