"""The audit as a command: tables, words and figures out, one clear line where it cannot be done."""

import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from counterpoint import cli

MODEL = ("--model", "tinymodel:build")
TWO = ("--baseline", "black", "--baseline", "mean")


def run(*arguments):
    return CliRunner().invoke(cli.app, ["audit", *map(str, arguments)], catch_exceptions=False)


@pytest.fixture
def album(desk):
    """Five small photographs in a folder."""
    (desk / "album").mkdir()
    rng = np.random.default_rng(0)
    for n in range(5):
        pixels = np.kron(rng.integers(0, 255, (4, 4, 3)), np.ones((12, 12, 1))).astype(np.uint8)
        Image.fromarray(pixels).save(desk / "album" / f"photo{n}.png")
    return desk / "album"


def test_baselines_are_compared_on_a_folder_and_the_run_can_be_repeated(album, desk):
    arguments = (album, *MODEL, *TWO, "--steps", "4", "--out", desk / "found")
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    assert "black" in result.stdout
    assert {path.name for path in (desk / "found").iterdir()} == {
        *("audit.md", "audit.json", "trade-off.png", "looks.png", "results"),
    }
    facts = json.loads((desk / "found" / "audit.json").read_text())
    again = json.loads(run(*arguments, "--json").stdout)
    assert again == facts
    assert {each["baseline"] for each in facts["baselines"]} == {"black", "mean"}
    assert facts["recommendation"]


def test_a_bank_of_other_photographs_can_be_given(album, desk):
    result = run(
        album, *MODEL, *TWO, "--steps", "3", "--no-insertion", "--bank", album, "--limit", "3", "--json"
    )
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["baselines"][0]["insertion_beyond"]["mean"] is None


def test_rankings_hold_methods_against_every_baseline(album, desk):
    methods = ("--method", "gradient", "--method", "taylor", "--against", "black", "--against", "mean")
    result = run(
        album, *MODEL, *TWO, "--rankings", *methods, "--steps", "4", "--out", desk / "ranked", "--json"
    )
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert facts["contenders"] == ["gradient against black", "taylor against black", "taylor against mean"]
    assert np.shape(facts["metrics"]["insertion"]["areas"]) == (3, 2)
    assert {path.name for path in (desk / "ranked").iterdir()} == {
        *("rankings.md", "rankings.json", "rankings.png", "circularity.png", "ranking-results"),
    }


def test_evidence_asks_metrics_to_order_maps(album, desk):
    masks = desk / "masks"
    masks.mkdir()
    for photograph in sorted(album.iterdir()):
        with Image.open(photograph) as opened:
            mask = np.zeros(opened.size[::-1], dtype=np.uint8)
        mask[: len(mask) // 2] = 255
        Image.fromarray(mask).save(masks / f"{photograph.stem}.png")
    result = run(album, *MODEL, *TWO, "--evidence", masks, "--steps", "4", "--out", desk / "known", "--json")
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert [each["baseline"] for each in facts["metrics"]["insertion"]] == ["black", "mean"]
    assert (desk / "known" / "evidence.png").stat().st_size > 0
    both = run(album, *MODEL, *TWO, "--evidence", masks, "--rankings")
    assert both.exit_code == 2
    assert "one at a time" in both.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("cat.jpg", *MODEL, *TWO), ["images must be at least 3", "got 1"]),
        (("album", *MODEL, "--baseline", "black"), ["at least 2 different"]),
        (("album", *MODEL, "--baseline", "blakc", "--baseline", "mean"), ["did you mean 'black'"]),
        (("album", *MODEL, *TWO, "--method", "gradient"), ["--rankings"]),
        (("album", *MODEL, *TWO, "--steps", "1"), ["steps", "at least 2"]),
        (("album", *MODEL, *TWO, "--rankings", "--method", "gradient"), ["contenders must be at least 2"]),
        (("nowhere", *MODEL, *TWO), ["nowhere"]),
    ],
)
def test_it_gets_one_clear_line_and_exit_code_2(album, desk, arguments, words):
    before = sorted(desk.rglob("*"))
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    assert result.stderr.startswith("error: ")
    for word in words:
        assert word in result.stderr
    left = [p for p in sorted(desk.rglob("*")) if p not in before and "__pycache__" not in p.parts]
    assert left == []
