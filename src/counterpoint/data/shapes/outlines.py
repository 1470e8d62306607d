"""Outlines of things, each inside the unit circle around its centre: those of the classes, and those of decoys, which are no class.

Everywhere x and y are coordinates in units of the thing's radius, turned with it; what comes back is True inside. There is no smoothing:
a pixel belongs to a thing when its centre does, so that masks are exact.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Grid = NDArray[np.float64]
Mask = NDArray[np.bool_]
Outline = Callable[[Grid, Grid, np.random.Generator], Mask]
"""The generator is for outlines that vary; the others leave it alone."""

# Far enough from the neighbouring class at the smallest size, and each of about the area that the others have.
_HOLE = 0.55
_ARM = 0.3
_STAR_INNER = 0.45
_BAR = 0.34


def disc(x: Grid, y: Grid, rng: np.random.Generator) -> Mask:
    """The whole circle."""
    return np.hypot(x, y) <= 1


def ring(x: Grid, y: Grid, rng: np.random.Generator) -> Mask:
    """The circle with a round hole; what shines through the hole is no part of it."""
    distance = np.hypot(x, y)
    return (distance <= 1) & (distance >= _HOLE)


def square(x: Grid, y: Grid, rng: np.random.Generator) -> Mask:
    """Its corners on the circle."""
    return np.maximum(abs(x), abs(y)) <= math.sqrt(0.5)


def triangle(x: Grid, y: Grid, rng: np.random.Generator) -> Mask:
    """Equilateral, its corners on the circle."""
    sides = [x * math.cos(angle) + y * math.sin(angle) for angle in (0, 2 * math.pi / 3, 4 * math.pi / 3)]
    inside: Mask = np.maximum.reduce(sides) <= 0.5
    return inside


def cross(x: Grid, y: Grid, rng: np.random.Generator) -> Mask:
    """Two bars of equal length, at right angles."""
    short, long = np.minimum(abs(x), abs(y)), np.maximum(abs(x), abs(y))
    return (short <= _ARM) & (long <= math.sqrt(1 - _ARM**2))


def star(x: Grid, y: Grid, rng: np.random.Generator) -> Mask:
    """Five points."""
    tip = math.pi / 5
    # Folded onto the half sector between a point at angle 0 and the notch beside it: one straight edge is left.
    angle = abs((np.arctan2(y, x) + tip) % (2 * tip) - tip)
    distance = np.hypot(x, y)
    notch = (_STAR_INNER * math.cos(tip), _STAR_INNER * math.sin(tip))
    normal = (notch[1], 1 - notch[0])
    return distance * (normal[0] * np.cos(angle) + normal[1] * np.sin(angle)) <= notch[1]


def blob(x: Grid, y: Grid, rng: np.random.Generator) -> Mask:
    """Lobes without corners: the radius goes up and down two and three times on the way round."""
    two, three = rng.random(2) * 2 * math.pi
    angle = np.arctan2(y, x)
    edge: Grid = 0.67 + 0.19 * np.cos(2 * angle + two) + 0.14 * np.cos(3 * angle + three)
    inside: Mask = np.hypot(x, y) <= edge
    return inside


def crescent(x: Grid, y: Grid, rng: np.random.Generator) -> Mask:
    """The circle without another one beside its centre."""
    return (np.hypot(x, y) <= 1) & (np.hypot(x - 0.6, y) >= 0.85)


def bar(x: Grid, y: Grid, rng: np.random.Generator) -> Mask:
    """A rectangle nearly three times as long as wide."""
    return (abs(x) <= math.sqrt(1 - _BAR**2)) & (abs(y) <= _BAR)


CLASS_OUTLINES: dict[str, Outline] = {
    "disc": disc,
    "square": square,
    "triangle": triangle,
    "cross": cross,
    "ring": ring,
    "star": star,
}
DECOY_OUTLINES: dict[str, Outline] = {"blob": blob, "crescent": crescent, "bar": bar}
