"""Deletion and insertion curves: the mean over images with its 95 % interval, for each contender and evaluation baseline."""

from typing import Any

from scipy.stats import t

from counterpoint.bench.results import Results
from counterpoint.report.page.listing import Listing
from counterpoint.report.page.plain import all_rounded, rounded

POINTS = 21
"""More points than this are thinned evenly; both ends stay."""

# Seeds are repeats of one image: they are averaged first, so that they do not count as images.
_QUERY = """
WITH points AS (
    SELECT model, method, against, layer, evaluation, kind, image,
        generate_subscripts(scores, 1) AS point, unnest(fractions) AS fraction, unnest(scores) AS score
    FROM curves
), repeated AS (
    SELECT model, method, against, layer, evaluation, kind, image, point, avg(fraction) AS fraction, avg(score) AS score
    FROM points WHERE isfinite(score) GROUP BY ALL
)
SELECT model, method, against, layer, evaluation, kind, point,
    avg(fraction) AS fraction, avg(score) AS mean, stddev_samp(score) AS spread, count(*) AS images
FROM repeated GROUP BY ALL ORDER BY ALL
"""


def curves(results: Results, listing: Listing) -> dict[str, Any]:
    """(model, evaluation, kind) -> contender -> fractions, means and half-widths of the interval, as the page draws them.

    The interval is Student's, mean ± t s / sqrt(n) over n images; none for a single image.
    """
    found: dict[str, dict[int, list[dict[str, Any]]]] = {}
    for row in results.rows(_QUERY):
        model, evaluation = listing.models.index(row["model"]), listing.evaluations.index(row["evaluation"])
        lines = found.setdefault(f"{model}/{evaluation}/{row['kind']}", {})
        lines.setdefault(listing.place(row), []).append(row)
    return {
        place: {str(contender): _line(points) for contender, points in lines.items()}
        for place, lines in found.items()
    }


def _line(points: list[dict[str, Any]]) -> dict[str, Any]:
    last = len(points) - 1
    kept = (
        sorted({round(k * last / (POINTS - 1)) for k in range(POINTS)}) if last >= POINTS else range(last + 1)
    )
    thin = [points[k] for k in kept]
    return {
        "x": all_rounded((each["fraction"] for each in thin), 3),
        "y": all_rounded(each["mean"] for each in thin),
        "half": [_half(each["spread"], each["images"]) for each in thin],
        "images": max(each["images"] for each in points),
    }


def _half(spread: float | None, images: int) -> float | None:
    if spread is None or images < 2:
        return None
    return rounded(t.ppf(0.975, images - 1) * spread / images**0.5, 3)
