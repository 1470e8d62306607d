"""The score of each image without one set of pixels after another: computed once, held against any number of maps."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from counterpoint import progress
from counterpoint.attribution import Attribution
from counterpoint.batching import in_micro_batches
from counterpoint.checks import check_batch, check_images
from counterpoint.comparison import Comparison, compare
from counterpoint.errors import InputError
from counterpoint.metrics.curves import FOLD_FROM
from counterpoint.metrics.ordering import check_saliency
from counterpoint.metrics.pixel_sets import PixelSets
from counterpoint.metrics.similarity import pearson, spearman
from counterpoint.protocols import Baseline, ModuleScore, Score
from counterpoint.state import left_as_found

# Drops that differ by less than so many units in the last place of the score are rounding, and correlate with nothing.
_ROUNDING = 8.0
LEAST_SETS = 3
"""Fewer have no correlation to speak of: that of two is 1 or -1."""
_SETS_AT_ONCE = 64


@dataclass(frozen=True, kw_only=True, eq=False)
class Removals:
    """What the score loses with each set of pixels; made by `cp.metrics.removals`."""

    inputs: Float[Tensor, "batch channel height width"]
    baseline: Baseline
    """What removed pixels became, settled for the model where it needs that."""
    removed: Bool[Tensor, "sets height width"]
    """The sets, the same for all images."""
    score: Float[Tensor, " batch"]
    """f(x)."""
    drops: Float[Tensor, "batch sets"]
    """f(x) - f(x without the set), in units of the score."""
    folded: bool
    """Whether an equal, faster copy of the model was run, checked to 1e-5."""
    forward_evaluations: Int[Tensor, " batch"]
    """How often the model ran for each image."""

    def sums(self, saliency: Tensor | Attribution) -> Float[Tensor, "batch sets"]:
        """The sum of the map over each set, in float64.

        Args:
            saliency: (batch, height, width), or an Attribution, whose heat map is taken.

        Raises:
            InputError: neither a tensor nor an Attribution.
            ShapeError: of another size than the inputs.
            NotFiniteError: NaN or infinity.
        """
        numbers = check_saliency("saliency", saliency, self.inputs).flatten(1).double()
        parts = torch.split(self.removed.flatten(1), _SETS_AT_ONCE)
        return torch.cat([numbers @ part.to(numbers).T for part in parts], 1)

    def pearson(self, saliency: Tensor | Attribution) -> Float[Tensor, " batch"]:
        """Correlation of the map's sums with the drops, -1 to 1; higher is better.

        NaN where all sums are equal (a constant map under sets of one size), or all drops are but for rounding.

        Raises:
            InputError: fewer than 3 sets; see `sums` for the rest.
        """
        return self._defined(pearson(self.sums(saliency), self.drops))

    def spearman(self, saliency: Tensor | Attribution) -> Float[Tensor, " batch"]:
        """Rank correlation of the map's sums with the drops, -1 to 1; higher is better. NaN, and raises, as `pearson`."""
        sums = self.sums(saliency)
        # Equal sums of different pixels may differ by rounding, which must not put them in order.
        unit = 1e-12 * sums.abs().amax(1, keepdim=True)
        return self._defined(spearman((sums / unit.where(unit > 0, 1.0)).round(), self.drops))

    def infidelity(
        self, saliency: Tensor | Attribution, *, rescaled: bool = False
    ) -> Float[Tensor, " batch"]:
        """The mean over sets of (sum of the map - drop)^2, in squared units of the score; lower is better.

        Args:
            saliency: Shares: their sum over a set is what they say the score loses.
            rescaled: Multiply each map with the one number that makes this least, so that a map in other units can be compared.

        Raises:
            InputError: an Attribution whose values are no shares, without `rescaled`; see `sums` for the rest.
        """
        check_claim("shares", saliency, rescaled=rescaled)
        return mean_squared_gap(self.sums(saliency), self.drops, rescaled=rescaled)

    def _defined(self, correlation: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        if len(self.removed) < LEAST_SETS:
            raise InputError(
                f"a correlation needs at least {LEAST_SETS} sets of pixels, but samples is {len(self.removed)}."
            )
        unmoved = ~moves(self.drops, self.score)
        return correlation.to(self.drops).masked_fill(unmoved, torch.nan)


def removals(
    score: Score | Callable[[Tensor], Tensor],
    inputs: Float[Tensor, "batch channel height width"],
    *,
    baseline: Baseline,
    sets: PixelSets,
    fold: bool = True,
    micro_batch: int | None = None,
) -> Removals:
    """Score every image without each set of pixels: one forward for each, whatever the number of maps held against them.

    Args:
        score: `cp.logit(...)` and its like, or a callable (rows, ...) -> (rows,).
        inputs: Images with pixels in [0, 1]; never changed.
        baseline: What removed pixels become.
        sets: Which pixels are removed together, such as `cp.metrics.RandomCells()`.
        fold: Run on an equal, faster copy of the model where there is one, checked to 1e-5; not for fewer than 256 forwards, which cost
            less than the copy.
        micro_batch: Images that go through the model at once; by default chosen for the device, and halved when memory runs out.

    Raises:
        InputError: an argument of the wrong type, NaN, sets that the images are too small for, or a baseline with several draws.
        ShapeError: inputs that are no images, or a baseline of another size.
        ModelError: the model does not return what the score reads.
    """
    check_batch("inputs", inputs)
    check_images("inputs", inputs)
    if not isinstance(sets, PixelSets) or isinstance(sets, type):
        raise InputError(f"sets must be sets of pixels, such as cp.metrics.RandomCells(), got {sets!r}.")
    if isinstance(baseline, Baseline) and not isinstance(baseline, type) and baseline.draws > 1:
        raise InputError(
            f"removed pixels become one baseline, but {baseline!r} has {baseline.draws} draws; use one of one draw."
        )
    height, width = inputs.shape[2:]
    removed = sets(height, width).to(inputs.device)
    comparison = compare(score, inputs, baseline=baseline, micro_batch=micro_batch)
    if fold and isinstance(comparison.bound, ModuleScore) and len(removed) * len(inputs) >= FOLD_FROM:
        comparison = comparison.on_folded_copy()
    return Removals(
        inputs=comparison.inputs,
        baseline=comparison.baseline,
        removed=removed,
        score=comparison.score,
        drops=comparison.score[:, None] - _scores(comparison, removed),
        folded=comparison.folded,
        forward_evaluations=comparison.tally.forwards,
    )


def _scores(
    comparison: Comparison, removed: Bool[Tensor, "sets height width"]
) -> Float[Tensor, "batch sets"]:
    """f(x without each set); images without their pixels exist only while they are scored."""
    batch, device = len(comparison.inputs), removed.device
    images = torch.arange(batch, device=device).repeat(len(removed))
    sets = torch.arange(len(removed), device=device).repeat_interleave(batch)
    done = 0

    def forward(sets: Tensor, images: Tensor) -> tuple[Tensor]:
        nonlocal done
        found = comparison.scores(comparison.filled(removed[sets], images), images)
        done += len(sets)
        progress.advance(done, len(removed) * batch, "removals")
        return (found,)

    bound = comparison.evaluation.runner
    with left_as_found(bound.module) if isinstance(bound, ModuleScore) else nullcontext():
        with torch.inference_mode():
            (scores,) = in_micro_batches(forward, sets, images, micro=comparison.micro)
    # Copied outside: what inference mode makes cannot be changed in place afterwards.
    return scores.clone().view(-1, batch).T


def moves(drops: Float[Tensor, "batch sets"], score: Float[Tensor, " batch"]) -> Bool[Tensor, " batch"]:
    """Whether an image's drops differ by more than the rounding of its score."""
    unit = torch.finfo(score.dtype).eps * score.abs()
    return drops.amax(1) - drops.amin(1) > _ROUNDING * unit


def check_claim(claim: str, values: Tensor | Attribution, *, rescaled: bool) -> None:
    """Raise InputError where an Attribution says that its values are something else; of a tensor nothing is known.

    Args:
        claim: What they must be, "shares" or "rate".
        values: The map.
        rescaled: Whether any number of its own may be multiplied to it.
    """
    if isinstance(values, Attribution) and values.claim != claim and not rescaled:
        ways = {"shares": "shares, parts of f(x) - f(x')", "rate": "rates, score per unit of the pixel"}
        raise InputError(
            f"infidelity here needs {ways[claim]}, but the values of this attribution are '{values.claim}'; with rescaled=True they are "
            "multiplied by the number that suits them best."
        )


def mean_squared_gap(
    claimed: Float[Tensor, "batch samples"], observed: Float[Tensor, "batch samples"], *, rescaled: bool
) -> Float[Tensor, " batch"]:
    """mean of (claimed - observed)^2; rescaled: of (s claimed - observed)^2 with the s that makes it least, 0 where all claims are 0."""
    exact, found = claimed.double(), observed.double()
    if rescaled:
        square = exact.square().sum(1, keepdim=True)
        exact = exact * (exact * found).sum(1, keepdim=True) / square.where(square > 0, 1.0)
    return (exact - found).square().mean(1).to(observed)
