"""A detection found again among the candidates of a changed image."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from counterpoint.detectors.overlap import generalised_overlaps, overlaps

By = Literal["score", "score_times_overlap"]
"""Which of the candidates is the object.

score                of those that overlap the box by `iou` at least, the one with the greatest score for the class.
score_times_overlap  of all, the one with the greatest product of score and intersection over union.
"""


@dataclass(frozen=True, eq=False)
class Match:
    """One candidate of each row."""

    place: Int[Tensor, " rows"]
    found: Bool[Tensor, " rows"]
    """Whether it is the object; where not, `place` is the candidate nearest to the box."""


def match(
    boxes: Float[Tensor, "rows candidates 4"],
    scores: Float[Tensor, "rows candidates"],
    box: Float[Tensor, "rows 4"],
    *,
    by: By,
    iou: float,
) -> Match:
    """Find the object again: the candidate of its class, at its place.

    Where no candidate overlaps the box enough, the nearest by generalised intersection over union stands in, and is marked as not found.

    Args:
        boxes: Of all candidates, as objects of the class.
        scores: Of all candidates, for the class.
        box: Of the object at the clean input.
        by: See `By`.
        iou: From which overlap on a candidate can be the object; "score_times_overlap" asks for none.

    Reference: "score": Zhao and Chan 2023, arXiv:2304.06354, as in their public code; "score_times_overlap": Petsiuk et al. 2021,
    arXiv:2006.03204, without their factor for the likeness of class probabilities, since the class is fixed here.
    """
    with torch.no_grad():
        shared = overlaps(boxes, box)
        near = shared >= iou if by == "score" else shared > 0
        rank = scores if by == "score" else scores * shared
        best = rank.where(near, -1.0).argmax(1)
        nearest = generalised_overlaps(boxes, box).argmax(1)
        found = near.any(1)
    return Match(place=best.where(found, nearest), found=found)
