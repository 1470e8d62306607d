"""Numbers and texts as they may stand within a page: finite, short, and unable to end the script that holds them."""

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

# What could end a script element, open a comment in it, or break a line for old parsers.
_ESCAPES = {ord(mark): f"\\u{ord(mark):04x}" for mark in "<>&\u2028\u2029"}


def rounded(number: Any, digits: int = 4) -> float | None:
    """A number with so many significant digits; None where it is missing, NaN or infinite."""
    if number is None or not math.isfinite(number):
        return None
    return float(f"{float(number):.{digits}g}")


def all_rounded(numbers: Iterable[Any], digits: int = 4) -> list[float | None]:
    """The same for each."""
    return [rounded(number, digits) for number in numbers]


def json_text(data: Mapping[str, Any]) -> str:
    """JSON without NaN, safe inside a script element."""
    text = json.dumps(_finite(data), separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    return text.translate(_ESCAPES)


def _finite(data: Any) -> Any:
    """The same data with None for whatever JSON has no word for."""
    if isinstance(data, Mapping):
        return {str(name): _finite(each) for name, each in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(each) for each in data]
    if isinstance(data, np.generic):
        data = data.item()
    if isinstance(data, float) and not math.isfinite(data):
        return None
    if data is None or isinstance(data, bool | int | float | str):
        return data
    return str(data)
