"""What a folder knows already: the keys of its rows, few bytes each, so that a hundred million of them fit into memory."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from counterpoint.errors import InputError
from counterpoint.store import duckdb_package

_DIGITS = 16


class Known:
    """The keys of the rows of `explanations` and `measures`.

    Args:
        folder: Of the benchmark.
        failures: Whether rows that failed count as known.

    Raises:
        InputError: a part cannot be read.
    """

    def __init__(self, folder: Path, *, failures: bool) -> None:
        found = [self._of(folder / table / "parts", failures) for table in ("explanations", "measures")]
        self._keys: NDArray[np.uint64] = np.unique(np.concatenate(found))

    def __contains__(self, key: str) -> bool:
        number = np.uint64(int(key[:_DIGITS], 16))
        place = int(np.searchsorted(self._keys, number))
        return place < len(self._keys) and bool(self._keys[place] == number)

    def __len__(self) -> int:
        return len(self._keys)

    @staticmethod
    def _of(folder: Path, failures: bool) -> NDArray[np.uint64]:
        paths = sorted(folder.glob("part-*.parquet"))
        if not paths:
            return np.empty(0, np.uint64)
        duckdb = duckdb_package()
        listed = ", ".join("'" + str(path).replace("'", "''") + "'" for path in paths)
        which = "" if failures else "WHERE status = 'ok'"
        try:
            with duckdb.connect() as database:
                keys = f"('0x' || key[1:{_DIGITS}])::UBIGINT AS key"
                found = database.execute(f"SELECT {keys} FROM read_parquet([{listed}]) {which}").fetchnumpy()
        except duckdb.Error as error:
            raise InputError(f"the results in '{folder}' cannot be read: {error}") from error
        numbers: NDArray[np.uint64] = np.asarray(found["key"], dtype=np.uint64)
        return numbers
