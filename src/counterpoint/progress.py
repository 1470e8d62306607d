"""Progress and cancelling, through one hook.

Long work calls `advance(done, total)`. Whoever wants to show it (the command, the studio) installs a listener for the
duration of a `with`; to cancel, the listener raises `Cancelled`, which then leaves from that same call. Without a listener nothing happens:
the core prints nothing.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Listener = Callable[[float, float, str], None]

_listener: ContextVar[Listener | None] = ContextVar("counterpoint_progress", default=None)


def advance(done: float, total: float, what: str = "") -> None:
    """Say how far the running work is.

    Args:
        done: Units finished so far, at most `total`.
        total: Units in all, as far as is known now; it may shrink when work ends early.
        what: The stage, in words.

    Raises:
        Cancelled: the listener wants the work to stop.
    """
    listener = _listener.get()
    if listener is not None:
        listener(done, total, what)


@contextmanager
def listening(listener: Listener | None) -> Iterator[None]:
    """Call `listener(done, total, what)` at each `advance` within the block; None silences them."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


@contextmanager
def stage(first: float, last: float, total: float, what: str = "") -> Iterator[None]:
    """Report all progress within the block as the way from `first` to `last` of `total`.

    Args:
        first: Units finished when the block begins.
        last: Units finished when it ends.
        total: Units in all.
        what: The stage, in words, in the place of those that the work within gives; empty to leave them.

    Raises:
        Cancelled: the listener wants the work to stop.
    """
    outer = _listener.get()

    def within(done: float, whole: float, inner: str) -> None:
        if outer is not None:
            share = min(1.0, done / whole) if whole > 0 else 0.0
            outer(first + share * (last - first), total, what or inner)

    advance(first, total, what)
    with listening(within):
        yield
    advance(last, total, what)
