"""Distances to the nearest of many features, computed in float64: float32 loses the digits of near matches."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

# Features compared at once: few enough for the distances to stay small beside the network.
_AT_ONCE = 4096

# Nearer than this share of their length, features are those of one picture: folding, batch size and layout round them by up to 1e-5.
_SAME = 1e-4


def kth_distance(
    points: Float[Tensor, "rows features"],
    among: Float[Tensor, "entries features"],
    left_out: Bool[Tensor, "rows entries"],
    *,
    k: int,
    normalise: bool = False,
) -> Float[Tensor, " rows"]:
    """The Euclidean distance of each point to the k-th nearest entry, infinite where fewer than k are left; float64.

    Args:
        points: Features.
        among: The entries.
        left_out: True where an entry does not count for a point.
        k: 1 for the nearest.
        normalise: Scale all features to length 1 first.
    """
    nearest = points.new_full((len(points), k), torch.inf, dtype=torch.float64)
    rows = _double(points, normalise)
    for start in range(0, len(among), _AT_ONCE):
        here = slice(start, start + _AT_ONCE)
        found = torch.cdist(rows, _double(among[here], normalise)).masked_fill(left_out[:, here], torch.inf)
        nearest = torch.cat([nearest, found], 1).topk(k, dim=1, largest=False).values
    return nearest.amax(1)


def same_picture(
    points: Float[Tensor, "rows features"],
    among: Float[Tensor, "entries features"],
    *,
    precision: torch.dtype = torch.float32,
) -> Bool[Tensor, "rows entries"]:
    """Whether a point and an entry are features of one picture: nearer than 1e-4 of the point's length, or a few roundings if coarser.

    Args:
        points: Features.
        among: The entries.
        precision: The type that the network computed in.
    """
    rows = _double(points, False)
    tolerance = max(_SAME, 8 * torch.finfo(precision).eps) * rows.norm(dim=1, keepdim=True)
    parts = [
        torch.cdist(rows, _double(among[start : start + _AT_ONCE], False)) <= tolerance
        for start in range(0, len(among), _AT_ONCE)
    ]
    return torch.cat(parts, 1)


def _double(features: Tensor, normalise: bool) -> Float[Tensor, "rows features"]:
    """In float64, in which the fast form of the distance, |a|² + |b|² - 2 ab, is exact enough."""
    exact = features.double()
    return F.normalize(exact, dim=1) if normalise else exact
