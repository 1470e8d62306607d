"""`counterpoint trust`: verdicts on real photographs, their files, and what is refused before any work."""

import json

import pytest
from PIL import Image
from typer.testing import CliRunner

from counterpoint.cli import app

MODEL = ("--model", "shapes_resnet")
QUICK = ("--judge", "black", "--steps", "3")


def run(*words):
    return CliRunner().invoke(app, ["trust", *words])


def test_a_verdict_with_its_figure_and_record(tmp_path):
    done = run(
        "sample:coffee",
        *MODEL,
        *QUICK,
        "--method",
        "grad_cam",
        "--method",
        "gradient",
        "--out",
        str(tmp_path),
    )
    assert done.exit_code == 0, done.output
    for name in ("grad_cam.layers.3", "gradient"):
        found = [p for p in tmp_path.iterdir() if f".{name.split('.')[0]}." in p.name]
        assert {p.suffix for p in found} == {".png", ".json"}
    record = json.loads(next(tmp_path.glob("*gradient.trust.json")).read_text())
    assert record["verdict"]["standing"] in done.output
    assert record["card"]["photograph"]["file"] == "coffee.png"
    with Image.open(next(tmp_path.glob("*gradient.trust.png"))) as figure:
        assert figure.width > 1000
    assert "pathway" in done.stdout


def test_json_and_one_check(tmp_path):
    done = run(
        "sample:coffee",
        *MODEL,
        "--method",
        "gradient",
        "--check",
        "pathway",
        "--json",
        "--out",
        str(tmp_path),
    )
    assert done.exit_code == 0, done.output
    (result,) = json.loads(done.stdout)["results"]
    assert list(result["checks"]) == ["pathway"]
    assert set(result["missing"]) == {"error", "curves", "weights"}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--check", "curve"), "curves"),
        (("--judge", "blurr"), "blur"),
        (("--method", "grad"), "method"),
        (("--bank", "sample:coffee"), "at least 20"),
        (("--layer", "nowhere", "--method", "grad_cam"), "nowhere"),
        (("--target", "no such class"), "no such class"),
    ],
)
def test_what_makes_no_sense_is_one_line_and_leaves_nothing(tmp_path, words, says):
    out = tmp_path / "out"
    done = run("sample:coffee", *MODEL, *words, "--out", str(out))
    assert done.exit_code == 2
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert not out.exists()


def test_a_photograph_that_cannot_be_read_does_not_end_the_rest(tmp_path):
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no image")
    done = run("sample:coffee", str(bad), *MODEL, "--check", "error", "--out", str(tmp_path / "out"))
    assert done.exit_code == 1
    assert "bad.jpg" in done.stderr
