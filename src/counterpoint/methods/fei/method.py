"""FEI: a map whose insertion and deletion curves are optimised, with gradients that keep to the network's own pathway."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate, pad

from counterpoint import progress, spec
from counterpoint.activations import CLIP_RULES, ClipRule, Layers
from counterpoint.baselines.blurred import Blur
from counterpoint.checks import check_images, check_range
from counterpoint.comparison import Comparison
from counterpoint.default_layers import default_map_layer
from counterpoint.errors import InputError, LayerError
from counterpoint.methods.cam import GradCAM, LayerCAM, check_places
from counterpoint.methods.coalitions import on_channels
from counterpoint.methods.fei.masks import VARIANTS, Variant
from counterpoint.methods.fei.pathway import Clipping
from counterpoint.methods.fei.quantiles import spread_shares
from counterpoint.methods.fei.search import Found, Search
from counterpoint.methods.measured import Judge
from counterpoint.methods.path import IntegratedGradients
from counterpoint.metrics.perturbation import Replacement
from counterpoint.protocols import Baseline, Claim, Level, ModuleScore, Outcome
from counterpoint.quadrature import Midpoint

# Of the blur that a map at the pixels gets before it serves as a start, in units of the image's side.
_SMOOTH = 1 / 16
_START_NODES = 8
# In each step, by default: thresholds of one map, or numbers of their own for each share.
_SHARES, _OWN_SHARES = 2, 6
# Of all the work, to show progress by.
_START_SHARE = 0.1

Images = Float[Tensor, "batch channel height width"]


@dataclass(frozen=True)
class FEI:
    """Faithfulness by optimisation: the insertion and deletion curves themselves are optimised, through smooth quantiles of a score map.

    Formula: minimise -(1/N) sum_i [ f(a_i x + (1 - a_i) r) - w f((1 - a_i) x + a_i r) ] / |f(x) - f(x')|, a_i the smooth mask of share p_i

    Values: (batch, channel, height, width), an importance: the score map (variants "masks", "cumulative": the mean mask), the one whose
    measured hard insertion - deletion area was the largest on the way, the start included, so that it is never worse than its start by
    that measure. With a rule of gradient clipping units that a mask drives further than the original image did hand no gradient on.
    `extras`: `loss` (batch, steps), `measured` (batch, measurements) areas, `insertion`, `deletion` (batch, points) of the
    result, `masks` (batch, shown, height, width), `start_map` (batch, height, width) and `start` (batch,) its area, `largest_gradient`
    (batch,), 0 where neither the score nor its price had one: the map is its start, on some grid, or 0 where nothing changes the score.

    Parameters:
        variant: "score_map": one map, all masks its thresholds; "masks": one mask for each share; "cumulative": masks that only grow.
        quantiles: Shares p_i, one in each equal part of (0, 1), at random places in it at each step; or the shares themselves. None: 2
            with "score_map", whose masks are all thresholds of one map, and 6 with the others, which have numbers of their own for each.
        steps: Of Adam, shared out among the grids.
        grids: Cells along each side of the map, from coarse to fine.
        learning_rate: Of Adam, in units of the map's standard deviation.
        temperature: Of the smooth quantile at the first and the last step, in the same units; it falls geometrically.
        deletion: Weight w of the deletion side.
        start: "best": by the measured area the best of Grad-CAM, LayerCAM and blurred integrated gradients; "grad_cam", "layer_cam" or
            "integrated_gradients"; "noise".
        also: Further fill-ins, as the command line writes baselines: each mask of each step takes one of all at random, so that the map
            is tuned to none.
        rule: Clip gradients on the insertion side: "none", "fgvis" or "directional"; see `counterpoint.activations.ClipRule`. Not the
            default: it keeps masks nearer to the network's own pathway, and costs area.
        clipped: At which activations: None for all, a whole number for the last so many, or names of layers.
        tolerance: How far outside its interval a unit may be before it is clipped, as a share of |h'| + root mean square of the activation;
            None for that of `counterpoint.activations.Clip`, which forgives rounding alone.
        overshoot: How much further than in the original an active unit may go before it is clipped, as a share of that; silent ones stay
            silent. Clipping costs less area with it, and shuts other classes out as well. Ours.
        both_sides: Clip on the deletion side too, which an image that is to lose its class must leave its pathway for.
        penalty: Price of seam-free excess activation on the insertion side (what the fill-ins bring along; the mask's edges are free),
            mean over activations, in units of |f(x) - f(x')|; no rule clips its gradient. A variant of ours; with a rule it takes half
            as many gradients more.
        priced: Which activations the price counts, as for `clipped`.
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
    quantiles: int | tuple[float, ...] | None = None
    steps: int = 150
    grids: tuple[int, ...] = (14, 28)
    learning_rate: float = 0.3
    temperature: tuple[float, float] = (0.5, 0.1)
    deletion: float = 1.0
    start: str = "best"
    also: tuple[str, ...] = ()
    rule: ClipRule = "none"
    clipped: Layers = None
    tolerance: float | None = None
    overshoot: float = 0.0
    both_sides: bool = False
    penalty: float = 0.0
    priced: Layers = None
    jitter: int = 0
    flip: bool = False
    measure: int = 14
    every: int = 25
    patience: int = 3
    seed: int = 0
    claim: ClassVar[Claim] = "importance"
    level: ClassVar[Level] = "input"
    version: ClassVar[int] = 2

    def __post_init__(self) -> None:
        if self.variant not in VARIANTS:
            raise InputError(f"variant must be one of {', '.join(VARIANTS)}, got {self.variant!r}.")
        if isinstance(self.quantiles, int):
            check_range("quantiles", self.quantiles, 2)
        elif self.quantiles is not None:
            shares = tuple(self.quantiles)
            if len(shares) < 2 or list(shares) != sorted(set(shares)) or not 0 < shares[0] <= shares[-1] < 1:
                raise InputError(
                    f"quantiles must rise within (0, 1), at least two of them, got {self.quantiles!r}."
                )
        for name, least in (("steps", 1), ("measure", 2), ("every", 1), ("patience", 1)):
            check_range(name, getattr(self, name), least)
        for name in ("deletion", "penalty", "jitter", "overshoot"):
            check_range(name, getattr(self, name), 0)
        if self.tolerance is not None:
            check_range("tolerance", self.tolerance, 0)
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
        """Half of the steps, one measurement for each grid, of fewer points: about half of the default's cost."""
        return cls(steps=76, every=38, measure=10)

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
        comparison = comparison.faster()
        replacements = self._replacements(comparison)
        fills = torch.stack([image for _, image in replacements])
        clipping = Clipping.of(
            comparison,
            self.rule,
            self.clipped,
            tolerance=self.tolerance,
            overshoot=self.overshoot,
            both_sides=self.both_sides,
        )
        judge = replace(
            Judge.of(comparison, steps=self.measure, seed=self.seed).by_probability(),
            fills=tuple(Replacement(baseline=each, whole=image) for each, image in replacements),
        )
        with progress.stage(0, _START_SHARE, 1, "fei"):
            start = self._start(comparison, judge)
        images = len(comparison.inputs)
        group = max(1, comparison.micro.rows // (2 * self.count))
        parts = []
        for first in range(0, images, group):
            chosen = torch.arange(first, min(first + group, images), device=comparison.inputs.device)
            begun, ended = (
                _START_SHARE + (1 - _START_SHARE) * done / images for done in (first, first + len(chosen))
            )
            with progress.stage(begun, ended, 1, "fei"):
                parts.append(Search(self, comparison, judge, fills, clipping, chosen, start[chosen]).run())
        saliency = torch.cat([part.best for part in parts])
        return Outcome(
            values=on_channels(saliency, comparison), extras={**_extras(parts), "start_map": start}
        )

    @property
    def count(self) -> int:
        """How many shares there are."""
        if self.quantiles is None:
            return _SHARES if self.variant == "score_map" else _OWN_SHARES
        return self.quantiles if isinstance(self.quantiles, int) else len(self.quantiles)

    def shares(self, generator: torch.Generator) -> Float[Tensor, " quantiles"]:
        """The shares of one step."""
        if self.quantiles is None or isinstance(self.quantiles, int):
            return spread_shares(self.count, generator)
        return torch.tensor(self.quantiles, dtype=torch.float64)

    def _replacements(self, comparison: Comparison) -> list[tuple[Baseline, Images]]:
        """The comparison's baseline and the further fill-ins, each with its images."""
        found = [(comparison.baseline, comparison.baseline_inputs)]
        for text in self.also:
            baseline = spec.build("baseline", text).prepare(comparison.bound, comparison.inputs)
            if baseline.draws > 1 or baseline.fill_only:
                raise InputError(
                    f"also must name fill-ins with one image each, but {text!r} has {baseline.draws} or only fills."
                )
            found.append((baseline, baseline(comparison.inputs)))
        return found

    def _start(self, comparison: Comparison, judge: Judge) -> Float[Tensor, "images height width"]:
        """The map to start from, for each image."""
        if self.start == "noise":
            generator = torch.Generator().manual_seed(self.seed)
            noise = torch.randn(1, *comparison.inputs.shape[2:], generator=generator)
            return noise.to(comparison.inputs).expand(len(comparison.inputs), -1, -1)
        names = ("grad_cam", "layer_cam", "integrated_gradients") if self.start == "best" else (self.start,)
        found, areas = [], []
        for k, name in enumerate(names):
            with progress.stage(k, k + 1, len(names), f"start {name}"):
                with progress.stage(0, 1, 2):
                    saliency = _cheap_map(comparison, name, required=self.start != "best")
                if saliency is None:
                    continue
                found.append(saliency)
                if len(names) > 1:
                    with progress.stage(1, 2, 2):
                        areas.append(judge.curves(saliency).area)
        if len(found) == 1:
            return found[0]
        best = torch.stack(areas).argmax(0)
        return torch.stack(found)[best, torch.arange(len(best), device=best.device)]


_STARTS = ("best", "grad_cam", "layer_cam", "integrated_gradients", "noise")


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
        layer = default_map_layer(comparison.bound.module, comparison.inputs[:1])
        there = comparison.at(layer)
        size = (comparison.inputs.shape[2], comparison.inputs.shape[3])
        (maps,) = check_places(there).maps(method(there).values)
        return interpolate(maps.sum(1, keepdim=True), size=size, mode="bilinear", align_corners=False)[:, 0]
    except LayerError:
        if required:
            raise
        return None


def _extras(parts: Sequence[Found]) -> dict[str, Tensor]:
    """What came of the searches of some images each, beside their maps; numbers that a search did not come to are NaN."""
    return {
        "loss": _padded([part.losses for part in parts]),
        "measured": _padded([part.areas for part in parts]),
        "insertion": torch.cat([part.curves.insertion for part in parts]),
        "deletion": torch.cat([part.curves.deletion for part in parts]),
        "masks": torch.cat([part.masks for part in parts]),
        "start": torch.cat([part.areas[:, 0] for part in parts]),
        "largest_gradient": torch.cat([part.largest_gradient for part in parts]),
    }


def _padded(numbers: Sequence[Float[Tensor, "images some"]]) -> Float[Tensor, "images longest"]:
    longest = max(each.shape[1] for each in numbers)
    return torch.cat([pad(each, (0, longest - each.shape[1]), value=math.nan) for each in numbers])
