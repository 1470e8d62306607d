"""Where the worker process begins. Loaded by the server too, so torch is imported only within."""

from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Beginning:
    """What the worker has to know."""

    models: tuple[str, ...]
    baselines: tuple[str, ...]
    """With files of their own, as given on the command line."""
    device: str | None
    results: str | None
    """A benchmark's folder, or a saved attribution."""
    bank: tuple[str, ...]
    """Paths of the photographs that say what is in distribution; empty for none."""
    folder: Path
    """The studio's temporary place, which goes with it also where the server was killed."""


def begin(beginning: Beginning, connection: Connection, cancelled: Any) -> None:
    """Run until the server closes the connection.

    Args:
        beginning: What to know.
        connection: Tasks come in, messages go out.
        cancelled: The serial number of the task that is to stop, written by the server.
    """
    from counterpoint.studio.worker.running import run

    run(beginning, connection, cancelled)
