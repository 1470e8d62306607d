"""FEI beside other methods, by curves that it was not optimised for: fill-ins, fractions and shapes of removal that it has not seen.

    python benchmarks/fei.py --learned FILE [--model NAME] [--photographs N] [--costly N] [--seeds N] [--plan]
    python benchmarks/fei.py --tables [--model NAME]

Maps are made of the probability of the top class, against a blur of 10 pixels. Optimisers are given blur and mid-grey alike: FEI draws
between them; extremal perturbation and iGOS++ run under one and under the other with half of the gradients, and their two maps, each
the best measured on the way from Grad-CAM on, are added. Costly methods run on the first photographs only.

Scored: insertion area minus deletion area of the probability, under blur and grey (given) and under the mean colour, ROAD, a learned
baseline and its variant for metrics (not given), at other fractions than the ones measured on the way; and the same with whole blocks of
16 pixels removed at a time.
Photographs are those that the learned baseline was not learned from, without those whose top class has p < 0.1. What was measured is kept
in benchmarks/results, by photograph and map: a run goes on from there, does anew what is made in another way today, and --tables prints
tables of what is there.
"""

import argparse
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

import counterpoint as cp
from counterpoint import spec
from counterpoint.arguments import as_baselines
from counterpoint.classifier import Classifier
from counterpoint.places import default_map_layer
from counterpoint.protocols import Baseline, Method
from counterpoint.spec import content_hash
from kept import JUDGE, Pictures, Results, confident, held_out, paired, results_file, table

GIVEN = ("blur:sigma=10", "zero")
BLOCK, STEPS, BLOCK_STEPS = 16, 8, 7
QUICK, FULL, START = "fei quick", "fei", "its start"
FOR_METRICS = "learned for metrics"
UNSEEN = ("mean", "road", "learned", FOR_METRICS)
IN_BLOCKS = ("mean", "learned", FOR_METRICS)
SEEDED = 3


Parts = list[tuple[Method, str | None]]
"""The maps that are added up, and the fill-in of each; None for the blur."""


def methods(costly: bool, full: bool, seeds: int) -> dict[str, Parts]:
    """Name -> what it is made of."""
    m = cp.methods
    quick = m.FEI.quick()
    fei = {f"{QUICK}, seed {k}": [(_with(quick, seed=k), None)] for k in range(1, seeds)}
    found: dict[str, Parts] = {
        "grad_cam": [(m.GradCAM(), None)],
        "layer_cam": [(m.LayerCAM(), None)],
        "integrated_gradients": [(m.IntegratedGradients(rule=cp.quadrature.GaussLegendre(50)), None)],
        "smooth_grad": [(m.SmoothGrad(samples=25), None)],
        "occlusion": [(m.Occlusion(), None)],
        QUICK: [(_with(quick), None)],
        **fei,
    }
    if full:
        found[FULL] = [(_with(m.FEI()), None)]
    if costly:
        start = {"start": m.GradCAM(), "keep_best": 4}
        found["rise"] = [(m.RISE(masks=4000), None)]
        found["extremal_perturbation"] = [
            (m.ExtremalPerturbation(steps=100, **start), fill) for fill in GIVEN
        ]
        found["igos_pp"] = [(m.IGOSPP(points=10, steps=10, **start), fill) for fill in GIVEN]
    return found


def _with(method: cp.methods.FEI, **changes: int) -> cp.methods.FEI:
    """The same, under both fill-ins."""
    return replace(method, also=GIVEN[1:], **changes)


@dataclass(frozen=True)
class Made:
    """A map and what it cost."""

    saliency: Tensor
    """(height, width)."""
    start: Tensor | None
    """What the search began with, if there was one."""
    cost: tuple[int, int]
    """Gradients and forwards."""
    seconds: float


def mapped(classifier: Classifier, image: Tensor, parts: Parts) -> Made:
    """The sum of the parts' maps, each scaled to a largest value of 1."""
    started = time.perf_counter()
    total, gradients, forwards, start = torch.zeros(image.shape[2:]), 0, 0, None
    for method, fill in parts:
        layer = default_map_layer(classifier.module, image) if method.level == "layer" else None
        (baseline,) = as_baselines([fill or GIVEN[0]])
        comparison = cp.compare(cp.probability(classifier), image, baseline=baseline, layer=layer, fold=True)
        attribution = comparison.explain(method)
        saliency = attribution.heatmap()[0].detach().float()
        total += saliency / saliency.abs().max().clamp_min(1e-12)
        gradients += int(attribution.gradient_evaluations[0])
        forwards += int(attribution.forward_evaluations[0])
        start = attribution.extras.get("start_map", start)
    return Made(
        total,
        None if start is None else start[0].float(),
        (gradients, forwards),
        time.perf_counter() - started,
    )


def scored(
    classifier: Classifier, image: Tensor, saliency: Tensor, fills: dict[str, Baseline]
) -> dict[str, dict[str, float]]:
    """Pixels or blocks -> fill-in -> insertion minus deletion area of the probability."""
    whole = saliency[None, None]
    blocks = interpolate(avg_pool2d(whole, BLOCK), scale_factor=BLOCK, mode="nearest")
    found: dict[str, dict[str, float]] = {}
    for shape, shown, steps, some in (
        ("pixels", whole, STEPS, fills),
        ("blocks", blocks, BLOCK_STEPS, {name: fills[name] for name in IN_BLOCKS}),
    ):
        curves = cp.metrics.curves(
            cp.probability(classifier), image, {"map": shown[0]}, list(some.values()), steps=steps
        )
        found[shape] = {}
        for name, baseline in zip(some, curves.baselines, strict=True):
            gone, back = (curves.curve(kind, baseline=baseline) for kind in ("deletion", "insertion"))
            found[shape][name] = float((back.area - gone.area)[0])
    return found


def compute(given: argparse.Namespace, classifier: Classifier, results: Results) -> None:
    """Make and score every map that is not in the results yet."""
    learned = cp.baselines.Learned(given.learned)
    texts = (*GIVEN, "mean", "road", f"learned:file={given.learned}")
    fills = {text.split(":")[0]: baseline for text, baseline in zip(texts, as_baselines(texts), strict=True)}
    paths, images = confident(classifier, held_out(given.photographs))
    plan = [
        methods(k < given.costly, k < given.full, given.seeds if k < SEEDED else 1) for k in range(len(paths))
    ]
    missing = [
        {
            name: parts
            for name, parts in named.items()
            if not results.known(path.stem, name, described(parts, learned))
        }
        for path, named in zip(paths, plan, strict=True)
    ]
    print(
        f"{given.model}: {len(paths)} photographs, {sum(map(len, plan))} maps, {sum(map(len, missing))} of them to do"
    )
    if given.plan:
        return
    for k, named in enumerate(missing):
        image, photograph = images[k : k + 1], paths[k].stem
        if named:
            fills[FOR_METRICS] = fitted(classifier, image, given.learned)
        for name, parts in named.items():
            made = mapped(classifier, image, parts)
            maps = {name: made.saliency, **({START: made.start} if name == QUICK else {})}
            for shown, saliency in maps.items():
                cost = made.cost if shown == name else None
                areas = scored(classifier, image, saliency, fills)
                results.add(photograph, shown, described(parts, learned), {"cost": cost, **areas})
            print(f"{k + 1} of {len(paths)}, {name}: {made.seconds:.0f} s", flush=True)


def fitted(classifier: Classifier, image: Tensor, file: str) -> Pictures:
    """The variant for single images, as it is for metrics, sought once for all maps of the photograph."""
    judge = cp.baselines.LearnedPerImage(file, **JUDGE)
    picture = judge.prepare(cp.logit(classifier).bind(image), image)(image)
    return Pictures(content_hash(picture), image, picture)


def described(parts: Parts, learned: cp.baselines.Learned) -> list[str]:
    """How a map is made, and the learned baselines that it is scored with."""
    made = [spec.unusual("method", spec.describe(method)).text for method, _ in parts]
    return [*made, f"learned {learned.sha256[:16]}", f"{FOR_METRICS} {JUDGE}"]


def show(results: Results) -> None:
    """Print tables of what is there."""
    found = results.by_name()
    if not found:
        return
    fills = ("blur", "zero", *UNSEEN)
    columns = [*(("pixels", fill) for fill in fills), *(("blocks", fill) for fill in IN_BLOCKS)]
    labels = [f"{fill}{', blocks' if shape == 'blocks' else ''}" for shape, fill in columns]
    rows = []
    for name, each in found.items():
        costs = [one["cost"] for one in each.values() if one["cost"]]
        cost = [f"{sum(one[i] for one in costs) / len(costs):,.0f}" if costs else "" for i in (0, 1)]
        means = [paired([one[shape][fill] for one in each.values()])[0] for shape, fill in columns]
        rows.append([name, str(len(each)), *cost, *(f"{mean:.2f}" for mean in means)])
    table(["method", "photographs", "gradients", "forwards", *labels], rows)
    for ours in (QUICK, FULL):
        if ours not in found:
            continue
        rows = []
        for name, each in found.items():
            if name.startswith(ours):
                continue
            both = [photo for photo in each if photo in found[ours]]
            cells = []
            for shape, fill in columns:
                mean, low, high = paired([found[ours][p][shape][fill] - each[p][shape][fill] for p in both])
                bold = "**" if low > 0 and len(both) > 2 else ""
                cells.append(f"{bold}{mean:+.2f} ({low:+.2f} to {high:+.2f}){bold}")
            rows.append([name, str(len(both)), *cells])
        table([f"{ours} minus", "photographs", *labels], rows)
    if FULL in found:
        both = [photo for photo in found[FULL] if photo in found[QUICK]]
        shares = []
        for fill in fills:
            quick, full = (
                sum(found[name][p]["pixels"][fill] - found[START][p]["pixels"][fill] for p in both)
                for name in (QUICK, FULL)
            )
            shares.append(f"{quick / full:.0%}")
        table(
            ["share of the gain over the start", "photographs", *fills],
            [[f"{QUICK} of {FULL}", str(len(both)), *shares]],
        )
    seeds = [name for name in found if name.startswith(QUICK)]
    if len(seeds) > 1:
        shared = [p for p in found[seeds[-1]] if all(p in found[s] for s in seeds)]
        spreads = [
            torch.tensor([[found[s][p][shape][fill] for s in seeds] for p in shared]).std(1).nanmean()
            for shape, fill in columns
        ]
        table(
            ["standard deviation over seeds", "photographs", *labels],
            [[f"{len(seeds)} of {QUICK}", str(len(shared)), *(f"{float(s):.3f}" for s in spreads)]],
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="efficientnet_lite0")
    parser.add_argument(
        "--learned", metavar="FILE", help="made by `counterpoint baseline learn` for the model"
    )
    parser.add_argument(
        "--results", type=Path, help="JSON; by default benchmarks/results/fei-MODEL.json, where ours are"
    )
    parser.add_argument("--photographs", type=int, default=40)
    parser.add_argument(
        "--costly", type=int, default=12, help="photographs for RISE, extremal perturbation and iGOS++"
    )
    parser.add_argument(
        "--full", type=int, default=40, help="photographs for FEI's default setting, beside quick"
    )
    parser.add_argument("--seeds", type=int, default=5, help=f"of quick, on the first {SEEDED} photographs")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--plan", action="store_true", help="say what there is to do, and stop")
    parser.add_argument("--tables", action="store_true", help="tables of what is there, and stop")
    given = parser.parse_args()
    results = Results(given.results or results_file("fei", given.model))
    if not given.tables:
        if not given.learned:
            parser.error("--learned is needed to compute; --tables alone does without")
        torch.set_num_threads(given.threads)
        compute(given, cp.load_model(given.model), results)
    if not given.plan:
        show(results)


if __name__ == "__main__":
    main()
