"""Does a metric do what it is for? How often each puts the better map above the worse, on images whose evidence is known.

The exact mask of the evidence is corrupted by degrees, and each metric under each baseline is asked to put the degrees in order
(`counterpoint.audit.audit_evidence`). The images are generated shapes with three networks trained on them and, where a folder of cut-outs
with exact masks is given, mosaics of these with EfficientNet-Lite0.

    python examples/known_evidence.py
    python examples/known_evidence.py --cutouts DIR --images 40
    python examples/known_evidence.py --learn DIR --learned mosaics=lite0.safetensors

With --learn a baseline is learned for each network of the shapes, from other images than those of the audit, and kept in DIR; with
--learned a file is taken that `counterpoint baseline learn` made.
"""

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

import counterpoint as cp
from counterpoint.arguments import as_baselines
from counterpoint.audit import EvidenceAudit, audit_evidence
from counterpoint.auditing import evidence_table
from counterpoint.baselines import TradeOffRecipe
from counterpoint.data import shapes
from counterpoint.data.mosaics import compose

NETWORKS = ("resnet", "vgg", "vit")
BASELINES = (
    *("zero", "black", "white", "random_color", "mean", "blur:sigma=5", "local_mean", "permutation"),
    *("uniform", "scramble_phase", "road", "neighbour_mean"),
)
LEARNED = ("learned:file={file}", "learned_per_image:file={file}")
FOR_METRICS = (
    "learned_per_image:file={file},steps=16,start=local_mean,selectivity=3",
    "seamless:picture=learned_per_image(file={file},steps=16,start=local_mean,selectivity=8,joined=0.06)",
)
"""Of one file only: they do not start from what it shows."""
SEED = 11


@dataclass(frozen=True)
class Question:
    """A model, and images of which the evidence is known."""

    name: str
    classifier: cp.Classifier
    images: Tensor
    evidence: Tensor
    classes: list[int]


def of_shapes(network: str, count: int) -> Question:
    """Shapes that the network gets right."""
    classifier = shapes.load_network(network)
    batch = shapes.generate(2 * count, seed=SEED)
    with torch.no_grad():
        right = (classifier.module(batch.images).argmax(1) == batch.labels).nonzero().flatten()[:count]
    return Question(
        f"shapes_{network}",
        classifier,
        batch.images[right],
        batch.evidence[right],
        batch.labels[right].tolist(),
    )


def of_mosaics(folder: str, count: int) -> Question:
    """Mosaics, and in each the object that the model sees best."""
    classifier = cp.load_model("efficientnet_lite0")
    batch = compose(folder, count, seed=SEED, size=224, background="cloudy")
    with torch.no_grad():
        p = classifier.module(batch.images).softmax(1)
    chosen = []
    for i, classes in enumerate(batch.classes):
        known = [(float(p[i, number]), k, number) for k, number in enumerate(classes) if number is not None]
        chosen.append(max(known)[1:])
    evidence = torch.stack([batch.masks[i, k] for i, (k, _) in enumerate(chosen)])
    return Question("mosaics", classifier, batch.images, evidence, [number for _, number in chosen])


def learned_from_shapes(question: Question, folder: Path) -> list[str]:
    """The files of two baselines learned from other shapes, now or before: from one of the images on, and from plain ones."""
    others = shapes.generate(160, seed=SEED + 1).images
    files = []
    for start in ("image", "plain"):
        file = folder / f"{question.name}_from_{start}.safetensors"
        if not file.exists():
            folder.mkdir(parents=True, exist_ok=True)
            recipe = TradeOffRecipe(photographs=start == "image")
            cp.baselines.Learned.fit(question.classifier, images=others, recipe=recipe).save(file)
        files.append(str(file))
    return files


def audited(
    question: Question,
    learned: Mapping[str, Sequence[str]],
    texts: Sequence[str] = BASELINES,
    steps: int = 10,
) -> EvidenceAudit:
    """The audit of one question."""
    files = learned.get(question.name, ())
    own = [kind.format(file=file) for file in files for kind in LEARNED]
    own += [kind.format(file=file) for file in files[:1] for kind in FOR_METRICS]
    return audit_evidence(
        question.classifier,
        question.images,
        question.evidence,
        as_baselines([*texts, *own]),
        target=question.classes,
        steps=steps,
        seed=SEED,
    )


def shortened(baseline: str) -> str:
    """A learned baseline by kind and file name."""
    kind, _, rest = baseline.replace("picture=", "").partition("file=")
    file, _, settings = rest.rstrip(")").partition(",")
    kind = kind.rstrip(":(")
    return f"{kind} ({', '.join(filter(None, (Path(file).stem, settings)))})" if rest else kind


def main() -> None:
    """Print a table for each model."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=40, help="of each model (default: 40)")
    parser.add_argument(
        "--cutouts",
        default=os.environ.get("COUNTERPOINT_CUTOUTS"),
        help="a folder of cut-outs with an alpha channel",
    )
    parser.add_argument(
        "--learned",
        action="append",
        default=[],
        metavar="MODEL=FILE",
        help="a learned baseline of one of the models",
    )
    parser.add_argument(
        "--learn",
        type=Path,
        metavar="DIR",
        help="learn a baseline for each network of the shapes, and keep it here",
    )
    parser.add_argument("--only", action="append", help="only this model")
    parser.add_argument(
        "--baseline", action="append", help="only these of the classical ones (default: all twelve)"
    )
    options = parser.parse_args()
    learned: dict[str, list[str]] = {}
    for each in options.learned:
        name, file = each.split("=", 1)
        learned.setdefault(name, []).append(file)
    questions = [lambda name=name: of_shapes(name, options.images) for name in NETWORKS]
    names = [f"shapes_{name}" for name in NETWORKS]
    if options.cutouts:
        questions.append(lambda: of_mosaics(options.cutouts, options.images))
        names.append("mosaics")
    for name, ask in zip(names, questions, strict=True):
        if options.only and name not in options.only:
            continue
        question = ask()
        if options.learn and name not in learned and name != "mosaics":
            learned[name] = learned_from_shapes(question, options.learn)
        audit = audited(question, learned, options.baseline or BASELINES)
        headings, rows = evidence_table(audit)
        behind = dict(zip(audit.baselines, audit.gaps("relevance_gain").T.tolist(), strict=True))
        print(f"\n{question.name}, {len(question.images)} images\n")
        headings = (*headings, "behind the best, paired, 95 %")
        print("| " + " | ".join(headings) + " |", "|---" * len(headings) + "|", sep="\n")
        for row in rows:
            print(
                "| "
                + " | ".join((shortened(row[0]), *row[1:], "{:.2f} to {:.2f}".format(*behind[row[0]])))
                + " |"
            )


if __name__ == "__main__":
    main()
