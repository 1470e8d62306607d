"""Do a map's sums say what sets of pixels cost? Agreement of the map with the score when pixels are removed."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from counterpoint.attribution import Attribution
from counterpoint.checks import check_batch, check_images
from counterpoint.errors import InputError
from counterpoint.metrics.ordering import check_saliency
from counterpoint.metrics.pixel_sets import GivenSets, PixelSets, RandomCells, RandomPixels, check_whole
from counterpoint.metrics.removals import LEAST_SETS, Removals, check_claim, moves, removals
from counterpoint.metrics.similarity import pearson
from counterpoint.protocols import Baseline, Score

AnyScore = Score | Callable[[Tensor], Tensor]
Images = Float[Tensor, "batch channel height width"]

# Ancona et al. go up to 80 % of the features.
_MOST = 0.8
_COUNTS = 10


@dataclass(frozen=True, kw_only=True, eq=False)
class SensitivityN:
    """Agreement for sets of several sizes."""

    counts: Int[Tensor, " counts"]
    """n, the number of pixels removed together."""
    correlation: Float[Tensor, "batch counts"]
    """Pearson's, -1 to 1, higher is better; NaN where the map is constant, or the score does not move but for rounding."""

    @property
    def mean(self) -> Float[Tensor, " batch"]:
        """The mean over all n, higher is better; NaN where one of them is."""
        return self.correlation.mean(1)


def faithfulness_correlation(
    score: AnyScore,
    inputs: Images,
    saliency: Tensor | Attribution,
    *,
    baseline: Baseline,
    count: int,
    samples: int = 100,
    seed: int = 0,
    fold: bool = True,
) -> Float[Tensor, " batch"]:
    """Pearson's correlation of the map's sum over random sets of `count` pixels with what the score loses without them; higher is better.

    Formula: corr over sets S of (sum over S of a, f(x) - f(x with S replaced by the baseline))

    The same as sensitivity-n at n = count.

    Args:
        score: `cp.logit(...)` and its like, or a callable (rows, ...) -> (rows,).
        inputs: Images with pixels in [0, 1]; never changed.
        saliency: (batch, height, width), signed; or an Attribution, whose heat map is taken. Its scale does not matter.
        baseline: What removed pixels become.
        count: Pixels in a set, all channels of a pixel together.
        samples: Sets, and forwards for each image; at least 3.
        seed: Of the sets, which are the same for every image.
        fold: Run on an equal, faster copy of the model where that pays; see `cp.metrics.removals`, which also says what else is raised.

    Returns:
        (batch,), -1 to 1; NaN where the map is constant, or the score does not move but for rounding.

    Raises:
        InputError: a map with NaN, fewer than 3 samples, or not between 1 and all but one pixel in a set.
        ShapeError: a map of another size.

    Reference: Bhatt et al. 2020, arXiv:2005.00631, definition 3.
    """
    check_whole("samples", samples, LEAST_SETS)
    sets = RandomPixels(count, samples, seed)
    return _removals(score, inputs, saliency, baseline, sets, fold=fold).pearson(saliency)


def mu_fidelity(
    score: AnyScore,
    inputs: Images,
    saliency: Tensor | Attribution,
    *,
    baseline: Baseline,
    grid: int = 12,
    share: float = 0.2,
    samples: int = 128,
    seed: int = 0,
    fold: bool = True,
) -> Float[Tensor, " batch"]:
    """Spearman's rank correlation of the map's sum over random cells of a grid with what the score loses without them; higher is better.

    The arguments are those of `faithfulness_correlation`, which also says when the result is NaN, but for these:

    Args:
        grid: Cells in each row and column.
        share: The share of cells in a set: round(share * grid * grid), the same number in each set.
        samples: Sets, and forwards for each image; at least 3.

    Raises:
        InputError: a map with NaN, fewer than 3 samples, or images smaller than the grid.
        ShapeError: a map of another size.

    Reference: Bhatt et al. 2020, arXiv:2005.00631, definition 3; ranks, cells and numbers as Picard et al. 2025, arXiv:2512.11433, used it.
    """
    check_whole("samples", samples, LEAST_SETS)
    sets = RandomCells(grid, share, samples, seed)
    return _removals(score, inputs, saliency, baseline, sets, fold=fold).spearman(saliency)


def sensitivity_n(
    score: AnyScore,
    inputs: Images,
    saliency: Tensor | Attribution,
    *,
    baseline: Baseline,
    counts: Sequence[int] | None = None,
    samples: int = 100,
    seed: int = 0,
    fold: bool = True,
) -> SensitivityN:
    """Pearson's correlation of the map's sum over random sets of n pixels with what removing them costs, for several n; higher is better.

    A map that is right for every set has 1 at every n; a map of exact shares of an additive score is. The arguments are those of
    `faithfulness_correlation`, but for these:

    Args:
        counts: The numbers n; by default up to 10 of them from 1 to 80 % of the pixels, in equal ratios.
        samples: Sets for each n, and so many forwards for each n and image; at least 3. The sets of one seed are nested: the first n
            pixels of the same random orders.

    Raises:
        InputError: a map with NaN, fewer than 3 samples, or an n that is not between 1 and all but one pixel.
        ShapeError: a map of another size.

    Reference: Ancona et al. 2018, arXiv:1711.06104.
    """
    check_batch("inputs", inputs)
    check_images("inputs", inputs)
    check_whole("samples", samples, LEAST_SETS)
    height, width = inputs.shape[2:]
    chosen = _default_counts(height * width) if counts is None else list(counts)
    if not chosen:
        raise InputError("counts must hold at least one number of pixels, got none.")
    removed = torch.cat([RandomPixels(n, samples, seed)(height, width) for n in chosen])
    found = _removals(score, inputs, saliency, baseline, GivenSets(removed), fold=fold)
    sums, drops = (each.view(len(inputs), len(chosen), -1) for each in (found.sums(saliency), found.drops))
    unmoved = torch.stack([~moves(drops[:, k], found.score) for k in range(len(chosen))], 1)
    return SensitivityN(
        counts=torch.tensor(chosen),
        correlation=pearson(sums, drops).to(drops).masked_fill(unmoved, torch.nan),
    )


def infidelity(
    score: AnyScore,
    inputs: Images,
    saliency: Tensor | Attribution,
    *,
    baseline: Baseline,
    sets: PixelSets,
    rescaled: bool = False,
    fold: bool = True,
) -> Float[Tensor, " batch"]:
    """How far the map's sum over sets of pixels is from what the score loses without them, squared; lower is better.

    Formula: mean over sets S of (sum over S of a - (f(x) - f(x with S replaced by the baseline)))^2

    It is the published E[(I a - (f(x) - f(x - I)))^2] for shares, where I says which pixels are removed. For rates multiply them first
    with what is removed, `(rates * (inputs - baseline(inputs))).sum(1)`; or see `noise_infidelity`.

    Args:
        score: `cp.logit(...)` and its like, or a callable (rows, ...) -> (rows,).
        inputs: Images with pixels in [0, 1]; never changed.
        saliency: Shares, (batch, height, width); or an Attribution, whose heat map is taken.
        baseline: What removed pixels become.
        sets: Which are removed together: `cp.metrics.RandomSquares(side)`, `RandomPixels`, `RandomCells` or `GivenSets`.
        rescaled: Multiply each map with the one number that makes this least, so that maps in other units can be compared.
        fold: Run on an equal, faster copy of the model where that pays; see `cp.metrics.removals`, which also says what else is raised.

    Returns:
        (batch,), in squared units of the score, 0 for the exact shares of a score that is additive in its pixels.

    Raises:
        InputError: a map with NaN, or an Attribution whose values are no shares, without `rescaled`.
        ShapeError: a map of another size.

    Reference: Yeh et al. 2019, arXiv:1901.09392; the best scale is that of the authors' published code.
    """
    check_claim("shares", saliency, rescaled=rescaled)
    found = _removals(score, inputs, saliency, baseline, sets, fold=fold)
    return found.infidelity(saliency, rescaled=rescaled)


def _default_counts(pixels: int) -> list[int]:
    most = max(1, math.floor(_MOST * pixels))
    return sorted({round(most ** (k / (_COUNTS - 1))) for k in range(_COUNTS)})


def _removals(
    score: AnyScore,
    inputs: Images,
    saliency: Tensor | Attribution,
    baseline: Baseline,
    sets: PixelSets,
    *,
    fold: bool,
) -> Removals:
    """`removals`, with the map looked at first: a wrong one must not be found after the long work."""
    check_batch("inputs", inputs)
    check_images("inputs", inputs)
    check_saliency("saliency", saliency, inputs)
    return removals(score, inputs, baseline=baseline, sets=sets, fold=fold)
