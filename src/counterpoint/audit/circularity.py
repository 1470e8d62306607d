"""Does an evaluation favour the maps that were made against its own baseline?"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from counterpoint.audit.statistics import Resampling, interval, mean_over_images


@dataclass(frozen=True, kw_only=True, eq=False)
class Circularity:
    """The attribution-baseline x evaluation-baseline matrix of one method, and what it gains from being judged by its own baseline.

    For a linear score it cannot be negative: integrated gradients against b put pixels in the best order under b.
    """

    method: str
    against: tuple[str, ...]
    """What the maps were made against: the rows."""
    baselines: tuple[str, ...]
    """What removed pixels became: the columns."""
    areas: Float[Tensor, "against baselines"]
    """Mean areas over images; higher is better."""
    gain: float
    """Over pairs of baselines on both sides: the mean area of the two maps each under its own minus each under the other's, halved.

    Positive: an evaluation favours its own baseline. NaN where fewer than two baselines are on both sides.
    """
    gain_interval: tuple[float, float]
    """95 %, paired over images."""

    @classmethod
    def of(
        cls,
        method: str,
        against: tuple[str, ...],
        baselines: tuple[str, ...],
        areas: Float[Tensor, "against baselines images"],
        resampling: Resampling,
    ) -> "Circularity":
        """From areas per image."""
        shared = [name for name in against if name in baselines]
        rows = [against.index(name) for name in shared]
        columns = [baselines.index(name) for name in shared]
        # (image, row, column) -> for each pair (i, j) of shared baselines (a_ii + a_jj - a_ij - a_ji) / 2, averaged over pairs.
        square = areas[rows][:, columns].permute(2, 0, 1)
        n = len(shared)
        own = square.diagonal(dim1=1, dim2=2).sum(1)
        other = square.sum((1, 2)) - own
        gains = own / n - other / (n * (n - 1)) if n > 1 else torch.full_like(own, torch.nan)
        low, high = interval(resampling.means(gains)).tolist() if n > 1 else (torch.nan, torch.nan)
        return cls(
            method=method,
            against=against,
            baselines=baselines,
            areas=mean_over_images(areas),
            gain=float(gains.mean()),
            gain_interval=(low, high),
        )
