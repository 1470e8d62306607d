"""`counterpoint methods` and `counterpoint baselines`: what can be asked for by name."""

from typing import Literal

from counterpoint.cli.ending import OK, ending_well
from counterpoint.cli.options import Json
from counterpoint.terminal import console_for_results, print_json


@ending_well
def methods(as_json: Json = False) -> int:
    """List the ways to explain: what their values are, parameters, paper."""
    return _list_entries("method", "Methods: --method NAME or NAME:parameter=value,...", as_json)


@ending_well
def baselines(as_json: Json = False) -> int:
    """List what photographs can be compared with: parameters, paper."""
    return _list_entries("baseline", "Baselines: --baseline NAME or NAME:parameter=value,...", as_json)


def _list_entries(kind: Literal["method", "baseline"], title: str, as_json: bool) -> int:
    from counterpoint.report.catalogue import entries

    found = entries(kind)
    if as_json:
        print_json([entry.as_dict() for entry in found])
        return OK
    from counterpoint.report.tables import entries_table

    console_for_results().print(entries_table(found, title))
    return OK
