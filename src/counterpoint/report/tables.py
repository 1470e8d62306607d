"""Tables for the terminal, made from cards and catalogues."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from counterpoint.plain_table import plain_table as plain_table
from counterpoint.report.catalogue import Entry
from counterpoint.report.wording import NOTHING_LEARNED, command_text, number, percent, telling
from counterpoint.spec import Description, unusual


def results_table(cards: Sequence[Mapping[str, Any]], width: int) -> Table:
    """One row for each explanation; photograph, class and f(x) stand in the first row of each photograph only.

    A method that is the same in all rows is named in the title instead. Numbers are never cut: where `width` is too small for all columns,
    the names are folded, and below that f(x) and f(x') are left to the card, which holds everything.
    """
    several = len({_place(explanation) for card in cards for explanation in card["explanations"]}) > 1
    names, numbers = _cells(cards)
    if not several:
        names = [row[:3] for row in names]
    headings = ["photograph", "class", "baseline", "method"][: len(names[0])]
    figures = ["f(x)", "f(x')", "target", "result", "error", "value\nerror", "gradi-\nents", "for-\nwards"]
    room = width - 2 - _total(figures, numbers)  # 2: the edges
    if room < _LEAST_NAME * len(headings):
        figures, numbers = figures[2:], [row[2:] for row in numbers]
        room = width - 2 - _total(figures, numbers)
    table = Table(
        title=_title(cards, several=several),
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        padding=0,
        pad_edge=False,
    )
    widths = _shared(
        [max(map(len, column)) for column in zip(headings, *names, strict=True)], room - len(headings)
    )
    for heading, wide in zip(headings, widths, strict=True):
        whole = heading in ("baseline", "method")
        table.add_column(heading, width=wide, overflow="fold" if whole else "ellipsis", no_wrap=not whole)
    for heading in figures:
        table.add_column(heading, justify="right", no_wrap=True)
    for row, figures_row in zip(names, numbers, strict=True):
        if row[0]:
            table.add_section()
        table.add_row(
            *map(Text, row), *(Text(each, style="bold red" if "!" in each else "") for each in figures_row)
        )
    return table


_LEAST_NAME = 9


def _title(cards: Sequence[Mapping[str, Any]], *, several: bool) -> str:
    kind = cards[0]["score"]["kind"].replace("_", "-")
    return f"score: {kind}" + ("" if several else f"; method: {_place(cards[0]['explanations'][0])}")


def _cells(cards: Sequence[Mapping[str, Any]]) -> tuple[list[list[str]], list[list[str]]]:
    """Photograph, class, baseline, method; and the numbers, f(x) first."""
    names, numbers = [], []
    for card in cards:
        head = [card["photograph"]["file"], _class_text(card["score"]), number(card["score"]["value"])]
        for explanation in card["explanations"]:
            baseline = command_text(telling(_description(explanation["baseline"])))
            names.append([*head[:2], baseline, _place(explanation)])
            numbers.append([head[2], *_numbers(explanation)])
            head = ["", "", ""]
    return names, numbers


def _total(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    """The columns of the terminal that these columns of the table take, one space after each."""
    lines = [max(map(len, heading.split("\n"))) for heading in headings]
    return sum(
        1 + max(line, *map(len, column)) for line, column in zip(lines, zip(*rows, strict=True), strict=True)
    )


def _shared(wanted: list[int], room: int) -> list[int]:
    """The widths that were wanted, the widest made narrower until all fit into `room`."""
    widths = list(wanted)
    while sum(widths) > room and max(widths) > 1:
        widths[widths.index(max(widths))] -= 1
    return widths


def _numbers(explanation: Mapping[str, Any]) -> list[str]:
    shares = explanation["claim"] == "shares"
    error = "forced" if explanation["error_is_forced"] else percent(explanation["relative_error"])
    return [
        number(explanation["baseline_score"]),
        number(explanation["attribution_target"]),
        number(explanation["result"]) if shares else explanation["claim"],
        f"{error} !" if explanation["converged"] is False else error,
        percent(explanation["value_error"]),
        str(explanation["cost"]["gradients"]),
        str(explanation["cost"]["forwards"]),
    ]


def results_remarks(cards: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the signs in the table mean, where they occur."""
    every = [explanation for card in cards for explanation in card["explanations"]]
    remarks = []
    if any(card["model"].get("random_weights") for card in cards):
        remarks.append(f"{cards[0]['model']['name']}: {NOTHING_LEARNED}.")
    if any(explanation["converged"] is False for explanation in every):
        remarks.append(
            "! in 'error': the precision asked for was not reached within the budget of gradients."
        )
    shares = [explanation for explanation in every if explanation["claim"] == "shares"]
    if any(explanation["attribution_target"] is None for explanation in every):
        remarks.append("– in 'target': the baseline only fills removed pixels, so that there is no f(x').")  # noqa: RUF001
    if any(e["relative_error"] is None and e["attribution_target"] is not None for e in shares):
        remarks.append("– in 'error': the target is too small to divide by; the card has the absolute error.")  # noqa: RUF001
    if any(explanation["error_is_forced"] for explanation in every):
        remarks.append("forced in 'error': the method sets its own sum, so that this error proves nothing.")
    if any(explanation["cut"] == "partial" for explanation in every):
        remarks.append(
            "an intervention: something passes the layer by, and f(x') is f(x) with z' put in there."
        )
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
        if entry.formula:
            text.append(f"\n{entry.formula}", style="italic")
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


def _parameter(value: Any) -> str:
    return value["name"] if isinstance(value, Mapping) else str(value).lower()


def explanation_title(card: Mapping[str, Any]) -> str:
    """What the first explanation of a card is of: photograph, class, method and layer, baseline."""
    first = card["explanations"][0]
    baseline = command_text(telling(_description(first["baseline"])))
    return f"{card['photograph']['file']}: {_class_text(card['score'])}, {_place(first)} against {baseline}"


def _class_text(score: Mapping[str, Any]) -> str:
    if score["label"] is None and score["class_target"] is None:
        return "–"  # noqa: RUF001 (a dash: the score is of no class)
    return str(score["class_target"] if score["label"] is None else score["label"])


def _place(explanation: Mapping[str, Any]) -> str:
    """The method as the command line takes it, usual parameters left out, and its layer."""
    # A space after the name gives a long text a place to be broken at.
    text = command_text(unusual("method", _description(explanation["method"]))).replace(":", ": ", 1)
    return text if explanation["layer"] == "input" else f"{text} at {explanation['layer']}"


def _description(facts: Mapping[str, Any]) -> Description:
    return Description(facts["name"], facts["parameters"], facts["version"])
