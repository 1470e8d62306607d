"""The terminal: progress on stderr, so that stdout holds results only, and what is printed there."""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from counterpoint.auditing import Written
    from counterpoint.bench.planning import Plan
    from counterpoint.bench.run import Summary
    from counterpoint.explain import Explained
    from counterpoint.learning import Taught
    from counterpoint.models.fetching import Fetched
    from counterpoint.trusting.photographs import Judged

_SECONDS_BETWEEN_LINES = 30.0


@contextmanager
def progress_shown(what: str) -> Iterator[None]:
    """Show the progress of the block: a bar where stderr is a terminal, elsewhere a line every half minute.

    Args:
        what: The stage that runs before the first report, in words.
    """
    if not sys.stderr.isatty():
        with _interrupts_kept() as ends, progress.listening(_ending(ends, _lines())):
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

        with _interrupts_kept() as ends, progress.listening(_ending(ends, show)):
            yield


@contextmanager
def _interrupts_kept() -> Iterator[threading.Event]:
    """An event that Ctrl-C sets besides raising KeyboardInterrupt.

    Python drops what is raised while it runs a destructor or a callback of C code: without the event such a Ctrl-C would be lost.
    """
    interrupted = threading.Event()
    if threading.current_thread() is not threading.main_thread():  # signals are the main thread's
        yield interrupted
        return
    before = signal.getsignal(signal.SIGINT)

    def interrupt(*_: Any) -> None:
        interrupted.set()
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)


def _ending(interrupted: threading.Event, listener: progress.Listener) -> progress.Listener:
    """The listener, which ends the work where Ctrl-C was pressed."""

    def show(done: float, total: float, stage: str) -> None:
        if interrupted.is_set():
            raise KeyboardInterrupt
        listener(done, total, stage)

    return show


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


def print_detections(explained: "list[Explained]", *, out: Path, note: str) -> None:
    """The table of all explained detections, and where the files are."""
    from counterpoint.report.detection_table import detection_rows
    from counterpoint.report.tables import plain_table

    console = console_for_results()
    headings, rows = detection_rows([result.facts for result in explained])
    console.print(plain_table("Detections; everything else is in the cards", headings, rows))
    for sentence in dict.fromkeys((*(str(result.facts["note"]) for result in explained), note)):
        if sentence:
            console.print(sentence, markup=False)
    count = f"{len(explained)} figure{'s' if len(explained) > 1 else ''}, with cards and values, in"
    console.print(f"{count} {out}{os.sep}", markup=False, soft_wrap=True)
    for result in explained[:10]:
        console.print(f"  {result.figure}", markup=False, soft_wrap=True)


def print_verdicts(judged: "list[Judged]") -> None:
    """Each verdict with its reasons, and where the figure is."""
    from counterpoint.report.tables import explanation_title, plain_table
    from counterpoint.trusting.verdict import MARKS

    console = console_for_results()
    for result in judged:
        verdict = result.facts["verdict"]
        rows = [
            [f"{MARKS[reason['standing']]} {reason['standing']}", reason["check"], reason["words"]]
            for reason in verdict["reasons"]
        ]
        console.print(
            plain_table(explanation_title(result.facts["card"]), ["", "check", "what it says"], rows)
        )
        console.print(f"{verdict['standing']}: {verdict['words']}", markup=False)
        console.print(f"  {result.figure}\n", markup=False, soft_wrap=True)


def print_results(explained: "list[Explained]", *, out: Path, note: str, chosen_layer: bool) -> None:
    """The table of all results, what its signs mean, and where the files are."""
    from counterpoint.report.tables import results_remarks, results_table

    console = console_for_results()
    cards = [result.facts for result in explained]
    console.print(results_table(cards, console.width))
    for remark in results_remarks(cards):
        console.print(remark, markup=False)
    layers = {e["layer"] for card in cards for e in card["explanations"]} - {"input"}
    if layers and not chosen_layer:
        console.print(
            f"No --layer was given: '{', '.join(sorted(layers))}' is the model's last layer with maps.",
            markup=False,
        )
    if note:
        console.print(note, markup=False)
    # Not wrapped by us: a path that is broken in two cannot be copied.
    figures = sum(1 + len(result.further) for result in explained)
    count = f"{figures} figure{'s' if figures > 1 else ''}, with cards and values, in"
    console.print(f"{count} {out}{os.sep}", markup=False, soft_wrap=True)
    for result in explained[:10]:
        for figure in (result.figure, *result.further):
            console.print(f"  {figure}", markup=False, soft_wrap=True)


_LEARNED_COLUMNS = ("baseline", "undominated", "excess", "confidence lost", "entropy", "negative divergence")


def print_audit(written: "Written", out: Path) -> None:
    """The main columns, what the audit says in words, and where the files are."""
    from counterpoint.report.tables import plain_table

    console = console_for_results()
    # A terminal has room for some means; intervals and the rest stand in the file.
    kept = [k for k, heading in enumerate(written.headings) if heading not in written.in_files_only]
    short = [
        [row[k].split(" (")[0] if k and "(" in row[k] and "to" in row[k] else row[k] for k in kept]
        for row in written.rows
    ]
    console.print(
        plain_table("Means; intervals are in the files", [written.headings[k] for k in kept], short)
    )
    for sentence in written.words:
        console.print(f"- {sentence}", markup=False)
    console.print(f"Table, figures and numbers in {out}{os.sep}", markup=False, soft_wrap=True)
    for path in written.files:
        console.print(f"  {path}", markup=False, soft_wrap=True)


def print_fetched(fetched: "Fetched") -> None:
    """Where the weights are, and whether they had been there."""
    how = "is in" if fetched.anew else "was there already, --force fetches it anew:"
    console_for_results().print(f"{fetched.name} {how} {fetched.file}", markup=False, soft_wrap=True)


def print_learned(taught: "Taught") -> None:
    """The table of the report, what it says in words, and where the files are."""
    from counterpoint.report.tables import plain_table

    console = console_for_results()
    kept = [k for k, heading in enumerate(taught.headings) if heading in _LEARNED_COLUMNS]
    rows = [[row[k].split(" (")[0] if k else row[k] for k in kept] for row in taught.rows]
    headings = [taught.headings[k] for k in kept]
    console.print(plain_table("Beside its rivals, on photographs it was not learned from", headings, rows))
    for sentence in taught.words:
        console.print(f"- {sentence}", markup=False)
    for path in taught.files:
        console.print(f"  {path}", markup=False, soft_wrap=True)
    console.print(f"Use it: --baseline learned:file={taught.files[0]}", markup=False, soft_wrap=True)


def print_bench(summary: "Summary") -> None:
    """What there is, what is lacking and why, and where to look."""
    console = console_for_results()
    for reason in summary.left_out:
        console.print(f"left out: {reason}", markup=False)
    console.print(
        f"{summary.explanations:,} of {summary.expected:,} explanations are answered; this run worked on {summary.fresh:,} of them "
        f"and took {summary.measured:,} measures.",
        markup=False,
    )
    if summary.failed:
        measures = summary.failed - summary.failed_maps
        console.print(f"{summary.failed_maps:,} explanations and {measures:,} measures failed:", markup=False)
        for reason, times in summary.reasons[:10]:
            console.print(f"  {times:,} x {reason}", markup=False)
        if len(summary.reasons) > 10:
            console.print(f"  and {len(summary.reasons) - 10} other reasons", markup=False)
    for command in (
        f"counterpoint report {summary.folder}",
        f'counterpoint bench query "..." --out {summary.folder}',
    ):
        console.print(f"next: {command}", markup=False, soft_wrap=True)


def print_bench_plan(plan: "Plan") -> None:
    """What a benchmark would cost."""
    from counterpoint.report.tables import plain_table

    console = console_for_results()
    console.print(plain_table("What it costs", plan.headings, plan.rows))
    for sentence in plan.words:
        console.print(sentence, markup=False, soft_wrap=True)


def print_lines(lines: Sequence[str]) -> None:
    """Sentences, and where files are."""
    console = console_for_results()
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def print_rows(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """The answer to a query."""
    from counterpoint.report.tables import plain_table

    def cell(value: Any) -> str:
        if isinstance(value, float):
            return f"{value:.6g}"
        return f"{len(value)} bytes" if isinstance(value, bytes) else str(value)

    console_for_results().print(
        plain_table("", list(names), [[cell(value) for value in row] for row in rows])
    )


def print_json(data: Any) -> None:
    """Strict JSON on stdout: no NaN."""
    print(json.dumps(data, indent=2, allow_nan=False))


def console_for_results() -> Console:
    """A console on stdout."""
    # Without a terminal nobody can widen the window: room enough that nothing is cut short.
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 120
    return Console(width=width, highlight=False)
