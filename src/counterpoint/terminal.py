"""Progress in a terminal, on stderr, so that stdout holds results only."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from counterpoint import progress

_SECONDS_BETWEEN_LINES = 10.0


@contextmanager
def progress_shown(what: str) -> Iterator[None]:
    """Show the progress of the block: a bar where stderr is a terminal, elsewhere a line every ten seconds.

    Args:
        what: The stage that runs before the first report, in words.
    """
    if not sys.stderr.isatty():
        with progress.listening(_lines()):
            yield
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    # Gone when it is done: what stays in the terminal is the result.
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)

        def show(done: float, total: float, stage: str) -> None:
            bar.update(task, completed=done, total=total, description=_short(stage) or what)

        with progress.listening(show):
            yield


def _lines() -> progress.Listener:
    last = time.monotonic()

    def show(done: float, total: float, stage: str) -> None:
        nonlocal last
        if time.monotonic() - last >= _SECONDS_BETWEEN_LINES and total > 0:
            last = time.monotonic()
            print(f"{100 * done / total:3.0f} % {stage}".rstrip(), file=sys.stderr, flush=True)

    return show


def _short(stage: str, most: int = 60) -> str:
    return stage if len(stage) <= most else stage[: most - 1] + "…"
