"""Benchmarks: what is asked is checked first, what is done is kept, and what fails is a result."""

import contextlib
import json
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from PIL import Image
from torch import nn

import counterpoint as cp
from counterpoint import bench
from counterpoint.bench.asking import asking
from counterpoint.bench.jobs import Job, Setup, Task
from counterpoint.bench.paper import counted
from counterpoint.bench.planning import plan_of
from counterpoint.bench.questions import every_hash
from counterpoint.bench.tables import RESULTS
from counterpoint.bench.work import Worker
from counterpoint.errors import CounterpointError, InputError, OutputError
from counterpoint.methods import METHODS
from counterpoint.protocols import Outcome

SMALL: dict[str, Any] = {
    "images": {"shapes": 3},
    "model": [{"name": "shapes_vgg"}],
    "explain": {"methods": ["grad_cam", "gradient"], "against": ["black"]},
    "evaluate": {"metrics": ["deletion", "mass_in_mask"], "baselines": ["mean", "blur"], "steps": 4},
    "keep": {"gallery": 1},
}


def spec_of(**parts: Any) -> bench.BenchSpec:
    """The small spec, some of its parts changed."""
    return bench.checked(
        {
            **SMALL,
            **{
                name: {**SMALL.get(name, {}), **part} if isinstance(part, dict) and name != "images" else part
                for name, part in parts.items()
            },
        }
    )


def tables(folder: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Every result, in the order of the keys."""
    results = bench.Results(folder)
    return {name: results.query(f"SELECT * FROM {name} ORDER BY key")[1] for name in RESULTS}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small spec's results, uninterrupted."""
    folder = tmp_path_factory.mktemp("whole")
    summary = bench.run(spec_of(), folder)
    assert summary.complete
    return folder


# --- the spec


def problem(text: str, tmp_path: Path) -> str:
    """What is said of a spec."""
    file = tmp_path / "spec.toml"
    file.write_text(text)
    with pytest.raises(InputError) as error:
        bench.read_spec(file)
    return str(error.value)


GOOD = """\
[images]
shapes = 3

[[model]]
name = "shapes_vgg"

[explain]
methods = [
  "grad_cam",
  "gradient",
]
against = ["black"]

[evaluate]
metrics = ["deletion"]
baselines = ["mean"]
"""


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ('"gradient",', '"gradientt",', 10, "did you mean 'gradient'"),
        ('["black"]', '["blackk"]', 12, "did you mean 'black'"),
        ('["deletion"]', '["deletion", "deletion"]', 15, "given twice"),
        ("shapes_vgg", 'shapes_vgg"\nprecision = "float17', 6, "float32"),
        ('baselines = ["mean"]', 'baselines = ["mean"]\nsteps = 1', 17, "greater than or equal to 2"),
        ('baselines = ["mean"]', 'baselines = ["mean"]\nstepz = 4', 17, "no such setting"),
        ('baselines = ["mean"]', "", 14, "removes pixels"),
        ('methods = [\n  "grad_cam",\n  "gradient",\n]', "", 7, "missing"),
        ('["black"]', '["blur:sigma=-1"]', 12, "sigma"),
        ('["black"]', '["blur:sigma=10", "blur: sigma = 10"]', 12, "is the same as"),
        ('"gradient",', '"grad_cam ",', 8, "given twice"),
        ("[[model]]", "[model]", 4, "[[model]]"),
        ('baselines = ["mean"]', 'baselines = ["mean"]\nmethods = ["gradient"]', 17, "belongs to [explain]"),
        ('baselines = ["mean"]', 'baseline = ["mean"]', 16, "did you mean 'baselines'"),
        ('["black"]', "[]", 12, "at least one"),
    ],
)
def test_a_mistake_in_a_spec_is_named_with_its_line(
    old: str, new: str, line: int, words: str, tmp_path: Path
) -> None:
    assert old in GOOD
    said = problem(GOOD.replace(old, new), tmp_path)
    assert f"line {line}:" in said
    assert words in said


def test_a_spec_that_is_no_toml_or_not_there_is_refused(tmp_path: Path) -> None:
    assert "not TOML" in problem("[images", tmp_path)
    with pytest.raises(InputError, match="cannot read the spec"):
        bench.read_spec(tmp_path / "none.toml")


def test_the_example_is_a_spec(tmp_path: Path) -> None:
    from counterpoint.bench.example import write_example

    spec, _ = bench.read_spec(write_example(tmp_path / "benchmark.toml"))
    assert len(spec.explain.methods) >= 4
    with pytest.raises(InputError, match="is there already"):
        write_example(tmp_path / "benchmark.toml")


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"model": [{"name": "shapes_vgh"}]}, "did you mean 'shapes_vgg'"),
        ({"explain": {"layers": ["nowhere"]}}, "nowhere"),
        ({"explain": {"target": 99}}, "99"),
        ({"explain": {"methods": ["gradient"], "against": ["road"]}}, "only fills"),
        ({"images": {"folder": "no/such/folder"}}, "no/such/folder"),
        ({"evaluate": {"metrics": ["out_of_distribution"]}, "images": {"shapes": 2}}, "three images"),
        (
            {"evaluate": {"metrics": ["mass_in_mask"]}, "images": {"list": ["sample:coffee"]}},
            "where the object is",
        ),
        (
            {
                "explain": {"target": "label"},
                "images": {"list": ["sample:coffee"]},
                "evaluate": {"metrics": []},
            },
            "no labels",
        ),
        ({"run": {"device": "nowhere"}}, "device 'nowhere' cannot be used"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(
    parts: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(CounterpointError, match=words):
        bench.run(spec_of(**parts), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_method_that_cannot_take_one_of_the_baselines_leaves_that_pair_out(tmp_path: Path) -> None:
    found = asking(spec_of(explain={"methods": ["gradient", "occlusion"], "against": ["black", "road"]}))
    pairs = {(question.method_name, question.against) for question in found.questions}
    assert pairs == {("gradient", "black"), ("occlusion", "black"), ("occlusion", "road")}
    assert len(found.left_out) == 1
    assert found.left_out[0].startswith("gradient against road")


def test_methods_with_a_seed_run_once_with_each_and_others_once() -> None:
    found = asking(spec_of(explain={"methods": ["gradient", "random_map"], "seeds": [0, 1, 2]}))
    assert [(q.method_name, q.seed) for q in found.questions] == [
        ("gradient", 0),
        ("random_map", 0),
        ("random_map", 1),
        ("random_map", 2),
    ]
    assert len(set(every_hash(found.questions))) == len(found.questions) * (1 + 3)


# --- the numbers


def test_the_results_are_those_of_the_library(whole: Path) -> None:
    from counterpoint.data.datasets import open_data_set

    data = open_data_set({"shapes": 3})
    classifier = cp.load_model("shapes_vgg")
    inputs = classifier.preprocess(data.picture(data.items[1]))
    comparison = cp.compare(cp.logit(classifier), inputs, baseline=cp.baselines.Black(), fold=True)
    attribution = comparison.explain(cp.methods.Gradient())
    (row,) = bench.Results(whole).rows(
        "SELECT * FROM explanations WHERE image = ? AND method = 'gradient'", [data.items[1].name]
    )
    assert row["score"] == pytest.approx(float(attribution.score[0]), rel=1e-6)
    assert row["attribution_target"] == pytest.approx(float(attribution.target[0]), rel=1e-5)
    area = cp.metrics.deletion_curve(
        cp.probability(classifier), inputs, attribution, baseline=cp.baselines.Mean(), steps=4
    ).area
    (measure,) = bench.Results(whole).rows(
        "SELECT value FROM measures WHERE image = ? AND method = 'gradient' AND metric = 'deletion' AND evaluation = 'mean'",
        [data.items[1].name],
    )
    assert measure["value"] == pytest.approx(float(area[0]), rel=1e-4)


TWO_HEADS = """
import torch
import counterpoint as cp

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body, self.one, self.other = torch.nn.Conv2d(3, 4, 3), torch.nn.Linear(4, 3), torch.nn.Linear(4, 3)

    def forward(self, x):
        features = self.body(x).relu().mean((2, 3))
        return {"one": self.one(features), "other": self.other(features)}

def build():
    return cp.Classifier(Net().eval(), mean=(0, 0, 0), std=(1, 1, 1), size=(24, 24))
"""


def test_parts_of_an_output_are_models_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bench_two_heads.py").write_text(TWO_HEADS)
    monkeypatch.syspath_prepend(tmp_path)
    name = "bench_two_heads:build"
    spec = spec_of(
        model=[{"name": name, "output": "one"}, {"name": name, "output": "other"}],
        explain={"methods": ["gradient"], "against": ["black"], "target": 1},
        evaluate={"metrics": [], "baselines": []},
    )
    assert bench.run(spec, tmp_path / "out").complete
    rows = bench.Results(tmp_path / "out").rows(
        "SELECT model, avg(score) AS score FROM explanations GROUP BY model"
    )
    assert {row["model"] for row in rows} == {f"{name} (output one)", f"{name} (output other)"}
    assert rows[0]["score"] != rows[1]["score"]


def test_every_question_is_answered_once(whole: Path) -> None:
    found = tables(whole)
    assert len(found["explanations"]) == 3 * 2
    assert len(found["measures"]) == 3 * 2 * (2 + 1)
    assert len(found["curves"]) == 3 * 2 * 2 * 2
    results = bench.Results(whole)
    assert results.query("SELECT count(*) FROM explanations WHERE thumbnail IS NOT NULL")[1] == [(2,)]
    assert len(list((whole / "photographs").glob("*.jpg"))) == 1


# --- going on


def test_a_second_run_has_nothing_to_do(whole: Path) -> None:
    before = tables(whole)
    assert bench.run(spec_of(), whole).fresh == 0
    assert tables(whole) == before


def test_a_changed_method_runs_only_its_tasks_and_replaces_its_rows(tmp_path: Path) -> None:
    bench.run(spec_of(), tmp_path)
    before = {
        row["key"]
        for row in bench.Results(tmp_path).rows("SELECT key FROM explanations WHERE method = 'gradient'")
    }
    summary = bench.run(spec_of(explain={"methods": ["layer_cam", "gradient"]}), tmp_path)
    assert summary.fresh == 3
    assert summary.explanations == summary.expected == 6
    after = bench.Results(tmp_path)
    assert {
        row["key"] for row in after.rows("SELECT key FROM explanations WHERE method = 'gradient'")
    } == before
    assert after.query("SELECT count(*) FROM explanations WHERE method = 'grad_cam'")[1] == [(0,)]
    # Back again: the earlier answers are still there.
    assert bench.run(spec_of(), tmp_path).fresh == 0


def test_another_measure_is_added_to_the_maps_that_are_there(tmp_path: Path) -> None:
    bench.run(spec_of(evaluate={"metrics": ["deletion"]}), tmp_path)
    summary = bench.run(spec_of(evaluate={"metrics": ["deletion", "sparseness"]}), tmp_path)
    assert summary.fresh == 0
    found = bench.Results(tmp_path).query(
        "SELECT metric, count(*) FROM measures GROUP BY metric ORDER BY metric"
    )[1]
    assert found == [("deletion", 12), ("sparseness", 6)]


def test_threads_are_fixed_in_a_folder(whole: Path) -> None:
    with pytest.raises(InputError, match="threads is fixed"):
        bench.run(spec_of(run={"threads": 2}), whole)


def _stopping_after(jobs: int) -> Callable[[float, float, str], None]:
    begun = []

    def listen(done: float, total: float, what: str) -> None:
        if what.startswith("image") and what not in begun:
            begun.append(what)
        if len(begun) > jobs:
            raise KeyboardInterrupt

    return listen


def test_an_interrupted_run_keeps_what_was_done_and_ends_as_the_uninterrupted_one(
    whole: Path, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt), cp.progress.listening(_stopping_after(1)):
        bench.run(spec_of(), tmp_path)
    kept = bench.Results(tmp_path).query("SELECT count(*) FROM explanations")[1][0][0]
    assert 0 < kept < 6
    assert bench.Results(tmp_path).manifest["runs"][0]["how"] == "interrupted"
    assert bench.run(spec_of(), tmp_path).fresh == 6 - kept
    assert tables(tmp_path) == tables(whole)


MANY = spec_of(images={"shapes": 40})


def _run_until_killed(folder: Path) -> None:
    torch.set_num_threads(1)
    bench.run(MANY, folder, every=0.0)


@pytest.mark.slow
def test_a_run_that_is_killed_twenty_times_ends_as_one_that_never_was(tmp_path: Path) -> None:
    bench.run(MANY, tmp_path / "whole")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["counterpoint.bench.run", "counterpoint.models", "counterpoint.metrics", __name__]
    )
    generator, killed, seen = random.Random(0), 0, []
    place = tmp_path / "killed"
    while killed < 20:
        process = context.Process(target=_run_until_killed, args=(place,))
        process.start()
        begun = place / "runs"
        before = len(list(begun.glob("*.json"))) if begun.exists() else 0
        deadline = time.monotonic() + 120
        while (
            len(list(begun.glob("*.json"))) == before and time.monotonic() < deadline
        ):  # working, not getting ready
            time.sleep(0.005)
        time.sleep(generator.uniform(0, 0.4))
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        killed += process.exitcode == -signal.SIGKILL
        seen.append(bench.Results(place).query("SELECT count(*) FROM explanations")[1][0][0])
        if seen[-1] == 80:
            break
    assert killed >= 20 or seen[-1] == 80
    assert seen == sorted(seen)  # nothing is ever lost
    bench.run(MANY, place)
    assert tables(place) == tables(tmp_path / "whole")
    assert not list(place.rglob("*.partial*.json"))


def test_two_runs_on_one_folder_leave_every_row_once(whole: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["counterpoint.bench.run", __name__])
    processes = [context.Process(target=_run_small, args=(tmp_path,)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert tables(tmp_path) == tables(whole)


def _run_small(folder: Path) -> None:
    torch.set_num_threads(1)
    bench.run(spec_of(), folder, every=0.0)


def test_a_full_disk_stops_the_run_and_leaves_nothing_half(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from counterpoint import store

    real, written = store.whole_file, []

    def full(path: Path) -> Any:
        written.append(path)
        if len(written) == 9:
            raise OutputError(f"cannot write '{path}': no space left on device.")
        return real(path)

    monkeypatch.setattr(store, "whole_file", full)
    with pytest.raises(OutputError, match="no space left"):
        bench.run(spec_of(), tmp_path, every=0.0)
    monkeypatch.undo()
    bench.run(spec_of(), tmp_path)
    assert tables(tmp_path) == tables(whole)


def test_a_damaged_part_is_named_and_a_query_is_one_statement(tmp_path: Path) -> None:
    bench.run(spec_of(), tmp_path)
    with pytest.raises(InputError, match="one statement, got 2"):
        bench.Results(tmp_path).query("select 1; select 2")
    with pytest.raises(InputError, match="one statement, got 0"):
        bench.Results(tmp_path).query("")
    (part,) = (tmp_path / "measures" / "parts").iterdir()
    whole = part.read_bytes()
    part.write_bytes(whole[:300])
    with pytest.raises(InputError, match="Delete that part"):
        bench.Results(tmp_path)
    part.unlink()
    assert bench.run(spec_of(), tmp_path).complete


# --- what fails


@dataclass(frozen=True)
class Faulty:
    """Raises for images whose mean is above a limit, and gives NaN for dark ones."""

    bright: float = 2.0
    dark: float = -1.0
    claim: ClassVar[Any] = "importance"
    level: ClassVar[Any] = "input"
    version: ClassVar[int] = 1

    def __call__(self, comparison: cp.Comparison) -> Outcome:
        mean = float(comparison.inputs.mean())
        if mean > self.bright:
            raise RuntimeError("too bright for me")
        values = torch.zeros_like(comparison.inputs)
        return Outcome(values=values / 0 if mean < self.dark else values + 1)


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Three pictures, of which one is damaged."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    for name, level in (("dark", 20), ("light", 230)):
        Image.new("RGB", (80, 70), (level, level, level // 2)).save(folder / f"{name}.png")
    (folder / "broken.png").write_bytes((folder / "dark.png").read_bytes()[:60])
    return folder


def test_failures_are_results_with_their_reasons_and_the_rest_goes_on(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(METHODS, "faulty", Faulty)
    spec = spec_of(
        images={"folder": str(photographs)},
        explain={"methods": ["gradient", "faulty:bright=0.5", "faulty:dark=0.5"]},
        evaluate={"metrics": ["sparseness"], "baselines": []},
    )
    summary = bench.run(spec, tmp_path / "out")
    assert not summary.complete
    assert summary.explanations == summary.expected == 9
    found = {
        (row["image"], row["method"]): (row["status"], row["reason"] or "")
        for row in bench.Results(tmp_path / "out").rows(
            "SELECT image, method, status, reason FROM explanations"
        )
    }
    assert all(
        status == "failed" and "broken.png" in why
        for (image, _), (status, why) in found.items()
        if "broken" in image
    )
    assert found["light.png", "gradient"][0] == found["dark.png", "gradient"][0] == "ok"
    assert found["light.png", "faulty:bright=0.5"] == ("failed", found["light.png", "faulty:bright=0.5"][1])
    assert "RuntimeError: too bright for me" in found["light.png", "faulty:bright=0.5"][1]
    assert "NaN" in found["dark.png", "faulty:dark=0.5"][1]
    log = (tmp_path / "out" / "bench.log").read_text()
    assert "too bright for me" in log
    # They are known; only when asked for are they tried again.
    assert bench.run(spec, tmp_path / "out").fresh == 0
    monkeypatch.setattr(Faulty, "__call__", lambda self, comparison: Outcome(values=comparison.inputs + 1))
    assert bench.run(spec, tmp_path / "out", retry_failed=True).fresh == 5
    left = bench.Results(tmp_path / "out").query(
        "SELECT DISTINCT image FROM explanations WHERE status = 'failed'"
    )[1]
    assert left == [("broken.png",)]


def test_memory_that_runs_out_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[int] = []

    @dataclass(frozen=True)
    class Hungry(Faulty):
        def __call__(self, comparison: cp.Comparison) -> Outcome:
            tries.append(1)
            if len(tries) < 3:
                raise MemoryError("none left")
            return Outcome(values=comparison.inputs * 0 + 1)

    monkeypatch.setitem(METHODS, "hungry", Hungry)
    spec = spec_of(
        images={"shapes": 1}, explain={"methods": ["hungry"]}, evaluate={"metrics": [], "baselines": []}
    )
    assert bench.run(spec, tmp_path).complete
    assert len(tries) == 3
    assert bench.Results(tmp_path).query("SELECT attempt FROM attempts")[1] == [(3,)]


def test_a_live_model_is_used_as_it_is_and_in_process_only(tmp_path: Path) -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)
    ).eval()
    mine = cp.Classifier(network, mean=0.5, std=0.25, size=32, name="mine")
    spec = spec_of(model=[{"name": "mine"}], explain={"layers": ["1"], "methods": ["grad_cam"]})
    assert bench.run(spec, tmp_path / "out", models={"mine": mine}).complete
    with pytest.raises(InputError, match="live object"):
        bench.run(
            spec_of(
                model=[{"name": "mine"}],
                explain={"layers": ["1"], "methods": ["grad_cam"]},
                run={"engine": "pool"},
            ),
            tmp_path / "other",
            models={"mine": mine},
        )


# --- engines


def test_a_pool_finds_the_same_and_survives_a_worker_that_dies(whole: Path, tmp_path: Path) -> None:
    spec = spec_of(run={"engine": "pool", "workers": 1})
    ended: list[int] = []

    def kill(done: float, total: float, what: str) -> None:
        children = multiprocessing.active_children()
        if what.startswith("image") and children and not ended:
            # Some moments after it was handed its first job.
            ended.append(children[0].pid or 0)
            os.kill(ended[0], signal.SIGKILL)

    with cp.progress.listening(kill):
        summary = bench.run(spec, tmp_path)
    assert ended
    assert summary.complete
    assert tables(tmp_path) == tables(whole)
    attempts = bench.Results(tmp_path).query("SELECT max(attempt) FROM attempts")[1]
    assert attempts == [(2,)]
    assert "its worker died" in (tmp_path / "bench.log").read_text()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="workers of Ray are found in /proc")
def test_ray_finds_the_same_and_survives_a_worker_that_dies(whole: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    ended: list[int] = []

    def kill(done: float, total: float, what: str) -> None:
        # The first job is done, the second is under way.
        workers = (
            [] if ended or not what.startswith("image 2") else list(Path("/proc").glob("[0-9]*/cmdline"))
        )
        for file in workers:
            with contextlib.suppress(OSError):
                if file.read_bytes().startswith(b"ray::_Actor"):
                    ended.append(int(file.parent.name))
                    os.kill(ended[0], signal.SIGKILL)
                    return

    with cp.progress.listening(kill):
        summary = bench.run(spec_of(run={"engine": "ray", "workers": 1}), tmp_path)
    assert ended
    assert summary.complete
    assert tables(tmp_path) == tables(whole)
    assert "its worker died" in (tmp_path / "bench.log").read_text()


# --- the plan


PAPER = [
    "gradient",
    "smooth_grad:samples=3",
    "taylor",
    "guided_ig:steps=8",
    "grad_cam",
    "occlusion",
    "rise:masks=40",
    "lime",
    "random_map",
]


@pytest.mark.parametrize("name", PAPER)
def test_a_method_counted_on_paper_costs_what_it_costs(name: str) -> None:
    from counterpoint import spec as objects
    from counterpoint.data.datasets import open_data_set

    classifier = cp.load_model("shapes_vgg")
    data = open_data_set({"shapes": 1})
    inputs = classifier.preprocess(data.picture(data.items[0]))
    method = objects.build("method", name)
    comparison = cp.compare(cp.logit(classifier), inputs, baseline=cp.baselines.Black())
    if method.level == "layer":
        comparison = comparison.at("features")
    found = counted(method, comparison, seconds=60)
    real = comparison.explain(method)
    assert found.count.gradients == int(real.gradient_evaluations[0])
    assert found.count.forwards == int(real.forward_evaluations[0])


def test_a_method_whose_cost_depends_on_the_image_is_said_to_be_rough(tmp_path: Path) -> None:
    spec = spec_of(explain={"methods": ["integrated_gradients", "gradient"]}, evaluate={"metrics": []})
    assert plan_of(spec, tmp_path / "none").rough == ("integrated_gradients",)


def test_the_plan_counts_every_run_of_the_model(tmp_path: Path) -> None:
    spec = spec_of(
        explain={
            "methods": ["gradient", "occlusion", "smooth_grad:samples=3"],
            "against": ["black", "blur"],
            "fold": False,
        },
        evaluate={
            "metrics": ["deletion", "insertion", "activation_excess", "information_removed", "sparseness"],
            "baselines": ["mean", "road"],
        },
    )
    plan = plan_of(spec, tmp_path / "none")
    classifier = cp.load_model("shapes_vgg")
    rows = 0

    def count(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        nonlocal rows
        rows += len(inputs[0])

    asked = asking(spec, models={"shapes_vgg": classifier})
    worker = Worker(
        Setup(spec=spec, questions=asked.questions, data=asked.data, bank=(), run="", engine="in_process"),
        [classifier],
    )
    tasks = [
        Task(q.number, True, tuple((metric, by) for metric, each in q.measures.items() for by in each))
        for q in asked.questions
    ]
    handle = classifier.module.register_forward_pre_hook(count)
    worker.do(Job(0, asked.data.items[0], 0, "", False, tuple(tasks)))
    handle.remove()
    (cost,) = plan.models
    assert cost.exact
    assert cost.method.gradients + cost.method.forwards + cost.other == rows


def test_a_plan_knows_what_is_there_and_scales_with_images_workers_and_speed(whole: Path) -> None:
    assert plan_of(spec_of(), whole).seconds == 0
    far = plan_of(spec_of(), whole, images=1_280_000, workers=64, speed=20)
    assert far.seconds == pytest.approx(far.models[0].seconds * 1_280_000 / 64 / 20)
    json.dumps(far.plain(), allow_nan=False)
