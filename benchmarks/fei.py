"""FEI beside other methods, by curves that it was not optimised for: fill-ins, fractions and shapes of removal that it has not seen.

    python benchmarks/fei.py --out DIR --learned FILE [--model NAME] [--photographs N] [--costly N] [--seeds N] [--plan]

Maps are made of the probability of the top class, against a blur of 10 pixels. Optimisers are given blur and mid-grey alike: FEI draws
between them; extremal perturbation and iGOS++ run under one and under the other with half of the gradients, and their two maps, each
the best measured on the way from Grad-CAM on, are added. Costly methods run on the first photographs only.

Scored: insertion area minus deletion area of the probability, under blur and grey (given) and under the mean colour, ROAD and a learned
baseline (not given), at other fractions than the ones measured on the way; and the same with whole blocks of 16 pixels removed at a time.
Photographs are those that the learned baseline was not learned from, without those whose top class has p < 0.1. What is done is kept in
DIR: a stopped run goes on, and tables of what is there can be printed at any time with --tables.
"""

import argparse
import os
import time
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

import counterpoint as cp
from counterpoint.arguments import as_baselines
from counterpoint.classifier import Classifier
from counterpoint.places import default_map_layer
from counterpoint.protocols import Baseline, Method
from kept import confident, held_out, paired, record, table, tensors

GIVEN = ("blur:sigma=10", "zero")
BLOCK, STEPS, BLOCK_STEPS = 16, 8, 7
QUICK, FULL, START = "fei quick", "fei", "its start"
IN_BLOCKS = ("mean", "learned")
SEEDED = 3


def methods(costly: bool, full: bool, seeds: int) -> dict[str, list[tuple[Method, str | None]]]:
    """Name -> the maps that are added up, and the fill-in of each; None for the blur."""
    m = cp.methods
    quick = m.FEI.quick()
    fei = {f"{QUICK}, seed {k}": [(_with(quick, seed=k), None)] for k in range(1, seeds)}
    found: dict[str, list[tuple[Method, str | None]]] = {
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


def made(classifier: Classifier, image: Tensor, parts: list[tuple[Method, str | None]]) -> dict[str, Tensor]:
    """The map, (height, width), what it cost, and the start if there was one."""
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
    cost = torch.tensor([gradients, forwards, time.perf_counter() - started])
    return {"map": total, "cost": cost, **({} if start is None else {"start": start[0].float()})}


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


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--learned", required=True, metavar="FILE", help="made by `counterpoint baseline learn` for the model"
    )
    parser.add_argument("--model", default="efficientnet_lite0")
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
    torch.set_num_threads(given.threads)
    classifier = cp.load_model(given.model)
    paths, images = confident(classifier, held_out(given.photographs))
    texts = (*GIVEN, "mean", "road", f"learned:file={given.learned}")
    fills = {text.split(":")[0]: baseline for text, baseline in zip(texts, as_baselines(texts), strict=True)}
    results: dict[str, dict[str, dict[str, dict[str, float]]]] = {}  # map -> photograph -> scores
    costs: dict[str, list[list[float]]] = {}
    columns = [("pixels", fill) for fill in ("blur", "zero", "mean", "road", "learned")]
    columns += [("blocks", "mean"), ("blocks", "learned")]
    labels = [f"{fill}{', blocks' if shape == 'blocks' else ''}" for shape, fill in columns]
    plan = [
        methods(k < given.costly, k < given.full, given.seeds if k < SEEDED else 1) for k in range(len(paths))
    ]
    print(f"{given.model}: {len(paths)} photographs, {sum(map(len, plan))} maps", flush=True)
    if given.plan:
        return
    for k, path in enumerate(paths):
        image, base = images[k : k + 1], given.out / given.model / path.stem
        for name, parts in plan[k].items():
            file = base / f"{name.replace(' ', '_')}.safetensors"
            if given.tables and not file.exists():
                continue
            kept = tensors(file, lambda image=image, parts=parts: made(classifier, image, parts))
            costs.setdefault(name, []).append(kept["cost"].tolist())
            if not given.tables:
                print(f"{k + 1} of {len(paths)}, {name}: {kept['cost'][2]:.0f} s", flush=True)
            maps = {name: kept["map"], **({START: kept["start"]} if name == QUICK else {})}
            for shown, saliency in maps.items():
                score = base / f"{shown.replace(' ', '_')}.json"
                if score.exists() or not given.tables:
                    results.setdefault(shown, {})[path.stem] = record(
                        score,
                        lambda image=image, saliency=saliency: scored(classifier, image, saliency, fills),
                    )
    rows = []
    for name, found in results.items():
        cost = [
            f"{sum(each[i] for each in costs[name]) / len(costs[name]):,.0f}" if name in costs else ""
            for i in (0, 1)
        ]
        means = [paired([one[shape][fill] for one in found.values()])[0] for shape, fill in columns]
        rows.append([name, str(len(found)), *cost, *(f"{mean:.3f}" for mean in means)])
    table(["method", "photographs", "gradients", "forwards", *labels], rows)
    for ours in (QUICK, FULL):
        rows = []
        for name, found in results.items():
            if name.startswith(ours) or ours not in results:
                continue
            both = [photo for photo in found if photo in results[ours]]
            cells = []
            for shape, fill in columns:
                mean, low, high = paired(
                    [results[ours][p][shape][fill] - found[p][shape][fill] for p in both]
                )
                cells.append(
                    f"{'**' if low > 0 else ''}{mean:+.3f} ({low:+.3f} to {high:+.3f}){'**' if low > 0 else ''}"
                )
            rows.append([name, str(len(both)), *cells])
        table([f"{ours} minus", "photographs", *labels], rows)
    if FULL in results:
        both = [photo for photo in results[FULL] if photo in results[QUICK]]
        gains = [
            [
                sum(results[name][p]["pixels"][fill] - results[START][p]["pixels"][fill] for p in both)
                for name in (QUICK, FULL)
            ]
            for fill in fills
        ]
        shares = [f"{quick / full:.0%}" for quick, full in gains]
        table(
            ["share of the gain over the start", "photographs", *fills],
            [[f"{QUICK} of {FULL}", str(len(both)), *shares]],
        )
    seeds = [name for name in results if name.startswith(QUICK)]
    if len(seeds) > 1:
        shared = [p for p in results[seeds[-1]] if all(p in results[s] for s in seeds)]
        spreads = [
            torch.tensor([[results[s][p][shape][fill] for s in seeds] for p in shared]).std(1).nanmean()
            for shape, fill in columns
        ]
        table(
            ["standard deviation over seeds", "photographs", *labels],
            [[f"{len(seeds)} of {QUICK}", str(len(shared)), *(f"{float(s):.3f}" for s in spreads)]],
        )


if __name__ == "__main__":
    main()
