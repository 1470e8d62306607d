"""The command as a whole: its sub-commands, in the order of the help."""

import os
from typing import Annotated

import typer

from counterpoint import __version__
from counterpoint.cli.audit import audit
from counterpoint.cli.baseline import baseline_app
from counterpoint.cli.bench import bench_app
from counterpoint.cli.ending import OK
from counterpoint.cli.explain import explain
from counterpoint.cli.layers import layers
from counterpoint.cli.listing import baselines, methods
from counterpoint.cli.models import models_app
from counterpoint.cli.options import HELP_OPTIONS
from counterpoint.cli.report import report
from counterpoint.cli.studio import studio
from counterpoint.cli.trust import trust
from counterpoint.cli.visualise import visualise


def main() -> None:
    """Run the command line."""
    # Read when torch is loaded: threads that wait sleep, so that a busy machine does not make it twenty times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    app()


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"counterpoint {__version__}")
        raise typer.Exit(OK)


def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    pass


app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings=HELP_OPTIONS,
    help="Explain vision models against an explicit baseline, and know how wrong each explanation is.",
    callback=_common,
)
for command in (explain, trust, studio, audit, report, methods, baselines, layers, visualise):
    app.command()(command)
app.add_typer(models_app, name="models")
app.add_typer(baseline_app, name="baseline")
app.add_typer(bench_app, name="bench")
