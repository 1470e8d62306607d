"""What is explained of a detector: the class score of one detection, or one side of its box."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from counterpoint.checks import check_batch, check_range
from counterpoint.detectors.candidates import SIDES, Box, Candidates, Detection
from counterpoint.detectors.detector import Detector
from counterpoint.detectors.matching import By, match
from counterpoint.detectors.overlap import overlaps
from counterpoint.errors import InputError, ModelError, UnknownNameError

Of = Literal["score", "logit", "x0", "y0", "x1", "y1"]

Follow = Literal["object", "candidate"]
"""What stays the same where the image changes.

object     the class and the place: the detection is found again among the candidates of the changed image.
candidate  the detector's own slot: the same anchor, the same query, or, in detectors of several stages, the same region for the last.
"""

Which = int | Detection | Sequence[int] | Sequence[Detection]


def detection(
    detector: Detector,
    which: Which = 0,
    *,
    box: Box | None = None,
    label: int | str | None = None,
    of: Of = "score",
    iou: float = 0.5,
    by: By = "score",
    follow: Follow = "object",
) -> "DetectionScore":
    """The score of one detection: its class score, or one side of its box.

    Its class and its box are settled at the clean inputs. Where the image changes it is found again (see `Follow` and `By`). If it is not,
    its score is 0, with a gradient of 0; a logit and the sides of a box have no value for "not there", so they are read from the candidate
    nearest to the box. A candidate need not pass the detector's threshold, so that a score can fall to 0 without a step.

    Args:
        detector: See `Detector`.
        which: A place in what the detector reports of each image, best first; or a `Detection`; or one of these for each image.
        box: Instead of `which`: the candidate most like an object in this box, x0, y0, x1, y1 in pixels of the input.
        label: Index or label of that object's class; goes with `box`.
        of: "score", from 0 to 1; "logit", before softmax or sigmoid; or a side of the box in pixels of the input.
        iou: Overlap (intersection over union) from which a candidate can be the object.
        by: Which of the candidates is the object. By "score_times_overlap" `of="score"` is that product, the score of D-RISE.
        follow: "object" or "candidate". With the latter the score has no steps, as path methods need it.

    Raises:
        InputError: an argument out of range, or of the wrong kind.
        UnknownNameError: an unknown `of`, `by` or `follow`.
    """
    return DetectionScore(detector, which, box=box, label=label, of=of, iou=iou, by=by, follow=follow)


class DetectionScore:
    """A detection's score before it meets its inputs; made by `detection`."""

    def __init__(
        self,
        detector: Detector,
        which: Which,
        *,
        box: Box | None,
        label: int | str | None,
        of: Of,
        iou: float,
        by: By,
        follow: Follow,
    ) -> None:
        if not isinstance(detector, Detector):
            raise InputError(f"detector must be a counterpoint.Detector, got {type(detector).__name__}.")
        for name, value, known in (
            ("of", of, get_args(Of)),
            ("by", by, get_args(By)),
            ("follow", follow, get_args(Follow)),
        ):
            if value not in known:
                raise UnknownNameError.among(name, str(value), known)
        check_range("iou", iou, 0.0, 1.0)
        if (box is None) != (label is None):
            raise InputError("box and label go together: where an object lies, and of which class it is.")
        if box is not None and (len(box) != 4 or not (box[0] < box[2] and box[1] < box[3])):
            raise InputError(f"box must be (x0, y0, x1, y1) with x0 < x1 and y0 < y1, got {box!r}.")
        self.detector = detector
        self.module: nn.Module = detector.module
        self.which = which
        self.box = box
        self.label = label
        self.of: Of = of
        self.iou = iou
        self.by: By = by
        self.follow: Follow = follow

    def bind(self, inputs: Float[Tensor, "batch *input"]) -> "BoundDetectionScore":
        """Settle which detection is meant in each image.

        Raises:
            InputError: the detector reports fewer detections, or no candidate lies in the box.
            ShapeError: inputs that are no images.
            ModelError: the detector returns no candidates.
        """
        check_batch("inputs", inputs)
        self.detector.module.check_pixels("inputs", inputs)
        chosen = tuple(self._chosen(inputs))
        classes = torch.tensor([each.label for each in chosen], device=inputs.device)
        boxes = torch.tensor([each.box for each in chosen], device=inputs.device, dtype=inputs.dtype)
        module, place = self.detector.module, torch.tensor([each.candidate for each in chosen])
        regions = [each.region for each in chosen if each.region is not None]
        if self.follow == "candidate" and regions:
            # Kept for all rows alike, as a network does not know which image a row belongs to; each then reads its own.
            held = torch.tensor(regions, device=inputs.device, dtype=inputs.dtype)
            module, place = module.holding(held), torch.arange(len(chosen))
        bound = BoundDetectionScore(
            module=module,
            of=self.of,
            iou=self.iou,
            by=self.by,
            follow=self.follow,
            classes=classes,
            boxes=boxes,
            place=place.to(inputs.device),
            detections=chosen,
            labels=None if self.detector.labels is None else tuple(str(each.name) for each in chosen),
            spread=torch.empty(0),
            at_inputs=torch.empty(0),
        )
        with torch.no_grad():
            image = torch.arange(len(inputs), device=inputs.device)
            rows = [
                bound.values_and_spread(module(inputs[i : i + 1]), image[i : i + 1]) for i in image.tolist()
            ]
        object.__setattr__(bound, "at_inputs", torch.cat([value for value, _ in rows]))
        object.__setattr__(bound, "spread", torch.cat([spread for _, spread in rows]))
        return bound

    def _chosen(self, inputs: Tensor) -> list[Detection]:
        if self.box is not None and self.label is not None:
            found = self.detector.detection_at
            return [
                found(inputs[i : i + 1], self.box, self.label, iou=self.iou)[0] for i in range(len(inputs))
            ]
        which: Any = self.which
        many = isinstance(which, Sequence) and not isinstance(which, str)
        each = list(which) if many else [which] * len(inputs)
        if len(each) != len(inputs):
            raise InputError(
                f"which must be one detection, or one for each of {len(inputs)} images, got {len(each)}."
            )
        for one in each:
            if isinstance(one, bool) or not isinstance(one, int | Detection):
                raise InputError(f"which must be a place among the detections or a Detection, got {one!r}.")
        if all(isinstance(one, Detection) for one in each):
            return [one for one in each if isinstance(one, Detection)]
        reported = self.detector.detections(inputs)
        return [self._one(one, found, i) for i, (one, found) in enumerate(zip(each, reported, strict=True))]

    @staticmethod
    def _one(which: Any, reported: list[Detection], image: int) -> Detection:
        if isinstance(which, Detection):
            return which
        if not 0 <= which < len(reported):
            raise InputError(
                f"which must be a detection from 0 to {len(reported) - 1} of image {image}, got {which}."
                if reported
                else f"the detector reports nothing in image {image}; give one of detector.best_candidates(inputs), or a box and a label."
            )
        return reported[int(which)]


@dataclass(frozen=True, kw_only=True, eq=False)
class BoundDetectionScore:
    """A detection's score settled at its inputs."""

    module: nn.Module
    of: Of
    iou: float
    by: By
    follow: Follow
    classes: Int[Tensor, " batch"]
    boxes: Float[Tensor, "batch 4"]
    place: Int[Tensor, " batch"]
    """The candidate to read where `follow` is "candidate"."""
    detections: tuple[Detection, ...]
    """What was settled, one for each image."""
    labels: tuple[str, ...] | None
    """The label of each image's detection."""
    spread: Float[Tensor, " ..."]
    """Largest minus smallest score over all classes at the clean input; of a side of the box, the box's own extent."""
    at_inputs: Float[Tensor, " ..."]
    """f(x), known from settling the detections."""

    @property
    def kind(self) -> str:
        """What is read, for cards."""
        return f"detection_{self.of}"

    @property
    def layers(self) -> tuple[str, ...]:
        """The layer whose feature map each image's detection was read from."""
        return tuple(each.layer for each in self.detections)

    def __call__(
        self, points: Float[Tensor, "rows *input"], image: Int[Tensor, " rows"]
    ) -> Float[Tensor, " rows"]:
        """The score of each row; `image` says which of the inputs' detections to read."""
        return self.read(self.module(points), image)

    def on(self, module: nn.Module) -> "BoundDetectionScore":
        """The same score, settled the same way, read from another module."""
        return replace(self, module=module)

    def read(self, output: object, image: Int[Tensor, " rows"]) -> Float[Tensor, " rows"]:
        """The scores in the candidates that the module returned, float32 at least.

        Raises:
            ModelError: no candidates.
        """
        return self.values_and_spread(output, image)[0]

    def values_and_spread(
        self, output: object, image: Int[Tensor, " rows"]
    ) -> tuple[Float[Tensor, " rows"], Float[Tensor, " rows"]]:
        """The scores, and how far those of other classes lie from each other at the same candidate."""
        if not isinstance(output, Candidates) or output.boxes.shape[1] == 0:
            raise ModelError(f"a detector must return candidates, got {type(output).__name__}.")
        label, box = self.classes[image], self.boxes[image]
        boxes, scores = output.boxes_of(label), output.scores_of(label)
        if self.follow == "candidate":
            place, found = self.place[image], torch.ones_like(image, dtype=torch.bool)
        else:
            matched = match(boxes, scores, box.to(boxes), by=self.by, iou=self.iou)
            place, found = matched.place, matched.found
        own = boxes[torch.arange(len(place)), place]
        if self.of in SIDES:
            extent = (box[:, 2:] - box[:, :2])[:, SIDES.index(self.of) % 2]
            return _at_least_float32(own[:, SIDES.index(self.of)]), _at_least_float32(extent)
        table = output.logits if self.of == "logit" else output.scores
        every = table[torch.arange(len(place)), place]
        value = _at_least_float32(every.gather(1, label[:, None])[:, 0])
        if self.of == "score":
            # Multiplied, not replaced: the score keeps its place in the graph, with a gradient of 0.
            value = value * found
            if self.by == "score_times_overlap" and self.follow == "object":
                value = value * overlaps(own.unsqueeze(1), box.to(own))[:, 0]
        return value, _at_least_float32(every.amax(1) - every.amin(1)).detach()


def _at_least_float32(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()
