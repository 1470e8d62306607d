"""What a map is wanted for, measured: its hard insertion and deletion curves, on a comparison that exists."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from counterpoint.comparison import Comparison
from counterpoint.errors import InputError
from counterpoint.metrics.curve_table import KINDS, mean_height, points_of
from counterpoint.metrics.ordering import removed_counts
from counterpoint.metrics.perturbation import Perturbation, Replacement
from counterpoint.protocols import BoundScore
from counterpoint.scores import BoundClassScore

CURVE_STEPS = 20
"""Steps of the curves that maps are measured by, as in `cp.metrics.curves`."""


@dataclass(frozen=True, kw_only=True, eq=False)
class HardCurves:
    """Scores while pixels come (insertion) or go (deletion) in the order of a map, mean over fill-ins."""

    insertion: Float[Tensor, "images points"]
    deletion: Float[Tensor, "images points"]
    area: Float[Tensor, " images"]
    """Insertion minus deletion area, each the mean height of its curve."""

    def where(self, chosen: Bool[Tensor, " images"], other: "HardCurves") -> "HardCurves":
        """These for the chosen images, the other ones for the rest."""
        whole = chosen[:, None]
        return HardCurves(
            insertion=self.insertion.where(whole, other.insertion),
            deletion=self.deletion.where(whole, other.deletion),
            area=self.area.where(chosen, other.area),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Judge:
    """Measures maps of a comparison's images; what `cp.metrics.curves` does for a question that is still to be put together."""

    comparison: Comparison
    """At the input, of images; its tally counts the forwards."""
    runner: BoundScore
    """What scores the points."""
    clean: Float[Tensor, " batch"]
    """f(x), by that."""
    fills: tuple[Replacement, ...]
    """What removed pixels become: images, or one kind that only fills."""
    steps: int
    """Of each curve, from the first point to the last."""
    seed: int
    """Of the order among equal pixels."""

    @classmethod
    def of(cls, comparison: Comparison, *, steps: int = CURVE_STEPS, seed: int = 0) -> "Judge":
        """A judge by the comparison's own score and baseline.

        Args:
            comparison: At the input, of images.
            steps: Of each curve; at most one for each pixel.
            seed: Of the order among equal pixels.

        Raises:
            InputError: a baseline with several draws.
        """
        baseline = comparison.baseline
        if baseline.draws > 1:
            raise InputError(
                f"a curve has one image to go to, but {baseline!r} has {baseline.draws} draws; use a baseline of one."
            )
        whole = None if baseline.fill_only else comparison.baseline_inputs
        return cls(
            comparison=comparison,
            runner=comparison.evaluation.runner,
            clean=comparison.score,
            fills=(Replacement(baseline=baseline, whole=whole),),
            steps=min(steps, comparison.inputs[0, 0].numel()),
            seed=seed,
        )

    def by_probability(self) -> "Judge":
        """The same, a class score read as a probability, for one forward of each image; itself for any other score.

        Where there is a single class, whose probability is always 1, the score is left as it is.
        """
        known = ("probability", "label_probability")
        if not isinstance(self.runner, BoundClassScore) or self.runner.kind in known:
            return self
        if not bool(self.runner.spread.any()):
            return self
        runner = replace(self.runner, kind="probability", against=None)
        evaluation = replace(self.comparison.evaluation, runner=runner)
        return replace(self, runner=runner, clean=evaluation.scores(self.comparison.inputs))

    def curves(
        self, saliency: Float[Tensor, "images height width"], images: Int[Tensor, " images"] | None = None
    ) -> HardCurves:
        """Both curves of each map. Forwards for each image and fill-in: 2 * steps - 1, and one less for a kind that only fills.

        Args:
            saliency: Larger is kept longer.
            images: Which of the inputs each map belongs to; by default map i belongs to input i.
        """
        inputs = self.comparison.inputs
        if images is None:
            images = torch.arange(len(inputs), device=inputs.device)
        maps = saliency.new_zeros(len(inputs), *saliency.shape[1:])
        maps[images] = saliency.detach()
        counts = torch.tensor(removed_counts(inputs[0, 0].numel(), self.steps), device=inputs.device)
        work = Perturbation(
            runner=self.runner,
            inputs=inputs,
            clean=self.clean,
            maps={"map": maps},
            replacements=self.fills,
            counts=counts,
            kinds=KINDS,
            order="signed",
            seed=self.seed,
            micro=self.comparison.micro,
            numbers=inputs.dtype,
            images=images,
        )
        scores, _ = work.run(self.comparison.tally)
        fractions = counts.to(scores) / counts[-1]
        curves, areas = {}, {}
        for kind, found in zip(KINDS, scores[:, :, 0].mean(1), strict=True):
            # All fill-ins have the same points: a kind that only fills stands alone.
            here = points_of(kind, self.fills[0].baseline)
            curves[kind] = found[:, here]
            areas[kind] = mean_height(found[:, here], fractions[here])
        return HardCurves(**curves, area=areas["insertion"] - areas["deletion"])
