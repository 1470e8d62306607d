"""Learned baselines held against their rivals, on photographs that they were not learned from, by judges that took no part.

    python benchmarks/learned.py --out DIR [--model NAME] [--witness NAME ...] [--reported N] [--orders NAME ...]

Of the photographs in COUNTERPOINT_PHOTOS 40 are kept for the report, as `counterpoint baseline learn` does, with a bank of their own; from
the others two baselines are learned, by the default recipe and by the published one with about as many gradients. The report's photographs
lose pixels in three orders: Grad-CAM, which the default recipe was learned with, integrated gradients and random; a Gaussian, the energy
score and directions of features say by other rules what is in distribution (judges.py), and witnesses measure distances in their own
features. Rivals: paper B's eleven (zero is mid-grey, the trivial rival where it silences the network), road and the published recipe. The
variant for single images stands beside, as it is by default and as it is for metrics. Then: does the image for one photograph give that
photograph away, and what is left of gradient times activation at the penultimate layer. What is done is kept in DIR: a stopped run goes on.
"""

import argparse
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from torch import Tensor

import counterpoint as cp
from counterpoint.audit import REMOVALS, BaselineAudit, as_seen_by, audit_baselines
from counterpoint.baselines.learned import Learned, paper_b
from counterpoint.baselines.learned_per_image import LearnedPerImage
from counterpoint.baselines.learning import PublishedRecipe, TradeOffRecipe
from counterpoint.baselines.learning.network import Network
from counterpoint.classifier import Classifier
from counterpoint.data.photographs import find_photographs, output_names
from counterpoint.learning import grad_cams, split
from counterpoint.methods import GradCAM, IntegratedGradients, RandomMap
from counterpoint.protocols import Baseline
from counterpoint.quadrature import GaussLegendre
from counterpoint.report.audit_figures import trade_off_figure
from counterpoint.spec import content_hash
from judges import as_judged
from kept import JUDGE, Pictures, table, tensors
from photographs import folder

KEPT, STEPS, CROPS, SEED = 40, 8, 2, 0
ONE, EACH, METRICS, PUBLISHED = "learned", "learned_per_image", "learned_per_image, for metrics", "published"
OURS = (ONE, EACH, METRICS)
ORDERS = {
    "grad_cam": (GradCAM(), cp.baselines.Black()),
    "integrated_gradients": (IntegratedGradients(rule=GaussLegendre(8)), cp.baselines.Black()),
    "random_map": (RandomMap(), cp.baselines.Black()),
}


def learned(
    classifier: Classifier, images: Tensor, recipe: PublishedRecipe | TradeOffRecipe, file: Path
) -> Learned:
    """Learned now, or before."""
    if not file.exists():
        started = time.perf_counter()
        saliency = grad_cams(classifier, images) if isinstance(recipe, TradeOffRecipe) else None
        found = Learned.fit(classifier, images=images, recipe=recipe, saliency=saliency, seed=SEED)
        found.with_facts(seconds=round(time.perf_counter() - started)).save(file)
    baseline = Learned.load(file)
    print(
        f"{file.stem}: {baseline.facts['gradients']} gradients, {baseline.facts['seconds']} s, from {baseline.facts['start']}",
        flush=True,
    )
    return baseline


def pictures(classifier: Classifier, images: Tensor, file: Path, per_image: LearnedPerImage) -> Pictures:
    """Of a variant for single images."""

    def make() -> dict[str, Tensor]:
        return {"pictures": per_image.prepare(cp.logit(classifier).bind(images), images)(images)}

    started = time.perf_counter()
    found = tensors(file, make)["pictures"]
    seconds = (time.perf_counter() - started) / len(images)
    print(
        f"{file.stem}: {per_image.steps} steps of {per_image.rows}; {seconds:.1f} s each, or read",
        flush=True,
    )
    return Pictures(content_hash(found), images, found)


def judged(audit: BaselineAudit, judge: str) -> list[str]:
    """A row of the table: whom each of ours beats at both demands, and who beats it."""
    cells = [judge]
    rivals = [b for b, name in enumerate(audit.names) if name not in OURS]
    for name in (*OURS, PUBLISHED):
        here = audit.names.index(name)
        others = [b for b in rivals if b != here]
        beats = int(audit.dominated[here, others].sum())
        lost = [audit.names[b] for b in others if audit.dominated[b, here]]
        cells.append(f"{beats} of {len(others)}" + (f"; beaten by {', '.join(lost)}" if lost else ""))
    one, each = audit.names.index(ONE), audit.names.index(EACH)
    cells.append(
        "yes" if audit.dominated[each, one] else "beaten by it" if audit.dominated[one, each] else "no"
    )
    return cells


def leaks(
    classifier: Classifier, images: Tensor, baselines: Sequence[tuple[str, Baseline]]
) -> list[list[str]]:
    """Does b(x) give x away, and how silent is it: a row for each baseline."""
    network = Network.of(classifier.module, images[:2])
    features, logits = network.measured(images)
    confidence, classes = logits.softmax(1).max(1)
    top = logits.topk(5, 1).indices
    last = [each for each in classifier.module.modules() if isinstance(each, torch.nn.Linear)][-1]
    bias = last.bias[classes]
    rows = []
    for name, baseline in baselines:
        inside, said = network.measured(baseline(images))
        p = said.softmax(1).gather(1, classes[:, None])[:, 0]
        same = (said.topk(5, 1).indices[:, :, None] == top[:, None]).any(2).double().mean()
        found = (torch.cdist(inside, features).argmin(1) == torch.arange(len(images))).double().mean()
        value, start = (each.gather(1, classes[:, None])[:, 0] for each in (logits, said))
        # Gradient times activation sums to f(x) minus the bias, whatever the baseline is.
        missed = ((start - bias).abs() / (value - start).abs()).median()
        silence = inside.abs().mean() / features.abs().mean()
        cells = [f"{float((p / confidence).mean()):.3f}", f"{float(same):.0%}", f"{float(found):.0%}"]
        rows.append([name, *cells, f"{float(silence):.2f}", f"{float(missed):.0%}"])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="a folder for what was learned and measured")
    parser.add_argument("--model", default="efficientnet_lite0")
    parser.add_argument(
        "--witness", nargs="*", default=["squeezenet1_1"], help="other models, whose features judge distances"
    )
    parser.add_argument(
        "--reported", type=int, default=KEPT, help=f"photographs to report on, at most {KEPT}"
    )
    parser.add_argument(
        "--per-image-steps", type=int, default=LearnedPerImage.steps, help="of the variant for single images"
    )
    parser.add_argument("--orders", nargs="*", default=list(ORDERS), choices=list(ORDERS))
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    classifier = cp.load_model(options.model)
    paths = find_photographs([str(folder())])
    fitted, held_out = split(len(paths), TradeOffRecipe.least_images, SEED, KEPT, None)
    held_out = held_out[: options.reported]
    print(
        f"{options.model}: learned from {len(fitted)} photographs, reported on {len(held_out)} others",
        flush=True,
    )
    names = [output_names(paths)[k] for k in held_out]
    mine, images = (classifier.preprocess([paths[k] for k in some]) for some in (fitted, held_out))
    default = TradeOffRecipe()
    one = learned(classifier, mine, default, options.out / "trade-off.safetensors")
    steps = round(one.facts["gradients"] / PublishedRecipe().crops)
    published = learned(
        classifier, mine, replace(PublishedRecipe(), steps=steps), options.out / "published.safetensors"
    )
    file = str(options.out / "trade-off.safetensors")
    usual, selective = (
        LearnedPerImage(file=file, steps=options.per_image_steps),
        LearnedPerImage(file=file, **JUDGE),
    )
    each = pictures(classifier, images, options.out / f"pictures-{usual.steps}.safetensors", usual)
    for_metrics = pictures(classifier, images, options.out / "pictures-for-metrics.safetensors", selective)
    everyone = [*paper_b(), (PUBLISHED, published), (ONE, one), (EACH, each), (METRICS, for_metrics)]
    labels = tuple(name for name, _ in everyone)
    rows, first = [], None
    for order in options.orders:
        method, against = ORDERS[order]
        audit = audit_baselines(
            classifier,
            images,
            [baseline for _, baseline in everyone],
            names=names,
            method=method,
            against=against,
            crops=CROPS,
            steps=STEPS,
            insertion=False,
            occlusions=1,
            folder=options.out / f"audit_{order}",
        )
        audit = replace(audit, names=labels)
        first = audit if first is None else first
        rows.append(judged(audit, f"own features, order of {order}"))
        print(": ".join(rows[-1][:2]), flush=True)
    saliency = grad_cams(classifier, images)
    for name, judgement in as_judged(
        classifier, first, images, saliency, [b for _, b in everyone], crops=CROPS, steps=STEPS, seed=SEED
    ).items():
        rows.append(judged(judgement, f"{name}, order of grad_cam"))
        print(": ".join(rows[-1][:2]), flush=True)
    free = [(name, replace(b, any_model=True) if isinstance(b, Learned) else b) for name, b in everyone]
    for name in options.witness:
        witness = cp.load_model(name)
        seen = as_seen_by(
            witness, first, images, saliency, [b for _, b in free], crops=CROPS, steps=STEPS, seed=SEED
        )
        rows.append(judged(seen, f"features of {name}, order of grad_cam"))
        print(": ".join(rows[-1][:2]), flush=True)
    trade_off_figure(first, options.model).savefig(options.out / "trade-off.png")
    table(("judge", *(f"{name} dominates" for name in (*OURS, PUBLISHED)), "each dominates one"), rows)
    measures = ("excess", *REMOVALS)
    order = sorted(range(len(labels)), key=lambda b: float(first.means("excess")[b]))
    table(
        ("baseline", *(name.replace("_", " ") for name in measures)),
        [[labels[b], *(f"{float(first.means(m)[b]):.2f}" for m in measures)] for b in order],
    )
    with torch.no_grad():
        pairs = [(name, b) for name, b in everyone if not b.fill_only]
        pairs.append(("blur", cp.baselines.Blur(sigma=10)))
        table(
            (
                "baseline",
                "p_c(b) / p_c(x)",
                "top-5 shared",
                "x found again",
                "activity",
                "gradient x activation misses",
            ),
            leaks(classifier, images, pairs),
        )


if __name__ == "__main__":
    main()
