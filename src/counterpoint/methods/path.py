"""Path methods: gradients gathered on the way from the baseline to the input."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from counterpoint import progress
from counterpoint.checks import check_range
from counterpoint.comparison import Comparison
from counterpoint.errors import InputError
from counterpoint.protocols import Claim, Level, Outcome
from counterpoint.quadrature import Rule
from counterpoint.refinement import Refinement, Wanted

_DEFAULT_TOLERANCE = 0.01
# Bytes of maps that a refinement may keep; images beyond wait for their turn.
_KEPT_BYTES = 2**30


@dataclass(frozen=True)
class IntegratedGradients:
    """The gradient integrated along the straight path from the baseline to the input, to a tolerance.

    Formula: (x - x') * integral over t in [0, 1] of f'(x' + t (x - x'))

    Values: (batch, *features), signed, in units of the score; their sum is f(x) - f(x') but for the error of the
    quadrature, which is reported and never closed by rescaling.

    Without a rule the path is refined, image by image, where its error is largest, until three errors are small: the estimated distance
    of the map from the converged one (`value_tolerance`), what the pieces of the path miss of their own change of score
    (`path_tolerance`), and, twice in a row, the relative error of the sum (`tolerance`); or until `budget` gradients are spent,
    which `converged` says. The scheme is ours (counterpoint.refinement).

    Parameters:
        tolerance: Largest relative error of the sum; 0.01 if neither it nor a rule is given.
        rule: A fixed number of gradients instead, such as `gauss_legendre(50)`; no errors but the sum's are then known.
        value_tolerance: Largest estimated relative L1 error of the map.
        path_tolerance: Largest path error.
        budget: Most gradients for one image.

    Reference: Sundararajan et al. 2017, arXiv:1703.01365; any layer, explicit baseline and error after Cui and Fan 2026, arXiv:2605.22417.
    """

    tolerance: float | None = None
    rule: Rule | None = None
    value_tolerance: float = 0.1
    path_tolerance: float = 0.1
    budget: int = 256
    claim: ClassVar[Claim] = "shares"
    level: ClassVar[Level] = "any"
    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if self.tolerance is not None and self.rule is not None:
            raise InputError("give tolerance or rule, not both: a rule has a fixed number of nodes.")
        if self.tolerance is None and self.rule is None:
            object.__setattr__(self, "tolerance", _DEFAULT_TOLERANCE)
        if self.tolerance is not None:
            check_range("tolerance", self.tolerance, 0.0, open_low=True)
        check_range("value_tolerance", self.value_tolerance, 0.0, open_low=True)
        check_range("path_tolerance", self.path_tolerance, 0.0, open_low=True)
        check_range("budget", self.budget, Wanted.first)

    def __call__(self, comparison: Comparison) -> Outcome:
        """As many gradients as the tolerance needs, or as the rule has nodes; no forwards."""
        return _refined(comparison, self) if self.rule is None else _by_rule(comparison, self.rule)


def _by_rule(comparison: Comparison, rule: Rule) -> Outcome:
    end = comparison.end
    sums = torch.zeros(end.shape, dtype=_exact(end.dtype), device=end.device)
    places = torch.tensor(rule.nodes.places, dtype=torch.float64)
    weights = torch.tensor(rule.nodes.weights, dtype=torch.float64)
    done, total = 0, len(end) * len(places)
    while done < total:
        # Points are made for one micro-batch at a time, image by image: memory does not grow with the number of nodes.
        row = torch.arange(done, min(total, done + comparison.micro.rows))
        image, node = (row // len(places)).to(end.device), row % len(places)
        gradients = comparison.gradients(_points(comparison, places[node], image), image)
        sums.index_add_(0, image, _as_column(weights[node], sums) * gradients.to(sums.dtype))
        done += len(row)
        progress.advance(done, total, "integrated_gradients")
    return Outcome(values=_difference(comparison) * sums)


def _refined(comparison: Comparison, method: IntegratedGradients) -> Outcome:
    wanted = Wanted(
        value_error=method.value_tolerance,
        path_error=method.path_tolerance,
        relative_error=method.tolerance or _DEFAULT_TOLERANCE,
        budget=method.budget,
    )
    end = comparison.end
    floor = comparison.floor(torch.zeros_like(comparison.score)).tolist()
    difference = _difference(comparison)
    together = max(1, _KEPT_BYTES // (wanted.kept * difference[0].numel() * difference.element_size()))
    refinements = [Refinement(wanted, floor=each) for each in floor]
    for first in range(0, len(end), together):
        group = range(first, min(len(end), first + together))
        while active := [i for i in group if not refinements[i].finished]:
            _one_round(comparison, difference, refinements, active)
            progress.advance(
                sum(1.0 if r.finished else r.gradients / method.budget for r in refinements),
                len(end),
                "integrated_gradients",
            )
    exact = comparison.score

    def each(name: str) -> Tensor:
        return torch.tensor([getattr(r, name) for r in refinements], dtype=exact.dtype, device=exact.device)

    return Outcome(
        values=torch.stack([r.values for r in refinements]),
        path_error=each("path_error"),
        pieces=each("pieces").long(),
        value_error=each("value_error"),
        path_variation=each("variation"),
        converged=each("converged").bool(),
    )


def _one_round(
    comparison: Comparison, difference: Tensor, refinements: list[Refinement], active: list[int]
) -> None:
    """Evaluate what the active images want, in common micro-batches, and hand it to each."""
    counts = torch.tensor([len(refinements[i].places) for i in active])
    image = torch.tensor(active).repeat_interleave(counts).to(comparison.end.device)
    places = torch.tensor([t for i in active for t in refinements[i].places], dtype=torch.float64)
    scores, maps = [], []
    for first in range(0, len(places), comparison.micro.rows):
        rows = slice(first, first + comparison.micro.rows)
        here = image[rows]
        score, gradient = comparison.scores_and_gradients(_points(comparison, places[rows], here), here)
        scores.append(score)
        maps.append(gradient.to(difference.dtype) * difference[here])
    all_scores, all_maps = torch.cat(scores).tolist(), torch.cat(maps)
    first = 0
    for i, count in zip(active, counts.tolist(), strict=True):
        refinements[i].add(all_scores[first : first + count], all_maps[first : first + count])
        first += count


def _points(
    comparison: Comparison, places: Float[Tensor, " rows"], image: Int[Tensor, " rows"]
) -> Float[Tensor, "rows *features"]:
    """Points on the straight path, each on its image's."""
    start, end = comparison.start[image], comparison.end[image]
    # Written as in the formula: torch.lerp rounds otherwise, and in float32 that alone moves the gradient of a deep
    # network by 0.1 %, so that no two programs could be compared.
    return start + _as_column(places, end) * (end - start)


def _as_column(numbers: Float[Tensor, " rows"], like: Tensor) -> Tensor:
    """One number a row, ready to be multiplied with rows of features."""
    return numbers.to(like).view(-1, *[1] * (like.ndim - 1))


def _difference(comparison: Comparison) -> Float[Tensor, "batch *features"]:
    exact = _exact(comparison.end.dtype)
    return comparison.end.to(exact) - comparison.start.to(exact)


def _exact(dtype: torch.dtype) -> torch.dtype:
    """float32 at least: sums of bfloat16 lose too much."""
    return torch.promote_types(dtype, torch.float32)
