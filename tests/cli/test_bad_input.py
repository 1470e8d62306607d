"""Each bad input gets one clear message, exit code 2, before long work, and leaves no file."""

import errno
import json
import os
import struct
import zlib

import pytest
from PIL import Image
from typer.testing import CliRunner

from counterpoint import cli
from counterpoint.arguments import as_methods
from counterpoint.cli.explain import USUAL_METHODS
from counterpoint.report.wording import number

TINY = (
    "--model",
    "tinymodel:build",
    "--baseline",
    "black",
    "--method",
    "integrated_gradients:rule=midpoint(2)",
)


def run(*arguments):
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments], catch_exceptions=False)


def huge_png(path):
    """A PNG of 20,000 x 20,000 pixels, of which only the header is there."""
    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    chunks = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b""))
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("text.jpg", *TINY), ["text.jpg", "not an image"]),
        (("short.jpg", *TINY), ["short.jpg", "cut short"]),
        (("huge.png", *TINY), ["huge.png", "too large", "scale it down"]),
        (("empty", *TINY), ["no images", "empty"]),
        (("nowhere.jpg", *TINY), ["nowhere.jpg"]),
        (("sample:chelsee", *TINY), ["did you mean 'chelsea'"]),
        (
            ("cat.jpg", "--model", "efficientnet_lite"),
            ["did you mean 'efficientnet_lite0'", "package.module:function"],
        ),
        (("cat.jpg", "--model", "tinymodel:bild"), ["did you mean 'build'"]),
        (("cat.jpg", "--model", "tinymodel:raises"), ["ValueError", "no weights here"]),
        (("cat.jpg", "--method", "integrated_gradient"), ["did you mean 'integrated_gradients'"]),
        (("cat.jpg", "--method", "smooth_grad:samples=many"), ["samples", "whole number", "many"]),
        (("cat.jpg", "--baseline", "blurr"), ["did you mean 'blur'"]),
        (("cat.jpg", "--baseline", "blur:sigma=-1"), ["sigma", "above 0", "-1"]),
        (("cat.jpg", "--baseline", "blur:sigm=1"), ["did you mean 'sigma'"]),
        (("cat.jpg", *TINY, "--baseline", "constant:color=(0.1,0.2)"), ["2 channels"]),
        (("cat.jpg", *TINY, "--baseline", "black"), ["'black'", "twice"]),
        (("cat.jpg", *TINY, "--layer", "convv"), ["unknown layer", "did you mean"]),
        (("cat.jpg", *TINY, "--layer", "side"), ["passed by", "skip connection"]),
        (("cat.jpg", *TINY, "--layer", "input", "--method", "grad_cam"), ["grad_cam", "--layer"]),
        (("cat.jpg", *TINY, "--target", "7"), ["target", "0 to 2", "7"]),
        (("cat.jpg", *TINY, "--target", "-1"), ["target", "0 to 2", "-1"]),
        (("cat.jpg", *TINY, "--target", "dgo"), ["label", "did you mean 'dog'"]),
        (("cat.jpg", *TINY, "--tolerance", "0.1"), ["--tolerance"]),
        (("cat.jpg", *TINY, "--device", "abacus"), ["--device", "abacus"]),
        (("cat.jpg", *TINY, "--out", "dog.png"), ["dog.png", "cannot write"]),
        (("dog.png", *TINY, "--out", "."), ["overwrite", "dog.png"]),
        (("folder", *TINY, "--out", "folder"), ["output folder", "--out"]),
        (("cat.jpg", "--model", "tinymodel:tuple_output"), ["(1, classes)", "tuple"]),
        (("cat.jpg", "--model", "tinymodel:wrong_shape"), ["(1, classes)", "(1, 3, 1)"]),
        (("cat.jpg", "--model", "tinymodel:nan_output"), ["NaN"]),
    ],
)
def test_it_gets_one_clear_line_and_exit_code_2(desk, arguments, words):
    (desk / "text.jpg").write_text("once upon a time")
    whole = (desk / "cat.jpg").read_bytes()
    (desk / "short.jpg").write_bytes(whole[: len(whole) // 2])
    huge_png(desk / "huge.png")
    (desk / "empty").mkdir()
    before = sorted(desk.rglob("*"))
    result = run("explain", *arguments)
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    for word in words:
        assert word in result.stderr
    left = [
        path for path in sorted(desk.rglob("*")) if path not in before and "__pycache__" not in path.parts
    ]
    assert left == []


@pytest.mark.parametrize("arguments", [("explain",), ("explain", "cat.jpg", "--scor", "logit"), ("explian",)])
def test_wrong_usage_has_exit_code_2(desk, arguments):
    assert run(*arguments).exit_code == 2


def test_all_photographs_failing_is_exit_code_2(desk):
    for name in ("one.jpg", "two.jpg"):
        (desk / name).write_text("no image")
    result = run("explain", "one.jpg", "two.jpg", *TINY)
    assert result.exit_code == 2
    assert "2 of 2 photographs could not be explained" in result.stderr
    assert not (desk / "counterpoint-out").exists()


def test_a_disk_that_fills_up_ends_the_work(desk, monkeypatch):
    real = os.replace

    def full(source, target):
        if str(target).endswith("dog.png"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(source, target)

    monkeypatch.setattr(os, "replace", full)
    result = run("explain", "cat.jpg", "dog.png", *TINY)
    assert result.exit_code == 2
    assert "no space left on device" in result.stderr
    names = sorted(path.name for path in (desk / "counterpoint-out").iterdir())
    assert names == [
        *("cat.black.integrated_gradients.safetensors", "cat.json", "cat.png"),
        "dog.black.integrated_gradients.safetensors",
    ]


def test_a_model_in_training_mode_is_warned_of_in_one_line(desk):
    arguments = ("cat.jpg", "--model", "tinymodel:training", "--baseline", "black", "--method", "gradient")
    result = run("explain", *arguments)
    assert result.stderr.startswith("warning: the model is in training mode")


def test_figures_of_an_earlier_run_are_no_photographs(desk):
    arguments = ("explain", ".", *TINY, "--json")
    first, second = (json.loads(run(*arguments).stdout) for _ in range(2))
    assert [len(answer["results"]) for answer in (first, second)] == [3, 3]


def test_two_baselines_of_one_kind_have_files_of_their_own(desk):
    result = run(
        "explain", "cat.jpg", *TINY[:2], *TINY[4:], "--baseline", "blur:sigma=2", "--baseline", "blur:sigma=4"
    )
    assert result.exit_code == 0, result.stderr
    names = {path.name for path in (desk / "counterpoint-out").glob("*.safetensors")}
    assert names == {f"cat.blur-sigma={s}.0.integrated_gradients.safetensors" for s in (2, 4)}


def test_cams_get_the_default_layer_and_the_answer_says_so(desk):
    result = run("explain", "cat.jpg", *TINY[:4], "--method", "grad_cam", "--method", "gradient")
    assert result.exit_code == 0, result.stderr
    assert "No --layer was given" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 100


def test_fei_gets_a_figure_of_its_own_that_the_answer_lists(desk):
    method = "fei:steps=4,quantiles=2,grids=(4,),measure=5"
    result = run(
        "explain", "cat.jpg", *TINY[:4], "--score", "log_probability", "--method", method, "--out", "out"
    )
    assert result.exit_code == 0, result.stderr
    assert "score: log-probability" in result.stdout
    assert "2 figures, with cards and values" in result.stdout
    assert result.stdout.splitlines()[-2:] == [
        f"  {os.path.join('out', name)}" for name in ("cat.png", "cat.black.fei.png")
    ]
    assert {path.suffix for path in (desk / "out").iterdir()} == {".json", ".png", ".safetensors"}


def test_an_explicit_tolerance_reaches_the_method():
    default, chosen, own, rule = as_methods(
        [
            "integrated_gradients",
            "gradient",
            "integrated_gradients:tolerance=0.2",
            "integrated_gradients:rule=left(3)",
        ],
        0.05,
    )
    assert (default.tolerance, own.tolerance, rule.tolerance) == (0.05, 0.2, None)
    assert as_methods(USUAL_METHODS, None)[0].tolerance == 0.01
    assert chosen == as_methods(["gradient"], None)[0]


@pytest.mark.parametrize("command", ["methods", "baselines", "models"])
def test_lists_are_tables_within_100_columns_and_strict_json(desk, command):
    table, plain = run(command), run(command, "--json")
    assert (table.exit_code, plain.exit_code) == (0, 0)
    assert max(map(len, table.stdout.splitlines())) <= 100
    for entry in json.loads(plain.stdout):
        assert entry["name"] in table.stdout
        assert all(entry.get(key, "?") for key in ("meaning", "summary"))


def test_methods_say_what_their_values_claim_to_be(desk):
    entries = {entry["name"]: entry for entry in json.loads(run("methods", "--json").stdout)}
    assert entries["gradient"]["claim"] == "rate"
    assert entries["grad_cam"]["level"] == "layer"
    assert "1610.02391" in entries["grad_cam"]["reference"]
    assert entries["smooth_grad"]["parameters"] == {
        "samples": 50,
        "noise": 0.15,
        "seed": 0,
        "precision": None,
    }


def test_layers_say_where_the_model_can_be_cut(desk):
    for image in ((), ("--image", "cat.jpg")):
        result = run("layers", "tinymodel:build", "--json", *image)
        assert result.exit_code == 0, result.stderr
        layers = {layer["name"].removeprefix("model."): layer for layer in json.loads(result.stdout)}
        assert layers["conv"]["shape"] == [4, 16, 16]
        assert layers["conv"]["cut"] == "split"
        assert layers["side"]["cut"] is None
        assert "passed by" in layers["side"]["reason"]
        assert layers["pool"]["role"] == "penultimate"
    assert max(map(len, run("layers", "tinymodel:build").stdout.splitlines())) <= 100


def test_a_grey_photograph_is_explained(desk):
    with Image.open("cat.jpg") as image:
        image.convert("L").save("grey.png")
    assert run("explain", "grey.png", *TINY).exit_code == 0


@pytest.mark.parametrize("width", [80, 100, 140])
def test_no_number_of_the_table_is_ever_cut(desk, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    run_of = ("explain", "cat.jpg", "dog.png", *TINY[:4], "--baseline", "constant:color=(0.123,0.456,0.789)")
    methods = ("--method", "integrated_gradients:rule=midpoint(3)")
    result = run(*run_of, *methods, "--method", "gradient", "--method", "grad_cam", "--out", "out")
    assert result.exit_code == 0, result.stderr
    table = result.stdout.split("No --layer")[0]
    assert max(map(len, table.splitlines())) <= width
    cards = [json.loads(path.read_text()) for path in (desk / "out").glob("*.json")]
    for explanation in (e for card in cards for e in card["explanations"]):
        assert number(explanation["attribution_target"]) in table
        if explanation["claim"] == "shares":
            assert number(explanation["result"]) in table
