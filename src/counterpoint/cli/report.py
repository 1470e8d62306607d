"""`counterpoint report`."""

from pathlib import Path
from typing import Annotated

import typer

from counterpoint.cli.ending import OK, ending_well
from counterpoint.terminal import print_lines, progress_shown


@ending_well
def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="What `counterpoint bench` wrote.")],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE.html", help="Where the page goes; DIR/report.html by default."),
    ] = None,
    figures: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Also write figures as PNG: critical differences, wins and rank stability by each metric.",
        ),
    ] = None,
) -> int:
    """Make one HTML page of a benchmark's results: it holds everything, and opens from disk without a network.

    Example: counterpoint report counterpoint-bench
    """
    with progress_shown("reading results"):
        from counterpoint.bench.results import Results
        from counterpoint.bench.statistics import verdict
        from counterpoint.report.bench_files import write_figures
        from counterpoint.report.page import write_report

        results = Results(folder)
        written = [write_report(folder, out)]
        sentences = verdict(results) if results.manifest["metrics"] else []
        if figures is not None:
            written += write_figures(results, figures)
    print_lines([*sentences, "", *(str(path) for path in written)])
    return OK
