"""What the worker tells the server."""

from dataclasses import dataclass
from pathlib import Path

from counterpoint.studio.catalogue import Catalogue


@dataclass(frozen=True)
class Ready:
    """It takes work, and this is what there is to choose from."""

    catalogue: Catalogue


@dataclass(frozen=True)
class Advanced:
    """The running task is so far."""

    serial: int
    done: float
    total: float
    what: str


@dataclass(frozen=True)
class Done:
    """A task is finished, its answer in the folder."""

    serial: int
    folder: Path


@dataclass(frozen=True)
class Failed:
    """A task ended with an error."""

    serial: int
    words: str


@dataclass(frozen=True)
class Stopped:
    """A task was cancelled."""

    serial: int
