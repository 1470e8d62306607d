"""Global sensitivity analysis of the score: how much of what it does under random masks is due to each cell."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from counterpoint.checks import check_range
from counterpoint.comparison import Comparison
from counterpoint.errors import InputError
from counterpoint.methods.arithmetic import exact
from counterpoint.methods.coalitions import masked_scores, on_channels
from counterpoint.methods.regions import Grid, labels_of
from counterpoint.protocols import Claim, Level, Outcome


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
        designs: Rows of A and of B, a power of two; the forwards are designs * (cells^2 + 2).
        seed: Of the scrambled Sobol sequence, which is the same for every image.

    Raises:
        ShapeError: the inputs are no images.

    Reference: Fel et al. 2021, arXiv:2111.04138; estimator: Jansen 1999, doi:10.1016/S0010-4655(98)00154-4.
    """

    cells: int = 8
    designs: int = 32
    seed: int = 0
    claim: ClassVar[Claim] = "importance"
    level: ClassVar[Level] = "input"
    version: ClassVar[int] = 1
    fills: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_range("cells", self.cells, 1, 100)  # scipy's Sobol sequences end at 21201 dimensions
        check_range("designs", self.designs, 2)
        if self.designs & (self.designs - 1):
            raise InputError(f"designs must be a power of two, as Sobol sequences come, got {self.designs}.")

    def __call__(self, comparison: Comparison) -> Outcome:
        """designs * (cells^2 + 2) forwards for each image."""
        labels = labels_of(Grid(self.cells), comparison.inputs)[0]
        cells, n = int(labels.max()) + 1, self.designs
        designs = self._designs(cells)
        first, second = designs[:, :cells], designs[:, cells:]

        def masked(numbers: range, image: Tensor) -> Tensor:
            # A, then B, then for each cell A with its column of B.
            number = torch.tensor(numbers)
            amounts = torch.where((number // n == 1)[:, None], second[number % n], first[number % n])
            swapped = torch.arange(cells) == (number // n - 2)[:, None]
            amounts = torch.where(swapped, second[number % n], amounts)
            return comparison.blended(amounts.to(exact(comparison.end))[:, labels], image)

        scores = masked_scores(comparison, masked, n * (cells + 2), "sobol").view(-1, cells + 2, n)
        squares = (scores[:, :1] - scores[:, 2:]).square() / 2
        variance = scores[:, :2].flatten(1).var(1)[:, None]
        still = variance == 0
        index = torch.where(still, 0.0, squares.mean(2) / variance)
        error = torch.where(still, 0.0, (squares.var(2) / n).sqrt() / variance)
        values, errors = (
            on_channels(each.to(exact(comparison.end))[:, labels], comparison) for each in (index, error)
        )
        return Outcome(values=values, standard_error=errors)

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
        designs: How many masks, an even number; each cell is there in half of them. The square of it is held in memory.
        seed: Of the masks, which are the same for every image.

    Raises:
        ShapeError: the inputs are no images.

    Reference: Novello et al. 2022, arXiv:2206.06219.
    """

    cells: int = 8
    designs: int = 1000
    seed: int = 0
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

    def __call__(self, comparison: Comparison) -> Outcome:
        """`designs` forwards for each image."""
        labels = labels_of(Grid(self.cells), comparison.inputs)[0]
        cells, n = int(labels.max()) + 1, self.designs
        generator = torch.Generator().manual_seed(self.seed)
        # A Latin hypercube of two levels: of every cell exactly half of the masks keep it.
        ranks = torch.rand(n, cells, generator=generator, dtype=torch.float64).argsort(0).argsort(0)
        present = ranks < n // 2

        def masked(numbers: range, image: Tensor) -> Tensor:
            rows = present[numbers.start : numbers.stop].to(image.device)
            return comparison.filled(~rows[:, labels], image)

        scores = masked_scores(comparison, masked, n, "hsic")
        # K = 2 u u' with u = z - 1/2, whose mean is 0: the trace is then a quadratic form.
        u = present.double() - 0.5
        found, errors, unused = [], [], []
        for each in scores:
            kernel = _output_kernel(each)
            kernel -= kernel.mean(
                0
            )  # H from the left; from the right it does nothing, as columns of u sum to 0
            terms = 2 * u * (kernel @ u) / n  # (designs, cells); their mean is the estimate
            found.append(terms.mean(0))
            errors.append(2 * terms.std(0) / n**0.5)
            unused.append(kernel.trace() / 2 / n / (n - 1))
        values, error = (
            on_channels(torch.stack(each).to(exact(comparison.end))[:, labels], comparison)
            for each in (found, errors)
        )
        return Outcome(
            values=values,
            standard_error=error,
            extras={"unused": torch.stack(unused).to(comparison.score)},
        )


def _output_kernel(scores: Float[Tensor, " designs"]) -> Float[Tensor, "designs designs"]:
    distance = (scores[:, None] - scores).abs()
    width = torch.nn.functional.pdist(scores[:, None]).median()
    # Where most scores are equal the median is 0, and the kernel's limit says which are.
    return torch.where(width > 0, torch.exp(-0.5 * (distance / width).square()), (distance == 0).double())
