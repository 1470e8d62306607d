"""Global sensitivity analysis of the score: how much of what it does under random masks is due to each cell."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from counterpoint import progress
from counterpoint.checks import check_range
from counterpoint.comparison import Comparison
from counterpoint.errors import InputError
from counterpoint.methods.arithmetic import exact
from counterpoint.methods.coalitions import expected_error, masked_scores, on_channels
from counterpoint.methods.regions import Grid, labels_of
from counterpoint.protocols import Claim, Level, Outcome

# Designs of the first look at the precision of Sobol indices, and masks between two looks at that of HSIC.
_FEWEST = 8
_BLOCK = 100


@dataclass(frozen=True)
class Sobol:
    """The share of the score's variance under random masks that is due to a cell, alone or with others: its total Sobol index.

    Formula: m(cell) = mean over designs of (f(A) - f(A with the cell's column of B))^2 / (2 variance of f),
    A, B: masks that keep each cell by an amount drawn from [0, 1], m x + (1 - m) x' (Jansen's estimator)

    Values: (batch, channel, height, width), not negative, without a unit; a cell's index on all of its pixels, shared by the channels: an
    importance. It has no sign: a cell that lowers the score counts as one that raises it. Indices sum to 1 for a score that is a sum over
    cells, and to more where cells interact; all are 0 where the score does not change. The variance is that over A and B together. The
    standard error is that of independent designs, an upper estimate, as a Sobol sequence is spread more evenly; it leaves the
    variance's own error out.

    Parameters:
        cells: Cells along each side of the grid; at most one a pixel.
        designs: Rows of A and of B, at most, a power of two; the forwards are designs * (cells^2 + 2).
        seed: Of the scrambled Sobol sequence, which is the same for every image.
        precision: Stop where the expected relative L1 error of the map, looked at after 8, 16, 32, ... designs, is this small; None takes
            all designs.

    Raises:
        ShapeError: the inputs are no images.

    Reference: Fel et al. 2021, arXiv:2111.04138; estimator: Jansen 1999, doi:10.1016/S0010-4655(98)00154-4.
    """

    cells: int = 8
    designs: int = 32
    seed: int = 0
    precision: float | None = None
    claim: ClassVar[Claim] = "importance"
    level: ClassVar[Level] = "input"
    version: ClassVar[int] = 1
    fills: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_range("cells", self.cells, 1, 100)  # scipy's Sobol sequences end at 21201 dimensions
        check_range("designs", self.designs, 2)
        if self.designs & (self.designs - 1):
            raise InputError(f"designs must be a power of two, as Sobol sequences come, got {self.designs}.")
        _check_precision(self.precision)

    def __call__(self, comparison: Comparison) -> Outcome:
        """At most designs * (cells^2 + 2) forwards for each image."""
        labels = labels_of(Grid(self.cells), comparison.inputs)[0]
        cells, n = int(labels.max()) + 1, self.designs
        designs = self._designs(cells)
        first, second = designs[:, :cells], designs[:, cells:]

        def masked(numbers: range, image: Tensor) -> Tensor:
            # Of each design A, then B, then for each cell A with its column of B.
            number = torch.tensor(numbers)
            design, column = number // (cells + 2), (number % (cells + 2))[:, None]
            from_second = (column == 1) | (torch.arange(cells) == column - 2)
            amounts = torch.where(from_second, second[design], first[design])
            return comparison.blended(amounts.to(exact(comparison.end))[:, labels], image)

        def indices(scores: Tensor) -> _Found:
            # (designs, A and B and one for each cell)
            of_designs = scores.view(-1, cells + 2)
            squares = (of_designs[:, :1] - of_designs[:, 2:]).square() / 2
            variance = of_designs[:, :2].var()
            error = (squares.var(0) / len(squares)).sqrt()
            still = torch.zeros(cells, dtype=torch.float64)
            if variance == 0:
                return _Found(still, still, still.sum())
            return _Found(squares.mean(0) / variance, error / variance, still.sum())

        rounds = [count * (cells + 2) for count in _doubled(min(_FEWEST, n), n)]
        return _outcome(comparison, labels, masked, rounds, indices, self.precision, "sobol")

    def _designs(self, cells: int) -> Float[Tensor, "designs columns"]:
        """A and B side by side, in [0, 1)."""
        import numpy as np
        from scipy.stats import qmc

        sequence = qmc.Sobol(2 * cells, scramble=True, seed=np.random.default_rng(self.seed))
        return torch.from_numpy(sequence.random_base2(self.designs.bit_length() - 1))


@dataclass(frozen=True)
class HSIC:
    """How much the score under random masks depends on whether a cell is there, in whatever way it depends.

    Formula: m(cell) = trace(K H L H) / designs^2, H = I - 1/designs, K_ij = 1/2 - (z_i - z_j)^2 of the cell's masks z in {0, 1},
    L_ij = exp(-(f_i - f_j)^2 / (2 s^2)), s the median of |f_i - f_j| over pairs

    Values: (batch, channel, height, width), not negative, without a unit; a cell's number on all of its pixels, shared by the channels: an
    importance. It has no sign: a cell that lowers the score counts as one that raises it. A cell on which nothing depends has not 0
    but, on average, `extras["unused"]`, (batch,): the estimate is biased upwards by that. The standard error is of first order, and
    too small for cells near that number.

    Parameters:
        cells: Cells along each side of the grid; at most one a pixel.
        designs: How many masks, at most, an even number; each cell is there in half of every 100. Their square is held in memory.
        seed: Of the masks, which are the same for every image.
        precision: Stop where the expected relative L1 error of the map above `unused`, looked at after every 100 masks, is this small; None
            takes all masks.

    Raises:
        ShapeError: the inputs are no images.

    Reference: Novello et al. 2022, arXiv:2206.06219.
    """

    cells: int = 8
    designs: int = 1000
    seed: int = 0
    precision: float | None = None
    claim: ClassVar[Claim] = "importance"
    level: ClassVar[Level] = "input"
    version: ClassVar[int] = 1
    fills: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_range("cells", self.cells, 1)
        check_range("designs", self.designs, 4, 20_000)
        if self.designs % 2:
            raise InputError(
                f"designs must be even, so that each cell is there in half of them, got {self.designs}."
            )
        _check_precision(self.precision)

    def __call__(self, comparison: Comparison) -> Outcome:
        """At most `designs` forwards for each image."""
        labels = labels_of(Grid(self.cells), comparison.inputs)[0]
        cells, n = int(labels.max()) + 1, self.designs
        generator = torch.Generator().manual_seed(self.seed)
        # Latin hypercubes of two levels: of every cell exactly half of the masks of a block keep it.
        sizes = [min(_BLOCK, n - first) for first in range(0, n, _BLOCK)]
        ranks = [
            torch.rand(size, cells, generator=generator, dtype=torch.float64).argsort(0).argsort(0)
            < size // 2
            for size in sizes
        ]
        present = torch.cat(ranks)

        def masked(numbers: range, image: Tensor) -> Tensor:
            rows = present[numbers.start : numbers.stop].to(image.device)
            return comparison.filled(~rows[:, labels], image)

        def dependence(scores: Tensor) -> _Found:
            # K = 2 u u' with u = z - 1/2, whose mean is 0: the trace is then a quadratic form.
            u, count = present[: len(scores)].double() - 0.5, len(scores)
            kernel = _output_kernel(scores)
            # H from the left; from the right it does nothing, as columns of u sum to 0.
            kernel -= kernel.mean(0)
            terms = 2 * u * (kernel @ u) / count  # (designs, cells); their mean is the estimate
            unused = kernel.trace() / 2 / count / (count - 1)
            return _Found(terms.mean(0), 2 * terms.std(0) / count**0.5, unused)

        rounds = [sum(sizes[: k + 1]) for k in range(len(sizes))]
        return _outcome(
            comparison, labels, masked, rounds, dependence, self.precision, "hsic", extra="unused"
        )


@dataclass(frozen=True, eq=False)
class _Found:
    """What some of the scores say of each cell."""

    numbers: Float[Tensor, " cells"]
    standard_error: Float[Tensor, " cells"]
    level: Float[Tensor, ""]
    """What a cell that does nothing has."""


def _outcome(
    comparison: Comparison,
    labels: Int[Tensor, " *space"],
    masked: Callable[[range, Tensor], Tensor],
    rounds: Sequence[int],
    estimate: Callable[[Tensor], _Found],
    precision: float | None,
    name: str,
    extra: str = "",
) -> Outcome:
    """Score each image in rounds until its map is precise enough, and put the cells' numbers back on pixels.

    Args:
        labels: The cell of each pixel.
        masked: Makes the inputs under the masks with some numbers.
        rounds: How many masks there are after each round.
        estimate: What a round's scores say.
        precision: The expected relative error at which an image has enough; None for all rounds.
        name: Shown with the progress.
        extra: Under which name to report the level, if any.
    """
    batch, found, errors = len(comparison.inputs), [], []
    for i in range(batch):
        scores = torch.empty(0, dtype=torch.float64)
        for count in [rounds[-1]] if precision is None else rounds:
            with progress.stage(i + len(scores) / rounds[-1], i + count / rounds[-1], batch, name):
                scores = torch.cat([scores, masked_scores(comparison, masked, i, range(len(scores), count))])
            now = estimate(scores)
            error = expected_error(now.standard_error, now.numbers - now.level)
            if precision is not None and error <= precision:
                break
        found.append(now)
        errors.append(error)
    value_error = torch.stack(errors).to(comparison.score)
    like = exact(comparison.end)
    values, standard_error = (
        on_channels(torch.stack(each).to(like)[:, labels], comparison)
        for each in ([f.numbers for f in found], [f.standard_error for f in found])
    )
    return Outcome(
        values=values,
        standard_error=standard_error,
        value_error=value_error,
        converged=None if precision is None else value_error <= precision,
        extras={extra: torch.stack([f.level for f in found]).to(comparison.score)} if extra else {},
    )


def _doubled(first: int, last: int) -> list[int]:
    """first, twice that, ... last."""
    return [first << k for k in range((last // first).bit_length())]


def _check_precision(precision: float | None) -> None:
    if precision is not None:
        check_range("precision", precision, 0.0, open_low=True)


def _output_kernel(scores: Float[Tensor, " designs"]) -> Float[Tensor, "designs designs"]:
    distance = (scores[:, None] - scores).abs()
    width = torch.nn.functional.pdist(scores[:, None]).median()
    # Where most scores are equal the median is 0, and the kernel's limit says which are.
    return torch.where(width > 0, torch.exp(-0.5 * (distance / width).square()), (distance == 0).double())
