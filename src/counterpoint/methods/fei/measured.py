"""The hard insertion and deletion curve of a map under one or more fill-ins: what is optimised is judged by it."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from counterpoint.comparison import Comparison
from counterpoint.metrics.ordering import ordering, removed_counts
from counterpoint.scores import BoundClassScore

Images = Float[Tensor, "images channel height width"]
Scores = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Curves:
    """Scores while pixels come (insertion) or go (deletion), mean over fill-ins."""

    insertion: Float[Tensor, "images points"]
    deletion: Float[Tensor, "images points"]

    @property
    def area(self) -> Float[Tensor, " images"]:
        """Insertion minus deletion area, by trapezoids over equal steps."""
        return _area(self.insertion) - _area(self.deletion)


def by_probability(comparison: Comparison) -> Comparison:
    """The same comparison, its class score read as a probability; itself for any other score."""
    bound, evaluation = comparison.bound, comparison.evaluation
    if not isinstance(bound, BoundClassScore) or not isinstance(evaluation.runner, BoundClassScore):
        return comparison
    runner = replace(evaluation.runner, kind="probability", against=None)
    return replace(comparison, evaluation=replace(evaluation, runner=runner))


def hard_curves(
    scores: Scores,
    inputs: Images,
    saliency: Float[Tensor, "images height width"],
    fills: Float[Tensor, "fills images channel height width"],
    *,
    steps: int,
    at_once: int,
    seed: int = 0,
) -> Curves:
    """Both curves of every image. Forwards for each image: 1 + fills * (2 steps - 1).

    Args:
        scores: Of points, and which of the inputs each belongs to.
        inputs: The images.
        saliency: Larger is kept longer.
        fills: What removed pixels become.
        steps: Of each curve.
        at_once: Points that are made at a time.
        seed: Of the order among equal pixels.
    """
    rank = ordering(saliency.detach(), order="signed", seed=seed).rank
    counts = torch.tensor(removed_counts(saliency[0].numel(), steps), device=inputs.device)
    number = torch.arange(len(inputs), device=inputs.device)
    clean = scores(inputs, number)
    kept = rank.unsqueeze(1) < counts[1:-1].view(1, -1, 1, 1)  # (images, inner, height, width)
    insertion, deletion = [], []
    for fill in fills:
        empty = scores(fill, number)
        come, go = (_inner(scores, inputs, each, fill, at_once).to(clean) for each in (kept, ~kept))
        insertion.append(torch.cat([empty[:, None], come, clean[:, None]], 1))
        deletion.append(torch.cat([clean[:, None], go, empty[:, None]], 1))
    return Curves(torch.stack(insertion).mean(0), torch.stack(deletion).mean(0))


def _inner(
    scores: Scores,
    inputs: Images,
    kept: Bool[Tensor, "images inner height width"],
    fill: Images,
    at_once: int,
) -> Float[Tensor, "images inner"]:
    group = max(1, at_once // len(inputs))
    number = torch.arange(len(inputs), device=inputs.device)
    found = []
    for first in range(0, kept.shape[1], group):
        some = kept[:, first : first + group]
        rows = number.repeat_interleave(some.shape[1])
        points = inputs[rows].where(some.flatten(0, 1).unsqueeze(1), fill[rows])
        found.append(scores(points, rows).view(len(inputs), -1))
    return torch.cat(found, 1)


def _area(scores: Float[Tensor, "images points"]) -> Float[Tensor, " images"]:
    return torch.trapezoid(scores, dx=1 / (scores.shape[1] - 1), dim=1)
