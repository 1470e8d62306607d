"""Photographs with all maps made of them, small enough for a page: signed 8-bit numbers, packed."""

import base64
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

from counterpoint.bench.results import Results
from counterpoint.bench.tables import picture_file
from counterpoint.report.page.listing import Listing
from counterpoint.report.page.plain import all_rounded, rounded

SIDE = 64
"""Of a map's thumbnail, as `explanations.thumbnail` has it."""
BUDGET = 9_000_000
"""Characters that pictures may take in the page; images beyond it are counted and left out, the last ones first."""

_MAPS = """
SELECT DISTINCT ON (model, image, method, against, layer)
    model, image, sha256, label, method, against, layer, claim, class_target, probability, score, baseline_score, attribution_target,
    result, relative_error, converged, gradients, thumbnail, scale
FROM explanations WHERE status = 'ok' AND octet_length(thumbnail) = ? AND list_contains(?, image)
ORDER BY model, image, method, against, layer, precision, seed
"""
_IMAGES = """
SELECT model, image, min(position) AS position FROM explanations
WHERE thumbnail IS NOT NULL AND status = 'ok' GROUP BY ALL ORDER BY position, image, model
"""
_COUNT = (
    "SELECT count(DISTINCT (model, image)) FROM explanations WHERE thumbnail IS NOT NULL AND status = 'ok'"
)
_VALUES = """
SELECT model, image, method, against, layer, metric, avg(value) AS value FROM measures
WHERE status = 'ok' AND isfinite(value)
    AND (model, image) IN (SELECT (model, image) FROM explanations WHERE thumbnail IS NOT NULL)
GROUP BY ALL
"""
_TOGETHER = 16
_FACTS = ("probability", "score", "baseline_score", "attribution_target", "result", "relative_error")


def gallery(results: Results, listing: Listing) -> dict[str, Any]:
    """Images that have thumbnails, in the order of the data set: photograph, maps, and what was measured on each.

    A map made with several seeds or precisions is shown once, the first of them; its numbers are means over evaluation baselines and seeds.
    """
    values = _values(results, listing)
    photographs: dict[str, str] = {}
    shown: list[dict[str, Any]] = []
    used = 0
    preprocessing = {each["name"]: each["preprocessing"] for each in results.manifest["models"]}
    for model, image, rows in _pictured(results):
        rows.sort(key=listing.place)
        maps = base64.b64encode(zlib.compress(b"".join(row["thumbnail"] for row in rows), 9)).decode()
        picture = picture_file(rows[0]["sha256"] or "", preprocessing.get(model, {}))
        fresh = "" if picture in photographs else _photograph(results, picture)
        used += len(maps) + len(fresh)
        if used > BUDGET and shown:  # no smaller ones after it: they would look chosen
            break
        photographs.setdefault(picture, fresh)
        shown.append(
            {
                "model": listing.models.index(model),
                "name": image,
                "label": rows[0]["label"],
                "class": rows[0]["class_target"],
                "photograph": picture,
                "maps": maps,
                "rows": [
                    _row(row, listing, values.get((model, image, listing.place(row)), {})) for row in rows
                ],
            }
        )
    pictured = results.query(_COUNT)[1][0][0]
    total = results.query("SELECT count(DISTINCT image) FROM explanations")[1][0][0]
    return {
        "side": SIDE,
        "images": shown,
        "photographs": {name: url for name, url in photographs.items() if url},
        "left_out": pictured - len(shown),
        "total": total,
    }


def _pictured(results: Results) -> Iterator[tuple[str, str, list[dict[str, Any]]]]:
    """Model, image and its maps, in the order of the data set; a few images are held at once."""
    places = results.rows(_IMAGES)
    for k in range(0, len(places), _TOGETHER):
        group = places[k : k + _TOGETHER]
        found: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for row in results.rows(_MAPS, [SIDE * SIDE, [place["image"] for place in group]]):
            found.setdefault((row["model"], row["image"]), []).append(row)
        for place in group:
            if rows := found.get((place["model"], place["image"])):
                yield place["model"], place["image"], rows


def _row(row: Mapping[str, Any], listing: Listing, values: Mapping[str, float]) -> dict[str, Any]:
    return {
        "contender": listing.place(row),
        "claim": row["claim"],
        "scale": rounded(row["scale"]),
        "converged": row["converged"],
        "gradients": row["gradients"],
        **{name: rounded(row[name]) for name in _FACTS},
        "values": all_rounded(values.get(metric) for metric in listing.metrics),
    }


def _values(results: Results, listing: Listing) -> dict[tuple[str, str, int], dict[str, float]]:
    found: dict[tuple[str, str, int], dict[str, float]] = {}
    for row in results.rows(_VALUES):
        found.setdefault((row["model"], row["image"], listing.place(row)), {})[row["metric"]] = row["value"]
    return found


def _photograph(results: Results, file: str) -> str:
    """As a data address; empty where there is none."""
    path = results.folder / file
    # The name is made of what stands in a table: it may not lead anywhere else.
    if path.resolve().parent != (results.folder / "photographs").resolve() or not path.is_file():
        return ""
    return "data:image/jpeg;base64," + base64.b64encode(path.read_bytes()).decode()
