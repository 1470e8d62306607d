"""torchvision's Faster R-CNN: regions are proposed, then each is looked into."""

from collections import OrderedDict
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from counterpoint.detectors.candidates import Candidates, Reported, padded
from counterpoint.detectors.network import layers_of_maps, scaled_boxes
from counterpoint.detectors.pixels import check_colour_pixels
from counterpoint.detectors.torchvision_input import prepared


class TwoStage(nn.Module):
    """A Faster R-CNN (or Mask or Keypoint R-CNN, of which the boxes are read) that returns all candidates.

    Candidates are the proposals, each with a box for each class. The first stage finds others in a changed image; no gradient flows
    through where they lie. With `regions` the first stage is left out.

    Args:
        model: torchvision's network, in evaluation mode; held, not copied.
        regions: (held, 4) in pixels of the input, looked into in each row instead of the first stage's own.
    """

    wraps = "model"
    background = frozenset({0})

    def __init__(self, model: nn.Module, regions: Float[Tensor, "held 4"] | None = None) -> None:
        super().__init__()
        self.model = model
        self.regions = regions
        self.training = model.training

    def forward(self, pixels: Float[Tensor, "rows 3 height width"]) -> Candidates:
        """The candidates of each row."""
        return self._run(pixels)[0]

    def report(self, pixels: Float[Tensor, "rows 3 height width"]) -> tuple[Candidates, list[Reported]]:
        """The candidates, and what torchvision's own threshold and suppression leave of them."""
        candidates, raw, scale = self._run(pixels)
        model: Any = self.model
        boxes, scores, labels = model.roi_heads.postprocess_detections(*raw)
        return candidates, [
            Reported(boxes=scaled_boxes(b, scale), scores=s, labels=c)
            for b, s, c in zip(boxes, scores, labels, strict=True)
        ]

    def holding(self, regions: Float[Tensor, "held 4"]) -> "TwoStage":
        """The same network without its first stage, looking into these regions."""
        return TwoStage(self.model, regions.detach())

    def levels(self, pixels: Float[Tensor, "rows 3 height width"]) -> tuple[str, ...]:
        """The layers of the pyramid that the second stage reads, the finest first."""
        model: Any = self.model

        def maps() -> list[Tensor]:
            features = self._features(prepared(model.transform, pixels)[0])
            return list(self._pooled(features).values())

        return layers_of_maps(self, maps)

    def check_pixels(self, name: str, pixels: Tensor) -> None:
        """See `check_colour_pixels`."""
        check_colour_pixels(name, pixels)

    def _features(self, images: Tensor) -> "OrderedDict[str, Tensor]":
        found = self.model.backbone(images)  # type: ignore[operator]
        return OrderedDict([("0", found)]) if isinstance(found, Tensor) else found

    def _pooled(self, features: "OrderedDict[str, Tensor]") -> "OrderedDict[str, Tensor]":
        model: Any = self.model
        return OrderedDict(
            (name, each)
            for name, each in features.items()
            if name in model.roi_heads.box_roi_pool.featmap_names
        )

    def _run(self, pixels: Tensor) -> tuple[Candidates, tuple[Any, ...], tuple[float, float]]:
        """Candidates; what torchvision's own last step takes; and the scale back to the input."""
        from torchvision.models.detection.image_list import ImageList

        model: Any = self.model
        images, scale = prepared(model.transform, pixels)
        size = (images.shape[2], images.shape[3])
        sizes = [size] * len(images)
        features = self._features(images)
        if self.regions is None:
            proposals, _ = model.rpn(ImageList(images, sizes), features)
        else:
            back = (1 / scale[0], 1 / scale[1])
            proposals = [scaled_boxes(self.regions.to(images), back)] * len(images)
        heads = model.roi_heads
        pooled = heads.box_head(heads.box_roi_pool(features, proposals, sizes))
        logits, regression = heads.box_predictor(pooled)
        counts = [len(each) for each in proposals]
        boxes = _inside(heads.box_coder.decode(regression, proposals), size)
        candidates = Candidates(
            boxes=scaled_boxes(padded(list(torch.split(boxes, counts))), scale),
            scores=padded(list(torch.split(logits.softmax(-1), counts))),
            logits=padded(list(torch.split(logits, counts))),
            level=padded(list(torch.split(self._level(features, proposals), counts))),
            regions=scaled_boxes(padded([each.detach() for each in proposals]), scale),
        )
        return candidates, (logits, regression, proposals, sizes), scale

    def _level(self, features: "OrderedDict[str, Tensor]", proposals: list[Tensor]) -> Tensor:
        model: Any = self.model
        if len(self._pooled(features)) == 1:
            return torch.zeros(sum(map(len, proposals)), dtype=torch.int64, device=proposals[0].device)
        level: Tensor = model.roi_heads.box_roi_pool.map_levels(proposals)
        return level


def _inside(boxes: Float[Tensor, "boxes classes 4"], size: tuple[int, int]) -> Tensor:
    """Boxes cut off at the edges of the image."""
    from torchvision.ops import clip_boxes_to_image

    cut: Tensor = clip_boxes_to_image(boxes, size)
    return cut
