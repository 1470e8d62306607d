"""Two demands on a baseline, along the path on which pixels are removed: stay in distribution, and take information away."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from counterpoint.attribution import Attribution
from counterpoint.errors import InputError, ModelError
from counterpoint.metrics.bank import Bank, Group
from counterpoint.metrics.curve_table import Kind
from counterpoint.metrics.distribution import Distances, OutOfDistribution
from counterpoint.metrics.information import InformationRemoved, Predictions, check_mean_prediction
from counterpoint.metrics.ordering import Order
from counterpoint.metrics.removal_path import PathOptions, RemovalPath
from counterpoint.protocols import Baseline, Score
from counterpoint.scores import classes_of

AnyScore = Score | Callable[[Tensor], Tensor]
Images = Float[Tensor, "batch channel height width"]


@dataclass(frozen=True, kw_only=True, eq=False)
class TradeOff:
    """Both scores of one baseline, from one pass over the path."""

    out_of_distribution: OutOfDistribution
    """Higher is further out, which is worse."""
    information_removed: InformationRemoved
    """Of its `score`, as published, lower means more removed; of its other three, higher."""

    @property
    def baseline(self) -> Baseline:
        """As it was used."""
        return self.out_of_distribution.baseline


def out_of_distribution(
    score: AnyScore,
    inputs: Images,
    saliency: Tensor | Attribution,
    *,
    baseline: Baseline,
    bank: Bank,
    k: int = 1,
    normalise: bool = False,
    groups: Sequence[Group] | None = None,
    steps: int = 20,
    include_last: bool = False,
    kind: Kind = "deletion",
    order: Order = "signed",
    seed: int = 0,
    clip: bool = False,
    fold: bool = True,
    micro_batch: int | None = None,
) -> OutOfDistribution:
    """How far images get from real ones while their pixels are removed; higher is further out, which is worse.

    At each of the points 0, 1 / steps, ... below 1, the distance from the image's features to the nearest ones of another photograph.
    The `score` of the result is the published mean of these; `excess` compares with the image itself, in units of the spread among
    real images.

    Args:
        score: `cp.logit(...)` and its like: of the module that the bank was made with.
        inputs: Images with pixels in [0, 1]; never changed.
        saliency: (batch, height, width), larger is more relevant; or an Attribution, whose heat map is taken.
        baseline: What removed pixels become.
        bank: Features of real images. Entries of the image's own photograph are left out; see `Bank.left_out`.
        k: Take the k-th nearest; 1 as published.
        normalise: Scale features to length 1, as Sun et al. do and the published score does not.
        groups: The photograph that each image is of, by its name in the bank; needed only where the bank holds crops of it, or other
            files of it, but not the image itself.
        steps: Steps from the image to the baseline, from 2 to the number of pixels.
        include_last: Also look at the point steps / steps, which the published score leaves out.
        kind: "deletion"; or "insertion", from the baseline to the image.
        order: Put pixels in order by their value, "signed", as published; or by its size, "absolute".
        seed: Of the random order among pixels of equal value.
        clip: Bring perturbed pixels into the range of the image's own, as the published code does.
        fold: Run on an equal, faster copy of the model where that pays; see `cp.metrics.curves`.
        micro_batch: Images that go through the model at once; by default chosen for the device, and halved when memory runs out.

    Raises:
        InputError: an argument of the wrong type or out of range, NaN, a score that knows no module, a bank of another model, of fewer than
            3 photographs, or with fewer neighbours than `k`; a baseline with several draws.
        ShapeError: inputs that are no images, or a map or a baseline of another size.
        UnknownNameError: an unknown order or kind.
        ModelError: the model does not return what the score reads.

    Reference: Picard et al. 2025, arXiv:2512.11433 (k = 1, not normalised); Sun et al. 2022, arXiv:2204.06507 (k-th, normalised). `excess`
    and `beyond` are ours.
    """
    options = PathOptions(
        steps=steps,
        include_last=include_last,
        kind=kind,
        order=order,
        seed=seed,
        clip=clip,
        fold=fold,
        micro_batch=micro_batch,
    )
    _check_bank(bank, k)
    path = RemovalPath.opened(score, inputs, saliency, [baseline], options, bank=bank, class_scores=False)
    distances = _distances(path, bank, k, normalise, groups)
    ((used, numbers),) = path.measured(
        [baseline], lambda features, logits, image: (distances(features, image),)
    )
    return _distribution(path, used, numbers[0], distances)


def information_removed(
    score: AnyScore,
    inputs: Images,
    saliency: Tensor | Attribution,
    *,
    baseline: Baseline,
    bank: Bank | None = None,
    mean_prediction: Float[Tensor, " classes"] | None = None,
    steps: int = 20,
    include_last: bool = False,
    kind: Kind = "deletion",
    order: Order = "signed",
    seed: int = 0,
    clip: bool = False,
    fold: bool = True,
    micro_batch: int | None = None,
) -> InformationRemoved:
    """How little the model still tells about images while their pixels are removed.

    Of the result, **`score`, as published, is lower where more is removed**; the three that are ours, `confidence_lost`, `entropy` and
    `negative_divergence`, are higher where more is removed.

    Args:
        score: Of a class, such as `cp.logit(classifier)`: its class is the one whose probability is followed.
        bank: Where the mean prediction comes from that the divergence is from.
        mean_prediction: The same, given as probabilities of all classes; without either there is no divergence.
        inputs, saliency, baseline, steps, include_last, kind, order, seed, clip, fold, micro_batch: As in `out_of_distribution`.

    Raises:
        InputError: as in `out_of_distribution`; a score without a class; both a bank and a mean prediction.
        ShapeError: inputs that are no images, a map or a baseline of another size, or a mean prediction of other classes.
        UnknownNameError: an unknown order or kind.
        ModelError: the model does not return the scores of at least 2 classes.

    Reference: Picard et al. 2025, arXiv:2512.11433 (`score`); the other three are ours.
    """
    options = PathOptions(
        steps=steps,
        include_last=include_last,
        kind=kind,
        order=order,
        seed=seed,
        clip=clip,
        fold=fold,
        micro_batch=micro_batch,
    )
    if bank is not None and mean_prediction is not None:
        raise InputError("give bank or mean_prediction, not both: each says what the divergence is from.")
    path = RemovalPath.opened(score, inputs, saliency, [baseline], options, bank=None, class_scores=True)
    if bank is not None:
        _check_bank(bank, 1)
        bank.check_model(path.bound.module)
        mean_prediction = bank.mean_prediction
    predictions = _predictions(path, mean_prediction)
    ((used, numbers),) = path.measured([baseline], lambda features, logits, image: predictions(logits, image))
    return _information(path, used, numbers)


def trade_off(
    score: AnyScore,
    inputs: Images,
    saliency: Tensor | Attribution,
    *,
    baselines: Sequence[Baseline],
    bank: Bank,
    k: int = 1,
    normalise: bool = False,
    groups: Sequence[Group] | None = None,
    steps: int = 20,
    include_last: bool = False,
    kind: Kind = "deletion",
    order: Order = "signed",
    seed: int = 0,
    clip: bool = False,
    fold: bool = True,
    micro_batch: int | None = None,
) -> tuple[TradeOff, ...]:
    """Both scores under each baseline, from one forward of each point: the same numbers as the two functions give one by one.

    One forward settles the classes and one reads the unperturbed image, for all baselines; then steps - 1 for each baseline, the first
    point being the image itself (steps for an insertion path).

    Args:
        baselines: What removed pixels become, one after another.
        bank: For the distances, and for the mean prediction.
        score, inputs, saliency: As in `information_removed`.
        k, normalise, groups: As in `out_of_distribution`.
        steps, include_last, kind, order, seed, clip, fold, micro_batch: As in `out_of_distribution`.

    Raises:
        InputError: as in the two functions; no baselines.
        ShapeError: as there.
        UnknownNameError: as there.
        ModelError: as there.

    Reference: Picard et al. 2025, arXiv:2512.11433.
    """
    options = PathOptions(
        steps=steps,
        include_last=include_last,
        kind=kind,
        order=order,
        seed=seed,
        clip=clip,
        fold=fold,
        micro_batch=micro_batch,
    )
    if isinstance(baselines, Baseline | str) or not isinstance(baselines, Sequence) or not baselines:
        raise InputError(f"baselines must be a list, such as [cp.baselines.Mean()], got {baselines!r}.")
    _check_bank(bank, k)
    path = RemovalPath.opened(score, inputs, saliency, baselines, options, bank=bank, class_scores=True)
    distances = _distances(path, bank, k, normalise, groups)
    predictions = _predictions(path, bank.mean_prediction)

    def measure(features: Tensor, logits: Tensor, image: Tensor) -> tuple[Tensor, ...]:
        return distances(features, image), *predictions(logits, image)

    return tuple(
        TradeOff(
            out_of_distribution=_distribution(path, used, numbers[0], distances),
            information_removed=_information(path, used, numbers[1:]),
        )
        for used, numbers in path.measured(baselines, measure)
    )


def _check_bank(bank: Bank, k: int) -> None:
    if not isinstance(bank, Bank):
        raise InputError(
            f"bank must be a Bank, made by Bank.of(classifier, images), got {type(bank).__name__}."
        )
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise InputError(f"k must be a whole number of at least 1, got {k!r}.")


def _distances(
    path: RemovalPath, bank: Bank, k: int, normalise: bool, groups: Sequence[Group] | None
) -> Distances:
    left_out = bank.left_out(path.clean_features, groups, precision=path.inputs.dtype)
    bank.check_enough(left_out, k)
    bank.real_distances(k=k, normalise=normalise)  # before the long work, as it may refuse
    return Distances(bank=bank, left_out=left_out, k=k, normalise=normalise)


def _predictions(path: RemovalPath, mean_prediction: Tensor | None) -> Predictions:
    classes = classes_of(path.bound)[0]
    if classes is None:
        raise InputError(
            "score must be of a class, such as cp.logit(classifier), whose probability can be followed."
        )
    known = path.clean_logits.shape[1]
    if known < 2:
        raise ModelError(f"information removed needs at least 2 classes, but the model returns {known}.")
    return Predictions(
        clean_logits=path.clean_logits,
        classes=torch.tensor(classes),
        mean_prediction=None if mean_prediction is None else check_mean_prediction(mean_prediction, known),
    )


def _distribution(
    path: RemovalPath, baseline: Baseline, numbers: Float[Tensor, "batch points"], distances: Distances
) -> OutOfDistribution:
    clean = distances(path.clean_features, torch.arange(len(path.inputs)))
    real = distances.bank.real_distances(k=distances.k, normalise=distances.normalise)
    return OutOfDistribution(
        baseline=baseline,
        kind=path.options.kind,
        fractions=path.fractions(baseline),
        distances=path.out(numbers),
        clean_distances=path.out(clean),
        real_distances=path.out(real),
        k=distances.k,
        normalise=distances.normalise,
        tied=path.out(path.tied),
    )


def _information(
    path: RemovalPath, baseline: Baseline, numbers: tuple[Float[Tensor, "batch points"], ...]
) -> InformationRemoved:
    sigmoid_sums, confidences_lost, entropies, *divergences = (path.out(each) for each in numbers)
    return InformationRemoved(
        baseline=baseline,
        kind=path.options.kind,
        fractions=path.fractions(baseline),
        sigmoid_sums=sigmoid_sums,
        confidences_lost=confidences_lost,
        entropies=entropies,
        negative_divergences=divergences[0] if divergences else None,
        tied=path.out(path.tied),
    )
