"""Integrated gradients along the way that brings what the network makes of the input to what it makes of the baseline."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from counterpoint import progress
from counterpoint.batching import in_micro_batches
from counterpoint.checks import check_range
from counterpoint.comparison import Comparison
from counterpoint.cut import open_cut
from counterpoint.errors import InputError
from counterpoint.evaluation import Evaluation
from counterpoint.methods.arithmetic import as_column, exact
from counterpoint.methods.guided_path import GradientAt
from counterpoint.protocols import Claim, Level, ModuleScore, Outcome

Represent = Callable[[Tensor, Tensor], Tensor]
"""Points (rows, *features), and which of the inputs each belongs to, -> (rows, *representation)."""

# The path ends where this share of the first squared distance is left (1 % of the distance): closer, its direction is rounding.
_THERE = 1e-4
# ... or where steps this much shorter than the first one still bring it no closer.
_SHORTEST = 2.0**-10


@dataclass(frozen=True)
class IG2:
    """The gradient gathered while the input walks, by gradient descent, to where the network takes it for the baseline.

    Formula: sum over j of (x_j - x_j+1) * (f'(x_j) + f'(x_j+1)) / 2, x_0 = x, x_j+1 = x_j - step * g / |g|, g = d |r(x_j) - r(x')|^2 / dx

    Values: (batch, *features), signed, in units of the score; shares of f(x) - f(the end of the path), an input close to x with a
    representation r close to that of the comparison's baseline, which stands for the published reference image of another class.

    Published are `steps` steps of one length. Ours are halved where a whole one would lead away from the reference, and end at 1 % of the
    first distance: near the end published steps go to and fro, and only add error. Two gradients for a step taken, one for a step
    refused; `extras["distance_left"]` is the share of the first distance that is left at the end.

    Parameters:
        representation: The layer that gives r, published is the one before the last linear layer; by default r is the model's output, or
            the score where it knows no module.
        steps: How many steps are tried at most.
        step: Length of a step, as the root of its mean square over all features: 0.0026 is the published one, 256 grey levels
            in all on 224 x 224 pixels.
        gradient_at: "ends" takes the mean of the gradients at both ends of a step, for one gradient more in all; "start" the one at its
            start, as published. On a photograph and EfficientNet-Lite0 the sum misses its own target by 85 % and 283 % of it.

    Raises:
        InputError: a representation where there is no module, or at a layer.
        UnknownNameError: no layer of that name.

    Reference: Zhuo and Ge 2024, arXiv:2406.10852; default representation and end of the path are ours.
    """

    representation: str | None = None
    steps: int = 201
    step: float = 0.0026
    gradient_at: GradientAt = "ends"
    claim: ClassVar[Claim] = "shares"
    level: ClassVar[Level] = "any"
    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_range("steps", self.steps, 1)
        check_range("step", self.step, 0.0, open_low=True)
        if self.gradient_at not in ("ends", "start"):
            raise InputError(f"gradient_at must be 'ends' or 'start', got {self.gradient_at!r}.")

    def __call__(self, comparison: Comparison) -> Outcome:
        """At most `steps` + 1 gradients of the distance and as many of the score for each image, and two forwards."""
        distance = self._distance(comparison)
        end = comparison.end
        low, high = _bounds(comparison)
        here, values = exact(end).clone(), torch.zeros_like(exact(end))
        left, slope = distance.scores_and_gradients(end)
        enough = _THERE * left
        longest = self.step * here[0].numel() ** 0.5
        first, slope, length = left.clone(), exact(slope), torch.full_like(left, longest)
        gradient = exact(comparison.gradients(end))
        for k in range(self.steps):
            norm = slope.flatten(1).norm(dim=1)
            going = ((left > enough) & (norm > 0) & (length >= _SHORTEST * longest)).nonzero().flatten()
            if not len(going):
                break
            unit = slope[going] / as_column(norm[going], here)
            tried = here[going] - as_column(length[going], here) * unit
            tried = torch.minimum(torch.maximum(tried, low[going]), high[going])
            found, slope_there = distance.scores_and_gradients(tried.to(end.dtype), going)
            closer = found < left[going]
            length[going[~closer]] /= 2
            taken = going[closer]
            if len(taken):
                before = gradient[taken]
                gradient[taken] = exact(comparison.gradients(tried[closer].to(end.dtype), taken))
                middle = before if self.gradient_at == "start" else (before + gradient[taken]) / 2
                values[taken] += (here[taken] - tried[closer]) * middle
                here[taken], left[taken], slope[taken] = (
                    tried[closer],
                    found[closer],
                    exact(slope_there[closer]),
                )
            progress.advance(k + 1, self.steps, "ig2")
        progress.advance(self.steps, self.steps, "ig2")
        return Outcome(
            values=values,
            reference="the end of the path, which the network takes for the baseline",
            own_target=comparison.score - comparison.scores(here.to(end.dtype)),
            stages={"quadrature": values.flatten(1).sum(1)},
            extras={"distance_left": (left / first.where(first > 0, 1.0)).sqrt()},
        )

    def _distance(self, comparison: Comparison) -> Evaluation:
        """The squared distance from the baseline's representation as a score, run and counted as the comparison's own."""
        represent = _represent(comparison, self.representation)
        image = torch.arange(len(comparison.end), device=comparison.end.device)
        with torch.no_grad():
            (reference,) = in_micro_batches(
                lambda points, image: (represent(points, image),),
                comparison.start,
                image,
                micro=comparison.micro,
            )
        comparison.tally.add_forwards(image)
        # The representation knows its place, so that the evaluation needs no cut.
        return replace(comparison.evaluation, runner=_Distance(represent, reference), cut=None)


@dataclass(frozen=True, eq=False)
class _Distance:
    """A score: the squared distance of a point's representation from its reference."""

    represent: Represent
    reference: Float[Tensor, "batch *representation"]

    def __call__(
        self, points: Float[Tensor, "rows *features"], image: Int[Tensor, " rows"]
    ) -> Float[Tensor, " rows"]:
        """Float32 at least."""
        difference = exact(self.represent(points, image)) - exact(self.reference[image])
        return difference.square().flatten(1).sum(1)


def _represent(comparison: Comparison, layer: str | None) -> Represent:
    """What the network makes of points in the space of the comparison: a layer's features, its output, or the score alone."""
    runner, cut, inputs = comparison.evaluation.runner, comparison.cut, comparison.inputs
    if layer is not None:
        if cut is not None or not isinstance(comparison.bound, ModuleScore):
            raise InputError(
                f"representation '{layer}' is a layer of the model: it needs a score that knows its module, explained at the input."
            )
        # Its features are read, never replaced: what passes by it does not matter.
        read = open_cut(comparison.bound.module, layer, inputs[:1], bypass="intervene")
        return lambda points, image: read.features(points)
    if not isinstance(runner, ModuleScore):
        return lambda points, image: runner(points, image).unsqueeze(1)
    module, score = runner.module, runner.read

    def outputs(points: Tensor, image: Tensor) -> Tensor:
        output = module(points) if cut is None else cut.head(points, inputs[image])
        return output if isinstance(output, Tensor) else score(output, image).unsqueeze(1)

    return outputs


def _bounds(comparison: Comparison) -> tuple[Tensor, Tensor]:
    """Between which values each image's path stays: pixels from 0 to 1, and as far as the image and its baseline go; features anywhere."""
    end, start = exact(comparison.end), exact(comparison.start)
    shape = (len(end), *[1] * (end.ndim - 1))
    if comparison.layer != "input":
        return end.new_full(shape, -torch.inf), end.new_full(shape, torch.inf)
    both = torch.cat([end.flatten(1), start.flatten(1)], 1)
    return both.amin(1).clamp(max=0.0).view(shape), both.amax(1).clamp(min=1.0).view(shape)
