"""Templates with what they all need: the studio, numbers in words, addresses of files."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib.resources import files
from typing import Any
from urllib.parse import urlencode

import jinja2
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import HTMLResponse

from counterpoint.studio import wording
from counterpoint.studio.answers import EXAMPLE
from counterpoint.studio.classes import LARGEST, NoSuchClass, class_sought
from counterpoint.studio.pages.views import View, view_of
from counterpoint.studio.questions import USUAL_BASELINES
from counterpoint.studio.studio import Studio

TABS = ("explain", "compare", "trust", "results")
TITLES = {
    403: "This address does not open the studio",
    404: "This is not here",
    405: "This address takes no such request",
    413: "This is too large",
    422: "This cannot be worked out as it was asked",
    503: "The studio is busy",
}
"""Status -> what the page of a refusal is headed with."""
_QUESTIONS = ("/", "/explain", "/compare", "/trust")
# What most often makes a kept address useless: the same question without them may still be asked.
_LEFT_OUT = ("photo", "search", "target")
_HTMX = {
    "allowEval": False,
    "includeIndicatorStyles": False,
    "selfRequestsOnly": True,
    "historyCacheSize": 0,
    "refreshOnHistoryMiss": True,
    "scrollBehavior": "auto",
    # Not "style": the policy allows none.
    "attributesToSettle": ["class"],
    # Refusals are fragments too, with words.
    "responseHandling": [
        {"code": "204", "swap": False},
        {"code": "[23]..", "swap": True},
        {"code": "[45]..", "swap": True, "error": True},
    ],
}


@cache
def static(name: str) -> str:
    """The address of a file of the pages; another content, another address."""
    content = (files("counterpoint.studio") / "static" / name).read_bytes()
    return f"/static/{name}?v={hashlib.sha256(content).hexdigest()[:12]}"


@cache
def _environment() -> jinja2.Environment:
    root = files("counterpoint.studio") / "templates"
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: (root / name).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        number=wording.number,
        percent=wording.percent,
        plain=wording.plain,
        form=wording.form,
        name=lambda text: wording.plain(text.partition(":")[0]),
        cost=wording.cost,
        unit=lambda answer: wording.unit(answer, one=True),
        units=lambda answer: wording.unit(answer),
        places=_places,
    )
    environment.globals.update(static=static, htmx_config=json.dumps(_HTMX))
    return environment


def template_text(template: str, **values: Any) -> str:
    """A template's text, of these values alone."""
    return _environment().get_template(template).render(**values)


class Pages:
    """What routes are made with.

    Args:
        studio: Whom pages ask.
    """

    def __init__(self, studio: Studio) -> None:
        self.studio = studio

    def view(self, request: Request) -> View:
        """What the address asks for, its class settled.

        Raises:
            NoSuchClass: what was typed for the class names none, or several.
        """
        view = view_of(request.query_params, self.studio.settings, self.photo_ids)
        typed = view.search or view.target
        if typed == "top1":
            return view
        return replace(view, target=str(self.class_of(view.model, typed)), search="")

    def class_of(self, model: str, text: str) -> int:
        """The index of the class that a text names.

        Raises:
            NoSuchClass: it names none, or several; or a label, and the model is not loaded yet.
        """
        if self.studio.catalogue is not None:
            return class_sought(text, self.studio.catalogue.labels(model))
        if text.isdecimal() and len(text) < 9 and int(text) <= LARGEST:
            return int(text)
        raise NoSuchClass(
            f"the model is still loading, and its labels with it: what class “{text[:60]}” is cannot be told yet."
        )

    @property
    def photo_ids(self) -> list[str]:
        """Of what can be chosen."""
        return [photo.id for photo in self.studio.photos()]

    @property
    def is_ready(self) -> bool:
        """Whether the worker has said what there is to choose from."""
        return self.studio.catalogue is not None

    @property
    def example(self) -> dict[str, Any] | None:
        """The precomputed answer, with the question that it answers; None where the package lacks it."""
        return None if self.studio.example is None else self.studio.answer(EXAMPLE)

    def status(self) -> tuple[str, str]:
        """What the status line says: its look ("loading", "failed", "busy" or "ready"), and its words."""
        studio = self.studio
        broken = [model.name for model in studio.unloaded]
        if studio.jobs.broken:
            return "failed", "stopped: restart the studio"
        if not self.is_ready:
            return "loading", "loading the model…" if len(
                studio.settings.models
            ) == 1 else "loading the models…"
        if work := studio.jobs.unfinished:
            return "busy", "working" if work == 1 else f"working, {work} jobs"
        if broken:
            return "failed", f"{', '.join(broken)} could not be loaded"
        return "ready", "ready"

    def troubles(self) -> list[str]:
        """What stands above every page until it is mended: models that could not be loaded, and a worker that is gone."""
        found = [
            f"The model {model.name} could not be loaded: {model.error}" for model in self.studio.unloaded
        ]
        return [*found, *([_sentence(self.studio.jobs.broken)] if self.studio.jobs.broken else [])]

    def page(self, request: Request, template: str, page: str, view: View, **values: Any) -> HTMLResponse:
        """A whole page."""
        # A form that a page sends has every field: the address shown is the shortest that means the same.
        asked = request.headers.get("HX-Target") == "view"
        headers = {"HX-Push-Url": f"/{page}?{view.query}"} if asked else {}
        return self.part(
            template, headers=headers, page=page, tabs=self._tabs(page, view), view=view, **values
        )

    def _tabs(self, page: str, view: View) -> list[tuple[str, str]]:
        """Names and addresses; what was opened with the command comes first."""
        first = ("results",) if self.studio.settings.results is not None else ()
        one = view.one()
        queries = {
            "explain": one.query,
            "trust": one.query,
            "compare": beside_others(one).query,
            page: view.query,
        }
        return [
            (name, "/results" if name == "results" else f"/{name}?{queries[name]}")
            for name in dict.fromkeys((*first, *TABS))
        ]

    def refusal(
        self, request: Request, status: int, words: str, *, headers: Mapping[str, str] | None = None
    ) -> HTMLResponse:
        """A page for people that says why there is nothing, with a way on."""
        view = view_of(QueryParams(""), self.studio.settings, self.photo_ids)
        asked = [(name, value) for name, value in request.query_params.multi_items() if name not in _LEFT_OUT]
        path = request.url.path
        left_out = len(asked) < len(request.query_params.multi_items())
        again = f"{path}?{urlencode(asked)}" if left_out and path in _QUESTIONS else ""
        return self.part(
            "refused.html",
            status=status,
            headers=headers,
            page="",
            tabs=self._tabs("", view),
            title=TITLES.get(status, "This cannot be shown"),
            words=_sentence(words),
            again=again,
        )

    def part(
        self, template: str, *, status: int = 200, headers: Mapping[str, str] | None = None, **values: Any
    ) -> HTMLResponse:
        """A fragment."""
        return HTMLResponse(
            self.text(template, **values), status, headers={"cache-control": "no-store", **(headers or {})}
        )

    def text(self, template: str, **values: Any) -> str:
        """A template's text."""
        shared = {
            "ready": self.is_ready,
            "status": self.status(),
            "troubles": self.troubles(),
            "models": self.studio.settings.models,
            "unloaded": [model.name for model in self.studio.unloaded],
        }
        return template_text(template, **{**shared, **values})


def beside_others(view: View) -> View:
    """A single explanation with those against the usual baselines beside it."""
    return replace(view, baselines=tuple(dict.fromkeys((*view.baselines, *USUAL_BASELINES))))


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:]


def _places(layers: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Layers that can be cut and have places: a map can be made there."""
    return [
        {
            "name": each["name"],
            "size": " × ".join(str(size) for size in each["shape"]),  # noqa: RUF001 (a multiplication sign)
            "role": "usual for maps" if each.get("role", "").startswith("default") else "",
        }
        for each in layers
        if each["cut"] is not None and len(each["shape"]) >= 2
    ]
