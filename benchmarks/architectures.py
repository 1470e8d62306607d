"""Which methods work on which architectures, with random weights: the tables of docs/architectures.md.

    python benchmarks/architectures.py --out DIR [--only NAME ...] [--tables]

About forty networks of torchvision, timm and transformers meet every method, each with as few steps as it takes. What is done is kept in
DIR: a stopped run goes on. A cell works if the values are finite and the heat map has the size of the image; it is refused if one clear
message says why.
"""

import argparse
import re
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from counterpoint.methods import METHODS
from kept import record, table
from library_networks import ARCHITECTURES, Cell, Row, tried


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=ARCHITECTURES, help="only these architectures")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tables", action="store_true", help="tables of what is there, and stop")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    rows: dict[str, Row] = {}
    for k, name in enumerate(given.only):
        file = given.out / f"{name.replace(':', '_')}.json"
        if given.tables and not file.exists():
            continue
        facts = record(file, lambda name=name: asdict(tried(name)))
        cells = {method: Cell(**cell) for method, cell in facts["cells"].items()}
        rows[name] = Row(facts["layer"], facts["cut"], cells)
        if not given.tables:
            print(f"{k + 1} of {len(given.only)}: {name}", flush=True)
    lines = []
    for name, row in rows.items():
        states = Counter(cell.state for cell in row.cells.values())
        refused = ", ".join(f"`{method}`" for method, cell in row.cells.items() if cell.state != "works")
        lines.append(
            [f"`{name}`", f"`{row.layer}`", row.cut, f"{states['works']} of {len(row.cells)}", refused]
        )
    table(["network", "layer for maps", "cut", "methods that work", "not"], lines)
    lines = []
    for method in METHODS:
        cells = [row.cells[method] for row in rows.values() if method in row.cells]
        others = Counter(_plain(cell.reason) for cell in cells if cell.state != "works")
        if others:
            works = sum(cell.state == "works" for cell in cells)
            lines.append(
                [
                    f"`{method}`",
                    f"{works} of {len(cells)}",
                    "; ".join(f"{why} ({n})" for why, n in others.most_common()),
                ]
            )
    table(["method", "works on", "why not on the others"], lines)
    every = [(method, cell) for row in rows.values() for method, cell in row.cells.items()]
    works = sum(cell.state == "works" for _, cell in every)
    fails = sum(cell.state == "fails" for _, cell in every)
    print(f"\n{len(rows)} networks, {len(METHODS)} methods: {works} of {len(every)} cells work ({works / len(every):.1%}), "
          f"{len(every) - works - fails} are refused, {fails} fail.")  # fmt: skip
    for name, row in rows.items():
        for method, cell in row.cells.items():
            if cell.state == "fails":
                print(f"{name}, {method}: {cell.reason}")


def _plain(reason: str) -> str:
    """What decides of a message: its first clause, without the shapes of one network."""
    clause = reason.split(";")[0].split(":")[0].rstrip(".").rpartition(", but ")[2]
    return re.sub(r" \([\d, ]+\) for \d+ images?", "", clause)


if __name__ == "__main__":
    main()
