"""Results on disk: rows in parts that are written beside and renamed, so that work may stop at any moment and go on later.

A folder holds `manifest.json`, the question that its results answer, and `parts/*.parquet`. Parts are only ever added. Each row has a
key, the hash of all that its numbers depend on; a key that two runs both computed counts once.
"""

import hashlib
import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from counterpoint.errors import InputError, MissingPackageError, OutputError
from counterpoint.files import whole_file, writable_folder

Row = Mapping[str, Any]


def key_of(parts: Mapping[str, Any]) -> str:
    """24 hexadecimal digits that stand for plain data, whatever the order of its names."""
    plain = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(plain.encode()).hexdigest()[:24]


class Store:
    """A folder of results to one question.

    Args:
        folder: Made if it is not there.
        question: Plain data (JSON) that all results have in common; a folder that answers another one is refused.
        columns: Name and SQL type of each column beside the key, such as {"image": "VARCHAR", "scores": "DOUBLE[]"}.

    Raises:
        InputError: the folder holds the results to another question.
        OutputError: it cannot be written.
        MissingPackageError: DuckDB, which writes and reads the parts, is not installed.
    """

    def __init__(self, folder: str | Path, question: Mapping[str, Any], columns: Mapping[str, str]) -> None:
        duckdb_package()
        self.folder = writable_folder(folder)
        self.parts = writable_folder(self.folder / "parts")
        self.columns = {"key": "VARCHAR", **columns}
        self._settle(json.loads(json.dumps({"question": question, "columns": self.columns})))

    def keys(self) -> set[str]:
        """The keys of all rows."""
        return {row["key"] for row in self._select("DISTINCT key")}

    def add(self, rows: Sequence[Row]) -> None:
        """Write rows as one part: all of them are there afterwards, or none.

        Raises:
            OutputError: the disk is full, or the folder can no longer be written.
        """
        if not rows:
            return
        duckdb = duckdb_package()
        with (
            whole_file(self.parts / f"part-{uuid.uuid4().hex}.parquet") as path,
            duckdb.connect() as database,
        ):
            types = ", ".join(f'"{name}" {kind}' for name, kind in self.columns.items())
            plain = [{name: row[name] for name in self.columns} for row in rows]
            # All rows at once: one by one they take twenty times as long.
            database.execute(
                f"CREATE TABLE part AS SELECT unnest($1::STRUCT({types})[], recursive := true)", [plain]
            )
            try:
                database.execute(f"COPY part TO {_quoted(path)} (FORMAT parquet)")
            except duckdb.Error as error:
                raise OutputError(f"cannot write results to '{self.parts}': {error}") from error

    def rows(self) -> list[dict[str, Any]]:
        """Every row once, in the order of the keys."""
        return self._select("DISTINCT ON (key) *", "ORDER BY key")

    def _select(self, what: str, order: str = "") -> list[dict[str, Any]]:
        paths = sorted(self.parts.glob("part-*.parquet"))
        if not paths:
            return []
        duckdb = duckdb_package()
        listed = ", ".join(_quoted(path) for path in paths)
        try:
            with duckdb.connect() as database:
                found = database.execute(f"SELECT {what} FROM read_parquet([{listed}]) {order}")
                names = [column[0] for column in found.description]
                return [dict(zip(names, row, strict=True)) for row in found.fetchall()]
        except duckdb.Error as error:
            raise InputError(f"the results in '{self.parts}' cannot be read: {error}") from error

    def _settle(self, asked: dict[str, Any]) -> None:
        path = self.folder / "manifest.json"
        if not path.exists():
            with whole_file(path) as partial:
                partial.write_text(json.dumps(asked, indent=2) + "\n")
            return
        try:
            found = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise InputError(f"'{path}' is no manifest of results: {error}") from error
        if found != asked:
            changed = ", ".join(_differences(found, asked)) or "its format"
            raise InputError(
                f"'{self.folder}' holds the results to another question ({changed}); choose another folder to write to."
            )


def _differences(found: Any, asked: Any, name: str = "") -> Iterable[str]:
    """What changed, leaf by leaf, in words."""
    if isinstance(found, dict) and isinstance(asked, dict):
        for key in dict.fromkeys([*found, *asked]):
            yield from _differences(found.get(key), asked.get(key), key)
    elif found != asked:
        before, after = (
            text if len(text := json.dumps(each)) <= 60 else text[:57] + "..." for each in (found, asked)
        )
        yield f"{name} was {before}, is {after}"


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"


def duckdb_package() -> Any:
    try:
        import duckdb
    except ImportError as error:
        raise MissingPackageError(
            'results on disk need DuckDB; install it with: pip install "counterpoint[bench]"'
        ) from error
    return duckdb
