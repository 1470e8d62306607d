"""Activation deviation as a result: everything is kept per image, activation and fraction, means come last."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from counterpoint.errors import InputError, UnknownNameError
from counterpoint.metrics.curve_table import KINDS, Kind
from counterpoint.protocols import Baseline

MEASURES = ("total", "excess", "seam_free_excess", "seams", "disinhibition")
"""What is measured of an activation; see `Deviations`."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Deviations:
    """How far the activations of perturbed images are from those of the original, in each image, activation and fraction.

    x is the original, b its baseline, v the perturbed image, h_i the output of unit i, g_i the gradient of the score with respect to it at
    x; sums and norms are over the units of one activation. NaN where what is divided by is 0.
    """

    total: Float[Tensor, "batch layers fractions"]
    """|h(v) - h(x)| / |h(x)| in L2. What is missing counts too, and some must be missing where pixels are."""
    excess: Float[Tensor, "batch layers fractions"]
    """sum of what lies outside the interval between 0 and h_i(x), over sum |h_i(x)|: units more active than in the original."""
    seams: Float[Tensor, "batch layers fractions"]
    """The part of `excess` outside the intervals of x and of b alike: activity that neither has, as at the edges of a mask. On ReLU,
    sum max(0, h_i(v) - max(h_i(x), h_i(b))) / sum |h_i(x)|. NaN for a baseline that only fills."""
    disinhibition: Float[Tensor, "batch layers fractions"]
    """sum max(0, -g_i) max(0, h_i(x) - h_i(v)) / sum |g_i h_i(x)|: less of what speaks against the class, which no excess shows."""

    @property
    def seam_free_excess(self) -> Float[Tensor, "batch layers fractions"]:
        """`excess` - `seams`: what the baseline brings along."""
        return self.excess - self.seams

    def of(self, measure: str) -> Float[Tensor, "batch layers fractions"]:
        """One of MEASURES, by its name.

        Raises:
            UnknownNameError: no such measure.
        """
        if measure not in MEASURES:
            raise UnknownNameError.among("measure", str(measure), MEASURES)
        found: Tensor = getattr(self, measure)
        return found

    def mean(self, measure: str) -> Float[Tensor, " batch"]:
        """The mean over activations and fractions, for each image."""
        return self.of(measure).mean((1, 2))


@dataclass(frozen=True, kw_only=True, eq=False)
class ActivationDeviation:
    """The deviations along the insertion and deletion path of a map, and those of random masks; made by `activation_deviation`."""

    baseline: Baseline
    """As it was used."""
    layers: tuple[str, ...]
    """The names of the activations, in the order in which they run."""
    fractions: Float[Tensor, " fractions"]
    """The share of pixels kept (insertion) or removed (deletion): exact counts over the number of pixels."""
    paths: Mapping[Kind, Deviations]
    """Of the map."""
    floors: Mapping[Kind, tuple[Deviations, ...]]
    """Of each random mask: what any mask of these areas costs."""
    tied: Float[Tensor, " batch"]
    """The share of pixels whose place in the order was drawn, because another pixel has the same value."""
    forward_evaluations: Int[Tensor, " batch"]
    gradient_evaluations: Int[Tensor, " batch"]

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """Of paths."""
        return tuple(self.paths)

    def values(
        self, measure: str, kind: str = "insertion", *, floor: bool = False
    ) -> Float[Tensor, "batch layers fractions"]:
        """One measure on one kind of path.

        Args:
            measure: One of "total", "excess", "seam_free_excess", "seams", "disinhibition".
            kind: "insertion" or "deletion".
            floor: Of the random masks, their mean, instead of the map.

        Raises:
            UnknownNameError: no such measure, or no such kind here.
            InputError: there are no random masks.
        """
        if kind not in self.paths:
            raise UnknownNameError.among("kind of path", str(kind), self.paths)
        chosen = KINDS[KINDS.index(kind)]
        if not floor:
            return self.paths[chosen].of(measure)
        if not self.floors[chosen]:
            raise InputError("there is no floor: floor was 0, no random masks.")
        return torch.stack([each.of(measure) for each in self.floors[chosen]]).mean(0)

    def mean(self, measure: str, kind: str = "insertion", *, floor: bool = False) -> Float[Tensor, " batch"]:
        """The mean of `values` over activations and fractions, for each image."""
        return self.values(measure, kind, floor=floor).mean((1, 2))

    def above_floor(self, measure: str, kind: str = "insertion") -> Float[Tensor, " batch"]:
        """`mean` minus that of the random masks; negative where the map's masks deviate less than random ones do."""
        return self.mean(measure, kind) - self.mean(measure, kind, floor=True)
