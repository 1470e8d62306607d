"""The web app: routes for pages and programs, files of the pages, and what guards them all."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from counterpoint.errors import CounterpointError
from counterpoint.studio import api, pages
from counterpoint.studio.refusals import Refused
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
        exception_handlers={
            Refused: _refused,
            CounterpointError: _not_done,
            HTTPException: _http,
        },
        lifespan=lifespan,
    )


class _Static(StaticFiles):
    """Files of the pages: asked for anew each time, and sent again only when they changed."""

    def file_response(self, *args: object, **options: object) -> Response:
        response = super().file_response(*args, **options)  # type: ignore[arg-type]
        response.headers["cache-control"] = "no-cache"
        return response


def _refused(request: Request, error: Exception) -> Response:
    status, words = (error.status, error.words) if isinstance(error, Refused) else (400, str(error))
    headers = {"retry-after": "5"} if status == 503 else None
    return JSONResponse({"error": words}, status_code=status, headers=headers)


def _not_done(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": " ".join(str(error).split())}, status_code=422)


def _http(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    words = {404: "there is no such page.", 405: "this address does not take such a request."}
    detail = str(getattr(error, "detail", "")) or "the request cannot be answered."
    return JSONResponse({"error": words.get(status, detail)}, status_code=status)
