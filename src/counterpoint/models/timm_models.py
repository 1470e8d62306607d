"""Networks of timm: `timm:vit_small_patch16_224`, `timm:resnet50.a1_in1k`."""

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from counterpoint.classifier import Classifier
from counterpoint.errors import MissingPackageError, ModelError, UnknownNameError
from counterpoint.models.imagenet import imagenet_labels
from counterpoint.models.lacking import package_needed
from counterpoint.models.naming import shown_name, unknown_network
from counterpoint.models.random_weights import RANDOM, seeded
from counterpoint.models.stretched import stretched
from counterpoint.models.weight_files import (
    WeightFile,
    Weights,
    check_name_hash,
    classes_in,
    fit,
    fits,
    read_weights,
)

# What the weights are called on the hub, the safe format first.
_HUB_FILES = (
    *("model.safetensors", "open_clip_model.safetensors", "pytorch_model.bin", "open_clip_pytorch_model.bin"),
)


def timm_names() -> list[str]:
    """Every architecture of timm.

    Raises:
        MissingPackageError: timm is not installed.
    """
    return list(_timm().list_models())


def timm_model(name: str, *, weights: WeightFile | None = None, random_weights: bool = False) -> Classifier:
    """A network of timm with its preprocessing and, where they are known, its labels.

    Args:
        name: As timm has it, with or without the tag of its weights after a point.
        weights: A file of weights; without one, the cache of the Hugging Face hub is looked into, and that of torch.hub.
        random_weights: Random ones instead.

    Raises:
        MissingPackageError: timm is not installed, or the weights are in no cache.
        UnknownNameError: no such network, or no such tag.
        InputError: the file cannot be read.
        ModelError: the weights do not fit, or photographs are prepared in a way that Counterpoint does not know.
    """
    timm = _timm()
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        raise unknown_network("timm", architecture, timm_names())
    config = _published(name, architecture, tag)
    title = f"timm:{name}"
    file = None if weights is None else read_weights(weights)
    if file is None and not random_weights:
        file = _cached(config, title)
    with warnings.catch_warnings(), seeded():
        warnings.simplefilter("ignore")  # what timm tells its developers
        network, source = _built(name, file)
    said = RANDOM if random_weights else source if weights is not None else f"timm {name}, {source}"
    shown = shown_name(title, weights=weights, random=random_weights)
    return _classifier(network.eval(), name=shown, weights=said)


def _timm() -> Any:
    with package_needed("timm", "torchvision"):
        import timm
    return timm


def _published(name: str, architecture: str, tag: str) -> Any:
    """What timm knows of the weights of that tag, or of its own choice."""
    timm = _timm()
    tags = [known.partition(".")[2] for known in timm.list_models(f"{architecture}.*", pretrained=True)]
    if tag and tag not in tags:
        raise UnknownNameError.among(f"weights of timm:{architecture}", tag, tags)
    return timm.models.get_pretrained_cfg(name)


def _cached(config: Any, title: str) -> Weights:
    """The weights from where the libraries keep what they have downloaded."""
    with package_needed("huggingface_hub", "torchvision"):
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.constants import HF_HUB_CACHE
    hub = getattr(config, "hf_hub_id", None)
    names = (config.hf_hub_filename,) if hub and config.hf_hub_filename else _HUB_FILES
    for file in names if hub else ():
        found = try_to_load_from_cache(hub, file)
        if isinstance(found, str):
            return replace(read_weights(found), source=f"{hub} {file}")
    url = getattr(config, "url", None) or ""
    plain = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]
    if url and plain.is_file():
        check_name_hash(plain)
        return read_weights(plain)
    where = (
        f"{names[0]} of '{hub}' in the cache of the Hugging Face hub ({HF_HUB_CACHE})" if hub else str(plain)
    )
    raise MissingPackageError(
        f"the weights of '{title}' are not in any cache: there is no {where}, and nothing is downloaded here. Give a file with "
        "--weights FILE (weights=), or ask for random ones with --random-weights."
    )


def _built(name: str, file: Weights | None) -> tuple[nn.Module, str]:
    """The network, and where its weights come from."""
    timm = _timm()
    network: nn.Module = timm.create_model(name, pretrained=False)
    if file is None:
        return network, RANDOM
    if fits(network, file):
        return network, fit(network, file, what=f"timm's {name}")
    if (classes := classes_in(network, file)) is not None:
        network = timm.create_model(name, pretrained=False, num_classes=classes)
        return network, fit(network, file, what=f"timm's {name}")
    # Weights as their authors published them have other names: timm knows how to read those of each family.
    try:
        published = timm.create_model(
            name, pretrained=True, pretrained_cfg_overlay={"state_dict": dict(file.tensors)}
        )
    except (RuntimeError, KeyError, AttributeError, ValueError, TypeError):
        return network, fit(network, file, what=f"timm's {name}")  # raises, and names the tensors
    published.pretrained_cfg.pop("state_dict", None)
    return published, file.source


def _classifier(network: nn.Module, *, name: str, weights: str) -> Classifier:
    config = _timm().data.resolve_model_data_config(network)
    channels, height, width = config["input_size"]
    mean, std = (tuple(config[each]) for each in ("mean", "std"))
    if config["interpolation"] not in ("nearest", "bilinear", "bicubic", "lanczos"):
        raise ModelError(
            f"{name} resizes photographs by '{config['interpolation']}', which is not known here."
        )
    classifier = Classifier(
        network,
        mean=mean if len(mean) == channels else mean[:1] * channels,
        std=std if len(std) == channels else std[:1] * channels,
        size=(height, width),
        crop=min(1.0, config["crop_pct"]),
        interpolation=config["interpolation"],
        labels=_labels(network),
        name=name,
        weights=weights,
    )
    if config["crop_mode"] == "squash":
        return stretched(classifier)
    if config["crop_mode"] != "center":
        raise ModelError(
            f"{name} prepares photographs by crop_mode '{config['crop_mode']}'; 'center' and 'squash' are known."
        )
    return classifier


def _labels(network: nn.Module) -> tuple[str, ...] | None:
    """The names of the classes, for heads of ImageNet, of 1000 classes or more."""
    data = _timm().data
    subset = data.infer_imagenet_subset(network)
    if subset == "imagenet-1k":
        return imagenet_labels()
    if subset is None:
        return None
    info = data.ImageNetInfo(subset)
    return tuple(info.index_to_description(k) for k in range(info.num_classes()))
