"""`counterpoint report`."""

from pathlib import Path
from typing import Annotated

import typer

from counterpoint.cli.ending import OK, ending_well, say
from counterpoint.terminal import progress_shown


@ending_well
def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="What `counterpoint bench` wrote.")],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE.html", help="Where the page goes; DIR/report.html by default."),
    ] = None,
) -> int:
    """Make one HTML page of a benchmark's results: it holds everything, and opens from disk without a network.

    Example: counterpoint report counterpoint-bench
    """
    with progress_shown("reading results"):
        from counterpoint.report.page import write_report

        written = write_report(folder, out)
    say(f"report: {written}")
    return OK
