"""What a baseline audit found: paper B's two demands on every baseline, per image, with intervals."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from counterpoint.audit.measures import REMOVALS
from counterpoint.audit.statistics import (
    Resampling,
    correlation,
    dominates,
    interval,
    line,
    mean_over_images,
    on_front,
)


@dataclass(frozen=True, kw_only=True, eq=False)
class BaselineAudit:
    """Every measure of every baseline on every image; made by `audit_baselines`. Means and intervals come last."""

    names: tuple[str, ...]
    """The baselines, as the command line takes them."""
    images: tuple[str, ...]
    numbers: Mapping[str, Float[Tensor, "baselines images"]]
    """Name of the measure -> numbers."""
    facts: Mapping[str, Any]
    """What was asked: model, bank, map, steps."""
    resamples: int = 2000
    seed: int = 0

    @cached_property
    def _resampling(self) -> Resampling:
        return Resampling.of(len(self.images), resamples=self.resamples, seed=self.seed)

    def means(self, measure: str) -> Float[Tensor, " baselines"]:
        """The mean over images."""
        return mean_over_images(self.numbers[measure])

    def resampled(self, measure: str) -> Float[Tensor, "resamples baselines"]:
        """The means over the images of each bootstrap resample; the same resamples for every measure."""
        return self._resampling.means(self.numbers[measure])

    def intervals(self, measure: str) -> Float[Tensor, "ends baselines"]:
        """The 95 % bootstrap interval of each mean."""
        return interval(self.resampled(measure))

    def front(self, removal: str) -> Float[Tensor, " baselines"]:
        """How often, over the resamples, no other baseline is better both at staying in distribution and at removing information."""
        goods = torch.stack([-self.resampled("excess"), self.resampled(removal)])
        return on_front(goods).double().mean(0)

    @cached_property
    def dominated(self) -> Bool[Tensor, "baselines baselines"]:
        """[i, j]: i is better than j at both demands, paired 95 %, under at least two of the three removal scores."""
        inside = -self.resampled("excess")
        holds = torch.stack([dominates(torch.stack([inside, self.resampled(name)])) for name in REMOVALS])
        return holds.sum(0) >= 2

    @property
    def undominated(self) -> tuple[str, ...]:
        """The baselines that no other one dominates."""
        beaten = self.dominated.any(0)
        return tuple(name for name, lost in zip(self.names, beaten.tolist(), strict=True) if not lost)

    @cached_property
    def chosen(self) -> Float[Tensor, " baselines"]:
        """How often, over the resamples, each baseline is nearest to the ideal: best at both demands.

        Each demand is in units of its range over baselines, removal as the mean of the three scores. The rule is ours: a compromise that
        weighs both demands equally.
        """
        distance = _from_ideal(-self.resampled("excess"))
        removal = torch.stack([_from_ideal(self.resampled(name)) for name in REMOVALS]).mean(0)
        nearest = (distance.square() + removal.square()).argmin(1)
        return torch.bincount(nearest, minlength=len(self.names)).double() / len(nearest)

    def trade_off_line(self, removal: str) -> tuple[float, tuple[float, float], tuple[float, float] | None]:
        """Correlation over baselines of removal and excess, its 95 % interval, and slope and intercept of the line.

        The line is None where the interval of the correlation, found anew in every resample, includes 0: nothing is claimed about it then.
        """
        x, y = self.means("excess"), self.means(removal)
        r = float(correlation(x, y))
        low, high = interval(correlation(self.resampled("excess"), self.resampled(removal))).tolist()
        if low <= 0 <= high:
            return r, (low, high), None
        slope, intercept = line(x, y)
        return r, (low, high), (float(slope), float(intercept))


def _from_ideal(goods: Float[Tensor, "resamples baselines"]) -> Float[Tensor, "resamples baselines"]:
    """How far below the best of each resample, in units of the range over baselines."""
    best, worst = goods.amax(1, keepdim=True), goods.amin(1, keepdim=True)
    return (best - goods) / (best - worst).clamp_min(torch.finfo(goods.dtype).tiny)
