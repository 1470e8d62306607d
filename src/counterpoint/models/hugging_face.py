"""Networks of Hugging Face's transformers: `hf:folder`, `hf:owner/name` from its cache, `hf:vit` with random weights."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

from counterpoint.classifier import Classifier
from counterpoint.errors import InputError, MissingPackageError, ModelError
from counterpoint.models.image_processors import BlueFirst, check_same, prepared_like
from counterpoint.models.lacking import package_needed
from counterpoint.models.naming import shown_name, unknown_network
from counterpoint.models.random_weights import RANDOM, seeded
from counterpoint.models.stretched import stretched
from counterpoint.models.weight_files import WeightFile, fit, read_weights

if TYPE_CHECKING:
    from counterpoint.detectors import Detector

Task = Literal["classification", "segmentation", "detection"]
_AUTO: dict[Task, str] = {
    "classification": "AutoModelForImageClassification",
    "segmentation": "AutoModelForSemanticSegmentation",
    "detection": "AutoModelForObjectDetection",
}
_ENDINGS: dict[str, Task] = {
    "ForImageClassification": "classification",
    "ForImageClassificationWithTeacher": "classification",
    "ForSemanticSegmentation": "segmentation",
    "ForObjectDetection": "detection",
}
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def hugging_face_names() -> list[str]:
    """Every architecture of transformers that classifies, segments or detects, by its `model_type`.

    Raises:
        MissingPackageError: transformers is not installed.
    """
    return sorted(dict.fromkeys(name for names in _architectures().values() for name in names))


def hugging_face_model(
    name: str, *, weights: WeightFile | None = None, random_weights: bool = False
) -> "Classifier | Detector":
    """A network of transformers with its preprocessing and labels.

    Nothing is downloaded, no code that comes with a model is run, and weights are read as safetensors or as plain tensors.

    Args:
        name: A folder that `save_pretrained` wrote, or a name in the cache of the hub; with random weights also an architecture, "vit".
        weights: A file of weights instead of those of the folder.
        random_weights: Random ones instead.

    Returns:
        A Classifier. For segmentation its output is (batch, classes, height, width). For detectors, a Detector.

    Raises:
        MissingPackageError: transformers is not installed, or the model is neither a folder nor in the cache.
        UnknownNameError: no such architecture.
        InputError: a folder without a model.
        ModelError: weights that do not fit, or photographs prepared in a way that Counterpoint does not know.
    """
    with package_needed("transformers", "huggingface"):
        import transformers
    with _quietly(), seeded():
        if random_weights and not Path(name).exists() and "/" not in name:
            config = _plain_config(name)
        else:
            config = _config(name, random_weights=random_weights)
        task = _task(config, name)
        builder = getattr(transformers, _AUTO[task])
        # Attention as plain operations, whose maps can be seen; the numbers are the same.
        how: dict[str, Any] = {
            "dtype": torch.float32,
            "trust_remote_code": False,
            "attn_implementation": "eager",
        }
        if random_weights:
            network, source = _plain(builder, config, name, how), RANDOM
        elif weights is not None:
            file = read_weights(weights)
            network = _plain(builder, config, name, how)
            source = fit(network, file, what=f"hf:{name}")
        else:
            network, source = _pretrained(builder, name, how), f"transformers, {name}"
        processor = _processor(name, needed=not random_weights)
    shown = shown_name(f"hf:{name}", weights=weights, random=random_weights)
    labels = [str(config.id2label[k]) for k in sorted(config.id2label)]
    if task == "detection":
        from counterpoint.detectors import hf_detector

        how = {} if processor is None else processor.to_dict()
        return hf_detector(network.eval(), how, labels, name=shown, weights=source)
    return _classifier(network.eval(), config, processor, name=shown, labels=labels, weights=source)


def _architectures() -> dict[Task, Any]:
    with package_needed("transformers", "huggingface"):
        from transformers.models.auto import modeling_auto
    return {
        "classification": modeling_auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES,
        "segmentation": modeling_auto.MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES,
        "detection": modeling_auto.MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES,
    }


def _plain_config(name: str) -> Any:
    """The usual sizes of an architecture."""
    from transformers import AutoConfig

    if name not in (known := hugging_face_names()):
        raise unknown_network("transformers", name, known)
    config = AutoConfig.for_model(name)
    if hasattr(config, "use_pretrained_backbone"):
        config.use_pretrained_backbone = False  # or it would be downloaded
    return config


def _config(name: str, *, random_weights: bool) -> Any:
    from transformers import AutoConfig

    folder = Path(name).expanduser()
    if folder.is_file():
        raise InputError(f"hf: takes a folder that save_pretrained wrote, but '{name}' is a file.")
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise InputError(
            f"the folder '{name}' holds no config.json; save the model there with save_pretrained."
        )
    if not folder.is_dir() and (name.startswith((".", "~", os.sep)) or name.count("/") > 1):
        raise InputError(f"no folder '{name}'.")
    try:
        config = AutoConfig.from_pretrained(_place(name), local_files_only=True, trust_remote_code=False)
    except OSError as error:
        if not random_weights and name in hugging_face_names():
            raise InputError(
                f"'hf:{name}' is an architecture without weights: ask for random ones with --random-weights, or name a folder that "
                "save_pretrained wrote."
            ) from error
        from huggingface_hub.constants import HF_HUB_CACHE

        raise MissingPackageError(
            f"'{name}' is neither a folder nor in the cache of the Hugging Face hub ({HF_HUB_CACHE}), and nothing is downloaded here: "
            f"`hf download {name}` puts it there where there is a network."
        ) from error
    except (ValueError, KeyError) as error:
        raise ModelError(f"'hf:{name}' cannot be loaded: {_first_line(error)}") from error
    return config


def _task(config: Any, name: str) -> Task:
    """What the network is for: what its own config says, else what its architecture is there for first."""
    for architecture in config.architectures or ():
        for ending, task in _ENDINGS.items():
            if architecture.endswith(ending):
                return task
        raise ModelError(
            f"'hf:{name}' holds a {architecture}; networks for image classification, semantic segmentation and object detection are loaded "
            "by name, others as a Classifier of your own."
        )
    for task, names in _architectures().items():
        if config.model_type in names:
            return task
    raise ModelError(
        f"'hf:{name}' is a {config.model_type}, which neither classifies, nor segments, nor detects."
    )


def _plain(builder: Any, config: Any, name: str, how: dict[str, Any]) -> nn.Module:
    # A config that names none stands for the first network of its kind; transformers 5 stumbles over the None.
    config.architectures = config.architectures or []
    try:
        network: nn.Module = builder.from_config(config, **how)
    except Exception as error:  # some architectures need more than their config
        reason = f"{type(error).__name__}: {_first_line(error)}"
        raise ModelError(f"transformers cannot build 'hf:{name}' from its config alone: {reason}") from error
    return network


def _pretrained(builder: Any, name: str, how: dict[str, Any]) -> nn.Module:
    try:
        network, info = builder.from_pretrained(
            _place(name), local_files_only=True, weights_only=True, output_loading_info=True, **how
        )
    except Exception as error:  # whatever reading a damaged file raises
        raise ModelError(f"the weights of 'hf:{name}' cannot be loaded: {_first_line(error)}") from error
    for kind, words in (
        ("missing_keys", "missing"),
        ("mismatched_keys", "of another shape"),
        ("unexpected_keys", "not known"),
    ):
        names = sorted(str(each[0] if isinstance(each, tuple) else each) for each in info.get(kind, ()))
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise ModelError(
                f"the weights of 'hf:{name}' do not fit its config: {words}: {', '.join(names[:3])}{more}; what is missing would be random."
            )
    loaded: nn.Module = network
    return loaded


def _processor(name: str, *, needed: bool) -> Any:
    """How photographs are prepared for the network; None where nothing says so and the weights are random."""
    from transformers import AutoImageProcessor

    try:
        return AutoImageProcessor.from_pretrained(
            _place(name), local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError, ImportError) as error:
        if not needed:
            return None
        raise ModelError(
            f"'hf:{name}' does not say how photographs are prepared for it: save the image processor beside the model, "
            "processor.save_pretrained(folder), which writes preprocessor_config.json."
        ) from error


def _classifier(
    network: nn.Module, config: Any, processor: Any, *, name: str, labels: list[str], weights: str
) -> Classifier:
    channels = int(getattr(config, "num_channels", 3))
    if processor is None:
        # Random weights were trained for nothing: any usual preprocessing does.
        size = getattr(config, "image_size", 224)
        return Classifier(
            network,
            mean=_IMAGENET_MEAN if channels == 3 else (0.5,) * channels,
            std=_IMAGENET_STD if channels == 3 else (0.5,) * channels,
            size=tuple(size) if isinstance(size, list | tuple) else size or 224,
            labels=labels,
            name=name,
            weights=weights,
            output="logits",
        )
    how = prepared_like(processor, config, channels, name)
    classifier = Classifier(
        BlueFirst(network) if how.blue_first else network,
        mean=how.mean,
        std=how.std,
        size=how.size,
        crop=how.crop,
        interpolation=how.interpolation,
        labels=labels,
        name=name,
        weights=weights,
        output="logits",
    )
    classifier = stretched(classifier) if how.stretched else classifier
    check_same(classifier, processor, blue_first=how.blue_first)
    return classifier


def _place(name: str) -> str:
    folder = Path(name).expanduser()
    return os.fspath(folder) if folder.is_dir() else name


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:300]


@contextmanager
def _quietly() -> Iterator[None]:
    """Without the library's bars and notices: what matters of them is an error here."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
