"""Feature visualisation as a command: an image, a figure and a card for each thing asked for; one clear line where it cannot be done."""

import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from counterpoint import cli

MODEL = "tinymodel:build"
QUICK = ("--steps", "6", "--size", "40")


def run(*arguments):
    return CliRunner().invoke(cli.app, ["visualise", *map(str, arguments)], catch_exceptions=False)


def test_channels_units_and_classes_get_an_image_a_figure_and_a_card_each(desk):
    asked = (
        "--layer",
        "conv",
        "--channel",
        1,
        "--channel",
        3,
        "--unit",
        "2,5,6",
        "--class",
        "dog",
        "--class",
        2,
    )
    result = run(
        MODEL, *asked, *QUICK, "--out", desk / "made", "--compare", desk / "folder", "--compare", "cat.jpg"
    )
    assert result.exit_code == 0, result.output
    names = ("conv-channel-1", "conv-channel-3", "conv-channel-2-at-5-6", "class-dog", "class-2")
    assert {path.name for path in (desk / "made").iterdir()} == {
        f"{name}{ending}" for name in names for ending in (".png", ".figure.png", ".json")
    }
    assert "mean of channel 1 of 'conv'" in result.stdout
    assert "class-dog.figure.png" in result.stdout
    with Image.open(desk / "made" / "class-dog.png") as image:
        assert (image.size, image.mode) == ((40, 40), "RGB")
        assert np.asarray(image).std() > 1
    card = json.loads((desk / "made" / "class-dog.json").read_text())
    assert card["objective"] == {
        "text": "logit of class dog",
        "kind": "class",
        "index": 1,
        "label": "dog",
        "score": "logit",
    }
    assert card["model"]["name"] == "tiny"
    assert len(card["model"]["weights_sha256"]) == 64
    assert card["recipe"]["steps"] == 6
    assert card["recipe"]["parametrisation"]["name"] == "fourier"
    assert card["reached"] > card["not_optimised"]["mean"]
    photographs = card["photographs"]
    assert photographs["count"] == 2
    values = [each["value"] for each in photographs["most"]]
    assert values == sorted(values, reverse=True)
    assert photographs["below_the_image"] in (0, 1, 2)
    unit = json.loads((desk / "made" / "conv-channel-2-at-5-6.json").read_text())["objective"]
    assert (unit["kind"], unit["layer"], unit["channel"], unit["position"]) == ("unit", "conv", 2, [5, 6])


def test_the_same_seed_makes_the_same_files_and_another_seed_others(desk):
    for folder, seed in (("one", 0), ("two", 0), ("three", 1)):
        result = run(MODEL, "--class", 0, *QUICK, "--seed", seed, "--out", desk / folder)
        assert result.exit_code == 0, result.output
    one, two, three = (
        [(desk / folder / f"class-0{ending}").read_bytes() for ending in (".png", ".figure.png", ".json")]
        for folder in ("one", "two", "three")
    )
    assert one == two
    assert one[0] != three[0]


@pytest.mark.parametrize(
    "options",
    [
        ("--parametrisation", "pixels"),
        ("--parametrisation", "maco"),
        ("--parametrisation", "maco", "--spectrum", "pink"),
        ("--parametrisation", "maco", "--spectrum", "folder"),
    ],
)
def test_every_parametrisation_can_be_asked_for(desk, options):
    result = run(MODEL, "--layer", "conv", "--channel", 0, *QUICK, *options, "--json")
    assert result.exit_code == 0, result.output
    (facts,) = json.loads(result.stdout)["visualisations"]
    assert facts["folder"] == "counterpoint-visualise"
    assert facts["recipe"]["parametrisation"]["name"] == options[1]
    expected = options[3] if len(options) > 2 else "bundled" if options[1] == "maco" else None
    assert facts["recipe"]["spectrum"] == expected
    assert facts["photographs"] is None
    assert (desk / "counterpoint-visualise" / facts["files"]["figure"]).is_file()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((MODEL,), ["name what to visualise", "--class"]),
        ((MODEL, "--layer", "conv"), ["--layer needs a --channel"]),
        ((MODEL, "--channel", 0), ["--layer"]),
        ((MODEL, "--layer", "cnov", "--channel", 0), ["did you mean 'conv'"]),
        ((MODEL, "--layer", "conv", "--channel", 4), ["channel", "from 0 to 3", "got 4"]),
        ((MODEL, "--layer", "conv", "--channel", -1), ["channel", "at least 0"]),
        ((MODEL, "--layer", "conv", "--unit", "1,2"), ["--unit", "K,Y,X", "1,2"]),
        ((MODEL, "--layer", "conv", "--unit", "1,16,0"), ["16 x 16", "(16, 0)"]),
        ((MODEL, "--layer", "linear", "--unit", "1,0,0"), ["'linear'", "ask for the channel"]),
        ((MODEL, "--class", "dgo"), ["did you mean 'dog'"]),
        ((MODEL, "--class", 3), ["0 to 2", "3"]),
        ((MODEL, "--class", "top1"), ["first choice"]),
        ((MODEL, "--class", 0, "--steps", 0), ["--steps", "at least 1"]),
        ((MODEL, "--class", 0, "--size", 8), ["--size", "at least 16"]),
        ((MODEL, "--class", 0, "--spectrum", "pink"), ["--spectrum", "maco"]),
        ((MODEL, "--class", 0, "--parametrisation", "maco", "--spectrum", "nowhere"), ["nowhere"]),
        ((MODEL, "--class", 0, "--compare", "nowhere"), ["nowhere"]),
        ((MODEL, "--class", 0, "--device", "warp"), ["--device 'warp'"]),
        (("tinymodel:nan_output", "--class", 0), ["NaN"]),
        (("tinymodel:wrong_shape", "--class", 0), ["classes"]),
        (("tinymodel:bild", "--class", 0), ["did you mean 'build'"]),
    ],
)
def test_it_gets_one_clear_line_and_exit_code_2(desk, arguments, words):
    before = sorted(desk.rglob("*"))
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    assert result.stderr.startswith("error: ")
    assert len(result.stderr.strip().split("\n")) == 1
    for word in words:
        assert word in result.stderr
    left = [
        path for path in sorted(desk.rglob("*")) if path not in before and "__pycache__" not in path.parts
    ]
    assert left == []


def test_an_unknown_parametrisation_is_refused_with_the_known_ones(desk):
    result = run(MODEL, "--class", 0, "--parametrisation", "wavelets")
    assert result.exit_code == 2
    assert "fourier" in result.output


def test_an_interrupt_keeps_what_is_finished(desk, monkeypatch):
    import counterpoint.visualising as visualising

    original, calls = visualising.vis.optimise, []

    def second_is_interrupted(*arguments, **options):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(*arguments, **options)

    monkeypatch.setattr(visualising.vis, "optimise", second_is_interrupted)
    result = run(MODEL, "--class", 0, "--class", 1, *QUICK, "--out", desk / "made")
    assert result.exit_code == 130
    assert sorted(path.name for path in (desk / "made").iterdir()) == [
        "class-0.figure.png",
        "class-0.json",
        "class-0.png",
    ]
