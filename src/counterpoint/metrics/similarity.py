"""How alike two maps, or two rows of numbers, are: Pearson's and Spearman's correlation, structural similarity."""

from dataclasses import dataclass

import scipy
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from counterpoint.attribution import Attribution
from counterpoint.checks import check_same_shape
from counterpoint.metrics.maps import map_numbers

# Numbers that differ by less than this share of the largest are equal but for rounding, in float64.
_ROUNDING = 1e-12

# The window and the two constants of structural similarity, as published for a uniform window.
_WINDOW, _LUMINANCE, _CONTRAST = 7, 0.01, 0.03


@dataclass(frozen=True, kw_only=True, eq=False)
class Similarity:
    """How alike two maps of each image are. 1 for equal maps, about 0 for maps that have nothing to do with each other."""

    spearman: Float[Tensor, "*rows batch"]
    """Rank correlation of the values, -1 to 1; NaN where one of the maps is constant."""
    absolute_spearman: Float[Tensor, "*rows batch"]
    """Rank correlation of the absolute values; NaN where those of one map are constant."""
    ssim: Float[Tensor, "*rows batch"]
    """Structural similarity of the maps, each divided by its largest absolute value; NaN for maps under 7 x 7 pixels, or both constant."""


def map_similarity(one: Tensor | Attribution, other: Tensor | Attribution) -> Similarity:
    """Compare two maps of each image; nothing is averaged over images.

    Args:
        one, other: (batch, height, width), or an Attribution, whose heat map is taken.

    Raises:
        InputError: neither a tensor nor an Attribution, or NaN.
        ShapeError: not (batch, height, width), or of two shapes.
    """
    maps, others = map_numbers("one", one), map_numbers("other", other)
    check_same_shape("one", maps, "other", others)
    flat, other_flat = maps.flatten(1), others.flatten(1)
    return Similarity(
        spearman=spearman(flat, other_flat),
        absolute_spearman=spearman(flat.abs(), other_flat.abs()),
        ssim=structural_similarity(_unit_scale(maps), _unit_scale(others)),
    )


def pearson(
    one: Float[Tensor, "*rows numbers"], other: Float[Tensor, "*rows numbers"]
) -> Float[Tensor, "*rows"]:
    """Pearson's correlation of each two rows, in float64, -1 to 1; NaN where one of the two is constant but for rounding."""
    one, other = one.double(), other.double()
    undefined = _is_constant(one) | _is_constant(other)
    one, other = _unit_length(one), _unit_length(other)
    return (one * other).sum(-1).clamp(-1.0, 1.0).masked_fill(undefined, torch.nan)


def spearman(
    one: Float[Tensor, "*rows numbers"], other: Float[Tensor, "*rows numbers"]
) -> Float[Tensor, "*rows"]:
    """Spearman's rank correlation of each two rows, ties sharing the mean of their ranks; NaN where one of the two is constant."""
    return pearson(_ranks(one), _ranks(other))


def structural_similarity(
    one: Float[Tensor, "batch height width"], other: Float[Tensor, "batch height width"]
) -> Float[Tensor, " batch"]:
    """Mean structural similarity (SSIM) over all windows of 7 x 7 pixels, in float64, at most 1.

    The range of the data is taken from both maps together. NaN where that is 0, or a map has fewer than 7 rows or columns.

    Reference: Wang et al. 2004, doi:10.1109/TIP.2003.819861.
    """
    one, other = one.double(), other.double()
    if min(one.shape[1:]) < _WINDOW:
        return one.new_full((len(one),), torch.nan)
    both = torch.cat([one, other], 1).flatten(1)
    span = (both.amax(1) - both.amin(1))[:, None, None]
    small, little = (_LUMINANCE * span) ** 2, (_CONTRAST * span) ** 2
    mean, other_mean = _windows(one), _windows(other)
    # Covariances of a sample: divided by the number of pixels less one.
    sample = _WINDOW**2 / (_WINDOW**2 - 1)
    variance = sample * (_windows(one * one) - mean * mean)
    other_variance = sample * (_windows(other * other) - other_mean * other_mean)
    covariance = sample * (_windows(one * other) - mean * other_mean)
    above = (2 * mean * other_mean + small) * (2 * covariance + little)
    below = (mean**2 + other_mean**2 + small) * (variance + other_variance + little)
    return (above / below).mean((1, 2))


def _windows(maps: Float[Tensor, "batch height width"]) -> Float[Tensor, "batch rows columns"]:
    """The mean of each window that lies inside the map."""
    means: Tensor = F.avg_pool2d(maps[:, None], _WINDOW, stride=1)
    return means[:, 0]


def _unit_scale(maps: Float[Tensor, "batch height width"]) -> Float[Tensor, "batch height width"]:
    largest = maps.double().abs().amax((1, 2), keepdim=True)
    return maps.double() / largest.where(largest > 0, 1.0)


def _unit_length(rows: Float[Tensor, "*rows numbers"]) -> Float[Tensor, "*rows numbers"]:
    # Scaled first, so that the squares of very small numbers do not vanish.
    centred = rows - rows.mean(-1, keepdim=True)
    centred = centred / centred.abs().amax(-1, keepdim=True)
    length: Tensor = centred.norm(dim=-1, keepdim=True)
    return centred / length


def _is_constant(rows: Float[Tensor, "*rows numbers"]) -> Bool[Tensor, "*rows"]:
    return rows.amax(-1) - rows.amin(-1) <= _ROUNDING * rows.abs().amax(-1)


def _ranks(rows: Float[Tensor, "*rows numbers"]) -> Float[Tensor, "*rows numbers"]:
    ranks = scipy.stats.rankdata(rows.double().cpu().numpy(), axis=-1)
    return torch.from_numpy(ranks).to(rows.device)
