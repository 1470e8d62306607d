"""What every engine does: take jobs while it has room, hand back what came of them, survive its workers."""

from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

from counterpoint.bench.jobs import Done, Job


@dataclass(frozen=True)
class Finished:
    """A job that was answered."""

    job: Job
    done: Done


@dataclass(frozen=True)
class Lost:
    """A job that was not: its worker died, or asks for it to be tried again."""

    job: Job
    reason: str


class Engine(Protocol):
    """Workers that answer jobs; a context that ends them."""

    workers: int

    @property
    def room(self) -> bool:
        """Whether another job may be handed in now. Few wait for each worker, so that a million jobs are never in memory."""
        ...

    @property
    def busy(self) -> bool:
        """Whether anything is under way."""
        ...

    def submit(self, job: Job) -> None:
        """Hand in a job."""
        ...

    def wait(self, seconds: float) -> list[Finished | Lost]:
        """What came of jobs, in any order; nothing where nothing did in that time."""
        ...

    def __enter__(self) -> "Engine": ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
