"""What a method costs, counted on paper: it is run as it is, but on made-up scores, so that the model itself hardly runs.

A method reaches the model through its comparison alone. There a stand-in answers with numbers that cost nothing, and counts as usual.
A method whose count depends on the numbers it is given is found out by giving it others.
"""

from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from counterpoint.batching import Tally
from counterpoint.bench.timing import within
from counterpoint.comparison import Comparison
from counterpoint.evaluation import Evaluation, Under
from counterpoint.protocols import Method


@dataclass(frozen=True)
class Count:
    """How often a method runs the model for one image."""

    gradients: int
    forwards: int
    prefixes: int

    def __add__(self, other: "Count") -> "Count":
        return Count(
            self.gradients + other.gradients, self.forwards + other.forwards, self.prefixes + other.prefixes
        )


@dataclass(frozen=True)
class Counted:
    """What a method costs."""

    count: Count
    exact: bool
    """Whether it is the same for every image; else a rough number, from the image that was tried."""


def counted(method: Method, comparison: Comparison, *, seconds: float = 10.0) -> Counted:
    """The cost of a method on the first image.

    A method that cannot work on made-up numbers, or whose cost depends on them, is run on the real ones.

    Args:
        method: Any.
        comparison: Of one image.
        seconds: A run that takes longer is broken off, and its cost taken from how far it had come.

    Raises:
        CounterpointError: the method does not work here.
    """
    found = []
    for linear in (False, True):
        try:
            whole, share, tally = _on_paper(method, comparison, linear, seconds)
        except Exception:  # whatever a method does with numbers that make no sense
            return _really(method, comparison, seconds)
        if not whole:
            return Counted(_scaled(tally, share), exact=False)
        found.append(_scaled(tally, 1.0))
    if found[0] == found[1]:
        return Counted(found[0], exact=True)
    real = _really(method, comparison, seconds)
    # Broken off, it would say less than the larger of what numbers on paper led to.
    return Counted(
        real.count if real.exact else max(found, key=lambda count: count.gradients + count.forwards),
        exact=False,
    )


def _on_paper(
    method: Method, comparison: Comparison, linear: bool, seconds: float
) -> tuple[bool, float, Tally]:
    tally = Tally(len(comparison.inputs))
    shown = PaperEvaluation(
        runner=_PaperScore(comparison.evaluation.runner, linear),
        inputs=comparison.inputs,
        cut=comparison.cut,
        micro=comparison.micro,
        tally=tally,
        linear=linear,
        end=comparison.end,
    )
    # Not through `explain`, which would count anew, and make an Attribution of numbers that mean nothing.
    ran = within(lambda: method(replace(comparison, evaluation=shown)), seconds)
    return ran.whole, ran.share, tally


def _really(method: Method, comparison: Comparison, seconds: float) -> Counted:
    tally = Tally(len(comparison.inputs))
    counting = replace(comparison, evaluation=replace(comparison.evaluation, tally=tally))
    ran = within(lambda: method(counting), seconds)
    return Counted(_scaled(tally, ran.share), exact=ran.whole)


def _scaled(tally: Tally, share: float) -> Count:
    return Count(*(round(int(each[0]) / share) for each in (tally.gradients, tally.forwards, tally.prefixes)))


@dataclass(frozen=True, kw_only=True, eq=False)
class PaperEvaluation(Evaluation):
    """Counts as an evaluation does, and answers with made-up numbers."""

    linear: bool
    end: Tensor

    def features(self, points: Tensor, image: Int[Tensor, " rows"] | None = None) -> Tensor:
        """The features of the inputs, whatever the points."""
        if self.cut is None:
            return points
        lead = points.shape[: points.ndim - self.inputs.ndim + 1]
        rows = points.reshape(-1, *self.inputs.shape[1:])
        chosen = torch.arange(len(rows)) % len(self.inputs) if image is None else image
        self.tally.add_prefixes(chosen)
        return self.end[chosen.to(self.end.device)].reshape(*lead, *self.end.shape[1:])

    def scores(
        self, points: Tensor, image: Int[Tensor, " rows"] | None = None, *, under: Under = nullcontext
    ) -> Float[Tensor, " rows"]:
        """Counted, and made up."""
        image = self._image(points, image)
        self.tally.add_forwards(image)
        return made_up(points, self.linear)

    def scores_and_gradients(
        self, points: Tensor, image: Int[Tensor, " rows"] | None = None, *, under: Under = nullcontext
    ) -> tuple[Tensor, Tensor]:
        """Counted, and made up."""
        image = self._image(points, image)
        self.tally.add_gradients(image)
        return made_up(points, self.linear), _wave(points)


@dataclass(frozen=True, eq=False)
class _PaperScore:
    """A bound score that is not asked."""

    score: Any
    linear: bool
    at_inputs: Tensor | None = field(default=None)

    def __call__(self, points: Tensor, image: Tensor) -> Tensor:
        return made_up(points, self.linear)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.score, name)

    @property
    def module(self) -> nn.Module:
        module: nn.Module = self.score.module
        return module

    def read(self, output: object, image: Tensor) -> Tensor:
        found: Tensor = self.score.read(output, image)
        return found

    def on(self, module: nn.Module) -> "_PaperScore":
        return self


def made_up(points: Tensor, linear: bool) -> Float[Tensor, " rows"]:
    """A number for each row that depends on what is in it: a weighted sum, which the gradient belongs to, or one that bends."""
    weighted = points.flatten(1).double() * _wave(points).flatten(1).double()
    found = weighted.sum(1) if linear else torch.sin(7 * weighted.mean(1)) + weighted.mean(1)
    return found.to(torch.promote_types(points.dtype, torch.float32))


def _wave(points: Tensor) -> Tensor:
    size = points[0].numel()
    wave = torch.cos(torch.arange(size, device=points.device, dtype=torch.float32) * 0.37)
    return wave.view(1, *points.shape[1:]).to(points.dtype).expand_as(points).clone()
