"""Attention maps where the evidence is known: do they point at the object, and does the model miss the patches that they name?

    python benchmarks/attention.py [--images N] [--seed N]

Generated shapes that `shapes_vit` was not trained on and gets right. Its tokens are cells of 8 x 8 pixels, so that every map is summed over
these first, and put back on their pixels: all maps are equally coarse. Beside the methods stand the evidence itself, a map at random and a
blob in the middle. Measured: does the largest cell touch the object (pointing game, on pixels); the share of positive relevance within it,
and of the K largest values of K pixels; the area of the class probability while tokens enter, most relevant first, minus the area while
they are taken out. "Unexplained" is the median of |own error| / |own target|, where the values are shares.
"""

import argparse
import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

import counterpoint as cp
from counterpoint.data import shapes
from counterpoint.protocols import Method
from kept import table

BASELINE = cp.baselines.Blur(sigma=10)
CELL = 8
PIXELS, TOKENS = "input", "embedding"
GAMMA = cp.methods.AttnLRP(gamma=0.25, convolution_gamma=1.0)
METHODS: dict[tuple[str, str], Method] = {
    ("`attention_rollout`", PIXELS): cp.methods.AttentionRollout(),
    ("`attention_rollout:discard=0.9,head=max`", PIXELS): cp.methods.AttentionRollout(
        head="max", discard=0.9
    ),
    ("`gae`", PIXELS): cp.methods.GAE(),
    ("`attn_lrp`", PIXELS): cp.methods.AttnLRP(),
    ("`attn_lrp:convolution_gamma=1.0,gamma=0.25`", PIXELS): GAMMA,
    ("`integrated_gradients`", PIXELS): cp.methods.IntegratedGradients(tolerance=0.01),
    ("`gradient_times_input`", PIXELS): cp.methods.GradientTimesInput(),
    ("`attn_lrp`", TOKENS): cp.methods.AttnLRP(),
    ("`attn_lrp:convolution_gamma=1.0,gamma=0.25`", TOKENS): GAMMA,
    ("`integrated_gradients`", TOKENS): cp.methods.IntegratedGradients(tolerance=0.01),
    ("`gradient_times_input`", TOKENS): cp.methods.GradientTimesInput(),
    ("`random_map`", PIXELS): cp.methods.RandomMap(),
    ("`centred_blob`", PIXELS): cp.methods.CentredBlob(),
}


def coarse(maps: Tensor) -> Tensor:
    """The mean of each cell, on all of its pixels."""
    return on_pixels(avg_pool2d(maps[:, None].double(), CELL)[:, 0])


def on_pixels(cells: Tensor) -> Tensor:
    """(images, 8, 8) to (images, 64, 64)."""
    return cells.repeat_interleave(CELL, 1).repeat_interleave(CELL, 2)


def percent(numbers: Tensor) -> str:
    """Mean and standard error over images, of shares."""
    numbers = 100 * numbers[numbers.isfinite()]
    return f"{numbers.mean():.0f} ± {numbers.std() / len(numbers) ** 0.5:.0f} %"


def measured(score: object, images: Tensor, evidence: Tensor, maps: Tensor) -> list[str]:
    """The cells of one row."""
    gain = (
        cp.metrics.token_insertion_curve(score, images, maps).area
        - cp.metrics.token_deletion_curve(score, images, maps).area
    )
    return [
        percent(cp.metrics.pointing_game(maps, evidence)),
        percent(cp.metrics.mass_in_mask(maps, evidence)),
        percent(cp.metrics.rank_in_mask(maps, evidence)),
        f"{gain.mean():.3f} ± {gain.std() / len(gain) ** 0.5:.3f}",
    ]


def main() -> None:
    """Explain, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=120)
    parser.add_argument("--seed", type=int, default=77)
    parser.add_argument(
        "--gammas", action="store_true", help="AttnLRP under several gammas, and nothing else"
    )
    asked = parser.parse_args()
    torch.set_num_threads(1)
    classifier = shapes.load_network("vit")
    batch = shapes.generate(asked.images, seed=asked.seed)
    with torch.no_grad():
        right = classifier.module(batch.images).argmax(1) == batch.labels
    images, evidence = batch.images[right], batch.evidence[right]
    print(
        f"{len(images)} of {asked.images} images that the model gets right; evidence covers {percent(evidence.flatten(1).double().mean(1))}"
    )
    probability = cp.probability(classifier, batch.labels[right])
    whole = cp.compare(cp.logit(classifier, batch.labels[right]), images, baseline=BASELINE)
    places = {PIXELS: whole, TOKENS: whole.at(TOKENS)}
    rows = []
    for (name, place), method in METHODS.items():
        attribution = places[place].explain(method)
        if place == TOKENS:  # the class token first
            maps = on_pixels(attribution.values[:, 1:].sum(2).double().unflatten(1, (CELL, CELL)))
        else:
            maps = coarse(attribution.heatmap())
        gap = "" if attribution.claim != "shares" else f"{gap_of(attribution):.2f}"
        rows.append([name, place, *measured(probability, images, evidence, maps), gap])
    known = measured(probability, images, evidence, coarse(evidence.float()))
    rows.append(["the evidence itself", PIXELS, *known, ""])
    headings = ["map", "at", "pointing game", "mass in evidence", "rank in evidence"]
    table([*headings, "token insertion - deletion", "unexplained"], rows)


def gap_of(attribution: cp.Attribution) -> float:
    """The median over images of |own error| / |own target|."""
    target = attribution.target if attribution.own_target is None else attribution.own_target
    return float((attribution.own_error / target).abs().median())


if __name__ == "__main__":
    main()
