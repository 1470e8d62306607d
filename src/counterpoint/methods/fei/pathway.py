"""What keeps a mask to the network's own pathway: clipped gradients, and a price on what the fill-in brings along."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from counterpoint.activations import Clip, ClipRule, Layers, Pathway, Watch
from counterpoint.activations.modes import Under
from counterpoint.comparison import Comparison
from counterpoint.errors import InputError
from counterpoint.protocols import BoundScore


@dataclass(frozen=True, eq=False)
class Clipping:
    """Makes the contexts in which gradients are clipped, for each side of the curves."""

    pathway: Pathway | None
    rule: ClipRule
    tolerance: float | None
    overshoot: float
    both_sides: bool

    @classmethod
    def of(
        cls,
        comparison: Comparison,
        rule: ClipRule,
        layers: Layers,
        *,
        tolerance: float | None = None,
        overshoot: float = 0.0,
        both_sides: bool = False,
    ) -> "Clipping":
        """Record the original images; a network without activations has none to clip by.

        Raises:
            InputError: the network has fewer activations than are asked for.
            UnknownNameError: no such layer.
        """
        settings = (rule, tolerance, overshoot, both_sides)
        if rule == "none":
            return cls(None, *settings)
        try:
            return cls(_recorded(comparison, layers, "unit"), *settings)
        except InputError:
            if layers is not None:
                raise
            return cls(None, *settings)  # all of no activations

    def under(self, *, insertion: bool) -> Under:
        """For gradients of the insertion or the deletion side."""
        pathway = self.pathway
        if pathway is None or not (insertion or self.both_sides):
            return nullcontext
        aim = "maximise" if insertion else "minimise"

        def make(image: Tensor) -> AbstractContextManager[Any]:
            return Clip(
                pathway,
                image,
                rule=self.rule,
                aim=aim,  # type: ignore[arg-type]
                tolerance=self.tolerance,
                overshoot=self.overshoot,
            )

        return make


@dataclass(frozen=True, eq=False)
class Penalised:
    """A bound score minus a price on seam-free excess: f - price * mean over activations of S, of each row; or that price alone.

    S = sum_i [max(0, min(h_i(v), u_i) - max(0, h_i(x))) + max(0, min(0, h_i(x)) - max(h_i(v), d_i))] / sum_i |h_i(x)|, with u_i the most
    and d_i the least of 0, h_i(x) and h_i of the fill-ins: activity that the original image has not, as far as a fill-in alone has it.
    What lies beyond, at the edges of a mask, is free of charge.

    A variant of ours: nothing of the kind is published.
    """

    score: BoundScore
    pathway: Pathway
    reach: Mapping[int, tuple[Tensor, Tensor]]
    """d and u of each activation, (images, fold, *unit)."""
    price: Float[Tensor, " images"]
    """In units of the score."""
    alone: bool = False
    """Whether f is left out, so that its gradient can be clipped while that of the price is not."""

    def __call__(
        self, points: Float[Tensor, "rows *input"], image: Int[Tensor, " rows"]
    ) -> Float[Tensor, " rows"]:
        """The score of each row, minus its price."""
        found: list[Tensor] = []

        def look(watch: Watch, place: int, result: Tensor) -> None:
            least, most = (bound[watch.image].to(result) for bound in self.reach[place])
            here, original = watch.by_rows(result).clamp(least, most), watch.original(place).to(result)
            over = (here - original.clamp(min=0)).clamp_min(0) + (original.clamp(max=0) - here).clamp_min(0)
            size = original.abs().flatten(1).sum(1).clamp_min(torch.finfo(result.dtype).tiny)
            found.append(over.flatten(1).sum(1) / size)

        with Watch(self.pathway, image, look):
            scores = self.score(points, image)
        paid = self.price[image] * torch.stack(found).mean(0).to(scores)
        return -paid if self.alone else scores - paid


def penalised(
    comparison: Comparison,
    price: Float[Tensor, " images"],
    fills: Float[Tensor, "fills images channel height width"],
    layers: Layers = None,
    *,
    alone: bool = False,
) -> Comparison:
    """The comparison with a price on seam-free excess at these activations, beside its score or in the place of it.

    Raises:
        InputError: the network has no activations, or fewer than are asked for.
        UnknownNameError: no such layer.
    """
    pathway, *others = (_recorded(comparison, layers, "output", of) for of in (comparison.inputs, *fills))
    reach = {}
    for place, original in pathway.values.items():
        every = torch.stack([original, *(other.values[place] for other in others)])
        reach[place] = every.amin(0).clamp(max=0), every.amax(0).clamp(min=0)
    runner = Penalised(comparison.evaluation.runner, pathway, reach, price, alone)
    return replace(comparison, evaluation=replace(comparison.evaluation, runner=runner))


def _recorded(comparison: Comparison, layers: Layers, reading: Any, images: Tensor | None = None) -> Pathway:
    of = comparison.inputs if images is None else images
    run: Callable[[Under], Any] = lambda under: comparison.scores(of, under=under)  # noqa: E731
    module = getattr(comparison.evaluation.runner, "module", None)
    return Pathway.recorded(run, module, layers=layers, reading=reading)
