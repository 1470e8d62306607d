"""Finished answers: a folder each, in a private place that goes when the studio ends. The least recently used make room."""

import json
import re
import shutil
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

EXAMPLE = "example"
"""The key of the precomputed answer that comes with the package."""

_PREVIEW = r"x\.png|baseline\.png"
_CELL = r"map\.f32|photo\.png|baseline\.png|figure\.png|card\.json|attribution\.safetensors"
_CURVES = r"(deletion|insertion)-\d{1,2}-\d{1,2}-\d{1,2}\.png"
FILES: dict[str, re.Pattern[str]] = {
    kind: re.compile(pattern)
    for kind, pattern in {
        "top": r"photo\.png",
        "preview": _PREVIEW,
        "cell": _CELL,
        "curves": _CURVES,
        "results": r"report\.html|map\.f32",
    }.items()
}
"""The names of the files that answers of a kind may have beside `answer.json`; what else is asked for does not exist."""


class Answers:
    """The folders of finished answers.

    Args:
        most_bytes: Of all of them.
        example: The folder of the precomputed answer, which never goes.
    """

    def __init__(self, most_bytes: int, example: Path) -> None:
        # Made with mode 700.
        self._temporary = tempfile.TemporaryDirectory(
            prefix="counterpoint-studio-", ignore_cleanup_errors=True
        )
        self.folder = Path(self._temporary.name)
        self._example = example
        self._most = most_bytes
        self._sizes: OrderedDict[str, int] = OrderedDict()
        self._kinds: dict[str, str] = {EXAMPLE: "cell"}
        self._lock = threading.Lock()

    def close(self) -> None:
        """Remove everything."""
        self._temporary.cleanup()

    def place(self, key: str) -> Path:
        """Where the answer of a key is, or will be."""
        return self.folder / "answers" / key

    def add(self, key: str, kind: str, written: Path, *, pinned: Callable[[str], bool]) -> list[str]:
        """Take a finished answer in, and drop old ones while all together are too large.

        Args:
            key: Of the finished one.
            kind: Of its question.
            written: The folder that it was written to; moved to its place.
            pinned: Whether an answer is still needed by a job.

        Returns:
            The keys of the dropped ones.
        """
        size = sum(file.stat().st_size for file in written.iterdir())
        self.place(key).parent.mkdir(exist_ok=True)
        shutil.rmtree(self.place(key), ignore_errors=True)
        written.rename(self.place(key))
        with self._lock:
            self._sizes[key], self._kinds[key] = size, kind
            self._sizes.move_to_end(key)
            dropped = []
            for old in list(self._sizes):
                if sum(self._sizes.values()) <= self._most:
                    break
                if old != key and not pinned(old):
                    del self._sizes[old], self._kinds[old]
                    dropped.append(old)
        for old in dropped:
            shutil.rmtree(self.place(old), ignore_errors=True)
        return dropped

    @property
    def total_bytes(self) -> int:
        """Of all answers."""
        with self._lock:
            return sum(self._sizes.values())

    def __contains__(self, key: str) -> bool:
        return self._used(key) is not None

    def answer(self, key: str) -> dict[str, Any] | None:
        """What `answer.json` says, or None where there is no such answer."""
        text = self._read(key, "answer.json")
        return None if text is None else json.loads(text)

    def file(self, key: str, name: str) -> bytes | None:
        """A file of an answer, or None where there is none of that name."""
        with self._lock:
            allowed = FILES.get(self._kinds.get(key, ""))
        if allowed is None or allowed.fullmatch(name) is None:
            return None
        return self._read(key, name)

    def _read(self, key: str, name: str) -> bytes | None:
        folder = self._used(key)
        try:
            return None if folder is None else (folder / name).read_bytes()
        except OSError:  # dropped a moment ago, or never there
            return None

    def _used(self, key: str) -> Path | None:
        if key == EXAMPLE:
            return self._example
        with self._lock:
            if key not in self._sizes:
                return None
            self._sizes.move_to_end(key)
        return self.place(key)
