"""ResNet-50 with its ImageNet weights of Keras, built for looking inside.

One module per operation, the sum of a residual block included: a hook on a module sees one operation and sees
it once. Layers have the names of torchvision's ResNet-50, but for the rectifiers, of which torchvision has one
for three places. This is the first version of the network: the stride is in the first convolution of a block,
and torchvision's, with the stride in the second, is version 1.5.

Reference: He, Zhang, Ren and Sun 2016, arXiv:1512.03385.
"""

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from counterpoint.classifier import Classifier
from counterpoint.models.arrays import Array, arrays_of_tensorflow_js
from counterpoint.models.cache import load_cached
from counterpoint.models.imagenet import imagenet_classifier
from counterpoint.models.operations import Add
from counterpoint.models.published import PUBLISHED

MEAN = (123.68, 116.779, 103.939)
"""Of red, green and blue in ImageNet, in units of 0..255; the standard deviation is left as it is."""

EPSILON = 1e-3
"""Of every batch norm, as Keras has it; torch's own is 1e-5."""

EXPANSION = 4
"""How many times as many channels leave a block as its inner convolutions have."""


class Stage(NamedTuple):
    """Blocks in a row; only the first of them has the stride."""

    repeats: int
    channels: int
    """Of the inner convolutions."""
    stride: int


STAGES = (
    Stage(repeats=3, channels=64, stride=1),
    Stage(repeats=4, channels=128, stride=2),
    Stage(repeats=6, channels=256, stride=2),
    Stage(repeats=3, channels=512, stride=2),
)
STEM_CHANNELS = 64


class Bottleneck(nn.Module):
    """Narrow, filter, widen, and add the input, brought to the same shape by a convolution where it has another one."""

    def __init__(self, inputs: int, channels: int, *, stride: int) -> None:
        super().__init__()
        outputs = EXPANSION * channels
        self.conv1 = nn.Conv2d(inputs, channels, 1, stride, bias=False)
        self.bn1 = nn.BatchNorm2d(channels, eps=EPSILON)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels, eps=EPSILON)
        self.relu2 = nn.ReLU()
        self.conv3 = nn.Conv2d(channels, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs, eps=EPSILON)
        self.downsample = _shortcut(inputs, outputs, stride) if inputs != outputs or stride != 1 else None
        self.add = Add()
        self.relu3 = nn.ReLU()

    def forward(self, image: Tensor) -> Tensor:
        """(batch, inputs, height, width) to (batch, 4 channels, height / stride, width / stride), rounded up."""
        narrow = self.relu1(self.bn1(self.conv1(image)))
        filtered = self.relu2(self.bn2(self.conv2(narrow)))
        wide = self.bn3(self.conv3(filtered))
        shortcut = image if self.downsample is None else self.downsample(image)
        output: Tensor = self.relu3(self.add(wide, shortcut))
        return output


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs, eps=EPSILON)
    )


class ResNet50(nn.Module):
    """The network, with random weights: 25,557,032 parameters for 1000 classes.

    Takes RGB images of any size, in units of 0..255, less MEAN; it was trained at 224 x 224.
    """

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, STEM_CHANNELS, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM_CHANNELS, eps=EPSILON)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1, self.layer2, self.layer3, self.layer4 = _stages()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(EXPANSION * STAGES[-1].channels, classes)

    def forward(self, image: Tensor) -> Tensor:
        """(batch, 3, height, width) to the scores before softmax, (batch, classes)."""
        features = self.maxpool(self.relu(self.bn1(self.conv1(image))))
        features = self.layer4(self.layer3(self.layer2(self.layer1(features))))
        scores: Tensor = self.fc(self.flatten(self.avgpool(features)))
        return scores


def _stages() -> Iterator[nn.Sequential]:
    inputs = STEM_CHANNELS
    for stage in STAGES:
        blocks = []
        for repeat in range(stage.repeats):
            blocks.append(Bottleneck(inputs, stage.channels, stride=stage.stride if repeat == 0 else 1))
            inputs = EXPANSION * stage.channels
        yield nn.Sequential(*blocks)


def resnet50() -> Classifier:
    """ResNet-50 with its ImageNet weights from the cache, in evaluation mode, on the CPU.

    Photographs are cut to the central 7/8 of their shorter side and resized to 224 x 224, bicubic.

    Raises:
        MissingPackageError: the weights have not been fetched.
        ModelError: the weights are not those that were checked.
    """
    with torch.device("meta"):  # no numbers are drawn for weights that are replaced at once
        network = ResNet50()
    load_cached("resnet50", network)
    return imagenet_classifier(
        network,
        "resnet50",
        mean=tuple(value / 255 for value in MEAN),
        std=(1 / 255,) * 3,
        weights=PUBLISHED["resnet50"].title,
    )


def published_state(files: Mapping[str, bytes]) -> dict[str, Tensor]:
    """The state of a ResNet50 from the files of the published package, a model of TensorFlow.js.

    Raises:
        FetchError: the files do not hold such a model.
        KeyError: an array is missing.
    """
    by_name = {PurePosixPath(path).name: content for path, content in files.items()}
    return state_from_keras(arrays_of_tensorflow_js(by_name.pop("model.json"), by_name))


def state_from_keras(arrays: Mapping[str, Array]) -> dict[str, Tensor]:
    """The state of a ResNet50 with the numbers of Keras's.

    Two things of the published network are folded into the weights, and change no score: its convolutions have
    a bias, which here is taken off the mean of the batch norm that follows, and it takes blue first.

    Args:
        arrays: By Keras's names, such as "res2a_branch2a/kernel" (height, width, inputs, outputs).

    Raises:
        KeyError: an array is missing.
    """
    state: dict[str, Tensor] = {}
    for conv, norm, kernel, statistics in _keras_names():
        state[f"{conv}.weight"] = _tensor(arrays[f"{kernel}/kernel"].transpose(3, 2, 0, 1))
        state[f"{norm}.weight"] = _tensor(arrays[f"{statistics}/gamma"])
        state[f"{norm}.bias"] = _tensor(arrays[f"{statistics}/beta"])
        state[f"{norm}.running_mean"] = _tensor(
            arrays[f"{statistics}/moving_mean"] - arrays[f"{kernel}/bias"]
        )
        state[f"{norm}.running_var"] = _tensor(arrays[f"{statistics}/moving_variance"])
        state[f"{norm}.num_batches_tracked"] = torch.tensor(0)
    state["conv1.weight"] = state["conv1.weight"].flip(1)  # from blue, green, red to red, green, blue
    state["fc.weight"] = _tensor(arrays["fc1000/kernel"].T)
    state["fc.bias"] = _tensor(arrays["fc1000/bias"])
    return state


class _Names(NamedTuple):
    """Of a convolution and its batch norm: ours, then Keras's."""

    conv: str
    norm: str
    kernel: str
    statistics: str


def _keras_names() -> Iterator[_Names]:
    yield _Names("conv1", "bn1", "conv1", "bn_conv1")
    for number, stage in enumerate(STAGES, 1):
        for repeat in range(stage.repeats):
            block, theirs = f"layer{number}.{repeat}", f"{number + 1}{'abcdef'[repeat]}_branch"
            for index, branch in enumerate(("2a", "2b", "2c"), 1):
                yield _Names(
                    f"{block}.conv{index}",
                    f"{block}.bn{index}",
                    f"res{theirs}{branch}",
                    f"bn{theirs}{branch}",
                )
            if repeat == 0:
                yield _Names(
                    f"{block}.downsample.0", f"{block}.downsample.1", f"res{theirs}1", f"bn{theirs}1"
                )


def _tensor(array: Array) -> Tensor:
    return torch.from_numpy(np.array(array, dtype=np.float32, order="C"))
