"""Does the map of a detection lie in its box? Curves with the detection found again are those of `cp.metrics`."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from counterpoint.attribution import Attribution
from counterpoint.detectors.candidates import Detection
from counterpoint.errors import ShapeError
from counterpoint.metrics import mass_in_mask, pointing_game
from counterpoint.metrics.localisation import Part


def box_masks(
    detections: list[Detection] | tuple[Detection, ...], size: tuple[int, int]
) -> Bool[Tensor, "batch height width"]:
    """True on the pixels whose centre lies in the box of each image's detection; `size` is (height, width)."""
    height, width = size
    across, down = torch.arange(width) + 0.5, torch.arange(height) + 0.5
    boxes = torch.tensor([each.box for each in detections]).view(-1, 4, 1)
    inside_x = (boxes[:, 0] <= across) & (across < boxes[:, 2])
    inside_y = (boxes[:, 1] <= down) & (down < boxes[:, 3])
    return inside_y.unsqueeze(2) & inside_x.unsqueeze(1)


def energy_in_box(
    saliency: Tensor | Attribution,
    detections: list[Detection] | tuple[Detection, ...],
    *,
    part: Part = "positive",
) -> Float[Tensor, " batch"]:
    """The share of the map's positive (or absolute) values that lies in the box of the detection; higher is better.

    It asks whether the map shows the object, not whether the model uses it: evidence may lie outside, as a road does for a car.
    A map that is the same everywhere has the share of the picture that the box covers.

    Args:
        saliency: (batch, height, width), larger is more relevant; or an Attribution, whose heat map is taken.
        detections: One for each image.
        part: "positive" or "absolute".

    Returns:
        (batch,), 0 to 1; NaN where the map has no relevance.

    Raises:
        ShapeError: another number of detections than maps.

    Reference: the energy-based pointing game of Wang et al. 2020, arXiv:1910.01279.
    """
    return mass_in_mask(saliency, _masks(saliency, detections), part=part)


def pointing_in_box(
    saliency: Tensor | Attribution,
    detections: list[Detection] | tuple[Detection, ...],
    *,
    tolerance: float = 0.0,
) -> Float[Tensor, " batch"]:
    """1 where the largest value of the map lies in the box of the detection, 0 where it does not; see `cp.metrics.pointing_game`."""
    return pointing_game(saliency, _masks(saliency, detections), tolerance=tolerance)


def _masks(
    saliency: Tensor | Attribution, detections: list[Detection] | tuple[Detection, ...]
) -> Bool[Tensor, "batch height width"]:
    maps = saliency.heatmap() if isinstance(saliency, Attribution) else saliency
    if len(maps) != len(detections):
        raise ShapeError(f"detections must be one for each of {len(maps)} maps, got {len(detections)}.")
    return box_masks(detections, (maps.shape[1], maps.shape[2])).to(maps.device)
