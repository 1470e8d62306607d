"""Out of distribution: how far an image is from real ones while its pixels are removed, as a result."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from counterpoint.metrics.bank import Bank
from counterpoint.metrics.neighbours import kth_distance
from counterpoint.protocols import Baseline

_LIMIT = 0.95


@dataclass(frozen=True, kw_only=True, eq=False)
class OutOfDistribution:
    """Distances from real images along a path; in all numbers higher is further out of the distribution, which is worse."""

    baseline: Baseline
    """As it was used."""
    kind: Literal["deletion", "insertion"]
    fractions: Float[Tensor, " points"]
    """The share of pixels removed (deletion) or brought back (insertion): exact counts over the number of pixels."""
    distances: Float[Tensor, "batch points"]
    """To the k-th nearest feature of another photograph, in units of the features."""
    clean_distances: Float[Tensor, " batch"]
    """The same of the unperturbed image, d(x_0)."""
    real_distances: Float[Tensor, " photographs"]
    """The same of each whole image of the bank: what is usual among real images."""
    k: int
    normalise: bool
    """Whether features were scaled to length 1."""
    tied: Float[Tensor, " batch"]
    """The share of pixels whose place in the order was drawn, because another pixel has the same value."""

    @property
    def score(self) -> Float[Tensor, " batch"]:
        """As published, the mean distance over the points; higher is further out, which is worse."""
        return self.distances.mean(1)

    @property
    def spread(self) -> float:
        """The standard deviation of `real_distances`."""
        return float(self.real_distances.double().std())

    @property
    def limit(self) -> float:
        """The 95th percentile of `real_distances`."""
        return float(torch.quantile(self.real_distances.double(), _LIMIT))

    @property
    def excesses(self) -> Float[Tensor, "batch points"]:
        """(d(x_p) - d(x_0)) / spread: how much further out than the image itself; NaN where real images have no spread.

        Higher is worse; negative where a perturbed image is nearer to real ones than the image itself was.
        """
        spread = self.spread if self.spread > 0 else math.nan
        return (self.distances - self.clean_distances[:, None]) / spread

    @property
    def excess(self) -> Float[Tensor, " batch"]:
        """The mean of `excesses` over the points; higher is worse."""
        return self.excesses.mean(1)

    @property
    def beyond_limit(self) -> Bool[Tensor, "batch points"]:
        """Whether a point is further out than 95 % of real images are."""
        return self.distances > self.limit

    @property
    def beyond(self) -> Float[Tensor, " batch"]:
        """The share of the points that are further out than 95 % of real images; higher is worse."""
        return self.beyond_limit.to(self.distances).mean(1)


@dataclass(frozen=True, kw_only=True, eq=False)
class Distances:
    """The distance of each row's features from those of other photographs."""

    bank: Bank
    left_out: Bool[Tensor, "batch entries"]
    k: int
    normalise: bool

    def __call__(
        self, features: Float[Tensor, "rows features"], image: Int[Tensor, " rows"]
    ) -> Float[Tensor, " rows"]:
        """In float64; `image` says which image each row belongs to."""
        out = self.left_out[image]
        return kth_distance(features, self.bank.features, out, k=self.k, normalise=self.normalise)
