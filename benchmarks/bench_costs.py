"""What a benchmark costs beside its models, how it grows, and whether its plan comes true.

    python benchmarks/bench_costs.py overhead [--tasks 200] [--workers 2] [--engines in_process pool ray]
    python benchmarks/bench_costs.py growth [--tasks 100 1000 10000]
    python benchmarks/bench_costs.py plan [--model NAME]

overhead: each image is one task of about a second, in which the model sleeps (benchmarks/slow_model.py), so that other work on the machine
hardly matters. Counted is the time from each worker's first task to the end of its last one, over the seconds within tasks and over those
slept. Starting workers does not count. growth: a trivial model and a control method on generated images; seconds, and the memory that the
process needs at most. plan: the expected time of several specs, and the time they then took, with the load of the machine.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch

from counterpoint import bench, progress
from counterpoint.bench.planning import plan_of
from kept import table
from slow_model import SECONDS


def spec_of(model: str, images: int, methods: list[str], **parts: dict[str, object]) -> bench.BenchSpec:
    """Images of 16 pixels, one baseline."""
    return bench.checked(
        {
            "images": {"shapes": images},
            "model": [{"name": model}],
            "explain": {"methods": methods, "against": ["black"], "fold": False},
            "keep": {"gallery": 0},
            **parts,
        }
    )


def overhead(engines: list[str], tasks: int, workers: int) -> None:
    """Seconds beside those that models take."""
    rows = []
    for engine in engines:
        count = 1 if engine == "in_process" else workers
        spec = spec_of("slow_model:sleeping", tasks, ["gradient"], run={"engine": engine, "workers": count})
        # f(x) and its class, f(x'), the gradient, and the class's probability.
        slept = 4 * SECONDS * tasks
        with tempfile.TemporaryDirectory() as folder:
            bench.run(spec, folder)
            found = bench.Results(folder).query(
                "SELECT sum(span), sum(inside), count(*) FROM "
                "(SELECT max(started + seconds) - min(started) AS span, sum(seconds) AS inside FROM attempts GROUP BY process)"
            )
        ((span, inside, processes),) = found[1]
        shown = (slept, inside, span)
        rows.append(
            [
                engine,
                f"{processes}",
                f"{tasks}",
                *(f"{seconds:.1f}" for seconds in shown),
                f"{span / inside - 1:.1%}",
                f"{span / slept - 1:.1%}",
            ]
        )
    headings = [
        "engine",
        "workers",
        "tasks",
        "seconds slept",
        "within tasks",
        "from each worker's first to its last",
        "over what is within tasks",
        "over what was slept",
    ]
    table(headings, rows)


def growth(tasks: list[int]) -> None:
    """Each number in a process of its own, whose memory is its own."""
    rows = []
    for count in tasks:
        done = subprocess.run(
            [sys.executable, __file__, "one", "--tasks", str(count)],
            capture_output=True,
            text=True,
            check=True,
        )
        seconds, before, after = (float(word) for word in done.stdout.split()[-3:])
        rows.append(
            [f"{count:,}", f"{seconds:.1f}", f"{1000 * seconds / count:.1f}", f"{before:.0f}", f"{after:.0f}"]
        )
    table(["tasks", "seconds", "ms for each", "MB after 10 tasks", "MB at most"], rows)


def one(tasks: int) -> None:
    """Ten tasks first, so that everything is loaded; then the number that is asked for."""
    seconds, used = 0.0, [0.0, 0.0]

    def listen(done: float, total: float, what: str) -> None:
        used[0 if done < 0.15 * total else 1] = _resident()

    for count in (10, tasks):
        with tempfile.TemporaryDirectory() as folder, progress.listening(listen):
            begun = time.perf_counter()
            bench.run(spec_of("slow_model:trivial", count, ["random_map"]), folder)
            seconds = time.perf_counter() - begun
        if count == 10:
            loaded = _resident()
    print(seconds, loaded, *used, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def _resident() -> float:
    """MB of this process that are in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def planned(model: str) -> None:
    """Expected and taken."""
    evaluate = {"metrics": ["insertion", "deletion"], "baselines": ["mean", "blur"], "steps": 8}
    specs = {
        "gradients": (
            ["gradient", "smooth_grad:samples=10", "integrated_gradients:rule=gauss_legendre(16)"],
            {},
        ),
        "class activation maps, with curves": (["grad_cam", "layer_cam"], evaluate),
        "removal, with curves": (["occlusion:size=32,stride=32", "rise:masks=100"], evaluate),
        "with activation deviation": (
            ["grad_cam", "gradient"],
            {"metrics": ["activation_excess"], "baselines": ["blur"]},
        ),
    }
    rows = []
    samples = ["chelsea", "coffee", "rocket"]
    for name, (methods, measures) in specs.items():
        spec = bench.checked(
            {
                "images": {"list": [f"sample:{each}" for each in samples]},
                "model": [{"name": model}],
                "explain": {"methods": methods, "against": ["black"]},
                "evaluate": measures,
            }
        )
        with tempfile.TemporaryDirectory() as folder:
            plan = plan_of(spec, Path(folder) / "none")
            load = os.getloadavg()[0]
            summary = bench.run(spec, Path(folder) / "run")
            results = bench.Results(Path(folder) / "run")
            ((taken,),) = results.query("SELECT sum(seconds) FROM attempts")[1]
            ((gradients, forwards),) = results.query(
                "SELECT sum(gradients), sum(forwards) FROM explanations"
            )[1]
        (cost,) = plan.models
        rows.append(
            [
                name,
                f"{cost.method.gradients * plan.images:,}, {cost.method.forwards * plan.images:,}",
                f"{gradients:,}, {forwards:,}",
                f"{plan.seconds:.1f}",
                f"{taken:.1f}",
                f"{plan.seconds / taken - 1:+.0%}",
                f"{load:.1f}, {os.getloadavg()[0]:.1f}",
            ]
        )
        assert summary.complete
    headings = [
        "spec",
        "gradients, forwards planned",
        "run",
        "seconds planned",
        "taken",
        "off by",
        "load before, after",
    ]
    table(headings, rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "part", choices=["overhead", "growth", "plan", "one"], help="`one` is a part of growth"
    )
    parser.add_argument("--tasks", type=int, nargs="*")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--engines", nargs="*", default=["in_process", "pool", "ray"])
    parser.add_argument("--model", default="efficientnet_lite0")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.part == "overhead":
        overhead(given.engines, (given.tasks or [200])[0], given.workers)
    elif given.part == "growth":
        growth(given.tasks or [100, 1_000, 10_000])
    elif given.part == "one":
        one(given.tasks[0])
    else:
        planned(given.model)


if __name__ == "__main__":
    # Workers import the model by its name from here.
    os.chdir(Path(__file__).parent)
    main()
