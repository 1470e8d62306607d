"""A linear score: the best order is known under every baseline, and it is another one under each."""

import runpy
from pathlib import Path

import pytest

EXAMPLE = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "linear_case.py"))
WINNERS = {
    "black": "gradient x input",
    "white": "w (x - white)",
    "mean": "w (x - mean)",
    "noise instead": "w (x - grey)",
    "noise added, size of the change": "|gradient|",
}


@pytest.fixture(scope="module")
def columns():
    return EXAMPLE["columns"]()


@pytest.mark.parametrize("baseline", WINNERS)
def test_each_baseline_certifies_its_own_winner(columns, baseline):
    column = columns[baseline]
    assert min(column, key=column.get) == WINNERS[baseline]
    runner_up = sorted(column.values())[1]
    assert runner_up > column[WINNERS[baseline]]


def test_the_page_has_the_examples_table():
    page = Path(__file__).parents[2] / "docs" / "audit.md"
    assert EXAMPLE["table"]() in page.read_text()
