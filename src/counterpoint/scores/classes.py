"""The score of a class, read out of a classifier's output."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from counterpoint.classifier import Classifier
from counterpoint.errors import InputError, ModelError
from counterpoint.outputs import Output, ways_out
from counterpoint.scores.reading import clean_look, module_of, tensor_in
from counterpoint.scores.targets import Target, check_labels, class_indices, labels_of

Kind = Literal["logit", "probability", "log_probability", "log_odds", "contrast", "label_probability"]


def logit(
    model: nn.Module | Classifier, target: Target = "top1", *, output: Output | None = None
) -> "ClassScore":
    """The score of a class before softmax, z_c.

    Args:
        model: A Classifier, or a module (rows, ...) -> (rows, classes).
        target: Which class; see `Target`.
        output: Which part of the model's output is read, where that holds several tensors: a key, a field, an index, or a function.
    """
    return ClassScore(model, target, "logit", output=output)


def probability(
    model: nn.Module | Classifier, target: Target = "top1", *, output: Output | None = None
) -> "ClassScore":
    """The softmax probability of a class, p_c in [0, 1]; see `logit` for the arguments."""
    return ClassScore(model, target, "probability", output=output)


def log_probability(
    model: nn.Module | Classifier, target: Target = "top1", *, output: Output | None = None
) -> "ClassScore":
    """The log-softmax of a class, log p_c = z_c - log sum over all classes of exp z_j, at most 0; see `logit` for the arguments."""
    return ClassScore(model, target, "log_probability", output=output)


def log_odds(
    model: nn.Module | Classifier, target: Target = "top1", *, output: Output | None = None
) -> "ClassScore":
    """log p_c / (1 - p_c) = z_c - log sum over the other classes of exp z_j; see `logit` for the arguments."""
    return ClassScore(model, target, "log_odds", output=output)


def label_probability(
    model: nn.Module | Classifier, target: Target = "top1", *, output: Output | None = None
) -> "ClassScore":
    """The probability of a label in a model where each label is there or not by itself (multi-label), sigmoid(z_c) in [0, 1].

    The log-odds of such a label are its logit. See `logit` for the arguments.
    """
    return ClassScore(model, target, "label_probability", output=output)


def contrast(
    model: nn.Module | Classifier,
    target: Target = "top1",
    *,
    against: Target = "runner_up",
    output: Output | None = None,
) -> "ClassScore":
    """The logit of one class minus that of another, z_c - z_d: "why this and not that?".

    Args:
        model: A Classifier, or a module (rows, ...) -> (rows, classes).
        target: Which class; see `Target`.
        against: The other class; "runner_up" is the best class but `target` at the clean input.
        output: Which part of the model's output is read; see `logit`.
    """
    return ClassScore(model, target, "contrast", against, output=output)


_OF_SOFTMAX = ("probability", "log_probability", "log_odds")


def _are_probabilities(outputs: Tensor) -> bool:
    """Whether no number is negative and every row sums to 1."""
    return bool((outputs >= 0).all()) and bool(((outputs.sum(1) - 1).abs() < 1e-3).all())


class ClassScore:
    """A class read out of a classifier's output; made by `logit`, `probability` and their like."""

    def __init__(
        self,
        model: nn.Module | Classifier,
        target: Target,
        kind: Kind,
        against: Target | None = None,
        *,
        output: Output | None = None,
    ) -> None:
        self.module = module_of(model, output)
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
        module, logits = clean_look(self.module, inputs, _logits)
        batch, classes = logits.shape
        check_labels(self.labels, classes)
        target = class_indices(self.target, "target", logits, self.labels)
        against = None
        if self.kind == "contrast":
            others = logits.scatter(1, target[:, None], -torch.inf)
            other = "runner_up" if self.against is None else self.against
            against = class_indices(other, "against", others, self.labels)
            if (against == target).any():
                raise InputError("against must be another class than target, but both are the same.")
        if self.kind not in ("logit", "label_probability") and classes < 2:
            raise ModelError(
                f"{self.kind} needs at least two classes, but the model returns ({batch}, {classes}); of one number the softmax is "
                "always 1: use cp.label_probability, its sigmoid, or cp.logit."
            )
        if self.kind in _OF_SOFTMAX and _are_probabilities(logits):
            warnings.warn(
                f"the model's outputs are probabilities already: {self.kind} takes their softmax once more. Take the last softmax off the "
                "model, or explain its outputs as they are, with cp.logit.",
                stacklevel=4,
            )
        # In units of this score, so that "too small to divide by" means the same for logits and probabilities.
        every = logits
        if self.kind == "probability":
            every = logits.softmax(1)
        elif self.kind == "label_probability":
            every = logits.sigmoid()
        bound = BoundClassScore(
            module=module,
            kind=self.kind,
            classes=target,
            against=against,
            labels=labels_of(self.labels, target),
            spread=every.amax(1) - every.amin(1),
            at_inputs=torch.empty(0),
        )
        object.__setattr__(bound, "at_inputs", bound.read(logits, torch.arange(batch, device=logits.device)))
        return bound


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
        if self.kind == "label_probability":
            return own.sigmoid()
        if self.kind == "log_probability":
            return logits.log_softmax(1).gather(1, chosen)[:, 0]
        if self.kind == "log_odds":
            return own - logits.scatter(1, chosen, -torch.inf).logsumexp(1)
        if self.against is not None:
            return own - logits.gather(1, self.against[image][:, None])[:, 0]
        return own


def _logits(output: object, rows: int) -> Float[Tensor, "rows classes"]:
    wanted = f"one row of class scores per image, ({rows}, classes)"
    logits = tensor_in(output, rows, wanted)
    if logits.ndim == 2 and logits.shape[1] > 0:
        return logits
    hint = "; wrap it in a module or a function that returns only these."
    if logits.ndim == 1:
        hint = "; for one number per image use cp.output_value(model)."
    elif logits.ndim > 3:
        hint = "; for a map of classes use cp.region(model, target=..., region=...)."
    raise ModelError(f"the model must return {wanted}, but returned {ways_out(logits)}{hint}")
