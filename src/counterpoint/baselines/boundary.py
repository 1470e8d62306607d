"""The nearest point at which the model would change its mind."""

import math
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from counterpoint import progress
from counterpoint.baselines.prepared import Found, check_classes, knowing, pictures_of
from counterpoint.batching import MicroBatch, Tally
from counterpoint.checks import check_range
from counterpoint.errors import InputError
from counterpoint.evaluation import Evaluation
from counterpoint.protocols import Baseline, BoundScore

Images = Float[Tensor, "batch channel height width"]
PerImage = Float[Tensor, " batch"]

# A step goes this much beyond where a straight boundary would lie; that, and its longest length, grow this fast.
_OVERSHOOT, _GROWTH = 1.05, 1.1


@dataclass(frozen=True)
class Boundary(Baseline):
    """The nearest point found on the decision boundary of the explained class, where it ties with the best other class.

    From the image in small steps down the gradient of the margin, z_c - max of the other z, until another class comes first; then the
    straight line from the image to that point is halved until its crossing is known. For a class that does not come first at the image,
    up towards where it does. Pixels keep to [0, 1]. Nearest means in L2, and what a search finds is an upper bound. The search is our
    reconstruction: the paper takes the best of several adversarial attacks.

    Parameters:
        step: Longest first step, as the root mean square change of a pixel; each later one may be a tenth longer, and none goes further
            than just beyond where a straight boundary would lie.
        steps: Most steps of the search.
        bisections: How often the last stretch is halved.

    Reference: Wang et al. 2022, arXiv:2103.11257 (boundary-based integrated gradients).
    """

    step: float = 0.0001
    steps: int = 100
    bisections: int = 20
    found: Found | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_range("step", self.step, 0.0, 1.0, open_low=True)
        check_range("steps", self.steps, 1)
        check_range("bisections", self.bisections, 0)

    @property
    def without_image(self) -> str:
        """Before `prepare` there is none."""
        return "" if self.found is not None else "it is sought with the model, and its image was not saved"

    def __call__(self, inputs: Images) -> Images:
        """The point found for each of these inputs.

        Raises:
            InputError: not prepared, or for other inputs.
        """
        return pictures_of(self, self.found, inputs)

    def prepare(self, bound: BoundScore, inputs: Images) -> "Boundary":
        """The same baseline with the point of each input known.

        Args:
            bound: A class score, `cp.logit(module, ...)` or its like, settled at the inputs.
            inputs: What points are sought for.

        Raises:
            ShapeError: the inputs are no images.
            InputError: the score knows no classes of a module, or no boundary was found.
            Cancelled: the progress listener stopped the work.
        """
        score = check_classes(self, bound, inputs)
        margins = Evaluation(
            runner=_Margin(score.module, score.classes),
            inputs=inputs.detach(),
            cut=None,
            micro=MicroBatch.for_inputs(inputs),
            tally=Tally(len(inputs)),
        )
        return knowing(self, inputs, self._tied(margins, self._crossed(margins)))

    def _crossed(self, margins: Evaluation) -> Images:
        """A point beyond the boundary for each input."""
        inputs = margins.inputs
        # In float32 at least: a bfloat16 image would swallow small steps.
        points = inputs.to(torch.promote_types(inputs.dtype, torch.float32), copy=True)
        low, high = points.clamp(max=0.0), points.clamp(min=1.0)
        side = _side(margins.scores(inputs))
        longest = self.step * math.sqrt(inputs[0].numel())
        beyond = torch.full_like(side, _OVERSHOOT)
        left = torch.arange(len(inputs), device=inputs.device)  # the images that are not beyond it yet
        for k in range(self.steps):
            progress.advance(0, 1, f"seeking the decision boundary, step {k + 1}")
            margin, gradient = margins.scores_and_gradients(points[left].to(inputs.dtype), left)
            inside = _side(margin) == side[left]
            if not bool(inside.any()):
                return points
            left, margin, gradient = left[inside], margin[inside], gradient[inside]
            here, downhill = points[left], -gradient.to(points) * _wide(side[left]).to(points)
            # Pixels that are black or white already and would leave [0, 1] stay where they are.
            stuck = ((here <= low[left]) & (downhill < 0)) | ((here >= high[left]) & (downhill > 0))
            downhill = downhill.masked_fill(stuck, 0.0)
            slope = downhill.flatten(1).norm(dim=1).to(margin)
            straight, most = beyond[left] * margin.abs() / slope, longest * _GROWTH**k
            # Where a straight boundary would have been crossed and none was, the next step goes further.
            beyond[left] = torch.where(straight < most, beyond[left] * _GROWTH, beyond[left])
            # On a plain, slope 0, there is no way to go; that image is reported below.
            way = torch.where(slope > 0, straight.clamp(max=most) / slope, 0.0)
            moved = here + _wide(way).to(points) * downhill
            points[left] = torch.minimum(torch.maximum(moved, low[left]), high[left])
        margin = margins.scores(points[left].to(inputs.dtype), left)
        lost = left[_side(margin) == side[left]].tolist()
        if lost:
            raise InputError(
                f"no decision boundary was found within {self.steps} steps for images {lost}; raise steps or step of {self!r}, "
                "or choose another baseline."
            )
        return points

    def _tied(self, margins: Evaluation, beyond: Images) -> Images:
        """The crossing between each input and a point beyond the boundary, on its far side."""
        inputs, side = margins.inputs, _side(margins.scores(margins.inputs))
        near, far = torch.zeros_like(side), torch.ones_like(side)
        for k in range(self.bisections):
            progress.advance(0, 1, f"narrowing the decision boundary, step {k + 1}")
            middle = (near + far) / 2
            inside = _side(margins.scores(_between(inputs, beyond, middle))) == side
            near, far = torch.where(inside, middle, near), torch.where(inside, far, middle)
        return _between(inputs, beyond, far)


@dataclass(frozen=True, eq=False)
class _Margin:
    """A bound score: z_c minus the largest other logit."""

    module: nn.Module
    classes: Int[Tensor, " batch"]

    def __call__(
        self, points: Float[Tensor, "rows *input"], image: Int[Tensor, " rows"]
    ) -> Float[Tensor, " rows"]:
        logits: Tensor = self.module(points)
        if logits.shape[1] < 2:
            raise InputError("a decision boundary needs a model of at least two classes, got one.")
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        chosen = self.classes[image][:, None]
        return logits.gather(1, chosen)[:, 0] - logits.scatter(1, chosen, -torch.inf).amax(1)


def _side(margin: PerImage) -> PerImage:
    """1 where the class comes first, -1 elsewhere."""
    return torch.where(margin > 0, 1.0, -1.0).to(margin)


def _wide(numbers: PerImage) -> Float[Tensor, "batch 1 1 1"]:
    return numbers[:, None, None, None]


def _between(inputs: Images, beyond: Images, share: PerImage) -> Images:
    """The point at this share of the way, as the model takes it."""
    return torch.lerp(inputs.to(beyond), beyond, _wide(share).to(beyond)).to(inputs.dtype)
