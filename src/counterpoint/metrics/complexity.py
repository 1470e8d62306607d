"""How spread out a map is: few pixels that carry it, or many. What is better depends on the image, and no model is asked."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from counterpoint.attribution import Attribution
from counterpoint.checks import check_range
from counterpoint.metrics.maps import map_numbers


def sparseness(saliency: Tensor | Attribution) -> Float[Tensor, " batch"]:
    """The Gini index of the absolute values, higher is sparser, which is taken for better.

    Formula: sum over k = 1 ... n of (2 k - n - 1) |a|_(k) / (n sum |a|), |a|_(1) <= ... <= |a|_(n)

    Args:
        saliency: (batch, height, width), or an Attribution, whose heat map is taken.

    Returns:
        (batch,), 0 for a constant map to 1 - 1 / n for a single pixel of n; NaN for a map of zeros.

    Raises:
        InputError: neither a tensor nor an Attribution, or NaN.
        ShapeError: not (batch, height, width).

    Reference: Chalasani et al. 2020, arXiv:1810.06583.
    """
    maps = map_numbers("saliency", saliency)
    ordered = maps.flatten(1).double().abs().sort(dim=1).values
    pixels = ordered.shape[1]
    rank = torch.arange(1, pixels + 1, dtype=torch.float64, device=maps.device)
    # 0 / 0 for a map of zeros: it has no values that could be spread.
    return (((2 * rank - pixels - 1) * ordered).sum(1) / (pixels * ordered.sum(1))).to(maps)


def complexity(saliency: Tensor | Attribution) -> Float[Tensor, " batch"]:
    """The entropy of the absolute values as shares of their sum, in nats; lower is less complex, which is taken for better.

    Formula: - sum of p ln p, p = |a| / sum |a|

    Args:
        saliency: (batch, height, width), or an Attribution, whose heat map is taken.

    Returns:
        (batch,), 0 for a single pixel to ln n for a constant map of n pixels; NaN for a map of zeros.

    Raises:
        InputError: neither a tensor nor an Attribution, or NaN.
        ShapeError: not (batch, height, width).

    Reference: Bhatt et al. 2020, arXiv:2005.00631.
    """
    maps = map_numbers("saliency", saliency)
    size = maps.flatten(1).double().abs()
    share = size / size.sum(1, keepdim=True)
    entropy: Tensor = torch.special.entr(share).sum(1)
    return entropy.to(maps)


def effective_complexity(saliency: Tensor | Attribution, *, threshold: float = 0.01) -> Int[Tensor, " batch"]:
    """How many pixels matter: the number with |a| > threshold * max |a| of their own map; lower is less complex, which is taken for better.

    The published number is the fewest pixels that keep the expected loss of the model under a bound. This is the count that is usually
    taken for it, which asks no model; for the other look at `cp.metrics.insertion_curve`.

    Args:
        saliency: (batch, height, width), or an Attribution, whose heat map is taken.
        threshold: As a share of the largest absolute value of the map, from 0 to below 1.

    Returns:
        (batch,), whole numbers: all pixels for a constant map, 0 for a map of zeros.

    Raises:
        InputError: neither a tensor nor an Attribution, NaN, or a threshold out of range.
        ShapeError: not (batch, height, width).

    Reference: Nguyen and Martinez 2020, arXiv:2007.07584; the count without a model is ours to define, as it is that of others.
    """
    check_range("threshold", threshold, 0.0, 1.0)
    size = map_numbers("saliency", saliency).flatten(1).abs()
    return (size > threshold * size.amax(1, keepdim=True)).sum(1)
