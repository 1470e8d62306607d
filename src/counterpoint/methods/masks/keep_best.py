"""The rule "keep the best map": measured by what it is wanted for, its hard insertion and deletion curves."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from counterpoint.comparison import Comparison
from counterpoint.errors import InputError
from counterpoint.metrics.curve_table import KINDS, mean_height, points_of
from counterpoint.metrics.ordering import removed_counts
from counterpoint.metrics.perturbation import Perturbation, Replacement

CURVE_STEPS = 20
"""Steps of the curves that maps are measured by, as in `cp.metrics.curves`."""


def measured_area(
    comparison: Comparison, saliency: Float[Tensor, "batch height width"], *, steps: int = CURVE_STEPS
) -> Float[Tensor, " batch"]:
    """Insertion area minus deletion area of each map, under the comparison's score and baseline.

    What `cp.metrics.relevance_gain` is, for a comparison that exists; the 2 * (steps - 1) + 1 forwards for each image are counted
    as the comparison's own.

    Args:
        comparison: At the input, of images.
        saliency: Larger is more relevant.
        steps: Steps from the first point to the last; at most one for each pixel.

    Raises:
        InputError: a baseline with several draws.
    """
    if comparison.baseline.draws > 1:
        raise InputError(
            f"a curve has one image to go to, but {comparison.baseline!r} has {comparison.baseline.draws} draws; use a baseline of one."
        )
    inputs, only = comparison.inputs, comparison.baseline.fill_only
    counts = torch.tensor(removed_counts(inputs[0, 0].numel(), min(steps, inputs[0, 0].numel())))
    whole = None if only else comparison.baseline_inputs
    work = Perturbation(
        runner=comparison.evaluation.runner,
        inputs=inputs,
        clean=comparison.score,
        maps={"map": saliency},
        replacements=(Replacement(baseline=comparison.baseline, whole=whole),),
        counts=counts.to(inputs.device),
        kinds=KINDS,
        order="signed",
        seed=0,
        micro=comparison.micro,
        numbers=inputs.dtype,
        images=torch.arange(len(inputs), device=inputs.device),
    )
    scores, _ = work.run(comparison.tally)
    fractions = counts.to(scores) / counts[-1]
    areas = {}
    for kind, found in zip(work.kinds, scores[:, 0, 0], strict=True):
        here = points_of(kind, comparison.baseline)
        areas[kind] = mean_height(found[:, here], fractions[here])
    return areas["insertion"] - areas["deletion"]


@dataclass
class Best:
    """The best map of each image so far."""

    comparison: Comparison
    values: Tensor | None = None
    """(batch, *features), the best of those offered."""
    areas: list[Float[Tensor, " batch"]] = field(default_factory=list)
    """Of every map offered, in their order."""

    def offer(self, values: Float[Tensor, "batch channel height width"]) -> None:
        """Measure these, and keep each that is better than what was kept for its image."""
        area = measured_area(self.comparison, values.sum(1))
        if self.values is None:
            self.values = values.clone()
        else:
            better = area > torch.stack(self.areas).amax(0)
            self.values = values.where(better.view(-1, 1, 1, 1), self.values)
        self.areas.append(area)
