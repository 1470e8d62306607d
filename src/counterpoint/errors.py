"""What can go wrong, as one tree.

CounterpointError              the command prints it as one line and ends with exit code 2
├── InputError (ValueError)    an argument, a file or a value that the caller can put right
│   ├── ShapeError             a tensor of another shape than was asked for
│   ├── UnknownNameError       no method, baseline, model, layer or label of that name
│   ├── ImageError             a file that is no image, is cut short, or is too large to decode
│   └── NotFiniteError         NaN or infinity where a number was needed
├── ModelError                 the model does not do what a score needs of it
│   ├── LayerError             a layer that does not run, runs twice, or is passed by
│   └── NoGradientError        a score that does not depend on its input in a way that autograd can follow
├── MissingPackageError        an optional package that the request needs
├── FetchError                 weights that could not be downloaded, or are not those that were checked
└── OutputError                a folder that cannot be written, a disk that is full
Cancelled                      somebody asked for the work to stop; not an error

Anything else that is raised is a bug in Counterpoint and keeps its traceback.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class CounterpointError(Exception):
    """The base of every error that Counterpoint raises on purpose."""


class InputError(CounterpointError, ValueError):
    """An argument, a file or a value that the caller can put right."""


class ShapeError(InputError):
    """A tensor of another shape than was asked for."""


class UnknownNameError(InputError):
    """No method, baseline, model, layer or label of that name."""

    @classmethod
    def among(cls, kind: str, name: str, known: Iterable[str], *, shown: int = 12) -> "UnknownNameError":
        """The error for `name`, with the nearest known name and the first few of all.

        Args:
            kind: What was looked for, as the caller would say it: "baseline", "layer".
            name: What was asked for.
            known: Every name that would have been right.
            shown: How many of these the message lists.
        """
        names = list(known)
        lower = {known_name.lower(): known_name for known_name in reversed(names)}
        near = get_close_matches(name.lower(), lower, n=1, cutoff=0.6)
        hint = f"; did you mean '{lower[near[0]]}'?" if near else "."
        listed = ", ".join(names[:shown]) + (f", ... ({len(names)} in all)" if len(names) > shown else "")
        return cls(f"unknown {kind} '{name}'{hint} Known: {listed or 'none'}.")


class ImageError(InputError):
    """A file that is no image, is cut short, or is too large to decode."""


class NotFiniteError(InputError):
    """NaN or infinity where a number was needed."""


class ModelError(CounterpointError):
    """The model does not do what a score needs of it."""


class LayerError(ModelError):
    """A layer that does not run, runs twice, or is passed by."""


class NoGradientError(ModelError):
    """A score that does not depend on its input in a way that autograd can follow."""


class MissingPackageError(CounterpointError):
    """An optional package that the request needs is not installed."""


class FetchError(CounterpointError):
    """Weights that could not be downloaded, or are not those that were checked."""


class OutputError(CounterpointError):
    """A folder that cannot be written, or a disk that is full."""


class Cancelled(Exception):
    """Somebody asked for the work to stop."""
