"""Tables for the terminal, made from cards and catalogues."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from counterpoint.report.catalogue import Entry
from counterpoint.report.wording import command_text, number, percent, unusual
from counterpoint.spec import Description


def results_table(cards: Sequence[Mapping[str, Any]]) -> Table:
    """One row for each explanation; photograph, class and f(x) stand in the first row of each photograph only.

    A method that is the same in all rows is named in the title instead: eleven columns need their room.
    """
    methods = {_place(explanation) for card in cards for explanation in card["explanations"]}
    several = len(methods) > 1
    kind = cards[0]["score"]["kind"].replace("_", "-")
    title = f"score: {kind}" + ("" if several else f"; method: {next(iter(methods))}")
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    table.add_column("photograph", overflow="ellipsis", no_wrap=True, min_width=8, max_width=24)
    table.add_column("class", overflow="ellipsis", no_wrap=True, min_width=8, max_width=24)
    table.add_column("baseline", overflow="fold", min_width=8)
    if several:
        table.add_column("method", overflow="fold", min_width=10)
    for heading in ("f(x)", "f(x')", "target", "result", "error", "value\nerror", "gradi-\nents"):
        table.add_column(heading, justify="right", no_wrap=True)
    for card in cards:
        for k, explanation in enumerate(card["explanations"]):
            head = [card["photograph"]["file"], _class_text(card["score"])] if k == 0 else ["", ""]
            names = [command_text(_description(explanation["baseline"]))] + (
                [_place(explanation)] if several else []
            )
            value = number(card["score"]["value"]) if k == 0 else ""
            last = k == len(card["explanations"]) - 1
            table.add_row(
                *map(Text, head), *map(Text, names), value, *_numbers(explanation), end_section=last
            )
    return table


def _numbers(explanation: Mapping[str, Any]) -> list[Text | str]:
    shares = explanation["claim"] == "shares"
    error: Text | str = percent(explanation["relative_error"])
    if explanation["converged"] is False:
        error = Text(f"{error} !", style="bold red")
    return [
        number(explanation["baseline_score"]),
        number(explanation["attribution_target"]),
        number(explanation["result"]) if shares else explanation["claim"],
        error,
        percent(explanation["value_error"]),
        str(explanation["cost"]["gradients"]),
    ]


def results_remarks(cards: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the signs in the table mean, where they occur."""
    every = [explanation for card in cards for explanation in card["explanations"]]
    remarks = []
    if any(explanation["converged"] is False for explanation in every):
        remarks.append("! the precision asked for was not reached within the budget of gradients.")
    if any(
        explanation["relative_error"] is None and explanation["claim"] == "shares" for explanation in every
    ):
        remarks.append("– in 'error': the target is too small to divide by; the card has the absolute error.")  # noqa: RUF001
    return remarks


def entries_table(entries: Sequence[Entry], title: str) -> Table:
    """Methods or baselines, one row each."""
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("name", no_wrap=True, style="bold")
    methods = any(entry.claim for entry in entries)
    if methods:
        table.add_column("values are")
        table.add_column("at")
    table.add_column("meaning", overflow="fold", ratio=1)
    for entry in entries:
        text = Text(entry.meaning)
        if entry.parameters:
            given = ", ".join(f"{name}={_parameter(value)}" for name, value in entry.parameters.items())
            text.append(f"\nparameters: {given}", style="cyan")
        if entry.reference:
            text.append(f"\n{entry.reference}", style="dim")
        middle = (
            [str(entry.claim), {"any": "input, layer"}.get(str(entry.level), str(entry.level))]
            if methods
            else []
        )
        table.add_row(entry.name, *middle, text, end_section=True)
    return table


def plain_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A table of words; long ones are folded."""
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for k, column in enumerate(columns):
        table.add_column(column, overflow="fold", style="bold" if k == 0 else "")
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _parameter(value: Any) -> str:
    return value["name"] if isinstance(value, Mapping) else str(value).lower()


def _class_text(score: Mapping[str, Any]) -> str:
    return str(score["class_target"] if score["label"] is None else score["label"])


def _place(explanation: Mapping[str, Any]) -> str:
    """The method as the command line takes it, usual parameters left out, and its layer."""
    text = command_text(unusual("method", _description(explanation["method"])))
    return text if explanation["layer"] == "input" else f"{text} at {explanation['layer']}"


def _description(facts: Mapping[str, Any]) -> Description:
    return Description(facts["name"], facts["parameters"], facts["version"])
