"""Models with several outputs on the command line: `--output` picks, and its absence says what there is."""

import torch
from typer.testing import CliRunner

import counterpoint as cp
from counterpoint import cli

ASK = ("--baseline", "black", "--method", "gradient")


def explained(desk, model, *options):
    arguments = ["explain", "cat.jpg", "--model", f"tinymodel:{model}", *ASK, "--out", "made", *options]
    return CliRunner().invoke(cli.app, arguments, catch_exceptions=False)


def values(desk):
    return cp.load_attribution(desk / "made" / "cat.black.gradient.safetensors").values


def test_the_part_that_is_picked_is_explained(desk):
    assert explained(desk, "build").exit_code == 0
    plain = values(desk)
    result = explained(desk, "tuple_output", "--output", "1")
    assert result.exit_code == 0, result.output
    torch.testing.assert_close(values(desk), plain)


def test_without_it_the_error_says_what_there_is(desk):
    result = explained(desk, "tuple_output")
    assert result.exit_code == 2
    assert "a tuple of 2: (1, 3) and (1, 3); say which with output=0 (--output 0)" in result.stderr
    result = explained(desk, "tuple_output", "--output", "logits")
    assert result.exit_code == 2
    assert "output='logits' is no part of what the model returns, a tuple of 2" in result.stderr


def test_a_label_of_several_is_explained_by_its_own_probability(desk):
    result = explained(desk, "build", "--score", "label_probability", "--target", "dog")
    assert result.exit_code == 0, result.output
