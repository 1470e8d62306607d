"""Failures of one piece of work: told apart from those that need not fail again, and put into words."""

import os
import traceback
from collections.abc import Callable
from typing import TypeVar

from counterpoint.errors import CounterpointError, OutputError

T = TypeVar("T")


class Retry(Exception):
    """Work that may succeed if it is tried again: memory ran out, or a file could not be read just now."""


def tried(work: Callable[[], T]) -> T | str:
    """What the work returns, or in words why it failed.

    Raises:
        Retry: memory ran out; it may be there next time.
    """
    try:
        return work()
    except (OutputError, Retry):
        raise
    except CounterpointError as error:
        return " ".join(str(error).split())
    except MemoryError as error:
        raise Retry(f"out of memory: {error}") from error
    except Exception as error:  # a method or model of the user's own: the rest goes on
        if "out of memory" in str(error):
            raise Retry(str(error)) from error
        place = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {error} ({os.path.basename(place.filename)}, line {place.lineno})"
