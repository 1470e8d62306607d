"""Templates with what they all need: the studio, numbers in words, addresses of files."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

import jinja2
from starlette.requests import Request
from starlette.responses import HTMLResponse

from counterpoint.studio import wording
from counterpoint.studio.answers import EXAMPLE
from counterpoint.studio.pages.views import View, view_of
from counterpoint.studio.studio import Studio

TABS = ("explain", "compare", "trust", "results")
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


class Pages:
    """What routes are made with.

    Args:
        studio: Whom pages ask.
    """

    def __init__(self, studio: Studio) -> None:
        self.studio = studio

    def view(self, request: Request) -> View:
        """What the address asks for."""
        return view_of(request.query_params, self.studio.settings, self.photo_ids)

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

    def model_note(self) -> str:
        """What the status line says."""
        catalogue = self.studio.catalogue
        if catalogue is None:
            return "loading the model…" if len(self.studio.settings.models) == 1 else "loading the models…"
        broken = [model.name for model in catalogue.models if model.error]
        return f"{', '.join(broken)} could not be loaded" if broken else "ready"

    def page(self, request: Request, template: str, page: str, view: View, **values: Any) -> HTMLResponse:
        """A whole page."""
        one = view.one()
        # A form that a page sends has every field: the address shown is the shortest that means the same.
        asked = request.headers.get("HX-Target") == "view"
        headers = {"HX-Push-Url": f"/{page}?{view.query}"} if asked else {}
        tabs = [
            (name, f"/{name}" if name == "results" else f"/{name}?{(one if name != page else view).query}")
            for name in TABS
        ]
        return self.part(template, headers=headers, page=page, tabs=tabs, view=view, **values)

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
            "model_note": self.model_note(),
            "models": self.studio.settings.models,
        }
        return _environment().get_template(template).render(**{**shared, **values})


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
