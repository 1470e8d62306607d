"""What an input is compared with. One class, and one line in BASELINES, for each."""

from collections.abc import Callable

from counterpoint.baselines.blurred import Blur
from counterpoint.baselines.constant import Black, Constant, Grey, Mean, Median, RandomColor, White, Zero
from counterpoint.baselines.noise import Normal, Uniform
from counterpoint.protocols import Baseline

BASELINES: dict[str, Callable[..., Baseline]] = {
    "black": Black,
    "white": White,
    "zero": Zero,
    "grey": Grey,
    "constant": Constant,
    "mean": Mean,
    "median": Median,
    "random_color": RandomColor,
    "blur": Blur,
    "uniform": Uniform,
    "normal": Normal,
}

__all__ = [
    "BASELINES",
    "Baseline",
    "Black",
    "Blur",
    "Constant",
    "Grey",
    "Mean",
    "Median",
    "Normal",
    "RandomColor",
    "Uniform",
    "White",
    "Zero",
]
