"""DETR and its kind from Hugging Face: a fixed number of queries, each of which becomes at most one box."""

import inspect
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from counterpoint.classifier import Normalise
from counterpoint.detectors.candidates import Candidates, Reported
from counterpoint.detectors.network import last_maps
from counterpoint.detectors.pixels import check_colour_pixels
from counterpoint.errors import ModelError


class Queries(nn.Module):
    """A detector that returns `logits` (rows, queries, classes) and `pred_boxes` (rows, queries, 4) as shares of the picture.

    With one class more than the configuration names, the last is "no object" and scores are a softmax (DETR, YOLOS); with as many, they
    are sigmoids (Conditional and Deformable DETR, RT-DETR).

    Args:
        model: The network, in evaluation mode; held, not copied.
        mean: Subtracted from each channel, for pixels in [0, 1].
        std: What each channel is divided by afterwards.
        threshold: Score from which the detector reports a query.
    """

    wraps = "model"
    background: frozenset[int] = frozenset()

    def __init__(
        self, model: nn.Module, mean: Sequence[float], std: Sequence[float], *, threshold: float = 0.5
    ) -> None:
        super().__init__()
        self.normalise = Normalise(mean, std)
        self.model = model
        self.threshold = threshold
        self.classes: int = model.config.num_labels  # type: ignore[union-attr, assignment]
        self.masked = "pixel_mask" in inspect.signature(model.forward).parameters
        self.training = self.normalise.training = model.training

    def forward(self, pixels: Float[Tensor, "rows 3 height width"]) -> Candidates:
        """The candidates of each row, one for each query.

        Raises:
            ModelError: the network returns neither one score for each of its classes, nor one more.
        """
        # The whole picture counts: without a mask some of these networks would make one of the features' size.
        mask = {"pixel_mask": torch.ones_like(pixels[:, 0], dtype=torch.int64)} if self.masked else {}
        output = self.model(pixel_values=self.normalise(pixels), **mask)
        logits, shares = output.logits, output.pred_boxes
        if logits.shape[2] not in (self.classes, self.classes + 1):
            raise ModelError(
                f"the model names {self.classes} classes, but returns scores of {logits.shape[2]}; a detector returns as many or one more."
            )
        softmax = logits.shape[2] == self.classes + 1
        height, width = pixels.shape[2:]
        centre, half = shares[..., :2], shares[..., 2:] / 2
        corners = torch.cat([centre - half, centre + half], -1)
        boxes = corners * torch.tensor([width, height] * 2, device=corners.device, dtype=corners.dtype)
        return Candidates(
            boxes=boxes.unsqueeze(2),
            scores=(logits.softmax(-1) if softmax else logits.sigmoid())[..., : self.classes],
            logits=logits[..., : self.classes],
            level=torch.zeros(boxes.shape[:2], dtype=torch.int64, device=boxes.device),
        )

    def report(self, pixels: Float[Tensor, "rows 3 height width"]) -> tuple[Candidates, list[Reported]]:
        """The candidates, and the best class of each query whose score is above the threshold."""
        candidates = self(pixels)
        found = []
        for boxes, scores in zip(candidates.boxes[:, :, 0], candidates.scores, strict=True):
            best, labels = scores.max(1)
            order = best.argsort(descending=True)[: int((best > self.threshold).sum())]
            found.append(Reported(boxes=boxes[order], scores=best[order], labels=labels[order]))
        return candidates, found

    def holding(self, regions: Float[Tensor, "held 4"]) -> "Queries":
        """The network itself: its queries are fixed."""
        return self

    def levels(self, pixels: Float[Tensor, "rows 3 height width"]) -> tuple[str, ...]:
        """The last layer with maps: in DETR the projection of the backbone's features, before they become tokens."""
        return (last_maps(self, pixels),)

    def check_pixels(self, name: str, pixels: Tensor) -> None:
        """See `check_colour_pixels`."""
        check_colour_pixels(name, pixels)
