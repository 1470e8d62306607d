"""The two demands on an evaluation baseline: it removes information, and it stays near real images."""

from typing import Any

import torch

from counterpoint.audit.statistics import Resampling, interval
from counterpoint.bench.results import Results
from counterpoint.report.page.listing import Listing
from counterpoint.report.page.plain import rounded

REMOVED, DISTANCE = "information_removed", "out_of_distribution"

# The mean over contenders first: the points are baselines, and what varies is the image.
_QUERY = """
SELECT model, evaluation, metric, image, avg(value) AS value
FROM measures WHERE metric IN (?, ?) AND status = 'ok' AND isfinite(value) AND evaluation <> ''
GROUP BY ALL ORDER BY ALL
"""


def trade_off(results: Results, listing: Listing, *, seed: int = 0) -> dict[str, list[dict[str, Any]]]:
    """Model -> evaluation baselines with both means and their 95 % bootstrap intervals over images; empty where one was not measured."""
    numbers: dict[tuple[str, str, str], dict[str, float]] = {}
    for row in results.rows(_QUERY, [REMOVED, DISTANCE]):
        numbers.setdefault((row["model"], row["evaluation"], row["metric"]), {})[row["image"]] = row["value"]
    found: dict[str, list[dict[str, Any]]] = {}
    for m, model in enumerate(listing.models):
        for b, evaluation in enumerate(listing.evaluations):
            removed, distance = (numbers.get((model, evaluation, name), {}) for name in (REMOVED, DISTANCE))
            images = sorted(removed.keys() & distance.keys())
            if not images:
                continue
            both = torch.tensor(
                [[each[image] for image in images] for each in (removed, distance)], dtype=torch.float64
            )
            low, high = interval(Resampling.of(len(images), seed=seed).means(both))
            y, x = (
                [rounded(float(both[k].mean())), rounded(float(low[k])), rounded(float(high[k]))]
                for k in range(2)
            )
            found.setdefault(str(m), []).append({"evaluation": b, "x": x, "y": y, "images": len(images)})
    return found
