"""What is explained: one number per image, settled at the original inputs.

Classes (`logit`, `probability`, `log_probability`, `log_odds`, `contrast`, and `label_probability` for several labels at once), a number of
the output (`output_value`), a region of a class map (`region`), the likeness to a reference (`similarity`), and any function.
"""

from counterpoint.scores.callables import CallableScore, ImageScore, as_score, callable_score
from counterpoint.scores.classes import (
    BoundClassScore,
    ClassScore,
    Kind,
    contrast,
    label_probability,
    log_odds,
    log_probability,
    logit,
    probability,
)
from counterpoint.scores.reading import check_pixels, classes_of
from counterpoint.scores.regions import BoundRegionScore, RegionScore, region
from counterpoint.scores.similarities import BoundSimilarity, Similarity, similarity
from counterpoint.scores.targets import Target
from counterpoint.scores.values import BoundOutputValue, OutputValue, output_value

__all__ = [
    "BoundClassScore",
    "BoundOutputValue",
    "BoundRegionScore",
    "BoundSimilarity",
    "CallableScore",
    "ClassScore",
    "ImageScore",
    "Kind",
    "OutputValue",
    "RegionScore",
    "Similarity",
    "Target",
    "as_score",
    "callable_score",
    "check_pixels",
    "classes_of",
    "contrast",
    "label_probability",
    "log_odds",
    "log_probability",
    "logit",
    "output_value",
    "probability",
    "region",
    "similarity",
]
