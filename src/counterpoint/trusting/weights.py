"""Whether a map changes when the weights of the model become random, as plain data."""

from dataclasses import replace
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from counterpoint import progress
from counterpoint.baselines import Learned, LearnedPerImage
from counterpoint.comparison import compare
from counterpoint.cut import Bypass
from counterpoint.methods import IntegratedGradients
from counterpoint.metrics import randomised_weights
from counterpoint.protocols import Baseline, Method
from counterpoint.scores import ClassScore

STEPS = 4
"""Explanations of a model with random weights, evenly spaced over its layers from the last to the first."""
_FEWEST = 32


def weight_facts(
    score: ClassScore,
    inputs: Float[Tensor, "1 channel height width"],
    heat: Float[Tensor, "height width"],
    *,
    baseline: Baseline,
    method: Method,
    layer: str,
    bypass: Bypass = "refuse",
    gradients: int,
) -> dict[str, Any]:
    """How alike the map stays while weights become random, from the last layer to the first.

    Args:
        score: With its class settled: the first class of a random model is another one.
        inputs: The image.
        heat: Its map.
        baseline, method, layer, bypass: How it was made.
        gradients: How many it took. A tolerance is hardly ever reached on random weights: integrated gradients get no more than this, but
            at least 32.

    Returns:
        {"layers": how many there are, "steps": [{"randomised": how many are random, "layer": the last of these, "spearman",
        "absolute_spearman", "ssim"}]}, with all of them random in the last step.

    Raises:
        CounterpointError: the weights cannot be drawn, or the method fails on the random model; see `randomised_weights`.
    """
    if isinstance(method, IntegratedGradients):
        method = replace(method, budget=max(_FEWEST, gradients))
    if isinstance(baseline, Learned | LearnedPerImage):
        # Every random model is another one than it was learned for, and the question is to stay the same.
        baseline = replace(baseline, any_model=True)
    calls = 0

    def explain(module: nn.Module, images: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == 1:  # nothing is random yet
            return heat[None].to(images)
        with progress.stage(calls - 2, calls - 1, STEPS, "random weights"):
            random = ClassScore(module, score.target, score.kind, score.against)
            comparison = compare(random, images, baseline=baseline, layer=layer, bypass=bypass)
            return comparison.explain(method).heatmap()

    found = randomised_weights(score.module, explain, inputs, steps=STEPS)
    similarity = found.similarity
    return {
        "layers": len(found.layers),
        "steps": [
            {
                "randomised": point,
                "layer": found.layers[point - 1],
                "spearman": float(similarity.spearman[k, 0]),
                "absolute_spearman": float(similarity.absolute_spearman[k, 0]),
                "ssim": float(similarity.ssim[k, 0]),
            }
            for k, point in enumerate(found.points)
        ],
    }
