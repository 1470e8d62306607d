"""The examples on the page about scores run as they stand."""

import re
from pathlib import Path

import pytest
import torch

import counterpoint as cp

PAGE = (Path(__file__).parents[2] / "docs" / "scores.md").read_text()


def test_the_examples_of_the_page_run_in_their_order():
    pytest.importorskip("torchvision")
    names = {}
    with torch.random.fork_rng(devices=[]):
        for code in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
            exec(compile(code, "docs/scores.md", "exec"), names)
    assert names["curve"].scores.shape == (2, 17)
    assert names["attribution"].values.shape == (2, 2, 128)


def test_every_score_has_a_row():
    from counterpoint import scores

    made = [name for name in scores.__all__ if name in cp.__all__]
    assert len(made) == 10
    rows = "\n".join(line for line in PAGE.splitlines() if line.startswith("|"))
    assert [name for name in made if f"cp.{name}(" not in rows] == []
