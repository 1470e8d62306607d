"""Workers on a Ray cluster: actors that keep their models, each started again where it dies."""

from typing import Any

from counterpoint.bench.engines.placing import DEPTH, least_busy
from counterpoint.bench.engines.protocol import Finished, Lost
from counterpoint.bench.jobs import Job, Setup
from counterpoint.bench.trying import Retry
from counterpoint.bench.work import Worker
from counterpoint.errors import InputError, MissingPackageError


class OnRay:
    """One actor for each worker. Without an address a cluster is started on this machine, and stopped at the end."""

    def __init__(self, setup: Setup, workers: int | None, *, address: str = "", gpus: float = 0) -> None:
        self._ray = ray_package()
        self._begun = not self._ray.is_initialized()
        if self._begun:
            try:
                self._ray.init(
                    address=address or None,
                    num_cpus=None if address else workers,
                    include_dashboard=None if address else False,
                    log_to_driver=False,
                    logging_level="error",
                    configure_logging=False,
                )
            except (ConnectionError, ValueError, RuntimeError) as error:
                raise InputError(
                    f"address must be that of a Ray cluster, got '{address}': {error}"
                ) from error
        threads = setup.spec.run.threads
        self.workers = workers or max(1, int(self._ray.cluster_resources().get("CPU", 1)) // threads)
        options = {
            "num_cpus": threads if address else 1,
            "num_gpus": gpus,
            "max_restarts": -1,
            "max_task_retries": 0,
        }
        actor = self._ray.remote(**options)(_Actor)
        # Not put into the object store: an actor that is started again needs it once more.
        self._actors = [actor.remote(setup) for _ in range(self.workers)]
        self._waiting: dict[Any, tuple[int, Job]] = {}

    @property
    def room(self) -> bool:
        """Some actor has fewer than two jobs."""
        return len(self._waiting) < DEPTH * self.workers

    @property
    def busy(self) -> bool:
        """Some job is under way."""
        return bool(self._waiting)

    def submit(self, job: Job) -> None:
        """To the actor with the fewest jobs."""
        place = least_busy((place for place, _ in self._waiting.values()), self.workers)
        self._waiting[self._actors[place].do.remote(job)] = (place, job)

    def wait(self, seconds: float) -> list[Finished | Lost]:
        """What is done by then."""
        if not self._waiting:
            return []
        ended, _ = self._ray.wait(list(self._waiting), num_returns=1, timeout=seconds)
        more, _ = self._ray.wait(list(self._waiting), num_returns=len(self._waiting), timeout=0)
        found: list[Finished | Lost] = []
        for reference in dict.fromkeys([*ended, *more]):
            _, job = self._waiting.pop(reference)
            try:
                found.append(Finished(job, self._ray.get(reference)))
            except self._ray.exceptions.RayTaskError as error:
                if not isinstance(error.cause, Retry):
                    raise
                found.append(Lost(job, str(error.cause)))
            except (self._ray.exceptions.RayActorError, self._ray.exceptions.RaySystemError):
                # Also the job that waited behind it: whichever is to blame, both are tried again, one by one.
                found.append(Lost(job, "its worker died"))
        return found

    def __enter__(self) -> "OnRay":
        return self

    def __exit__(self, *_: object) -> None:
        for actor in self._actors:
            self._ray.kill(actor)
        if self._begun:
            self._ray.shutdown()


class _Actor:
    """A worker that lives in a process of the cluster."""

    def __init__(self, setup: Setup) -> None:
        self._worker = Worker(setup).ready()

    def do(self, job: Job) -> Any:
        """Answer a job."""
        return self._worker.do(job)


def ray_package() -> Any:
    """Ray, or a clear word that it is missing."""
    try:
        import ray
    except ImportError as error:
        raise MissingPackageError(
            'the engine "ray" needs Ray; install it with: pip install "counterpoint[ray]"'
        ) from error
    return ray
