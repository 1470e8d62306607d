"""Which worker gets the next job."""

from collections.abc import Iterable

DEPTH = 2
"""Jobs of each worker: one at work, one that waits, so that no worker waits for the process that hands them out."""


def least_busy(places: Iterable[int], workers: int) -> int:
    """The worker with the fewest jobs.

    Args:
        places: The worker of each job that is under way.
        workers: How many there are.
    """
    loads = [0] * workers
    for place in places:
        loads[place] += 1
    return loads.index(min(loads))
