"""Two-coloured fillings of things, and the clouds of backgrounds.

Everywhere x (1, width) and y (height, 1) are coordinates as fractions of the image's side; a filling (height, width) is True where the
second colour shows.
"""

import math
from collections.abc import Callable

import numpy as np

from counterpoint.data.shapes.outlines import Grid, Mask

Filling = Callable[[Grid, Grid, np.random.Generator], Mask]

_PERIODS = (0.06, 0.08)  # of stripes and checks: 3.8 to 5.1 pixels of 64


def clouds(x: Grid, y: Grid, rng: np.random.Generator, *, waves: tuple[float, float] = (0.5, 3.0)) -> Grid:
    """Smooth random heights (height, width) about 0, with standard deviation 1 over many draws.

    Eight waves in random directions, so that no direction stands out: a single one would be stripes.

    Args:
        x: Across, as fractions of the side.
        y: Down.
        rng: What draws the waves.
        waves: How many there are along the side, at least and at most.
    """
    direction, phase = rng.random((2, 8)) * 2 * math.pi
    number = rng.uniform(*waves, 8) * 2 * math.pi
    across = (number * np.cos(direction))[:, None] * x + phase[:, None]  # (waves, width)
    down = y * (number * np.sin(direction))  # (height, waves)
    # cos(across + down), summed over the waves, in terms of one axis each.
    heights = np.cos(down) @ np.cos(across) - np.sin(down) @ np.sin(across)
    scaled: Grid = heights / 2  # the variance of eight cosines is 8 / 2
    return scaled


def plain(x: Grid, y: Grid, rng: np.random.Generator) -> Mask:
    """The first colour only."""
    return np.zeros(np.broadcast_shapes(x.shape, y.shape), dtype=bool)


def mottled(x: Grid, y: Grid, rng: np.random.Generator) -> Mask:
    """Irregular patches, as coarse as stripes and checks: with them, having two colours says nothing."""
    return clouds(x, y, rng, waves=(5.0, 9.0)) > 0


def striped(x: Grid, y: Grid, rng: np.random.Generator) -> Mask:
    """Parallel stripes of equal width."""
    period, across, _ = _lattice(x, y, rng)
    stripes: Mask = across % period < period / 2
    return stripes


def checked(x: Grid, y: Grid, rng: np.random.Generator) -> Mask:
    """A chessboard."""
    period, across, along = _lattice(x, y, rng)
    squares: Mask = (across % period < period / 2) != (along % period < period / 2)
    return squares


def _lattice(x: Grid, y: Grid, rng: np.random.Generator) -> tuple[float, Grid, Grid]:
    """A period, and coordinates in a random direction and at right angles to it, from a random start."""
    period, turn = rng.uniform(*_PERIODS), rng.random() * 2 * math.pi
    start = rng.random(2) * period
    across = math.cos(turn) * x + math.sin(turn) * y + start[0]
    along = math.cos(turn) * y - math.sin(turn) * x + start[1]
    return period, across, along


CLASS_FILLINGS: dict[str, Filling] = {"striped": striped, "checked": checked}
