"""The page of results that were opened with the command: a benchmark's, or one saved attribution."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from counterpoint.studio import wording
from counterpoint.studio.pages.asking import answer_of, question_text
from counterpoint.studio.pages.rendering import Pages
from counterpoint.studio.questions import Results

_TABLES = 6
"""Rankings on the page; the report has all."""


def routes(pages: Pages) -> list[Route]:
    """The page."""

    def results(request: Request) -> Response:
        view = pages.view(request)
        question = Results()
        given = pages.studio.settings.results is not None
        key, answer = answer_of(pages, question) if given else ("", None)
        values = shown(key, answer) if answer else {"key": None, "answer": None}
        return pages.page(
            request, "results.html", "results", view, given=given, ask=question_text(question), **values
        )

    return [Route("/results", results)]


def shown(key: str, answer: dict[str, Any]) -> dict[str, Any]:
    """What the page says about them."""
    if answer["what"] == "benchmark":
        return {"key": key, "answer": answer, "rankings": _rankings(answer)}
    pairs = [
        ("class", f"{answer['label']}, {answer['index']}"),
        ("baseline", wording.form(answer["baseline_short"])),
        ("method", wording.form(answer["method_short"])),
        ("layer", answer["layer"]),
        ("f(x)", wording.number(answer["score"])),
        ("f(x′)", wording.number(answer["baseline_score"])),  # noqa: RUF001 (a prime)
        ("target", wording.number(answer["target"])),
        ("result", wording.number(answer["result"])),
        ("error", f"{wording.number(answer['error'])} ({wording.percent(answer['relative_error'])})"),
        *_of_the_map(answer),
        ("cost", wording.cost(answer["cost"])),
    ]
    return {"key": key, "answer": answer, "facts": pairs}


def _of_the_map(answer: dict[str, Any]) -> list[tuple[str, str]]:
    """What the error of the sum does not say."""
    found = []
    if (cancelled := answer.get("cancellation")) is not None:
        found.append(("cancellation, Σ |values| / |target|", wording.number(cancelled, 2)))
    if (own := answer.get("value_error")) is not None:
        found.append(("error of the map, estimated", f"≈ {wording.percent(own)}"))
    return found


def _rankings(answer: dict[str, Any]) -> list[dict[str, Any]]:
    """One table for each model and metric, of the means over evaluation baselines."""
    listing, tables = answer["listing"], []
    for place, rows in answer["rankings"].items():
        model, metric, evaluation = (int(part) for part in place.split("/"))
        if evaluation != -1:
            continue
        title = listing["metrics"][metric].get("title") or wording.plain(listing["metrics"][metric]["name"])
        if len(listing.get("models", [])) > 1:
            title += f", {listing['models'][model]}"
        tables.append({"title": title[:1].upper() + title[1:], "rows": [_row(row, listing) for row in rows]})
    return tables[:_TABLES]


def _row(row: list[Any], listing: dict[str, Any]) -> dict[str, Any]:
    contender, mean, low, high, rank, first, last, _, images = row[:9]
    who = listing["contenders"][contender]
    return {
        "rank": rank,
        "ranks": "" if first == last else f"({first} to {last})",
        "method": who["method"],
        "against": who["against"],
        "layer": who["layer"],
        "mean": mean,
        "low": low,
        "high": high,
        "images": images,
    }
