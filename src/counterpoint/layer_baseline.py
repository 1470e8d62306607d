"""What the features of a layer are compared with."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from counterpoint.checks import check_finite, shape_text
from counterpoint.errors import InputError, ShapeError
from counterpoint.layouts import ChannelsLast, Joint, Layout
from counterpoint.spec import content_hash

LayerBaseline = Literal["features", "zeros", "channel_mean"] | Tensor
"""What z' is at a layer: the features of the input's baseline; or, in feature space, zeros, each channel's mean over the places of the
image's own features, or a tensor. Only the first makes the target the same number at every layer."""

FEATURES_OF_THE_BASELINE = "features of the baseline"


def layer_start(
    layer_baseline: LayerBaseline,
    end: Tensor,
    features: Callable[[], Tensor],
    layout: Callable[[], Layout | None] = lambda: None,
) -> tuple[Tensor, str]:
    """The features to compare with, and what they are in words.

    Args:
        layer_baseline: What was asked for.
        end: The features of the inputs, (batch, *features).
        features: Computes the features of the input's baseline.
        layout: Finds how the features lie on the image, None where they do not.

    Raises:
        ShapeError: a tensor of another shape than `end` or one image of it, or a channel mean of features without places.
        InputError: none of the things that it can be.
    """
    if isinstance(layer_baseline, Tensor):
        given = layer_baseline.to(end)
        if given.shape not in (end.shape, end.shape[1:], (1, *end.shape[1:])):
            raise ShapeError(
                f"layer_baseline must be {shape_text(end)}, or one image's, but is {shape_text(given)}."
            )
        check_finite("layer_baseline", given)
        return given.expand_as(end), f"tensor {content_hash(given)[:12]}"
    if layer_baseline == "zeros":
        return torch.zeros_like(end), "zero features"
    if layer_baseline == "channel_mean":
        return _channel_means(end, layout()), "mean of each channel"
    if layer_baseline == "features":
        return features(), FEATURES_OF_THE_BASELINE
    raise InputError(
        f"layer_baseline must be 'features', 'zeros', 'channel_mean' or a tensor, got {layer_baseline!r}."
    )


def _channel_means(end: Tensor, layout: Layout | None) -> Tensor:
    """Each channel's mean over its places, at every place; class and register tokens count as places."""
    if isinstance(layout, Joint):
        pieces = zip(layout.parts, layout.split(end), strict=True)
        return torch.cat([_channel_means(piece, part.layout).flatten(1) for part, piece in pieces], 1)
    if end.ndim < 3:
        raise ShapeError(
            f"channel_mean needs features with places, (batch, channel, ...), got {shape_text(end)}."
        )
    # Tokens are (batch, tokens, channels): their places come first.
    last = end.ndim == 3 or isinstance(layout, ChannelsLast)
    axes = tuple(range(1, end.ndim - 1)) if last else tuple(range(2, end.ndim))
    return end.mean(axes, keepdim=True).expand_as(end)
