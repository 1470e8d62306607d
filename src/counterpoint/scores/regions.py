"""The score of a class over a region of its class map: of segmentation networks, in two dimensions or any other number."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from counterpoint.checks import shape_text
from counterpoint.classifier import Classifier
from counterpoint.errors import InputError, ModelError, ShapeError
from counterpoint.outputs import Output, ways_out
from counterpoint.scores.reading import clean_look, module_of, tensor_in
from counterpoint.scores.targets import Target, check_labels, class_indices, labels_of

Box = tuple[int, ...]
"""(y0, x0, y1, x1) in pixels of the image, the ends not included; of other numbers of axes all starts first, then all ends."""

Region = Literal["predicted", "all"] | Tensor | Box | Sequence[Tensor | Box | Literal["predicted", "all"]]
"""predicted  where the class wins at the clean input
all        the whole map
a mask     booleans (height, width), or (batch, height, width), of the image or of the class map
a box      see `Box`
a list     one of these for each image"""

Reduce = Literal["mean", "sum"]
MapKind = Literal["logit", "probability"]


def region(
    model: nn.Module | Classifier,
    target: Target = "top1",
    region: Region = "predicted",
    *,
    reduce: Reduce = "mean",
    kind: MapKind = "logit",
    output: Output | None = None,
) -> "RegionScore":
    """The score of a class over a region of its class map, settled at the clean inputs: "why is this the cat?", of a segmentation.

    The map may have another resolution than the image: each of its cells then counts by the share of it that the region covers. A model
    of one class, (rows, 1, height, width) or (rows, height, width), has it where the logit is above 0; its probability is the sigmoid.

    Args:
        model: A Classifier, or a module (rows, channel, height, width) -> (rows, classes, height', width').
        target: Which class; see `Target`. "top1" is the class that wins most of the region, or of the map where the region is "predicted".
        region: Where; see `Region`.
        reduce: "mean" over the region, or "sum", the mean times the region's area in pixels of the image.
        kind: What is read at each place: the "logit" z_c, or the "probability", softmax over the classes.
        output: Which part of the model's output is read, where that holds several tensors: "out" of torchvision's networks.

    Raises:
        InputError: an unknown word.
    """
    return RegionScore(model, target, region, reduce=reduce, kind=kind, output=output)


class RegionScore:
    """A class over a region of its class map; made by `region`."""

    def __init__(
        self,
        model: nn.Module | Classifier,
        target: Target,
        region: Region,
        *,
        reduce: Reduce = "mean",
        kind: MapKind = "logit",
        output: Output | None = None,
    ) -> None:
        self.module = module_of(model, output)
        self.target = target
        self.region = region
        self.reduce: Reduce = reduce
        self.kind: MapKind = kind
        self.labels: Sequence[str] | None = getattr(self.module, "labels", None)
        for name, word, known in (("reduce", reduce, get_args(Reduce)), ("kind", kind, get_args(MapKind))):
            if word not in known:
                raise InputError(f"{name} must be {' or '.join(map(repr, known))}, got {word!r}.")

    def bind(self, inputs: Float[Tensor, "batch channel *space"]) -> "BoundRegionScore":
        """Settle class and region with one forward of the clean inputs.

        Raises:
            ModelError: the model does not return class maps.
            InputError: no such class, an empty region, or another number of regions than images.
            ShapeError: a mask of another size than image and class map, or a box outside the image.
            NotFiniteError: the model returns NaN or infinity for an input.
        """
        space = tuple(inputs.shape[2:])
        module, maps = clean_look(self.module, inputs, lambda output, rows: _maps(output, rows, len(space)))
        batch, classes, *sides = maps.shape
        check_labels(self.labels, classes)
        wanted = _one_each(self.region, batch, len(space))
        wins = _wins(maps)
        everywhere = maps.new_ones(sides)
        given = [
            None if isinstance(one, str) and one == "predicted" else _weights(one, space, everywhere)
            for one in wanted
        ]
        votes = torch.stack(
            [(wins[i] * (everywhere if w is None else w)).flatten(1).sum(1) for i, w in enumerate(given)]
        )
        target = class_indices(self.target, "target", votes, self.labels)
        chosen = []
        for i, weights in enumerate(given):
            here = wins[i, target[i]].to(maps) if weights is None else weights
            if not bool(here.sum() > 0):
                raise _empty(wanted[i], i, int(target[i]), votes[i], self.labels)
            chosen.append(here)
        where = torch.stack(chosen)
        # In pixels of the image, whatever the resolution of the map.
        area = where.flatten(1).sum(1) * (math.prod(space) / math.prod(sides))
        bound = BoundRegionScore(
            module=module,
            reading=self.kind,
            reduce=self.reduce,
            classes=target,
            labels=labels_of(self.labels, target),
            weights=where / where.flatten(1).sum(1).view(-1, *[1] * len(sides)),
            area=area,
            spread=torch.empty(0),
            at_inputs=torch.empty(0),
        )
        image = torch.arange(batch, device=maps.device)
        numbers = maps if self.kind == "logit" else _probabilities(maps)
        every = bound.over_region(numbers, image)
        object.__setattr__(bound, "spread", every.amax(1) - every.amin(1))
        object.__setattr__(bound, "at_inputs", bound.read(maps, image))
        return bound


@dataclass(frozen=True, kw_only=True, eq=False)
class BoundRegionScore:
    """A class over a region, settled at its inputs."""

    module: nn.Module
    reading: MapKind
    reduce: Reduce
    classes: Int[Tensor, " batch"]
    labels: tuple[str, ...] | None
    """The label of each image's class."""
    weights: Float[Tensor, "batch *sides"]
    """How much each cell of the class map counts; they sum to 1."""
    area: Float[Tensor, " batch"]
    """Of the region, in pixels of the image."""
    spread: Float[Tensor, " ..."]
    """Largest minus smallest score over all classes at the clean input; 0 for a single class."""
    at_inputs: Float[Tensor, " ..."]
    """f(x), known from settling the region."""

    @property
    def kind(self) -> str:
        """What is read, for cards."""
        return f"region_{self.reduce}_{self.reading}"

    def __call__(
        self, points: Float[Tensor, "rows *input"], image: Int[Tensor, " rows"]
    ) -> Float[Tensor, " rows"]:
        """The score of each row; `image` says which of the inputs' classes and regions to read."""
        return self.read(self.module(points), image)

    def on(self, module: nn.Module) -> "BoundRegionScore":
        """The same score, settled the same way, read from another module: an equal, faster copy."""
        return replace(self, module=module)

    def read(self, output: object, image: Int[Tensor, " rows"]) -> Float[Tensor, " rows"]:
        """The scores in an output of the module, float32 at least.

        Raises:
            ModelError: the output is no class map, or one of another size than at the clean inputs.
        """
        maps = _maps(output, len(image), self.weights.ndim - 1)
        if maps.shape[2:] != self.weights.shape[1:]:
            raise ModelError(
                f"the model must return class maps of one size, but returned {shape_text(self.weights.shape[1:])} for the inputs and "
                f"{shape_text(maps.shape[2:])} for a point."
            )
        chosen = self.classes[image].view(-1, *[1] * (maps.ndim - 1)).expand(-1, 1, *maps.shape[2:])
        numbers = _probabilities(maps) if self.reading == "probability" else maps
        return self.over_region(numbers.gather(1, chosen), image)[:, 0]

    def over_region(
        self, numbers: Float[Tensor, "rows some *sides"], image: Int[Tensor, " rows"]
    ) -> Float[Tensor, "rows some"]:
        """The mean or sum over each row's region."""
        mean = (numbers * self.weights[image].unsqueeze(1)).flatten(2).sum(2)
        return mean * self.area[image][:, None] if self.reduce == "sum" else mean


def _maps(output: object, rows: int, axes: int) -> Float[Tensor, "rows classes *sides"]:
    """The class maps in an output, of images with so many axes; a single class may come without an axis of its own."""
    wanted = f"class maps ({rows}, classes, {', '.join(_AXES.get(axes, ('...',)))})"
    maps = tensor_in(output, rows, wanted)
    if maps.ndim == axes + 2 and maps.numel() > 0:
        return maps
    if maps.ndim == axes + 1 and maps.ndim > 2:
        return maps.unsqueeze(1)
    hint = "; for class scores (rows, classes) use cp.logit(model, target=...)." if maps.ndim == 2 else "."
    raise ModelError(f"the model must return {wanted}, but returned {ways_out(maps)}{hint}")


_AXES = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}


def _probabilities(maps: Float[Tensor, "rows classes *sides"]) -> Float[Tensor, "rows classes *sides"]:
    return maps.sigmoid() if maps.shape[1] == 1 else maps.softmax(1)


def _wins(maps: Float[Tensor, "rows classes *sides"]) -> Bool[Tensor, "rows classes *sides"]:
    """Which class each cell goes to; of a single class, whether its logit is above 0."""
    if maps.shape[1] == 1:
        return maps > 0
    return F.one_hot(maps.argmax(1), maps.shape[1]).bool().movedim(-1, 1)


def _one_each(region: Region, batch: int, axes: int) -> list[Tensor | Box | str]:
    """The region of each image, where `axes` is the number of axes of one mask."""
    if isinstance(region, str) or _is_box(region) or (isinstance(region, Tensor) and region.ndim == axes):
        return [region] * batch  # type: ignore[list-item]
    if not isinstance(region, Sequence | Tensor) or (isinstance(region, Tensor) and region.ndim != axes + 1):
        came = shape_text(region) if isinstance(region, Tensor) else type(region).__name__
        raise InputError(
            f"region must be 'predicted', 'all', a mask of {axes} axes, a box, or one of these for each image, got {came}."
        )
    if len(region) != batch:
        raise InputError(f"region must be one, or one for each of {batch} images, got {len(region)}.")
    return list(region)


def _is_box(region: object) -> bool:
    return isinstance(region, tuple) and len(region) > 0 and all(type(end) is int for end in region)


def _weights(
    region: Tensor | Box | str, space: tuple[int, ...], like: Float[Tensor, " *sides"]
) -> Float[Tensor, " *sides"]:
    """How much of each cell of the class map the region covers, 0 to 1."""
    if isinstance(region, str):
        if region != "all":
            raise InputError(f"region must be 'predicted', 'all', a mask or a box, got {region!r}.")
        return like
    sides = tuple(like.shape)
    mask = region if isinstance(region, Tensor) else _box_mask(region, space)
    if mask.dtype != torch.bool:
        raise InputError(f"region must be a mask of booleans, got {mask.dtype}: mask > 0.5.")
    if tuple(mask.shape) not in (space, sides):
        raise ShapeError(
            f"region must have the size of the image, {shape_text(space)}, or of the class map, {shape_text(sides)}, got "
            f"{shape_text(mask)}."
        )
    covered = mask.to(like)
    if mask.shape == sides:
        return covered
    return _shares(covered, sides)


def _shares(covered: Float[Tensor, " *space"], sides: tuple[int, ...]) -> Float[Tensor, " *sides"]:
    """The mean over each cell, cells of any size and number; axis by axis, so that any number of axes will do."""
    for axis, side in enumerate(sides):
        size = covered.shape[axis]
        edges = torch.arange(side + 1, dtype=torch.float64) * size / side
        pixel = torch.arange(size)
        overlap = torch.minimum(edges[1:, None], pixel + 1) - torch.maximum(edges[:-1, None], pixel)
        weights = (overlap.clamp(min=0) * side / size).to(covered)
        covered = torch.tensordot(weights, covered.movedim(axis, 0), 1).movedim(0, axis)
    return covered


def _box_mask(box: Box, space: tuple[int, ...]) -> Bool[Tensor, " *space"]:
    axes = len(space)
    if not _is_box(box) or len(box) != 2 * axes:
        raise InputError(
            f"region must be 'predicted', 'all', a mask, or a box of {2 * axes} whole numbers (all starts, then all ends), got {box!r}."
        )
    starts, ends = box[:axes], box[axes:]
    if not all(0 <= low < high <= side for low, high, side in zip(starts, ends, space, strict=True)):
        raise ShapeError(
            f"region must be a box within {shape_text(space)}, its ends above its starts, got {box}."
        )
    mask = torch.zeros(space, dtype=torch.bool)
    mask[tuple(slice(low, high) for low, high in zip(starts, ends, strict=True))] = True
    return mask


def _empty(
    region: object, image: int, target: int, votes: Float[Tensor, " classes"], labels: Sequence[str] | None
) -> InputError:
    """The error for a region without a pixel."""
    if not isinstance(region, str):
        return InputError(f"region must hold at least one pixel, but that of image {image} is empty.")

    def named(index: int) -> str:
        return f"{index}" if labels is None else f"{index} ({labels[index]})"

    found = [named(c) for c in votes.argsort(descending=True).tolist() if votes[c] > 0][:5]
    return InputError(
        f"region='predicted' needs a pixel where class {named(target)} wins, but in image {image} it wins none; those that do: "
        f"{', '.join(found) or 'none'}. Name one of these as target, or give a mask or a box as region."
    )
