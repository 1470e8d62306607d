"""A detector out of a network of torchvision or Hugging Face."""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from counterpoint.detectors.detector import Detector
from counterpoint.detectors.one_stage import OneStage
from counterpoint.detectors.queries import Queries
from counterpoint.detectors.sizing import Sizing
from counterpoint.detectors.torchvision_input import sizing_of
from counterpoint.detectors.two_stage import TwoStage
from counterpoint.errors import InputError

_PER_CHANNEL = {"image_mean": (0.485, 0.456, 0.406), "image_std": (0.229, 0.224, 0.225)}


def is_detector(model: nn.Module) -> bool:
    """Whether one of the builders here takes this network."""
    return _is_two_stage(model) or _is_one_stage(model) or _is_of_queries(model)


def torchvision_detector(
    name: str, module: nn.Module, labels: Iterable[str] | None, *, weights: str | None = None
) -> Detector:
    """A Faster R-CNN, RetinaNet, FCOS or SSD of torchvision.

    Its own transform says how large pictures go in, and normalises them: pixels in [0, 1] are what it takes.

    Args:
        name: What results and cards call it.
        module: The network, in evaluation mode.
        labels: The names of the classes by the network's own index, "__background__" included.
        weights: Where the weights come from, in words; "random" for a network that was not trained.

    Raises:
        InputError: another kind of network, or one in training mode.
    """
    network: nn.Module
    if _is_two_stage(module):
        network = TwoStage(module)
    elif _is_one_stage(module):
        network = OneStage(module)
    else:
        raise InputError(
            f"module must be a Faster R-CNN, RetinaNet, FCOS or SSD of torchvision, got {type(module).__name__}."
        )
    transform: Any = module.transform
    return Detector(network, sizing=sizing_of(transform), labels=labels, name=name, weights=weights)


def hf_detector(
    model: nn.Module,
    processor: Any,
    labels: Iterable[str] | None = None,
    *,
    name: str | None = None,
    weights: str | None = None,
    threshold: float = 0.5,
) -> Detector:
    """A detector of Hugging Face's transformers that returns `logits` and `pred_boxes`, such as DETR.

    Args:
        model: The network, in evaluation mode.
        processor: Its image processor, or what its preprocessor_config.json says: `image_mean`, `image_std`, `size`; what is missing has
            DETR's values.
        labels: The names of the classes; by default those of the network's configuration.
        name: What results and cards call it.
        weights: Where the weights come from, in words; "random" for a network that was not trained.
        threshold: Score from which a query is reported.

    Raises:
        InputError: another kind of network, or one in training mode, or no processor.
    """
    if callable(getattr(processor, "to_dict", None)):
        processor = processor.to_dict()
    if not isinstance(processor, Mapping):
        raise InputError(
            f"processor must be an image processor, or the dict of its preprocessor_config.json, got {type(processor).__name__}."
        )
    if not _is_of_queries(model):
        raise InputError(
            f"model must be a network for object detection, such as DetrForObjectDetection, got {type(model).__name__}."
        )
    normalised = processor.get("do_normalize", True)
    mean, std = (
        tuple(processor.get(key, usual)) if normalised else plain
        for (key, usual), plain in zip(_PER_CHANNEL.items(), ((0.0,) * 3, (1.0,) * 3), strict=True)
    )
    config: Any = model.config
    if labels is None and getattr(config, "id2label", None):
        labels = [str(config.id2label[k]) for k in range(config.num_labels)]
    network = Queries(model, mean, std, threshold=threshold)
    return Detector(network, sizing=_hf_sizing(processor), labels=labels, name=name, weights=weights)


def _hf_sizing(processor: Mapping[str, Any]) -> Sizing:
    size = processor.get("size", {})
    if isinstance(size, int):
        size = {"shortest_edge": size, "longest_edge": processor.get("max_size", 1333)}
    if "height" in size and "width" in size:
        fixed = (int(size["height"]), int(size["width"]))
        return Sizing(shorter=min(fixed), longest=max(fixed), multiple=1, fixed=fixed)
    return Sizing(shorter=int(size.get("shortest_edge", 800)), longest=int(size.get("longest_edge", 1333)))


def _is_two_stage(model: nn.Module) -> bool:
    return all(hasattr(model, part) for part in ("transform", "backbone", "rpn", "roi_heads"))


def _is_one_stage(model: nn.Module) -> bool:
    parts = ("transform", "backbone", "head", "anchor_generator", "postprocess_detections")
    return all(hasattr(model, part) for part in parts)


def _is_of_queries(model: nn.Module) -> bool:
    return type(model).__name__.endswith("ForObjectDetection") and hasattr(model, "config")
