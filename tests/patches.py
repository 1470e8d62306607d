"""A detector whose evidence is known: every candidate's score, and its shift, are means over its own box."""

import torch
from torch import Tensor, nn

from counterpoint.detectors import Candidates, Detector, Reported, Sizing
from counterpoint.detectors.overlap import without_doubles
from counterpoint.detectors.pixels import check_colour_pixels

SLOPE, OFFSET, SHIFT = 8.0, -4.0, 2.0
BOXES = ((0, 0, 8, 8), (2, 0, 10, 8), (8, 8, 16, 16), (0, 8, 8, 16))
"""The first two overlap by 48 / 80 = 0.6."""


class Maps(nn.Module):
    """The pixels themselves, as a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Identity()

    def forward(self, pixels: Tensor) -> Tensor:
        return self.maps(pixels)


class Patches(nn.Module):
    """Of 16 x 16 pixels. Class 0 is red, class 1 is green; blue shifts a box to the right by 2 px at most.

    logit = 8 * mean of the class's colour in the box - 4; score = sigmoid of that.
    """

    wraps = "model"
    background: frozenset[int] = frozenset()

    def __init__(self) -> None:
        super().__init__()
        self.model = Maps()
        self.eval()

    def forward(self, pixels: Tensor) -> Candidates:
        maps = self.model(pixels)
        means = torch.stack([maps[:, :, y0:y1, x0:x1].mean((2, 3)) for x0, y0, x1, y1 in BOXES], 1)
        logits = SLOPE * means[..., :2] + OFFSET
        shift = SHIFT * means[..., 2:] * torch.tensor([1.0, 0.0, 1.0, 0.0]).to(pixels)
        boxes = torch.tensor(BOXES).to(pixels) + shift
        return Candidates(
            boxes=boxes.unsqueeze(2),
            scores=logits.sigmoid(),
            logits=logits,
            level=torch.zeros(boxes.shape[:2], dtype=torch.int64),
        )

    def report(self, pixels: Tensor) -> tuple[Candidates, list[Reported]]:
        """Candidates with a score above 0.5, without doubles of one class."""
        candidates = self(pixels)
        found = []
        for boxes, scores in zip(candidates.boxes[:, :, 0], candidates.scores, strict=True):
            best, labels = scores.max(1)
            kept = without_doubles(boxes, best, above=0.5)
            kept = kept[best[kept] > 0.5]
            found.append(Reported(boxes=boxes[kept], scores=best[kept], labels=labels[kept]))
        return candidates, found

    def holding(self, regions: Tensor) -> "Patches":
        return self

    def levels(self, pixels: Tensor) -> tuple[str, ...]:
        return ("maps",)

    def check_pixels(self, name: str, pixels: Tensor) -> None:
        check_colour_pixels(name, pixels)


def patches() -> Detector:
    """The detector."""
    return Detector(
        Patches(),
        sizing=Sizing(shorter=16, longest=16, multiple=1, fixed=(16, 16)),
        labels=["red", "green"],
        name="patches",
        weights="made by hand",
    )


def build() -> Detector:
    """For `--model patches:build`."""
    return patches()


def scene(red: float = 0.9, green: float = 0.8, *, rows: int = 1) -> Tensor:
    """Red in the first box, green in the third, float64; the rest is black."""
    pixels = torch.zeros(rows, 3, 16, 16, dtype=torch.float64)
    pixels[:, 0, 0:8, 0:8] = red
    pixels[:, 1, 8:16, 8:16] = green
    return pixels
