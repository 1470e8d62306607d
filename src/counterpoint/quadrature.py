"""Quadrature on [0, 1]: where on the path gradients are taken, and with which weights.

A rule proves when it is built that its weights sum to 1. One whose weights do not makes every explanation wrong by
the same factor, and nothing shows it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from counterpoint.checks import check_range
from counterpoint.errors import InputError


@dataclass(frozen=True)
class Nodes:
    """Places on [0, 1], rising, and how much each counts.

    Raises:
        InputError: the weights do not sum to 1, a place lies outside [0, 1], or there is another number of each.
    """

    places: tuple[float, ...]
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.places) != len(self.weights) or not self.places:
            raise InputError(
                f"a rule needs a weight for each node, got {len(self.weights)} for {len(self.places)}."
            )
        if not math.isclose(total := math.fsum(self.weights), 1.0, rel_tol=1e-12):
            raise InputError(f"quadrature weights must sum to 1, got {total:.6g}.")
        if not 0.0 <= min(self.places) <= max(self.places) <= 1.0:
            raise InputError(
                f"quadrature nodes must lie in [0, 1], got {min(self.places):g} to {max(self.places):g}."
            )


@dataclass(frozen=True)
class GaussLegendre:
    """n nodes at the roots of the Legendre polynomial: exact for polynomials up to degree 2n - 1.

    The best fixed rule for smooth scores; on networks with kinks (ReLU) no better than the others.
    """

    n: int
    nodes: Nodes = field(init=False, repr=False, compare=False)
    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_range("n", self.n, 1)
        roots, weights = np.polynomial.legendre.leggauss(self.n)
        _settle(self, (roots + 1.0) / 2.0, weights / math.fsum(weights))


@dataclass(frozen=True)
class Trapezoid:
    """n equally spaced nodes from 0 to 1, the two ends with half weight: error O(1/n^2) for smooth scores."""

    n: int
    nodes: Nodes = field(init=False, repr=False, compare=False)
    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_range("n", self.n, 2)
        weights = np.full(self.n, 1.0 / (self.n - 1))
        weights[[0, -1]] /= 2.0
        _settle(self, np.linspace(0.0, 1.0, self.n), weights)


@dataclass(frozen=True)
class Midpoint:
    """The middles of n equal pieces: error O(1/n^2) for smooth scores."""

    n: int
    nodes: Nodes = field(init=False, repr=False, compare=False)
    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_range("n", self.n, 1)
        _settle(self, (np.arange(self.n) + 0.5) / self.n, np.full(self.n, 1.0 / self.n))


@dataclass(frozen=True)
class Left:
    """The left ends of n equal pieces, the baseline's first: error O(1/n)."""

    n: int
    nodes: Nodes = field(init=False, repr=False, compare=False)
    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_range("n", self.n, 1)
        _settle(self, np.arange(self.n) / self.n, np.full(self.n, 1.0 / self.n))


@dataclass(frozen=True)
class Right:
    """The right ends of n equal pieces, the input's last: error O(1/n)."""

    n: int
    nodes: Nodes = field(init=False, repr=False, compare=False)
    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_range("n", self.n, 1)
        _settle(self, np.arange(1, self.n + 1) / self.n, np.full(self.n, 1.0 / self.n))


Rule = GaussLegendre | Trapezoid | Midpoint | Left | Right

RULES: dict[str, Callable[..., Rule]] = {
    "gauss_legendre": GaussLegendre,
    "trapezoid": Trapezoid,
    "midpoint": Midpoint,
    "left": Left,
    "right": Right,
}


def _settle(rule: Rule, places: "np.ndarray", weights: "np.ndarray") -> None:
    # A frozen dataclass is filled in once, while it is built.
    nodes = Nodes(tuple(float(p) for p in places), tuple(float(w) for w in weights))
    object.__setattr__(rule, "nodes", nodes)
