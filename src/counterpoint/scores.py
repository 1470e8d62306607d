"""What is explained: one number per image, settled at the original inputs.

`logit`, `probability`, `log_probability`, `log_odds` and `contrast` read a class out of a classifier's output; any
callable (rows, ...) -> (rows,) is a score too.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from counterpoint.batching import MicroBatch, in_micro_batches
from counterpoint.checks import check_batch, shape_text
from counterpoint.classifier import Classifier
from counterpoint.errors import InputError, ModelError, NotFiniteError, UnknownNameError
from counterpoint.protocols import BoundScore, Score

Target = int | str | Sequence[int] | Sequence[str] | Int[Tensor, " batch"]
"""A class: its index, its label, "top1" (the model's own first choice at the clean input), or one of these per image."""

Kind = Literal["logit", "probability", "log_probability", "log_odds", "contrast"]


def logit(model: nn.Module | Classifier, target: Target = "top1") -> "ClassScore":
    """The score of a class before softmax, z_c.

    Args:
        model: A Classifier, or a module (rows, ...) -> (rows, classes).
        target: Which class; see `Target`.
    """
    return ClassScore(model, target, "logit")


def probability(model: nn.Module | Classifier, target: Target = "top1") -> "ClassScore":
    """The softmax probability of a class, p_c in [0, 1]; see `logit` for the arguments."""
    return ClassScore(model, target, "probability")


def log_probability(model: nn.Module | Classifier, target: Target = "top1") -> "ClassScore":
    """The log-softmax of a class, log p_c = z_c - log sum over all classes of exp z_j, at most 0; see `logit` for the arguments."""
    return ClassScore(model, target, "log_probability")


def log_odds(model: nn.Module | Classifier, target: Target = "top1") -> "ClassScore":
    """log p_c / (1 - p_c) = z_c - log sum over the other classes of exp z_j; see `logit` for the arguments."""
    return ClassScore(model, target, "log_odds")


def contrast(
    model: nn.Module | Classifier, target: Target = "top1", *, against: Target = "runner_up"
) -> "ClassScore":
    """The logit of one class minus that of another, z_c - z_d: "why this and not that?".

    Args:
        model: A Classifier, or a module (rows, ...) -> (rows, classes).
        target: Which class; see `Target`.
        against: The other class; "runner_up" is the best class but `target` at the clean input.
    """
    return ClassScore(model, target, "contrast", against)


class ClassScore:
    """A class read out of a classifier's output; made by `logit`, `probability` and their like."""

    def __init__(
        self, model: nn.Module | Classifier, target: Target, kind: Kind, against: Target | None = None
    ) -> None:
        if not isinstance(model, nn.Module | Classifier):
            raise InputError(f"model must be a torch.nn.Module or a Classifier, got {type(model).__name__}.")
        self.module: nn.Module = model.module if isinstance(model, Classifier) else model
        self.kind: Kind = kind
        self.target = target
        self.against = against
        self.labels: Sequence[str] | None = getattr(self.module, "labels", None)

    def bind(self, inputs: Float[Tensor, "batch *input"]) -> "BoundClassScore":
        """Settle the classes with one forward of the clean inputs.

        Raises:
            ModelError: the model does not return (rows, classes).
            InputError: no such class, an unknown label, or another number of targets than images.
            NotFiniteError: the model returns NaN or infinity for an input.
        """
        check_batch("inputs", inputs)
        check_pixels(self.module, "inputs", inputs)
        with torch.no_grad(), _mismatch_explained(self.module, inputs):
            (logits,) = in_micro_batches(
                lambda rows: (_logits(self.module(rows), len(rows)),),
                inputs,
                micro=MicroBatch.for_inputs(inputs),
            )
        broken = (~torch.isfinite(logits)).any(1).nonzero().flatten().tolist()
        if broken:
            raise NotFiniteError(
                f"the model must return finite scores, but returns NaN or infinity for images {broken}."
            )
        batch, classes = logits.shape
        if self.labels is not None and len(self.labels) != classes:
            raise ModelError(
                f"labels must name each of the model's {classes} classes, but there are {len(self.labels)}."
            )
        target = self._classes(self.target, "target", logits)
        against = None
        if self.kind == "contrast":
            others = logits.scatter(1, target[:, None], -torch.inf)
            against = self._classes("runner_up" if self.against is None else self.against, "against", others)
            if (against == target).any():
                raise InputError("against must be another class than target, but both are the same.")
        if self.kind in ("log_odds", "contrast") and classes < 2:
            raise ModelError(
                f"{self.kind} needs at least two classes, but the model returns ({batch}, {classes})."
            )
        # In units of this score, so that "too small to divide by" means the same for logits and probabilities.
        every = logits.softmax(1) if self.kind == "probability" else logits
        bound = BoundClassScore(
            module=self.module,
            kind=self.kind,
            classes=target,
            against=against,
            labels=None if self.labels is None else tuple(self.labels[c] for c in target.tolist()),
            spread=every.amax(1) - every.amin(1),
            at_inputs=torch.empty(0),
        )
        object.__setattr__(bound, "at_inputs", bound.read(logits, torch.arange(batch, device=logits.device)))
        return bound

    def _classes(self, target: Target, argument: str, logits: Tensor) -> Int[Tensor, " batch"]:
        batch, classes = logits.shape
        many = isinstance(target, Tensor | Sequence) and not isinstance(target, str)
        if isinstance(target, Tensor):
            if target.is_floating_point() or target.ndim > 1:
                raise InputError(
                    f"{argument} must be whole numbers (batch,), got {target.dtype} {shape_text(target)}."
                )
            target = [int(c) for c in target.reshape(-1).tolist()]
        each = list(target) if many else [target] * batch  # type: ignore[arg-type]
        if len(each) != batch:
            raise InputError(
                f"{argument} must be one class, or one for each of {batch} images, got {len(each)}."
            )
        first = logits.argmax(1).tolist()
        chosen = [self._class(one, argument, classes, first[i]) for i, one in enumerate(each)]
        return torch.tensor(chosen, device=logits.device)

    def _class(self, target: object, argument: str, classes: int, first: int) -> int:
        if isinstance(target, bool) or not isinstance(target, int | str):
            raise InputError(f"{argument} must be a class index, a label or 'top1', got {target!r}.")
        if isinstance(target, int):
            if not 0 <= target < classes:
                raise InputError(f"{argument} must be a class from 0 to {classes - 1}, got {target}.")
            return target
        if target in ("top1", "runner_up"):
            return first
        if self.labels is None:
            raise UnknownNameError(
                f"{argument} '{target}' is a label, but the model has none; use an index, or Classifier(..., labels=)."
            )
        same = [i for i, label in enumerate(self.labels) if label.lower() == target.lower()]
        if not same:
            raise UnknownNameError.among("label", target, self.labels, shown=3)
        if len(same) > 1:
            raise InputError(f"{argument} '{target}' is the label of several classes, {same}; use the index.")
        return same[0]


@dataclass(frozen=True, kw_only=True, eq=False)
class BoundClassScore:
    """A class score settled at its inputs."""

    module: nn.Module
    kind: Kind
    classes: Int[Tensor, " batch"]
    against: Int[Tensor, " batch"] | None
    labels: tuple[str, ...] | None
    """The label of each image's class."""
    spread: Float[Tensor, " batch"]
    """Largest minus smallest score over all classes at the clean input."""
    at_inputs: Float[Tensor, " ..."]
    """f(x), known from settling the classes."""

    def __call__(
        self, points: Float[Tensor, "rows *input"], image: Int[Tensor, " rows"]
    ) -> Float[Tensor, " rows"]:
        """The score of each row; `image` says which of the inputs' classes to read."""
        return self.read(self.module(points), image)

    def on(self, module: nn.Module) -> "BoundClassScore":
        """The same score, settled the same way, read from another module: an equal, faster copy."""
        return replace(self, module=module)

    def read(self, output: object, image: Int[Tensor, " rows"]) -> Float[Tensor, " rows"]:
        """The scores in an output of the module, float32 at least.

        Raises:
            ModelError: the output is not (rows, classes).
        """
        logits = _logits(output, len(image))
        chosen = self.classes[image][:, None]
        own = logits.gather(1, chosen)[:, 0]
        if self.kind == "probability":
            return (own - logits.logsumexp(1)).exp()
        if self.kind == "log_probability":
            return logits.log_softmax(1).gather(1, chosen)[:, 0]
        if self.kind == "log_odds":
            return own - logits.scatter(1, chosen, -torch.inf).logsumexp(1)
        if self.against is not None:
            return own - logits.gather(1, self.against[image][:, None])[:, 0]
        return own


@dataclass(frozen=True)
class CallableScore:
    """Any function (rows, ...) -> (rows,) as a score; it ignores which image a row belongs to."""

    function: Callable[[Tensor], Tensor]

    def bind(self, inputs: Float[Tensor, "batch *input"]) -> "CallableScore":
        """Nothing to settle."""
        return self

    def __call__(
        self, points: Float[Tensor, "rows *input"], image: Int[Tensor, " rows"]
    ) -> Float[Tensor, " rows"]:
        """The function's numbers, float32 at least.

        Raises:
            ModelError: the function does not return a tensor (rows,).
        """
        scores = self.function(points)
        if not isinstance(scores, Tensor) or scores.shape != (len(points),):
            raise ModelError(
                f"score must return one number per row, ({len(points)},), but returned {_output_text(scores)}; "
                "for a classifier use cp.logit(module, target=...)."
            )
        return _at_least_float32(scores)


def as_score(score: object) -> Score:
    """A Score as it is, a callable wrapped.

    Raises:
        InputError: neither.
    """
    if isinstance(score, Score):
        return score
    if callable(score):
        return CallableScore(score)
    raise InputError(
        f"score must be a score such as cp.logit(...) or a callable, got {type(score).__name__}."
    )


def check_pixels(scored: object, name: str, inputs: Tensor) -> None:
    """Let a module that takes pixels check them; `scored` is the module, or a bound score that knows one."""
    module = scored if isinstance(scored, nn.Module) else getattr(scored, "module", None)
    check = getattr(module, "check_pixels", None)
    if check is not None:
        check(name, inputs)


@contextmanager
def _mismatch_explained(module: nn.Module, inputs: Tensor) -> Iterator[None]:
    """Say so where a model fails on inputs of another type or device than its weights."""
    try:
        yield
    except RuntimeError as error:
        weights = next((p for p in module.parameters() if p.is_floating_point()), None)
        if weights is None or (weights.dtype, weights.device) == (inputs.dtype, inputs.device):
            raise
        raise InputError(
            f"inputs are {inputs.dtype} on {inputs.device}, but the model's weights are {weights.dtype} on {weights.device}; "
            "use inputs.to(device, dtype) of the weights, or move the model."
        ) from error


def classes_of(bound: BoundScore) -> tuple[list[int] | None, tuple[str, ...] | None]:
    """Class index and label of each image, where the score has classes."""
    if isinstance(bound, BoundClassScore):
        return bound.classes.tolist(), bound.labels
    return None, None


def _logits(output: object, rows: int) -> Float[Tensor, "rows classes"]:
    if not isinstance(output, Tensor) or output.ndim != 2 or output.shape[0] != rows or output.shape[1] == 0:
        raise ModelError(
            f"the model must return one row of class scores per image, ({rows}, classes), but returned "
            f"{_output_text(output)}; wrap it in a module or a function that returns only these."
        )
    return _at_least_float32(output)


def _at_least_float32(tensor: Tensor) -> Tensor:
    if not tensor.is_floating_point():
        raise ModelError(f"scores must be real floating-point numbers, got {tensor.dtype}.")
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def _output_text(output: object) -> str:
    if isinstance(output, Tensor):
        return f"a tensor {shape_text(output)}"
    if isinstance(output, tuple | list):
        return f"a {type(output).__name__} of {len(output)}: " + ", ".join(
            _output_text(o) for o in output[:3]
        )
    if isinstance(output, dict):
        return f"a dict with {', '.join(map(str, list(output)[:5]))}"
    return f"a {type(output).__name__}"
