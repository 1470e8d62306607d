"""Class activation maps whose channels are weighted with scores, not gradients: of the image under a channel, or without it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from counterpoint import progress
from counterpoint.checks import check_images
from counterpoint.comparison import Comparison
from counterpoint.methods.arithmetic import exact
from counterpoint.methods.cam import Reference, check_places, positive_places
from counterpoint.protocols import Claim, Level, Outcome


@dataclass(frozen=True)
class ScoreCAM:
    """Each channel weighted with the score of the image seen through it.

    Formula: ReLU(sum over channels of w_k A_k), w = softmax over k of f(H_k x + (1 - H_k) x') - f(x'), H_k = A_k enlarged, from 0 to 1

    Values: (batch, channel, height, width); an importance: softmax weights have no unit.

    What a channel masks is replaced by the comparison's baseline. Published is a product with the normalised input, which is the mean
    colour of the training images where a model normalises with it; `constant` gives that.

    A channel that is the same everywhere masks nothing; it is left out, of the softmax too, and `extras["left_out"]` counts them.

    Parameters:
        softmax: Turn the scores into weights that sum to 1, as published; otherwise the increase f(...) - f(x') itself is the weight.
        relu: Drop the places whose channel sum is negative, as published.

    Raises:
        LayerError: the layer has no channels and places.
        ShapeError: the inputs are no images.

    Reference: Wang et al. 2020, arXiv:1910.01279; the baseline in the place of zeros is ours.
    """

    softmax: bool = True
    relu: bool = True
    claim: ClassVar[Claim] = "importance"
    level: ClassVar[Level] = "layer"
    version: ClassVar[int] = 1

    def __call__(self, comparison: Comparison) -> Outcome:
        """One forward of the whole model for each image and channel."""
        check_places(comparison)
        check_images("inputs", comparison.inputs)
        features = exact(comparison.end)
        varied = features.amax((2, 3)) > features.amin((2, 3))
        increase = torch.zeros_like(varied, dtype=features.dtype)
        pixels = comparison.at("input")
        for image, channel in _channels(varied, comparison, "score_cam"):
            kept = _from_0_to_1(features[image, channel], comparison.inputs)
            scores = pixels.scores(pixels.blended(kept, image), image)
            increase[image, channel] = (scores - pixels.baseline_score[image]).to(increase)
        weights = increase
        if self.softmax:
            weights = increase.masked_fill(~varied, -torch.inf).softmax(1).where(varied, 0.0)
        values = weights[:, :, None, None] * features
        return Outcome(
            values=positive_places(values) if self.relu else values, extras={"left_out": (~varied).sum(1)}
        )


@dataclass(frozen=True)
class AblationCAM:
    """Each channel weighted with how much the score drops without it.

    Formula: ReLU(sum over channels of w_k A_k), w_k = (f(x) - f(A without channel k)) / |f(x)|

    Values: (batch, channel, height, width); an importance: a channel's drop, with all others in place, is spread over places as the
    channel is, and drops do not sum to the whole. Published is a division by f(x), which turns the map around where f(x) is negative.

    Parameters:
        relu: Drop the places whose channel sum is negative, as published.
        reference: "zeros" puts zeros in the place of a channel, as published; "comparison" the baseline's channel, and weights A - A'.

    Raises:
        LayerError: the layer has no channels and places.

    Reference: Desai and Ramaswamy 2020, doi:10.1109/WACV45572.2020.9093360.
    """

    relu: bool = True
    reference: Reference = "zeros"
    claim: ClassVar[Claim] = "importance"
    level: ClassVar[Level] = "layer"
    version: ClassVar[int] = 1

    def __call__(self, comparison: Comparison) -> Outcome:
        """One forward from the layer on for each image and channel that is not there already what it is replaced with."""
        check_places(comparison)
        end = comparison.end
        start = torch.zeros_like(end) if self.reference == "zeros" else comparison.start
        present = (end != start).flatten(2).any(2)
        weights = torch.zeros_like(present, dtype=exact(end).dtype)
        for image, channel in _channels(present, comparison, "ablation_cam"):
            without = end[image]
            row = torch.arange(len(image), device=end.device)
            without[row, channel] = start[image, channel]
            drop = comparison.score[image] - comparison.scores(without, image)
            weights[image, channel] = drop.to(weights)
        size = comparison.score.abs()
        weights = weights / size.where(size > 0, 1.0).to(weights)[:, None]
        values = weights[:, :, None, None] * (exact(end) - exact(start))
        return Outcome(
            values=positive_places(values) if self.relu else values,
            reference="zero features" if self.reference == "zeros" else None,
        )


def _channels(
    chosen: Bool[Tensor, "batch channel"], comparison: Comparison, name: str
) -> Iterator[tuple[Int[Tensor, " rows"], Int[Tensor, " rows"]]]:
    """Image and channel of each chosen one, a micro-batch at a time, so that memory does not grow with the number of channels."""
    image, channel = chosen.nonzero(as_tuple=True)
    done = 0
    while done < len(image):
        rows = slice(done, done + comparison.micro.rows)
        yield image[rows], channel[rows]
        done = min(len(image), rows.stop)
        progress.advance(done, len(image), name)


def _from_0_to_1(
    maps: Float[Tensor, "rows cells_down cells_across"], inputs: Float[Tensor, "batch channel height width"]
) -> Float[Tensor, "rows height width"]:
    """Each map enlarged to the size of the inputs, between the centres of its cells, and taken from 0 to 1."""
    size = (inputs.shape[2], inputs.shape[3])
    large = F.interpolate(maps.unsqueeze(1), size, mode="bilinear", align_corners=False).squeeze(1)
    low, high = large.amin((1, 2), keepdim=True), large.amax((1, 2), keepdim=True)
    span = high - low
    return (large - low) / span.where(span > 0, 1.0)
