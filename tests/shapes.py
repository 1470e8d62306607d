"""Check the array shapes in annotations while tests run, and leave other types to the library's own messages."""

from typing import Any

from beartype import beartype
from jaxtyping import AbstractArray


def check(function):
    """beartype, for jaxtyping's arrays only: what a user gets for a wrong type is our message, and tests must see it."""
    if not isinstance(function, type):
        function.__annotations__ = {
            name: hint if isinstance(hint, type) and issubclass(hint, AbstractArray) else Any
            for name, hint in function.__annotations__.items()
        }
    return beartype(function)
