"""How long work takes, from a part of it: run for a while, and broken off with what the progress says of the rest."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from counterpoint import progress
from counterpoint.errors import Cancelled

_LEAST_SHARE = 1e-3


@dataclass(frozen=True)
class Ran:
    """What a trial took."""

    seconds: float
    share: float
    """How much of the work was done: 1 where it ended."""

    @property
    def whole(self) -> bool:
        """It ended by itself."""
        return self.share == 1.0

    @property
    def expected(self) -> float:
        """Seconds for all of it."""
        return self.seconds / self.share


def within(work: Callable[[], object], seconds: float) -> Ran:
    """Run some work, for so long at most: it is stopped at its first report of progress after that.

    Args:
        work: What reports progress as it goes; what does not, runs to its end.
        seconds: When to stop.
    """
    begun = time.perf_counter()
    share = 0.0

    def listen(done: float, total: float, what: str) -> None:
        nonlocal share
        share = done / total if total > 0 else 0.0
        if time.perf_counter() - begun > seconds and share > _LEAST_SHARE:
            raise Cancelled

    try:
        with progress.listening(listen):
            work()
    except Cancelled:
        return Ran(time.perf_counter() - begun, min(share, 1.0))
    return Ran(time.perf_counter() - begun, 1.0)
