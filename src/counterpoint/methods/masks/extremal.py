"""The mask of a given area that keeps the score highest, or takes most of it away."""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from counterpoint.baselines.blurred import Blur
from counterpoint.checks import check_range
from counterpoint.comparison import Comparison
from counterpoint.errors import InputError
from counterpoint.methods.arithmetic import exact
from counterpoint.methods.coalitions import on_channels
from counterpoint.methods.masks.blending import Blend, Fill, Look
from counterpoint.methods.masks.searching import MaskSearch, check_search, largest_by_image, searched
from counterpoint.methods.masks.smooth_maximum import SmoothMaximum
from counterpoint.methods.masks.starting import start_map
from counterpoint.protocols import Method, Outcome

Variant = Literal["preserve", "delete", "dual"]
"""preserve maximises the score of what the mask shows, delete minimises that of the rest, dual does both."""

_LEVELS, _MOST_BLUR = 8, 20.0
_MOMENTUM, _GROWTH = 0.9, 1.0035
_TIE = 1e-3
_PUBLISHED_CELLS = 32 * 32


@dataclass(frozen=True)
class ExtremalPerturbation(MaskSearch):
    """The smooth mask of a given area whose pixels keep the score highest, for several areas, summed.

    Formula: maximise over m  f(m x + (1 - m) x') - constraint 1.0035^t mean((sorted m - r)^2), r = 0 for the share 1 - a of the pixels,
    1 for the rest; map Σ m over the areas a, under a Gaussian of `smooth` times the shorter side

    Values: (batch, channel, height, width), not negative, summed over the areas: an importance. `extras`: "masks" (batch, areas, height,
    width) and "shares" (batch, areas), the mean of each mask, both of the last step; "loss" (batch, steps), summed over the areas;
    "largest_gradient" (batch,), 0 where the score never had one, and the map is then 0; "measured" (batch, maps) with `keep_best`.

    Masks are those of `SmoothMaximum`. Settings are the published ones, for logits: the score's weight against the constraint is its
    size. The published contrastive reward is the score `cp.contrast`, with its rival class settled at the image. All images and
    areas are optimised at once, each as if alone. Ours: an area is a share of the image, published is one of the canvas with its
    margin; pixels of equal value share their targets; the rate is that of the published grid of 32 x 32 and grows with the number of
    cells, so that small images are searched as slowly as large ones. There is no comparison with the authors' code, which does not
    install; mask and loss are tested against direct computations.

    Parameters:
        areas: Shares of the image that masks may show.
        variant: See `Variant`; "dual" takes two gradients for each step and area.
        fill: What is blended in; "published" is a pyramid of 8 blurs, from 20 pixels to none, that the mask's value is a place in.
        step, sigma: Of the mask, in pixels; see `SmoothMaximum`. Published for 224 pixels: on small images make both smaller, or no mask
            is fine enough to differ from a blob.
        constraint: Weight of the area.
        steps, rate: Of gradient descent with momentum 0.9 and dampening 0.9; the rate for 1024 cells.
        mirrored: Whether the model sees the first and every second step in a mirror, left and right exchanged.
        smooth: Of the map, as a share of the image's shorter side; 0 for none.
        start: Begin at this method's heat map.
        start_layer: Where that method works; by default the input, or the last layer with maps.
        keep_best: So many times on the way, the last time at the end, the map is measured by its insertion minus its deletion area
            under the comparison's baseline (39 forwards), as is the start's; the best is handed back. 0 hands back the last.

    Raises:
        ShapeError: the inputs are no images.
        InputError: a baseline that only fills, with `fill="baseline"`.

    Reference: Fong et al. 2019, arXiv:1910.08485.
    """

    areas: tuple[float, ...] = (0.025, 0.05, 0.1, 0.2)
    variant: Variant = "preserve"
    fill: Fill = "baseline"
    step: int = 7
    sigma: float = 21.0
    constraint: float = 300.0
    steps: int = 800
    rate: float = 0.01
    mirrored: bool = True
    smooth: float = 0.09
    start: Method | None = None
    start_layer: str | None = None
    keep_best: int = 0

    def __post_init__(self) -> None:
        check_search(self.fill, self.steps, self.keep_best)
        if self.variant not in ("preserve", "delete", "dual"):
            raise InputError(f"variant must be 'preserve', 'delete' or 'dual', got {self.variant!r}.")
        if not self.areas or not all(0 < area < 1 for area in self.areas):
            raise InputError(f"areas must be shares of the image between 0 and 1, got {self.areas!r}.")
        check_range("step", self.step, 1)
        check_range("sigma", self.sigma, 0, open_low=True)
        check_range("constraint", self.constraint, 0)
        check_range("rate", self.rate, 0, open_low=True)
        check_range("smooth", self.smooth, 0, 1)

    def __call__(self, comparison: Comparison) -> Outcome:
        """`steps` gradients for each image and area, twice that for "dual"."""
        blend = Blend.of(comparison, self.fill, _pyramid, "the image blurred by 20 pixels")
        like = exact(comparison.inputs)
        batch, count = len(like), len(self.areas)
        shape = (like.shape[2], like.shape[3])
        paint = SmoothMaximum(size=shape, step=self.step, sigma=self.sigma)
        # Rows: the areas of the first image, those of the second, ...
        image = torch.arange(batch, device=like.device).repeat_interleave(count)
        begin = None
        cells = like.new_ones(batch * count, *paint.cells)
        if self.start is not None:
            begin = start_map(comparison, self.start, self.start_layer)
            cells = _at_cells(begin, self.step).repeat_interleave(count, 0).contiguous()
        target = _sorted_target(self.areas, shape, paint.canvas).to(like).repeat(batch, 1)
        rate = self.rate * cells[0].numel() / _PUBLISHED_CELLS
        descent = torch.optim.SGD([cells], lr=rate, momentum=_MOMENTUM, dampening=_MOMENTUM)
        masks = paint(cells)

        def step(number: int) -> tuple[Tensor, Tensor]:
            nonlocal masks
            look = Look(flipped=self.mirrored and number % 2 == 0)
            reward, slope = self._reward(blend, paint.image(masks), image, look)
            misfit, of_misfit = area_misfit(masks, target)
            weight = self.constraint * _GROWTH**number
            cells.grad = paint.pull(cells, masks, weight * of_misfit - paint.on_canvas(slope))
            descent.step()
            cells.clamp_(0, 1)
            masks = paint(cells)
            loss = (weight * misfit - reward).view(batch, count).sum(1)
            return loss, largest_by_image(slope).view(batch, count).amax(1)

        def values() -> Tensor:
            return on_channels(
                self._smoothed(paint.image(masks).reshape(batch, count, *shape).sum(1)), comparison
            )

        found = searched(
            "extremal_perturbation",
            step,
            values,
            blend,
            steps=self.steps,
            keep_best=self.keep_best,
            start=None if begin is None else on_channels(begin, comparison),
        )
        each = paint.image(masks).reshape(batch, count, *shape)
        return replace(found, extras={**found.extras, "masks": each, "shares": each.mean((2, 3))})

    def _reward(
        self, blend: Blend, masks: Float[Tensor, "rows height width"], image: Tensor, look: Look
    ) -> tuple[Float[Tensor, " rows"], Float[Tensor, "rows height width"]]:
        """What the score rewards, and its gradient with respect to the masks."""
        reward, slope = torch.zeros_like(masks[:, 0, 0]), torch.zeros_like(masks)
        if self.variant != "delete":
            scores, gradients = blend.scores_and_gradients(masks.unsqueeze(1), image, look=look)
            reward, slope = reward + scores, slope + gradients[:, 0]
        if self.variant != "preserve":
            scores, gradients = blend.scores_and_gradients(1 - masks.unsqueeze(1), image, look=look)
            # The mask takes away what it does not show: both signs turn, that of the slope twice.
            reward, slope = reward - scores, slope + gradients[:, 0]
        return reward, slope

    def _smoothed(self, maps: Float[Tensor, "batch height width"]) -> Float[Tensor, "batch height width"]:
        sigma = self.smooth * min(maps.shape[1:])
        return Blur(sigma)(maps.unsqueeze(1)).squeeze(1) if sigma > 0 else maps


def area_misfit(
    masks: Float[Tensor, "rows height width"], target: Float[Tensor, "rows pixels"]
) -> tuple[Float[Tensor, " rows"], Float[Tensor, "rows height width"]]:
    """How far the values of a mask, in order, are from their target, as a mean square; and the gradient.

    Pixels of equal value, to a thousandth, share the mean of their targets. In a flat mask, where the search begins, rounding and the order
    of pixels in memory would else choose the part that stays.
    """
    flat = masks.flatten(1)
    ordered, place = flat.sort(dim=1, stable=True)
    off = ordered - _mean_over_ties(ordered, target)
    slope = torch.zeros_like(flat).scatter_(1, place, 2 * off / flat.shape[1])
    return (ordered - target).square().mean(1), slope.view_as(masks)


def _mean_over_ties(
    ordered: Float[Tensor, "rows pixels"], target: Float[Tensor, "rows pixels"]
) -> Float[Tensor, "rows pixels"]:
    """The target, averaged over pixels of equal value; each row is in ascending order."""
    run = torch.zeros_like(ordered, dtype=torch.int64)
    run[:, 1:] = ((ordered / _TIE).round().diff(dim=1) != 0).cumsum(1)
    sums = torch.zeros_like(target).scatter_add_(1, run, target)
    sizes = torch.zeros_like(target).scatter_add_(1, run, torch.ones_like(target))
    return (sums / sizes.clamp(min=1)).gather(1, run)


def _sorted_target(
    areas: tuple[float, ...], size: tuple[int, int], canvas: tuple[int, int]
) -> Float[Tensor, "areas pixels"]:
    """For each area 1 for as many of the canvas's pixels as it has of the image's, the last in order, and 0 for the others."""
    pixels = canvas[0] * canvas[1]
    hidden = torch.tensor([pixels - round(area * size[0] * size[1]) for area in areas])
    return (torch.arange(pixels) >= hidden[:, None]).double()


def _at_cells(maps: Float[Tensor, "batch height width"], step: int) -> Tensor:
    """The map where the cells are."""
    return maps[:, ::step, ::step]


def _pyramid(
    images: Float[Tensor, "batch channel height width"],
) -> Float[Tensor, "levels batch channel height width"]:
    """The image under less and less blur, the last level under none."""
    sigmas = [_MOST_BLUR * (1 - level / (_LEVELS - 1)) for level in range(_LEVELS - 1)]
    return torch.stack([*(Blur(sigma)(images) for sigma in sigmas), images])
