"""What the worker process does: loads models, tells what there is, then works on one task after another."""

import gc
import os
import shutil
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from counterpoint import progress
from counterpoint.errors import Cancelled, CounterpointError
from counterpoint.studio.jobs import Task
from counterpoint.studio.worker.answering import Folder
from counterpoint.studio.worker.beginning import Beginning
from counterpoint.studio.worker.curves import curves
from counterpoint.studio.worker.explaining import cell, layers, preview, top
from counterpoint.studio.worker.messages import Advanced, Done, Failed, Ready, Stopped
from counterpoint.studio.worker.offering import catalogue_of
from counterpoint.studio.worker.reporting import results
from counterpoint.studio.worker.trusting import deviation, sanity
from counterpoint.studio.worker.workshop import Workshop

_SECONDS_BETWEEN_MESSAGES = 0.1

ANSWERS: dict[str, Callable[..., dict[str, Any]]] = {
    "top": top,
    "preview": preview,
    "layers": layers,
    "cell": cell,
    "curves": curves,
    "deviation": deviation,
    "sanity": sanity,
    "results": results,
}
"""Kind of question -> what answers it; a verdict is drawn by the server itself."""


def run(beginning: Beginning, connection: Connection, cancelled: Any) -> None:
    """Work until the server closes the connection; see `begin`."""
    # Ctrl-C is for the server, which ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _end_with_parent(beginning.folder)
    warnings.simplefilter("ignore")
    try:
        workshop = Workshop(beginning)
        connection.send(Ready(catalogue_of(workshop)))
        # What is there now stays: it need not be looked through each time.
        gc.collect()
        gc.freeze()
        while True:
            connection.send(_worked(workshop, connection.recv(), connection, cancelled))
            # Figures and graphs hold themselves in circles: without this the memory grows for a while.
            gc.collect()
    except (EOFError, ConnectionError):
        # The server is gone.
        shutil.rmtree(beginning.folder, ignore_errors=True)


def _worked(
    workshop: Workshop, task: Task, connection: Connection, cancelled: Any
) -> Done | Failed | Stopped:
    last = 0.0

    def listener(done: float, total: float, what: str) -> None:
        nonlocal last
        if cancelled.value == task.serial:
            raise Cancelled
        if (now := time.monotonic()) - last >= _SECONDS_BETWEEN_MESSAGES:
            last = now
            connection.send(Advanced(task.serial, float(done), float(total), what))

    folder, question = Folder(task.folder), task.question
    try:
        with progress.listening(listener):
            answer = ANSWERS[question.kind](workshop, question, task, folder)
            folder.write_answer(
                {"kind": question.kind, "question": question.model_dump(mode="json"), **answer}
            )
            return Done(task.serial, task.folder)
    except Cancelled:
        words = None
    except CounterpointError as error:
        words = " ".join(str(error).split())
    except ConnectionError:
        raise
    except MemoryError:
        words = "there is not enough memory for this."
    except Exception as error:
        # A bug: its traceback belongs to the terminal, its name to the page.
        traceback.print_exc(file=sys.stderr)
        words = f"something went wrong inside, {type(error).__name__}: {' '.join(str(error).split())[:300]}"
    shutil.rmtree(task.folder, ignore_errors=True)
    if words is None:
        return Stopped(task.serial)
    for source in task.photos.values():
        words = words.replace(source.path, source.name)
    return Failed(task.serial, words)


def _end_with_parent(folder: Path) -> None:
    """Leave when the server is gone, also where it was killed, and take its files along."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
