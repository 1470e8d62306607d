"""The search for the maps of a few images: steps of Adam from grid to grid, the best kept by the measured curve."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from counterpoint import progress
from counterpoint.comparison import Comparison
from counterpoint.methods.fei.masks import Masks, masks_of
from counterpoint.methods.fei.pathway import Clipping, penalised
from counterpoint.methods.fei.quantiles import spread_shares
from counterpoint.methods.measured import HardCurves, Judge

if TYPE_CHECKING:
    from counterpoint.methods.fei.method import FEI

Fills = Float[Tensor, "fills images channel height width"]

_SHOWN = 5


@dataclass(eq=False)
class Found:
    """What came of a search."""

    best: Float[Tensor, "images height width"]
    losses: Float[Tensor, "images steps"]
    areas: Float[Tensor, "images measurements"]
    curves: HardCurves
    masks: Float[Tensor, "images shown height width"]
    largest_gradient: Float[Tensor, " images"]
    """Of what was optimised, by a pixel; 0 where it never had one."""


class Search:
    """The optimisation of a few images' maps."""

    def __init__(
        self,
        settings: "FEI",
        comparison: Comparison,
        judge: Judge,
        fills: Fills,
        clipping: Clipping,
        chosen: Int[Tensor, " images"],
        start: Float[Tensor, "images height width"],
    ) -> None:
        self.settings, self.comparison, self.judge, self.clipping = settings, comparison, judge, clipping
        self.fills, self.chosen, self.start = fills, chosen, start
        spread = (comparison.score - comparison.baseline_score)[chosen].abs()
        self.unit = spread.clamp_min(1e-12)
        self.largest = torch.zeros_like(self.unit)
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.priced: Comparison | None = None
        if settings.penalty:
            price = torch.zeros_like(comparison.score)
            price[chosen] = settings.penalty * self.unit
            self.priced = penalised(comparison, price, fills, settings.priced, alone=settings.rule != "none")

    def run(self) -> Found:
        """All steps; what came of them."""
        settings = self.settings
        best = self.start
        curves = self._curves(best, 0)
        areas, losses = [curves.area], []
        side = min(best.shape[1:])
        grids = tuple(dict.fromkeys(min(cells, side) for cells in settings.grids))
        masks = masks_of(settings.variant, best, cells=grids[0], quantiles=settings.count)
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
                    here = self._curves(saliency, done)
                    better = (here.area > curves.area) & (idle < settings.patience)
                    best = torch.where(better[:, None, None], saliency, best)
                    curves = here.where(better, curves)
                    areas.append(here.area)
                    idle = torch.where(better, 0, idle + 1)
                    if bool((idle >= settings.patience).all()):
                        break
        shares = spread_shares(_SHOWN, None).expand(len(best), -1)
        shown = masks_of("score_map", best, cells=max(best.shape[1:]), quantiles=_SHOWN)
        with torch.no_grad():
            pictures = shown.at(shares, settings.temperature[1])
        # An order that neither a slope nor a curve speaks for would be that of the noise it may have started from.
        flat = (self.largest == 0) & (curves.area == 0)
        return Found(
            best.detach().masked_fill(flat.view(-1, 1, 1), 0.0),
            torch.stack(losses, 1),
            torch.stack(areas, 1),
            curves,
            pictures,
            self.largest,
        )

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
        shares = settings.shares(self.generator).expand(len(self.chosen), -1)
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
                scores, gradient = self._scored(points.detach(), image, insertion=insertion)
                scale = weight / (quantiles * self.unit[number])
                value = value.index_add(0, number, scale * scores.to(scale))
                steepest = gradient.abs().reshape(len(active), -1).amax(1).to(self.largest)
                self.largest[active] = torch.maximum(self.largest[active], steepest)
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

    def _scored(
        self,
        points: Float[Tensor, "rows channel height width"],
        image: Int[Tensor, " rows"],
        *,
        insertion: bool,
    ) -> tuple[Float[Tensor, " rows"], Float[Tensor, "rows channel height width"]]:
        """Scores, less the price on the insertion side, and gradients; clipped are those of the score."""
        under = self.clipping.under(insertion=insertion)
        if not insertion or self.priced is None:
            return self.comparison.scores_and_gradients(points, image, under=under)
        if self.settings.rule == "none":
            return self.priced.scores_and_gradients(points, image)
        scores, gradient = self.comparison.scores_and_gradients(points, image, under=under)
        paid, downhill = self.priced.scores_and_gradients(points, image)
        return scores + paid, gradient + downhill

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

    def _curves(self, saliency: Float[Tensor, "images height width"], done: int) -> HardCurves:
        with progress.stage(done, done, self.settings.steps, "fei"):
            return self.judge.curves(saliency, self.chosen)
