"""Integrated gradients to a tolerance, held against a converged reference and against fixed rules.

Twenty photographs that nothing was tuned on, against black, their mean colour and a blurred copy, with EfficientNet-Lite0. For each of the
sixty cases: gradients taken, the three errors, the true distance of the map from the reference (relative L1), and the same for
Gauss-Legendre with 50 and 200 nodes (captum's rule: tests/golden shows that the numbers are the same) and for uniform rules with as many
nodes as were taken.

The reference is refined to an estimated error of 2 % from first cuts at other places, so that it shares no point with what it
judges but the two ends. It is made with the folded float32 copy of the network, and for some cases (`--exact`) in float64 with the
network itself as well: the table gives the distance of the two, and the map error against either.

    COUNTERPOINT_PHOTOS=... python benchmarks/integrated_gradients.py [--out FOLDER] [--only N] [--exact N]

Each case is kept as a line in FOLDER/cases.jsonl; run again, and only what is missing runs.
"""

import argparse
import json
import statistics
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

import counterpoint as cp
import photographs
from counterpoint.folding import fold
from counterpoint.quadrature import GaussLegendre, Midpoint, Rule, Trapezoid
from counterpoint.refinement import Refinement, Wanted

BASELINES = {"black": cp.baselines.Black(), "mean": cp.baselines.Mean(), "blur": cp.baselines.Blur(sigma=10)}
REFERENCE = Wanted(value_error=0.02, path_error=0.05, relative_error=0.005, first=12, budget=600, kept=600)


def reference(module: nn.Module, image: Tensor, baseline: cp.baselines.Baseline, target: int) -> Refinement:
    """The converged map, in float64, x' + t (x - x') from first cuts at elevenths."""
    comparison = cp.compare(cp.logit(module, target), image, baseline=baseline)
    velocity = comparison.end - comparison.start
    refinement = Refinement(REFERENCE, velocity=velocity[0].double())
    while not refinement.finished:
        places = torch.tensor(refinement.places, dtype=torch.float64).view(-1, 1, 1, 1).to(image)
        image_of = torch.zeros(len(places), dtype=torch.int64)
        scores, gradients = comparison.scores_and_gradients(comparison.start + places * velocity, image_of)
        refinement.add(scores.tolist(), gradients.double())
    return refinement


def distance(values: Tensor, truth: Refinement) -> float:
    """Relative L1 distance of a map from the reference."""
    return float((values.double() - truth.values).abs().sum() / truth.values.abs().sum())


def case(classifier: cp.Classifier, path: Path, baseline_name: str, *, exact: bool) -> dict[str, object]:
    """Everything measured for one photograph and baseline."""
    image, baseline = classifier.preprocess([path]), BASELINES[baseline_name]
    comparison = cp.compare(cp.logit(classifier), image, baseline=baseline)
    ours = comparison.explain(cp.methods.IntegratedGradients())
    target = comparison.bound.classes.item()
    # The reference and the fixed rules run on the folded copy, which is faster; folding moves a gradient by about 0.1 %.
    folded = fold(classifier.module, image).module
    truth = reference(folded, image, baseline, target)
    gradients = int(ours.gradient_evaluations)
    row: dict[str, object] = {
        "photograph": path.stem,
        "baseline": baseline_name,
        "gradients": gradients,
        "converged": bool(ours.converged),
        "relative_error": float(ours.relative_error),
        "path_error": float(ours.path_error),
        "value_error": float(ours.value_error),
        "map_error": distance(ours.values[0], truth),
        "reference_gradients": truth.gradients,
        "reference_error": truth.value_error,
    }
    if exact:
        classifier.module.double()
        exact_truth = reference(classifier.module, image.double(), baseline, target)
        classifier.module.float()
        row["exact_map_error"] = distance(ours.values[0], exact_truth)
        row["reference_distance"] = distance(truth.values, exact_truth)
    rules: dict[str, Rule] = {
        "captum_50": GaussLegendre(50),
        "captum_200": GaussLegendre(200),
        "midpoint": Midpoint(gradients),
        "trapezoid": Trapezoid(gradients),
        "gauss_legendre": GaussLegendre(gradients),
    }
    on_copy = cp.compare(cp.logit(folded, target), image, baseline=baseline)
    for name, rule in rules.items():
        fixed = on_copy.explain(cp.methods.IntegratedGradients(rule=rule))
        row[f"{name}_map_error"] = distance(fixed.values[0], truth)
        row[f"{name}_relative_error"] = float(fixed.relative_error)
    return row


def spread(numbers: list[float], text: Callable[[float], str]) -> str:
    """Median, 90 % and worst."""
    ordered = sorted(numbers)
    ninety = ordered[min(len(ordered) - 1, int(0.9 * len(ordered)))]
    return f"{text(statistics.median(ordered))} | {text(ninety)} | {text(ordered[-1])}"


def table(rows: list[dict]) -> str:
    """The results as a table in Markdown."""

    def percent(share: float) -> str:
        return f"{100 * share:.1f} %"

    lines = [
        f"{len(rows)} cases; {sum(r['converged'] for r in rows)} converged; "
        f"reference: {statistics.median(r['reference_gradients'] for r in rows):.0f} gradients, "
        f"estimated error at most {percent(max(r['reference_error'] for r in rows))}.",
        *float64_lines(rows),
        "",
        "| | median | 90 % | worst |",
        "|---|---|---|---|",
        f"| gradients | {spread([r['gradients'] for r in rows], lambda n: f'{n:.0f}')} |",
    ]
    for name in ("relative_error", "path_error", "value_error", "map_error"):
        lines.append(f"| {name.replace('_', ' ')} | {spread([r[name] for r in rows], percent)} |")
    for rule in ("captum_50", "captum_200"):
        for name in ("relative_error", "map_error"):
            label = f"captum, {rule[7:]} steps: {name.replace('_', ' ')}"
            lines.append(f"| {label} | {spread([r[f'{rule}_{name}'] for r in rows], percent)} |")
    ratios = [r["value_error"] / r["map_error"] for r in rows]
    lines += ["", f"Estimate over truth of the map error: {min(ratios):.2f} to {max(ratios):.2f}.", ""]
    lines += [
        "| map error over that of as many nodes of | mean | worst | cases above 1 |",
        "|---|---|---|---|",
    ]
    for rule in ("midpoint", "trapezoid", "gauss_legendre"):
        over = [r["map_error"] / r[f"{rule}_map_error"] for r in rows]
        above = sum(o > 1 for o in over)
        lines.append(
            f"| {rule.replace('_', ' ')} | {statistics.mean(over):.2f} | {max(over):.2f} | {above} of {len(over)} |"
        )
    return "\n".join(lines)


def float64_lines(rows: list[dict]) -> list[str]:
    """What the float64 references say, where there are any."""
    exact = [r for r in rows if "exact_map_error" in r]
    if not exact:
        return []
    return [
        f"In {len(exact)} of them also a float64 reference: "
        f"{100 * max(r['reference_distance'] for r in exact):.1f} % from the other at most; "
        f"map error against it at most {100 * max(r['exact_map_error'] for r in exact):.1f} %, median "
        f"{100 * statistics.median(r['exact_map_error'] for r in exact):.1f} %.",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("benchmark-out/integrated_gradients"))
    parser.add_argument("--only", type=int, default=60, help="stop after this many cases")
    parser.add_argument(
        "--exact", type=int, default=8, help="how many of the cases get a float64 reference as well"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    arguments.out.mkdir(parents=True, exist_ok=True)
    kept = arguments.out / "cases.jsonl"
    rows = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    known = {(r["photograph"], r["baseline"]) for r in rows}
    classifier = cp.load_model("efficientnet_lite0")
    names = list(BASELINES)
    # Every photograph first with one baseline, so that a run that is cut short has seen them all.
    plan = [(p, names[(i + turn) % 3]) for turn in range(3) for i, p in enumerate(photographs.KEPT_APART)]
    for number, (photograph, baseline) in enumerate(plan[: arguments.only]):
        if (photograph, baseline) in known:
            continue
        path = photographs.folder() / f"{photograph}.jpg"
        row = case(classifier, path, baseline, exact=number % 8 == 0 and number < 8 * arguments.exact)
        with kept.open("a") as file:
            file.write(json.dumps(row) + "\n")
        rows.append(row)
        print(
            f"{photograph} {baseline}: {row['gradients']} gradients, map error {row['map_error']:.3f}",
            flush=True,
        )
    print(table(rows))


if __name__ == "__main__":
    main()
