"""Where a colour scale ends."""

import math

from jaxtyping import Float
from torch import Tensor

BEYOND = 0.01
"""All but this share of the values lie inside, so that one speck does not pale the rest."""


def scale_end(values: Float[Tensor, "..."]) -> float:
    """The size at the end of the scale: below it lie 99 % of the values; the largest where these are all 0, as of a small spot; or 0."""
    every = values.detach().abs().flatten().double().cpu()
    end = float(every.kthvalue(max(1, math.ceil((1 - BEYOND) * len(every)))).values)
    return end or float(every.max())
