"""Libraries that a request needs and that are not installed."""

from collections.abc import Iterator
from contextlib import contextmanager

from counterpoint.errors import MissingPackageError


@contextmanager
def package_needed(package: str, extra: str) -> Iterator[None]:
    """Say how to install a package that is imported in the block.

    Args:
        package: Its name, as it is imported.
        extra: The extra of Counterpoint that brings it.

    Raises:
        MissingPackageError: it is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != package:
            raise
        raise MissingPackageError(
            f'{package} is not installed: pip install "counterpoint[{extra}]".'
        ) from error
