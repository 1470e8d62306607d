"""Processes on this machine. Each is an executor of its own, so that one that dies takes one job with it and is replaced."""

import multiprocessing
import os
import signal
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool

from counterpoint.bench.engines.placing import DEPTH, least_busy
from counterpoint.bench.engines.protocol import Finished, Lost
from counterpoint.bench.jobs import Done, Job, Setup
from counterpoint.bench.trying import Retry
from counterpoint.bench.work import Worker

_worker: Worker | None = None


class Pool:
    """A process for each worker, started afresh (spawn), each with its own models."""

    def __init__(self, setup: Setup, workers: int) -> None:
        self.workers = workers
        self._setup = setup
        self._executors = [self._started() for _ in range(workers)]
        self._waiting: dict[Future[Done], tuple[int, Job]] = {}

    @property
    def room(self) -> bool:
        """Some worker has fewer than two jobs."""
        return len(self._waiting) < DEPTH * self.workers

    @property
    def busy(self) -> bool:
        """Some job is under way."""
        return bool(self._waiting)

    def submit(self, job: Job) -> None:
        """To the worker with the fewest jobs."""
        place = least_busy((place for place, _ in self._waiting.values()), self.workers)
        try:
            future = self._executors[place].submit(_do, job)
        except BrokenProcessPool:  # it died between two jobs
            self._replace(place)
            future = self._executors[place].submit(_do, job)
        self._waiting[future] = (place, job)

    def wait(self, seconds: float) -> list[Finished | Lost]:
        """What is done by then; a dead worker's job is lost, and the one that waited behind it handed in again."""
        ended, _ = wait(self._waiting, timeout=seconds, return_when=FIRST_COMPLETED)
        found: list[Finished | Lost] = []
        died: dict[int, list[Job]] = {}
        # In the order in which they were handed in: of a dead worker's jobs the first was at work.
        for future in [each for each in self._waiting if each in ended]:
            place, job = self._waiting.pop(future)
            try:
                found.append(Finished(job, future.result()))
            except Retry as error:
                found.append(Lost(job, str(error)))
            except BrokenProcessPool:
                died.setdefault(place, []).append(job)
        for place, jobs in died.items():
            jobs += [
                self._waiting.pop(f)[1] for f in [f for f, (p, _) in self._waiting.items() if p == place]
            ]
            self._replace(place)
            found.append(Lost(jobs[0], "its worker died"))
            for job in jobs[1:]:
                self._waiting[self._executors[place].submit(_do, job)] = (place, job)
        return found

    def _replace(self, place: int) -> None:
        self._executors[place].shutdown(wait=False, cancel_futures=True)
        self._executors[place] = self._started()

    def _started(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            1, multiprocessing.get_context("spawn"), initializer=_begin, initargs=(self._setup, os.getpid())
        )

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for executor in self._executors:
            if kind is not None:  # interrupted: nobody waits for what is under way
                for process in list((executor._processes or {}).values()):
                    process.terminate()
            executor.shutdown(wait=True, cancel_futures=True)


def _begin(setup: Setup, parent: int) -> None:
    global _worker
    # Ctrl-C is for the process that started this one, which ends it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _end_with(parent)
    _worker = Worker(setup).ready()


def _end_with(parent: int) -> None:
    """Leave when the parent is gone, also where it was killed: an orphan would compute for nobody."""
    import threading
    import time

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _do(job: Job) -> Done:
    if _worker is None:
        raise RuntimeError("the worker was not started.")
    return _worker.do(job)
