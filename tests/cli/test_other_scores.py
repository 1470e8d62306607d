"""Scores that are of no single class, from the command line: regions of class maps, numbers of an output, likeness."""

import json

import pytest
import torch
from typer.testing import CliRunner

import counterpoint as cp
from counterpoint.cli import app
from counterpoint.data.photographs import find_photographs

MODULE = """
import torch
import counterpoint as cp


def segmenter():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(4, 3, 1))
    return cp.Classifier(net.eval(), mean=0.0, std=1.0, size=24, name="segmenter")


def regressor():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(4 * 22 * 22, 2))
    return cp.Classifier(net.eval(), mean=0.0, std=1.0, size=24, name="regressor")
"""


@pytest.fixture(scope="module", autouse=True)
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    (folder / "other_scores.py").write_text(MODULE)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield


def run(*words, model):
    return CliRunner().invoke(
        app, ["explain", "sample:coffee", "--model", f"other_scores:{model}", "--baseline", "black", *words]
    )


@pytest.mark.parametrize(
    ("model", "words", "make"),
    [
        ("segmenter", ("--region", "predicted"), lambda c: cp.region(c)),
        (
            "segmenter",
            ("--region", "2,3,10,20", "--target", "1", "--score", "probability"),
            lambda c: cp.region(c, 1, (2, 3, 10, 20), kind="probability"),
        ),
        ("regressor", ("--value", "1"), lambda c: cp.output_value(c, 1)),
        (
            "regressor",
            ("--similar-to", "sample:chelsea"),
            lambda c: cp.similarity(c, c.preprocess(find_photographs(["sample:chelsea"]))),
        ),
    ],
)
def test_the_command_has_the_librarys_numbers_and_a_figure(tmp_path, model, words, make):
    done = run(*words, "--method", "gradient", "--json", "--out", str(tmp_path), model=model)
    assert done.exit_code == 0, done.output
    (facts,) = json.loads(done.stdout)["results"]
    import other_scores

    classifier = getattr(other_scores, model)()
    images = classifier.preprocess(find_photographs(["sample:coffee"]))
    expected = cp.compare(make(classifier), images, baseline=cp.baselines.Black()).explain(
        cp.methods.Gradient()
    )
    assert facts["score"]["kind"] == expected.question["score"]
    assert facts["explanations"][0]["attribution_target"] == pytest.approx(float(expected.target), rel=1e-5)
    saved = cp.load_attribution(tmp_path / facts["explanations"][0]["values_file"])
    torch.testing.assert_close(saved.values, expected.values)
    assert (tmp_path / facts["figure_file"]).exists()


def test_the_table_has_a_dash_where_there_is_no_class(tmp_path):
    done = run("--value", "0", "--method", "gradient", "--out", str(tmp_path), model="regressor")
    assert done.exit_code == 0, done.output
    assert "None" not in done.stdout


@pytest.mark.parametrize(
    ("model", "words", "says"),
    [
        (
            "segmenter",
            ("--region", "here"),
            "--region must be predicted, all, or a box y0,x0,y1,x1, got 'here'",
        ),
        ("segmenter", ("--region", "1,2,3"), "y0,x0,y1,x1, got '1,2,3'"),
        ("segmenter", ("--region", "all", "--value", "0"), "--region and --value"),
        ("segmenter", ("--region", "all", "--score", "log_odds"), "logit or probability, got log_odds"),
        ("segmenter", ("--region", "0,0,0,0"), "region"),
        ("segmenter", (), "cp.region"),
        ("regressor", ("--value", "7"), "index"),
        ("regressor", ("--value", "one"), "--value must be an index"),
        ("regressor", ("--value", "0", "--target", "1"), "--value asks for no class"),
        ("regressor", ("--similar-to", "nowhere.jpg"), "nowhere.jpg"),
    ],
)
def test_what_makes_no_sense_is_one_line(tmp_path, model, words, says):
    done = run(*words, "--out", str(tmp_path / "out"), model=model)
    assert done.exit_code == 2
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()
