"""One map under one baseline: the curves and the numbers that the literature reads off them, as thin calls of the engine."""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

from counterpoint.attribution import Attribution
from counterpoint.metrics.curve_table import Curve, CurveTable, Kind
from counterpoint.metrics.curves import curves
from counterpoint.metrics.ordering import Order
from counterpoint.protocols import Baseline, Score

AnyScore = Score | Callable[[Tensor], Tensor]
Images = Float[Tensor, "batch channel *space"]
Saliency = Tensor | Attribution


def deletion_curve(
    score: AnyScore,
    inputs: Images,
    saliency: Saliency,
    *,
    baseline: Baseline,
    steps: int = 20,
    order: Order = "signed",
    seed: int = 0,
    fold: bool = True,
) -> Curve:
    """The score while the most relevant pixels are replaced first; a lower area is better.

    Args:
        score: `cp.logit(...)` and its like, or a callable (rows, ...) -> (rows,).
        inputs: Images with pixels in [0, 1].
        saliency: (batch, height, width), larger is more relevant; or an Attribution, whose heat map is taken.
        baseline: What removed pixels become.
        steps: Steps from the image to the baseline, from 1 to the number of pixels.
        order: Put pixels in order by their value, "signed", or by its size, "absolute".
        seed: Of the random order among pixels of equal value.
        fold: Run on an equal, faster copy of the model where that pays; see `cp.metrics.curves`, which also says what is raised.

    Reference: Petsiuk et al. 2018, arXiv:1806.07421.
    """
    table = _table(
        score, inputs, saliency, baseline, "deletion", steps=steps, order=order, seed=seed, fold=fold
    )
    return table.curve("deletion")


def insertion_curve(
    score: AnyScore,
    inputs: Images,
    saliency: Saliency,
    *,
    baseline: Baseline,
    steps: int = 20,
    order: Order = "signed",
    seed: int = 0,
    fold: bool = True,
) -> Curve:
    """The score while the most relevant pixels come back first, from the baseline to the input; a higher area is better.

    The arguments are those of `deletion_curve`.

    Reference: Petsiuk et al. 2018, arXiv:1806.07421.
    """
    table = _table(
        score, inputs, saliency, baseline, "insertion", steps=steps, order=order, seed=seed, fold=fold
    )
    return table.curve("insertion")


def morf_curve(
    score: AnyScore,
    inputs: Images,
    saliency: Saliency,
    *,
    baseline: Baseline,
    steps: int = 20,
    order: Order = "signed",
    seed: int = 0,
    fold: bool = True,
) -> Curve:
    """Most relevant first (MoRF): another name for `deletion_curve`.

    Reference: Samek et al. 2017, arXiv:1509.06321.
    """
    return deletion_curve(
        score, inputs, saliency, baseline=baseline, steps=steps, order=order, seed=seed, fold=fold
    )


def lerf_curve(
    score: AnyScore,
    inputs: Images,
    saliency: Saliency,
    *,
    baseline: Baseline,
    steps: int = 20,
    order: Order = "signed",
    seed: int = 0,
    fold: bool = True,
) -> Curve:
    """The score while the least relevant pixels are replaced first (LeRF); a higher area is better.

    To remove the least relevant share q is to keep the most relevant 1 - q: it is the insertion curve, read backwards. The arguments are
    those of `deletion_curve`.

    Reference: Samek et al. 2017, arXiv:1509.06321.
    """
    inserted = insertion_curve(
        score, inputs, saliency, baseline=baseline, steps=steps, order=order, seed=seed, fold=fold
    )
    return Curve(
        kind="lerf",
        baseline=inserted.baseline,
        fractions=1 - inserted.fractions.flip(0),
        scores=inserted.scores.flip(1),
        tied=inserted.tied,
    )


def relevance_gain(
    score: AnyScore,
    inputs: Images,
    saliency: Saliency,
    *,
    baseline: Baseline,
    steps: int = 20,
    order: Order = "signed",
    seed: int = 0,
    fold: bool = True,
) -> Float[Tensor, " batch"]:
    """Symmetric relevance gain (SRG), the insertion area minus the deletion area on one shared order; higher is better.

    It is also the area with the least relevant pixels removed first minus that with the most relevant removed first. An order that says
    nothing has 0 on average. The arguments are those of `deletion_curve`.

    Returns:
        (batch,), in units of the score.

    Reference: Bluecher et al. 2024, arXiv:2401.06654.
    """
    table = _table(
        score,
        inputs,
        saliency,
        baseline,
        "deletion",
        "insertion",
        steps=steps,
        order=order,
        seed=seed,
        fold=fold,
    )
    return table.gains()[0, 0]


def aopc(
    score: AnyScore,
    inputs: Images,
    saliency: Saliency,
    *,
    baseline: Baseline,
    steps: int = 20,
    order: Order = "signed",
    seed: int = 0,
    fold: bool = True,
) -> Float[Tensor, " batch"]:
    """Area over the perturbation curve (AOPC): the mean drop of the score, most relevant pixels first; higher is better.

    The plain mean over the points k = 0 ... steps of the deletion curve of f(x) - f(point k), the first of which is 0, as published. The
    arguments are those of `deletion_curve`.

    Returns:
        (batch,), in units of the score.

    Reference: Samek et al. 2017, arXiv:1509.06321.
    """
    removed = deletion_curve(
        score, inputs, saliency, baseline=baseline, steps=steps, order=order, seed=seed, fold=fold
    )
    return (removed.scores[:, :1] - removed.scores).mean(1)


def _table(
    score: AnyScore,
    inputs: Images,
    saliency: Saliency,
    baseline: Baseline,
    *kinds: Kind,
    steps: int,
    order: Order,
    seed: int,
    fold: bool,
) -> CurveTable:
    return curves(
        score,
        inputs,
        {"map": saliency},
        [baseline],
        steps=steps,
        order=order,
        seed=seed,
        kinds=kinds,
        fold=fold,
    )
