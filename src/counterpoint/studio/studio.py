"""The studio as one object: what pages and routes ask, and nothing of HTTP."""

import hashlib
import json
import threading
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import counterpoint
from counterpoint.studio import code, photos, saving, uploads
from counterpoint.studio.answers import EXAMPLE, Answers
from counterpoint.studio.catalogue import Catalogue, Model
from counterpoint.studio.jobs import Job, Jobs, Sent
from counterpoint.studio.photos import Kept, Photo, Thumbnails
from counterpoint.studio.questions import (
    Question,
    Results,
    Verdict,
    baselines_of,
    is_plain_text_form,
    methods_of,
    models_of,
    names_a_file,
    photos_of,
)
from counterpoint.studio.refusals import Refused
from counterpoint.studio.results import check_results, stamp_of
from counterpoint.studio.settings import Settings
from counterpoint.studio.worker.beginning import Beginning
from counterpoint.studio.worker.process import WorkerProcess
from counterpoint.trusting.reference import reference_of
from counterpoint.trusting.verdict import Check, verdict

EXAMPLE_FOLDER = Path(__file__).parent / "example"


class Studio:
    """Photographs, questions, answers.

    Made at once; `start` starts the worker, and `close` ends it and removes everything that was kept.

    Args:
        settings: What it was started with.
        say: Told what whoever started it should know: a model that could not be loaded.

    Raises:
        InputError: no such folder of photographs, or results that cannot be read.
    """

    def __init__(self, settings: Settings, *, say: Callable[[str], None] = lambda line: None) -> None:
        self.settings, self._say = settings, say
        self.catalogue: Catalogue | None = None
        """What there is to choose from; None while the worker is loading."""
        folder = [] if settings.images is None else photos.photographs_in(settings.images)
        self._offered: dict[str, Kept] = {kept.photo.id: kept for kept in [*folder, *photos.samples()]}
        if settings.results is not None:
            check_results(settings.results)
        reference = reference_of(folder)
        self._given = code.Given(
            results=str(settings.results), bank=str(settings.images) if reference else None
        )
        self._answers = Answers(settings.limits.answers_bytes, EXAMPLE_FOLDER)
        self._uploads = uploads.Uploads(self._answers.folder / "uploads", settings.limits)
        self._thumbnails = Thumbnails()
        self._versions = _versions()
        self.jobs: Jobs
        self._worker = WorkerProcess(
            Beginning(
                models=settings.models,
                baselines=settings.baselines,
                device=settings.device,
                results=None if settings.results is None else str(settings.results),
                bank=tuple(str(each.path) for each in reference),
                folder=self._answers.folder,
            ),
            listener := _Later(),
            self._learn,
        )
        self.jobs = listener.jobs = Jobs(
            answers=self._answers,
            most=settings.limits.queue,
            doing=self._worker,
            settle=self._settle,
            conclude=concluded,
            write=write_answer,
        )
        self._closing = threading.Lock()

    def start(self) -> None:
        """Start the worker; returns at once."""
        self._worker.start()

    def close(self) -> None:
        """End the worker, and remove all that was kept."""
        with self._closing:
            self._worker.close()
            self._answers.close()

    @property
    def is_loading(self) -> bool:
        """Whether the worker has not yet told what there is to choose from."""
        return self.catalogue is None

    @property
    def unloaded(self) -> tuple[Model, ...]:
        """The models that could not be loaded."""
        return (
            () if self.catalogue is None else tuple(model for model in self.catalogue.models if model.error)
        )

    # Photographs.

    def photos(self) -> list[Photo]:
        """All that can be asked about, one's own first: uploads from the last on, the folder's, samples."""
        return [kept.photo for kept in [*reversed(self._uploads.all()), *self._offered.values()]]

    def thumbnail(self, id: str) -> bytes:
        """A PNG of at most 256 pixels a side.

        Raises:
            Refused: 404, no such photograph.
            ImageError: the file cannot be read.
        """
        return self._thumbnails.of(self._kept(id))

    def add_upload(self, content: bytes, name: str = "") -> Photo:
        """Take a photograph in.

        Args:
            content: Of the file.
            name: What the file was called: shown, and in code, but no place on the disk.

        Raises:
            Refused: 413 too large, 415 no photograph, 422 damaged.
        """
        return self._uploads.add(content, name)

    # Questions.

    def ask(self, question: Question) -> Job:
        """The job of a question: a new one, or the one that was started before.

        Raises:
            Full: 503, no room in the queue.
            Refused: 404 for a photograph or model that is not offered, 422 for a text that is not understood.
        """
        self._check(question)
        return self.jobs.ask(question)

    def key(self, question: Question) -> str:
        """The key of a question's job and answer, whether it was asked or not.

        Raises:
            Refused: 404, no such photograph.
        """
        return self._settle(question)[0]

    def job(self, key: str) -> Job | None:
        """The job of a key; None where there is none, or its answer made room for others: ask again."""
        return self.example if key == EXAMPLE else self.jobs.job(key)

    def answer(self, key: str) -> dict[str, Any] | None:
        """A finished answer, or None."""
        return self._answers.answer(key)

    def file(self, key: str, name: str) -> bytes | None:
        """A file of a finished answer, or None: names are those that answers of its kind have."""
        return self._answers.file(key, name)

    def cancel(self, key: str) -> Job | None:
        """Stop a job, for all who wait for it; None where there is none."""
        return self.example if key == EXAMPLE else self.jobs.cancel(key)

    @property
    def example(self) -> Job | None:
        """The precomputed answer that pages start with, a finished "cell" of key "example"; None where the package lacks it."""
        if not (EXAMPLE_FOLDER / "answer.json").exists():
            return None
        return Job(key=EXAMPLE, kind="cell", state="done")

    def save(self, key: str) -> tuple[str, bytes]:
        """The name and content of a ZIP file with the card, the values and the figure of an explanation, as the command writes them.

        Raises:
            Refused: 404, no such answer, or none of an explanation.
        """
        return saving.zipped(key, self._answers)

    def code(self, question: Question) -> dict[str, str | None]:
        """What makes the same: {"python": ..., "command": ...}; the command is None where no command does.

        Raises:
            Refused: 404, no such photograph.
        """
        named = {id: self._kept(id).argument for id in photos_of(question)}
        names = code.Names()
        if self.catalogue is not None:
            layered = frozenset(each.name for each in self.catalogue.methods if each.level == "layer")
            names = code.Names(self.catalogue.python_names, layered)
        return {
            "python": code.python_of(question, named, names=names, given=self._given),
            "command": code.command_of(question, named, given=self._given),
        }

    @property
    def given_baselines(self) -> tuple[str, ...]:
        """Baselines with files of their own, as given on the command line."""
        return self.settings.baselines

    def _learn(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        for model in self.unloaded:
            self._say(f"error: the model '{model.name}' could not be loaded: {model.error}")

    def _kept(self, id: str) -> Kept:
        found = self._offered.get(id) or self._uploads.get(id)
        if found is None:
            raise Refused(404, _GONE.get(id.partition("-")[0], f"no photograph '{id[:80]}' is offered here."))
        return found

    def _check(self, question: Question) -> None:
        for id in photos_of(question):
            self._kept(id)
        for model in models_of(question):
            if model not in self.settings.models:
                known = ", ".join(self.settings.models)
                raise Refused(404, f"no model '{model[:80]}' is offered here; this studio has: {known}.")
        for text in baselines_of(question):
            if text not in self.settings.baselines and not is_plain_text_form(text):
                raise Refused(
                    422,
                    f"baseline '{text[:80]}' is not of the form name or name:parameter=value, or names a file; "
                    "baselines with files are given when the studio is started, with --baseline.",
                )
        if isinstance(question, Results) and self.settings.results is None:
            raise Refused(
                404, "no results were given when the studio was started; give a folder with --results."
            )
        for text in methods_of(question):
            if names_a_file(text):
                raise Refused(422, f"method '{text[:80]}' names a file, which pages cannot.")

    def _settle(self, question: Question) -> tuple[str, Mapping[str, Sent]]:
        kept = {id: self._kept(id) for id in photos_of(question)}
        parts: dict[str, Any] = {
            "question": question.model_dump(mode="json"),
            "photographs": {id: each.stamp for id, each in kept.items()},
            "versions": self._versions,
        }
        if isinstance(question, Results) and self.settings.results is not None:
            # A benchmark may still be running.
            parts["results"] = stamp_of(self.settings.results)
        plain = json.dumps(parts, sort_keys=True, separators=(",", ":"))
        key = hashlib.sha256(plain.encode()).hexdigest()[:32]
        return key, {id: Sent(str(each.path), each.name) for id, each in kept.items()}


_GONE = {
    "upload": "this photograph is not here any more: what was sent goes when the studio ends. Send it again, or choose another.",
    "folder": "this photograph is not here: the studio was started with another folder, or without one (--images). Choose another.",
}


class _Later:
    """What the worker says, handed on to the jobs, which are made after it."""

    jobs: Jobs

    def __getattr__(self, name: str) -> Any:
        return getattr(self.jobs, name)


def write_answer(folder: Path, answer: Mapping[str, Any]) -> None:
    """Write `answer.json`: strict JSON, which knows no NaN."""
    (folder / "answer.json").write_text(json.dumps(answer, allow_nan=False), encoding="utf-8")


_CHECK_OF: dict[str, Check] = {
    "cell": "error",
    "curves": "curves",
    "deviation": "pathway",
    "sanity": "weights",
}


def concluded(
    question: Verdict, parts: Mapping[str, dict[str, Any] | None], missing: Mapping[str, str]
) -> dict[str, Any]:
    """The answer to a question for the verdict."""
    found = verdict(
        {_CHECK_OF[name]: part for name, part in parts.items()},
        {_CHECK_OF[name]: reason for name, reason in missing.items()},
    )
    return {"kind": "verdict", "question": question.model_dump(mode="json"), **found.as_dict()}


def _versions() -> dict[str, str]:
    found = {"counterpoint": counterpoint.__version__}
    for package in ("torch", "numpy", "pillow"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "unknown"
    return found
