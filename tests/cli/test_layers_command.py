"""`counterpoint layers`: the tree of a user's own model."""

import json

from typer.testing import CliRunner

from counterpoint import cli


def run(*arguments):
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments], catch_exceptions=False)


def test_the_tree_shows_shapes_layouts_cuts_and_what_comes_after(desk):
    result = run("layers", "tinymodel:build")
    assert result.exit_code == 0, result.stderr
    lines = {line.split()[0]: line for line in result.stdout.splitlines() if line.split()}
    for word in ("Conv2d", "4 x 16 x 16", "maps 16 x 16", "yes"):
        assert word in lines["conv"]
    assert "no, passed by" in lines["side"]
    assert "act *" in lines["act"]
    assert lines["linear"].split()[-1] == "0%"
    assert "* default for class activation maps: act" in result.stdout
    assert "* penultimate: pool" in result.stdout


def test_json_has_the_whole_of_it(desk):
    layers = json.loads(run("layers", "tinymodel:build", "--json").stdout)
    conv = next(layer for layer in layers if layer["name"] == "conv")
    assert conv["layout"] == "maps 16 x 16"
    assert 0 < conv["share_after"] < 1
    assert [layer["name"] for layer in layers] == ["conv", "act", "side", "pool", "linear"]


def test_depth_folds_the_tree(desk):
    deep = json.loads(run("layers", "tinymodel:tuple_output", "--json").stdout)
    flat = json.loads(run("layers", "tinymodel:tuple_output", "--json", "--depth", "0").stdout)
    assert {layer["name"] for layer in flat} == {"net"}
    assert {layer["name"] for layer in deep} > {"net", "net.conv"}
    refused = run("layers", "tinymodel:build", "--depth", "-1")
    assert refused.exit_code == 2


def test_several_layers_are_explained_together(desk):
    result = run("explain", "cat.jpg", "--model", "tinymodel:build", "--baseline", "black", "--method", "hires_cam",
                 "--layer", "side+act", "--out", "joint")  # fmt: skip
    assert result.exit_code == 0, result.stderr
    (card,) = desk.glob("joint/*.json")
    (explanation,) = json.loads(card.read_text())["explanations"]
    assert (explanation["layer"], explanation["cut"]) == ("side+act", "replaced")
    refused = run("explain", "cat.jpg", "--model", "tinymodel:build", "--baseline", "black", "--method", "hires_cam",
                  "--layer", "act+act")  # fmt: skip
    assert refused.exit_code == 2
    assert "'act' is there twice" in refused.stderr
