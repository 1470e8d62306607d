"""Random crops of images, brought back to the size of the whole."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

SMALLEST_SIDE = 0.5
"""Of a crop, as a share of the image's."""


def crop_boxes(images: int, crops: int, generator: torch.Generator) -> Float[Tensor, "images crops 3"]:
    """Where to crop each image: the side as a share of the image's, and how far down and right of all that is possible."""
    boxes = torch.rand(images, crops, 3, generator=generator, dtype=torch.float64)
    boxes[..., 0] = SMALLEST_SIDE + (1 - SMALLEST_SIDE) * boxes[..., 0]
    return boxes


def with_crops(
    images: Float[Tensor, "images channel height width"],
    boxes: Float[Tensor, "images crops 3"],
    start: int,
    stop: int,
) -> Float[Tensor, "rows channel height width"]:
    """Rows `start` to `stop` of a sequence in which each image is followed by its crops."""
    each = 1 + boxes.shape[1]
    rows = []
    for row in range(start, stop):
        image, crop = divmod(row, each)
        rows.append(images[image] if crop == 0 else _crop(images[image], boxes[image, crop - 1]))
    return torch.stack(rows)


def _crop(image: Float[Tensor, "channel height width"], box: Float[Tensor, "3"]) -> Tensor:
    side, down, right = box.tolist()
    height, width = (max(1, round(side * size)) for size in image.shape[1:])
    top, left = round(down * (image.shape[1] - height)), round(right * (image.shape[2] - width))
    part = image[None, :, top : top + height, left : left + width]
    return F.interpolate(part, image.shape[1:], mode="bilinear", antialias=True, align_corners=False)[0]
