"""Square windows cut out of an image, and maps of such a window put back into the image."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, interpolate, pad

from counterpoint.attribution import Attribution
from counterpoint.detectors.candidates import Detection
from counterpoint.errors import InputError


def crops(
    image: Float[Tensor, "3 height width"], regions: Float[Tensor, "regions 4"], side: int
) -> Float[Tensor, "regions 3 side side"]:
    """Each region resized to a square by averaging; differentiable in the pixels, linear in fact. Outside of the image all is black.

    Args:
        image: Pixels in [0, 1].
        regions: x0, y0, x1, y1; rounded to whole pixels.
        side: Of the windows.
    """
    height, width = image.shape[1:]
    windows = []
    for x0, y0, x1, y1 in _whole_pixels(regions):
        inside = image[:, max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)]
        beyond = (max(-x0, 0), max(x1 - max(width, x0), 0), max(-y0, 0), max(y1 - max(height, y0), 0))
        if inside.numel() == 0:
            windows.append(image.new_zeros(3, side, side))
            continue
        whole = pad(inside, beyond) if any(beyond) else inside
        windows.append(adaptive_avg_pool2d(whole, side))
    return torch.stack(windows) if windows else image.new_zeros(0, 3, side, side)


def map_in_region(
    attribution: Attribution, detections: tuple[Detection, ...] | list[Detection], size: tuple[int, int]
) -> Float[Tensor, "batch height width"]:
    """The heat map of a layer that saw the region of a detection only, at its place in the image; 0 elsewhere.

    Each cell's amount is spread over its pixels, so that a map whose region lies within the image sums to the result.

    Args:
        attribution: Values (batch, channel, height, width) of a layer behind the cutting out of regions.
        detections: One for each image; their regions say where.
        size: Height and width of the image.

    Raises:
        InputError: a detection without a region, or values without places.
    """
    if attribution.values.ndim != 4 or any(each.region is None for each in detections):
        raise InputError(
            "a map in a region needs features (batch, channel, height, width), and detections that have a region."
        )
    cells = attribution.values.sum(1)
    regions = torch.tensor([each.region for each in detections])
    maps = []
    for each, (x0, y0, x1, y1) in zip(cells, _whole_pixels(regions), strict=True):
        down, across = _spread(each.shape[0], y0, y1, size[0]), _spread(each.shape[1], x0, x1, size[1])
        maps.append(down.T.to(each) @ each @ across.to(each))
    return torch.stack(maps)


def _spread(cells: int, first: int, end: int, pixels: int) -> Float[Tensor, "cells pixels"]:
    """How each cell's amount is spread over the pixels of the image: bilinear, 0 outside of the region."""
    weights = interpolate(torch.eye(cells, dtype=torch.float64)[None], end - first, mode="linear")[0]
    weights = weights / weights.sum(1, keepdim=True).clamp(min=1e-12)
    whole = torch.zeros(cells, pixels, dtype=torch.float64)
    low, high = max(first, 0), min(end, pixels)
    if low < high:
        whole[:, low:high] = weights[:, low - first : high - first]
    return whole


def _whole_pixels(regions: Tensor) -> list[tuple[int, int, int, int]]:
    """Whole pixels x0, y0, x1, y1 of each region, at least one wide and high."""
    corners = regions.detach().round().long()
    corners[:, 2:] = torch.maximum(corners[:, 2:], corners[:, :2] + 1)
    return [(x0, y0, x1, y1) for x0, y0, x1, y1 in corners.tolist()]
