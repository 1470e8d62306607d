"""The integral of a gradient along a path, refined by halving its worst intervals until its error is known to be small.

The path is cut into intervals with a gradient at every cut; each interval is a trapezoid, so that a halving costs one gradient and
the score at every cut comes with it. Two things are then known of each interval:

- its gap: what its values miss of its own change of score, exactly;
- how far the gradients at its two ends differ. Along the path the gradient of a ReLU network behaves like a random walk: its
  change grows as the square root of the width h. Given both ends, the integral of a random walk scatters about the trapezoid
  with standard deviation h |G(b) - G(a)| / sqrt(12), and a single jump at an unknown place between them gives the same number.
  So neighbouring gradients are an error bar, and the intervals' bars, being independent, add in squares, coordinate by coordinate.

What no gradient shows cannot be refined: two jumps between the first cuts that cancel each other in the score stay unseen.

Scheme and error bar are ours. The criteria are the attribution error of Cui and Fan 2026, arXiv:2605.22417, taken apart.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

# From the standard deviation, width * difference / sqrt(12), to the mean absolute error of a nearly normal sum.
_ERROR_PER_DIFFERENCE = math.sqrt(2.0 / math.pi) / math.sqrt(12.0)
# How much the error bar of the values and the known gap count when the worst interval is sought. At first the map leads; gap alone
# would make it up to a quarter worse. Once the map is twice as good as was wanted, the sum leads, which is then what is waited for.
_MAP_LEADS, _SUM_LEADS = (1.0, 0.5), (0.25, 1.0)
_GOOD_MAP = 0.5
# A path whose score goes up and down by more than this many times the target is judged by its variation.
_RESTLESS = 3.0
_TOO_SMALL = 0.02


@dataclass(frozen=True)
class Wanted:
    """When to stop: all three errors small enough in two successive rounds, or the budget spent."""

    value_error: float = 0.1
    path_error: float = 0.1
    relative_error: float = 0.01
    budget: int = 256
    """Gradients, the first ones included."""
    first: int = 9
    """Equally spaced first cuts, both ends among them."""
    halved: int = 3
    """Intervals halved in a round. Few are better, since the criteria are looked at after every round."""
    pieces: int = 8
    """Neighbouring intervals are joined to this many pieces for the path error."""
    kept: int = 96
    """Gradients kept at most; beyond, the best intervals are closed and theirs let go, so that memory stays bounded."""


class Interval(NamedTuple):
    """A stretch of the path between two neighbouring cuts."""

    start: float
    end: float
    spread: float
    """|difference of the maps at its ends|_1, a map being gradient times way."""
    gap: float
    """Sum of its values minus its change of score."""
    change: float
    """Its change of score."""
    closed: bool = False

    @property
    def middle(self) -> float:
        """Halves of halves are exact in floating point."""
        return (self.start + self.end) / 2.0


@dataclass
class Refinement:
    """One integral over [0, 1]: ask for `places`, hand over what was found there with `add`, until `finished`."""

    wanted: Wanted
    floor: float = 0.0
    """|target| at or below this is too small to divide by."""
    velocity: Float[Tensor, " *features"] | None = None
    """x - x' on a straight path; None on a curved one, whose positions are handed to `add`."""

    values: Tensor = field(init=False)
    """The integral so far."""
    value_error: float = field(init=False, default=math.inf)
    """Estimate of |values - exact|_1 / |values|_1."""
    path_error: float = field(init=False, default=math.inf)
    """Sum over pieces of |gap| / |target|, or by the variation where that is much larger."""
    pieces: int = field(init=False, default=0)
    variation: float = field(init=False, default=0.0)
    """Sum over intervals of |change of score|."""
    converged: bool = field(init=False, default=False)
    gradients: int = field(init=False, default=0)
    places: list[float] = field(init=False)
    """Where gradients are wanted next, rising; empty when finished."""

    def __post_init__(self) -> None:
        last = self.wanted.first - 1
        self.places = [i / last for i in range(self.wanted.first)]
        self._score: dict[float, float] = {}
        self._gradient: dict[float, Tensor] = {}
        self._position: dict[float, Tensor] = {}
        self._intervals: list[Interval] = []
        self._squares: Tensor = torch.empty(0)
        self._held = 0

    @property
    def finished(self) -> bool:
        """Whether nothing more is wanted."""
        return not self.places

    def add(
        self,
        scores: Sequence[float],
        gradients: Float[Tensor, "places *features"],
        positions: Float[Tensor, "places *features"] | None = None,
    ) -> None:
        """Take in what was found at `places`, and say where to look next.

        Args:
            scores: The score at each place.
            gradients: The gradient of the score there.
            positions: Where on a curved path each place lies.
        """
        for k, (place, score) in enumerate(zip(self.places, scores, strict=True)):
            # Memory of their own, to be let go of one by one.
            self._score[place], self._gradient[place] = score, gradients[k].clone()
            if positions is not None:
                self._position[place] = positions[k].clone()
        self.gradients += len(self.places)
        if not self._intervals:
            self.values, self._squares = torch.zeros_like(gradients[0]), torch.zeros_like(gradients[0])
            self._intervals = [self._opened(a, b) for a, b in pairwise(self.places)]
        else:
            found_here = set(self.places)
            self._intervals = [
                new
                for old in self._intervals
                for new in (self._halved(old) if not old.closed and old.middle in found_here else (old,))
            ]
        size = float(self.values.abs().sum())
        scale = self._judge(size)
        self._close(size, scale)
        self.places = [] if self.converged else self._worst(size, scale)

    def _trapezoid(self, start: float, end: float) -> tuple[Tensor, Tensor]:
        """What the values of an interval are, and by how much they would change from its first gradient to its last."""
        if self.velocity is None:
            way = self._position[end] - self._position[start]
        else:
            way = self.velocity * (end - start)
        first, last = self._gradient[start], self._gradient[end]
        return way * (first + last) / 2.0, way * (last - first)

    def _opened(self, start: float, end: float) -> Interval:
        """The interval between two cuts, its trapezoid added to the integral."""
        change = self._score[end] - self._score[start]
        area, difference = self._trapezoid(start, end)
        self.values += area
        self._squares += difference**2
        return Interval(start, end, float(difference.abs().sum()), float(area.sum()) - change, change)

    def _halved(self, old: Interval) -> tuple[Interval, Interval]:
        """The two halves, the whole taken out of the integral again."""
        area, difference = self._trapezoid(old.start, old.end)
        self.values -= area
        self._squares -= difference**2
        return self._opened(old.start, old.middle), self._opened(old.middle, old.end)

    def _judge(self, size: float) -> float:
        """Measure the three errors; returns what the path error was divided by."""
        gaps = [interval.gap for interval in self._intervals]
        target = abs(self._score[1.0] - self._score[0.0])
        self.variation = math.fsum(abs(interval.change) for interval in self._intervals)
        self.pieces = min(self.wanted.pieces, len(gaps))
        cuts = [round(i * len(gaps) / self.pieces) for i in range(self.pieces + 1)]
        missed = math.fsum(abs(math.fsum(gaps[a:b])) for a, b in pairwise(cuts))
        scale = target if self.variation <= _RESTLESS * target else self.variation
        self.path_error = missed / scale if scale else 0.0
        spread = float(self._squares.clamp(min=0.0).sqrt().sum())
        self.value_error = _ERROR_PER_DIFFERENCE * spread / size if size else 0.0
        too_small = target <= max(self.floor, _TOO_SMALL * self.variation)
        met = (
            self.value_error <= self.wanted.value_error
            and self.path_error <= self.wanted.path_error
            and (too_small or abs(math.fsum(gaps)) <= self.wanted.relative_error * target)
        )
        # Once is often luck: the next round may find what no gradient had shown yet.
        self._held = self._held + 1 if met else 0
        self.converged = self._held >= 2
        return scale

    def _error(self, interval: Interval, size: float, scale: float) -> tuple[float, float]:
        """How bad an interval is: error bar and gap, both relative, in squares; where nothing is known the widest first.

        Halving cuts either to about a third (width ** 1.5), so that equal errors are also the best use of the gradients.
        """
        good = self.value_error <= _GOOD_MAP * self.wanted.value_error
        of_bar, of_gap = _SUM_LEADS if good else _MAP_LEADS
        bar = _ERROR_PER_DIFFERENCE * interval.spread / (size or 1.0)
        error = math.hypot(of_bar * bar, of_gap * interval.gap / (scale or 1.0))
        return error, interval.end - interval.start

    def _worst(self, size: float, scale: float) -> list[float]:
        room = min(self.wanted.halved, self.wanted.budget - self.gradients)
        # An interval too short to be halved in floating point stays as it is.
        open_ones = [i for i in self._intervals if not i.closed and i.start < i.middle < i.end]
        ranked = sorted(open_ones, key=lambda interval: self._error(interval, size, scale), reverse=True)
        return sorted(interval.middle for interval in ranked[: max(0, room)])

    def _close(self, size: float, scale: float) -> None:
        """Close the best intervals until few enough gradients are kept: one is needed while an open interval ends there."""
        ranked = sorted(
            (interval for interval in self._intervals if not interval.closed),
            key=lambda interval: self._error(interval, size, scale),
            reverse=True,
        )
        closed: set[Interval] = set()
        while (
            len(self._gradient) + self.wanted.halved > self.wanted.kept and len(ranked) > self.wanted.halved
        ):
            closed.add(ranked.pop())
            needed = {place for interval in ranked for place in (interval.start, interval.end)}
            self._gradient = {place: found for place, found in self._gradient.items() if place in needed}
            self._position = {place: found for place, found in self._position.items() if place in needed}
        self._intervals = [i._replace(closed=True) if i in closed else i for i in self._intervals]
