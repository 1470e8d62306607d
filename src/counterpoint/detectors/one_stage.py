"""torchvision's RetinaNet, FCOS and SSD: every place of every feature map is a candidate."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from counterpoint.detectors.candidates import Candidates, Reported
from counterpoint.detectors.network import layers_of_maps, scaled_boxes
from counterpoint.detectors.pixels import check_colour_pixels
from counterpoint.detectors.torchvision_input import prepared


class OneStage(nn.Module):
    """A RetinaNet, FCOS or SSD that returns all candidates: its anchors, in a fixed order.

    Scores are those that the network ranks by: sigmoid (RetinaNet), softmax (SSD), or the root of sigmoid times centre-ness (FCOS,
    whose logits are those of the class alone).

    Args:
        model: torchvision's network, in evaluation mode; held, not copied.
    """

    wraps = "model"

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.training = model.training
        self.softmax = type(model).__name__ == "SSD"
        self.background = frozenset({0} if self.softmax else ())

    def forward(self, pixels: Float[Tensor, "rows 3 height width"]) -> Candidates:
        """The candidates of each row."""
        return self._run(pixels)[0]

    def report(self, pixels: Float[Tensor, "rows 3 height width"]) -> tuple[Candidates, list[Reported]]:
        """The candidates, and what torchvision's own threshold and suppression leave of them."""
        candidates, heads, anchors, places, size, scale = self._run(pixels)
        model: Any = self.model
        if not self.softmax:  # these want the levels one by one
            heads = {name: list(each.split(places, dim=1)) for name, each in heads.items()}
            anchors = [list(each.split(places)) for each in anchors]
        found = model.postprocess_detections(heads, anchors, [size] * len(pixels))
        return candidates, [
            Reported(boxes=scaled_boxes(each["boxes"], scale), scores=each["scores"], labels=each["labels"])
            for each in found
        ]

    def holding(self, regions: Float[Tensor, "held 4"]) -> "OneStage":
        """The network itself: its candidates have fixed places."""
        return self

    def levels(self, pixels: Float[Tensor, "rows 3 height width"]) -> tuple[str, ...]:
        """The layers of the feature maps that the heads read, the finest first."""
        model: Any = self.model
        return layers_of_maps(self, lambda: self._features(prepared(model.transform, pixels)[0]))

    def check_pixels(self, name: str, pixels: Tensor) -> None:
        """See `check_colour_pixels`."""
        check_colour_pixels(name, pixels)

    def _features(self, images: Tensor) -> list[Tensor]:
        found = self.model.backbone(images)  # type: ignore[operator]
        return [found] if isinstance(found, Tensor) else list(found.values())

    def _run(self, pixels: Tensor) -> tuple[Candidates, dict[str, Any], list[Any], list[int], Any, Any]:
        from torchvision.models.detection.image_list import ImageList
        from torchvision.ops import clip_boxes_to_image

        model: Any = self.model
        images, scale = prepared(model.transform, pixels)
        size = (images.shape[2], images.shape[3])
        features = self._features(images)
        heads: dict[str, Tensor] = model.head(features)
        anchors = model.anchor_generator(ImageList(images, [size] * len(images)), features)
        logits = heads["cls_logits"]
        places = _per_level(model, features)
        decode = getattr(model.box_coder, "decode_single", model.box_coder.decode)
        boxes = torch.stack(
            [decode(offsets, each) for offsets, each in zip(heads["bbox_regression"], anchors, strict=True)]
        )
        level = torch.repeat_interleave(torch.arange(len(places)), torch.tensor(places)).to(logits.device)
        candidates = Candidates(
            boxes=scaled_boxes(clip_boxes_to_image(boxes, size), scale).unsqueeze(2),
            scores=self._scores(heads),
            logits=logits,
            level=level.expand(len(images), -1),
        )
        return candidates, heads, anchors, places, size, scale

    def _scores(self, heads: dict[str, Tensor]) -> Tensor:
        logits = heads["cls_logits"]
        if self.softmax:
            return logits.softmax(-1)
        if "bbox_ctrness" in heads:
            return (logits.sigmoid() * heads["bbox_ctrness"].sigmoid()).sqrt()
        return logits.sigmoid()


def _per_level(model: Any, features: Sequence[Tensor]) -> list[int]:
    """How many candidates each level has."""
    each_place = model.anchor_generator.num_anchors_per_location()
    return [maps.shape[2] * maps.shape[3] * count for maps, count in zip(features, each_place, strict=True)]
