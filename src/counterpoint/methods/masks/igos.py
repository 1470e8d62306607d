"""Masks optimised along integrated gradients: I-GOS, and I-GOS++ with a mask for deletion, one for insertion and their product."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from counterpoint.baselines.blurred import Blur
from counterpoint.checks import check_range
from counterpoint.comparison import Comparison
from counterpoint.methods.arithmetic import exact
from counterpoint.methods.coalitions import on_channels
from counterpoint.methods.masks.blending import Blend, Fill, Look
from counterpoint.methods.masks.grids import (
    Enlargement,
    bilateral_total_variation,
    edge_weights,
    total_variation,
    value_and_slope,
)
from counterpoint.methods.masks.line_search import backtracked
from counterpoint.methods.masks.searching import MaskSearch, check_search, largest_by_image, searched
from counterpoint.methods.masks.starting import start_map
from counterpoint.protocols import Method, Outcome

_PUBLISHED_BLUR = 50.0
_POWER = 2.0


@dataclass(frozen=True)
class IGOSPP(MaskSearch):
    """Two coarse masks, what to delete and what to insert, and their product, optimised along integrated gradients.

    Formula: minimise over D, I  (del(D) + ins(I) + del(D I) + ins(D I)) / 2 + area * mean(1 - D I) + smoothness * BTV(D I),
    del(M) = mean over k of f(x' + k/K M (x - x')), ins(M) = -mean over k of f(x + k/K M (x' - x)), and map 1 - D I

    Values: (batch, channel, height, width), from 0 to 1 over all channels: an importance. `extras`: "loss" (batch, steps);
    "largest_gradient" (batch,), 0 where the score never had one, and the map is then 0; "lengths" (batch, steps), 0 where no step was
    good enough; "measured" (batch, maps) with `keep_best`.

    BTV is the mean of the plain total variation on the grid and the bilateral one on the image. The weights were published for
    probabilities. All images are optimised at once, each as if alone, with a line search of its own. Ours: noise is drawn once for a step
    and kept while its length is searched for; the search judges the loss whose gradient it follows; a step that helps
    at no length is not taken. There is no comparison with the authors' code, which does not install; the line search, the
    variation and the gradient are tested against direct computations.

    Parameters:
        fill: What is blended in; "published" is the image blurred by 50 pixels.
        cells: Side of the grid, enlarged bilinearly; at most one cell for each pixel.
        points: K, of the integrals.
        area, smoothness: Of the regularisers; published with 1 and 20, and with 10 and 20 in the example for classifiers.
        sigma: Of the bilateral variation: exp(-d^2 / sigma), d the difference of two pixels in [0, 1]. Published is 0.01 for normalised
            images, whose squared differences are 20 times larger.
        noise: Standard deviation of the noise on blended images in [0, 1]; published is 0.2 for normalised images.
        steps: Of the line search.
        first: The first length that each line search tries.
        start: Begin at this method's heat map.
        start_layer: Where that method works; by default the input, or the last layer with maps.
        keep_best: So many times on the way, the last time at the end, the map is measured by its insertion minus its deletion area
            under the comparison's baseline (39 forwards), as is the start's; the best is handed back. 0 hands back the last.
        seed: Of the noise.

    Raises:
        ShapeError: the inputs are no images.
        InputError: a baseline that only fills, with `fill="baseline"`.

    Reference: Khorram et al. 2021, arXiv:2012.15783.
    """

    fill: Fill = "baseline"
    cells: int = 28
    points: int = 20
    area: float = 1.0
    smoothness: float = 20.0
    sigma: float = 5e-4
    noise: float = 0.045
    steps: int = 20
    first: float = 1000.0
    start: Method | None = None
    start_layer: str | None = None
    keep_best: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        _check(self)

    def __call__(self, comparison: Comparison) -> Outcome:
        """4 K gradients for each image and step, and 4 K forwards for each length that is tried."""
        return _searched(self, comparison, "igos_pp", masks=2, data=_bilateral_data)


@dataclass(frozen=True)
class IGOS(MaskSearch):
    """The coarse mask whose removal lowers the score all along the way to nothing, optimised along integrated gradients.

    Formula: minimise over M  del(M) + area * mean(1 - M) + smoothness * BTV(M), del(M) = mean over k of f(x' + k/K M (x - x')), map 1 - M

    Values: (batch, channel, height, width), from 0 to 1 over all channels: an importance. `extras` as in `IGOSPP`, which says what is ours.

    Regularisers and noise are those of the common public code of I-GOS++.

    Parameters:
        fill, cells, points, area, smoothness, sigma, noise, steps, first, start, start_layer, keep_best, seed: As in `IGOSPP`.

    Raises:
        ShapeError: the inputs are no images.
        InputError: a baseline that only fills, with `fill="baseline"`.

    Reference: Qi et al. 2020, arXiv:1905.00954.
    """

    fill: Fill = "baseline"
    cells: int = 28
    points: int = 20
    area: float = 1.0
    smoothness: float = 20.0
    sigma: float = 5e-4
    noise: float = 0.045
    steps: int = 20
    first: float = 8.0
    start: Method | None = None
    start_layer: str | None = None
    keep_best: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        _check(self)

    def __call__(self, comparison: Comparison) -> Outcome:
        """K gradients for each image and step, and K forwards for each length that is tried."""
        return _searched(self, comparison, "igos", masks=1, data=_deletion_data)


Masks = Float[Tensor, "images masks high wide"]
Data = Callable[[Tensor], list[tuple[Tensor, float, Callable[[Tensor], Tensor]]]]
"""From enlarged masks (images, masks, height, width) to the terms of the loss: a mask (images, height, width), the weight of its integral,
negative for an insertion, and what turns a gradient with respect to it into one with respect to all masks."""


def _deletion_data(masks: Tensor) -> list[tuple[Tensor, float, Callable[[Tensor], Tensor]]]:
    return [(masks[:, 0], 1.0, lambda g: g.unsqueeze(1))]


def _bilateral_data(masks: Tensor) -> list[tuple[Tensor, float, Callable[[Tensor], Tensor]]]:
    deleted, inserted = masks.unbind(1)
    nothing, both = torch.zeros_like(deleted), deleted * inserted

    def product(g: Tensor) -> Tensor:
        return torch.stack([g * inserted, g * deleted], 1)

    return [
        (deleted, 0.5, lambda g: torch.stack([g, nothing], 1)),
        (inserted, -0.5, lambda g: torch.stack([nothing, g], 1)),
        (both, 0.5, product),
        (both, -0.5, product),
    ]


def _searched(method: IGOSPP | IGOS, comparison: Comparison, name: str, *, masks: int, data: Data) -> Outcome:
    """The search that both methods are."""
    blend = Blend.of(comparison, method.fill, _blurred, "the image blurred by 50 pixels")
    like = exact(comparison.inputs)
    enlarge = Enlargement.to((like.shape[2], like.shape[3]), method.cells, like)
    batch = torch.arange(len(like), device=like.device)
    with torch.inference_mode(False):  # autograd reads them
        weights = edge_weights(like.clone(), sigma=method.sigma)
    begin, lengths = None, []
    cells = like.new_ones(len(like), masks, *enlarge.cells)
    if method.start is not None:
        begin = start_map(comparison, method.start, method.start_layer)
        # The product of all masks is then 1 - map.
        cells = (1 - enlarge.shrink(begin)).pow(1 / masks).unsqueeze(1).repeat(1, masks, 1, 1)
    generator = torch.Generator().manual_seed(method.seed)

    def regularisers(cells: Masks, image: Int[Tensor, " images"]) -> Float[Tensor, " images"]:
        whole = cells.prod(1)
        large = enlarge(whole)
        rough = total_variation(whole, power=_POWER) / whole[0].numel()
        edges = bilateral_total_variation(large, (weights[0][image], weights[1][image]), power=_POWER)
        area = (1 - whole).flatten(1).mean(1)
        return method.area * area + method.smoothness * (rough + edges / large[0].numel()) / 2

    def looks() -> list[Look]:
        """The noise at each point of the integrals, the same for all images and terms."""
        if method.noise == 0:
            return [Look()] * method.points
        shape = (method.points, *like.shape[1:])
        drawn = method.noise * torch.randn(shape, generator=generator)
        return [Look(noise=each) for each in drawn.to(like)]

    def rows(cells: Masks, k: int) -> tuple[Tensor, list[tuple[float, Callable[[Tensor], Tensor], float]]]:
        """What is shown at the k-th point, (terms, images, 1, height, width); and of each term weight, pull and d shown / d mask."""
        share, shown, terms = (k + 1) / method.points, [], []
        for mask, weight, pull in data(enlarge(cells)):
            shown.append(share * mask if weight > 0 else 1 - share * mask)
            terms.append((weight / method.points, pull, share if weight > 0 else -share))
        return torch.stack(shown).unsqueeze(2), terms

    def losses(cells: Masks, image: Int[Tensor, " images"], looks: list[Look]) -> Float[Tensor, " images"]:
        total = regularisers(cells, image)
        for k, look in enumerate(looks):
            shown, terms = rows(cells, k)
            scores = blend.scores(shown.flatten(0, 1), image.repeat(len(terms)), look=look)
            for (weight, _, _), found in zip(terms, scores.view(len(terms), -1), strict=True):
                total = total + weight * found
        return total

    def step(_: int) -> tuple[Tensor, Tensor]:
        nonlocal cells
        drawn = looks()
        total, slope = value_and_slope(lambda c: regularisers(c, batch), cells)
        of_score = torch.zeros_like(cells)
        for k, look in enumerate(drawn):
            shown, terms = rows(cells, k)
            image = batch.repeat(len(terms))
            scores, gradients = blend.scores_and_gradients(shown.flatten(0, 1), image, look=look)
            each = zip(
                terms, scores.view(len(terms), -1), gradients.view(shown.shape).squeeze(2), strict=True
            )
            for (weight, pull, turn), found, gradient in each:
                total = total + weight * found
                of_score += enlarge.pull(pull(weight * turn * gradient))
        cells, taken = backtracked(
            lambda c, image: losses(c, image, drawn), cells, of_score + slope, total, first=method.first
        )
        lengths.append(taken)
        return total, largest_by_image(of_score)

    found = searched(
        name,
        step,
        lambda: on_channels(1 - enlarge(cells).prod(1), comparison),
        blend,
        steps=method.steps,
        keep_best=method.keep_best,
        start=None if begin is None else on_channels(begin, comparison),
    )
    return replace(found, extras={**found.extras, "lengths": torch.stack(lengths, 1)})


def _check(method: IGOSPP | IGOS) -> None:
    """Raise InputError unless the parameters make sense."""
    check_search(method.fill, method.steps, method.keep_best)
    for name in ("cells", "points"):
        check_range(name, getattr(method, name), 1)
    for name in ("area", "smoothness", "noise"):
        check_range(name, getattr(method, name), 0)
    for name in ("sigma", "first"):
        check_range(name, getattr(method, name), 0, open_low=True)


def _blurred(
    images: Float[Tensor, "batch channel height width"],
) -> Float[Tensor, "2 batch channel height width"]:
    return torch.stack([Blur(_PUBLISHED_BLUR)(images), images])
