"""Both kinds of faithfulness together: the area that FEI reaches, and how far its masks drive the network off the original's pathway.

    python benchmarks/pathway.py [--model NAME] [--photographs N] [--only NAME ...] [--figure FILE]
    python benchmarks/pathway.py --tables [--model NAME] [--figure FILE]

FEI under each rule of clipping, at all activations or the last six, with a wide tolerance, by probability, its logarithm and the logit,
with a price on seam-free excess; and, so that smoothness can be matched, without clipping on grids from coarse to fine, and smoothed
afterwards; all with as many steps (quick: half, long: twice), against a blur of 10 pixels; a price together with clipping takes half as
many gradients more. Beside them Grad-CAM, integrated gradients, and blobs in the middle and at random. Measured on each map: insertion
minus deletion area of the probability; excess activation on the insertion path, with and without seams, mean over activations and
fractions, and beside it that of random masks; what the last activation, capped, keeps of the score. Last, the same optimisation for a
class that is not there: the probability that an insertion path of the map reaches. Photographs are held out, as in benchmarks/fei.py, and
results kept in the same way.
"""

import argparse
import os
import statistics
import sys
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from torch import Tensor

import counterpoint as cp
from counterpoint import spec
from counterpoint.activations import Pathway
from counterpoint.classifier import Classifier
from counterpoint.metrics.nested import smooth_fields
from counterpoint.places import default_map_layer
from counterpoint.protocols import Method
from kept import Results, confident, held_out, paired, results_file, table

BASELINE = cp.baselines.Blur(sigma=10)
DEFAULT = cp.methods.FEI()
FINE = replace(DEFAULT, grids=(28, 56))
# Price, overshoot and where to clip were chosen on photographs that are not among the held-out ones.
KEEPING: dict[str, dict[str, Any]] = {
    "efficientnet_lite0": {"clipped": 2, "tolerance": 0.02, "overshoot": 8, "penalty": 8},
    "resnet50": {"clipped": 2, "tolerance": 0.02, "overshoot": 8, "penalty": 7},
    # The last six activations but for one, which is the class map itself.
    "squeezenet1_1": {
        "clipped": ("features.fire8", "features.fire9"),
        "tolerance": 0.05,
        "overshoot": 10,
        "penalty": 5,
    },
}
PROBABILITY, LOG, LOGIT = "probability", "log-probability", "logit"


@dataclass(frozen=True)
class Setting:
    """How a map is made: of which score, by which method, and by how many pixels it is blurred afterwards."""

    score: str
    method: cp.methods.FEI
    smoothed: float = 0.0

    def texts(self) -> list[str]:
        """What the results say of it."""
        method = spec.unusual("method", spec.describe(self.method)).text
        return [self.score, method] + ([f"blurred by {self.smoothed:g} pixels"] if self.smoothed else [])


Settings = dict[str, Setting]
SETTINGS: Settings = {
    "none": Setting(PROBABILITY, DEFAULT),
    "none, 7 cells": Setting(PROBABILITY, replace(DEFAULT, grids=(7,))),
    "none, 14 cells": Setting(PROBABILITY, replace(DEFAULT, grids=(14,))),
    "none, 56 cells": Setting(PROBABILITY, FINE),
    "none, 56 cells, smoothed by 4": Setting(PROBABILITY, FINE, smoothed=4),
    "none, 56 cells, smoothed by 8": Setting(PROBABILITY, FINE, smoothed=8),
    "none, log": Setting(LOG, DEFAULT),
    "none, logit": Setting(LOGIT, DEFAULT),
    "fgvis": Setting(PROBABILITY, replace(DEFAULT, rule="fgvis")),
    "fgvis, last 6": Setting(PROBABILITY, replace(DEFAULT, rule="fgvis", clipped=6)),
    "directional": Setting(PROBABILITY, replace(DEFAULT, rule="directional")),
    "directional, log": Setting(LOG, replace(DEFAULT, rule="directional")),
    "directional, logit": Setting(LOGIT, replace(DEFAULT, rule="directional")),
    "fgvis, last 6, 56 cells": Setting(PROBABILITY, replace(FINE, rule="fgvis", clipped=6)),
    "directional, last 6, 56 cells": Setting(PROBABILITY, replace(FINE, rule="directional", clipped=6)),
}
BESIDE = ("grad_cam", "integrated_gradients", "blob in the middle", "blob at random")
Numbers = dict[str, dict[str, float]]
"""Photograph -> measure -> number."""
Found = dict[str, Numbers]
_ABSENT = "absent: "
_SCORES = {PROBABILITY: cp.probability, LOG: cp.log_probability, LOGIT: cp.logit}


def settings_for(classifier: Classifier, image: Tensor) -> Settings:
    """Those for any model, and those that were chosen for this one."""
    chosen = KEEPING.get(classifier.name, KEEPING["efficientnet_lite0"])
    asked = cp.compare(cp.probability(classifier), image, baseline=BASELINE)
    pathway = Pathway.recorded(lambda under: asked.scores(asked.inputs, under=under), classifier.module)
    price = {"priced": pathway.names[::2], "penalty": chosen["penalty"]}
    clipping = {"rule": "directional", **price, **chosen}
    both, quick = replace(FINE, **clipping), replace(cp.methods.FEI.quick(), grids=FINE.grids)
    long = replace(FINE, steps=2 * FINE.steps, every=2 * FINE.every)
    return {
        **SETTINGS,
        "price, 56 cells": Setting(PROBABILITY, replace(FINE, **price)),
        "overshoot, 56 cells": Setting(PROBABILITY, replace(both, penalty=0)),
        "price and clipping, 56 cells": Setting(PROBABILITY, replace(both, overshoot=0)),
        "price and overshoot, 56 cells": Setting(PROBABILITY, both),
        "price and overshoot, log, 56 cells": Setting(LOG, both),
        "none, quick, 56 cells": Setting(PROBABILITY, quick),
        "price and overshoot, quick, 56 cells": Setting(PROBABILITY, replace(quick, **clipping)),
        "none, long, 56 cells": Setting(PROBABILITY, long),
        "price and overshoot, long, 56 cells": Setting(PROBABILITY, replace(long, **clipping)),
    }


def unclipped(name: str) -> bool:
    """Whether the setting neither clips nor has a price."""
    return name.startswith("none")


def followed(name: str) -> bool:
    """Whether a map is made for a class that is not there, too."""
    return name.endswith("56 cells") or name in ("fgvis", "directional")


def blob(size: tuple[int, int], seed: int | None) -> Tensor:
    """(height, width): a smooth random field, or, without a seed, what is highest in the middle."""
    height, width = size
    if seed is not None:
        return smooth_fields(1, height, width, seed)[0].float()
    y, x = torch.linspace(-1, 1, height)[:, None], torch.linspace(-1, 1, width)[None]
    return -(x.square() + y.square())


def mapped(classifier: Classifier, image: Tensor, name: str, place: int, settings: Settings) -> Tensor:
    """(height, width)."""
    size = (image.shape[2], image.shape[3])
    if name.startswith("blob"):
        return blob(size, 100 + place if "random" in name else None)
    if name in settings:
        setting = settings[name]
        found = explained(classifier, image, setting.method, setting.score)
        return cp.baselines.Blur(setting.smoothed)(found[None, None])[0, 0] if setting.smoothed else found
    cheap: dict[str, Method] = {
        "grad_cam": cp.methods.GradCAM(),
        "integrated_gradients": cp.methods.IntegratedGradients(rule=cp.quadrature.GaussLegendre(50)),
    }
    return explained(classifier, image, cheap[name], PROBABILITY)


@lru_cache(maxsize=1)  # what is smoothed afterwards is the map before
def explained(
    classifier: Classifier, image: Tensor, method: Method, named: str, target: int | None = None
) -> Tensor:
    """(height, width): the map that a method makes of a score, of the top class or another one."""
    layer = default_map_layer(classifier.module, image) if method.level == "layer" else None
    score = _SCORES[named](classifier, **({} if target is None else {"target": target}))
    found = cp.compare(score, image, baseline=BASELINE, layer=layer, fold=True).explain(method)
    return found.heatmap()[0].detach().float()


def measured(classifier: Classifier, image: Tensor, saliency: Tensor, name: str) -> dict[str, float]:
    """What the tables show of one map; excess at the activations that no price counts, and (`priced`) at the others."""
    score, maps = cp.probability(classifier), saliency[None]
    curves = cp.metrics.curves(score, image, {name: maps}, [BASELINE], steps=16)
    gone, back = (curves.curve(kind) for kind in ("deletion", "insertion"))
    capped = cp.metrics.capped_forward(
        score, image, maps, baseline=BASELINE, layers=1, kinds=("insertion",), floor=0
    )
    found = {
        "area": float((back.area - gone.area)[0]),
        "kept": float(capped.paths["insertion"].kept.mean()),
    }
    for prefix, baseline in (("", BASELINE), ("mean ", cp.baselines.Mean())):
        path = cp.metrics.activation_deviation(score, image, maps, baseline=baseline, kinds=("insertion",))
        for measure in ("excess", "seam_free_excess", "disinhibition"):
            own = path.paths["insertion"].of(measure)[0]
            floor = torch.stack([each.of(measure)[0] for each in path.floors["insertion"]]).mean(0)
            found[f"{prefix}{measure}"] = float(own[1::2].mean())
            found[f"{prefix}floor {measure}"] = float(floor[1::2].mean())
            found[f"{prefix}priced {measure}"] = float(own[::2].mean())
    return found


def absent(classifier: Classifier, image: Tensor, name: str, setting: Setting) -> dict[str, float]:
    """How far a map made for a class that is not there raises that class on its insertion path."""
    with torch.no_grad():
        p = classifier.module(image).softmax(1)[0]
    target = int(p.argsort(descending=True)[len(p) // 2])
    saliency = explained(classifier, image, setting.method, setting.score, target)
    curves = cp.metrics.curves(
        cp.probability(classifier, target=target),
        image,
        {name: saliency[None]},
        [BASELINE],
        steps=16,
        kinds=["insertion"],
    )
    return {"reached": float(curves.curve("insertion").scores.max()), "there": float(p[target])}


def pareto(found: Found, model: str) -> Figure:
    """Area against excess, with seams and without, of every map, on the photographs that all of them have; better is up and to the left."""
    maps = {name: each for name, each in found.items() if not name.startswith(_ABSENT)}
    shared = set.intersection(*map(set, maps.values()))
    if not shared:
        sys.exit("--figure: there is no photograph that all maps have")
    results = {name: {p: each[p] for p in shared} for name, each in maps.items()}
    figure = Figure(figsize=(14, 9), dpi=110, facecolor="white", layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for panel, measure in zip(panels, ("excess", "seam_free_excess"), strict=True):
        panel.margins(x=0.16)
        for name, each in results.items():
            color = "#8a8a8a" if name in BESIDE else "#2470b3" if unclipped(name) else "#d9690c"
            panel.plot(mean(each, measure), mean(each, "area"), "o", color=color, ms=6, label=name)
        panel.set_xlabel(f"{measure.replace('seam_free_', 'seam-free ')} activation on the insertion path")
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("insertion minus deletion area of the probability")
    figure.suptitle(
        f"{model}, {len(shared)} photographs; blue: FEI without clipping, orange: clipped or priced, grey: other maps",
        fontsize=10,
    )
    for panel in panels:
        name_points(panel)
    return figure


def name_points(panel: Axes) -> None:
    """Each point's name beside it, lowered until it covers no other name or point."""
    figure = panel.get_figure(root=True)
    figure.draw_without_rendering()
    at = [panel.transData.transform(line.get_xydata()[0]) for line in panel.get_lines()]
    taken = [Bbox.from_extents(x - 4, y - 4, x + 4, y + 4) for x, y in at]
    for point in sorted(panel.get_lines(), key=lambda line: -line.get_ydata()[0]):
        name, color = str(point.get_label()), point.get_color()
        place = (point.get_xdata()[0], point.get_ydata()[0])
        for lower in count():
            beside = {"xytext": (8, -3 - lower), "textcoords": "offset points"}
            text = panel.annotate(name, place, **beside, fontsize=8, color=color)
            box = text.get_window_extent().padded(1)
            if not any(box.overlaps(other) for other in taken):
                break
            text.remove()
        taken.append(box)
        if lower > 6:
            panel.annotate("", place, **beside, arrowprops={"arrowstyle": "-", "color": "#cccccc", "lw": 0.6})


def compute(given: argparse.Namespace, classifier: Classifier, results: Results) -> None:
    """Make and measure every map that is not in the results yet."""
    paths, images = confident(classifier, held_out(given.photographs))
    settings = settings_for(classifier, images[:1])
    if unknown := sorted(set(given.only or ()) - set(settings)):
        sys.exit(f"--only must be of {', '.join(settings)}; got {', '.join(unknown)}")
    names = [n for n in settings if n in given.only] if given.only else [*settings, *BESIDE]
    print(f"{given.model}: {len(paths)} photographs, {len(names)} maps each", flush=True)
    for k, path in enumerate(paths):
        image = images[k : k + 1]
        for name in names:
            how = settings[name].texts() if name in settings else []
            if not results.known(path.stem, name, how):
                saliency = mapped(classifier, image, name, k, settings)
                results.add(path.stem, name, how, measured(classifier, image, saliency, name))
            if (
                k < given.absent
                and followed(name)
                and not results.known(path.stem, gone := _ABSENT + name, how)
            ):
                results.add(path.stem, gone, how, absent(classifier, image, name, settings[name]))
        print(f"{k + 1} of {len(paths)}", flush=True)


def show(found: Found) -> None:
    """Print tables of what is there."""
    results = {name: each for name, each in found.items() if not name.startswith(_ABSENT)}
    if not results:
        return
    columns = ("area", "excess", "seam_free_excess", "disinhibition", "kept")
    rows = []
    for name, each in results.items():
        means = [f"{mean(each, c):.3f}" for c in columns]
        floor = f"{mean(each, 'floor seam_free_excess'):.3f}"
        rows.append([name, str(len(each)), *means[:3], floor, *means[3:]])
    headings = ["map", "photographs", "area", "excess", "seam-free", "seam-free, random masks"]
    table([*headings, "disinhibition", "kept, capped"], rows)
    free = {name: each for name, each in results.items() if unclipped(name)}
    clipped = {name: each for name, each in results.items() if name not in BESIDE and name not in free}
    rows = []
    for name, each in clipped.items():
        if alike := {other: those for other, those in free.items() if steps(other) == steps(name)}:
            rows.append(beside(name, each, alike))
    headings = ["clipped or priced", "photographs", "beside, of those without and as many steps"]
    table([*headings, "excess", "seam-free excess", "area", "kept, capped"], rows)
    table(
        ["class that is not there", "photographs", "p in the photograph", "p reached", "p reached, median"],
        [
            [
                name.removeprefix(_ABSENT),
                str(len(each)),
                f"{mean(each, 'there'):.4f}",
                f"{mean(each, 'reached'):.4f}",
                f"{statistics.median(one['reached'] for one in each.values()):.4f}",
            ]
            for name, each in found.items()
            if name.startswith(_ABSENT)
        ],
    )


def beside(name: str, mine: Numbers, free: Found) -> list[str]:
    """A row: shares, paired, of what the unclipped setting that matches has; absolute for what the capped score keeps."""
    best = matched(mine, free)
    both = [photo for photo in mine if photo in free[best]]
    cells = []
    for column in ("excess", "seam_free_excess", "area", "kept"):
        theirs = [free[best][photo][column] for photo in both]
        ours = [mine[photo][column] for photo in both]
        middle, low, high = paired([a - b for a, b in zip(ours, theirs, strict=True)])
        unit = sum(theirs) / len(both)
        cells.append(
            f"{middle:+.3f} ({low:+.3f} to {high:+.3f})"
            if column == "kept"
            else f"{middle / unit:+.0%} ({low / unit:+.0%} to {high / unit:+.0%})"
        )
    return [name, str(len(both)), best, *cells]


def steps(name: str) -> str:
    """Which other number of steps than the default's the setting has, if any."""
    return next((word for word in ("quick", "long") if f", {word}," in name), "")


def matched(mine: Numbers, free: Found) -> str:
    """On the photographs of these numbers: the unclipped setting with the least excess among those of at least this mean area; if there
    is none, the one with the largest area."""
    measured = {name: {p: each[p] for p in mine if p in each} for name, each in free.items()}
    whole = {name: each for name, each in measured.items() if len(each) == len(mine)} or measured
    enough = [name for name, each in whole.items() if mean(each, "area") >= mean(mine, "area")]
    if not enough:
        return max(whole, key=lambda name: mean(whole[name], "area"))
    return min(enough, key=lambda name: mean(whole[name], "seam_free_excess"))


def mean(numbers: Numbers, column: str) -> float:
    """Over photographs."""
    return statistics.fmean(each[column] for each in numbers.values())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="efficientnet_lite0")
    parser.add_argument(
        "--results", type=Path, help="JSON; by default benchmarks/results/pathway-MODEL.json, where ours are"
    )
    parser.add_argument("--photographs", type=int, default=8)
    parser.add_argument("--only", nargs="*", help="only these settings")
    parser.add_argument("--absent", type=int, default=8, help="photographs for the class that is not there")
    parser.add_argument("--figure", type=Path, help="where the picture goes")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tables", action="store_true", help="tables of what is there, and stop")
    given = parser.parse_args()
    results = Results(given.results or results_file("pathway", given.model))
    if not given.tables:
        torch.set_num_threads(given.threads)
        compute(given, cp.load_model(given.model), results)
    show(results.by_name())
    if given.figure:
        pareto(results.by_name(), given.model).savefig(given.figure)


if __name__ == "__main__":
    main()
