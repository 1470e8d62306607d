"""Fetch the weights of a model from a public registry into the cache, as safetensors."""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn

from counterpoint.classifier import weights_hash
from counterpoint.errors import FetchError, InputError, OutputError, UnknownNameError
from counterpoint.files import whole_file
from counterpoint.models import MODELS, efficientnet_lite0, mtcnn, mtcnn_networks, resnet50, squeezenet
from counterpoint.models.archives import download, read_members
from counterpoint.models.cache import cached_weights
from counterpoint.models.published import PUBLISHED, Package
from counterpoint.progress import advance, stage


@dataclass(frozen=True)
class Fetched:
    """Weights that are in the cache."""

    name: str
    file: Path
    anew: bool
    """Whether they were fetched now; False where they had been there."""


@dataclass(frozen=True)
class Network:
    """How the files of a package become the weights of a network."""

    build: Callable[[], nn.Module]
    state: Callable[[Mapping[str, bytes]], dict[str, Tensor]]
    """The state of the network from the contents of the files, by their names in the archive."""


NETWORKS: dict[str, Network] = {
    "efficientnet_lite0": Network(efficientnet_lite0.EfficientNetLite0, efficientnet_lite0.published_state),
    "resnet50": Network(resnet50.ResNet50, resnet50.published_state),
    "squeezenet1_1": Network(squeezenet.SqueezeNet, squeezenet.published_state),
    "mtcnn": Network(mtcnn_networks.FaceNets, mtcnn.published_state),
}


def fetch(name: str, *, force: bool = False) -> Fetched:
    """Put the weights of a model into the cache, unless they are there.

    The package manager downloads the package into a temporary folder, from the registry that the user has set
    up. Its hash is checked before it is opened, and that of the weights before they are kept.

    Args:
        name: A key of PUBLISHED.
        force: Fetch also what is there.

    Raises:
        UnknownNameError: no such model.
        InputError: its weights come with Counterpoint.
        MissingPackageError: npm or pip is not there.
        FetchError: the download fails, or the archive or the weights are not those that were checked.
        OutputError: the cache cannot be written.
    """
    package = package_of(name)
    file = cached_weights(name)
    if file.is_file() and not force:
        return Fetched(name, file, anew=False)
    _make_folder(file.parent)
    with tempfile.TemporaryDirectory(prefix="counterpoint-") as folder:
        with stage(0, 1, 3):
            archive = download(package, Path(folder))
        advance(1, 3, f"reading {package.archive}")
        contents = read_members(archive, package.members)
    state = checked_state(NETWORKS[name], package, contents)
    advance(2, 3, f"writing {file.name}")
    with whole_file(file) as partial:
        partial.write_bytes(save(state, metadata=_metadata(package)))
    advance(3, 3, f"writing {file.name}")
    return Fetched(name, file, anew=True)


def package_of(name: str) -> Package:
    """The package that holds the weights of a model.

    Raises:
        UnknownNameError: no such model.
        InputError: its weights come with Counterpoint.
    """
    if name not in PUBLISHED and name in MODELS:
        raise InputError(f"the weights of '{name}' come with Counterpoint; there is nothing to fetch.")
    if name not in PUBLISHED:
        raise UnknownNameError.among("model to fetch", name, PUBLISHED)
    return PUBLISHED[name]


def checked_state(network: Network, package: Package, contents: Mapping[str, bytes]) -> dict[str, Tensor]:
    """The weights from the files of a package, which must be those that were checked.

    Raises:
        FetchError: files of another format, arrays that are missing or of another shape, or other numbers.
    """
    with torch.device("meta"):  # no numbers are drawn for weights that are replaced at once
        module = network.build()
    try:
        module.load_state_dict(network.state(contents), assign=True)
    except (LookupError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise FetchError(f"the weights in {package.title} do not fit the network: {reason}") from error
    found = weights_hash(module)
    if found != package.weights_sha256:
        raise FetchError(
            f"the weights in {package.title} are not those that were checked: their SHA-256 must be "
            f"{package.weights_sha256}, but is {found}."
        )
    return {key: value.contiguous() for key, value in module.state_dict().items()}


def _metadata(package: Package) -> dict[str, str]:
    return {
        "source": f"{package.registry} {package.name} {package.version}",
        "licence": package.licence,
        "archive_sha256": package.archive_sha256,
        "weights_sha256": package.weights_sha256,
    }


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"the cache '{folder}' cannot be made: {(error.strerror or str(error)).lower()}. "
            "Set COUNTERPOINT_CACHE to another folder."
        ) from error
