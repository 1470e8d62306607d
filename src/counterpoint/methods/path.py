"""Path methods: gradients gathered on the way from the baseline to the input."""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from counterpoint import progress
from counterpoint.checks import check_range
from counterpoint.comparison import Comparison
from counterpoint.errors import InputError
from counterpoint.methods.arithmetic import as_column, exact
from counterpoint.protocols import Claim, Level, Outcome
from counterpoint.quadrature import Midpoint, Rule
from counterpoint.refinement import Refinement, Wanted

_DEFAULT_TOLERANCE = 0.01
# Bytes of maps that a refinement may keep; images beyond wait for their turn.
_KEPT_BYTES = 2**30


@dataclass(frozen=True)
class IntegratedGradients:
    """The gradient integrated along the straight path from the baseline to the input, to a tolerance.

    Formula: (x - x') * integral over t in [0, 1] of f'(x' + t (x - x')); along the induced path integral of g'(F(x_t)) dF(x_t)

    Values: (batch, *features), signed, in units of the score; their sum is f(x) - f(x') but for the error of the
    quadrature, which is reported and never closed by rescaling.

    Without a rule the path is refined, image by image, where its error is largest, until in two successive rounds three errors
    are small: the estimated distance of the map from the converged one (`value_tolerance`), what the pieces of the path miss of their
    own change of score (`path_tolerance`), and the relative error of the sum (`tolerance`); or until `budget` gradients are spent, which
    `converged` says. The scheme is ours (counterpoint.refinement).

    Parameters:
        tolerance: Largest relative error of the sum; 0.01 if neither it nor a rule is given.
        rule: A fixed number of gradients instead, such as `gauss_legendre(50)`; no errors but the sum's are then known.
        value_tolerance: Largest estimated relative L1 error of the map.
        path_tolerance: Largest path error.
        path: At a layer, "straight" runs straight from the baseline's features to the input's; "induced" follows the features F(x_t) of the
            straight path of the inputs, and never leaves what some input can produce: layer conductance (Dhamdhere et al. 2018,
            arXiv:1805.12233). With a rule, "induced" takes `midpoint(n)` only.
        budget: Most gradients for one image.

    Raises:
        InputError: the induced path under a layer baseline given in feature space: that path begins at the features of the baseline.

    Reference: Sundararajan et al. 2017, arXiv:1703.01365; any layer, explicit baseline and error after Cui and Fan 2026, arXiv:2605.22417.
    """

    tolerance: float | None = None
    rule: Rule | None = None
    value_tolerance: float = 0.1
    path_tolerance: float = 0.1
    path: Literal["straight", "induced"] = "straight"
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
        if self.path == "induced" and self.rule is not None and not isinstance(self.rule, Midpoint):
            raise InputError(f"the induced path takes a tolerance or rule=midpoint(n), got {self.rule!r}.")

    def __call__(self, comparison: Comparison) -> Outcome:
        """As many gradients as the tolerance needs, or as the rule has nodes; no forwards."""
        if self.path == "induced":
            comparison.check_induced_path("path='induced'")
        if self.rule is None:
            outcome = _refined(comparison, self)
        elif self.path == "induced" and comparison.cut is not None:
            outcome = _conductance(comparison, self.rule.n)
        else:
            outcome = _by_rule(comparison, self.rule)
        return replace(outcome, stages={"quadrature": outcome.values.flatten(1).sum(1)})


@dataclass(frozen=True)
class RevisedIG(IntegratedGradients):
    """Integrated gradients with a stated, input-determined baseline, to a tolerance, at any layer: our reconstruction of the revised IG.

    Formula: (z - z') * integral over t in [0, 1] of g'(z' + t (z - z')), z = F(x), z' = F(x')

    Values: (batch, *features), signed, in units of the score; shares of f(x) - f(x'), the same number at every layer.

    The baseline is the comparison's: that of an input, with its own features at each layer. The quadrature stops at a tolerance: these are
    integrated gradients under the name that the paper gives them, with all their parameters.

    Reference: Cui and Fan 2026, arXiv:2605.22417; the algorithm is our reconstruction, as its details are unpublished.
    """


def _conductance(comparison: Comparison, pieces: int) -> Outcome:
    """Sum over pieces of the change of the features times the gradient at the piece's middle."""
    x, b = comparison.inputs, comparison.baseline_inputs
    values = torch.zeros_like(exact(comparison.end))
    features = exact(comparison.start)
    for k in range(pieces):
        there = comparison.end if k == pieces - 1 else comparison.features(b + (k + 1) / pieces * (x - b))
        middle = comparison.features(b + (k + 0.5) / pieces * (x - b))
        values += (exact(there) - features) * exact(comparison.gradients(middle))
        features = exact(there)
        progress.advance(k + 1, pieces, "integrated_gradients")
    return Outcome(values=values)


def _by_rule(comparison: Comparison, rule: Rule) -> Outcome:
    end = comparison.end
    sums = torch.zeros_like(exact(end))
    places = torch.tensor(rule.nodes.places, dtype=torch.float64)
    weights = torch.tensor(rule.nodes.weights, dtype=torch.float64)
    done, total = 0, len(end) * len(places)
    while done < total:
        # Points are made for one micro-batch at a time, image by image: memory does not grow with the number of nodes.
        row = torch.arange(done, min(total, done + comparison.micro.rows))
        image, node = (row // len(places)).to(end.device), row % len(places)
        gradients = comparison.gradients(_points(comparison, places[node], image), image)
        sums.index_add_(0, image, as_column(weights[node], sums) * gradients.to(sums.dtype))
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
    curved = method.path == "induced" and comparison.cut is not None
    difference = _difference(comparison)
    together = max(1, _KEPT_BYTES // (wanted.kept * difference[0].numel() * difference.element_size()))
    refinements = [
        Refinement(wanted, floor=each, velocity=None if curved else way)
        for each, way in zip(floor, difference, strict=True)
    ]
    for first in range(0, len(end), together):
        group = range(first, min(len(end), first + together))
        while active := [i for i in group if not refinements[i].finished]:
            _one_round(comparison, refinements, active, curved=curved)
            progress.advance(
                sum(1.0 if r.finished else r.gradients / method.budget for r in refinements),
                len(end),
                "integrated_gradients",
            )
    score = comparison.score

    def each(name: str) -> Tensor:
        return torch.tensor([getattr(r, name) for r in refinements], dtype=score.dtype, device=score.device)

    return Outcome(
        values=torch.stack([r.values for r in refinements]),
        path_error=each("path_error"),
        pieces=each("pieces").long(),
        value_error=each("value_error"),
        path_variation=each("variation"),
        converged=each("converged").bool(),
    )


def _one_round(
    comparison: Comparison, refinements: list[Refinement], active: list[int], *, curved: bool
) -> None:
    """Evaluate what the active images want, in common micro-batches, and hand it to each."""
    counts = [len(refinements[i].places) for i in active]
    image = torch.tensor(active).repeat_interleave(torch.tensor(counts)).to(comparison.end.device)
    places = torch.tensor([t for i in active for t in refinements[i].places], dtype=torch.float64)
    scores, gradients, positions = [], [], []
    for first in range(0, len(places), comparison.micro.rows):
        rows = slice(first, first + comparison.micro.rows)
        here = image[rows]
        points = _points(comparison, places[rows], here, curved=curved)
        score, gradient = comparison.scores_and_gradients(points, here)
        scores.append(score)
        gradients.append(exact(gradient))
        positions.append(exact(points))
    split = [torch.split(torch.cat(each), counts) for each in (scores, gradients, positions)]
    for i, score, gradient, position in zip(active, *split, strict=True):
        refinements[i].add(score.tolist(), gradient, position if curved else None)


def _points(
    comparison: Comparison,
    places: Float[Tensor, " rows"],
    image: Int[Tensor, " rows"],
    *,
    curved: bool = False,
) -> Float[Tensor, "rows *features"]:
    """Points on the path, each on its image's: straight between the features, or the features of a straight path of inputs."""
    if curved:
        start, end = comparison.baseline_inputs[image], comparison.inputs[image]
    else:
        start, end = comparison.start[image], comparison.end[image]
    # Written as in the formula: torch.lerp rounds otherwise, and in float32 that alone moves the gradient of a deep
    # network by 0.1 %, so that no two programs could be compared.
    points = start + as_column(places, end) * (end - start)
    return comparison.features(points, image) if curved else points


def _difference(comparison: Comparison) -> Float[Tensor, "batch *features"]:
    return exact(comparison.end) - exact(comparison.start)
