"""What failed, and why: maps, measures and attempts, the same reasons together."""

from dataclasses import dataclass
from typing import Any

from counterpoint.bench.results import Results

SHOWN = 200
"""Groups in the page; the rest are counted."""

_MAPS = """
SELECT model, method, against, layer, coalesce(reason, 'no reason was recorded') AS reason,
    count(*) AS times, count(DISTINCT image) AS images, min(image) AS example
FROM explanations WHERE status <> 'ok' GROUP BY ALL ORDER BY times DESC, model, method, against, layer, reason
"""
_MEASURES = """
SELECT model, method, against, layer, metric, coalesce(reason, 'no reason was recorded') AS reason,
    count(*) AS times, count(DISTINCT image) AS images, min(image) AS example
FROM measures WHERE status <> 'ok' GROUP BY ALL ORDER BY times DESC, model, method, against, layer, metric, reason
"""
_ATTEMPTS = """
SELECT status, coalesce(reason, 'no reason was recorded') AS reason,
    count(*) AS times, count(DISTINCT image) AS images, min(image) AS example
FROM attempts WHERE status <> 'ok' GROUP BY ALL ORDER BY times DESC, status, reason
"""


@dataclass(frozen=True)
class Failures:
    """Groups of failures with the same reason, the most frequent first."""

    maps: list[dict[str, Any]]
    """Explanations that failed for good: they have no numbers."""
    measures: list[dict[str, Any]]
    """Numbers that could not be taken of a map that is there."""
    attempts: list[dict[str, Any]]
    """Attempts that failed, or died with their worker; a later one may have done the work."""

    @classmethod
    def of(cls, results: Results) -> "Failures":
        """What the folder records."""
        return cls(results.rows(_MAPS), results.rows(_MEASURES), results.rows(_ATTEMPTS))

    @property
    def count(self) -> int:
        """How many maps are missing."""
        return sum(row["times"] for row in self.maps)
