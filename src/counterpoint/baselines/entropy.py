"""An image about which the model knows nothing: all classes equally likely."""

import math
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from counterpoint import progress
from counterpoint.baselines.constant import Black, Mean, Zero
from counterpoint.baselines.prepared import Found, check_classes, knowing, pictures_of
from counterpoint.batching import MicroBatch, in_micro_batches
from counterpoint.checks import check_range
from counterpoint.errors import InputError
from counterpoint.protocols import Baseline, BoundScore

Images = Float[Tensor, "batch channel height width"]
PerImage = Float[Tensor, " batch"]
Start = Literal["black", "grey", "mean", "input"]

# Adam's usual memory of gradients and of their squares.
_FIRST, _SECOND = 0.9, 0.999


@dataclass(frozen=True)
class MaximumEntropy(Baseline):
    """An image near a plain one for which all classes are equally likely, found by gradient descent.

    It minimises KL(uniform || p(u)) + penalty * mean (u - start)^2 over the pixels in [0, 1], with Adam, until the entropy of p(u) is
    within `tolerance` of its maximum, the log of the number of classes. Where it never is, the most even image met is kept. Loss and
    optimiser are our reconstruction: the papers give the aim and the penalty.

    Parameters:
        start: Where the search begins and what the penalty holds it to: "black", "grey", the image's own "mean" colour, or the "input".
        penalty: Price of leaving the start, in nats per squared range of a pixel.
        step: Adam's rate, in pixel units.
        steps: Most steps.
        tolerance: Wanted entropy, as the share of its maximum that may be missing.

    Reference: Tan 2022, arXiv:2204.05948; Lucas et al. 2022, arXiv:2205.10900 (automatic baseline).
    """

    start: Start = "black"
    penalty: float = 1.0
    step: float = 0.01
    steps: int = 200
    tolerance: float = 0.01
    found: Found | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.start not in get_args(Start):
            raise InputError(f"start must be one of {', '.join(get_args(Start))}, got {self.start!r}.")
        check_range("penalty", self.penalty, 0.0)
        check_range("step", self.step, 0.0, 1.0, open_low=True)
        check_range("steps", self.steps, 1)
        check_range("tolerance", self.tolerance, 0.0, 1.0)

    @property
    def without_image(self) -> str:
        """Before `prepare` there is none."""
        return "" if self.found is not None else "it is sought with the model, and its image was not saved"

    def __call__(self, inputs: Images) -> Images:
        """The image found for each of these inputs.

        Raises:
            InputError: not prepared, or for other inputs.
        """
        return pictures_of(self, self.found, inputs)

    def prepare(self, bound: BoundScore, inputs: Images) -> "MaximumEntropy":
        """The same baseline with the image of each input known.

        Args:
            bound: A class score, `cp.logit(module, ...)` or its like, settled at the inputs.
            inputs: What images are sought for.

        Raises:
            ShapeError: the inputs are no images.
            InputError: the score knows no classes of a module.
            Cancelled: the progress listener stopped the work.
        """
        module = check_classes(self, bound, inputs).module
        inputs = inputs.detach()
        plain: dict[str, Baseline] = {"black": Black(), "grey": Zero(), "mean": Mean()}
        start = inputs if self.start == "input" else plain[self.start](inputs)
        # A start that is the same for all has one answer for all.
        alone = start[:1] if self.start in ("black", "grey") else start
        return knowing(self, inputs, self._found(module, alone).expand_as(inputs).clone())

    def _found(self, module: nn.Module, start: Images) -> Images:
        # In float32 at least: a bfloat16 image would swallow small steps.
        exact = torch.promote_types(start.dtype, torch.float32)
        origin = start.to(exact)
        low, high = origin.clamp(max=0.0), origin.clamp(min=1.0)
        u, best = origin.clone(), origin.clone()
        first, second = torch.zeros_like(u), torch.zeros_like(u)
        lowest = torch.full((len(u),), math.inf, dtype=exact, device=u.device)
        micro = MicroBatch.for_inputs(start)
        left = torch.arange(len(u), device=u.device)  # the images that are not even enough yet
        for k in range(1, self.steps + 2):
            progress.advance(0, 1, f"seeking the image of highest entropy, step {k}")
            missing, gradient = in_micro_batches(
                lambda points, origin: self._loss(module, points, origin, start.dtype),
                u[left],
                origin[left],
                micro=micro,
            )
            better = missing < lowest[left]
            lowest[left[better]], best[left[better]] = missing[better], u[left[better]]
            going = missing > self.tolerance
            left, gradient = left[going], gradient[going]
            if not len(left) or k > self.steps:
                break
            first[left] = torch.lerp(gradient, first[left], _FIRST)
            second[left] = torch.lerp(gradient.square(), second[left], _SECOND)
            mean, scale = first[left] / (1 - _FIRST**k), (second[left] / (1 - _SECOND**k)).sqrt()
            moved = u[left] - self.step * mean / (scale + 1e-12)
            u[left] = torch.minimum(torch.maximum(moved, low[left]), high[left])
        return best.to(start.dtype)

    def _loss(
        self, module: nn.Module, points: Images, origin: Images, dtype: torch.dtype
    ) -> tuple[PerImage, Images]:
        """The share of the highest entropy that is missing, and the gradient of what is minimised."""
        with torch.inference_mode(False), torch.enable_grad():
            leaves = points.clone().requires_grad_()
            logits = module(leaves.to(dtype))
            log_p = logits.to(points.dtype).log_softmax(1)
            classes = log_p.shape[1]
            if classes < 2:
                raise InputError("entropy needs a model of at least two classes, got one.")
            distance = -log_p.mean(1) - math.log(classes)
            loss = distance + self.penalty * (leaves - origin).square().mean((1, 2, 3))
            (gradient,) = torch.autograd.grad(loss.sum(), leaves)
        entropy = -(log_p.detach().exp() * log_p.detach()).sum(1)
        return 1 - entropy / math.log(classes), gradient
