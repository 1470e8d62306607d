"""A spec to begin with: commented, and run as it is in a few minutes."""

from pathlib import Path

from counterpoint.errors import InputError
from counterpoint.files import whole_file

_FILE = Path(__file__).with_name("example.toml")


def write_example(path: Path) -> Path:
    """Write it, unless there is a file already.

    Raises:
        InputError: there is.
        OutputError: it cannot be written.
    """
    if path.exists():
        raise InputError(
            f"'{path}' is there already; name another file: counterpoint bench --init OTHER.toml"
        )
    with whole_file(path) as partial:
        partial.write_text(_FILE.read_text(encoding="utf-8"), encoding="utf-8")
    return path
