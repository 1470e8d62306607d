"""Generated shapes as a data set: what decides the class is known to the pixel."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Bool
from PIL import Image
from torch import Tensor

from counterpoint.data.datasets.evidence import grey, on_input
from counterpoint.data.datasets.item import Item
from counterpoint.data.datasets.items import Items
from counterpoint.data.datasets.settings import Settings
from counterpoint.data.datasets.source import Source
from counterpoint.data.shapes import CLASSES, SMALLEST
from counterpoint.data.shapes.generator import _IMAGES, _labels
from counterpoint.data.shapes.scene import Scene, draw_scene
from counterpoint.errors import InputError
from counterpoint.preprocessing import Preprocessing


@dataclass(frozen=True, kw_only=True, eq=False)
class ShapeSet:
    """Images of `shapes.generate`, each drawn when it is asked for."""

    kind: str
    items: Sequence[Item]
    facts: Mapping[str, Any]
    seed: int
    size: int
    """Side of the images in pixels."""

    def card(self) -> dict[str, Any]:
        """See `DataSet`."""
        return dict(self.facts)

    def picture(self, item: Item) -> Image.Image:
        """See `DataSet`."""
        return Image.fromarray(self._scene(item).image)

    def evidence(self, item: Item, preprocessing: Preprocessing) -> Bool[Tensor, "height width"] | None:
        """See `DataSet`; never None."""
        return on_input(grey(self._scene(item).evidence), preprocessing)

    def _scene(self, item: Item) -> Scene:
        if item.number is None or item.label not in CLASSES:
            raise InputError(f"item must be of this data set, whose images are generated, got '{item.name}'.")
        rng = np.random.default_rng((_IMAGES, self.seed, item.number))
        return draw_scene(CLASSES.index(str(item.label)), self.size, rng)


def shapes_source(settings: Settings) -> Source:
    """`shapes = 100`: so many generated shapes, of `seed` and `size`.

    Raises:
        InputError: a number that is too small or no whole number.
    """
    count = settings.whole("shapes", 1, least=1)
    seed = settings.whole("seed", 0, least=0)
    size = settings.whole("size", 64, least=SMALLEST)
    items = Items(
        names=tuple(f"{number:06d}" for number in range(count)),
        numbers=np.arange(count),
        codes=np.array(_labels(count, seed), dtype=np.int32),
        classes=CLASSES,
    )
    return Source(
        of=f"generated shapes of {size} x {size} pixels, seed {seed}",
        items=items,
        evidence="exact",
        licence_note="generated; shows no photograph",
        data_set=partial(ShapeSet, seed=seed, size=size),
    )
