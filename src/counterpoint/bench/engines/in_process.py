"""One job after the other, here."""

from collections.abc import Sequence

from counterpoint.bench.engines.protocol import Finished, Lost
from counterpoint.bench.jobs import Job, Setup
from counterpoint.bench.trying import Retry
from counterpoint.bench.work import Worker
from counterpoint.classifier import Classifier


class InProcess:
    """Works in this process; the only engine that takes live models."""

    workers = 1

    def __init__(self, setup: Setup, loaded: Sequence[Classifier] = ()) -> None:
        self._worker = Worker(setup, loaded)
        self._job: Job | None = None

    @property
    def room(self) -> bool:
        """No job waits."""
        return self._job is None

    @property
    def busy(self) -> bool:
        """A job waits."""
        return self._job is not None

    def submit(self, job: Job) -> None:
        """Keep it for `wait`."""
        self._job = job

    def wait(self, seconds: float) -> list[Finished | Lost]:
        """Do it, however long it takes."""
        job, self._job = self._job, None
        if job is None:
            return []
        try:
            return [Finished(job, self._worker.do(job))]
        except Retry as error:
            return [Lost(job, str(error))]

    def __enter__(self) -> "InProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self._job = None
