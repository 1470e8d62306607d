"""SqueezeNet 1.1 with its ImageNet weights, built for looking inside.

Convolution, ReLU, pooling and concatenation are all there is before the last layer: no batch norm. One module per
operation, the concatenation included; nothing works in place.

The network is that of the package with the weights: it has the class maps averaged as they are, where the authors
have a ReLU before. Their mean is linear in the features, so features are averaged first here, and the last
convolution, of 1 x 1, is the linear layer that it amounts to.

Reference: Iandola and others 2016, arXiv:1602.07360; version 1.1 is the authors' own smaller one.
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from counterpoint.classifier import Classifier
from counterpoint.models.arrays import Array, arrays_of_pickle
from counterpoint.models.cache import load_cached
from counterpoint.models.imagenet import imagenet_classifier
from counterpoint.models.operations import Concatenate
from counterpoint.models.published import PUBLISHED

MEAN = (122.679, 116.669, 104.006)
"""Of red, green and blue, in units of 0..255; the standard deviation is left as it is."""

STEM_CHANNELS = 64
SQUEEZED = {2: 16, 3: 16, 4: 32, 5: 32, 6: 48, 7: 48, 8: 64, 9: 64}
"""Channels between the two layers of each fire module, by its number; the first layer of the network is number 1."""

POOLED_BEFORE = (2, 4, 6)
"""The fire modules that come after a pooling."""


class Fire(nn.Module):
    """Squeeze to few channels, then expand by 1 x 1 and by 3 x 3 kernels, 4 times as many channels each, side by side."""

    def __init__(self, inputs: int, squeezed: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeezed, 1)
        self.squeeze_relu = nn.ReLU()
        self.expand1x1 = nn.Conv2d(squeezed, 4 * squeezed, 1)
        self.expand1x1_relu = nn.ReLU()
        self.expand3x3 = nn.Conv2d(squeezed, 4 * squeezed, 3, padding=1)
        self.expand3x3_relu = nn.ReLU()
        self.concatenate = Concatenate()

    def forward(self, image: Tensor) -> Tensor:
        """(batch, inputs, height, width) to (batch, 8 squeezed, height, width)."""
        few = self.squeeze_relu(self.squeeze(image))
        left = self.expand1x1_relu(self.expand1x1(few))
        right = self.expand3x3_relu(self.expand3x3(few))
        output: Tensor = self.concatenate(left, right)
        return output


class SqueezeNet(nn.Module):
    """The network, with random weights: 1,235,496 parameters for 1000 classes.

    Takes RGB images of 17 pixels or more on each side, in units of 0..255, less MEAN.
    """

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        self.features = nn.Sequential(OrderedDict(_features()))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(8 * SQUEEZED[9], classes)

    def forward(self, image: Tensor) -> Tensor:
        """(batch, 3, height, width) to the scores before softmax, (batch, classes)."""
        scores: Tensor = self.fc(self.flatten(self.avgpool(self.features(image))))
        return scores


def _features() -> Iterator[tuple[str, nn.Module]]:
    yield "conv1", nn.Conv2d(3, STEM_CHANNELS, 3, stride=2)
    yield "relu1", nn.ReLU()
    inputs = STEM_CHANNELS
    for number, squeezed in SQUEEZED.items():
        if number in POOLED_BEFORE:
            yield f"maxpool{number - 1}", nn.MaxPool2d(3, stride=2, ceil_mode=True)
        yield f"fire{number}", Fire(inputs, squeezed)
        inputs = 8 * squeezed


def squeezenet1_1() -> Classifier:
    """SqueezeNet 1.1 with its ImageNet weights from the cache, in evaluation mode, on the CPU.

    Photographs are cut to the central 7/8 of their shorter side and resized to 224 x 224, bicubic.

    Raises:
        MissingPackageError: the weights have not been fetched.
        ModelError: the weights are not those that were checked.
    """
    with torch.device("meta"):  # no numbers are drawn for weights that are replaced at once
        network = SqueezeNet()
    load_cached("squeezenet1_1", network)
    return imagenet_classifier(
        network,
        "squeezenet1_1",
        mean=tuple(value / 255 for value in MEAN),
        std=(1 / 255,) * 3,
        weights=PUBLISHED["squeezenet1_1"].title,
    )


def published_state(files: Mapping[str, bytes]) -> dict[str, Tensor]:
    """The state of a SqueezeNet from the one file of the published package.

    Raises:
        FetchError: the file does not hold the arrays of this network.
    """
    (content,) = files.values()
    return state_from_caffe(arrays_of_pickle(content))


def state_from_caffe(arrays: Mapping[str, tuple[Array, ...]]) -> dict[str, Tensor]:
    """The state of a SqueezeNet with the numbers of Caffe's, which takes blue first.

    Args:
        arrays: Kernel (height, width, inputs, outputs) and bias by Caffe's names, such as "fire2/squeeze1x1".

    Raises:
        KeyError: an array is missing.
    """
    state: dict[str, Tensor] = {}
    for ours, theirs in _caffe_names():
        kernel, bias = arrays[theirs]
        state[f"{ours}.weight"] = torch.from_numpy(np.array(kernel.transpose(3, 2, 0, 1), order="C"))
        state[f"{ours}.bias"] = torch.from_numpy(np.array(bias)).flatten()
    kernel, bias = arrays["conv10"]  # (1, 1, inputs, outputs): a linear layer
    state["fc.weight"] = torch.from_numpy(np.array(kernel[0, 0].T, order="C"))
    state["fc.bias"] = torch.from_numpy(np.array(bias)).flatten()
    first = "features.conv1.weight"
    state[first] = state[first].flip(1)  # from blue, green, red to red, green, blue
    return state


def _caffe_names() -> Iterator[tuple[str, str]]:
    """Our name of each convolution before the last, and Caffe's."""
    yield "features.conv1", "conv1"
    for number in SQUEEZED:
        yield f"features.fire{number}.squeeze", f"fire{number}/squeeze1x1"
        yield f"features.fire{number}.expand1x1", f"fire{number}/expand1x1"
        yield f"features.fire{number}.expand3x3", f"fire{number}/expand3x3"
