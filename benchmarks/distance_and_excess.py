"""Do baselines that lead far out of distribution show more excess activation?

    python benchmarks/distance_and_excess.py [--model NAME] [--photographs N] [--figure FILE]
    python benchmarks/distance_and_excess.py --tables [--model NAME] [--figure FILE]

On the insertion path of one map, Grad-CAM's, under fifteen baselines: how far the images on it are from real ones, by the features of the
penultimate layer (nearest of the other held-out photographs, in units of their spread), and how much more active than in the original
the network is, mean over activations and fractions. Then the rank correlation of the two over baselines, for each photograph by itself, so
that differences between photographs do not count. Photographs are held out as in benchmarks/fei.py, and results kept in the same way.
"""

import argparse
import math
import os
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from matplotlib.figure import Figure
from scipy.stats import spearmanr

import counterpoint as cp
from counterpoint import spec
from counterpoint.baselines.learned import paper_b
from counterpoint.metrics import Bank
from counterpoint.places import default_map_layer
from counterpoint.protocols import Baseline
from kept import Results, confident, held_out, paired, results_file, table

STEPS = 6
DISTANCE, MEASURES = "distance", ("excess", "seams", "seam_free_excess")
Found = dict[str, dict[str, dict[str, float]]]
"""Baseline -> photograph -> measure -> number."""


def baselines() -> dict[str, Baseline]:
    """Paper B's eleven and ROAD, and three more."""
    more = {"blur": cp.baselines.Blur(sigma=10), "black": cp.baselines.Black(), "white": cp.baselines.White()}
    return {**dict(paper_b()), **more}


def compute(given: argparse.Namespace, classifier: cp.Classifier, results: Results) -> None:
    """Measure what is not in the results yet."""
    paths, images = confident(classifier, held_out(40))
    names = [path.stem for path in paths]
    bank = Bank.of(classifier, images, groups=names, crops=0)
    score, layer = cp.probability(classifier), default_map_layer(classifier.module, images[:1])
    for k, name in enumerate(names[: given.photographs]):
        image = images[k : k + 1]
        saliency = (
            cp.compare(score, image, baseline=cp.baselines.Black(), layer=layer)
            .explain(cp.methods.GradCAM())
            .heatmap()
            .detach()
        )
        for label, baseline in baselines().items():
            how = [f"{STEPS} steps", spec.unusual("baseline", spec.describe(baseline)).text]
            if results.known(name, label, how):
                continue
            path = cp.metrics.activation_deviation(
                score, image, saliency, baseline=baseline, kinds=("insertion",), floor=0
            )
            far = cp.metrics.out_of_distribution(
                cp.logit(classifier),
                image,
                saliency,
                baseline=baseline,
                bank=bank,
                groups=[name],
                steps=STEPS,
                kind="insertion",
            )
            found = {measure: float(path.mean(measure, "insertion")[0]) for measure in MEASURES}
            results.add(name, label, how, {DISTANCE: float(far.excess[0]), **found})
        print(f"{k + 1} of {min(given.photographs, len(names))}", flush=True)


def agreement(found: Found, measure: str) -> list[float]:
    """Of each photograph: the rank correlation over baselines of their distance and this measure."""
    photographs = set.intersection(*map(set, found.values()))
    correlations = []
    for photograph in sorted(photographs):
        pairs = [(each[photograph][DISTANCE], each[photograph][measure]) for each in found.values()]
        far, active = zip(*(pair for pair in pairs if not math.isnan(pair[1])), strict=True)
        correlations.append(float(spearmanr(far, active).statistic))
    return correlations


def mean(found: Found, label: str, measure: str) -> float:
    """Over photographs."""
    values = [each[measure] for each in found[label].values()]
    return sum(values) / len(values)


def show(found: Found) -> None:
    """Print tables of what is there."""
    rows = [
        [label, str(len(found[label])), *(f"{mean(found, label, m):.2f}" for m in (DISTANCE, *MEASURES))]
        for label in sorted(found, key=lambda label: mean(found, label, DISTANCE))
    ]
    table(["baseline", "photographs", DISTANCE, *(m.replace("_", " ") for m in MEASURES)], rows)
    rows = []
    for measure in MEASURES:
        middle, low, high = paired(agreement(found, measure))
        rows.append([measure.replace("_", " "), f"{middle:+.2f} ({low:+.2f} to {high:+.2f})"])
    table(["of distance and", "rank correlation over baselines, mean over photographs (95 %)"], rows)


def drawn(found: Found, model: str) -> Figure:
    """A dot for each baseline, mean over photographs."""
    figure = Figure(figsize=(13, 5), dpi=120, facecolor="white", layout="constrained")
    for panel, measure in zip(figure.subplots(1, len(MEASURES)), MEASURES, strict=True):
        for label in found:
            x, y = mean(found, label, DISTANCE), mean(found, label, measure)
            if not math.isnan(y):
                panel.plot(x, y, "o", color="#2470b3", ms=5)
                panel.annotate(
                    label.replace("_", " "), (x, y), xytext=(4, 3), textcoords="offset points", fontsize=7
                )
        panel.margins(0.2, 0.08)  # room for the names
        panel.set_xlabel("distance from real images")
        panel.set_ylabel(f"{measure.replace('_', ' ')}, share of the original's activity")
        panel.spines[["top", "right"]].set_visible(False)
    count = min(map(len, found.values()))
    figure.suptitle(f"{model}, {count} photographs, insertion path of Grad-CAM", fontsize=10)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="efficientnet_lite0")
    parser.add_argument(
        "--results", type=Path, help="JSON; by default benchmarks/results/distance-MODEL.json, where ours are"
    )
    parser.add_argument("--photographs", type=int, default=16)
    parser.add_argument("--figure", type=Path, help="where the picture goes")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tables", action="store_true", help="tables of what is there, and stop")
    given = parser.parse_args()
    results = Results(given.results or results_file("distance", given.model))
    if not given.tables:
        torch.set_num_threads(given.threads)
        compute(given, cp.load_model(given.model), results)
    found = results.by_name()
    if found:
        show(found)
        if given.figure:
            drawn(found, given.model).savefig(given.figure)


if __name__ == "__main__":
    main()
