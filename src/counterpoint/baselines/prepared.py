"""What a baseline that is sought with the model knows once it has been prepared: the picture of each input.

A prepared baseline describes itself as the one it was made from, and equals it: parameters, model and inputs settle the pictures.
"""

from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast

import torch
from jaxtyping import Float
from torch import Tensor

from counterpoint.checks import check_images
from counterpoint.errors import InputError
from counterpoint.protocols import Baseline, BoundScore
from counterpoint.scores import BoundClassScore

Images = Float[Tensor, "batch channel height width"]
AnyBaseline = TypeVar("AnyBaseline", bound=Baseline)


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """The picture of each input that one was sought for."""

    inputs: Images
    pictures: Images


def check_classes(baseline: Baseline, bound: BoundScore, inputs: Images) -> BoundClassScore:
    """The score, of which module and classes are known.

    Raises:
        ShapeError: the inputs are no images.
        InputError: the score knows no classes of a module.
    """
    check_images("inputs", inputs)
    if isinstance(bound, BoundClassScore):
        return bound
    raise InputError(
        f"{baseline!r} is sought with a model's classes: score must be one of a module, such as cp.logit(module, ...), got a "
        f"{'callable' if hasattr(bound, 'function') else type(bound).__name__}."
    )


def knowing(baseline: AnyBaseline, inputs: Images, pictures: Images) -> AnyBaseline:
    """The same baseline with what was found, in its field `found`."""
    prepared = replace(cast(Any, baseline))
    object.__setattr__(prepared, "found", Found(inputs=inputs.detach().clone(), pictures=pictures))
    return cast(AnyBaseline, prepared)


def pictures_of(baseline: Baseline, found: Found | None, inputs: Images) -> Images:
    """The pictures of these inputs, which may be any of those that were sought for, in any order.

    Raises:
        InputError: nothing was sought yet, or for other inputs.
    """
    if found is None:
        raise InputError(
            f"{baseline!r} is sought with the model, and was not yet: cp.compare(score, inputs, baseline=...) does it, or "
            "baseline.prepare(score.bind(inputs), inputs)."
        )
    places = [_place(found.inputs, image) for image in inputs]
    if None in places:
        raise InputError(
            f"{baseline!r} is known for the {len(found.inputs)} images that it was prepared for, but inputs hold another one "
            f"(image {places.index(None)}); prepare it for these."
        )
    return torch.stack([found.pictures[place] for place in cast(list[int], places)])


def _place(images: Images, image: Float[Tensor, "..."]) -> int | None:
    if image.shape != images.shape[1:] or image.dtype != images.dtype:
        return None
    return next((k for k, other in enumerate(images) if torch.equal(other.to(image), image)), None)
