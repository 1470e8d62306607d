"""Learned baselines as a command: a file, its figure and its report out; resumed where it was stopped."""

import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from counterpoint import cli, learning
from counterpoint.baselines import Learned
from counterpoint.errors import Cancelled

MODEL = ("--model", "tinymodel:build")


def run(*arguments):
    return CliRunner().invoke(cli.app, ["baseline", *map(str, arguments)], catch_exceptions=False)


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(0)
    return [
        np.kron(rng.integers(0, 255, (4, 4, 3)), np.ones((12, 12, 1))).astype(np.uint8) for _ in range(24)
    ]


@pytest.fixture
def album(desk, pictures):
    (desk / "album").mkdir()
    for n, pixels in enumerate(pictures):
        Image.fromarray(pixels).save(desk / "album" / f"photo{n:02}.png")
    return desk / "album"


def test_a_baseline_is_learned_reported_and_used(album, desk):
    out = desk / "tiny.safetensors"
    result = run("learn", album, *MODEL, "--out", out, "--quick")
    assert result.exit_code == 0, result.output
    assert "learned" in result.stdout
    assert "photographs that it was not learned from" in " ".join(result.stdout.split())
    assert out.with_suffix(".png").stat().st_size > 0
    found = Learned.load(out)
    opinion = next(iter(found.facts["audit"]["opinions"].values()))
    assert len(opinion["means"]) == 13
    assert set(opinion["dominates"]) <= set(opinion["means"])
    shown = run("show", out)
    assert shown.exit_code == 0
    assert "trade-off recipe" in shown.stdout
    facts = json.loads(run("show", out, "--json").stdout)
    assert facts["sha256"] == found.sha256
    used = CliRunner().invoke(
        cli.app,
        [
            "explain",
            str(album / "photo00.png"),
            *MODEL,
            "--baseline",
            f"learned:file={out}",
            "--method",
            "taylor",
        ],
    )
    assert used.exit_code == 0, used.output


def test_a_witness_and_the_published_recipe(album, desk):
    out = desk / "published.safetensors"
    result = run(
        *("learn", album, *MODEL, "--out", out, "--quick", "--recipe", "published", "--steps", "3"),
        *("--witness", "tinymodel:build", "--json"),
    )
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert facts["recipe"] == "published"
    assert facts["settings"]["steps"] == 3


def test_a_run_that_was_stopped_goes_on(album, desk, monkeypatch):
    out = desk / "tiny.safetensors"
    arguments = ("learn", album, *MODEL, "--out", out, "--quick", "--steps", "20")
    saving = learning._Saving.__call__

    def stopping(self, moment):
        saving(self, moment)
        if moment.step == 10:
            raise Cancelled("enough")

    monkeypatch.setattr(learning._Saving, "__call__", stopping)
    with pytest.raises(Cancelled):
        run(*arguments)
    unfinished = out.with_suffix(".unfinished.safetensors")
    assert unfinished.exists()
    assert not out.exists()
    steps = []
    monkeypatch.setattr(learning._Saving, "__call__", lambda self, moment: steps.append(moment.step))
    assert run(*arguments).exit_code == 0
    assert steps == list(range(11, 21))
    assert not unfinished.exists()
    resumed = Learned.load(out)
    out.unlink()
    assert run(*arguments).exit_code == 0
    assert Learned.load(out) == resumed


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--out", "x.png"), ["--out must end in .safetensors"]),
        (("--out", "x.safetensors", "--limit", "10"), ["photographs must be at least", "got 10"]),
        (("--out", "x.safetensors", "--layer", "nowhere"), ["nowhere"]),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(album, desk, arguments, words):
    result = run("learn", album, *MODEL, *arguments, "--quick")
    assert result.exit_code == 2
    for word in words:
        assert word in " ".join(result.output.split())
    assert not (desk / "x.safetensors").exists()


def test_a_folder_that_cannot_be_written_is_said_before_anything_is_learned(album, desk, monkeypatch):
    (desk / "file").write_text("no folder")
    monkeypatch.setattr(Learned, "fit", lambda *_, **__: pytest.fail("it began to learn"))
    result = run("learn", album, *MODEL, "--out", desk / "file" / "x.safetensors", "--quick")
    assert result.exit_code == 2
    assert "cannot write to folder" in " ".join(result.output.split())


def test_a_file_that_is_none_is_refused(desk):
    (desk / "none.safetensors").write_bytes(b"nothing")
    result = run("show", desk / "none.safetensors")
    assert result.exit_code == 2
    assert "cannot be read as a learned baseline" in " ".join(result.output.split())
