"""A detector together with all that is needed to ask it about a photograph: its preprocessing and its labels."""

import os
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from counterpoint.classifier import weights_hash
from counterpoint.detectors.candidates import Box, Candidates, Detection, Reported
from counterpoint.detectors.network import Network
from counterpoint.detectors.overlap import areas, overlaps, without_doubles
from counterpoint.detectors.sizing import Sizing
from counterpoint.errors import InputError, ModelError, UnknownNameError
from counterpoint.images import read_image
from counterpoint.layers import unwrapped

Photograph = str | os.PathLike[str] | Image.Image

# Two boxes of one class that overlap by more are one object, among candidates that the detector does not report.
_DOUBLES = 0.5


class Detector:
    """A detector, its preprocessing and its labels; for boxes what a `Classifier` is for classes.

    `module` takes pixels (rows, 3, height, width) in [0, 1] and returns `Candidates`: everything that the detector considers before its
    threshold, so that a detection can be found again where it has become weak. The network is held, not copied.

    Args:
        module: One of `counterpoint.detectors`' networks: `TwoStage`, `OneStage`, `Queries`, a cascade, or one of your own that
            does what `counterpoint.detectors.network.Network` says.
        sizing: What size photographs are brought to.
        labels: The names of the classes, in the order of the scores.
        name: What results and cards call it; the name of the network's class by default.
        weights: Where the weights come from, in words; "random" for a detector that was not trained.

    Raises:
        InputError: a module that is no such network, one in training mode, or labels that are not strings.

    Example:
        `cp.load_model("mtcnn")`, or `torchvision_detector("mine", fasterrcnn_resnet50_fpn().eval(), labels)`
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        sizing: Sizing,
        labels: Iterable[str] | None = None,
        name: str | None = None,
        weights: str | None = None,
    ) -> None:
        if not (isinstance(module, nn.Module) and isinstance(module, Network)):
            raise InputError(
                f"module must be one of counterpoint.detectors' networks, such as OneStage(model), got {type(module).__name__}."
            )
        inner = unwrapped(module)[1]
        if any(part.training for part in inner.modules()):
            raise InputError(
                "the detector is in training mode, where it takes targets and drops boxes; call model.eval() first."
            )
        names = None if labels is None else tuple(labels)
        if names is not None and not (names and all(isinstance(each, str) for each in names)):
            raise InputError(f"labels must be a list of names, got {labels!r}.")
        self.module: Any = module
        self.sizing = sizing
        self.labels = names
        self.name = type(inner).__name__ if name is None else name
        self.weights = weights
        self._levels: tuple[str, ...] | None = None

    def __repr__(self) -> str:
        classes = "" if self.labels is None else f", {len(self.labels)} labels"
        return f"Detector({self.name!r}{classes})"

    @property
    def device(self) -> torch.device:
        """Where the network's first parameter lies; the CPU for one without any."""
        first = next(self.module.parameters(), None)
        return torch.device("cpu") if first is None else first.device

    def to(self, device: torch.device | str) -> "Detector":
        """This detector, its network moved to `device` in place, as torch's own `to` does."""
        self.module.to(device)
        return self

    def preprocess(self, images: Photograph | Iterable[Photograph]) -> Float[Tensor, "batch 3 height width"]:
        """The inputs for some photographs: whole pictures with pixels in [0, 1], float32, on the detector's device.

        Raises:
            ImageError: a file that cannot be read as an image.
            InputError: something that is neither, no image at all, or pictures that come out in several sizes.
        """
        listed = [images] if isinstance(images, str | os.PathLike | Image.Image) else images
        if isinstance(listed, Tensor) or not isinstance(listed, Iterable):
            raise InputError(f"images must be files or PIL images, got {type(images).__name__}.")
        rows = [self.sizing(each if isinstance(each, Image.Image) else read_image(each)) for each in listed]
        if not rows:
            raise InputError("images must name at least one photograph, got none.")
        sizes = sorted({tuple(row.shape[1:]) for row in rows})
        if len(sizes) > 1:
            raise InputError(
                f"photographs of several shapes make no batch, as a detector sees the whole picture: {sizes[0]} and {sizes[1]} "
                "(height, width); preprocess them one by one."
            )
        return torch.stack(rows).to(self.device)

    def detections(self, inputs: Float[Tensor, "batch 3 height width"]) -> list[list[Detection]]:
        """What the detector reports of each image, after its own threshold and suppression of doubles; best first."""
        return [found for found, _ in self._seen(inputs, most=0)]

    def best_candidates(
        self, inputs: Float[Tensor, "batch 3 height width"], k: int = 5
    ) -> list[list[Detection]]:
        """The best `k` candidates of each image whether or not the detector reports them, doubles (IoU above 0.5, same class) left out.

        Raises:
            InputError: `k` below 1.
        """
        if k < 1:
            raise InputError(f"k must be at least 1, got {k!r}.")
        return [best for _, best in self._seen(inputs, most=k)]

    def detection_at(
        self, inputs: Float[Tensor, "batch 3 height width"], box: Box, label: int | str, *, iou: float = 0.5
    ) -> list[Detection]:
        """The candidate of each image that is most like an object of this class in this box: the greatest score times overlap.

        Raises:
            InputError: no candidate overlaps the box by `iou`, or no such class.
        """
        index = self.label_index(label)
        candidates, reported = self._report(inputs)
        found = []
        for row, boxes in enumerate(candidates.boxes_of(_every(index, inputs))):
            shared = overlaps(boxes, torch.tensor(box).to(boxes))
            likeness = (shared * candidates.scores[row, :, index]).where(shared >= iou, -1.0)
            best = int(likeness.argmax())
            if not bool(shared[best] >= iou):
                raise InputError(
                    f"no candidate of image {row} overlaps the box {tuple(box)} by {iou:g}; the most is {float(shared.max()):.2f}."
                )
            found.append(self._detection(inputs, candidates, row, best, index, reported[row]))
        return found

    def label_index(self, label: int | str) -> int:
        """The index of a class.

        Raises:
            UnknownNameError: no such label.
            InputError: neither, or a label that several classes have.
        """
        if isinstance(label, int) and not isinstance(label, bool):
            return label
        if not isinstance(label, str):
            raise InputError(f"label must be a class index or a label, got {label!r}.")
        if self.labels is None:
            raise UnknownNameError(f"'{label}' is a label, but the detector has none; use an index.")
        same = [i for i, name in enumerate(self.labels) if name.lower() == label.lower()]
        if not same:
            raise UnknownNameError.among("label", label, self.labels, shown=3)
        if len(same) > 1:
            raise InputError(f"label '{label}' is that of several classes, {same}; use the index.")
        return same[0]

    def levels(self, inputs: Float[Tensor, "batch 3 height width"]) -> tuple[str, ...]:
        """The layers whose feature maps detections are read from, the finest first; `cp.joint(*levels)` are all of them."""
        if self._levels is None:
            with torch.no_grad():
                self._levels = tuple(self.module.levels(inputs[:1]))
        return self._levels

    @property
    def weights_hash(self) -> str:
        """SHA-256 of the network's state, see `counterpoint.classifier.weights_hash`."""
        return weights_hash(unwrapped(self.module)[1])

    def card(self) -> dict[str, Any]:
        """What a report has to say about the detector, JSON-ready."""
        return {
            "name": self.name,
            "weights": self.weights,
            "weights_sha256": self.weights_hash,
            "random_weights": None if self.weights is None else self.weights == "random",
            "classes": None if self.labels is None else len(self.labels),
            "preprocessing": asdict(self.sizing),
        }

    def _seen(self, inputs: Tensor, *, most: int) -> list[tuple[list[Detection], list[Detection]]]:
        """Of each image what is reported, and the best candidates; one image at a time, as there are many candidates."""
        found = []
        for row in range(len(inputs)):
            image = inputs[row : row + 1]
            candidates, (reported,) = self._report(image)
            matched = [
                self._detection(image, candidates, 0, self._place(candidates, reported, k), label, reported)
                for k, label in enumerate(reported.labels.tolist())
            ]
            best = self._best(image, candidates, reported, most) if most else []
            found.append((matched, best))
        return found

    def _report(self, inputs: Tensor) -> tuple[Candidates, list[Reported]]:
        self.module.check_pixels("inputs", inputs)
        with torch.no_grad():
            candidates, reported = self.module.report(inputs)
        classes = candidates.scores.shape[2]
        if self.labels is not None and len(self.labels) != classes:
            raise ModelError(f"the detector has {classes} classes, but there are {len(self.labels)} labels.")
        if not bool(torch.isfinite(candidates.scores).all()):
            raise ModelError("the detector's scores must be finite, but hold NaN or infinity.")
        return candidates, reported

    @staticmethod
    def _place(candidates: Candidates, reported: Reported, k: int) -> int:
        """Which candidate a reported box is: that of its class with its box and its score."""
        label = reported.labels[k : k + 1]
        away = (candidates.boxes_of(label)[0] - reported.boxes[k]).abs().amax(1)
        # A box measures up to a thousand, a score up to one: the score only tells equal boxes apart.
        return int((away + 1e-3 * (candidates.scores_of(label)[0] - reported.scores[k]).abs()).argmin())

    def _best(self, image: Tensor, candidates: Candidates, reported: Reported, k: int) -> list[Detection]:
        scores = candidates.scores[0].clone()
        for label in self._no_objects():
            scores[:, label] = -1.0
        classes, found = scores.shape[1], []
        # Enough of the best that k stay when doubles have gone.
        order = scores.flatten().topk(min(scores.numel(), 1000)).indices
        for label in sorted(set((order % classes).tolist())):
            own = order[order % classes == label] // classes
            boxes = candidates.boxes_of(_every(label, image))[0]
            # A box without area overlaps nothing, itself included: it could not be found again.
            own = own[areas(boxes[own]) >= 1.0]
            kept = own[without_doubles(boxes[own], scores[own, label], above=_DOUBLES, most=k)]
            found += [
                self._detection(image, candidates, 0, int(place), label, reported)
                for place in kept
                if scores[place, label] >= 0
            ]
        return sorted(found, key=lambda each: -each.score)[:k]

    def _no_objects(self) -> set[int]:
        """Classes that stand for no object."""
        named = enumerate(self.labels or ())
        return {*self.module.background, *(i for i, name in named if name in ("__background__", "N/A"))}

    def _detection(
        self, inputs: Tensor, candidates: Candidates, row: int, place: int, label: int, reported: Reported
    ) -> Detection:
        box = candidates.boxes_of(_every(label, candidates.scores))[row, place]
        score = candidates.scores[row, place, label]
        same = (reported.labels == label) & ((reported.boxes - box).abs().amax(1) < 1e-3 * box.abs().max())
        regions = candidates.regions
        return Detection(
            box=_corners(box),
            label=label,
            name=None if self.labels is None else self.labels[label],
            score=float(score),
            candidate=place,
            layer=self.levels(inputs)[int(candidates.level[row, place])],
            reported=bool(same.any()),
            region=None if regions is None else _corners(regions[row, place]),
        )


def _corners(box: Float[Tensor, "4"]) -> Box:
    x0, y0, x1, y1 = box.tolist()
    return x0, y0, x1, y1


def _every(label: int, rows: Tensor) -> Tensor:
    return torch.full((len(rows),), label, device=rows.device)
