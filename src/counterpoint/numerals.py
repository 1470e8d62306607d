"""Numbers as a reader sees them."""

import math


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
