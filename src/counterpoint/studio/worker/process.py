"""The server's end of the worker: started, handed tasks, listened to, and started anew when it dies."""

import multiprocessing
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, Protocol

from counterpoint.studio.catalogue import Catalogue
from counterpoint.studio.jobs import Progress, Task
from counterpoint.studio.worker.beginning import Beginning, begin
from counterpoint.studio.worker.messages import Advanced, Done, Failed, Ready, Stopped

# So many deaths in a row without a finished task, and it is not started anew.
MOST_DEATHS = 3
GRACE = 20.0
"""Seconds that a cancelled task has to end by itself; then the process is ended."""


class Listening(Protocol):
    """Who is told what the worker does: the jobs."""

    def ready(self) -> None:
        """It takes work."""

    def advanced(self, serial: int, progress: Progress) -> None:
        """A task is so far."""

    def done(self, serial: int, folder: Any) -> None:
        """A task is finished."""

    def failed(self, serial: int, words: str) -> None:
        """A task ended with an error."""

    def stopped(self, serial: int) -> None:
        """A task was cancelled."""

    def died(self, words: str, *, broken: bool) -> None:
        """It is gone."""


class WorkerProcess:
    """One worker process at a time.

    Args:
        beginning: What it has to know.
        listener: Who is told what it does.
        on_catalogue: Called once it knows what there is to choose from.
        target: What the process runs.
    """

    def __init__(
        self,
        beginning: Beginning,
        listener: Listening,
        on_catalogue: Callable[[Catalogue], None],
        *,
        target: Callable[..., None] = begin,
        grace: float = GRACE,
    ) -> None:
        self._beginning, self._listener, self._on_catalogue = beginning, listener, on_catalogue
        self._target, self._grace = target, grace
        self._context = multiprocessing.get_context("spawn")
        # Written here, read there: the serial number of the task that is to stop.
        self._cancelled = self._context.Value("Q", 0, lock=False)
        self._deaths = 0
        self._closed = False
        self._lock = threading.RLock()
        self._connection: Connection | None = None
        self._process: Any = None
        self._task: int = 0

    def start(self) -> None:
        """Start the process, and a thread that listens to it."""
        with self._lock:
            if self._closed:
                return
            ours, theirs = self._context.Pipe()
            self._process = self._context.Process(
                target=self._target,
                args=(self._beginning, theirs, self._cancelled),
                name="counterpoint-studio-worker",
                daemon=True,
            )
            self._process.start()
            theirs.close()
            self._connection = ours
            listening = threading.Thread(target=self._listen, args=(ours, self._process), daemon=True)
        listening.start()

    @property
    def pid(self) -> int | None:
        """Of the process."""
        return None if self._process is None else self._process.pid

    def begin(self, task: Task) -> None:
        """Hand a task over."""
        with self._lock:
            self._task = task.serial
            if self._connection is not None:
                try:
                    self._connection.send(task)
                except OSError:
                    pass  # it died a moment ago: the listening thread finds that out too, and says so

    def cancel(self, serial: int) -> None:
        """Ask a task to stop; where it does not within the grace, the process is ended and started anew."""
        self._cancelled.value = serial
        timer = threading.Timer(self._grace, self._end_task, [serial])
        timer.daemon = True
        timer.start()

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._closed = True
            process = self._process
        if process is not None:
            process.terminate()
            process.join(5)
            if process.is_alive():
                process.kill()
                process.join(5)

    def _end_task(self, serial: int) -> None:
        with self._lock:
            if self._task == serial and not self._closed and self._process is not None:
                self._process.kill()

    def _listen(self, connection: Connection, process: Any) -> None:
        try:
            while True:
                self._heard(connection.recv())
        except (EOFError, OSError):
            pass  # closed: the process is gone
        process.join(5)
        connection.close()
        self._ended(process.exitcode)

    def _heard(self, message: object) -> None:
        match message:
            case Ready(catalogue=catalogue):
                self._on_catalogue(catalogue)
                self._listener.ready()
            case Advanced(serial=serial, done=done, total=total, what=what):
                self._listener.advanced(serial, Progress(done, total, what))
            case Done(serial=serial, folder=folder):
                self._rest(0)
                self._listener.done(serial, folder)
            case Failed(serial=serial, words=words):
                self._rest(0)
                self._listener.failed(serial, words)
            case Stopped(serial=serial):
                self._rest(0)
                self._listener.stopped(serial)

    def _rest(self, deaths: int) -> None:
        with self._lock:
            self._task, self._deaths = 0, deaths

    def _ended(self, code: int | None) -> None:
        with self._lock:
            if self._closed:
                return
            cancelled = self._task and self._cancelled.value == self._task
            self._rest(self._deaths if cancelled else self._deaths + 1)
            broken = self._deaths >= MOST_DEATHS
        how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        hint = "; the memory may not have been enough" if code == -9 else ""
        again = (
            "It ended several times in a row and is not started again: restart the studio."
            if broken
            else ("It is started anew; please ask again.")
        )
        self._listener.died(
            f"the process that does the work ended unexpectedly ({how}{hint}). {again}", broken=broken
        )
        if not broken:
            self.start()
