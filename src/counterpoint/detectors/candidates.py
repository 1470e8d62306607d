"""What a detector returns: every candidate before the threshold, and the detections that it would report."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels of the input."""

SIDES = ("x0", "y0", "x1", "y1")


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidates:
    """All that a detector considers in each row, differentiable; rows with fewer are filled up with empty boxes of score 0."""

    boxes: Float[Tensor, "rows candidates own 4"]
    """x0, y0, x1, y1 in pixels of the input; `own` is 1 where all classes share a box, else the number of classes."""
    scores: Float[Tensor, "rows candidates classes"]
    """From 0 to 1, by which the detector ranks."""
    logits: Float[Tensor, "rows candidates classes"]
    """Of the class, before softmax or sigmoid."""
    level: Int[Tensor, "rows candidates"]
    """Which of the detector's feature maps the candidate was read from."""
    regions: Float[Tensor, "rows candidates 4"] | None = None
    """Of detectors in stages: the box, in pixels of the input, that the last stage looked into; it carries no gradient."""

    def boxes_of(self, label: Int[Tensor, " rows"]) -> Float[Tensor, "rows candidates 4"]:
        """The box of each candidate as an object of the row's class."""
        if self.boxes.shape[2] == 1:
            return self.boxes[:, :, 0]
        index = label.view(-1, 1, 1, 1).expand(-1, self.boxes.shape[1], 1, 4)
        return self.boxes.gather(2, index)[:, :, 0]

    def scores_of(self, label: Int[Tensor, " rows"]) -> Float[Tensor, "rows candidates"]:
        """The score of each candidate for the row's class."""
        return _column(self.scores, label)

    def logits_of(self, label: Int[Tensor, " rows"]) -> Float[Tensor, "rows candidates"]:
        """The logit of each candidate for the row's class."""
        return _column(self.logits, label)


@dataclass(frozen=True, kw_only=True, eq=False)
class Reported:
    """What the detector itself would report of one image, after its threshold and its suppression of doubles; best first."""

    boxes: Float[Tensor, "found 4"]
    scores: Float[Tensor, " found"]
    labels: Int[Tensor, " found"]


@dataclass(frozen=True, kw_only=True)
class Detection:
    """One object that a detector sees: what a score is asked about."""

    box: Box
    label: int
    """Index of the class."""
    name: str | None
    """Its label, where the detector has labels."""
    score: float
    """From 0 to 1."""
    candidate: int
    """Its place among the candidates of its image."""
    layer: str
    """The layer whose feature map it was read from."""
    reported: bool
    """Whether the detector itself reports it; False for a candidate below the threshold."""
    region: Box | None = None
    """Of detectors of several stages: what the last stage looked into."""

    @property
    def text(self) -> str:
        """Class and score, for people."""
        return f"{self.name if self.name is not None else f'class {self.label}'} {self.score:.2f}"


def padded(parts: list[Tensor]) -> Tensor:
    """One row each of another number of candidates, filled up with zeros."""
    most = max(len(part) for part in parts)
    return torch.stack([pad(part, (0, 0) * (part.ndim - 1) + (0, most - len(part))) for part in parts])


def _column(table: Tensor, label: Tensor) -> Tensor:
    return table.gather(2, label.view(-1, 1, 1).expand(-1, table.shape[1], 1))[:, :, 0]
