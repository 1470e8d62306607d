"""Draw explanations: `plot`, and the file it can be written to. matplotlib is imported only then."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from counterpoint.attribution import Attribution
from counterpoint.checks import check_range, shape_text
from counterpoint.errors import InputError, ShapeError
from counterpoint.files import whole_file
from counterpoint.report.sheet import sheet_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot(
    attribution: Attribution | Sequence[Attribution],
    images: Float[Tensor, "batch channel height width"],
    *,
    image: int = 0,
    caption: str = "",
    note: str = "",
    smooth: float | None = None,
) -> "Figure":
    """Draw the explanations of one image: photograph, baselines, signed maps on one scale per method, and the numbers to judge them.

    Rows are methods and layers, columns are baselines. Of shares, orange speaks for the class and blue against it.

    Args:
        attribution: One explanation, or several of the same score of the same images.
        images: What was explained, pixels in [0, 1].
        image: Which image of the batch.
        caption: Where the image is from: a file name, a model.
        note: A sentence below the figure.
        smooth: Standard deviation in pixels of the blur that the maps are drawn with; 0 for none. By default maps of the
            input are drawn with 3 px for each 224 px of the image. The values themselves are never smoothed, and the figure names it.

    Returns:
        A matplotlib Figure, made without pyplot; notebooks show it, `figure.savefig("cat.png")` writes it.

    Raises:
        InputError: nothing to draw, explanations of different scores, or an image that is not in the batch.
        ShapeError: `images` are not what was explained.
    """
    from counterpoint.report.drawing import draw

    attributions = [attribution] if isinstance(attribution, Attribution) else list(attribution)
    _check(attributions, images, image)
    if smooth is not None:
        check_range("smooth", smooth, 0.0)
    return draw(
        sheet_of(attributions, images[image : image + 1].detach().cpu(), image, caption, note, smooth)
    )


def save_png(figure: "Figure", path: str | os.PathLike[str]) -> None:
    """Write a figure; the same figure gives the same bytes.

    Raises:
        OutputError: the file cannot be written.
    """
    with whole_file(os.fspath(path)) as partial:
        figure.savefig(partial, format="png", metadata={"Software": None})


def _check(attributions: Sequence[Attribution], images: Tensor, image: int) -> None:
    if not attributions:
        raise InputError("attribution must be at least one explanation, got none.")
    for one in attributions:
        if not isinstance(one, Attribution):
            raise InputError(
                f"attribution must be an Attribution or a list of them, got {type(one).__name__}."
            )
    first = attributions[0]
    if not isinstance(images, Tensor) or images.ndim != 4:
        got = shape_text(images) if isinstance(images, Tensor) else type(images).__name__
        raise ShapeError(f"images must be a tensor (batch, channel, height, width), got {got}.")
    if not 0 <= image < len(images):
        raise InputError(f"image must be from 0 to {len(images) - 1}, got {image}.")
    for one in attributions:
        if len(one.score) != len(images) or one.image_size not in (None, tuple(images.shape[2:])):
            raise ShapeError(
                f"images must be those that were explained, {len(one.score)} of {one.image_size}, got {shape_text(images)}."
            )
        same = one.question == first.question and torch.allclose(one.score, first.score, rtol=1e-3, atol=1e-5)
        if not same:
            raise InputError(
                "attributions must all explain the same score of the same images; draw the others apart."
            )
