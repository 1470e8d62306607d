"""The figure of a feature visualisation: the image, its way, how the objective grew, and what photographs reach."""

import textwrap
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from counterpoint.report.wording import number
from counterpoint.visualisation import Visualisation

_INK, _GREY, _CURVE, _LEVEL = "#1a1a1a", "#8a8a8a", "#2470b3", "#d9690c"
_SHOWN_STEPS, _SHOWN_PHOTOGRAPHS = 4, 4


def visualisation_figure(
    found: Visualisation,
    *,
    title: str,
    reached: float,
    noise: float,
    photographs: Sequence[tuple[str, float]] = (),
    pictures: Float[Tensor, "photographs 3 height width"] | None = None,
) -> Figure:
    """The image large, beside it the way it came about and the curve of the objective, below the photographs that reach most.

    Args:
        found: What was made; the last of its intermediate images are shown.
        title: What it was made for.
        reached: The objective of the whole image, without noise.
        noise: The mean objective of images that were not optimised.
        photographs: Name and objective of each, the largest first.
        pictures: Their pixels, in the same order.
    """
    strips = 1 + bool(photographs)
    figure = Figure(figsize=(9.6, 4.4 + 1.9 * (strips - 1)), dpi=130, facecolor="white", layout="constrained")
    grid = figure.add_gridspec(1 + strips, 8, height_ratios=[2.6, *([1.9] * strips)])
    large = figure.add_subplot(grid[:2, :4])
    _show(large, found.image[0], f"{number(reached, 3)} (whole image, no noise)")
    curve = figure.add_subplot(grid[0, 4:])
    steps = np.arange(found.steps)
    curve.plot(steps, found.values.numpy(), color=_CURVE, lw=1.0)
    curve.axhline(noise, color=_GREY, lw=1.0, ls="--")
    curve.annotate("not optimised", (found.steps, noise), fontsize=7, color=_GREY, ha="right", va="bottom")
    if photographs:
        curve.axhline(photographs[0][1], color=_LEVEL, lw=1.0, ls="--")
        curve.annotate(
            "best photograph",
            (found.steps, photographs[0][1]),
            fontsize=7,
            color=_LEVEL,
            ha="right",
            va="bottom",
        )
    curve.set_title("objective of the views at each step", fontsize=8, color=_INK)
    curve.tick_params(labelsize=7)
    for side in ("top", "right"):
        curve.spines[side].set_visible(False)
    kept = list(zip(found.intermediate_steps, found.intermediate, strict=True))[-_SHOWN_STEPS:]
    for k, (step, image) in enumerate(kept):
        _show(figure.add_subplot(grid[1, 4 + k]), image, f"step {step}")
    for k, (name, value) in enumerate(photographs[:_SHOWN_PHOTOGRAPHS]):
        if pictures is not None:
            short = name if len(name) <= 24 else name[:23] + "…"
            _show(figure.add_subplot(grid[2, 2 * k : 2 * k + 2]), pictures[k], f"{short}: {number(value, 3)}")
    figure.suptitle(textwrap.fill(title, 100), fontsize=10, color=_INK)
    return figure


def _show(panel: Axes, image: Float[Tensor, "3 height width"], title: str) -> None:
    panel.imshow(np.clip(image.permute(1, 2, 0).float().cpu().numpy(), 0, 1))
    panel.set_title(title, fontsize=8, color=_INK)
    panel.set_axis_off()
