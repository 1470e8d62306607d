"""What a folder of results answers: the spec, models, images, versions; and the runs that worked on it."""

import json
import platform
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

import counterpoint
from counterpoint.bench.asking import Asking
from counterpoint.bench.metrics import METRICS
from counterpoint.bench.questions import every_hash
from counterpoint.bench.results import IMAGES, MANIFEST, RUNS, read_manifest
from counterpoint.bench.tables import FORMAT
from counterpoint.errors import InputError
from counterpoint.files import whole_file, writable_folder
from counterpoint.store import duckdb_package


def settle(folder: Path, asking: Asking, hashes: Sequence[str], text: str) -> dict[str, Any]:
    """Write the manifest. A spec may have changed since the folder was begun; what moves results by rounding may not.

    Raises:
        InputError: the folder holds something else, or was begun with other threads, another micro-batch or device.
        OutputError: it cannot be written.
    """
    path = writable_folder(folder) / MANIFEST
    created = _now()
    if path.exists():
        found = read_manifest(folder)
        for name, value in asking.fixed.items():
            if found["fixed"].get(name) != value:
                raise InputError(
                    f"[run] {name} is fixed in '{folder}', where it was {found['fixed'].get(name)!r}, since it moves results by rounding; "
                    f"got {value!r}. Choose another folder with --out."
                )
        created = found["created"]
    _write_images(folder / IMAGES, asking, hashes)
    manifest = _manifest(asking, text, created)
    with whole_file(path) as partial:
        partial.write_text(json.dumps(manifest, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    return manifest


@dataclass
class Run:
    """One run on a folder, written down when it begins and when it ends."""

    folder: Path
    name: str
    facts: dict[str, Any]

    @classmethod
    def begin(cls, folder: Path, name: str, engine: str, workers: int) -> "Run":
        """Write down that a run began."""
        facts = {
            "run": name,
            "started": _now(),
            "ended": None,
            "engine": engine,
            "workers": workers,
            "host": socket.gethostname(),
        }
        run = cls(folder, name, facts)
        run._write()
        return run

    def end(self, how: str, counts: dict[str, int]) -> None:
        """Write down how it ended: "complete", "interrupted" or "stopped"."""
        self.facts |= {"ended": _now(), "how": how, **counts}
        self._write()

    def _write(self) -> None:
        with whole_file(writable_folder(self.folder / RUNS) / f"{self.name}.json") as partial:
            partial.write_text(json.dumps(self.facts, indent=2) + "\n", encoding="utf-8")


def _manifest(asking: Asking, text: str, created: str) -> dict[str, Any]:
    spec = asking.spec
    return {
        "format": FORMAT,
        "name": spec.name,
        "created": created,
        "versions": {
            "counterpoint": counterpoint.__version__,
            "torch": str(torch.__version__),
            "python": platform.python_version(),
        },
        "spec": spec.plain(),
        "spec_text": text,
        "models": [
            {"precision": part.precision, **classifier.card(), "name": part.title}
            for part, classifier in zip(spec.model, asking.models, strict=True)
        ],
        "data": {**asking.data.card(), "images": len(asking.data.items)},
        "fixed": asking.fixed,
        "methods": list(dict.fromkeys(question.method_name for question in asking.questions)),
        "against": list(dict.fromkeys(question.against for question in asking.questions)),
        "layers": list(dict.fromkeys(question.layer for question in asking.questions)),
        "seeds": list(dict.fromkeys(question.seed for question in asking.questions)),
        "evaluations": list(spec.evaluate.baselines),
        "metrics": list(spec.evaluate.metrics),
        "higher_is_better": {name: METRICS[name].higher_is_better for name in spec.evaluate.metrics},
        "left_out": list(asking.left_out),
        "asked": every_hash(asking.questions),
    }


def _write_images(path: Path, asking: Asking, hashes: Sequence[str]) -> None:
    """Name, place, hash and label of every image of the spec as it is now."""
    rows = [
        {
            "position": k,
            "image": item.name,
            "sha256": sha256,
            "label": None if item.label is None else str(item.label),
        }
        for k, (item, sha256) in enumerate(zip(asking.data.items, hashes, strict=True))
    ]
    with whole_file(path) as partial, duckdb_package().connect() as database:
        kinds = "position BIGINT, image VARCHAR, sha256 VARCHAR, label VARCHAR"
        database.execute(
            f"CREATE TABLE images AS SELECT unnest($1::STRUCT({kinds})[], recursive := true)", [rows]
        )
        quoted = str(partial).replace("'", "''")
        database.execute(f"COPY images TO '{quoted}' (FORMAT parquet)")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
