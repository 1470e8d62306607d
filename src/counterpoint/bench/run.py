"""Run a benchmark: what is lacking is handed to workers, what comes of it is written down, whatever happens on the way."""

import logging
import time
import uuid
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from counterpoint import progress
from counterpoint.bench.asking import Asking, asking, without_items
from counterpoint.bench.engines import Engine, Finished, start
from counterpoint.bench.jobs import Job, Setup, Task, image_key
from counterpoint.bench.known import Known
from counterpoint.bench.manifest import Run, settle
from counterpoint.bench.results import Results
from counterpoint.bench.rows import lost
from counterpoint.bench.spec import BenchSpec
from counterpoint.bench.writing import Writer
from counterpoint.classifier import Classifier
from counterpoint.files import writable_folder

LOG = "bench.log"
_PATIENCE = 0.5
_log = logging.getLogger("counterpoint.bench")


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a run did, and what is lacking now."""

    folder: Path
    explanations: int
    """Rows that there are for the spec as it is."""
    failed: int
    """How many of them, and of the measures, failed."""
    expected: int
    """Explanations that the spec asks for."""
    fresh: int
    """Explanations that this run worked on."""
    measured: int
    """Measures that it took."""
    failed_maps: int
    """Explanations that failed; the other failures are measures."""
    left_out: tuple[str, ...]
    """Combinations that cannot be."""
    reasons: tuple[tuple[str, int], ...]
    """Why rows failed, the most frequent reason first."""

    def plain(self) -> dict[str, object]:
        """JSON-ready."""
        return {
            **{
                name: value
                for name, value in vars(self).items()
                if name not in ("folder", "reasons", "left_out")
            },
            "folder": str(self.folder),
            "complete": self.complete,
            "left_out": list(self.left_out),
            "reasons": [{"reason": reason, "times": times} for reason, times in self.reasons],
        }

    @property
    def complete(self) -> bool:
        """Everything is there, and nothing failed."""
        return self.failed == 0 and self.explanations == self.expected


def run(
    spec: BenchSpec,
    folder: str | Path,
    *,
    text: str = "",
    models: Mapping[str, Classifier] | None = None,
    retry_failed: bool = False,
    every: float = 30.0,
) -> Summary:
    """Answer a benchmark's questions, those that its folder does not know the answers to.

    A run may be stopped at any moment, also by force: the next one goes on. A part of the work that fails is a row with its reason; the
    rest goes on.

    Args:
        spec: What is asked; see `counterpoint.bench.read_spec` and `checked`.
        folder: Where results go.
        text: The spec as it was written, for the record.
        models: Live models by name, instead of those of that name; for the engine "in_process" only.
        retry_failed: Ask again what failed before.
        every: Seconds after which results are written down; what a run was doing since is lost where it is killed.

    Raises:
        InputError: something in the spec does not fit the models or images; nothing was run.
        OutputError: the disk is full, or the folder cannot be written; what was written is kept.
        Cancelled: the progress listener stopped the work; what was done is kept.
    """
    place = Path(folder)
    with progress.stage(0, 0.02, 1):
        asked = asking(spec, models=models)
    with progress.stage(0.02, 0.05, 1):
        hashes = asked.hashes()
    settle(place, asked, hashes, text)
    name = uuid.uuid4().hex[:12]
    setup = Setup(
        spec=spec,
        questions=asked.questions,
        data=without_items(asked.data),
        bank=asked.bank,
        run=name,
        engine=spec.run.engine,
        models=dict(models or {}),
    )
    with _logged(place), progress.stage(0.05, 1, 1):
        known = Known(place, failures=not retry_failed)
        with start(setup, loaded=asked.models) as engine:
            record = Run.begin(place, name, spec.run.engine, engine.workers)
            _log.info(
                "run %s: %d questions to %d images with %s",
                name,
                len(asked.questions),
                len(hashes),
                spec.run.engine,
            )
            work = _Work(setup, asked, hashes, known, Writer(place, every))
            how = "stopped"
            try:
                work.through(engine)
                how = "complete"
            except KeyboardInterrupt:
                how = "interrupted"
                raise
            finally:
                work.writer.flush()
                record.end(how, {"explanations": work.fresh, "failed": work.failed})
                _log.info(
                    "run %s: %s, %d explanations, %d measures, %d rows failed",
                    name,
                    how,
                    work.fresh,
                    work.measured,
                    work.failed,
                )
    return summary(place, asked, len(hashes), work.fresh, work.measured)


def summary(folder: Path, asked: Asking, images: int, fresh: int = 0, measured: int = 0) -> Summary:
    """What there is, and what is lacking."""
    results = Results(folder)
    ((found, broken),) = results.query(
        "SELECT count(*), count(*) FILTER (status = 'failed') FROM explanations"
    )[1]
    reasons = results.query(
        "SELECT reason, count(*) AS times FROM (SELECT reason, status FROM explanations UNION ALL SELECT reason, status FROM measures) "
        "WHERE status = 'failed' GROUP BY reason ORDER BY times DESC, reason"
    )[1]
    return Summary(
        folder=folder,
        explanations=int(found),
        failed=sum(int(times) for _, times in reasons),
        expected=len(asked.questions) * images,
        fresh=fresh,
        measured=measured,
        failed_maps=int(broken),
        left_out=asked.left_out,
        reasons=tuple((str(reason), int(times)) for reason, times in reasons),
    )


class _Work:
    """What is lacking, handed out and gathered."""

    def __init__(
        self, setup: Setup, asked: Asking, hashes: Sequence[str], known: Known, writer: Writer
    ) -> None:
        self._setup, self._asked, self._hashes, self._known = setup, asked, hashes, known
        self.writer = writer
        self.fresh = self.measured = self.failed = 0
        self._done = 0
        self._again: deque[Job] = deque()
        self._jobs = self._lacking()

    def through(self, engine: Engine) -> None:
        """All jobs, to the end."""
        total = len(self._asked.models) * len(self._hashes)
        begun, before = time.monotonic(), self._done
        while True:
            while engine.room and (job := self._next()) is not None:
                engine.submit(job)
            if not engine.busy:
                break
            here = min(self._done, total - 1)
            rate = (here - before) / max(time.monotonic() - begun, 1e-9)
            pace = f", {rate:.2g} a second" if here > before else ""
            with progress.stage(here, here + 1, total, f"image {here + 1} of {total}{pace}"):
                outcomes = engine.wait(_PATIENCE)
            for outcome in outcomes:
                if isinstance(outcome, Finished):
                    self._keep(outcome)
                else:
                    self._lost(outcome.job, outcome.reason)

    def _next(self) -> Job | None:
        return self._again.popleft() if self._again else next(self._jobs, None)

    def _keep(self, outcome: Finished) -> None:
        self.writer.add(outcome.done)
        self._done += 1
        self.fresh += sum(task.explain for task in outcome.job.tasks)
        self.measured += len(outcome.done.rows["measures"])
        self.failed += outcome.done.failed
        for row in outcome.done.rows["explanations"]:
            if row["status"] == "failed":
                _log.warning(
                    "%s, %s against %s: %s", row["image"], row["method"], row["against"], row["reason"]
                )

    def _lost(self, job: Job, reason: str) -> None:
        _log.warning("%s, attempt %d: %s", job.item.name, job.attempt, reason)
        if job.attempt <= self._setup.spec.run.retries:
            self._again.append(replace(job, attempt=job.attempt + 1))
        elif len(job.tasks) > 1:
            # Each by itself, so that only the one that is to blame is lost.
            self._again += [replace(job, tasks=(task,), attempt=1) for task in job.tasks]
            self._done -= len(job.tasks) - 1
        else:
            words = f"{reason}, {job.attempt} times"
            self._keep(Finished(job, lost(self._setup, job, words)))

    def _lacking(self) -> Iterator[Job]:
        """Jobs for what the folder does not know, made when they are asked for."""
        spec, known = self._setup.spec, self._known
        for model in range(len(self._asked.models)):
            questions = self._asked.of_model(model)
            for position, (item, sha256) in enumerate(zip(self._asked.data.items, self._hashes, strict=True)):
                image = image_key(spec, sha256, item.label)
                tasks = []
                for question in questions:
                    explain = question.key(image) not in known
                    measures = tuple(
                        (metric, evaluation)
                        for metric, by in question.measures.items()
                        for evaluation, asked in by.items()
                        if question.key(image, asked) not in known
                    )
                    if explain or measures:
                        tasks.append(Task(question.number, explain, measures))
                if not tasks:
                    self._done += 1
                    continue
                gallery = position < spec.keep.gallery
                yield Job(model, item, position, sha256, gallery, tuple(tasks))


@contextmanager
def _logged(folder: Path) -> Iterator[None]:
    """What happens goes to a file in the folder too."""
    handler = logging.FileHandler(writable_folder(folder) / LOG, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    before = _log.level
    _log.addHandler(handler)
    _log.setLevel(logging.INFO)
    try:
        yield
    finally:
        _log.setLevel(before)
        _log.removeHandler(handler)
        handler.close()
