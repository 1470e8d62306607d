"""Integrated gradients beside captum's, in one process and alternately: medians and ratios; counts of what ran.

    python benchmarks/attribution.py [--part input|layers|error|counts] [--repeats N]

input   50 Gauss-Legendre nodes on EfficientNet-Lite0, one photograph: captum as it is called, captum with its best internal batch
        size, ours, and ours on the folded copy (`cp.compare(..., fold=True)`).
layers  20 nodes on the ResNet-50 architecture (random weights) at layer3 and layer4: captum's LayerIntegratedGradients runs the whole
        network at each step, ours the part after the layer.
error   how many gradients captum's rules need until map error 0.1, and relative error 1 % as well, hold at that number and at every larger
        one tried (the sufficient n), beside what ours takes to know that they do; photographs of scikit-image against black, their mean
        colour and a blurred copy.
counts  forwards and gradients of five methods at three layers in one comparison, beside what they cost one by one.

Absolute times mean little on a shared machine; the ratios are of runs next to each other.
"""

import argparse
import math
import os
import statistics
import time
from collections.abc import Callable

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from torch import Tensor

import counterpoint as cp
from counterpoint.data.photographs import find_photographs
from counterpoint.quadrature import GaussLegendre, Midpoint

NODES, LAYER_NODES = 50, 20


def alternately(
    runs: dict[str, Callable[[], Tensor]], repeats: int
) -> tuple[dict[str, float], dict[str, Tensor]]:
    """Median seconds of each, all taking turns, and what each returned."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    results = {name: run() for name, run in runs.items()}  # once to warm up
    for _ in range(repeats):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(each) for name, each in seconds.items()}, results


def show(title: str, seconds: dict[str, float], results: dict[str, Tensor], first: str) -> None:
    """A table in Markdown: seconds, how many times faster than each peer, distance of the values from `first`."""
    peers = [name for name in seconds if name.startswith("captum")]
    print(f"\n### {title}\n")
    print(
        "| | seconds | "
        + " | ".join(f"times faster than {p}" for p in peers)
        + f" | relative L2 distance from {first} |"
    )
    print("|---" * (len(peers) + 3) + "|")
    for name, taken in seconds.items():
        ratios = " | ".join(f"{seconds[peer] / taken:.2f}" for peer in peers)
        gap = float((results[name] - results[first]).norm() / results[first].norm())
        print(f"| {name} | {taken:.2f} | {ratios} | {gap:.1e} |")


def at_the_input(repeats: int) -> None:
    from captum.attr import IntegratedGradients

    classifier = cp.load_model("efficientnet_lite0")
    images = classifier.preprocess(find_photographs(["sample:chelsea"]))
    baseline = cp.baselines.Blur(sigma=10)
    plain, folded = (
        cp.compare(cp.logit(classifier), images, baseline=baseline, fold=fold) for fold in (False, True)
    )
    target = plain.bound.classes
    method = cp.methods.IntegratedGradients(rule=GaussLegendre(NODES))
    captum = IntegratedGradients(classifier.module)

    def peer(batch: int | None) -> Tensor:
        found = captum.attribute(
            images, baseline(images), target=target, n_steps=NODES, internal_batch_size=batch
        )
        return found.float()

    runs = {
        "captum, default": lambda: peer(None),
        "captum, 5 at a time": lambda: peer(5),
        "ours": lambda: plain.explain(method).values,
        "ours, folded": lambda: folded.explain(method).values,
    }
    show(
        f"EfficientNet-Lite0, {NODES} nodes at the input", *alternately(runs, repeats), "captum, 5 at a time"
    )


def at_layers(repeats: int) -> None:
    from captum.attr import LayerIntegratedGradients
    from torchvision.models import resnet50

    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = resnet50(weights=None).eval()
    images = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    baseline = cp.baselines.Black()
    whole = cp.compare(cp.logit(network, 7), images, baseline=baseline)
    method = cp.methods.IntegratedGradients(rule=GaussLegendre(LAYER_NODES))
    for layer in ("layer3", "layer4"):
        comparison = whole.at(layer)
        captum = LayerIntegratedGradients(network, network.get_submodule(layer))

        def peer(captum: LayerIntegratedGradients = captum) -> Tensor:
            found: Tensor = captum.attribute(
                images, baseline(images), target=7, n_steps=LAYER_NODES, internal_batch_size=5
            )
            return found.float()

        runs = {"captum, 5 at a time": peer, "ours": lambda c=comparison: c.explain(method).values}
        show(
            f"ResNet-50 architecture, {LAYER_NODES} nodes at {layer}, cut: {comparison.cut.kind}",
            *alternately(runs, repeats),
            "captum, 5 at a time",
        )


def sufficient(errors: dict[int, tuple[float, float]], *, relative: float) -> float:
    """The smallest n from which on every n tried has map error <= 0.1 and a small relative error; infinity where the largest fails."""
    enough = math.inf
    for n in sorted(errors, reverse=True):
        of_sum, of_map = errors[n]
        if of_sum > relative or of_map > 0.1:
            break
        enough = n
    return enough


def to_an_equal_error(photographs: list[str]) -> None:
    classifier = cp.load_model("efficientnet_lite0")
    tried = (8, 12, 16, 24, 36, 54, 80, 120, 180, 270)
    rules = {"gausslegendre": GaussLegendre, "riemann_middle": Midpoint}
    print("\n### Gradients until map error 0.1, and relative error 1 % as well: captum's sufficient n\n")
    heads = [f"{rule}, {what}" for what in ("map", "map and sum") for rule in rules]
    print(
        "| photograph | baseline | ours | its map error | "
        + " | ".join(heads)
        + " |"
        + "\n"
        + "|---" * 8
        + "|"
    )
    ratios: dict[str, list[float]] = {"map": [], "map and sum": []}
    for name in photographs:
        images = classifier.preprocess(find_photographs([name]))
        for baseline in (cp.baselines.Black(), cp.baselines.Mean(), cp.baselines.Blur(sigma=10)):
            comparison = cp.compare(cp.logit(classifier), images, baseline=baseline, fold=True)
            truth = comparison.explain(
                cp.methods.IntegratedGradients(value_tolerance=0.02, budget=600)
            ).values

            def far(values: Tensor, truth: Tensor = truth) -> float:
                return float((values - truth).abs().sum() / truth.abs().sum())

            own = comparison.explain(cp.methods.IntegratedGradients())
            ours = int(own.gradient_evaluations)
            errors: dict[str, dict[int, tuple[float, float]]] = {rule: {} for rule in rules}
            for rule, make in rules.items():
                for n in tried:
                    fixed = comparison.explain(cp.methods.IntegratedGradients(rule=make(n)))
                    errors[rule][n] = (float(fixed.relative_error), far(fixed.values))
            cells = []
            for what, relative in (("map", math.inf), ("map and sum", 0.01)):
                needed = [sufficient(errors[rule], relative=relative) for rule in rules]
                cells += [f"over {tried[-1]}" if math.isinf(n) else str(n) for n in needed]
                # More than the largest tried counts as that: the ratio is then a lower bound.
                ratios[what].append(min(*needed, tried[-1]) / ours)
            kind = type(baseline).__name__.lower()
            print(
                f"| {name} | {kind} | {ours} | {far(own.values):.3f} | " + " | ".join(cells) + " |",
                flush=True,
            )
    for what, each in ratios.items():
        print(
            f"\n{what}: captum's better rule over ours, mean {statistics.mean(each):.2f}, median {statistics.median(each):.2f}."
        )


def counts() -> None:
    classifier = cp.load_model("efficientnet_lite0")
    images = classifier.preprocess(find_photographs(["sample:chelsea"]))
    layers = ["blocks.5", "blocks.10", "blocks.15"]
    methods = [
        cp.methods.GradCAM(),
        cp.methods.HiResCAM(),
        cp.methods.LayerCAM(),
        cp.methods.Taylor(),
        cp.methods.Gradient(),
    ]
    runs = {"forwards": 0, "prefixes": 0}
    # Hooks on single steps: one on a block would keep the graph from being split.
    stem = classifier.module.get_submodule("model.stem.conv")
    head = classifier.module.get_submodule("model.fc")
    hooks = [
        stem.register_forward_hook(lambda *_: runs.__setitem__("prefixes", runs["prefixes"] + 1)),
        head.register_forward_hook(lambda *_: runs.__setitem__("forwards", runs["forwards"] + 1)),
    ]
    try:
        for comparison in cp.compare_layers(
            cp.logit(classifier), images, layers, baseline=cp.baselines.Mean()
        ):
            for method in methods:
                comparison.explain(method)
        shared = dict(runs)
        runs.update(forwards=0, prefixes=0)
        for layer in layers:
            for method in methods:
                cp.compare(cp.logit(classifier), images, baseline=cp.baselines.Mean(), layer=layer).explain(
                    method
                )
        alone = dict(runs)
    finally:
        for hook in hooks:
            hook.remove()
    print(
        f"\n### {len(methods)} methods at {len(layers)} layers: runs of the last part and of the first part of the network\n"
    )
    print("| | runs of the last part | runs of the first part |\n|---|---|---|")
    print(f"| one comparison, shared | {shared['forwards']} | {shared['prefixes']} |")
    print(f"| one by one | {alone['forwards']} | {alone['prefixes']} |")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", choices=["input", "layers", "error", "counts"], help="only this part")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--photographs", nargs="+", default=["sample:chelsea", "sample:coffee", "sample:rocket"]
    )
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    if arguments.part in (None, "counts"):
        counts()
    if arguments.part in (None, "input"):
        at_the_input(arguments.repeats)
    if arguments.part in (None, "layers"):
        at_layers(arguments.repeats)
    if arguments.part in (None, "error"):
        to_an_equal_error(arguments.photographs)


if __name__ == "__main__":
    main()
