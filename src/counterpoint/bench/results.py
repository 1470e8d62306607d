"""What a benchmark's folder holds, read through DuckDB: SQL in, rows out."""

import json
import math
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from counterpoint.bench.tables import COLUMNS, FORMAT, RESULTS
from counterpoint.errors import InputError
from counterpoint.store import duckdb_package

MANIFEST = "manifest.json"
RUNS = "runs"
IMAGES = "images.parquet"


class Results:
    """The results in a folder that answer its spec as it is now; every row counts once, and one that succeeded later replaces a failure.

    Args:
        folder: What `counterpoint bench` wrote.

    Raises:
        InputError: no such folder, or no benchmark's.
        MissingPackageError: DuckDB is not installed.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.manifest = read_manifest(self.folder)
        self.manifest["runs"] = self.manifest.get("runs") or _runs(self.folder / RUNS)
        duckdb = duckdb_package()
        # Nothing is fetched from a network.
        quiet = {"autoinstall_known_extensions": False, "autoload_known_extensions": False}
        self._database = duckdb.connect(config=quiet)
        for name, columns in COLUMNS.items():
            try:
                self._database.execute(f"CREATE VIEW {name} AS {self._source(name, columns)}")
            except duckdb.Error as error:
                raise InputError(
                    f"the results in '{self.folder / name}' cannot be read: {error} Delete that part and run the benchmark again: "
                    "only what it held is computed."
                ) from error

    def query(
        self, sql: str, parameters: Sequence[Any] = ()
    ) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        """The names of the columns and the rows that a question in SQL has for an answer.

        Args:
            sql: Over the tables explanations, measures, curves, deviations and attempts.
            parameters: For the question marks in it.

        Raises:
            InputError: DuckDB does not understand it.
        """
        try:
            statements = self._database.extract_statements(sql)
            if len(statements) != 1:
                raise InputError(f"a query is one statement, got {len(statements)}.")
            found = self._database.execute(sql, list(parameters))
            return tuple(column[0] for column in found.description or ()), found.fetchall()
        except duckdb_package().Error as error:
            raise InputError(f"the query cannot be answered: {error}") from error

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """The same, each row as name -> value."""
        names, rows = self.query(sql, parameters)
        return [dict(zip(names, row, strict=True)) for row in rows]

    def _source(self, name: str, columns: dict[str, str]) -> str:
        paths = sorted((self.folder / name / "parts").glob("part-*.parquet"))
        if not paths:
            empty = ", ".join(
                f'NULL::{kind} AS "{column}"' for column, kind in {"key": "VARCHAR", **columns}.items()
            )
            return f"SELECT {empty} WHERE false"
        listed = ", ".join("'" + str(path).replace("'", "''") + "'" for path in paths)
        if name not in RESULTS:
            return f"SELECT * FROM read_parquet([{listed}])"
        conditions = []
        if "asked" in self.manifest:
            kept = ", ".join(f"'{asked}'" for asked in self.manifest["asked"]) or "NULL"
            conditions.append(f"asked IN ({kept})")
        if (images := self.folder / IMAGES).exists():
            quoted = str(images).replace("'", "''")
            conditions.append(f"(image, sha256) IN (SELECT (image, sha256) FROM read_parquet('{quoted}'))")
        where = f"WHERE {' AND '.join(conditions)} " if conditions else ""
        better = "ORDER BY status <> 'ok'" if "status" in columns else ""
        once = f"QUALIFY row_number() OVER (PARTITION BY key {better}) = 1"
        return f"SELECT * FROM read_parquet([{listed}]) {where}{once}"


def _runs(folder: Path) -> list[dict[str, Any]]:
    """What is known of each run, the first one first."""
    found = []
    for path in folder.glob("*.json"):
        with suppress(OSError, ValueError):  # of a run whose machine went down
            found.append(json.loads(path.read_text()))
    return sorted((run for run in found if isinstance(run, dict)), key=lambda run: str(run.get("started")))


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a folder.

    Raises:
        InputError: there is none, or it is no benchmark's.
    """
    path = folder / MANIFEST
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"'{folder}' holds no benchmark's results: {path} cannot be read.") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise InputError(
            f"'{path}' is no manifest of a benchmark of this kind; choose another folder with --out."
        )
    return found


def plain_rows(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[dict[str, Any]]:
    """Rows for JSON: no NaN, bytes as hexadecimal digits, dates as text."""

    def plain(value: Any) -> Any:
        if isinstance(value, float) and not math.isfinite(value):
            return None
        if isinstance(value, bytes):
            return value.hex()
        if isinstance(value, list):
            return [plain(each) for each in value]
        return value if value is None or isinstance(value, str | int | float | bool) else str(value)

    return [{name: plain(value) for name, value in zip(names, row, strict=True)} for row in rows]
