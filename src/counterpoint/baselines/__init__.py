"""What an input is compared with. One class, and one line in BASELINES, for each."""

from collections.abc import Callable

from counterpoint.baselines.blurred import Blur
from counterpoint.baselines.boundary import Boundary
from counterpoint.baselines.constant import Black, Constant, Grey, Mean, Median, RandomColor, White, Zero
from counterpoint.baselines.entropy import MaximumEntropy
from counterpoint.baselines.imputed import ROAD, NeighbourMean, Seamless
from counterpoint.baselines.learned import Learned
from counterpoint.baselines.learned_per_image import LearnedPerImage
from counterpoint.baselines.learning import PublishedRecipe, TradeOffRecipe
from counterpoint.baselines.local import LocalMean, LocalPermutation
from counterpoint.baselines.noise import Normal, Uniform
from counterpoint.baselines.sampled import Nearest, Samples
from counterpoint.baselines.scrambled import Permutation, ScrambleAmplitude, ScramblePhase
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
    "permutation": Permutation,
    "local_mean": LocalMean,
    "local_permutation": LocalPermutation,
    "scramble_phase": ScramblePhase,
    "scramble_amplitude": ScrambleAmplitude,
    "nearest": Nearest,
    "samples": Samples,
    "boundary": Boundary,
    "maximum_entropy": MaximumEntropy,
    "road": ROAD,
    "neighbour_mean": NeighbourMean,
    "seamless": Seamless,
    "learned": Learned,
    "learned_per_image": LearnedPerImage,
}

__all__ = [
    "BASELINES",
    "ROAD",
    "Baseline",
    "Black",
    "Blur",
    "Boundary",
    "Constant",
    "Grey",
    "Learned",
    "LearnedPerImage",
    "LocalMean",
    "LocalPermutation",
    "MaximumEntropy",
    "Mean",
    "Median",
    "Nearest",
    "NeighbourMean",
    "Normal",
    "Permutation",
    "PublishedRecipe",
    "RandomColor",
    "Samples",
    "ScrambleAmplitude",
    "ScramblePhase",
    "Seamless",
    "TradeOffRecipe",
    "Uniform",
    "White",
    "Zero",
]
