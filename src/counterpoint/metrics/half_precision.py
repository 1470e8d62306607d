"""Curves in bfloat16: a copy of the model to run, and the check that its areas still say the same."""

import copy
from dataclasses import dataclass

import numpy as np
import scipy
import torch
from jaxtyping import Float
from torch import Tensor, nn

from counterpoint.errors import InputError

IMAGES, MAPS = 8, 4
LEAST_SPEARMAN = 0.98


@dataclass(frozen=True)
class PrecisionCheck:
    """How well areas in bfloat16 agree with those in float32, on a part of the work."""

    spearman: float
    """Rank correlation of the areas over all images and maps checked: the smallest among kinds of curve and baselines."""
    within_images: float
    """The same with the mean of each image's areas taken off: only differences between its maps count. Reported, not asked for."""
    largest_difference: float
    """The largest |difference| of two areas, in units of the score."""
    images: int
    maps: int
    controls: int
    """How many of the maps were random ones, added because fewer were given."""


def bfloat16_copy(module: nn.Module) -> nn.Module:
    """A copy of the model with weights and buffers in bfloat16.

    Raises:
        InputError: the model cannot be copied.
    """
    try:
        return copy.deepcopy(module).requires_grad_(False).to(torch.bfloat16)
    except (RuntimeError, TypeError) as error:
        raise InputError(
            f"precision='bfloat16' needs a copy of the model, which cannot be made: {error}"
        ) from error


def spread_evenly(count: int, most: int) -> list[int]:
    """At most `most` of the indices 0 ... count - 1, evenly spread."""
    chosen = min(count, most)
    return [i * count // chosen for i in range(chosen)]


def control_maps(like: Float[Tensor, "batch *space"], count: int) -> dict[str, Float[Tensor, "batch *space"]]:
    """Smooth random maps, the same for every image, to fill up the number of maps that are checked."""
    generator = torch.Generator().manual_seed(0)
    sides = like.shape[1:]
    noise = torch.randn(count, 1, *[7] * len(sides), generator=generator)
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(sides)]
    fields = nn.functional.interpolate(noise, size=sides, mode=mode, align_corners=False)
    return {f"control {i}": field.to(like).expand_as(like) for i, field in enumerate(fields[:, 0])}


def agreement(
    half: Float[Tensor, "curves maps images"],
    full: Float[Tensor, "curves maps images"],
    *,
    controls: int,
) -> PrecisionCheck:
    """Compare the areas of the same curves in bfloat16 and in float32.

    Args:
        half, full: Areas; the first axis is kind of curve and baseline.
        controls: How many of the maps are random ones.
    """
    pooled = [_spearman(h.flatten(), f.flatten()) for h, f in zip(half, full, strict=True)]
    half_within, full_within = (each - each.mean(1, keepdim=True) for each in (half, full))
    within = [_spearman(h.flatten(), f.flatten()) for h, f in zip(half_within, full_within, strict=True)]
    return PrecisionCheck(
        spearman=float(np.min(pooled)),
        within_images=float(np.min(within)),
        largest_difference=float((half - full).abs().max()),
        images=full.shape[2],
        maps=full.shape[1],
        controls=controls,
    )


def _spearman(one: Float[Tensor, " areas"], two: Float[Tensor, " areas"]) -> float:
    """Pearson's correlation of the ranks, ties sharing theirs; NaN where one of the two is constant."""
    ranks = [scipy.stats.rankdata(each.cpu().double().numpy()) for each in (one, two)]
    centred = [each - each.mean() for each in ranks]
    size = np.sqrt((centred[0] ** 2).sum() * (centred[1] ** 2).sum())
    return float((centred[0] * centred[1]).sum() / size) if size > 0 else float("nan")
