"""Which photographs say what is in distribution."""

from collections.abc import Sequence
from typing import TypeVar

LEAST, MOST = 20, 100
"""Fewer say too little; of more, evenly spaced ones are taken."""

Photograph = TypeVar("Photograph")


def reference_of(photographs: Sequence[Photograph]) -> list[Photograph]:
    """At most 100 of them, evenly spaced; none where there are fewer than 20."""
    if len(photographs) < LEAST:
        return []
    few = min(len(photographs), MOST)
    return [photographs[k * len(photographs) // few] for k in range(few)]
