"""Path methods: gradients gathered on the way from the baseline to the input."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from counterpoint import progress
from counterpoint.checks import check_range
from counterpoint.comparison import Comparison
from counterpoint.errors import InputError
from counterpoint.protocols import Claim, Level, Outcome
from counterpoint.quadrature import Rule

DEFAULT_TOLERANCE = 0.01


@dataclass(frozen=True)
class IntegratedGradients:
    """TODO"""

    tolerance: float | None = None
    rule: Rule | None = None
    budget: int = 256
    claim: ClassVar[Claim] = "shares"
    level: ClassVar[Level] = "any"
    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if self.tolerance is not None and self.rule is not None:
            raise InputError("give tolerance or rule, not both: a rule has a fixed number of nodes.")
        if self.tolerance is not None:
            check_range("tolerance", self.tolerance, 0.0, open_low=True)

    def __call__(self, comparison: Comparison) -> Outcome:
        rule = self.rule
        assert rule is not None
        end, start = comparison.end, comparison.start
        exact = torch.promote_types(end.dtype, torch.float32)
        sums = torch.zeros(end.shape, dtype=exact, device=end.device)
        places = torch.tensor(rule.nodes.places, dtype=torch.float64)
        weights = torch.tensor(rule.nodes.weights, dtype=torch.float64)
        total, done = len(end) * len(places), 0
        while done < total:
            row = torch.arange(done, min(total, done + comparison.micro.rows))
            image, node = (row // len(places)).to(end.device), row % len(places)
            gradients = comparison.gradients(_points(comparison, places[node], image), image)
            weight = weights[node].to(sums).view(-1, *[1] * (end.ndim - 1))
            sums.index_add_(0, image, weight * gradients)
            done += len(row)
            progress.advance(done, total, "integrated_gradients")
        return Outcome(values=(end.to(exact) - start.to(exact)) * sums)


def _points(comparison, places, image):
    start, end = comparison.start[image], comparison.end[image]
    place = places.to(end).view(-1, *[1] * (end.ndim - 1))
    return start + place * (end - start)
