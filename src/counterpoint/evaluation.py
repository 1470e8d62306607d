"""A bound score, run on points: in micro-batches, counted for each image, at the input or from a layer on."""

from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from counterpoint.activations import Under as Under
from counterpoint.batching import MicroBatch, Tally, in_micro_batches
from counterpoint.checks import shape_text
from counterpoint.cut import Cut
from counterpoint.errors import ModelError, NoGradientError, ShapeError
from counterpoint.layers import own_name
from counterpoint.protocols import BoundScore, ModuleScore


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """How points of one space are scored: inputs, or features at a layer. Points are (rows, *features) throughout."""

    runner: BoundScore
    """What is run: the bound score, or the same score on a faster copy of its model."""
    inputs: Float[Tensor, "batch *input"]
    cut: Cut | None
    """The model before and after the layer; None at the input."""
    micro: MicroBatch
    tally: Tally

    def counted_anew(self) -> "Evaluation":
        """The same, with a tally that starts at zero."""
        return replace(self, tally=Tally(len(self.inputs)))

    def features(
        self, points: Float[Tensor, "*rows_input"], image: Int[Tensor, " rows"] | None = None
    ) -> Float[Tensor, "*rows_features"]:
        """What the layer returns for inputs (rows, *input); the points themselves at the input.

        Args:
            points: Inputs; a further first axis (draws, batch, *input) is kept.
            image: Which of the inputs each row belongs to; by default row i belongs to input i. Only counted.
        """
        cut = self.cut
        if cut is None:
            return points
        lead = points.shape[: points.ndim - self.inputs.ndim + 1]
        rows = points.reshape(-1, *self.inputs.shape[1:])
        with torch.no_grad():
            (found,) = in_micro_batches(lambda p: (cut.features(p),), rows, micro=self.micro)
        self.tally.add_prefixes(torch.arange(len(rows)) % len(self.inputs) if image is None else image)
        return found.reshape(*lead, *found.shape[1:])

    def scores(
        self,
        points: Float[Tensor, "rows *features"],
        image: Int[Tensor, " rows"] | None = None,
        *,
        under: Under = nullcontext,
    ) -> Float[Tensor, " rows"]:
        """The score of each point.

        Args:
            points: What is scored.
            image: Which of the inputs each row belongs to; by default row i belongs to input i.
            under: Makes the context that each micro-batch runs in, such as one of `counterpoint.activations`, from the `image` of its rows.
        """
        image = self._image(points, image)

        def forward(points: Tensor, image: Tensor) -> tuple[Tensor]:
            with under(image):
                return (self._score(points, image),)

        with torch.no_grad():
            (scores,) = in_micro_batches(forward, points, image, micro=self.micro)
        self.tally.add_forwards(image)
        return scores

    def scores_and_gradients(
        self,
        points: Float[Tensor, "rows *features"],
        image: Int[Tensor, " rows"] | None = None,
        *,
        under: Under = nullcontext,
    ) -> tuple[Float[Tensor, " rows"], Float[Tensor, "rows *features"]]:
        """Score and gradient of each point, for the price of the gradient; see `scores` for the arguments.

        Raises:
            ModelError: the score does not depend on the points in a way that autograd can follow.
        """
        image = self._image(points, image)
        # Also under the caller's no_grad or inference_mode: what is differentiated is ours.
        with torch.inference_mode(False), torch.enable_grad():
            scores, gradients = in_micro_batches(
                lambda p, i: self._score_and_gradient(p, i, under), points, image, micro=self.micro
            )
        self.tally.add_gradients(image)
        return scores, gradients

    def hessian_products(
        self,
        points: Float[Tensor, "rows *features"],
        directions: Float[Tensor, "rows *features"],
        image: Int[Tensor, " rows"] | None = None,
    ) -> tuple[Float[Tensor, "rows *features"], Float[Tensor, "rows *features"]]:
        """The gradient of each point's score, and its Hessian times a direction; counted as two gradients."""
        image = self._image(points, image)
        with torch.inference_mode(False), torch.enable_grad():
            gradients, products = in_micro_batches(
                self._gradient_and_product, points, directions, image, micro=self.micro
            )
        self.tally.add_gradients(image)
        self.tally.add_gradients(image)
        return gradients, products

    def _image(self, points: Tensor, image: Tensor | None) -> Int[Tensor, " rows"]:
        if image is None:
            if len(points) != len(self.inputs):
                raise ShapeError(
                    f"image must say which input each row of points {shape_text(points)} belongs to: there are {len(self.inputs)} inputs."
                )
            image = torch.arange(len(points), device=points.device)
        return image

    def _check_differentiable(self) -> None:
        """Raise ModelError where a part of the model has no derivative, which gradients would pass by in silence.

        Where all ways go through such a part torch itself finds no gradient; beside a skip connection it finds a wrong one.
        """
        module = getattr(self.runner, "module", None)
        if not isinstance(module, nn.Module):
            return
        for name, part in module.named_modules():
            if ".quantized" in type(part).__module__:
                raise ModelError(
                    f"the model is quantised: layer '{own_name(module, part) if name else type(part).__name__}' "
                    f"({type(part).__name__}) computes with whole numbers, which have no gradient. Use the model before it was quantised, "
                    "or a method that only runs the model forward, such as cp.methods.Occlusion() or cp.methods.RISE()."
                )

    def _score(self, points: Tensor, image: Tensor) -> Float[Tensor, " rows"]:
        if self.cut is None:
            return self.runner(points, image)
        return cast(ModuleScore, self.runner).read(self.cut.head(points, self.inputs[image]), image)

    def _score_and_gradient(self, points: Tensor, image: Tensor, under: Under) -> tuple[Tensor, Tensor]:
        self._check_differentiable()
        leaves = points.detach().clone().requires_grad_()
        with under(image):
            scores = self._score(leaves, image)
        if not scores.requires_grad:
            raise _no_gradient()
        (gradients,) = torch.autograd.grad(scores.sum(), leaves, allow_unused=True)
        if gradients is None:
            raise _no_gradient()
        return scores.detach(), gradients

    def _gradient_and_product(
        self, points: Tensor, directions: Tensor, image: Tensor
    ) -> tuple[Tensor, Tensor]:
        self._check_differentiable()
        leaves = points.detach().clone().requires_grad_()
        scores = self._score(leaves, image)
        if not scores.requires_grad:
            raise _no_gradient()
        (gradients,) = torch.autograd.grad(scores.sum(), leaves, create_graph=True, allow_unused=True)
        if gradients is None:
            raise _no_gradient()
        if not gradients.requires_grad:  # a linear score: its gradient is a constant
            return gradients.detach(), torch.zeros_like(gradients)
        (products,) = torch.autograd.grad((gradients * directions).sum(), leaves, allow_unused=True)
        return gradients.detach(), torch.zeros_like(gradients) if products is None else products


def _no_gradient() -> NoGradientError:
    return NoGradientError(
        "the score has no gradient: it does not depend on its input in a way that autograd can follow. Does the model compute under "
        "torch.no_grad(), in NumPy, or with whole numbers (argmax, quantised)? Methods that only run the model forward do without, such as "
        "cp.methods.Occlusion() or cp.methods.RISE()."
    )
