"""How a command ends: its exit code, and one line on stderr where something is wrong.

Exit codes: 0 all went well; 1 some photographs of several could not be explained; 2 the request cannot be carried out (one line says why);
130 interrupted. Anything else is a bug, with its traceback.
"""

import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import typer

from counterpoint.errors import CounterpointError

OK, SOME_FAILED, REFUSED, INTERRUPTED = 0, 1, 2, 130


def ending_well(command: Callable[..., int]) -> Callable[..., None]:
    """Turn what a command returns or raises into an exit code and, where something is wrong, one line on stderr."""

    @wraps(command)
    def run(*args: Any, **options: Any) -> None:
        try:
            with _our_own_warnings():
                code = command(*args, **options)
        except CounterpointError as error:
            say(f"error: {' '.join(str(error).split())}")
            code = REFUSED
        except KeyboardInterrupt:
            say("interrupted; finished results are kept.")
            code = INTERRUPTED
        except BrokenPipeError:  # `| head` has read enough
            sys.stdout = open(os.devnull, "w")
            code = SOME_FAILED
        raise typer.Exit(code)

    return run


def say(line: str) -> None:
    """A line on stderr."""
    typer.echo(line, err=True)


@contextmanager
def _our_own_warnings() -> Iterator[None]:
    """Show the warnings that are meant for the user as one line, and none of those that libraries have for their developers."""

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        say(f"warning: {message}")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("default", message="the model is in training mode")
        warnings.filterwarnings("default", message="the model's outputs are probabilities already")
        warnings.showwarning = show
        yield
