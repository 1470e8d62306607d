"""The whole question: score, inputs, baseline, and optionally a layer.

It owns what all methods share: f(x), f(x') and the features of both are computed once.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from counterpoint.attribution import Attribution
from counterpoint.batching import MicroBatch, Tally
from counterpoint.checks import check_batch, check_finite, check_images, check_same_shape, shape_text
from counterpoint.cut import Bypass, Cut, open_cut
from counterpoint.errors import InputError, LayerError
from counterpoint.evaluation import Evaluation, Under
from counterpoint.folding import fold as folded_copy
from counterpoint.layer_baseline import FEATURES_OF_THE_BASELINE, LayerBaseline, layer_start
from counterpoint.layers import layer_parts
from counterpoint.layout_finding import NoLayout, find_layout
from counterpoint.layouts import Layout, Maps
from counterpoint.protocols import STEPS, Baseline, BoundScore, Method, ModuleScore, Score
from counterpoint.scores import as_score, check_pixels, classes_of
from counterpoint.state import undisturbed

# |target| below this share of the spread of the scores, or of the path variation, is too small to divide by.
_SPREAD_FLOOR = 1e-3
_VARIATION_FLOOR = 0.02


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
        layer: Explain the features of this layer, by its dotted name; of several at once, `cp.joint(...)`; None or "input" for the
            inputs themselves.
        layer_baseline: What the features are compared with; see `LayerBaseline`.
        bypass: What to do where a skip connection passes the layer by: "refuse", or "intervene", which explains f(x) minus f(x with
            z' put in), labelled partial.
        fold: Run on an equal, faster copy of the model where there is one (batch norm folded into convolutions, channels-last),
            checked to 1e-5; about 1.4 to 2 times as fast on a CPU. Rounding alone then moves a deep network's gradient by about
            0.1 %, which is why it is not the default; `attribution.folded` says whether it was done.
        micro_batch: Rows that go through the model at once; by default chosen for the device, and halved when memory runs out.

    Returns:
        A Comparison, with f(x) and f(x') known.

    Raises:
        InputError: an argument of the wrong type, NaN in the inputs, no such class.
        ShapeError: inputs without a batch axis, or a baseline of another shape.
        ModelError: the model does not return what the score reads.
        LayerError: the layer cannot be cut at, or the score knows no module.
    """
    with undisturbed(getattr(score, "module", None)):
        check_batch("inputs", inputs)
        if not isinstance(baseline, Baseline) or isinstance(baseline, type):
            raise InputError(
                f"baseline must be one of cp.baselines, such as cp.baselines.Blur(sigma=10), got {baseline!r}."
            )
        if layer in (None, "input") and not (
            isinstance(layer_baseline, str) and layer_baseline == "features"
        ):
            raise InputError("layer_baseline says what features are compared with, but no layer was given.")
        micro = MicroBatch.for_inputs(inputs) if micro_batch is None else MicroBatch(micro_batch)
        bound = as_score(score).bind(inputs)
        inputs = inputs.detach()
        baseline = baseline.prepare(bound, inputs)
        with torch.no_grad():
            # A kind that only fills has no image of its own: there is nothing to compare the whole with.
            baseline_inputs = torch.full_like(inputs, math.nan) if baseline.fill_only else baseline(inputs)
        expected = inputs if baseline.draws == 1 else inputs.expand(baseline.draws, *inputs.shape)
        check_same_shape("baseline", baseline_inputs, "inputs", expected)
        if baseline.fill_only:
            check_images("inputs", inputs)
            if layer not in (None, "input"):
                raise InputError(f"{baseline!r} only fills removed pixels; it has no features at a layer.")
        else:
            check_finite("baseline", baseline_inputs)
            check_pixels(bound, "baseline", baseline_inputs.flatten(0, -inputs.ndim))
        comparison = Comparison(
            bound=bound,
            evaluation=Evaluation(
                runner=bound, inputs=inputs, cut=None, micro=micro, tally=Tally(len(inputs))
            ),
            folded=False,
            inputs=inputs,
            baseline=baseline,
            baseline_inputs=baseline_inputs,
            end=inputs,
            start=baseline_inputs,
            score=torch.empty(0),
            baseline_score=torch.empty(0),
            input_baseline_score=torch.empty(0),
            layer="input",
            layer_baseline=FEATURES_OF_THE_BASELINE,
        )
        known = getattr(bound, "at_inputs", None)
        clean = comparison.scores(inputs) if known is None else known
        check_finite("score of the inputs", clean)
        if baseline.fill_only:
            against = torch.full_like(clean, math.nan)
        else:
            against = comparison.start_scores()
            check_finite("score of the baseline", against)
        comparison = replace(comparison, score=clean, baseline_score=against, input_baseline_score=against)
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
    evaluation: Evaluation
    """How points are scored at `layer`, and how often that was done."""
    folded: bool
    """Whether a faster copy of the model is run."""
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
    """f(x'), (batch,); of several draws the mean. Under a layer baseline of its own, or an intervention, with z' put in."""
    input_baseline_score: Float[Tensor, " ..."]
    """f(x') of the input's baseline, (batch,), whatever the layer."""
    layer: str
    layer_baseline: str
    """What `start` is, in words."""

    @property
    def cut(self) -> Cut | None:
        """The model before and after the layer; None at the input."""
        return self.evaluation.cut

    @property
    def layout(self) -> Layout | None:
        """How the features lie on the image; None where they do not, or the inputs are no images."""
        found = self.layout_or_reason
        return None if isinstance(found, NoLayout) else found

    @property
    def layout_or_reason(self) -> Layout | NoLayout:
        """The same or, where there is none, why."""
        if self.inputs.ndim != 4:
            return NoLayout(f"whose inputs {shape_text(self.inputs)} are no images")
        if self.cut is None:
            return Maps()
        return find_layout(self.cut.module, self.cut.layer, self.inputs[:1])

    @property
    def micro(self) -> MicroBatch:
        """How many rows go through the model at once."""
        return self.evaluation.micro

    @property
    def tally(self) -> Tally:
        """How often the model ran for each image: for the comparison itself, or for the method it was handed to."""
        return self.evaluation.tally

    @property
    def draws(self) -> int:
        """How many baselines each input has."""
        return self.baseline.draws if self.start.ndim > self.end.ndim else 1

    def at(
        self, layer: str, *, layer_baseline: LayerBaseline = "features", bypass: Bypass = "refuse"
    ) -> "Comparison":
        """The same comparison at a layer, f(x) and f(x') shared: with the usual layer baseline the target is the same at every layer.

        Args:
            layer: Its dotted name; for several at once `cp.joint(...)`; or "input".
            layer_baseline: What the features are compared with; anything but "features" has a target of its own.
            bypass: "intervene" accepts a layer that a skip connection passes by.

        Raises:
            LayerError: the score knows no module, or the layer is no place where the model can be cut.
            UnknownNameError: no layer of that name.
            ShapeError: a layer baseline of another shape than the features.
        """
        if layer == "input":
            pixels = replace(self.evaluation, cut=None)
            return replace(
                self,
                layer=layer,
                evaluation=pixels,
                end=self.inputs,
                start=self.baseline_inputs,
                baseline_score=self.input_baseline_score,
                layer_baseline=FEATURES_OF_THE_BASELINE,
            )
        if not isinstance(self.bound, ModuleScore):
            raise LayerError(
                "a layer needs a score that knows its module, such as cp.logit(module, ...); got a callable."
            )
        # Folded anew, so that this layer's own output stays what it is.
        whole = self.on_folded_copy(keep=layer) if self.folded else self
        cut = open_cut(
            cast(ModuleScore, whole.evaluation.runner).module, layer, self.inputs[:1], bypass=bypass
        )
        there = replace(whole, layer=layer, evaluation=replace(whole.evaluation, cut=cut))
        if self.inputs.ndim == 4:  # how the features lie is found out now and kept, as the cut is
            find_layout(cut.module, cut.layer, self.inputs[:1])
        end = there.features(self.inputs)
        start, named = layer_start(
            layer_baseline, end, lambda: there.features(self.baseline_inputs), lambda: there.layout
        )
        there = replace(there, end=end, start=start, layer_baseline=named)
        if named != FEATURES_OF_THE_BASELINE or cut.kind == "partial":
            return replace(there, baseline_score=there.start_scores())
        return replace(there, baseline_score=self.input_baseline_score)

    def on_folded_copy(self, *, keep: str | None = None) -> "Comparison":
        """The same comparison, run on an equal, faster copy of the model; itself where there is none.

        Args:
            keep: A layer whose own output must stay what it is, or several joined.

        Raises:
            InputError: the score knows no module.
        """
        if not isinstance(self.bound, ModuleScore):
            raise InputError(
                "fold needs a score that knows its module, such as cp.logit(module, ...); got a callable."
            )
        module = self.bound.module
        kept = () if keep is None else layer_parts(module, keep)
        folding = folded_copy(module, self.inputs[:2], keep=kept)
        faster = replace(self.evaluation, runner=self.bound.on(folding.module))
        return replace(self, evaluation=faster, folded=folding.folded)

    def faster(self) -> "Comparison":
        """The same comparison on an equal, faster copy of the model where there is one: for searches, which rounding does not turn."""
        if self.folded or not isinstance(self.bound, ModuleScore):
            return self
        return self.on_folded_copy()

    def start_scores(self) -> Float[Tensor, " batch"]:
        """The score of the start, of several draws the mean."""
        if self.draws == 1:
            return self.scores(self.start)
        each = [self.scores(start) for start in self.start]
        return torch.stack(each).mean(0)

    def features(
        self, points: Float[Tensor, "*rows_input"], image: Int[Tensor, " rows"] | None = None
    ) -> Float[Tensor, "*rows_features"]:
        """What the layer returns for inputs (rows, *input), or (draws, batch, *input); the points themselves at the input."""
        return self.evaluation.features(points, image)

    def check_induced_path(self, who: str) -> None:
        """Raise InputError unless `start` is the features of the input's baseline, where the features of its path begin."""
        if self.layer_baseline != FEATURES_OF_THE_BASELINE:
            raise InputError(
                f"{who} follows the features of the inputs' path, which begins at the features of the baseline, but layer_baseline is "
                f"{self.layer_baseline}; leave layer_baseline out, or follow the straight path."
            )

    def filled(
        self, removed: Bool[Tensor, "rows *space"], image: Int[Tensor, " rows"]
    ) -> Float[Tensor, "rows channel *space"]:
        """The inputs with their removed pixels replaced by the baseline's, or by what a kind that only fills puts there.

        Args:
            removed: True where a pixel is taken away.
            image: Which of the inputs each row belongs to.
        """
        inputs = self.inputs[image]
        if self.baseline.fill_only:
            return self.baseline.fill(inputs, removed)
        return self.baseline_inputs[image].where(removed.unsqueeze(1), inputs)

    def blended(
        self, kept: Float[Tensor, "rows *space"], image: Int[Tensor, " rows"]
    ) -> Float[Tensor, "rows channel *space"]:
        """kept * x + (1 - kept) * x'; for a kind that only fills, which knows no mixture, pixels kept by less than a half are removed.

        Args:
            kept: From 0, removed, to 1, kept.
            image: Which of the inputs each row belongs to.
        """
        if self.baseline.fill_only:
            return self.filled(kept < 0.5, image)
        return torch.lerp(self.baseline_inputs[image], self.inputs[image], kept.unsqueeze(1).to(self.inputs))

    def scores(
        self,
        points: Float[Tensor, "rows *features"],
        image: Int[Tensor, " rows"] | None = None,
        *,
        under: Under = nullcontext,
    ) -> Float[Tensor, " rows"]:
        """The score of each point.

        Args:
            points: Inputs, or features at the layer.
            image: Which of the inputs each row belongs to; by default row i belongs to input i.
            under: Makes the context that each forward runs in, such as one of `counterpoint.activations`, from the image of each row.
        """
        return self.evaluation.scores(points, image, under=under)

    def gradients(
        self,
        points: Float[Tensor, "rows *features"],
        image: Int[Tensor, " rows"] | None = None,
        *,
        under: Under = nullcontext,
    ) -> Float[Tensor, "rows *features"]:
        """The gradient of each point's score with respect to that point; see `scores` for the arguments."""
        return self.evaluation.scores_and_gradients(points, image, under=under)[1]

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
        return self.evaluation.scores_and_gradients(points, image, under=under)

    def hessian_products(
        self,
        points: Float[Tensor, "rows *features"],
        directions: Float[Tensor, "rows *features"],
        image: Int[Tensor, " rows"] | None = None,
    ) -> tuple[Float[Tensor, "rows *features"], Float[Tensor, "rows *features"]]:
        """The gradient of each point's score, and its Hessian times a direction; counted as two gradients.

        The Hessian of a piecewise linear network (ReLU, max pooling, a logit) is 0 wherever it exists.
        """
        return self.evaluation.hessian_products(points, directions, image)

    def explain(self, method: Method) -> Attribution:
        """Put a method to this comparison.

        Raises:
            InputError: the method does not work here (at this layer, with this baseline).
            ShapeError: the method returned values of another shape than the features.
        """
        self.check_method(method)
        counted = replace(self, evaluation=self.evaluation.counted_anew())
        with undisturbed(getattr(self.bound, "module", None)):
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
            layout=self.layout,
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

    def check_method(self, method: Method) -> None:
        """Refuse a method that does not work here, without running it.

        Raises:
            InputError: no method, or one that does not go with this layer or this baseline.
        """
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
            raise InputError(
                f"{name} explains the features of a layer; give one: cp.compare(..., layer=). cp.inspect_layers(classifier) shows which "
                "there are, and the usual one."
            )
        if method.level == "input" and self.layer != "input":
            raise InputError(f"{name} explains the input only, but layer is '{self.layer}'.")
        if self.baseline.fill_only and not getattr(method, "fills", False):
            raise InputError(
                f"{name} compares with an image, but {self.baseline!r} only fills removed pixels; use it with a perturbation method, "
                "such as cp.methods.Occlusion(), or give a baseline with an image of its own."
            )
        if self.draws > 1 and not getattr(method, "many_draws", False):
            raise InputError(
                f"{name} compares with one baseline, but {self.baseline!r} has {self.draws} draws; "
                "use cp.methods.ExpectedGradients, or a baseline of one draw."
            )
