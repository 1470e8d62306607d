"""Scores of images seen through random soft masks: where it matters that the mask lets the image through."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from counterpoint.checks import check_images, check_range
from counterpoint.comparison import Comparison
from counterpoint.methods.arithmetic import as_column, exact
from counterpoint.methods.coalitions import on_channels
from counterpoint.methods.sampling import mean_of_samples
from counterpoint.protocols import Claim, Level, Outcome


@dataclass(frozen=True)
class RISE:
    """The mean score over random soft masks, weighted by how much of a pixel they keep.

    Formula: m(p) = E[f(x_M) M(p)] / E[M(p)] - E[f(x_M)], x_M = M x + (1 - M) x'

    Values: (batch, channel, height, width), signed, score units, shared by the channels: an importance. The first term is the
    published map; the second, its level, says nothing of pixels, and taking it away leaves most of the noise out. It is kept in
    `extras["level"]`, (batch,): channels summed, plus the level, are the published map. Masks: a grid of cells, each 1 with
    probability `keep`, enlarged bilinearly to one cell more than the image, and cut out at a random place.

    Parameters:
        masks: How many masks, at most.
        cells: Cells along each side of the grid; at most one a pixel.
        keep: Probability that a cell is kept.
        seed: Of the masks, which are the same for every image.
        precision: Stop where the expected relative L1 error of the map is this small; None takes all masks.

    Raises:
        ShapeError: the inputs are no images.

    Reference: Petsiuk et al. 2018, arXiv:1806.07421.
    """

    masks: int = 4000
    cells: int = 8
    keep: float = 0.5
    seed: int = 0
    precision: float | None = 0.25
    claim: ClassVar[Claim] = "importance"
    level: ClassVar[Level] = "input"
    version: ClassVar[int] = 1
    fills: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_range("masks", self.masks, 2)
        check_range("cells", self.cells, 1)
        check_range("keep", self.keep, 0.01, 0.99)
        if self.precision is not None:
            check_range("precision", self.precision, 0.0, open_low=True)

    def __call__(self, comparison: Comparison) -> Outcome:
        """At most `masks` forwards for each image."""
        check_images("inputs", comparison.inputs)
        like = exact(comparison.end)[:, 0]
        generator = torch.Generator().manual_seed(self.seed)
        level, total = like.new_zeros(len(like)), like.new_zeros(len(like))

        def draw(numbers: range, images: Tensor) -> Iterator[Tensor]:
            kept = self._masks(len(numbers), like.shape[1], like.shape[2], generator).to(like)
            scores = _scores(comparison, kept, images).to(like)
            total.index_add_(0, images, scores.sum(1))
            if numbers.start == 0:
                # Any constant may be taken from the scores, since M - keep has mean 0; the first round's mean leaves little noise.
                level[images] = scores.mean(1)
            kept = (kept - self.keep) / self.keep
            yield from (scores - level[images, None]).T[:, :, None, None] * kept.unsqueeze(1)

        found = mean_of_samples(
            draw, like, samples=self.masks, precision=self.precision, name="rise", centred=True
        )
        # As in a sample's variance: the level was found from the same masks.
        unbiased = as_column(found.count / (found.count - 1), like)
        return Outcome(
            values=on_channels(found.mean * unbiased, comparison),
            standard_error=on_channels(found.standard_error * unbiased, comparison),
            value_error=found.value_error,
            converged=found.converged,
            extras={"level": total / found.count.to(like)},
        )

    def _masks(
        self, count: int, height: int, width: int, generator: torch.Generator
    ) -> Float[Tensor, "count height width"]:
        """The next masks of the sequence, float64: drawn on the CPU, so that one seed means one mask on every device."""
        rows, columns = min(self.cells, height), min(self.cells, width)
        tall, wide = -(-height // rows), -(-width // columns)  # of a cell, in pixels
        draws = torch.rand(count, 1, rows, columns, generator=generator, dtype=torch.float64)
        places = torch.rand(count, 2, generator=generator, dtype=torch.float64)
        grids = (draws < self.keep).double()
        large = interpolate(grids, ((rows + 1) * tall, (columns + 1) * wide), mode="bilinear")[:, 0]
        offsets = (places * torch.tensor([tall, wide])).long().tolist()
        return torch.stack(
            [
                m[top : top + height, left : left + width]
                for m, (top, left) in zip(large, offsets, strict=True)
            ]
        )


def _scores(
    comparison: Comparison, kept: Float[Tensor, "masks height width"], images: Tensor
) -> Float[Tensor, "images masks"]:
    """The score of each of these images under each mask, points made for one micro-batch at a time."""
    group = max(1, comparison.micro.rows // len(images))
    scores = []
    for first in range(0, len(kept), group):
        masks = kept[first : first + group]
        points = comparison.blended(masks.repeat(len(images), 1, 1), images.repeat_interleave(len(masks)))
        found = comparison.scores(points, images.repeat_interleave(len(masks)))
        scores.append(found.view(len(images), len(masks)))
    return torch.cat(scores, 1)
