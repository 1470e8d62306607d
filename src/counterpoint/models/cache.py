"""The folder of fetched weights: where it is, what is in it, and how a network gets its weights from there."""

import os
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from counterpoint.errors import MissingPackageError, ModelError
from counterpoint.models.published import PUBLISHED

if TYPE_CHECKING:
    from torch import nn

CACHE_VARIABLE = "COUNTERPOINT_CACHE"


def cache_folder() -> Path:
    """COUNTERPOINT_CACHE where it is set, else the folder `counterpoint` where the platform keeps what can be had again."""
    if chosen := os.environ.get(CACHE_VARIABLE):
        return Path(chosen).expanduser()
    return _user_cache() / "counterpoint"


def _user_cache() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    chosen = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # A relative path there is to be ignored, says the standard of freedesktop.org.
    return chosen if chosen.is_absolute() else Path.home() / ".cache"


def cached_weights(name: str) -> Path:
    """Where the weights of a model of PUBLISHED are kept once they are fetched."""
    return cache_folder() / "models" / f"{name}.safetensors"


@dataclass(frozen=True)
class Availability:
    """Whether the weights of a model can be had without the network."""

    state: Literal["included", "installed", "fetched", "not fetched"]
    """Part of Counterpoint; in an installed package, which comes before the cache; in the cache; or none of these."""
    size: int | None
    """Bytes: of the file in the cache, or of the download that is to come; None where neither is needed."""

    @property
    def text(self) -> str:
        """For a table."""
        return self.state if self.size is None else f"{self.state}, {self.size / 1e6:.0f} MB"


def availability(name: str) -> Availability:
    """Where the weights of a model are; those of a model that is not in PUBLISHED come with Counterpoint."""
    if name not in PUBLISHED:
        return Availability("included", None)
    package, file = PUBLISHED[name], cached_weights(name)
    if package.module is not None and find_spec(package.module) is not None:
        return Availability("installed", None)
    if file.is_file():
        return Availability("fetched", file.stat().st_size)
    return Availability("not fetched", package.archive_bytes)


def load_cached(name: str, network: "nn.Module") -> None:
    """Give a network its weights from the cache.

    Args:
        name: A key of PUBLISHED.
        network: Changed in place; it may be on torch's meta device, without numbers of its own.

    Raises:
        MissingPackageError: the weights have not been fetched.
        ModelError: the file is damaged, or holds other weights than those that were checked.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from counterpoint.classifier import weights_hash

    file = cached_weights(name)
    if not file.is_file():
        raise MissingPackageError(
            f"the weights of '{name}' come with {PUBLISHED[name].title} and are not in the cache ({file.parent}): "
            f"run `counterpoint models fetch {name}`, once."
        )
    again = f"run `counterpoint models fetch {name} --force`."
    try:
        network.load_state_dict(load_file(file), assign=True)
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"the weight file '{file}' does not fit the network ({reason}); {again}") from error
    if weights_hash(network) != PUBLISHED[name].weights_sha256:
        raise ModelError(f"the weight file '{file}' does not hold the weights that were checked; {again}")
