"""A page that stands alone: a refusal for somebody to whom the studio gives no style sheet either."""

import base64
import hashlib
from functools import cache
from importlib.resources import files

from counterpoint.studio.pages.rendering import TITLES, template_text


def page_alone(status: int, words: str, *, address: str = "") -> tuple[str, str]:
    """The page, and the policy that allows its one inline style sheet, by its hash, and nothing else.

    Args:
        status: Of the answer.
        words: Why there is nothing.
        address: Where the studio can be opened; empty to name none.
    """
    style = _style()
    text = template_text(
        "refused_alone.html",
        title=TITLES.get(status, "This cannot be shown"),
        words=words[:1].upper() + words[1:],
        address=address,
        style=style,
    )
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return text, f"default-src 'none'; style-src 'sha256-{digest}'; frame-ancestors 'none'; base-uri 'none'"


@cache
def _style() -> str:
    return (files("counterpoint.studio") / "static" / "studio.css").read_text(encoding="utf-8")
