"""The pages that people look at, and the fragments that they are put together from."""

from collections.abc import Sequence

from starlette.routing import BaseRoute

from counterpoint.studio.pages import comparing, explaining, outcomes, parts, trusting
from counterpoint.studio.pages.rendering import Pages
from counterpoint.studio.studio import Studio


def routes(studio: Studio) -> Sequence[BaseRoute]:
    """The routes of all pages and fragments. A GET never starts work: fragments do, with a POST, once they are on a page."""
    pages = Pages(studio)
    return [
        *explaining.routes(pages),
        *comparing.routes(pages),
        *trusting.routes(pages),
        *outcomes.routes(pages),
        *parts.routes(pages),
    ]
