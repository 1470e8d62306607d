"""Work in the background: one job at a time, equal questions shared, a queue with an end."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from counterpoint.studio.answers import Answers
from counterpoint.studio.questions import Question, Verdict
from counterpoint.studio.refusals import Full, Refused

State = Literal["queued", "running", "done", "failed", "cancelled"]
UNFINISHED: tuple[State, ...] = ("queued", "running")

# Ended badly or cancelled: their words are kept for those who still ask.
_MOST_ENDED = 500


@dataclass(frozen=True)
class Progress:
    """How far a job is."""

    done: float = 0.0
    total: float = 0.0
    """0 while nothing is known."""
    what: str = ""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job as it is now."""

    key: str
    kind: str
    state: State
    progress: Progress = Progress()
    place: int = 0
    """How many jobs come before it; 0 unless it is queued."""
    error: str = ""
    """Why it failed, in words."""

    @property
    def is_finished(self) -> bool:
        """Whether its state is settled: done, failed or cancelled."""
        return self.state not in UNFINISHED

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        progress = {"done": self.progress.done, "total": self.progress.total, "what": self.progress.what}
        return {
            "key": self.key,
            "kind": self.kind,
            "state": self.state,
            "progress": progress,
            "place": self.place,
            "error": self.error,
        }


@dataclass(frozen=True)
class Sent:
    """A photograph as the worker gets it."""

    path: str
    name: str
    """What its file is called: an upload keeps no name of its own on disk."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """What the worker is handed."""

    serial: int
    question: Question
    folder: Path
    """Where it writes the answer; made by the worker."""
    photos: Mapping[str, Sent]
    """By id."""
    needs: Mapping[str, Path]
    """Key -> folder of a finished answer that this one is worked out from."""
    keys: Mapping[Question, str]
    """Question -> key, of what is needed."""


class Doing(Protocol):
    """Whoever does the work; see `counterpoint.studio.worker.process`."""

    def begin(self, task: Task) -> None:
        """Start a task; only one at a time."""

    def cancel(self, serial: int) -> None:
        """Stop a task soon."""


@dataclass
class _Entry:
    key: str
    question: Question
    needs: tuple[str, ...]
    photos: Mapping[str, Sent]
    asked: bool
    """Whether somebody asked for it by itself, not only for what is worked out from it."""
    state: State = "queued"
    progress: Progress = Progress()
    error: str = ""
    serial: int = 0


@dataclass
class Jobs:
    """All jobs of a studio.

    Args:
        answers: Where finished ones go.
        most: How many may wait or run.
        doing: Who does the work.
        settle: Question -> (its key, its photographs by id); raises what asking may raise.
        conclude: A verdict and the answers it is drawn from (None for those that there are not, with the reason) -> its answer.
    """

    answers: Answers
    most: int
    doing: Doing
    settle: Callable[[Question], tuple[str, Mapping[str, Sent]]]
    conclude: Callable[[Verdict, Mapping[str, dict[str, Any] | None], Mapping[str, str]], dict[str, Any]]
    write: Callable[[Path, dict[str, Any]], None]
    _entries: OrderedDict[str, _Entry] = field(default_factory=OrderedDict)
    _queue: list[_Entry] = field(default_factory=list)
    _running: _Entry | None = None
    _ready: bool = False
    _broken: str = ""
    _serial: int = 0
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def ask(self, question: Question) -> Job:
        """The job of a question: a new one, or the one that somebody started before.

        Raises:
            Full: no room.
            Refused: the worker cannot be started, or the question names what there is not.
        """
        with self._lock:
            new: dict[str, _Entry] = {}
            key = self._collect(question, new, asked=True)
            if new and self._broken:
                raise Refused(503, self._broken)
            if len(new) + self._unfinished() > self.most:
                raise Full(
                    f"the studio is busy: {self._unfinished()} jobs wait or run already, and there is room for {self.most}. "
                    "Please try again in a little while."
                )
            for entry in new.values():
                self._entries.pop(entry.key, None)
                self._entries[entry.key] = entry
                self._queue.insert(self._place_of(entry), entry)
            self._entries[key].asked = True
            self._next()
            return self._snapshot(self._entries[key])

    def job(self, key: str) -> Job | None:
        """The job of a key, or None where there is none, or its answer has made room for others."""
        with self._lock:
            entry = self._entries.get(key)
            return None if entry is None else self._snapshot(entry)

    def cancel(self, key: str) -> Job | None:
        """Stop a job for all who wait for it, and what was only worked out for it."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            self._cancel(entry)
            self._next()
            return self._snapshot(entry)

    @property
    def unfinished(self) -> int:
        """How many wait or run."""
        with self._lock:
            return self._unfinished()

    @property
    def broken(self) -> str:
        """Why nothing can be worked out any more; empty while it can."""
        with self._lock:
            return self._broken

    # What the worker says.

    def ready(self) -> None:
        """The worker takes work."""
        with self._lock:
            self._ready, self._broken = True, ""
            self._next()

    def advanced(self, serial: int, progress: Progress) -> None:
        """The running task is so far."""
        with self._lock:
            if self._running is not None and self._running.serial == serial:
                self._running.progress = progress

    def done(self, serial: int, folder: Path) -> None:
        """A task is finished, and its answer is in `folder`."""
        with self._lock:
            entry = self._ended(serial)
            if entry is not None and entry.state == "running":
                self._finish(entry, folder)
            self._next()

    def failed(self, serial: int, words: str) -> None:
        """A task ended with an error."""
        with self._lock:
            entry = self._ended(serial)
            if entry is not None and entry.state == "running":
                entry.state, entry.error = "failed", words
            self._next()

    def stopped(self, serial: int) -> None:
        """A task was cancelled."""
        with self._lock:
            entry = self._ended(serial)
            if entry is not None and entry.state == "running":
                entry.state = "cancelled"
            self._next()

    def died(self, words: str, *, broken: bool) -> None:
        """The worker is gone.

        Args:
            words: How it ended.
            broken: Whether it is not started anew.
        """
        with self._lock:
            self._ready = False
            if self._running is not None:
                if self._running.state == "running":
                    self._running.state, self._running.error = "failed", words
                self._running = None
            if broken:
                self._broken = words
                for entry in self._queue:
                    entry.state, entry.error = "failed", words
                self._queue.clear()

    # Within the lock.

    def _collect(self, question: Question, new: dict[str, _Entry], *, asked: bool) -> str:
        """Put the question, after all that it needs, into `new`, unless it is at work or done."""
        key, photos = self.settle(question)
        known = self._entries.get(key)
        if known is not None and (
            known.state in UNFINISHED or (known.state == "done" and key in self.answers)
        ):
            return key
        if key not in new:
            needs = tuple(self._collect(need, new, asked=False) for need in question.needs())
            new[key] = _Entry(key=key, question=question, needs=needs, photos=photos, asked=asked)
        return key

    def _place_of(self, entry: _Entry) -> int:
        """The end of the queue; of brief questions, the end of the brief ones at its head."""
        if not entry.question.brief:
            return len(self._queue)
        return next((k for k, each in enumerate(self._queue) if not each.question.brief), len(self._queue))

    def _next(self) -> None:
        """Begin the first job that can begin."""
        waiting = 0
        while self._running is None and waiting < len(self._queue):
            entry = self._queue.pop(0)
            parts = [self._entries.get(need) for need in entry.needs]
            if any(part is not None and part.state in UNFINISHED for part in parts):
                # What it needs was cancelled and asked for anew since: that now stands behind it.
                self._queue.append(entry)
                waiting += 1
                continue
            missing = {
                need: "it was dropped" if part is None else part.error or "it was cancelled"
                for need, part in zip(entry.needs, parts, strict=True)
                if need not in self.answers
            }
            if isinstance(entry.question, Verdict):
                self._conclude(entry, entry.question, missing)
            elif missing:
                entry.state, entry.error = "failed", next(iter(missing.values()))
            elif self._ready:
                self._begin(entry)
            else:
                self._queue.insert(0, entry)
                return
        self._forget_old()

    def _begin(self, entry: _Entry) -> None:
        self._serial += 1
        entry.state, entry.serial = "running", self._serial
        self._running = entry
        self.doing.begin(
            Task(
                serial=entry.serial,
                question=entry.question,
                folder=self.answers.folder / f"task-{entry.serial}",
                photos=entry.photos,
                needs={need: self.answers.place(need) for need in entry.needs},
                keys=dict(zip(entry.question.needs(), entry.needs, strict=True)),
            )
        )

    def _conclude(self, entry: _Entry, verdict: Verdict, missing: Mapping[str, str]) -> None:
        """A verdict needs no worker."""
        parts = dict(zip(("cell", "curves", "deviation", "sanity"), entry.needs, strict=True))
        if parts["cell"] in missing:
            entry.state, entry.error = "failed", missing[parts["cell"]]
            return
        found = {name: self.answers.answer(key) for name, key in parts.items()}
        reasons = {name: missing[key] for name, key in parts.items() if key in missing}
        self._serial += 1
        folder = self.answers.folder / f"task-{self._serial}"
        folder.mkdir()
        self.write(folder, {**self.conclude(verdict, found, reasons), "parts": parts})
        self._finish(entry, folder)

    def _finish(self, entry: _Entry, folder: Path) -> None:
        entry.state = "done"
        needed = {need for each in self._entries.values() if each.state in UNFINISHED for need in each.needs}
        for key in self.answers.add(entry.key, entry.question.kind, folder, pinned=needed.__contains__):
            self._entries.pop(key, None)

    def _ended(self, serial: int) -> _Entry | None:
        entry = self._running
        if entry is None or entry.serial != serial:
            return None
        self._running = None
        return entry

    def _cancel(self, entry: _Entry) -> None:
        if entry.state == "queued":
            self._queue.remove(entry)
        elif entry.state == "running":
            self.doing.cancel(entry.serial)
        else:
            return
        entry.state = "cancelled"
        for need in entry.needs:
            part = self._entries.get(need)
            waited_for = any(
                need in other.needs for other in self._entries.values() if other.state in UNFINISHED
            )
            if part is not None and not part.asked and not waited_for:
                self._cancel(part)

    def _unfinished(self) -> int:
        running = self._running is not None and self._running.state == "running"
        return len(self._queue) + running

    def _snapshot(self, entry: _Entry) -> Job:
        place = 0
        if entry.state == "queued":
            place = next(k for k, each in enumerate(self._queue) if each is entry)
            place += self._running is not None
        return Job(
            key=entry.key,
            kind=entry.question.kind,
            state=entry.state,
            progress=entry.progress,
            place=place,
            error=entry.error,
        )

    def _forget_old(self) -> None:
        ended = [key for key, entry in self._entries.items() if entry.state in ("failed", "cancelled")]
        for key in ended[: max(0, len(ended) - _MOST_ENDED)]:
            del self._entries[key]
