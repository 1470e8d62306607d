"""`counterpoint bench`."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from counterpoint.cli.default_command import DefaultCommand
from counterpoint.cli.ending import OK, SOME_FAILED, ending_well, say
from counterpoint.cli.options import HELP_OPTIONS, Json
from counterpoint.terminal import (
    print_bench,
    print_bench_plan,
    print_json,
    print_rows,
    progress_shown,
)

USUAL_FOLDER = Path("counterpoint-bench")

bench_app = typer.Typer(
    cls=DefaultCommand,
    no_args_is_help=True,
    context_settings=HELP_OPTIONS,
    help="Methods x baselines x measures x images, at any size.\n\n`counterpoint bench SPEC.toml` is short for `bench run SPEC.toml`; "
    "`bench --init` writes a spec, `bench SPEC.toml --plan` says what it costs; all options: `bench run --help`.",
)

Out = Annotated[Path, typer.Option(metavar="DIR", help="Where the results are.")]


@bench_app.command("run")
@ending_well
def run(
    spec: Annotated[
        Path | None, typer.Argument(metavar="SPEC.toml", help="What is asked; --init writes an example.")
    ] = None,
    out: Out = USUAL_FOLDER,
    init: Annotated[
        bool,
        typer.Option(
            "--init", help="Write a commented spec, benchmark.toml or SPEC.toml, that runs as it is, and end."
        ),
    ] = False,
    photographs: Annotated[
        list[str] | None,
        typer.Option(metavar="PHOTO", help="Image files or folders instead of the spec's; repeatable."),
    ] = None,
    plan: Annotated[
        bool,
        typer.Option(
            "--plan", help="Say what it would cost, forwards, gradients, time, memory and disk, and end."
        ),
    ] = False,
    images: Annotated[
        int | None, typer.Option(help="With --plan: for so many images instead of those of the spec.", min=1)
    ] = None,
    speed: Annotated[
        float, typer.Option(help="With --plan: how many times as fast as this one each worker is.", min=1e-6)
    ] = 1.0,
    engine: Annotated[
        str | None,
        typer.Option(help="in_process, pool (processes on this machine) or ray; instead of the spec's."),
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Processes; instead of the spec's.", min=1)] = None,
    address: Annotated[
        str | None, typer.Option(help="Of a Ray cluster; without one, one is started here.")
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Ask again what failed in an earlier run.")
    ] = False,
    as_json: Json = False,
) -> int:
    """Run a benchmark; run it again, and only what is missing runs.

    Example: counterpoint bench --init && counterpoint bench benchmark.toml --plan && counterpoint bench benchmark.toml
    """
    if init:
        from counterpoint.bench.example import write_example

        written = write_example(spec or Path("benchmark.toml"))
        say(f"wrote {written}; look at it, then: counterpoint bench {shlex.quote(str(written))}")
        return OK
    from counterpoint.errors import InputError

    if spec is None:
        raise InputError("name a SPEC.toml, or write one with --init.")
    with progress_shown("getting ready"):
        from counterpoint.bench.changing import changed
        from counterpoint.bench.spec import read_spec
        from counterpoint.report.wording import NOTHING_LEARNED

        asked, text = read_spec(spec)
        asked = changed(asked, photographs=photographs or (), engine=engine, workers=workers, address=address)
        for part in asked.model:
            if part.random_weights:
                say(f"warning: {part.title}: {NOTHING_LEARNED}.")
        if plan:
            from counterpoint.bench.planning import plan_of

            costs = plan_of(asked, out, images=images, workers=workers, speed=speed)
        else:
            if images is not None or speed != 1:
                raise InputError("--images and --speed are for --plan.")
            from counterpoint.bench.run import run as run_benchmark

            again = f"counterpoint bench {shlex.quote(str(spec))} --out {shlex.quote(str(out))}"
            try:
                summary = run_benchmark(asked, out, text=text, retry_failed=retry_failed)
            except KeyboardInterrupt:
                say(f"stopped; resume with: {again}")
                raise
    if plan:
        if as_json:
            print_json(costs.plain())
        else:
            print_bench_plan(costs)
        return OK
    if as_json:
        print_json(summary.plain())
    else:
        print_bench(summary)
    return OK if summary.complete else SOME_FAILED


@bench_app.command("query")
@ending_well
def query(
    sql: Annotated[
        str,
        typer.Argument(metavar="SQL", help="Over explanations, measures, curves, deviations and attempts."),
    ],
    out: Out = USUAL_FOLDER,
    as_json: Json = False,
) -> int:
    """Ask the results in SQL.

    Example: counterpoint bench query "select method, avg(value) from measures where metric = 'insertion' group by method"
    """
    from counterpoint.bench.results import Results

    names, rows = Results(out).query(sql)
    if as_json:
        from counterpoint.bench.results import plain_rows

        print_json(plain_rows(names, rows))
    else:
        print_rows(names, rows)
    return OK
