"""What is left of the score when a map is laid over the image as a soft mask."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from counterpoint.attribution import Attribution
from counterpoint.checks import check_batch, check_images
from counterpoint.comparison import compare
from counterpoint.errors import InputError
from counterpoint.metrics.ordering import check_saliency
from counterpoint.protocols import Baseline, Score


def average_drop(
    score: Score | Callable[[Tensor], Tensor],
    inputs: Float[Tensor, "batch channel height width"],
    saliency: Tensor | Attribution,
    *,
    baseline: Baseline,
) -> Float[Tensor, " batch"]:
    """The share of the score that is lost under the mask, max(0, f(x) - f(masked)) / f(x); lower is better.

    masked = m x + (1 - m) x', where m is the map scaled to 0 ... 1 for each image. With `cp.baselines.Black()` it is the published m x. One
    number for each image: the published one is the mean, in percent.

    Args:
        score: As published a probability, `cp.probability(...)`: the share of a logit means nothing where that may be 0 or less.
        inputs: Images with pixels in [0, 1].
        saliency: (batch, height, width), larger is more relevant; or an Attribution, whose heat map is taken.
        baseline: What masked pixels become.

    Returns:
        (batch,), 0 to 1 for a score that is never negative; NaN where f(x) is not above 0, or the map is constant and has no scale.

    Raises:
        InputError: an argument of the wrong type, NaN, or a baseline that only fills or has several draws.
        ShapeError: inputs that are no images, or a map of another size.

    Reference: Chattopadhyay et al. 2018, arXiv:1710.11063 (Grad-CAM++), average drop.
    """
    clean, masked = _scores(score, inputs, saliency, baseline)
    drop = (clean - masked).clamp(min=0) / clean
    # Not clamped where it is NaN; a drop of a score that is not positive has no sign to go by.
    return torch.where(clean > 0, drop, torch.nan)


def average_increase(
    score: Score | Callable[[Tensor], Tensor],
    inputs: Float[Tensor, "batch channel height width"],
    saliency: Tensor | Attribution,
    *,
    baseline: Baseline,
) -> Float[Tensor, " batch"]:
    """1 where the score rises under the mask, f(masked) > f(x), and 0 where it does not; the mean over images: higher is better.

    Masked as in `average_drop`, which also says what the arguments are and what is raised.

    Returns:
        (batch,), 0 or 1; NaN where the map is constant and has no scale.

    Reference: Chattopadhyay et al. 2018, arXiv:1710.11063 (Grad-CAM++), increase in confidence.
    """
    clean, masked = _scores(score, inputs, saliency, baseline)
    return torch.where(masked.isnan(), masked, (masked > clean).to(clean))


def _scores(
    score: Score | Callable[[Tensor], Tensor],
    inputs: Float[Tensor, "batch channel height width"],
    saliency: Tensor | Attribution,
    baseline: Baseline,
) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
    """f(x), and the score of the masked image: NaN where the map is constant."""
    check_batch("inputs", inputs)
    check_images("inputs", inputs)
    numbers = check_saliency("saliency", saliency, inputs)
    low, high = numbers.amin((1, 2), keepdim=True), numbers.amax((1, 2), keepdim=True)
    constant = (low == high)[:, 0, 0]
    kept = torch.where(low == high, 1.0, (numbers - low) / (high - low))
    if isinstance(baseline, Baseline) and (baseline.fill_only or baseline.draws > 1):
        raise InputError(
            f"a soft mask mixes the image with one other, but {baseline!r} only fills or has several draws."
        )
    comparison = compare(score, inputs, baseline=baseline)
    image = torch.arange(len(inputs), device=inputs.device)
    masked = comparison.scores(comparison.blended(kept, image), image)
    return comparison.score, masked.masked_fill(constant, torch.nan)
