"""How much boxes overlap, and which of several boxes of one object is kept."""

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

Boxes = Float[Tensor, "*rows boxes 4"]


def areas(boxes: Float[Tensor, "*rows 4"]) -> Float[Tensor, "*rows"]:
    """Width times height; 0 for a box turned inside out."""
    return (boxes[..., 2] - boxes[..., 0]).clamp(min=0) * (boxes[..., 3] - boxes[..., 1]).clamp(min=0)


def overlaps(
    boxes: Boxes, other: Float[Tensor, "*rows 4"], *, over: Literal["union", "smaller"] = "union"
) -> Float[Tensor, "*rows boxes"]:
    """Intersection over union of each box with one other; 0 for a box without area.

    Args:
        boxes: x0, y0, x1, y1.
        other: One box for each row.
        over: "smaller" divides by the smaller of the two areas instead.
    """
    shared, one, two = _parts(boxes, other)
    whole = one + two - shared if over == "union" else torch.minimum(one, two)
    return shared / whole.where(whole > 0, 1.0)


def generalised_overlaps(boxes: Boxes, other: Float[Tensor, "*rows 4"]) -> Float[Tensor, "*rows boxes"]:
    """Generalised intersection over union, -1 to 1, which also orders boxes that do not overlap.

    Formula: IoU - (area of the hull - area of the union) / area of the hull

    Reference: Rezatofighi et al. 2019, arXiv:1902.09630.
    """
    shared, one, two = _parts(boxes, other)
    union = one + two - shared
    other = other.unsqueeze(-2)
    low, high = torch.minimum(boxes[..., :2], other[..., :2]), torch.maximum(boxes[..., 2:], other[..., 2:])
    hull = areas(torch.cat([low, high], -1))
    return shared / union.where(union > 0, 1.0) - (hull - union) / hull.where(hull > 0, 1.0)


def without_doubles(
    boxes: Float[Tensor, "boxes 4"],
    scores: Float[Tensor, " boxes"],
    *,
    above: float,
    most: int | None = None,
    over: Literal["union", "smaller"] = "union",
) -> Int[Tensor, " kept"]:
    """Greedy non-maximum suppression: the best box, then the best that overlaps no kept one by more than `above`, and so on.

    Args:
        boxes: x0, y0, x1, y1.
        scores: Larger is better; of equal ones the first is taken.
        above: Overlap from which two boxes are doubles.
        most: Stop after so many.
        over: See `overlaps`.

    Returns:
        The places of the kept boxes, best first.
    """
    order = scores.argsort(descending=True, stable=True)
    ranked = boxes[order].detach()
    doubles = (overlaps(ranked.expand(len(ranked), -1, -1), ranked, over=over) > above).cpu().numpy()
    kept: list[int] = []
    gone = doubles[:0].sum(0) > 0
    for place in range(len(ranked)):
        if not gone[place]:
            kept.append(place)
            gone |= doubles[place]
            if len(kept) == most:
                break
    return order[torch.tensor(kept, dtype=torch.int64, device=boxes.device)]


def _parts(boxes: Tensor, other: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Area of the intersection, and of either."""
    other = other.unsqueeze(-2)
    low, high = torch.maximum(boxes[..., :2], other[..., :2]), torch.minimum(boxes[..., 2:], other[..., 2:])
    return areas(torch.cat([low, high], -1)), areas(boxes), areas(other)
