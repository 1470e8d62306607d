"""Activation deviation: activations x fractions for each contender, beside that of random masks of the same areas."""

from typing import Any

from counterpoint.bench.results import Results
from counterpoint.report.page.listing import Listing
from counterpoint.report.page.plain import all_rounded

MOST = 150_000
"""Means over images in the page. Above that, evaluation baselines are averaged."""

_QUERY = """
WITH chosen AS (
    SELECT model, method, against, layer, {evaluation} AS evaluation, path, measure, activation, activation_number, image,
        fractions, found, floor
    FROM deviations
), points AS (
    SELECT * EXCLUDE (fractions, found, floor), generate_subscripts(found, 1) AS point,
        unnest(fractions) AS fraction, unnest(found) AS found, unnest(floor) AS floor
    FROM chosen
)
SELECT model, method, against, layer, evaluation, path, measure, activation, activation_number, point,
    avg(fraction) AS fraction, avg(found) FILTER (isfinite(found)) AS found,
    avg(floor) FILTER (isfinite(floor)) AS floor, count(DISTINCT image) AS images
FROM points GROUP BY ALL ORDER BY ALL
"""
_SIZE = """
SELECT coalesce(sum(numbers), 0) FROM (
    SELECT max(len(found)) AS numbers FROM deviations
    GROUP BY model, method, against, layer, evaluation, path, measure, activation
)
"""


def deviations(results: Results, listing: Listing) -> dict[str, Any]:
    """(model, evaluation, path, measure) -> contender -> the means over images, activations in the order of the network.

    Where there are too many numbers for a page the means over the evaluation baselines stand under the place -1.
    """
    averaged = results.query(_SIZE)[1][0][0] > MOST
    rows = results.rows(_QUERY.format(evaluation="''" if averaged else "evaluation"))
    found: dict[str, dict[str, dict[int, dict[str, Any]]]] = {}
    for row in rows:
        model = listing.models.index(row["model"])
        evaluation = -1 if averaged else listing.evaluations.index(row["evaluation"])
        contenders = found.setdefault(f"{model}/{evaluation}/{row['path']}/{row['measure']}", {})
        activations = contenders.setdefault(str(listing.place(row)), {})
        each = activations.setdefault(
            row["activation_number"],
            {"name": row["activation"], "x": [], "found": [], "floor": [], "images": row["images"]},
        )
        for name in ("x", "found", "floor"):
            each[name].append(row["fraction" if name == "x" else name])
    return {
        place: {
            contender: [
                {**each, **{name: all_rounded(each[name], 3) for name in ("x", "found", "floor")}}
                for _, each in sorted(activations.items())
            ]
            for contender, activations in contenders.items()
        }
        for place, contenders in found.items()
    }
