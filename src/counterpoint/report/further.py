"""Figures of what only some methods find, chosen by what an attribution holds."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jaxtyping import Float
from torch import Tensor

from counterpoint.attribution import Attribution
from counterpoint.errors import InputError, ModelError
from counterpoint.metrics import activation_deviation
from counterpoint.metrics.deviation import ActivationDeviation
from counterpoint.protocols import Baseline, Score

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Images = Float[Tensor, "1 channel height width"]
Draw = Callable[[Attribution, Score, Images, str], "Figure"]


@dataclass(frozen=True)
class Further:
    """A figure beside the one that all methods share."""

    needs: frozenset[str]
    """The extras that it shows."""
    draw: Draw


def further_figure(attribution: Attribution, score: Score, images: Images, caption: str) -> "Figure | None":
    """The figure of what this attribution holds beside its values; None where there is nothing more to see.

    Args:
        attribution: Of one image, with the baseline itself.
        score: What was explained.
        images: The image.
        caption: Where it is from.
    """
    found = (each for each in FURTHER if each.needs <= attribution.extras.keys())
    return next((each.draw(attribution, score, images, caption) for each in found), None)


def _fei(attribution: Attribution, score: Score, images: Images, caption: str) -> "Figure":
    """The figure of FEI, with the activation deviation where the network has activations that can be followed."""
    from counterpoint.report.fei_figure import fei_figure

    deviation: ActivationDeviation | str = "only a description of the baseline was kept"
    if isinstance(attribution.baseline, Baseline):
        try:
            deviation = activation_deviation(score, images, attribution, baseline=attribution.baseline)
        except (InputError, ModelError) as error:  # no activations, or a compiled part
            deviation = str(error)
    return fei_figure(attribution, images, deviation, caption=caption)


FURTHER = (Further(needs=frozenset({"insertion", "deletion", "loss", "measured", "start"}), draw=_fei),)
