"""Insertion and deletion curves on EfficientNet-Lite0 at equal points: torch-cam, a plain loop, ours, and ours in bfloat16.

    python benchmarks/curves.py [--runs NAME ...] [--images N] [--maps M] [--steps S] [--repeats N] [--quantus]

torch-cam  DeletionInsertionMetric, 32 perturbed images at a time as it comes; its extractor is replaced by given maps.
loop       what one writes by hand: all points of a curve in one forward, both ends of every curve anew.
plain      cp.metrics.curves on the model as it is.
folded     on the folded copy, which the first repeat makes and checks, and the others find made.
bfloat16   with precision="bfloat16": in all, and without making the copies and checking them against float32. It needs 8 images.

With --quantus: Quantus' PixelFlipping, which knows deletion only, beside our deletion curves on the folded copy, to black.

Steps must divide the 50,176 pixels: elsewhere torch-cam places its points differently. Absolute times mean little on a shared machine;
the ratios are of runs next to each other.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from torch import Tensor, nn

import counterpoint as cp
from counterpoint.data.photographs import find_photographs
from counterpoint.scores import ClassScore

BASELINE = cp.baselines.Mean()
RUNS = ["torch-cam", "loop", "plain", "folded", "bfloat16"]


class Given:
    """Stands in for an extractor of torch-cam: the maps are given, so that only the curves are timed."""

    def __init__(self, model: nn.Module, saliency: Tensor) -> None:
        self.model, self.saliency = model, saliency

    def __call__(self, *_: Any, **__: Any) -> list[Tensor]:
        return [self.saliency]

    def fuse_cams(self, cams: list[Tensor]) -> Tensor:
        return cams[0]

    def _hooks_off(self) -> AbstractContextManager[None]:
        return nullcontext()


def peer(
    module: nn.Module, images: Tensor, maps: dict[str, Tensor], classes: list[int], steps: int
) -> Tensor:
    """(2, maps, images): deletion and insertion areas by torch-cam, which keeps means: hence one image at a time."""
    from torchcam.metrics import DeletionInsertionMetric

    found = []
    for saliency in maps.values():
        for i in range(len(images)):
            given = Given(module, saliency[i : i + 1])
            metric = DeletionInsertionMetric(given, steps=steps, baseline=BASELINE)
            metric.update(images[i : i + 1], classes[i])
            found.append(list(metric.summary().values()))
    return torch.tensor(found).view(len(maps), len(images), 2).permute(2, 0, 1)


def loop(
    module: nn.Module, images: Tensor, maps: dict[str, Tensor], classes: list[int], steps: int
) -> Tensor:
    """The same by a loop in the straightforward way: every curve with both of its ends."""
    areas = torch.empty(2, len(maps), len(images))
    pixels = images[0, 0].numel()
    fractions = torch.arange(steps + 1) / steps
    for m, saliency in enumerate(maps.values()):
        for i, image in enumerate(images):
            start, end = image, BASELINE(images[i : i + 1])[0]
            rank = saliency[i].flatten().argsort(descending=True).argsort().view_as(saliency[i])
            for kind in range(2):
                points = [torch.where(rank < k * pixels // steps, end, start) for k in range(steps + 1)]
                with torch.no_grad():
                    scores = module(torch.stack(points))[:, classes[i]]
                areas[kind, m, i] = torch.trapezoid(scores, fractions)
                start, end = end, start
    return areas


def flipping(
    module: nn.Module, images: Tensor, maps: dict[str, Tensor], classes: list[int], steps: int
) -> Tensor:
    """(maps, images, 3 * steps): the logit after each step of deletion, by Quantus, which takes the smallest value of an image for black.

    It removes values, not pixels, whose three values are tied and go together; its steps must divide the pixels. So it makes three points
    where we make one, and pixels are whole at every third.
    """
    import numpy as np
    import quantus

    metric = quantus.PixelFlipping(
        features_in_step=images[0, 0].numel() // steps,
        normalise=False,
        perturb_baseline="black",
        disable_warnings=True,
    )
    options = {"softmax": False, "device": "cpu", "channel_first": True}
    found = [
        metric(
            model=module,
            x_batch=images.numpy(),
            y_batch=np.array(classes),
            a_batch=saliency.unsqueeze(1).numpy(),
            **options,
        )
        for saliency in maps.values()
    ]
    return torch.tensor(np.array(found))


def beside_quantus(
    score: ClassScore,
    images: Tensor,
    maps: dict[str, Tensor],
    classes: list[int],
    steps: int,
    repeats: int,
) -> None:
    """Print seconds and differences, taking turns."""
    images = images.clone()
    images[:, :, 0, 0] = 0  # so that the smallest value is black
    black = cp.baselines.Black()

    def ours() -> Tensor:
        table = cp.metrics.curves(score, images, maps, [black], steps=3 * steps, kinds=["deletion"])
        return table.scores[0, 0, :, :, 1:]

    runs = {"quantus": lambda: flipping(score.module, images, maps, classes, steps), "folded": ours}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    results: dict[str, Tensor] = {}
    for _ in range(repeats):
        for name, run in runs.items():
            start = time.perf_counter()
            results[name] = run()
            seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    print(f"\nDeletion only, {len(images)} images, {len(maps)} maps, {3 * steps} steps:\n")
    print(f"| | seconds, median of {repeats} | times faster than quantus | largest difference of a logit |")
    print("|---|---|---|---|")
    for name, taken in medians.items():
        whole = slice(2, None, 3)
        gap = float((results[name] - results["quantus"])[..., whole].abs().max())
        print(f"| {name} | {taken:.2f} | {medians['quantus'] / taken:.2f} | {gap:.1e} |")


def processor() -> str:
    """The instructions for bfloat16 that this processor has, in words."""
    flags = Path("/proc/cpuinfo")
    text = flags.read_text() if flags.exists() else ""
    names = [name for name in ("avx512_bf16", "amx_bf16") if name in text]
    return ", ".join(names) if names else "none"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=2, help="photographs, taken from the samples in turn")
    parser.add_argument("--maps", type=int, default=2)
    parser.add_argument("--steps", type=int, default=28)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--runs", nargs="+", choices=RUNS, default=RUNS[:-1])
    parser.add_argument("--quantus", action="store_true", help="beside Quantus, and nothing else")
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    classifier = cp.load_model("efficientnet_lite0")
    samples = classifier.preprocess(
        find_photographs(["sample:chelsea", "sample:coffee", "sample:rocket", "sample:astronaut"])
    )
    # Mirrored and darkened copies where there are more images than samples.
    many = torch.cat([samples, samples.flip(3), 0.6 * samples, 0.6 * samples.flip(3)])
    images = many.repeat(1 + arguments.images // len(many), 1, 1, 1)[: arguments.images]
    score = cp.logit(classifier)
    classes = score.bind(images).classes.tolist()
    noise = torch.rand(arguments.maps, len(images), 1, 7, 7, generator=torch.Generator().manual_seed(0))
    # Bicubic, so that no two pixels are tied: torch-cam breaks ties otherwise than we do.
    fields = [nn.functional.interpolate(each, size=(224, 224), mode="bicubic")[:, 0] for each in noise]
    maps = {f"map {i}": each for i, each in enumerate(fields)}
    steps = arguments.steps
    if arguments.quantus:
        beside_quantus(score, images, maps, classes, steps, arguments.repeats)
        return

    def ours(**options: Any) -> Tensor:
        table = cp.metrics.curves(score, images, maps, [BASELINE], steps=steps, **options)
        if table.precision_check is not None:
            check = table.precision_check
            checks.append(f"Spearman {check.spearman:.4f}, within images {check.within_images:.4f}")
        return torch.stack([table.areas(kind)[0] for kind in table.kinds])

    checks: list[str] = []
    checked = [0.0]

    def watch(done: float, total: float, what: str) -> None:
        if what == "checking bfloat16":
            checked[0] = time.perf_counter()

    every: dict[str, Callable[[], Tensor]] = {
        "torch-cam": lambda: peer(classifier.module, images, maps, classes, steps),
        "loop": lambda: loop(classifier.module, images, maps, classes, steps),
        "plain": lambda: ours(fold=False),
        "folded": ours,
        "bfloat16": lambda: ours(precision="bfloat16"),
    }
    runs = {name: every[name] for name in arguments.runs}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    results: dict[str, Tensor] = {}
    for _ in range(arguments.repeats):
        for name, run in runs.items():
            start = time.perf_counter()
            with cp.progress.listening(watch):
                results[name] = run()
            seconds[name].append(time.perf_counter() - start)
            if name == "bfloat16":
                unchecked = f"{name}, after its check"
                results[unchecked] = results[name]
                seconds.setdefault(unchecked, []).append(time.perf_counter() - checked[0])
    forwards = len(images) * (2 + 2 * len(maps) * (steps - 1))
    print(f"{len(images)} images, {len(maps)} maps, {steps} steps: {forwards} forwards of ours.")
    print(f"Instructions for bfloat16: {processor()}.\n")
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    first = next(iter(runs))
    print(
        f"| | seconds, median of {arguments.repeats} | ms a forward of ours | times faster than {first} "
        "| largest difference of an area |"
    )
    print("|---|---|---|---|---|")
    for name, taken in medians.items():
        gap = float((results[name] - results[first]).abs().max())
        cost = 1000 * taken / forwards
        print(f"| {name} | {taken:.2f} | {cost:.1f} | {medians[first] / taken:.2f} | {gap:.1e} |")
    print(f"\nAreas are from {float(results[first].min()):.2f} to {float(results[first].max()):.2f}.")
    for check in checks[:1]:
        print(f"bfloat16 against float32: {check}.")


if __name__ == "__main__":
    main()
