"""One image: a cloudy background, an object that decides the class, and decoys that say nothing about it.

Six classes are outlines, filled as decoys are; two are textures, on an outline that decoys have. Sizes, places, colours and fillings are
drawn for the object and the decoys alike.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from counterpoint.data.shapes.outlines import CLASS_OUTLINES, DECOY_OUTLINES, Grid, Mask, Outline, blob
from counterpoint.data.shapes.textures import CLASS_FILLINGS, Filling, clouds, mottled, plain

CLASSES: tuple[str, ...] = (*CLASS_OUTLINES, *CLASS_FILLINGS)
"""The names of the classes, in the order of the labels."""

RADIUS = (0.19, 0.28)
"""Of the circle around a thing, as a fraction of the side."""
DECOYS = (1, 2)
_GAP = 0.02  # between two circles at least
_MOTTLED = 0.15  # of the things without a texture of a class
_TRIES = 256  # at once
_CLOUD = (0.02, 0.1)  # standard deviation of the background's clouds, pixels in [0, 1]
_GRAIN = (0.0, 0.06)  # largest deviation of the grain over everything
_CONTRAST = 0.45  # distance in RGB that two colours have at least, where enough are found


@dataclass(frozen=True, eq=False)
class Scene:
    """One image as drawn, all arrays of one side."""

    image: NDArray[np.uint8]
    """(height, width, 3)"""
    background: NDArray[np.uint8]
    """The same, without the things."""
    evidence: Mask
    decoys: Mask


def draw_scene(label: int, size: int, rng: np.random.Generator) -> Scene:
    """Draw one image of a class.

    Args:
        label: Index into CLASSES.
        size: Side in pixels.
        rng: What everything is drawn from; one scene uses all of it.
    """
    x, y = _pixel_centres(size)
    middle = rng.uniform(0.25, 0.75, 3)
    palette = _distinct_colours(middle, rng)
    layer = middle + rng.uniform(*_CLOUD) * clouds(x, y, rng)[..., None]
    behind = layer.copy()
    masks = []
    for k, (centre_x, centre_y, radius) in enumerate(_separate_circles(rng)):
        outline, filling = _object(label, rng) if k == 0 else _decoy(rng)
        turn = rng.random() * 2 * math.pi
        right, down = (x - centre_x) / radius, (y - centre_y) / radius
        turned_x = math.cos(turn) * right + math.sin(turn) * down
        turned_y = math.cos(turn) * down - math.sin(turn) * right
        mask = outline(turned_x, turned_y, rng)
        first, second = rng.permutation(palette)[:2]
        layer[mask] = np.where(filling(x, y, rng)[mask, None], second, first)
        masks.append(mask)
    # The same grain over both, so that they differ on the things only.
    grain = rng.uniform(*_GRAIN) * rng.uniform(-1, 1, (size, size, 3))
    return Scene(
        image=_as_bytes(layer + grain),
        background=_as_bytes(behind + grain),
        evidence=masks[0],
        decoys=np.logical_or.reduce(masks[1:]),
    )


def _pixel_centres(size: int) -> tuple[Grid, Grid]:
    """Across (1, size) and down (size, 1), as fractions of the side."""
    centres = (np.arange(size) + 0.5) / size
    return centres[None, :], centres[:, None]


def _object(label: int, rng: np.random.Generator) -> tuple[Outline, Filling]:
    name = CLASSES[label]
    if name in CLASS_FILLINGS:
        return blob, CLASS_FILLINGS[name]
    return CLASS_OUTLINES[name], _other_filling(rng)


def _decoy(rng: np.random.Generator) -> tuple[Outline, Filling]:
    return DECOY_OUTLINES[list(DECOY_OUTLINES)[rng.integers(len(DECOY_OUTLINES))]], _other_filling(rng)


def _other_filling(rng: np.random.Generator) -> Filling:
    return mottled if rng.random() < _MOTTLED else plain


def _separate_circles(rng: np.random.Generator) -> NDArray[np.float64]:
    """Centres and radii (things, 3) of two to four circles within the image that do not touch.

    All are drawn at once until they fit, so that every order of them is as probable: place and size do not tell the object from a decoy.
    """
    number = 1 + int(rng.integers(DECOYS[0], DECOYS[1] + 1))
    first, second = np.triu_indices(number, 1)
    while True:
        radius = rng.uniform(*RADIUS, (_TRIES, number))
        x, y = radius + rng.random((2, _TRIES, number)) * (1 - 2 * radius)
        apart = np.hypot(x[:, first] - x[:, second], y[:, first] - y[:, second])
        fits = (apart >= radius[:, first] + radius[:, second] + _GAP).all(1)
        if fits.any():
            circles: NDArray[np.float64] = np.stack([x, y, radius], axis=2)[fits.argmax()]
            return circles


def _distinct_colours(background: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Three colours far from the background and from each other."""
    chosen = background[None]
    while len(chosen) < 4:
        candidates = rng.random((32, 3))
        nearest = np.linalg.norm(candidates[:, None] - chosen, axis=2).min(1)
        # The first that is far enough; `argmax` of all False would be the first as well, hence the limit.
        best = int((nearest >= min(_CONTRAST, nearest.max())).argmax())
        chosen = np.concatenate([chosen, candidates[best : best + 1]])
    return chosen[1:]


def _as_bytes(picture: NDArray[np.float64]) -> NDArray[np.uint8]:
    rounded: NDArray[np.uint8] = np.rint(255 * picture.clip(0, 1)).astype(np.uint8)
    return rounded
