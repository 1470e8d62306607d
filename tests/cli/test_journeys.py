"""The real command in a process of its own."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from PIL import Image

import counterpoint as cp
from counterpoint import progress
from counterpoint.terminal import progress_shown

TINY = ("--model", "tinymodel:build", "--method", "integrated_gradients:rule=midpoint(8)")


def counterpoint(*arguments, **options):
    command = [sys.executable, "-m", "counterpoint", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


def test_help_and_version_import_nothing_heavy():
    code = (
        "import sys\n"
        "from counterpoint.cli import app\n"
        "for arguments in (['--help'], ['explain', '--help'], ['--version']):\n"
        "    try: app(arguments)\n"
        "    except SystemExit as end: assert end.code == 0, end\n"
        "print('heavy:', [m for m in ('torch', 'scipy', 'numpy', 'matplotlib', 'PIL') if m in sys.modules])\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.rstrip().endswith("heavy: []")
    assert cp.__version__ in run.stdout


def test_a_photograph_becomes_a_figure_a_card_and_values(desk):
    run = counterpoint("explain", "cat.jpg", *TINY)
    assert run.returncode == 0, run.stderr
    out = desk / "counterpoint-out"
    assert sorted(path.name for path in out.iterdir()) == [
        "cat.black.integrated_gradients.safetensors",
        "cat.blur.integrated_gradients.safetensors",
        "cat.json",
        "cat.mean.integrated_gradients.safetensors",
        "cat.png",
    ]
    with Image.open(out / "cat.png") as figure:
        assert figure.width >= 1200
    card = json.loads((out / "cat.json").read_text())
    loaded = cp.load_attribution(out / "cat.blur.integrated_gradients.safetensors")
    explanation = card["explanations"][1]
    assert explanation["result"] == pytest.approx(float(loaded.result[0]))
    assert "No baseline was given" in run.stdout
    assert "--baseline" in run.stdout
    assert str(out.name) in run.stdout
    assert max(map(len, run.stdout.splitlines())) <= 100
    assert run.stderr == ""


def test_three_broken_photographs_of_several_are_reported_and_the_rest_explained(desk):
    folder = desk / "folder"
    (folder / "broken.jpg").write_bytes(b"no image at all")
    (folder / "empty.png").write_bytes(b"")
    whole = (desk / "cat.jpg").read_bytes()
    (folder / "short.jpg").write_bytes(whole[: len(whole) // 2])
    run = counterpoint(
        "explain", "folder", "dog.png", "--baseline", "black", "--out", "results", "--json", *TINY
    )
    assert run.returncode == 1, run.stderr
    answer = json.loads(run.stdout)
    assert [card["photograph"]["file"] for card in answer["results"]] == ["tree.png", "dog.png"]
    assert {failure["photograph"].split(os.sep)[-1] for failure in answer["failed"]} == {
        "broken.jpg",
        "empty.png",
        "short.jpg",
    }
    assert "3 of 5 photographs could not be explained" in run.stderr
    assert sorted(path.name for path in (desk / "results").iterdir() if path.suffix == ".png") == [
        "dog.png",
        "tree.png",
    ]


def test_an_error_is_one_line_without_a_traceback(desk):
    run = counterpoint("explain", "cat.jpg", "--baseline", "blurr")
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.count("\n") == 1
    assert "did you mean 'blur'" in run.stderr
    assert not (desk / "counterpoint-out").exists()


@pytest.mark.skipif(os.name == "nt", reason="limits of a process are set otherwise on Windows")
def test_a_full_disk_ends_the_work_and_leaves_nothing_half_written(desk):
    # A process that may write no more than 20 kB into a file meets the same error path as one on a full disk.
    run = subprocess.run(
        [
            "bash",
            "-c",
            'ulimit -f 20; exec "$0" -m counterpoint "$@"',
            sys.executable,
            *("explain", "cat.jpg", "dog.png", *TINY),
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert run.returncode == 2, run.stderr
    assert "cannot write" in run.stderr
    assert run.stderr.count("\n") == 1
    assert not list((desk / "counterpoint-out").glob(".*"))
    assert not list((desk / "counterpoint-out").glob("*.png"))


@pytest.mark.skipif(os.name == "nt", reason="no SIGINT to send")
def test_ctrl_c_ends_with_130_and_leaves_nothing_half_written(desk):
    arguments = ["explain", "folder", "--model", "tinymodel:build", "--baseline", "black", "--method"]
    command = [
        sys.executable,
        "-m",
        "counterpoint",
        *arguments,
        "smooth_grad:samples=100000000",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        for _ in range(600):  # the folder is made once all is checked
            if (desk / "counterpoint-out").exists():
                break
            time.sleep(0.1)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert not (desk / "counterpoint-out").exists()


def test_a_ctrl_c_that_python_drops_ends_the_work_at_the_next_report():
    def work():
        with progress_shown("working"):
            with contextlib.suppress(KeyboardInterrupt):  # as a destructor or a callback of C code would
                signal.raise_signal(signal.SIGINT)
            progress.advance(1, 2)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        work()
    assert signal.getsignal(signal.SIGINT) is before


def test_the_default_model_explains_a_real_photograph(tmp_path):
    run = counterpoint(
        *(
            "explain",
            "sample:coffee",
            "--baseline",
            "blur",
            "--method",
            "integrated_gradients:rule=midpoint(4)",
        ),
        *("--method", "grad_cam", "--out", str(tmp_path / "out"), "--json"),
    )
    assert run.returncode == 0, run.stderr
    (card,) = json.loads(run.stdout)["results"]
    assert card["score"]["label"] == "espresso"
    assert card["explanations"][0]["layer"] == "input"
    assert card["explanations"][0]["attribution_target"] == card["explanations"][1]["attribution_target"]
    assert (tmp_path / "out" / "coffee.png").stat().st_size > 10_000
