"""How wrong the explanations are: the relative attribution error of every method, layer and attribution baseline."""

from typing import Any

from counterpoint.bench.results import Results
from counterpoint.report.page.listing import Listing
from counterpoint.report.wording import CLAIMS

_QUERY = """
SELECT model, precision, method, against, layer,
    any_value(claim) AS claim,
    count(*) AS maps,
    median(relative_error) FILTER (isfinite(relative_error)) AS median,
    quantile_cont(relative_error, 0.9) FILTER (isfinite(relative_error)) AS ninety,
    max(relative_error) FILTER (isfinite(relative_error)) AS worst,
    count(*) FILTER (claim = 'shares' AND NOT coalesce(isfinite(relative_error), false)) AS undefined,
    avg(converged::INTEGER) AS converged,
    avg(gradients) AS gradients
FROM explanations WHERE status = 'ok'
GROUP BY ALL
"""


def attribution_errors(results: Results, listing: Listing) -> list[dict[str, Any]]:
    """One row for each model, precision and contender that made a map; those without a sum to check say why."""
    rows = results.rows(_QUERY)
    for row in rows:
        row["note"] = "" if row["claim"] == "shares" else CLAIMS.get(row["claim"], "")
    return sorted(
        rows, key=lambda row: (listing.models.index(row["model"]), row["precision"], listing.place(row))
    )
