"""`counterpoint bench` and `counterpoint report`, as somebody uses them."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

SPEC = """
[images]
list = ["folder"]

[[model]]
name = "tinymodel:build"

[explain]
methods = ["gradient", "occlusion:size=8,stride=8", "random_map"]
against = ["black"]

[evaluate]
metrics = ["deletion", "insertion"]
baselines = ["mean", "blur"]
steps = 3
"""


def counterpoint(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command, in the current folder."""
    return subprocess.run(
        [sys.executable, "-m", "counterpoint", *arguments], capture_output=True, text=True, timeout=300
    )


def test_a_benchmark_is_planned_run_asked_and_reported(desk):
    (desk / "spec.toml").write_text(SPEC)
    plan = counterpoint("bench", "spec.toml", "--plan", "--json")
    assert plan.returncode == 0, plan.stderr
    assert not (desk / "counterpoint-bench").exists()
    run = counterpoint("bench", "spec.toml", "--engine", "in_process", "--json")
    summary = json.loads(run.stdout)
    assert run.returncode == (0 if summary["failed"] == 0 else 1), run.stderr
    assert summary["explanations"] == summary["expected"] == 3 * json.loads(plan.stdout)["images"]
    asked = counterpoint("bench", "query", "select sum(gradients), sum(forwards) from explanations", "--json")
    (row,) = json.loads(asked.stdout)
    (model,) = json.loads(plan.stdout)["models"]
    assert [*row.values()] == [model["gradients"], model["forwards"]]
    again = counterpoint("bench", "spec.toml")
    assert "worked on 0 of them and took 0 measures" in again.stdout
    report = counterpoint("report", "counterpoint-bench", "--figures", "figures")
    assert report.returncode == 0, report.stderr
    assert "too few" in report.stdout
    drawn = {path.name for path in (desk / "figures").iterdir()}
    assert {"insertion.wins.png", "insertion.stability.png"} <= drawn  # one image: no critical differences
    page = (desk / "counterpoint-bench" / "report.html").read_text()
    assert "occlusion" in page
    assert not re.search(r'(src|href)="https?://(?!arxiv\.org|doi\.org)', page)


def test_a_broken_image_makes_the_exit_code_1_and_is_named(desk):
    (desk / "spec.toml").write_text(SPEC)
    (desk / "folder" / "damaged.png").write_bytes(b"no image")
    run = counterpoint("bench", "spec.toml")
    assert run.returncode == 1, run.stderr
    assert "damaged.png" in run.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["none.toml"], "cannot read the spec 'none.toml'"),
        (["wrong.toml"], "wrong.toml, line 9"),
        (["run"], "name a SPEC.toml"),
        (["spec.toml", "--engine", "cloud"], "in_process"),
        (["query", "select 1", "--out", "nowhere"], "holds no benchmark's results"),
        (["cuda.toml"], "[run] device 'cuda:9' cannot be used here"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused_in_one_line(desk, arguments, said):
    (desk / "spec.toml").write_text(SPEC)
    (desk / "cuda.toml").write_text(SPEC + '\n[run]\ndevice = "cuda:9"\n')
    (desk / "wrong.toml").write_text(SPEC.replace('"gradient"', '"gradiant"'))
    run = counterpoint("bench", *arguments)
    assert run.returncode == 2
    assert said in run.stderr
    assert run.stderr.count("\n") == 1
    assert not (desk / "counterpoint-bench").exists()


@pytest.mark.skipif(os.name == "nt", reason="no SIGINT to send")
def test_ctrl_c_says_how_to_go_on_and_keeps_what_was_done(desk):
    (desk / "spec.toml").write_text(
        SPEC.replace("[evaluate]", "seeds = [0]\n\n[evaluate]").replace("steps = 3", "steps = 900")
    )
    command = [sys.executable, "-m", "counterpoint", "bench", "spec.toml"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        for _ in range(1200):
            if list((desk / "counterpoint-bench" / "runs").glob("*.json")):
                break
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "resume with: counterpoint bench spec.toml --out counterpoint-bench" in stderr
    assert "Traceback" not in stderr
