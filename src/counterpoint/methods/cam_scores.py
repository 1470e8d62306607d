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
from counterpoint.layouts import Layout, MapStack, on_maps
from counterpoint.methods.arithmetic import exact
from counterpoint.methods.cam import Reference, check_places, positive_places
from counterpoint.protocols import Claim, Level, Outcome


@dataclass(frozen=True)
class ScoreCAM:
    """Each channel weighted with the score of the image seen through it.

    Formula: ReLU(sum over channels of w_k A_k), w = softmax over k of f(H_k x + (1 - H_k) x') - f(x'), H_k = A_k enlarged, from 0 to 1

    Values: the shape of the features; an importance: softmax weights have no unit.

    What a channel masks is replaced by the comparison's baseline. Published is a product with the normalised input, which is the mean
    colour of the training images where a model normalises with it; `constant` gives that.

    Of several layers at once the channels of all share one softmax, which is our extension.

    A channel that is the same everywhere masks nothing; it is left out, of the softmax too, and `extras["left_out"]` counts them.

    Parameters:
        softmax: Turn the scores into weights that sum to 1, as published; otherwise the increase f(...) - f(x') itself is the weight.
        relu: Drop the places whose channel sum is negative, as published.

    Raises:
        LayerError: the layer has no channels and places on the image.
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
        layout = check_places(comparison)
        check_images("inputs", comparison.inputs)
        maps = layout.maps(exact(comparison.end))
        varied = torch.cat([each.amax((2, 3)) > each.amin((2, 3)) for each in maps], 1)
        increase = torch.zeros_like(varied, dtype=maps[0].dtype)
        pixels = comparison.at("input")
        for part, image, channel, here in _channels(varied, maps, comparison, "score_cam"):
            kept = _from_0_to_1(maps[part][image, here], comparison.inputs)
            scores = pixels.scores(pixels.blended(kept, image), image)
            increase[image, channel] = (scores - pixels.baseline_score[image]).to(increase)
        weights = increase
        if self.softmax:
            weights = increase.masked_fill(~varied, -torch.inf).softmax(1).where(varied, 0.0)
        values = _weighted(layout, weights, maps, relu=self.relu)
        return Outcome(values=values, extras={"left_out": (~varied).sum(1)})


@dataclass(frozen=True)
class AblationCAM:
    """Each channel weighted with how much the score drops without it.

    Formula: ReLU(sum over channels of w_k A_k), w_k = (f(x) - f(A without channel k)) / |f(x)|

    Values: the shape of the features; an importance: a channel's drop, with all others in place, is spread over places as the
    channel is, and drops do not sum to the whole. Published is a division by f(x), which turns the map around where f(x) is negative.

    Parameters:
        relu: Drop the places whose channel sum is negative, as published.
        reference: "zeros" puts zeros in the place of a channel, as published; "comparison" the baseline's channel, and weights A - A'.

    Raises:
        LayerError: the layer has no channels and places on the image.

    Reference: Desai and Ramaswamy 2020, doi:10.1109/WACV45572.2020.9093360.
    """

    relu: bool = True
    reference: Reference = "zeros"
    claim: ClassVar[Claim] = "importance"
    level: ClassVar[Level] = "layer"
    version: ClassVar[int] = 1

    def __call__(self, comparison: Comparison) -> Outcome:
        """One forward from the layer on for each image and channel that is not there already what it is replaced with."""
        layout = check_places(comparison)
        end = comparison.end
        start = torch.zeros_like(end) if self.reference == "zeros" else comparison.start
        maps = layout.maps(exact(end) - exact(start))
        present = torch.cat([(each != 0).flatten(2).any(2) for each in maps], 1)
        weights = torch.zeros_like(present, dtype=maps[0].dtype)
        for part, image, channel, here in _channels(present, maps, comparison, "ablation_cam"):
            gone = [torch.zeros_like(each[image]) for each in maps]
            gone[part][torch.arange(len(image), device=end.device), here] = 1.0
            without = start[image].where(layout.features(tuple(gone)) > 0, end[image])
            drop = comparison.score[image] - comparison.scores(without, image)
            weights[image, channel] = drop.to(weights)
        size = comparison.score.abs()
        weights = weights / size.where(size > 0, 1.0).to(weights)[:, None]
        return Outcome(
            values=_weighted(layout, weights, maps, relu=self.relu),
            reference="zero features" if self.reference == "zeros" else None,
        )


def _weighted(
    layout: Layout, weights: Float[Tensor, "batch channel"], maps: MapStack, *, relu: bool
) -> Float[Tensor, "batch *features"]:
    """Each channel of each part by its weight, in the shape of the features."""
    pieces = torch.split(weights, [each.shape[1] for each in maps], 1)
    values = layout.features(
        tuple(weight[:, :, None, None] * each for weight, each in zip(pieces, maps, strict=True))
    )
    return on_maps(layout, positive_places, values) if relu else values


def _channels(
    chosen: Bool[Tensor, "batch channel"], maps: MapStack, comparison: Comparison, name: str
) -> Iterator[tuple[int, Int[Tensor, " rows"], Int[Tensor, " rows"], Int[Tensor, " rows"]]]:
    """Part, image, channel among all and channel in the part of each chosen one, a micro-batch at a time, so that memory does not grow
    with the number of channels."""
    total, done, first = int(chosen.sum()), 0, 0
    for part, each in enumerate(maps):
        image, here = chosen[:, first : first + each.shape[1]].nonzero(as_tuple=True)
        k = 0
        while k < len(image):
            rows = slice(k, k + comparison.micro.rows)  # asked each time: it is halved when memory runs out
            yield part, image[rows], here[rows] + first, here[rows]
            done += len(image[rows])
            k = rows.stop
            progress.advance(done, total, name)
        first += each.shape[1]


def _from_0_to_1(
    maps: Float[Tensor, "rows cells_down cells_across"], inputs: Float[Tensor, "batch channel height width"]
) -> Float[Tensor, "rows height width"]:
    """Each map enlarged to the size of the inputs, between the centres of its cells, and taken from 0 to 1."""
    size = (inputs.shape[2], inputs.shape[3])
    large = F.interpolate(maps.unsqueeze(1), size, mode="bilinear", align_corners=False).squeeze(1)
    low, high = large.amin((1, 2), keepdim=True), large.amax((1, 2), keepdim=True)
    span = high - low
    return (large - low) / span.where(span > 0, 1.0)
