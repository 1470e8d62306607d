"""What a model returns where that is no plain tensor: one tensor picked out of it, and the whole of it in words."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from typing import Any

from torch import Tensor

from counterpoint.checks import shape_text
from counterpoint.errors import InputError, ModelError

Output = str | int | Callable[[Any], Tensor]
"""Which part of a model's output is read: a key of a dict, a field of a dataclass or named tuple, an index, or a function of the output."""


def picked(output: Any, which: Output) -> Any:
    """One part of a model's output.

    Args:
        output: A dict, a dataclass, a tuple or a list.
        which: See `Output`.

    Raises:
        ModelError: the output has no such part; the message says which it has.
    """
    if callable(which):
        return which(output)
    if isinstance(which, int):
        parts = output if isinstance(output, tuple | list) else list(dict(_parts(output)).values())
        if parts and -len(parts) <= which < len(parts):
            return parts[which]
        raise _no_such_part(output, which)
    if isinstance(output, Mapping) and which in output:
        return output[which]
    if which in (named := dict(_parts(output))):
        return named[which]
    raise _no_such_part(output, which)


def only_tensor(output: Any) -> Tensor | None:
    """The output itself, or the one tensor that there is in it; None where there is none, or a choice."""
    tensors = list(_tensors(output))
    return tensors[0] if len(tensors) == 1 else None


def ways_out(output: Any) -> str:
    """What a model returns and, where it is no tensor, how to say which part of it is meant; for the end of a message."""
    if isinstance(output, Tensor):
        return described(output)
    parts = [(name, part) for name, part in _parts(output) if isinstance(part, Tensor)]
    if not parts:
        return f"{described(output)}; wrap it in a module that returns one tensor, or give output=, a function of what it returns"
    name = parts[0][0]
    said = repr(name) if isinstance(name, str) else name
    return f"{described(output)}; say which with output={said} (--output {name})"


def described(output: Any, *, depth: int = 0) -> str:
    """What a model returns, in words: "a dict with 'out' (2, 21, 64, 64) and 'aux' (2, 21, 64, 64)"."""
    if isinstance(output, Tensor):
        return shape_text(output) if depth else f"a tensor {shape_text(output)}"
    parts = list(_parts(output))
    name = type(output).__name__
    article = "an" if name[0] in "AEIOUaeiou" else "a"
    plain = isinstance(output, tuple | list) and not hasattr(output, "_fields")
    if not parts:
        empty = plain or isinstance(output, Mapping)
        if output is None:
            return "nothing (None)"
        return f"an empty {name}" if empty else f"{article} {name}"
    if depth > 1:
        return f"{article} {name} of {len(parts)}"
    words = [
        f"{described(part, depth=depth + 1)}" if plain else f"{key!r} {described(part, depth=depth + 1)}"
        for key, part in parts[:6]
    ]
    if len(parts) > 6:
        words.append(f"{len(parts) - 6} more")
    listed = " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
    return f"{article} {name} of {len(parts)}: {listed}" if plain else f"{article} {name} with {listed}"


def check_output(which: Output | None) -> None:
    """Raise InputError unless `which` is one of `Output`, or None."""
    if which is None or (isinstance(which, str | int) and not isinstance(which, bool)) or callable(which):
        return
    raise InputError(
        f"output must be a key or field, an index, or a function of what the model returns, got {which!r}."
    )


def _no_such_part(output: Any, which: str | int) -> ModelError:
    names = [str(name) for name, _ in _parts(output)]
    near = get_close_matches(str(which), names, n=1, cutoff=0.6)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    if isinstance(output, Tensor):
        hint = "; leave output out."
    return ModelError(f"output={which!r} is no part of what the model returns, {described(output)}{hint}")


def _parts(output: Any) -> Iterator[tuple[Any, Any]]:
    """The parts of an output by key, field or index; those that are None, as losses are without labels, are left out."""
    if isinstance(output, Mapping):
        pairs = list(output.items())
    elif is_dataclass(output) and not isinstance(output, type):
        pairs = [(each.name, getattr(output, each.name)) for each in fields(output)]
    elif isinstance(output, tuple) and hasattr(output, "_fields"):
        pairs = list(zip(output._fields, output, strict=True))
    elif isinstance(output, tuple | list):
        pairs = list(enumerate(output))
    else:
        pairs = []
    yield from ((name, part) for name, part in pairs if part is not None)


def _tensors(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
        return
    for _, part in _parts(output):
        yield from _tensors(part)
