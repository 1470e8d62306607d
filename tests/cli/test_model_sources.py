"""Networks of libraries on the command line: weights, random weights, and that every output says so."""

import json

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from counterpoint import cli

NAME = "timm:test_resnet"
RANDOM = f"{NAME} (random weights)"


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch):
    """Empty ones."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


def run(*arguments):
    return CliRunner().invoke(cli.app, [str(each) for each in arguments], catch_exceptions=False)


def refusal(*arguments):
    """The one line with which a command refuses."""
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    (line,) = [each for each in result.stderr.splitlines() if each.startswith("error: ")]
    return line


def explain(*arguments):
    return ("explain", "cat.jpg", "--baseline", "black", "--method", "gradient", *arguments)


def test_explain_says_random_on_stderr_in_the_table_on_the_card_and_in_the_figure(desk, monkeypatch):
    captions = []
    from counterpoint import explain as module

    plot = module.plot
    monkeypatch.setattr(module, "plot", lambda *a, **k: captions.append(k["caption"]) or plot(*a, **k))
    result = run(*explain("--model", NAME, "--random-weights"))
    assert result.exit_code == 0
    words = f"{RANDOM}: its weights are random: this explains a network that has learned nothing."
    assert f"warning: {words}" in result.stderr
    assert words in " ".join(result.stdout.split())
    card = json.loads((desk / "counterpoint-out" / "cat.json").read_text())
    assert (card["model"]["name"], card["model"]["weights"], card["model"]["random_weights"]) == (
        RANDOM,
        "random",
        True,
    )
    assert captions == [f"cat.jpg  ·  {RANDOM}"]


def test_a_model_of_ones_own_that_says_it_is_random_is_named_so(desk):
    text = (desk / "tinymodel.py").read_text()
    text += "\n\ndef untrained():\n    return cp.Classifier(Net().eval(), mean=0.5, std=0.5, size=32, name='mine', weights='random')\n"
    (desk / "untrainedmodel.py").write_text(text)
    result = run(*explain("--model", "untrainedmodel:untrained", "--json"))
    (card,) = json.loads(result.stdout)["results"]
    assert card["model"]["name"] == "mine (random weights)"
    assert "warning: mine (random weights): its weights are random" in result.stderr


def test_weights_of_a_file_are_named_on_the_card_and_nothing_is_warned_of(desk):
    from counterpoint.models import load_model

    torch.save(load_model(NAME, random_weights=True).network.state_dict(), "mine.pth")
    state = torch.load("mine.pth", weights_only=True)
    torch.save({k: v + 0.01 if v.is_floating_point() else v for k, v in state.items()}, "mine.pth")
    result = run(*explain("--model", NAME, "--weights", "mine.pth", "--json"))
    assert result.exit_code == 0
    assert "random" not in result.stderr
    (card,) = json.loads(result.stdout)["results"]
    assert (card["model"]["name"], card["model"]["weights"]) == (f"{NAME} (mine.pth)", "mine.pth")
    assert card["model"]["random_weights"] is False


def test_what_is_wrong_with_the_weights_is_one_line(desk):
    assert "model.safetensors of 'timm/test_resnet.r160_in1k'" in refusal(*explain("--model", NAME))
    assert "no file of weights 'none.pth'" in refusal(*explain("--model", NAME, "--weights", "none.pth"))
    torch.save({"x": torch.zeros(1)}, "other.pth")
    assert "not known: x" in refusal(*explain("--model", NAME, "--weights", "other.pth"))
    assert "not both" in refusal(*explain("--model", NAME, "--weights", "other.pth", "--random-weights"))
    assert "comes with its weights" in refusal(*explain("--random-weights"))


def test_visualise_says_random(desk):
    result = run(
        *(
            "visualise",
            NAME,
            "--random-weights",
            "--class",
            "goldfish",
            "--steps",
            "1",
            "--size",
            "32",
            "--parametrisation",
            "pixels",
        )
    )
    assert result.exit_code == 0
    assert f"Images made for {RANDOM}" in result.stdout
    (card,) = [json.loads(file.read_text()) for file in (desk / "counterpoint-visualise").glob("*.json")]
    assert card["model"]["random_weights"] is True
    assert f"warning: {RANDOM}" in result.stderr


@pytest.mark.slow
def test_audit_says_random(desk):
    result = run(
        *("audit", "cat.jpg", "dog.png", "folder/tree.png", "--model", NAME, "--random-weights"),
        *("--baseline", "black", "--baseline", "mean", "--steps", "2", "--json"),
    )
    assert result.exit_code == 0
    facts = json.loads(result.stdout)
    assert (facts["model"]["name"], facts["model"]["random_weights"]) == (RANDOM, True)
    assert facts["recommendation"][0].startswith(f"{RANDOM}: its weights are random")
    assert RANDOM in (desk / "counterpoint-audit" / "audit.md").read_text()


SPEC = """
[images]
folder = "folder"

[[model]]
name = "timm:test_resnet"
random_weights = true

[[model]]
name = "timm:test_resnet"
weights = "mine.pth"

[explain]
methods = ["gradient"]
against = ["black"]

[run]
engine = "{engine}"
"""


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["in_process", "pool"])
def test_benchmarks_tell_random_weights_from_those_of_a_file(desk, engine):
    from counterpoint.models import load_model

    state = load_model(NAME, random_weights=True).network.state_dict()
    torch.save({k: v + 0.01 if v.is_floating_point() else v for k, v in state.items()}, "mine.pth")
    (desk / "spec.toml").write_text(SPEC.format(engine=engine))
    result = run("bench", "spec.toml", "--json")
    assert result.exit_code == 0
    assert f"warning: {RANDOM}: its weights are random" in result.stderr
    models = json.loads((desk / "counterpoint-bench" / "manifest.json").read_text())["models"]
    assert [(each["name"], each["random_weights"]) for each in models] == [
        (RANDOM, True),
        (f"{NAME} (mine.pth)", False),
    ]
    query = run("bench", "query", "select model, status from explanations order by model", "--json")
    rows = json.loads(query.stdout)
    assert [list(each.values()) for each in rows] == [[f"{NAME} (mine.pth)", "ok"], [RANDOM, "ok"]]


def test_a_spec_with_two_kinds_of_weights_for_a_model_is_refused(desk):
    text = SPEC.format(engine="in_process").replace(
        "random_weights = true", 'random_weights = true\nweights = "x"'
    )
    (desk / "spec.toml").write_text(text)
    assert "give weights or random_weights, not both" in refusal("bench", "spec.toml")


def test_a_detector_is_refused_where_classes_are_asked_for(desk, monkeypatch):
    from counterpoint import models

    class Detector:
        name = "finder"

        def card(self):
            return {"random_weights": False}

    monkeypatch.setattr(models, "load_model", lambda *_, **__: Detector())
    assert "'finder' is a Detector; this command asks classifiers" in refusal(
        "visualise", "finder", "--class", "1"
    )


# the list


def test_the_list_says_how_networks_of_libraries_are_asked_for():
    result = run("models")
    for words in (
        "torchvision:NAME",
        "timm:NAME",
        "hf:NAME",
        "FILE.pt2",
        "--search WORD",
        "--random-weights",
    ):
        assert words in result.stdout
    entries = {entry["name"]: entry for entry in json.loads(run("models", "--json").stdout)}
    assert entries["timm:"]["weights"] == "installed"


def test_networks_are_searched_by_a_word():
    assert "torchvision:resnet50" in run("models", "--search", "resnet50").stdout.splitlines()
    found = json.loads(run("models", "--search", "timm:test_r", "--json").stdout)
    assert found == ["timm:test_resnet"]
    assert "no network has 'xyzzy' in its name" in refusal("models", "--search", "xyzzy")
    assert "or one of torchvision, timm, hf and a word" in refusal("models", "--search", "keras:resnet")


def test_the_list_does_not_wait_for_torch():
    import subprocess
    import sys

    code = (
        "import sys, contextlib; from counterpoint import cli\n"
        "with contextlib.suppress(SystemExit): cli.app(['models'])\n"
        "print('torch' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "False\n"


def test_photographs_of_another_shape_are_stretched_where_the_model_wants_it(desk):
    pytest.importorskip("transformers")
    import transformers

    config = transformers.ViTConfig(
        hidden_size=24,
        num_hidden_layers=1,
        num_attention_heads=3,
        intermediate_size=32,
        image_size=32,
        patch_size=8,
    )
    transformers.ViTForImageClassification(config).save_pretrained("vit")
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained("vit")
    Image.new("RGB", (90, 30), "red").save("wide.png")
    result = run(
        "explain", "wide.png", "--model", "hf:vit", "--baseline", "black", "--method", "gradient", "--json"
    )
    assert result.exit_code == 0
    (card,) = json.loads(result.stdout)["results"]
    assert card["model"]["preprocessing"]["stretched"] is True
