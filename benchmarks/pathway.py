"""Both kinds of faithfulness together: the area that FEI reaches, and how far its masks drive the network off the original's pathway.

    python benchmarks/pathway.py --out DIR [--model NAME] [--photographs N] [--only NAME ...] [--figure FILE] [--tables]

FEI under each rule of clipping, at all activations or the last six, by probability and by its logarithm, with a price on excess activation,
and, so that smoothness can be matched, without clipping on grids from coarse to fine; all with as many steps, against a blur of 10 pixels;
a price together with clipping takes half as many gradients more. Beside them Grad-CAM, integrated gradients, and blobs in the middle and at
random. Measured on each map: insertion minus deletion area of the probability; excess activation on the insertion path, with and without
seams, mean over activations and fractions, and beside it that of random masks; what the last activation, capped, keeps of the score. Last,
the same optimisation for a class that is not there: the probability that an insertion path of the map reaches. Photographs are held out, as
in benchmarks/fei.py.
"""

import argparse
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from matplotlib.figure import Figure
from torch import Tensor

import counterpoint as cp
from counterpoint.classifier import Classifier
from counterpoint.metrics.nested import smooth_fields
from counterpoint.places import default_map_layer
from counterpoint.protocols import Method
from kept import confident, held_out, paired, record, table, tensors

BASELINE = cp.baselines.Blur(sigma=10)
SETTING = cp.methods.FEI.quick()
FINE = replace(SETTING, grids=(28, 56))
PROBABILITY, LOG = "probability", "log-probability"
SETTINGS: dict[str, tuple[str, cp.methods.FEI]] = {
    "none": (PROBABILITY, SETTING),
    "none, 7 cells": (PROBABILITY, replace(SETTING, grids=(7,))),
    "none, 14 cells": (PROBABILITY, replace(SETTING, grids=(14,))),
    "none, 56 cells": (PROBABILITY, FINE),
    "none, log": (LOG, SETTING),
    "fgvis": (PROBABILITY, replace(SETTING, rule="fgvis")),
    "fgvis, last 6": (PROBABILITY, replace(SETTING, rule="fgvis", clipped=6)),
    "directional": (PROBABILITY, replace(SETTING, rule="directional")),
    "directional, log": (LOG, replace(SETTING, rule="directional")),
    "penalty 4": (PROBABILITY, replace(SETTING, penalty=4)),
    "penalty 16": (PROBABILITY, replace(SETTING, penalty=16)),
    "penalty 4, 56 cells": (PROBABILITY, replace(FINE, penalty=4)),
    "penalty 16, 56 cells": (PROBABILITY, replace(FINE, penalty=16)),
    "penalty 64, 56 cells": (PROBABILITY, replace(FINE, penalty=64)),
    "fgvis, last 6, 56 cells": (PROBABILITY, replace(FINE, rule="fgvis", clipped=6)),
    "fgvis, last 6, penalty 16, 56 cells": (PROBABILITY, replace(FINE, rule="fgvis", clipped=6, penalty=16)),
    "directional, last 6, penalty 16, 56 cells": (
        PROBABILITY,
        replace(FINE, rule="directional", clipped=6, penalty=16),
    ),
}
UNCLIPPED = tuple(name for name in SETTINGS if name.startswith("none"))
ABSENT = tuple(
    name
    for name in SETTINGS
    if name in ("none, 56 cells", "fgvis", "directional", "directional, log")
    or (name.endswith("56 cells") and ("penalty 16" in name or "last 6" in name))
)
_SCORES = {PROBABILITY: cp.probability, LOG: cp.log_probability}


def blob(size: tuple[int, int], seed: int | None) -> Tensor:
    """(height, width): a smooth random field, or, without a seed, what is highest in the middle."""
    height, width = size
    if seed is not None:
        return smooth_fields(1, height, width, seed)[0].float()
    y, x = torch.linspace(-1, 1, height)[:, None], torch.linspace(-1, 1, width)[None]
    return -(x.square() + y.square())


def made(classifier: Classifier, image: Tensor, name: str, place: int) -> dict[str, Tensor]:
    """The map, (height, width), and its gradients."""
    size = (image.shape[2], image.shape[3])
    if name.startswith("blob"):
        return {"map": blob(size, 100 + place if "random" in name else None), "gradients": torch.zeros(1)}
    if name in SETTINGS:
        kind, method = SETTINGS[name]
        return explained(classifier, image, method, kind)
    cheap: dict[str, Method] = {
        "grad_cam": cp.methods.GradCAM(),
        "integrated_gradients": cp.methods.IntegratedGradients(rule=cp.quadrature.GaussLegendre(50)),
    }
    return explained(classifier, image, cheap[name], PROBABILITY)


def explained(
    classifier: Classifier, image: Tensor, method: Method, kind: str, target: int | None = None
) -> dict[str, Tensor]:
    """The map that a method makes of a score, of the top class or another one."""
    layer = default_map_layer(classifier.module, image) if method.level == "layer" else None
    score = _SCORES[kind](classifier, **({} if target is None else {"target": target}))
    found = cp.compare(score, image, baseline=BASELINE, layer=layer, fold=True).explain(method)
    return {"map": found.heatmap()[0].detach().float(), "gradients": found.gradient_evaluations.float()}


def measured(classifier: Classifier, image: Tensor, saliency: Tensor, name: str) -> dict[str, float]:
    """What the tables show of one map."""
    score, maps = cp.probability(classifier), saliency[None]
    curves = cp.metrics.curves(score, image, {name: maps}, [BASELINE], steps=16)
    gone, back = (curves.curve(kind) for kind in ("deletion", "insertion"))
    found = cp.metrics.activation_deviation(score, image, maps, baseline=BASELINE, kinds=("insertion",))
    capped = cp.metrics.capped_forward(
        score, image, maps, baseline=BASELINE, layers=1, kinds=("insertion",), floor=0
    )
    measures = ("excess", "seam_free_excess", "disinhibition")
    return {
        "area": float((back.area - gone.area)[0]),
        "kept": float(capped.paths["insertion"].kept.mean()),
        **{each: float(found.mean(each)[0]) for each in measures},
        **{f"floor {each}": float(found.mean(each, floor=True)[0]) for each in measures},
    }


def absent(classifier: Classifier, image: Tensor, name: str) -> dict[str, float]:
    """How far a map made for a class that is not there raises that class on its insertion path."""
    with torch.no_grad():
        p = classifier.module(image).softmax(1)[0]
    target = int(p.argsort(descending=True)[len(p) // 2])
    kind, method = SETTINGS[name]
    saliency = explained(classifier, image, method, kind, target)["map"]
    curves = cp.metrics.curves(
        cp.probability(classifier, target=target),
        image,
        {name: saliency[None]},
        [BASELINE],
        steps=16,
        kinds=["insertion"],
    )
    return {"reached": float(curves.curve("insertion").scores.max()), "there": float(p[target])}


def pareto(results: dict[str, dict[str, dict[str, float]]], caption: str) -> Figure:
    """Area against excess, with seams and without; better is up and to the left."""
    figure = Figure(figsize=(13, 6), dpi=120, facecolor="white", layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for panel, measure in zip(panels, ("excess", "seam_free_excess"), strict=True):
        for name, found in results.items():
            x, y = (paired([each[c] for each in found.values()])[0] for c in (measure, "area"))
            ours = name in SETTINGS
            color = "#8a8a8a" if not ours else "#2470b3" if name in UNCLIPPED else "#d9690c"
            panel.plot(x, y, "o", color=color, ms=6)
            panel.annotate(name, (x, y), xytext=(5, 3), textcoords="offset points", fontsize=8, color=color)
        panel.set_xlabel(f"{measure.replace('seam_free_', 'seam-free ')} activation on the insertion path")
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("insertion minus deletion area of the probability")
    figure.suptitle(
        f"{caption}; blue: FEI without clipping, orange: clipped or priced, grey: other maps", fontsize=10
    )
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="efficientnet_lite0")
    parser.add_argument("--photographs", type=int, default=8)
    parser.add_argument("--only", nargs="*", help="only these settings")
    parser.add_argument("--absent", type=int, default=4, help="photographs for the class that is not there")
    parser.add_argument("--figure", type=Path, help="where the picture goes")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tables", action="store_true", help="tables of what is there, and stop")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    classifier = cp.load_model(given.model)
    paths, images = confident(classifier, held_out(given.photographs))
    names = [n for n in SETTINGS if not given.only or n in given.only]
    names += ["grad_cam", "integrated_gradients", "blob in the middle", "blob at random"]
    print(f"{given.model}: {len(paths)} photographs, {len(names)} maps each", flush=True)
    results: dict[str, dict[str, dict[str, float]]] = {}
    reached: dict[str, dict[str, dict[str, float]]] = {}

    def kept(
        store: dict[str, dict[str, dict[str, float]]],
        name: str,
        file: Path,
        make: Callable[[], dict[str, float]],
    ) -> None:
        if file.exists() or not given.tables:
            store.setdefault(name, {})[file.parent.name] = record(file, make)

    for k, path in enumerate(paths):
        image, base = images[k : k + 1], given.out / given.model / path.stem
        for name in names:
            stem = name.replace(" ", "_")

            def measure(
                image: Tensor = image, name: str = name, base: Path = base, stem: str = stem, k: int = k
            ) -> dict[str, float]:
                saliency = tensors(base / f"{stem}.safetensors", lambda: made(classifier, image, name, k))[
                    "map"
                ]
                return measured(classifier, image, saliency, name)

            kept(results, name, base / f"{stem}.json", measure)
            if k < given.absent and name in ABSENT:
                kept(
                    reached,
                    name,
                    base / f"absent_{stem}.json",
                    lambda image=image, name=name: absent(classifier, image, name),
                )
        if not given.tables:
            print(f"{k + 1} of {len(paths)}", flush=True)
    columns = ("area", "excess", "seam_free_excess", "disinhibition", "kept")
    rows = []
    for name, found in results.items():
        means = [f"{paired([each[c] for each in found.values()])[0]:.3f}" for c in columns]
        floor = paired([each["floor seam_free_excess"] for each in found.values()])[0]
        rows.append([name, str(len(found)), *means[:3], f"{floor:.3f}", *means[3:]])
    table(
        [
            "map",
            "photographs",
            "area",
            "excess",
            "seam-free",
            "seam-free, random masks",
            "disinhibition",
            "kept, capped",
        ],
        rows,
    )
    free = {name: found for name, found in results.items() if name in UNCLIPPED}
    rows = []
    for name, found in results.items():
        if name not in SETTINGS or name in UNCLIPPED or not free:
            continue
        best = matched(found, free)
        both = [photo for photo in found if photo in free[best]]
        theirs = [free[best][photo] for photo in both]
        mine = [found[photo] for photo in both]
        units = {c: sum(each[c] for each in theirs) / len(both) for c in ("excess", "seam_free_excess")}
        floor = sum(each["floor seam_free_excess"] for each in theirs) / len(both)
        cells = []
        for column in ("excess", "seam_free_excess", "area", "kept"):
            unit = units.get(column)
            mean, low, high = paired([a[column] - b[column] for a, b in zip(mine, theirs, strict=True)])
            cells.append(
                f"{mean / unit:+.0%} ({low / unit:+.0%} to {high / unit:+.0%})"
                if unit
                else f"{mean:+.3f} ({low:+.3f} to {high:+.3f})"
            )
        rows.append(
            [
                name,
                str(len(both)),
                f"{best} (seam-free above random masks: {units['seam_free_excess'] - floor:+.3f})",
                *cells,
            ]
        )
    table(
        [
            "clipped",
            "photographs",
            "against the unclipped with least excess at its area",
            "excess",
            "seam-free excess",
            "area",
            "kept, capped",
        ],
        rows,
    )
    table(
        ["class that is not there", "photographs", "p in the photograph", "p reached"],
        [
            [
                name,
                str(len(found)),
                *(f"{paired([each[c] for each in found.values()])[0]:.4f}" for c in ("there", "reached")),
            ]
            for name, found in reached.items()
        ],
    )
    if given.figure:
        pareto(results, f"{given.model}, {len(paths)} photographs").savefig(given.figure)


def matched(found: dict[str, dict[str, float]], free: dict[str, dict[str, dict[str, float]]]) -> str:
    """The unclipped setting with the least excess among those of at least this mean area; of less area, the largest."""

    def mean(of: dict[str, dict[str, float]], column: str) -> float:
        return paired([each[column] for each in of.values()])[0]

    area = mean(found, "area")
    enough = [name for name, each in free.items() if mean(each, "area") >= area]
    if not enough:
        return max(free, key=lambda name: mean(free[name], "area"))
    return min(enough, key=lambda name: mean(free[name], "excess"))


if __name__ == "__main__":
    main()
