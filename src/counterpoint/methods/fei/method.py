"""FEI: a map whose insertion and deletion curves are optimised, with gradients that keep to the network's own pathway."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import interpolate, pad

from counterpoint import progress, spec
from counterpoint.activations import CLIP_RULES, ClipRule, Layers
from counterpoint.baselines.blurred import Blur
from counterpoint.checks import check_images, check_range
from counterpoint.comparison import Comparison
from counterpoint.errors import InputError, LayerError
from counterpoint.layers import default_cam_layer
from counterpoint.methods.cam import GradCAM, LayerCAM
from counterpoint.methods.coalitions import on_channels
from counterpoint.methods.fei.masks import VARIANTS, Masks, Variant, masks_of
from counterpoint.methods.fei.measured import Curves, by_probability, hard_curves
from counterpoint.methods.fei.pathway import Clipping, penalised
from counterpoint.methods.fei.quantiles import spread_shares
from counterpoint.methods.path import IntegratedGradients
from counterpoint.protocols import Claim, Level, ModuleScore, Outcome
from counterpoint.quadrature import Midpoint

Fills = Float[Tensor, "fills images channel height width"]

# Of the blur that a map at the pixels gets before it serves as a start, in units of the image's side.
_SMOOTH = 1 / 16
_START_NODES = 8
_SHOWN = 5


@dataclass(frozen=True)
class FEI:
    """Faithfulness by optimisation: the insertion and deletion curves themselves are optimised, through smooth quantiles of a score map.

    Formula: minimise -(1/N) sum_i [ f(a_i x + (1 - a_i) r) - w f((1 - a_i) x + a_i r) ] / |f(x) - f(x')|, a_i the smooth mask of share p_i

    Values: (batch, channel, height, width), an importance: the score map (variants "masks", "cumulative": the mean mask), the one whose
    measured hard insertion - deletion area was the largest on the way, the start included, so that it is never worse than its start by
    that measure. With gradient clipping on the insertion side units that a mask drives further than the original image did hand no
    gradient on. `extras`: `loss` (batch, steps), `measured` (batch, measurements) areas, `insertion`, `deletion` (batch, points) of the
    result, `masks` (batch, shown, height, width), `start` (batch,) the area of the start.

    Parameters:
        variant: "score_map": one map, all masks its thresholds; "masks": one mask for each share; "cumulative": masks that only grow.
        quantiles: Shares p_i, one in each equal part of (0, 1), at random places in it at each step; or the shares themselves.
        steps: Of Adam, shared out among the grids.
        grids: Cells along each side of the map, from coarse to fine.
        learning_rate: Of Adam, in units of the map's standard deviation.
        temperature: Of the smooth quantile at the first and the last step, in the same units; it falls geometrically.
        deletion: Weight w of the deletion side.
        start: "best": by the measured area the best of Grad-CAM, LayerCAM and blurred integrated gradients; "grad_cam", "layer_cam" or
            "integrated_gradients"; "noise".
        also: Further fill-ins, as the command line writes baselines: each mask of each step takes one of all at random, so that the map
            is tuned to none.
        rule: Clip gradients: "none", "fgvis" or "directional"; see `counterpoint.activations.ClipRule`.
        clipped: At which activations: None for all, a whole number for the last so many, or names of layers.
        both_sides: Clip on the deletion side too, which an image that is to lose its class must leave its pathway for.
        penalty: Price of excess activation on the insertion side, in units of |f(x) - f(x')|; a variant of ours.
        jitter: Move each mask's image by up to so many pixels, at random.
        flip: Mirror at random.
        measure: Steps of the measured curves.
        every: Measure after so many steps.
        patience: Stop a grid when so many measurements in a row brought no image anything.
        seed: Of all draws.

    Raises:
        InputError: inputs that are no images; several draws, or a baseline that only fills, which has no gradient.
        ShapeError: the inputs are no images.
        LayerError: a start that needs a layer, of a score without a module or of a network without maps.

    Reference: Zhang and McMillan 2025, arXiv:2509.04588. The form of the smooth quantile, variants, grids, schedules, the start, and where
        clipping applies are our reconstruction: none of them is published.
    """

    variant: Variant = "score_map"
    quantiles: int | tuple[float, ...] = 6
    steps: int = 90
    grids: tuple[int, ...] = (7, 14, 28)
    learning_rate: float = 0.1
    temperature: tuple[float, float] = (0.5, 0.1)
    deletion: float = 1.0
    start: str = "best"
    also: tuple[str, ...] = ()
    rule: ClipRule = "fgvis"
    clipped: Layers = None
    both_sides: bool = False
    penalty: float = 0.0
    jitter: int = 0
    flip: bool = False
    measure: int = 14
    every: int = 15
    patience: int = 3
    seed: int = 0
    claim: ClassVar[Claim] = "importance"
    level: ClassVar[Level] = "input"
    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if self.variant not in VARIANTS:
            raise InputError(f"variant must be one of {', '.join(VARIANTS)}, got {self.variant!r}.")
        if isinstance(self.quantiles, int):
            check_range("quantiles", self.quantiles, 2)
        else:
            shares = tuple(self.quantiles)
            if len(shares) < 2 or list(shares) != sorted(set(shares)) or not 0 < shares[0] <= shares[-1] < 1:
                raise InputError(
                    f"quantiles must rise within (0, 1), at least two of them, got {self.quantiles!r}."
                )
        for name, least in (("steps", 1), ("measure", 2), ("every", 1), ("patience", 1)):
            check_range(name, getattr(self, name), least)
        for name in ("deletion", "penalty", "jitter"):
            check_range(name, getattr(self, name), 0)
        check_range("learning_rate", self.learning_rate, 0, open_low=True)
        if not self.grids or list(self.grids) != sorted(set(self.grids)) or self.grids[0] < 2:
            raise InputError(f"grids must rise from at least 2 cells, got {self.grids!r}.")
        first, last = self.temperature
        if not first >= last > 0:
            raise InputError(f"temperature must fall and stay above 0, got {self.temperature!r}.")
        if self.start not in _STARTS:
            raise InputError(f"start must be one of {', '.join(_STARTS)}, got {self.start!r}.")
        if (self.jitter or self.flip) and (self.rule != "none" or self.penalty):
            raise InputError(
                "jitter and flip move the image away from the activations it is held against: give rule='none' and no penalty."
            )
        if self.rule not in CLIP_RULES:
            raise InputError(f"rule must be one of {', '.join(CLIP_RULES)}, got {self.rule!r}.")

    @classmethod
    def quick(cls) -> "FEI":
        """Fewer shares and steps, one measurement for each grid: about a fifth of the default's cost."""
        return cls(quantiles=4, steps=24, grids=(7, 14), every=12, measure=10)

    def __call__(self, comparison: Comparison) -> Outcome:
        """Gradients for each image: 2 * quantiles * steps, and what the start costs; forwards for the measured curves."""
        check_images("inputs", comparison.inputs)
        if comparison.draws > 1:
            raise InputError(
                f"FEI fills with one image at a time, but {comparison.baseline!r} has {comparison.draws} draws."
            )
        if comparison.baseline.fill_only:
            raise InputError(
                f"FEI needs a fill-in with an image, between which and the input a mask can blend, but {comparison.baseline!r} only fills."
            )
        fills = self._fills(comparison)
        clipping = Clipping.of(comparison, self.rule, self.clipped, both_sides=self.both_sides)
        judged = by_probability(comparison)
        start = self._start(comparison, judged, fills)
        images = len(comparison.inputs)
        group = max(1, comparison.micro.rows // (2 * self._count))
        parts = []
        for first in range(0, images, group):
            chosen = torch.arange(first, min(first + group, images), device=comparison.inputs.device)
            with progress.stage(first, first + len(chosen), images, "fei"):
                parts.append(_Search(self, comparison, judged, fills, clipping, chosen, start[chosen]).run())
        saliency = torch.cat([part.best for part in parts])
        longest = max(part.losses.shape[1] for part in parts)
        measurements = max(part.areas.shape[1] for part in parts)
        return Outcome(
            values=on_channels(saliency, comparison),
            extras={
                "loss": torch.cat([_padded(part.losses, longest) for part in parts]),
                "measured": torch.cat([_padded(part.areas, measurements) for part in parts]),
                "insertion": torch.cat([part.curves.insertion for part in parts]),
                "deletion": torch.cat([part.curves.deletion for part in parts]),
                "masks": torch.cat([part.masks for part in parts]),
                "start": torch.cat([part.areas[:, 0] for part in parts]),
            },
        )

    @property
    def _count(self) -> int:
        return self.quantiles if isinstance(self.quantiles, int) else len(self.quantiles)

    def _shares(self, generator: torch.Generator) -> Float[Tensor, " quantiles"]:
        if isinstance(self.quantiles, int):
            return spread_shares(self.quantiles, generator)
        return torch.tensor(self.quantiles, dtype=torch.float64)

    def _fills(self, comparison: Comparison) -> Fills:
        found = [comparison.baseline_inputs]
        for text in self.also:
            baseline = spec.build("baseline", text).prepare(comparison.bound, comparison.inputs)
            if baseline.draws > 1 or baseline.fill_only:
                raise InputError(
                    f"also must name fill-ins with one image each, but {text!r} has {baseline.draws} or only fills."
                )
            found.append(baseline(comparison.inputs))
        return torch.stack(found)

    def _start(
        self, comparison: Comparison, judged: Comparison, fills: Fills
    ) -> Float[Tensor, "images height width"]:
        """The map to start from, for each image."""
        if self.start == "noise":
            generator = torch.Generator().manual_seed(self.seed)
            noise = torch.randn(1, *comparison.inputs.shape[2:], generator=generator)
            return noise.to(comparison.inputs).expand(len(comparison.inputs), -1, -1)
        names = ("grad_cam", "layer_cam", "integrated_gradients") if self.start == "best" else (self.start,)
        found, areas = [], []
        for k, name in enumerate(names):
            with progress.stage(k, k + 1, len(names), f"start {name}"):
                saliency = _cheap_map(comparison, name, required=self.start != "best")
                if saliency is None:
                    continue
                found.append(saliency)
                if len(names) > 1:
                    measured = hard_curves(
                        judged.scores,
                        comparison.inputs,
                        saliency,
                        fills,
                        steps=self.measure,
                        at_once=comparison.micro.rows,
                        seed=self.seed,
                    )
                    areas.append(measured.area)
        if len(found) == 1:
            return found[0]
        best = torch.stack(areas).argmax(0)
        return torch.stack(found)[best, torch.arange(len(best), device=best.device)]


_STARTS = ("best", "grad_cam", "layer_cam", "integrated_gradients", "noise")


@dataclass(eq=False)
class _Found:
    best: Float[Tensor, "images height width"]
    losses: Float[Tensor, "images steps"]
    areas: Float[Tensor, "images measurements"]
    curves: Curves
    masks: Float[Tensor, "images shown height width"]


class _Search:
    """The optimisation of a few images' maps."""

    def __init__(
        self,
        settings: FEI,
        comparison: Comparison,
        judged: Comparison,
        fills: Fills,
        clipping: Clipping,
        chosen: Int[Tensor, " images"],
        start: Float[Tensor, "images height width"],
    ) -> None:
        self.settings, self.comparison, self.judged, self.clipping = settings, comparison, judged, clipping
        self.fills, self.chosen, self.start = fills, chosen, start
        spread = (comparison.score - comparison.baseline_score)[chosen].abs()
        self.unit = spread.clamp_min(1e-12)
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.optimised = comparison
        if settings.penalty:
            price = torch.zeros_like(comparison.score)
            price[chosen] = settings.penalty * self.unit
            runner = penalised(comparison, price, settings.clipped)
            self.optimised = replace(comparison, evaluation=replace(comparison.evaluation, runner=runner))

    def run(self) -> _Found:
        settings = self.settings
        best = self.start
        curves = self._curves(best)
        areas, losses = [curves.area], []
        side = min(best.shape[1:])
        grids = tuple(dict.fromkeys(min(cells, side) for cells in settings.grids))
        masks = masks_of(settings.variant, best, cells=grids[0], quantiles=settings._count)
        share = max(1, settings.steps // len(grids))
        done = 0
        for grid, cells in enumerate(grids):
            if grid:
                masks = masks.refined(cells)
            optimiser = torch.optim.Adam(masks.leaves(), lr=settings.learning_rate)
            # Each image stops by its own curve: its map is the same alone and in company.
            idle = torch.zeros(len(best), dtype=torch.long, device=best.device)
            for step in range(share):
                active = (idle < settings.patience).nonzero().flatten()
                losses.append(self._step(masks, optimiser, active, done / max(1, settings.steps - 1)))
                done += 1
                progress.advance(done, settings.steps, "fei")
                if (step + 1) % settings.every == 0 or step + 1 == share:
                    saliency = masks.saliency()
                    here = self._curves(saliency)
                    better = (here.area > curves.area) & (idle < settings.patience)
                    best = torch.where(better[:, None, None], saliency, best)
                    curves = Curves(
                        torch.where(better[:, None], here.insertion, curves.insertion),
                        torch.where(better[:, None], here.deletion, curves.deletion),
                    )
                    areas.append(here.area)
                    idle = torch.where(better, 0, idle + 1)
                    if bool((idle >= settings.patience).all()):
                        break
        shares = spread_shares(_SHOWN, None).expand(len(best), -1)
        shown = masks_of("score_map", best, cells=max(best.shape[1:]), quantiles=_SHOWN)
        with torch.no_grad():
            pictures = shown.at(shares, settings.temperature[1])
        return _Found(best.detach(), torch.stack(losses, 1), torch.stack(areas, 1), curves, pictures)

    def _step(
        self,
        masks: Masks,
        optimiser: torch.optim.Optimizer,
        active: Int[Tensor, " active"],
        progressed: float,
    ) -> Float[Tensor, " images"]:
        """One step for the images that have not stopped; their losses, NaN for the others."""
        settings = self.settings
        first, last = settings.temperature
        temperature = first * (last / first) ** min(1.0, progressed)
        # The same draws for every image.
        shares = settings._shares(self.generator).expand(len(self.chosen), -1)
        quantiles = shares.shape[1]
        drawn = torch.randint(len(self.fills), (quantiles,), generator=self.generator)
        with torch.inference_mode(False), torch.enable_grad():
            kept = masks.at(shares, temperature)[active]
            number = active.repeat_interleave(quantiles)
            image = self.chosen[number]
            which = drawn.to(image.device).repeat(len(active))
            x, fill = self.comparison.inputs[image], self.fills[which, image]
            alpha = kept.flatten(0, 1).unsqueeze(1).to(x)
            sides = [(alpha, True, 1.0)]
            if settings.deletion:
                sides.append((1 - alpha, False, -settings.deletion))
            value = torch.zeros(len(self.chosen), device=kept.device, dtype=self.unit.dtype)
            surrogate = masks.penalty(shares, temperature) * len(self.chosen)
            for amount, insertion, weight in sides:
                points = self._moved(torch.lerp(fill, x, amount))
                scored = self.optimised if insertion else self.comparison
                scores, gradient = scored.scores_and_gradients(
                    points.detach(), image, under=self.clipping.under(insertion=insertion)
                )
                scale = weight / (quantiles * self.unit[number])
                value = value.index_add(0, number, scale * scores.to(scale))
                # Downhill for the optimiser is uphill for the score.
                surrogate = surrogate - (points * scale.view(-1, 1, 1, 1).to(gradient) * gradient).sum()
            found = torch.autograd.grad(surrogate, masks.leaves())
        kept_as_is = [leaf.detach().clone() for leaf in masks.leaves()]
        for leaf, gradient in zip(masks.leaves(), found, strict=True):
            leaf.grad = gradient
        optimiser.step()
        optimiser.zero_grad()
        stopped = torch.ones(len(self.chosen), dtype=torch.bool, device=active.device)
        stopped[active] = False
        with torch.no_grad():
            for leaf, before in zip(masks.leaves(), kept_as_is, strict=True):
                leaf[stopped] = before[stopped]
        return (-value).masked_fill(stopped, math.nan).detach()

    def _moved(
        self, points: Float[Tensor, "rows channel height width"]
    ) -> Float[Tensor, "rows channel height width"]:
        if self.settings.jitter:
            reach = 2 * self.settings.jitter + 1
            down, right = (
                torch.randint(reach, (2,), generator=self.generator) - self.settings.jitter
            ).tolist()
            points = points.roll((down, right), (2, 3))
        if self.settings.flip and int(torch.randint(2, (), generator=self.generator)):
            points = points.flip(3)
        return points

    def _curves(self, saliency: Float[Tensor, "images height width"]) -> Curves:
        def scores(points: Tensor, image: Tensor) -> Tensor:
            return self.judged.scores(points, self.chosen[image])

        return hard_curves(
            scores,
            self.comparison.inputs[self.chosen],
            saliency,
            self.fills[:, self.chosen],
            steps=self.settings.measure,
            at_once=self.comparison.micro.rows,
            seed=self.settings.seed,
        )


def _cheap_map(
    comparison: Comparison, name: str, *, required: bool
) -> Float[Tensor, "images height width"] | None:
    """A map that costs little, smoothed where it is one of pixels; None where it cannot be had and is not required.

    Raises:
        LayerError: it is required, and the network has no layer for it.
    """
    # Called, not explained: what the start costs is counted with the rest.
    if name == "integrated_gradients":
        saliency = IntegratedGradients(rule=Midpoint(_START_NODES))(comparison).values.sum(1)
        side = min(saliency.shape[1:])
        return Blur(sigma=max(0.5, _SMOOTH * side))(saliency.unsqueeze(1))[:, 0]
    method = GradCAM() if name == "grad_cam" else LayerCAM()
    try:
        if not isinstance(comparison.bound, ModuleScore):
            raise LayerError(
                f"start '{name}' needs a score that knows its module, such as cp.logit(module, ...); got a callable."
            )
        layer = default_cam_layer(comparison.bound.module, comparison.inputs[:1])
        maps = method(comparison.at(layer)).values.sum(1, keepdim=True)
        size = comparison.inputs.shape[2:]
        return interpolate(maps, size=tuple(size), mode="bilinear", align_corners=False)[:, 0]
    except LayerError:
        if required:
            raise
        return None


def _padded(numbers: Float[Tensor, "images some"], length: int) -> Float[Tensor, "images length"]:
    return pad(numbers, (0, length - numbers.shape[1]), value=math.nan)
