"""Does a map point at the object? Agreement with masks that people drew: with people, that is, not with the model.

Pixels of equal value are not put in order by where they lie in memory: what is returned is the mean over all ways to break ties.
"""

from typing import Literal

import numpy as np
import scipy
import torch
from jaxtyping import Bool, Float, Int
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from counterpoint.attribution import Attribution
from counterpoint.checks import check_range
from counterpoint.errors import InputError, UnknownNameError
from counterpoint.metrics.maps import check_masks, map_numbers

Masks = Bool[Tensor, "batch height width"]

Part = Literal["positive", "absolute"]
"""What of a signed map counts as relevance: its positive values, or the absolute value of all."""
PARTS: tuple[Part, ...] = ("positive", "absolute")


def pointing_game(
    saliency: Tensor | Attribution, masks: Masks, *, tolerance: float = 0.0
) -> Float[Tensor, " batch"]:
    """1 where the largest value lies in the mask, 0 where it does not; higher is better.

    Of several largest values the share that lies in the mask: a constant map has the share of the image that the mask covers.

    Args:
        saliency: (batch, height, width), larger is more relevant; or an Attribution, whose heat map is taken.
        masks: True on the object.
        tolerance: In pixels: how far from the mask the largest value may lie, centre to centre. Published with 15.

    Returns:
        (batch,), 0 to 1; NaN where the mask is empty.

    Raises:
        InputError: a map with NaN, masks that are no booleans, or a negative tolerance.
        ShapeError: masks of another shape than the map.

    Reference: Zhang et al. 2018, doi:10.1007/s11263-017-1059-x.
    """
    check_range("tolerance", tolerance, 0.0)
    maps, inside = _checked(saliency, masks)
    near = inside if tolerance == 0 else _within(inside, tolerance)
    largest = maps == maps.amax((1, 2), keepdim=True)
    hit = (largest & near).sum((1, 2)) / largest.sum((1, 2))
    return _where_known(hit, inside).to(maps)


def mass_in_mask(
    saliency: Tensor | Attribution, masks: Masks, *, part: Part = "positive"
) -> Float[Tensor, " batch"]:
    """The share of the relevance that lies in the mask (relevance mass accuracy); higher is better.

    Formula: sum of r in the mask / sum of r, r = max(a, 0) or |a|

    Args:
        saliency: (batch, height, width), larger is more relevant; or an Attribution, whose heat map is taken.
        masks: True on the object.
        part: "positive" or "absolute". Negative relevance is not summed with its sign: the share would leave 0 ... 1.

    Returns:
        (batch,), 0 to 1; NaN where the mask is empty, or the map has no relevance.

    Raises:
        InputError: a map with NaN, or masks that are no booleans.
        UnknownNameError: no such part.
        ShapeError: masks of another shape than the map.

    Reference: Arras et al. 2022, arXiv:2003.07258.
    """
    if part not in PARTS:
        raise UnknownNameError.among("part", str(part), PARTS)
    maps, inside = _checked(saliency, masks)
    relevance = (maps.clamp(min=0) if part == "positive" else maps.abs()).double()
    share = (relevance * inside).sum((1, 2)) / relevance.sum((1, 2))
    return _where_known(share, inside).to(maps)


def rank_in_mask(saliency: Tensor | Attribution, masks: Masks) -> Float[Tensor, " batch"]:
    """The share of the K largest values that lie in the mask of K pixels (relevance rank accuracy); higher is better.

    Args:
        saliency: (batch, height, width), larger is more relevant; or an Attribution, whose heat map is taken.
        masks: True on the object.

    Returns:
        (batch,), 0 to 1, for a constant map the share of the image that the mask covers; NaN where the mask is empty.

    Raises:
        InputError: a map with NaN, or masks that are no booleans.
        ShapeError: masks of another shape than the map.

    Reference: Arras et al. 2022, arXiv:2003.07258.
    """
    maps, inside = _checked(saliency, masks)
    found = _share_of_largest(maps, inside, inside.sum((1, 2)))
    return _where_known(found, inside).to(maps)


def top_k_intersection(
    saliency: Tensor | Attribution, masks: Masks, *, k: int = 1000
) -> Float[Tensor, " batch"]:
    """The share of the k largest values that lie in the mask; higher is better.

    Args:
        saliency: (batch, height, width), larger is more relevant; or an Attribution, whose heat map is taken.
        masks: True on the object.
        k: From 1 to the number of pixels. A mask smaller than k cannot reach 1.

    Returns:
        (batch,), 0 to 1, for a constant map the share of the image that the mask covers; NaN where the mask is empty.

    Raises:
        InputError: a map with NaN, masks that are no booleans, or k out of range.
        ShapeError: masks of another shape than the map.

    Reference: Theiner et al. 2022, arXiv:2104.14995.
    """
    maps, inside = _checked(saliency, masks)
    pixels = maps[0].numel()
    if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= pixels:
        raise InputError(f"k must be a whole number from 1 to {pixels}, the number of pixels, got {k!r}.")
    found = _share_of_largest(maps, inside, torch.full((len(maps),), k, device=maps.device))
    return _where_known(found, inside).to(maps)


def auc_in_mask(saliency: Tensor | Attribution, masks: Masks) -> Float[Tensor, " batch"]:
    """How likely a random pixel of the mask has a larger value than a random one outside (AUROC), ties counting half; higher is better.

    Args:
        saliency: (batch, height, width), larger is more relevant; or an Attribution, whose heat map is taken.
        masks: True on the object.

    Returns:
        (batch,), 0 to 1, 0.5 for a constant map; NaN where the mask is empty or covers the image.

    Raises:
        InputError: a map with NaN, or masks that are no booleans.
        ShapeError: masks of another shape than the map.

    Reference: Fawcett 2006, doi:10.1016/j.patrec.2005.10.010.
    """
    maps, inside = _checked(saliency, masks)
    ranks = torch.from_numpy(scipy.stats.rankdata(maps.flatten(1).double().cpu().numpy(), axis=1)).to(
        maps.device
    )
    count = inside.sum((1, 2)).double()
    others = maps[0].numel() - count
    # Mann and Whitney: how often a pixel of the mask comes after one outside.
    after = (ranks * inside.flatten(1)).sum(1) - count * (count + 1) / 2
    return (after / (count * others)).to(maps)


def _checked(
    saliency: Tensor | Attribution, masks: Tensor
) -> tuple[Float[Tensor, "batch height width"], Masks]:
    maps = map_numbers("saliency", saliency)
    return maps, check_masks(masks, maps)


def _where_known(numbers: Float[Tensor, " batch"], inside: Masks) -> Float[Tensor, " batch"]:
    """NaN where there is no object to point at."""
    return numbers.where(inside.any(2).any(1), torch.nan)


def _share_of_largest(
    maps: Float[Tensor, "batch height width"], inside: Masks, k: Int[Tensor, " batch"]
) -> Float[Tensor, " batch"]:
    """The share of the k largest values that lie inside, on average over all ways to break ties."""
    flat, within = maps.flatten(1), inside.flatten(1)
    ordered = flat.sort(dim=1, descending=True).values
    least = ordered.gather(1, (k - 1).clamp(min=0)[:, None])  # the smallest value among the k largest
    above, tied = flat > least, flat == least
    left = k - above.sum(1)  # places for the tied
    sure = (above & within).sum(1)
    expected = left * (tied & within).sum(1) / tied.sum(1)
    return (sure + expected).double() / k


def _within(inside: Masks, tolerance: float) -> Masks:
    """The pixels at most so far from the mask; meaningless for an empty one, which is undefined anyway."""
    away = [distance_transform_edt(~mask) for mask in inside.cpu().numpy()]
    return torch.from_numpy(np.stack(away) <= tolerance).to(inside.device)
