"""Numbers as a reader sees them."""

import math
from collections.abc import Mapping
from typing import Any


def number(value: float | None, digits: int = 4) -> str:
    """A number with a real minus sign; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return "–"  # noqa: RUF001 (a dash)
    # 220, not 2.2e2, as long as the digits before the point are few enough to read.
    text = f"{value:.0f}" if 10**digits <= abs(value) < 1e6 else f"{value:.{digits}g}"
    if "e" in text:
        mantissa, exponent = text.split("e")
        text = f"{mantissa}e{int(exponent)}"
    return text.replace("-", "−")  # noqa: RUF001 (a minus sign)


def finite(data: Any) -> Any:
    """The same plain data, tensors as lists, with None for what JSON has no word for; floats keep seven digits."""
    if callable(getattr(data, "tolist", None)):
        return finite(data.tolist())
    if isinstance(data, Mapping):
        return {str(name): finite(each) for name, each in data.items()}
    if isinstance(data, list | tuple):
        return [finite(each) for each in data]
    if isinstance(data, float):
        return float(f"{data:.7g}") if math.isfinite(data) else None
    return data
