"""What comes of jobs, written down: parts of tables now and then, in an order that leaves no map without its measures."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from counterpoint.bench.jobs import Done
from counterpoint.bench.tables import COLUMNS, stores
from counterpoint.files import whole_file, writable_folder

_ROWS = 20_000
# A map's own row comes last: where it is, all that was measured with it is there too.
_ORDER = ("attempts", "deviations", "curves", "measures", "explanations")


class Writer:
    """Keeps rows for a while, then writes them as parts.

    Args:
        folder: Of the benchmark.
        every: Seconds between two parts.

    Raises:
        OutputError: the disk is full, or the folder cannot be written.
    """

    def __init__(self, folder: Path, every: float) -> None:
        self._folder, self._every = folder, every
        self._stores = stores(folder)
        self._rows: dict[str, list[Mapping[str, Any]]] = {name: [] for name in COLUMNS}
        self._last = time.monotonic()

    def add(self, done: Done) -> None:
        """Keep what came of a job; write if it is time to."""
        for path, content in done.files.items():
            target = self._folder / path
            if not target.exists():
                writable_folder(target.parent)
                with whole_file(target) as partial:
                    partial.write_bytes(content)
        for table, rows in done.rows.items():
            self._rows[table] += rows
        if time.monotonic() - self._last > self._every or sum(map(len, self._rows.values())) > _ROWS:
            self.flush()

    def flush(self) -> None:
        """Write all that is kept."""
        for table in _ORDER:
            self._stores[table].add(self._rows[table])
            self._rows[table] = []
        self._last = time.monotonic()
