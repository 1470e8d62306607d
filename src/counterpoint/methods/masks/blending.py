"""Images blended with their fill-in by a mask, and the gradient of their score with respect to that mask."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from counterpoint.activations import Under
from counterpoint.checks import check_images
from counterpoint.comparison import Comparison
from counterpoint.errors import InputError
from counterpoint.methods.arithmetic import exact

Fill = Literal["baseline", "published"]
"""What the removed part of an image becomes.

baseline   the comparison's baseline: all methods that optimise masks then answer one question.
published  what the method's authors used, whatever the baseline; then also for baselines that only fill, or have several draws.
"""

Shown = Float[Tensor, "rows maps height width"]
"""How much of the image is shown at each pixel, from 0 to 1: one number for all channels, or one for each."""


@dataclass(frozen=True, eq=False)
class Look:
    """How a blended image is looked at: moved, mirrored, under noise. The same for every image."""

    down: int = 0
    right: int = 0
    """By how many pixels the picture moves under its mask; its edges are repeated."""
    flipped: bool = False
    """Whether the model sees picture and mask mirrored."""
    noise: Float[Tensor, "channel height width"] | None = None
    """Added to the blended image."""


_PLAIN = Look()


@dataclass(frozen=True, eq=False)
class Blend:
    """The images of a comparison between "removed" and "there", in two levels or more."""

    comparison: Comparison
    levels: Float[Tensor, "levels batch channel height width"]
    """From the fill-in to the image. A mask's value is a place between them, linear from one level to the next."""
    reference: str | None
    """What the fill-in is, where it is not the comparison's baseline."""

    @classmethod
    def of(
        cls, comparison: Comparison, fill: Fill, published: Callable[[Tensor], Tensor], words: str
    ) -> "Blend":
        """The images and the fill-in that was asked for.

        Args:
            comparison: At the input.
            fill: Which of the two.
            published: Makes the published one's levels, (levels, batch, ...), from the images.
            words: The published one, in words.

        Raises:
            ShapeError: the inputs are no images.
            InputError: the baseline only fills, so that there is nothing to blend with.
        """
        inputs = comparison.inputs
        check_images("inputs", inputs)
        if fill == "published":
            return cls(comparison.faster(), published(inputs), words)
        if comparison.baseline.fill_only:
            raise InputError(
                f"masks are optimised between an image and its baseline, but {comparison.baseline!r} only fills removed pixels and knows "
                "no mixture; give a baseline with an image of its own, or use fill='published'."
            )
        return cls(comparison.faster(), torch.stack([comparison.baseline_inputs, inputs]), None)

    def scores(
        self, shown: Shown, image: Int[Tensor, " rows"], *, look: Look = _PLAIN
    ) -> Float[Tensor, " rows"]:
        """The score of each blended image; they exist one micro-batch at a time."""
        found = []
        for part in self._parts(len(shown)):
            points, _ = self._points(shown[part], image[part], look)
            found.append(self.comparison.scores(points, image[part]))
        return exact(torch.cat(found))

    def scores_and_gradients(
        self, shown: Shown, image: Int[Tensor, " rows"], *, look: Look = _PLAIN, under: Under = nullcontext
    ) -> tuple[Float[Tensor, " rows"], Shown]:
        """Score of each blended image, and its gradient with respect to the mask: one gradient of the model for each row."""
        found, slopes = [], []
        for part in self._parts(len(shown)):
            points, way = self._points(shown[part], image[part], look)
            scores, gradients = self.comparison.scores_and_gradients(points, image[part], under=under)
            gradients = exact(gradients.flip(-1) if look.flipped else gradients) * exact(way)
            found.append(scores)
            slopes.append(gradients.sum(1, keepdim=True) if shown.shape[1] == 1 else gradients)
        return exact(torch.cat(found)), torch.cat(slopes)

    def own_target(self) -> Float[Tensor, " batch"] | None:
        """f(x) minus the score of the fill-in, where that is not the baseline."""
        if self.reference is None:
            return None
        return self.comparison.score - self.comparison.scores(self.levels[0])

    def _parts(self, rows: int) -> list[slice]:
        size = self.comparison.micro.rows
        return [slice(first, first + size) for first in range(0, rows, size)]

    def _points(self, shown: Tensor, image: Tensor, look: Look) -> tuple[Tensor, Tensor]:
        """The blended images, as the model sees them; and what one unit of the mask adds to each number of theirs, unmirrored."""
        last = len(self.levels) - 1
        place = shown.clamp(0, 1) * last
        low = place.floor().clamp(max=last - 1)
        if last == 1:
            under, above = (_moved(level[image], look) for level in self.levels)
        else:
            of_rows = _moved(self.levels[:, image], look)
            index = low.long().expand(of_rows.shape[1:]).unsqueeze(0)
            under, above = of_rows.gather(0, index)[0], of_rows.gather(0, index + 1)[0]
        points = torch.lerp(under, above, (place - low).to(under).expand_as(under))
        if look.noise is not None:
            points = points + look.noise.to(points)
        return (points.flip(-1) if look.flipped else points), last * (above - under)


def _moved(images: Tensor, look: Look) -> Tensor:
    """Images (..., height, width), moved."""
    for axis, by in ((-2, look.down), (-1, look.right)):
        if by:
            side = images.shape[axis]
            index = (torch.arange(side, device=images.device) - by).clamp(0, side - 1)
            images = images.index_select(axis, index)
    return images
