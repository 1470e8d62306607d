"""The whole question: score, inputs, baseline, and optionally a layer.

It owns what all methods share: f(x), f(x') and the features of both are computed once.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor

from counterpoint.attribution import Attribution
from counterpoint.batching import MicroBatch, Tally, in_micro_batches
from counterpoint.checks import check_batch, check_finite, check_same_shape, shape_text
from counterpoint.cut import Bypass, Cut, open_cut
from counterpoint.errors import InputError, LayerError, ModelError, ShapeError
from counterpoint.folding import fold as folded_copy
from counterpoint.protocols import STEPS, Baseline, BoundScore, Method, ModuleScore, Score
from counterpoint.scores import as_score, classes_of
from counterpoint.spec import content_hash

# |target| below this share of the spread of the scores, or of the path variation, is too small to divide by.
_SPREAD_FLOOR = 1e-3
_VARIATION_FLOOR = 0.02


LayerBaseline = Literal["features", "zeros", "channel_mean"] | Tensor
"""What z' is at a layer: the features of the input's baseline; or, in feature space, zeros, each channel's mean over the places of the
image's own features, or a tensor. Only the first makes the target the same number at every layer."""


def compare(
    score: Score | Callable[[Tensor], Tensor],
    inputs: Float[Tensor, "batch *input"],
    *,
    baseline: Baseline,
    layer: str | None = None,
    layer_baseline: LayerBaseline = "features",
    bypass: Bypass = "refuse",
    fold: bool = False,
    micro_batch: int | None = None,
) -> "Comparison":
    """Ask why the score of `inputs` differs from that of their baseline.

    Args:
        score: `cp.logit(...)` and its like, or a callable (rows, ...) -> (rows,).
        inputs: Usually (batch, channel, height, width) with pixels in [0, 1]; never changed.
        baseline: What to compare with; there is no default.
        layer: Explain the features of this layer, by its dotted name; None or "input" for the inputs themselves.
        layer_baseline: What the features are compared with; see `LayerBaseline`.
        bypass: What to do where a skip connection passes the layer by: "refuse", or "intervene", which explains f(x) minus f(x with
            z' put in), labelled partial.
        fold: Run on an equal, faster copy of the model where there is one (batch norm folded into convolutions, channels-last), checked to
            1e-5; about twice as fast on a CPU. Rounding alone then moves a deep network's gradient by about 0.1 %, which is why it is
            not the default; `attribution.folded` says whether it was done.
        micro_batch: Rows that go through the model at once; by default chosen for the device, and halved when memory runs out.

    Returns:
        A Comparison, with f(x) and f(x') known.

    Raises:
        InputError: an argument of the wrong type, NaN in the inputs, no such class.
        ShapeError: inputs without a batch axis, or a baseline of another shape.
        ModelError: the model does not return what the score reads.
        LayerError: the layer cannot be cut at, or the score knows no module.
    """
    check_batch("inputs", inputs)
    if not isinstance(baseline, Baseline) or isinstance(baseline, type):
        raise InputError(
            f"baseline must be one of cp.baselines, such as cp.baselines.Blur(sigma=10), got {baseline!r}."
        )
    if baseline.fill_only:
        raise InputError(
            f"{baseline!r} only fills removed pixels; it has no image of its own to compare with."
        )
    if layer in (None, "input") and not (isinstance(layer_baseline, str) and layer_baseline == "features"):
        raise InputError("layer_baseline says what features are compared with, but no layer was given.")
    micro = MicroBatch.for_inputs(inputs) if micro_batch is None else MicroBatch(micro_batch)
    bound = as_score(score).bind(inputs)
    inputs = inputs.detach()
    baseline = baseline.prepare(bound, inputs)
    with torch.no_grad():
        baseline_inputs = baseline(inputs)
    expected = inputs if baseline.draws == 1 else inputs.expand(baseline.draws, *inputs.shape)
    check_same_shape("baseline", baseline_inputs, "inputs", expected)
    check_finite("baseline", baseline_inputs)
    comparison = Comparison(
        bound=bound,
        runner=bound,
        folded=False,
        inputs=inputs,
        baseline=baseline,
        baseline_inputs=baseline_inputs,
        end=inputs,
        start=baseline_inputs,
        score=torch.empty(0),
        baseline_score=torch.empty(0),
        layer="input",
        cut=None,
        layer_baseline="features of the baseline",
        micro=micro,
        tally=Tally(len(inputs)),
    )
    known = getattr(bound, "at_inputs", None)
    clean = comparison.scores(inputs) if known is None else known
    check_finite("score of the inputs", clean)
    against = comparison.start_scores()
    check_finite("score of the baseline", against)
    comparison = replace(comparison, score=clean, baseline_score=against)
    if fold:
        comparison = comparison.on_folded_copy()
    if layer is None or layer == "input":
        return comparison
    return comparison.at(layer, layer_baseline=layer_baseline, bypass=bypass)


def compare_layers(
    score: Score | Callable[[Tensor], Tensor],
    inputs: Float[Tensor, "batch *input"],
    layers: Sequence[str],
    *,
    baseline: Baseline,
    bypass: Bypass = "refuse",
    fold: bool = False,
    micro_batch: int | None = None,
) -> "list[Comparison]":
    """One comparison for each layer, all sharing f(x) and f(x'), so that their targets are the same number.

    Args:
        layers: Dotted names, "input" for the pixels.
        score, inputs, baseline, bypass, fold, micro_batch: As in `compare`, which also says what is raised.
    """
    whole = compare(score, inputs, baseline=baseline, fold=fold, micro_batch=micro_batch)
    return [whole.at(layer, bypass=bypass) for layer in layers]


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """Inputs against their baseline, at the input or at a layer; made by `compare`.

    Methods reach the model only through `scores`, `gradients` and `scores_and_gradients`, which run in micro-batches
    and are counted per image.
    """

    bound: BoundScore
    runner: BoundScore
    """What is run: `bound`, or the same score on a faster copy of its model."""
    folded: bool
    inputs: Float[Tensor, "batch *input"]
    baseline: Baseline
    baseline_inputs: Float[Tensor, "*draws_batch_input"]
    """(batch, *input); (draws, batch, *input) for a baseline with several draws."""
    end: Float[Tensor, "batch *features"]
    """What is explained: the inputs, or their features at the layer."""
    start: Float[Tensor, "*draws_batch_features"]
    """What it is compared with: the baseline, or its features at the layer; with a first axis for several draws."""
    score: Float[Tensor, " ..."]
    """f(x), (batch,)."""
    baseline_score: Float[Tensor, " ..."]
    """f(x'), (batch,); of several draws the mean."""
    layer: str
    cut: Cut | None
    layer_baseline: str
    """What `start` is, in words."""
    micro: MicroBatch
    tally: Tally

    @property
    def draws(self) -> int:
        """How many baselines each input has."""
        return self.baseline.draws if self.start.ndim > self.end.ndim else 1

    def at(
        self, layer: str, *, layer_baseline: LayerBaseline = "features", bypass: Bypass = "refuse"
    ) -> "Comparison":
        """The same comparison at a layer, f(x) and f(x') shared: with the usual layer baseline the target is the same at every layer.

        Args:
            layer: Its dotted name, or "input".
            layer_baseline: What the features are compared with; anything but "features" has a target of its own.
            bypass: "intervene" accepts a layer that a skip connection passes by.

        Raises:
            LayerError: the score knows no module, or the layer is no place where the model can be cut.
            UnknownNameError: no layer of that name.
            ShapeError: a layer baseline of another shape than the features.
        """
        if layer == "input":
            return replace(self, layer=layer, cut=None, end=self.inputs, start=self.baseline_inputs)
        if not isinstance(self.bound, ModuleScore):
            raise LayerError(
                "a layer needs a score that knows its module, such as cp.logit(module, ...); got a callable."
            )
        # Folded anew, so that this layer's own output stays what it is.
        whole = self.on_folded_copy(keep=layer) if self.folded else self
        cut = open_cut(cast(ModuleScore, whole.runner).module, layer, self.inputs[:1], bypass=bypass)
        there = replace(whole, layer=layer, cut=cut, end=self.inputs, start=self.baseline_inputs)
        end = there.features(self.inputs)
        start, named = there._layer_start(layer_baseline, end)
        there = replace(there, end=end, start=start, layer_baseline=named)
        if named != "features of the baseline" or cut.kind == "partial":
            return replace(there, baseline_score=there.start_scores())
        return there

    def on_folded_copy(self, *, keep: str | None = None) -> "Comparison":
        """The same comparison, run on an equal, faster copy of the model; itself where there is none.

        Args:
            keep: A layer whose own output must stay what it is.

        Raises:
            InputError: the score knows no module.
        """
        if not isinstance(self.bound, ModuleScore):
            raise InputError(
                "fold needs a score that knows its module, such as cp.logit(module, ...); got a callable."
            )
        folding = folded_copy(self.bound.module, self.inputs[:2], keep=() if keep is None else (keep,))
        return replace(self, runner=self.bound.on(folding.module), folded=folding.folded)

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

    def start_scores(self) -> Float[Tensor, " batch"]:
        """The score of the start, of several draws the mean."""
        if self.draws == 1:
            return self.scores(self.start)
        each = [self.scores(start) for start in self.start]
        return torch.stack(each).mean(0)

    def _layer_start(self, layer_baseline: LayerBaseline, end: Tensor) -> tuple[Tensor, str]:
        if isinstance(layer_baseline, Tensor):
            given = layer_baseline.to(end)
            if given.shape not in (end.shape, end.shape[1:], (1, *end.shape[1:])):
                raise ShapeError(
                    f"layer_baseline must be {shape_text(end)}, or one image's, but is {shape_text(given)}."
                )
            check_finite("layer_baseline", given)
            return given.expand_as(end), f"tensor {content_hash(given)[:12]}"
        if layer_baseline == "zeros":
            return torch.zeros_like(end), "zero features"
        if layer_baseline == "channel_mean":
            if end.ndim < 3:
                raise ShapeError(
                    f"channel_mean needs features with places, (batch, channel, ...), got {shape_text(end)}."
                )
            # Tokens are (batch, tokens, channels): their places come first.
            axes = (1,) if end.ndim == 3 else tuple(range(2, end.ndim))
            return end.mean(axes, keepdim=True).expand_as(end), "mean of each channel"
        if layer_baseline == "features":
            return self.features(self.baseline_inputs), "features of the baseline"
        raise InputError(
            f"layer_baseline must be 'features', 'zeros', 'channel_mean' or a tensor, got {layer_baseline!r}."
        )

    def scores(
        self, points: Float[Tensor, "rows *features"], image: Int[Tensor, " rows"] | None = None
    ) -> Float[Tensor, " rows"]:
        """The score of each point.

        Args:
            points: Inputs, or features at the layer.
            image: Which of the inputs each row belongs to; by default row i belongs to input i.
        """
        image = self._image(points, image)
        with torch.no_grad():
            (scores,) = in_micro_batches(lambda p, i: (self._score(p, i),), points, image, micro=self.micro)
        self.tally.add_forwards(image)
        return scores

    def gradients(
        self, points: Float[Tensor, "rows *features"], image: Int[Tensor, " rows"] | None = None
    ) -> Float[Tensor, "rows *features"]:
        """The gradient of each point's score with respect to that point; see `scores` for the arguments."""
        return self.scores_and_gradients(points, image)[1]

    def scores_and_gradients(
        self, points: Float[Tensor, "rows *features"], image: Int[Tensor, " rows"] | None = None
    ) -> tuple[Float[Tensor, " rows"], Float[Tensor, "rows *features"]]:
        """Score and gradient of each point, for the price of the gradient; see `scores` for the arguments.

        Raises:
            ModelError: the score does not depend on the points in a way that autograd can follow.
        """
        image = self._image(points, image)
        # Also under the caller's no_grad or inference_mode: what is differentiated is ours.
        with torch.inference_mode(False), torch.enable_grad():
            scores, gradients = in_micro_batches(self._score_and_gradient, points, image, micro=self.micro)
        self.tally.add_gradients(image)
        return scores, gradients

    def hessian_products(
        self,
        points: Float[Tensor, "rows *features"],
        directions: Float[Tensor, "rows *features"],
        image: Int[Tensor, " rows"] | None = None,
    ) -> tuple[Float[Tensor, "rows *features"], Float[Tensor, "rows *features"]]:
        """The gradient of each point's score, and its Hessian times a direction; counted as two gradients.

        The Hessian of a piecewise linear network (ReLU, max pooling, a logit) is 0 wherever it exists.
        """
        image = self._image(points, image)
        with torch.inference_mode(False), torch.enable_grad():
            gradients, products = in_micro_batches(
                self._gradient_and_product, points, directions, image, micro=self.micro
            )
        self.tally.add_gradients(image)
        self.tally.add_gradients(image)
        return gradients, products

    def explain(self, method: Method) -> Attribution:
        """Put a method to this comparison.

        Raises:
            InputError: the method does not work here (at this layer, with this baseline).
            ShapeError: the method returned values of another shape than the features.
        """
        self._check_method(method)
        counted = replace(self, tally=Tally(len(self.inputs)))
        outcome = method(counted)
        check_same_shape(f"values of {type(method).__name__}", outcome.values, "features", self.end)
        nan = torch.full_like(self.score, math.nan)
        variation = nan if outcome.path_variation is None else outcome.path_variation
        classes, labels = classes_of(self.bound)
        return Attribution(
            values=outcome.values.to(self.inputs.dtype),
            score=self.score,
            baseline_score=self.baseline_score,
            result=outcome.values.flatten(1).sum(1).to(self.score.dtype),
            baseline=self.baseline,
            method=method,
            claim=method.claim,
            layer=self.layer,
            layer_baseline=self.layer_baseline,
            folded=self.folded,
            cut="none" if self.cut is None else self.cut.kind,
            image_size=(self.inputs.shape[2], self.inputs.shape[3]) if self.inputs.ndim == 4 else None,
            question={
                "score": getattr(self.bound, "kind", "callable"),
                "class_target": classes,
                "label": labels,
            },
            gradient_evaluations=counted.tally.gradients,
            forward_evaluations=counted.tally.forwards,
            prefix_evaluations=counted.tally.prefixes,
            path_error=nan if outcome.path_error is None else outcome.path_error,
            pieces=torch.zeros(len(nan), dtype=torch.int64) if outcome.pieces is None else outcome.pieces,
            path_variation=variation,
            value_error=nan if outcome.value_error is None else outcome.value_error,
            converged=outcome.converged,
            standard_error=outcome.standard_error,
            reference=outcome.reference or "comparison",
            own_target=outcome.own_target,
            floor=self.floor(variation),
            error_is_forced=getattr(method, "error_is_forced", False),
            stages={
                step: outcome.stages[step].to(self.score.dtype) for step in STEPS if step in outcome.stages
            },
            extras=outcome.extras,
        )

    def floor(self, variation: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        """|target| at or below this is too small to divide by.

        1e-3 of the spread of the scores over classes (where the score has classes), or 2 % of the path variation (where it is not NaN).
        """
        spread = getattr(self.bound, "spread", None)
        by_spread = torch.zeros_like(self.score) if spread is None else _SPREAD_FLOOR * spread
        return torch.maximum(by_spread, _VARIATION_FLOOR * variation.nan_to_num(0.0))

    def _check_method(self, method: Method) -> None:
        name = type(method).__name__
        if not callable(method) or not hasattr(method, "claim"):
            raise InputError(
                f"method must be one of cp.methods, such as cp.methods.IntegratedGradients(), got {method!r}."
            )
        if isinstance(method, type):
            raise InputError(
                f"method must be an object, got the class {method.__name__}; write {method.__name__}()."
            )
        if method.level == "layer" and self.layer == "input":
            raise InputError(f"{name} explains the features of a layer; give one: cp.compare(..., layer=).")
        if method.level == "input" and self.layer != "input":
            raise InputError(f"{name} explains the input only, but layer is '{self.layer}'.")
        if self.draws > 1 and not getattr(method, "many_draws", False):
            raise InputError(
                f"{name} compares with one baseline, but {self.baseline!r} has {self.draws} draws; "
                "use cp.methods.ExpectedGradients, or a baseline of one draw."
            )

    def _image(self, points: Tensor, image: Tensor | None) -> Int[Tensor, " rows"]:
        if points.shape[1:] != self.end.shape[1:]:
            raise ShapeError(
                f"points must be (rows, {', '.join(map(str, self.end.shape[1:]))}), got {shape_text(points)}."
            )
        if image is None:
            if len(points) != len(self.inputs):
                raise ShapeError(f"image must say which input each of the {len(points)} points belongs to.")
            image = torch.arange(len(points), device=points.device)
        return image

    def _score(self, points: Tensor, image: Tensor) -> Float[Tensor, " rows"]:
        if self.cut is None:
            return self.runner(points, image)
        return cast(ModuleScore, self.runner).read(self.cut.head(points, self.inputs[image]), image)

    def _score_and_gradient(self, points: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        leaves = points.detach().clone().requires_grad_()
        scores = self._score(leaves, image)
        if not scores.requires_grad:
            raise ModelError(
                "the score has no gradient: it does not depend on its input, or the model computes under torch.no_grad()."
            )
        (gradients,) = torch.autograd.grad(scores.sum(), leaves)
        return scores.detach(), gradients

    def _gradient_and_product(
        self, points: Tensor, directions: Tensor, image: Tensor
    ) -> tuple[Tensor, Tensor]:
        leaves = points.detach().clone().requires_grad_()
        scores = self._score(leaves, image)
        (gradients,) = torch.autograd.grad(scores.sum(), leaves, create_graph=True)
        if not gradients.requires_grad:  # a linear score: its gradient is a constant
            return gradients.detach(), torch.zeros_like(gradients)
        (products,) = torch.autograd.grad((gradients * directions).sum(), leaves, allow_unused=True)
        return gradients.detach(), torch.zeros_like(gradients) if products is None else products
