"""What docs/detection.md shows runs, and its table is the example's."""

import re
import runpy
from pathlib import Path

import pytest

import counterpoint as cp
from counterpoint.models.cache import cached_weights

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "detection.md").read_text()


@pytest.fixture(autouse=True)
def weights():
    if not cached_weights("mtcnn").is_file():
        pytest.skip("run `counterpoint models fetch mtcnn` to run this test")


@pytest.fixture(scope="module")
def example():
    return runpy.run_path(str(ROOT / "examples" / "detection.py"))


@pytest.mark.weights
@pytest.mark.slow
def test_the_code_of_the_page_runs():
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    found: dict[str, object] = {}
    exec(code, found)
    assert isinstance(found["attribution"], cp.Attribution)
    assert found["attribution"].relative_error.item() < 0.01


@pytest.mark.weights
@pytest.mark.slow
def test_the_claims_below_the_table_hold(example):
    logit, score, path = example["find"](quick=True)
    assert "| " + " | ".join(example["HEADINGS"]) + " |" in PAGE
    assert abs(score.result) < 0.001
    assert score.error > 0.99
    assert logit.error < 0.2
    assert path.error < 0.01
    assert min(logit.in_box, score.in_box, path.in_box) > 0.9
    # The same curve: only the scale of the two maps differs.
    assert score.deletion == pytest.approx(logit.deletion, abs=0.05)
    assert "| ODAM | logit | candidate |" in PAGE


@pytest.mark.weights
@pytest.mark.slow
def test_the_figure_of_the_page_can_be_drawn(example, tmp_path, monkeypatch):
    assert example["figure"](tmp_path).stat().st_size > 10_000
    assert 10_000 < (ROOT / "docs" / "images" / "detection.png").stat().st_size < 600_000
