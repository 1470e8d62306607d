"""The trained networks that come with the package, each beside a card that says how it was made."""

import hashlib
import json
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as from_bytes
from torch import nn

from counterpoint.classifier import Classifier
from counterpoint.data.shapes import networks
from counterpoint.data.shapes.scene import CLASSES
from counterpoint.errors import ModelError, UnknownNameError

NETWORKS: dict[str, Callable[[int], nn.Module]] = {
    "resnet": networks.ResNet,
    "vgg": networks.VGG,
    "vit": networks.ViT,
}
"""Called with the number of classes, they make the network with random weights."""

MEAN, STD = 0.5, 0.25
"""Of the normalisation, for all channels."""


def load_network(name: str) -> Classifier:
    """A network trained on generated shapes, in evaluation mode, on the CPU.

    Args:
        name: "resnet" (batch norm), "vgg" (no norm) or "vit" (attention).

    Raises:
        UnknownNameError: no such network.
        ModelError: the weights are not those that the card speaks of.
    """
    facts = card(name)  # first, as it knows which names there are
    weights = weights_path(name)
    try:
        content = weights.read_bytes()
    except OSError as error:
        raise ModelError(f"the weight file '{weights}' cannot be read: {error.strerror}.") from error
    found = hashlib.sha256(content).hexdigest()
    if found != facts["weights_sha256"]:
        raise ModelError(
            f"the weight file '{weights}' is not the one that its card speaks of: its SHA-256 must be {facts['weights_sha256']}, "
            f"but is {found}; reinstall counterpoint, or train it again with examples/train_shapes.py."
        )
    with torch.device("meta"):  # no numbers are drawn for weights that are replaced at once
        network = NETWORKS[name](len(CLASSES))
    try:
        network.load_state_dict(from_bytes(content), assign=True)
    except (SafetensorError, RuntimeError) as error:
        raise ModelError(f"the weight file '{weights}' does not fit the network: {error}") from error
    return classifier(
        network.eval(), name, weights=f"trained on {facts['training']['images']} generated shapes"
    )


def classifier(network: nn.Module, name: str, *, weights: str | None = None) -> Classifier:
    """A network of NETWORKS with the preprocessing and the labels that all of them share."""
    return Classifier(
        network,
        mean=MEAN,
        std=STD,
        size=networks.SIZE,
        labels=CLASSES,
        name=f"shapes_{name}",
        weights=weights,
    )


def card(name: str) -> dict[str, Any]:
    """What is known of a network: data, seeds, training, accuracy, and the hash of its weights.

    Raises:
        UnknownNameError: no such network.
        ModelError: the card is missing, or damaged.
    """
    if name not in NETWORKS:
        raise UnknownNameError.among("network of shapes", name, NETWORKS)
    file = card_path(name)
    try:
        facts: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"the card '{file}' cannot be read: {error}") from error
    return facts


def weights_path(name: str) -> Path:
    """Where the package keeps the weights."""
    return Path(str(files("counterpoint.data.shapes").joinpath(f"{name}.safetensors")))


def card_path(name: str) -> Path:
    """Where the package keeps the card."""
    return weights_path(name).with_suffix(".json")
