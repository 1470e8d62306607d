"""Capped forward: how much of a perturbed image's score is left on the activations of the original one."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from counterpoint import progress
from counterpoint.activations import Cap, Layers, Pathway
from counterpoint.attribution import Attribution
from counterpoint.batching import in_micro_batches
from counterpoint.metrics.curve_table import Kind
from counterpoint.metrics.nested import MasksOfOneImage, NestedMasks
from counterpoint.metrics.ordering import Order
from counterpoint.metrics.pathway import FRACTIONS
from counterpoint.protocols import Baseline, Score
from counterpoint.state import left_as_found


@dataclass(frozen=True, kw_only=True, eq=False)
class CappedScores:
    """The scores of perturbed images as they are, and with no activation beyond that of the original image."""

    clean: Float[Tensor, " batch"]
    """f(x), in units of the score."""
    scores: Float[Tensor, "batch *fractions"]
    """f(v) of the perturbed images."""
    capped: Float[Tensor, "batch *fractions"]
    """f_cap(v): every activation clamped to the interval between 0 and that of x before the next operation; logits are not."""

    @property
    def kept(self) -> Float[Tensor, "batch *fractions"]:
        """min(f_cap(v), f(x)) / f(x): 1 where the original's own activations carry the whole score; NaN where f(x) is not positive."""
        clean = self._clean
        return torch.minimum(self.capped, clean) / clean.where(clean > 0, torch.nan)

    @property
    def overshoot(self) -> Float[Tensor, "batch *fractions"]:
        """max(0, f_cap(v) - f(x)) / f(x): above the original's score with less of its activity, by disinhibition."""
        clean = self._clean
        return (self.capped - clean).clamp(min=0) / clean.where(clean > 0, torch.nan)

    @property
    def _clean(self) -> Tensor:
        return self.clean.view(-1, *[1] * (self.scores.ndim - 1))


@dataclass(frozen=True, kw_only=True, eq=False)
class CappedForward:
    """Capped scores along the insertion and deletion path of a map; made by `capped_forward`."""

    baseline: Baseline
    """As it was used."""
    layers: tuple[str, ...]
    """The names of the activations that were capped."""
    fractions: Float[Tensor, " fractions"]
    """The share of pixels kept (insertion) or removed (deletion): exact counts over the number of pixels."""
    paths: Mapping[Kind, CappedScores]
    """Of the map, (batch, fractions)."""
    floors: Mapping[Kind, tuple[CappedScores, ...]]
    """Of each random mask of the same areas."""
    of_baseline: CappedScores
    """Of the baseline image itself, (batch,); NaN for a kind that only fills."""
    tied: Float[Tensor, " batch"]
    """The share of pixels whose place in the order was drawn, because another pixel has the same value."""
    forward_evaluations: Int[Tensor, " batch"]

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """Of paths."""
        return tuple(self.paths)

    @property
    def leak(self) -> Float[Tensor, " batch"]:
        """What the caps alone give back of the score: `kept` of the baseline image, which shows nothing of the class.

        Where it is near 1, `kept` says nothing about a mask: cap fewer activations.
        """
        return self.of_baseline.kept


def capped_forward(
    score: Score | Callable[[Tensor], Tensor],
    inputs: Float[Tensor, "batch channel height width"],
    saliency: Tensor | Attribution,
    *,
    baseline: Baseline,
    layers: Layers = None,
    fractions: Sequence[float] = FRACTIONS,
    kinds: Sequence[Kind] = ("insertion", "deletion"),
    floor: int = 2,
    order: Order = "signed",
    seed: int = 0,
    micro_batch: int | None = None,
) -> CappedForward:
    """The scores along the path of a map while no activation may go beyond that of the original image.

    Where the score of an inserted image falls when it is capped, it lived on units that are silent in the original. **Caps at many
    activations tell the network what the original was**: they silence what was silent there, and after a few layers little else is left.
    On EfficientNet-Lite0, capped at all 33, noise and black get the score of the original; `leak` says how much of it they get. Capped at
    the last activation alone, `layers=1`, they get none.

    Made for scores that are not negative, such as `cp.probability`: ratios are NaN where f(x) is not positive. Each image costs
    3 + 2 * kinds * (1 + floor) * fractions forwards, and one more that settles its class; a baseline that only fills has two less.
    `activation_deviation` says what activations are, how memory is bounded, and what the random masks are.

    Args:
        layers: Which activations are capped: None for all; a list of names, of modules or of single activations; or how many of the last.
        score, inputs, saliency, baseline, fractions, kinds, floor, order, seed, micro_batch: As in `activation_deviation`.

    Raises:
        InputError, ShapeError, UnknownNameError, LayerError: as in `activation_deviation`.
        ModelError: a part of the model is compiled or scripted, or its way depends on the numbers.

    Reference: our own, for the hidden-layer test that Zhang and McMillan 2025, arXiv:2509.04588, announce without a public definition.
    """
    masks = NestedMasks.opened(
        score,
        inputs,
        saliency,
        baseline=baseline,
        fractions=fractions,
        kinds=kinds,
        floor=floor,
        order=order,
        seed=seed,
        micro_batch=micro_batch,
    )
    batch = len(inputs)
    names: tuple[str, ...] = ()
    clean, ends, numbers = [], [], []
    with left_as_found(masks.bound.module):
        for image in range(batch):
            of_image = masks.of(image)
            with progress.stage(image, image + 1, batch, "capped forward"):
                score_of_image, pathway = of_image.scored_pathway(of_image.clean, layers)
                names = pathway.names
                clean.append(score_of_image[0])
                ends.append(_end(of_image, pathway))
                numbers.append(_path(of_image, pathway))
    known = torch.stack(clean)
    every = torch.stack(numbers)  # (batch, plain and capped, kinds, orders, fractions)
    plain, capped = torch.stack(ends, 1)
    paths, floors = {}, {}
    for k, kind in enumerate(masks.kinds):
        each = [
            CappedScores(clean=known, scores=every[:, 0, k, which], capped=every[:, 1, k, which])
            for which in range(every.shape[3])
        ]
        paths[kind], floors[kind] = each[0], tuple(each[1:])
    of_ends = 0 if masks.replacement.baseline.fill_only else 2
    return CappedForward(
        baseline=masks.replacement.baseline,
        layers=names,
        fractions=masks.fractions,
        paths=paths,
        floors=floors,
        of_baseline=CappedScores(clean=known, scores=plain, capped=capped),
        tied=masks.tied.to(masks.numbers),
        forward_evaluations=torch.full((batch,), masks.settling_forwards + 1 + of_ends + every[0].numel()),
    )


def _end(masks: MasksOfOneImage, pathway: Pathway) -> Float[Tensor, "2"]:
    """The score of the baseline image, plain and capped; NaN where there is none."""
    if masks.fill is None:
        return torch.full((2,), torch.nan, dtype=masks.whole.numbers, device=masks.clean.device)
    return torch.cat(_both(masks, pathway, masks.fill))


def _path(masks: MasksOfOneImage, pathway: Pathway) -> Float[Tensor, "2 kinds orders fractions"]:
    """The scores of all perturbed images, plain and capped."""
    rows, done = masks.rows, 0

    def scored(some: Tensor) -> tuple[Tensor, ...]:
        nonlocal done
        both = _both(masks, pathway, masks.points(some))
        done += len(some)
        progress.advance(done, len(rows))
        return both

    both = in_micro_batches(scored, rows, micro=masks.whole.micro)
    return torch.unflatten(torch.stack(both), 1, masks.shape)


def _both(
    masks: MasksOfOneImage, pathway: Pathway, points: Float[Tensor, "rows channel height width"]
) -> tuple[Tensor, Tensor]:
    """Plain and capped scores."""
    with torch.no_grad():
        plain = masks.score(points)
        with Cap(pathway, masks.place.new_zeros(len(points))):
            return plain, masks.score(points)
