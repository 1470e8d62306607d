"""Information removed: how little a network still tells about an image while its pixels are removed, as a result."""

import math
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float, Int
from torch import Tensor

from counterpoint.checks import check_finite, shape_text
from counterpoint.errors import InputError, ShapeError
from counterpoint.protocols import Baseline

# The published sum over classes is divided by this number, whatever the number of classes or steps.
_PUBLISHED_DIVISOR = 20


@dataclass(frozen=True, kw_only=True, eq=False)
class InformationRemoved:
    """What the network's output still says along a path: the published score, and three of ours that softmax models are read by.

    **`score`, as published: lower = more removed. `confidence_lost`, `entropy`, `negative_divergence`: higher = more removed.**

    The published one sums sigmoids of logits. A softmax model fixes its logits only up to a constant per image, so that this sum is no
    function of what it predicts: a conclusion should hold under two of the other three.
    """

    baseline: Baseline
    """As it was used."""
    kind: Literal["deletion", "insertion"]
    fractions: Float[Tensor, " points"]
    """The share of pixels removed (deletion) or brought back (insertion): exact counts over the number of pixels."""
    sigmoid_sums: Float[Tensor, "batch points"]
    """Sum over all classes of sigmoid(logit); lower = more removed, as published."""
    confidences_lost: Float[Tensor, "batch points"]
    """1 - p_c(u) / p_c(x), p the softmax, c the class of the score; higher = more removed; negative where p_c has risen."""
    entropies: Float[Tensor, "batch points"]
    """Entropy of the softmax over log(classes), 0 to 1; higher = more removed."""
    negative_divergences: Float[Tensor, "batch points"] | None
    """-KL(softmax(u) || mean prediction), in nats, at most 0; higher = more removed; None where no mean prediction was given."""
    tied: Float[Tensor, " batch"]
    """The share of pixels whose place in the order was drawn, because another pixel has the same value."""

    @property
    def score(self) -> Float[Tensor, " batch"]:
        """As published, the mean over the points of sum_c sigmoid(logit_c) / 20; **lower = more removed**.

        With 1000 classes 50 times the mean sigmoid: 25 if every logit is 0. The divisor is 20 for any number of points or classes.

        Reference: Picard et al. 2025, arXiv:2512.11433.
        """
        return self.sigmoid_sums.mean(1) / _PUBLISHED_DIVISOR

    @property
    def confidence_lost(self) -> Float[Tensor, " batch"]:
        """The mean of `confidences_lost` over the points; higher = more removed."""
        return self.confidences_lost.mean(1)

    @property
    def entropy(self) -> Float[Tensor, " batch"]:
        """The mean of `entropies` over the points; higher = more removed."""
        return self.entropies.mean(1)

    @property
    def negative_divergence(self) -> Float[Tensor, " batch"] | None:
        """The mean of `negative_divergences` over the points; higher = more removed."""
        return None if self.negative_divergences is None else self.negative_divergences.mean(1)


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions:
    """What class scores say about each row, beside those of its own unperturbed image."""

    clean_logits: Float[Tensor, "batch classes"]
    classes: Int[Tensor, " batch"]
    """The class of the score."""
    mean_prediction: Float[Tensor, " classes"] | None

    def __call__(
        self, logits: Float[Tensor, "rows classes"], image: Int[Tensor, " rows"]
    ) -> tuple[Float[Tensor, " rows"], ...]:
        """Sigmoid sums, confidences lost, entropies and, with a mean prediction, negative divergences; in float64."""
        logs = logits.double().log_softmax(1)
        shares = logs.exp()
        own = self.classes[image][:, None]
        before = self.clean_logits.double().log_softmax(1)[image].gather(1, own)[:, 0]
        numbers = (
            logits.double().sigmoid().sum(1),
            1 - (logs.gather(1, own)[:, 0] - before).exp(),
            -(shares * logs).sum(1) / math.log(logits.shape[1]),
        )
        if self.mean_prediction is None:
            return numbers
        return (*numbers, -(shares * (logs - self.mean_prediction.double().log())).sum(1))


def check_mean_prediction(mean_prediction: Tensor, classes: int) -> Float[Tensor, " classes"]:
    """The mean prediction in float64, on the CPU.

    Raises:
        InputError: no tensor, not above 0, or not summing to 1 (to 1e-3).
        ShapeError: another number of classes.
        NotFiniteError: NaN or infinity.
    """
    if not isinstance(mean_prediction, Tensor):
        raise InputError(
            f"mean_prediction must be a tensor (classes,), got {type(mean_prediction).__name__}."
        )
    if mean_prediction.shape != (classes,):
        raise ShapeError(
            f"mean_prediction must have one number for each of {classes} classes, got {shape_text(mean_prediction)}."
        )
    check_finite("mean_prediction", mean_prediction)
    exact = mean_prediction.detach().cpu().double()
    if not bool((exact > 0).all()) or abs(float(exact.sum()) - 1) > 1e-3:
        raise InputError(
            f"mean_prediction must be probabilities above 0 that sum to 1, got {float(exact.min()):.3g} for the smallest and "
            f"{float(exact.sum()):.6g} for the sum."
        )
    return exact
