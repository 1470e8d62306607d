"""Which class is meant: by index, by label, by the model's own first choice, or one of these for each image."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from counterpoint.checks import shape_text
from counterpoint.errors import InputError, ModelError, UnknownNameError

Target = int | str | Sequence[int] | Sequence[str] | Int[Tensor, " batch"]
"""A class: its index, its label, "top1" (the model's own first choice at the clean input), or one of these per image."""

Labels = Sequence[str] | None


def class_indices(
    target: Target, argument: str, scores: Float[Tensor, "batch classes"], labels: Labels
) -> Int[Tensor, " batch"]:
    """The class of each image.

    Args:
        target: Which; see `Target`.
        argument: What messages call it.
        scores: The largest of each row is "top1".
        labels: The names of the classes, if they have any.

    Raises:
        InputError: no such class, or another number of targets than images.
        UnknownNameError: an unknown label.
    """
    batch, classes = scores.shape
    many = isinstance(target, Tensor | Sequence) and not isinstance(target, str)
    if isinstance(target, Tensor):
        if target.is_floating_point() or target.ndim > 1:
            raise InputError(
                f"{argument} must be whole numbers (batch,), got {target.dtype} {shape_text(target)}."
            )
        target = [int(c) for c in target.reshape(-1).tolist()]
    each = list(target) if many else [target] * batch  # type: ignore[arg-type]
    if len(each) != batch:
        raise InputError(f"{argument} must be one class, or one for each of {batch} images, got {len(each)}.")
    first = scores.argmax(1).tolist()
    chosen = [_class(one, argument, classes, labels, first[i]) for i, one in enumerate(each)]
    return torch.tensor(chosen, device=scores.device)


def check_labels(labels: Labels, classes: int) -> None:
    """Raise ModelError unless there is a label for each class, or none at all."""
    if labels is not None and len(labels) != classes:
        raise ModelError(
            f"labels must name each of the model's {classes} classes, but there are {len(labels)}."
        )


def labels_of(labels: Labels, classes: Int[Tensor, " batch"]) -> tuple[str, ...] | None:
    """The label of each image's class."""
    return None if labels is None else tuple(labels[c] for c in classes.tolist())


def _class(target: object, argument: str, classes: int, labels: Labels, first: int) -> int:
    if isinstance(target, bool) or not isinstance(target, int | str):
        raise InputError(f"{argument} must be a class index, a label or 'top1', got {target!r}.")
    if isinstance(target, int):
        if not 0 <= target < classes:
            raise InputError(f"{argument} must be a class from 0 to {classes - 1}, got {target}.")
        return target
    if target in ("top1", "runner_up"):
        return first
    if labels is None:
        raise UnknownNameError(
            f"{argument} '{target}' is a label, but the model has none; use an index, or Classifier(..., labels=)."
        )
    same = [i for i, label in enumerate(labels) if label.lower() == target.lower()]
    if not same:
        raise UnknownNameError.among("label", target, labels, shown=3)
    if len(same) > 1:
        raise InputError(f"{argument} '{target}' is the label of several classes, {same}; use the index.")
    return same[0]
