"""`counterpoint explain` with a detector."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from counterpoint import cli
from patches import scene

PATCHES = ("--model", "patches:build")


def run(*arguments):
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    array = (255 * scene()[0].permute(1, 2, 0)).round().to(torch.uint8).numpy()
    Image.fromarray(np.ascontiguousarray(array)).save(tmp_path / "two.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    threads = torch.get_num_threads()
    yield tmp_path
    torch.set_num_threads(threads)


def test_a_detector_is_explained_by_odam_at_the_level_of_each_detection(folder):
    done = run("explain", "two.png", *PATCHES)
    assert done.exit_code == 0, done.output
    assert "red 0.96" in done.stdout
    assert "odam at maps against blur:sigma=10" in done.stdout
    assert "No baseline was given" in done.stdout
    assert (folder / "counterpoint-out" / "two.png").is_file()


def test_the_card_comes_as_json(folder):
    done = run(
        "explain", "two.png", *PATCHES, "--baseline", "black", "--detections", 1, "--json", "--score", "x1"
    )
    (result,) = json.loads(done.stdout)["results"]
    assert [each["name"] for each in result["detections"]] == ["red"]
    assert result["score"] == {"kind": "detection_x1"}


def test_a_class_can_be_asked_for(folder):
    done = run("explain", "two.png", *PATCHES, "--target", "green", "--json", "--baseline", "black")
    (result,) = json.loads(done.stdout)["results"]
    assert [each["name"] for each in result["detections"]] == ["green"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((*PATCHES, "--target", "blue"), ["unknown label 'blue'"]),
        ((*PATCHES, "--score", "log_odds"), ["log_odds", "classifiers"]),
        ((*PATCHES, "--layer", "mapps"), ["did you mean 'maps'"]),
        (("--model", "shapes_vgg", "--score", "x0"), ["x0", "no detector"]),
    ],
)
def test_what_makes_no_sense_ends_with_one_line(folder, arguments, words):
    done = run("explain", "two.png", *arguments)
    assert done.exit_code == 2
    assert all(word in done.stderr for word in words), done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (folder / "counterpoint-out").exists()
