"""Insertion and deletion by tokens: patches leave the sequence that a transformer works on, and nothing takes their place."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from counterpoint import progress
from counterpoint.attribution import Attribution
from counterpoint.batching import MicroBatch, in_micro_batches
from counterpoint.checks import check_batch, check_finite, check_images
from counterpoint.errors import InputError
from counterpoint.metrics.curve_table import Curve, Kind
from counterpoint.metrics.ordering import Order, check_order, check_saliency, ordering, removed_counts
from counterpoint.metrics.token_dropping import TokenPlace, can_lose_all, find_token_place, on_eager
from counterpoint.protocols import ModuleScore, Score
from counterpoint.scores import as_score


def token_deletion_curve(
    score: Score | Callable[[Tensor], Tensor],
    inputs: Float[Tensor, "batch channel height width"],
    saliency: Tensor | Attribution,
    *,
    steps: int = 20,
    order: Order = "signed",
    seed: int = 0,
    micro_batch: int | None = None,
) -> Curve:
    """The score while the most relevant patches are taken out of the sequence of tokens first; a lower area is better.

    Patches are really gone: the tokens that are left attend to each other alone, and no baseline is needed. They are taken out where
    their positions have been added and no attention came yet; that the model has such a place, and behind it does not ask where a token
    lies, is tried out first (`counterpoint.metrics.token_dropping` says how). Class, distillation and register tokens stay.

    Args:
        score: `cp.logit(...)` and its like.
        inputs: Images with pixels in [0, 1]; never changed.
        saliency: (batch, height, width), larger is more relevant, summed over each patch; or (batch, rows, columns) of the patches
            themselves; or an Attribution, whose values are summed so.
        steps: Steps from all patches to none, at most; one for each patch where there are fewer.
        order: Put patches in order by their value, "signed", or by its size, "absolute".
        seed: Of the random order among patches of equal value.
        micro_batch: Images that go through the model at once; by default chosen for the device, and halved when memory runs out.

    Returns:
        A Curve without a baseline. A model that has no score without any patch, as it takes the mean over them, has one point less.

    Raises:
        InputError: a score that knows no module, an argument out of range, NaN.
        ShapeError: inputs that are no images, or a map of another size.
        UnknownNameError: an unknown order.
        LayerError: patches cannot be taken out of the model: it is no transformer, or one with windows, rotary positions and the like.

    Reference: Petsiuk et al. 2018, arXiv:1806.07421 (deletion); with tokens in the place of pixels, and a place found by trying, ours.
    """
    return _curve(score, inputs, saliency, "deletion", steps, order, seed, micro_batch)


def token_insertion_curve(
    score: Score | Callable[[Tensor], Tensor],
    inputs: Float[Tensor, "batch channel height width"],
    saliency: Tensor | Attribution,
    *,
    steps: int = 20,
    order: Order = "signed",
    seed: int = 0,
    micro_batch: int | None = None,
) -> Curve:
    """The score while the most relevant patches enter the sequence of tokens first, from none to all; a higher area is better.

    The arguments are those of `token_deletion_curve`, which also says what is raised.

    Reference: as for `token_deletion_curve`.
    """
    return _curve(score, inputs, saliency, "insertion", steps, order, seed, micro_batch)


def _curve(
    score: Score | Callable[[Tensor], Tensor],
    inputs: Tensor,
    saliency: Tensor | Attribution,
    kind: Kind,
    steps: int,
    order: Order,
    seed: int,
    micro_batch: int | None,
) -> Curve:
    check_batch("inputs", inputs)
    check_images("inputs", inputs)
    check_order(order, seed)
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise InputError(f"steps must be a whole number of at least 1, got {steps!r}.")
    bound = as_score(score).bind(inputs)
    if not isinstance(bound, ModuleScore):
        raise InputError(
            "tokens are taken out of a network: score must know its module, such as cp.logit(module, ...); got a callable."
        )
    bound, inputs = on_eager(bound), inputs.detach()
    place = find_token_place(bound, inputs)
    placed = ordering(_of_patches(saliency, inputs, place), order=order, seed=seed)
    counts = removed_counts(place.tokens, min(steps, place.tokens))
    if not can_lose_all(place, bound, inputs[:1]):
        counts = counts[:-1] if kind == "deletion" else counts[1:]
    micro = MicroBatch.for_inputs(inputs) if micro_batch is None else MicroBatch(micro_batch)
    # Patch numbers in the order of the map; a smaller number of them is kept in the order of the image.
    first_to_go = placed.rank.flatten(1).long().argsort(1)
    scores = []
    for k, count in enumerate(counts):
        kept = first_to_go[:, count:] if kind == "deletion" else first_to_go[:, :count]
        scores.append(_scores(place, bound, inputs, kept.sort(1).values, micro))
        progress.advance(k + 1, len(counts), f"token {kind}")
    found = torch.stack(scores, 1)
    check_finite("scores with fewer patches", found)
    return Curve(
        kind=kind,
        baseline=None,
        fractions=torch.tensor(counts, device=found.device).to(found) / place.tokens,
        scores=found,
        tied=placed.tied,
    )


def _scores(
    place: TokenPlace,
    bound: ModuleScore,
    inputs: Tensor,
    kept: Int[Tensor, "batch kept"],
    micro: MicroBatch,
) -> Float[Tensor, " batch"]:
    """The score of each image with these of its patches."""

    def forward(rows: Tensor, image: Tensor, kept: Tensor) -> tuple[Tensor]:
        with place.keeping(kept):
            return (bound(rows, image),)

    image = torch.arange(len(inputs), device=inputs.device)
    with torch.no_grad():
        (scores,) = in_micro_batches(forward, inputs, image, kept, micro=micro)
    return scores


def _of_patches(
    saliency: Tensor | Attribution, inputs: Tensor, place: TokenPlace
) -> Float[Tensor, "batch rows columns"]:
    """One number for each patch."""
    rows, columns = place.grid.rows, place.grid.columns
    if isinstance(saliency, Attribution) and saliency.values.ndim == 3:
        before, tokens = place.grid.before, saliency.values.shape[1]
        if tokens == before + rows * columns:  # of a layer with the same tokens: their own sums
            return saliency.values[:, before:].sum(2).view(-1, rows, columns).to(inputs.device)
    if isinstance(saliency, Tensor) and saliency.shape == (len(inputs), rows, columns):
        numbers = saliency.detach().to(inputs.device)
        numbers = numbers if numbers.is_floating_point() else numbers.float()
        check_finite("saliency", numbers)
        return numbers
    pixels = check_saliency("saliency", saliency, inputs)
    height, width = pixels.shape[1:]
    lines = torch.arange(height, device=pixels.device) * rows // height
    across = torch.arange(width, device=pixels.device) * columns // width
    sums = pixels.new_zeros(len(pixels), rows, width).index_add(1, lines, pixels)
    return pixels.new_zeros(len(pixels), rows, columns).index_add(2, across, sums)
