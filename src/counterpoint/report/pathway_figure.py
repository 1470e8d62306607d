"""Figure of the activation deviation: activations by fractions, each kind of path beside its floor."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize, PowerNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from counterpoint.errors import InputError
from counterpoint.metrics.deviation import ActivationDeviation
from counterpoint.report.drawing import SCALE

_MEASURES = {
    "total": "relative L2 distance of activations",
    "excess": "excess activation, share of the original's",
    "seam_free_excess": "excess that the baseline brings along, share of the original's activation",
    "seams": "activation that neither image has, share of the original's",
    "disinhibition": "less of what speaks against the class, share of all that speaks",
}
_PANEL, _NAMES, _ROW = 1.5, 2.1, 0.165  # inches
_MOST_NAMES = 60


def pathway_figure(
    deviation: ActivationDeviation, *, measure: str = "excess", image: int | None = None, caption: str = ""
) -> Figure:
    """Activations, in the order in which they run, by fractions: the map, random masks of the same areas, and the difference.

    Orange in the difference: the map's masks deviate more than random ones do; blue: less. Grey: undefined. Colours of the others grow with
    the square root, since the last activations deviate several times as much as the first.

    Args:
        deviation: Of one map.
        measure: "total", "excess", "seam_free_excess", "seams" or "disinhibition".
        image: Which image of the batch; None for the mean over all.
        caption: Which map, which baseline.

    Raises:
        UnknownNameError: no such measure.
        InputError: an image that is not in the batch.
    """
    batch = len(deviation.tied)
    if image is not None and not 0 <= image < batch:
        raise InputError(f"image must be from 0 to {batch - 1}, got {image}.")
    sides: list[tuple[str, np.ndarray, bool]] = []
    differences: list[tuple[str, np.ndarray, bool]] = []
    for kind in deviation.kinds:
        ours = shown_values(deviation, measure, kind, image, floor=False)
        sides.append((f"{kind}\nthe map", ours, False))
        if deviation.floors[kind]:
            floor = shown_values(deviation, measure, kind, image, floor=True)
            sides.append((f"{kind}\nrandom masks", floor, False))
            differences.append((f"{kind}\ndifference", ours - floor, True))
    # Next to each other, so that each colour bar has its own panels above it.
    columns = [*sides, *differences]
    most, swing = (largest([numbers for _, numbers, _ in group]) for group in (sides, differences))
    rows = len(deviation.layers)
    figure = Figure(
        figsize=(_NAMES + _PANEL * len(columns), max(2.8, 2.2 + _ROW * rows)),
        dpi=130,
        facecolor="white",
        layout="constrained",
    )
    axes = figure.subplots(1, len(columns), sharey=True, squeeze=False)[0]
    fractions = [f"{fraction:.0%}" for fraction in deviation.fractions.tolist()]
    drawn: dict[bool, AxesImage] = {}
    for panel, (title, numbers, signed) in zip(axes, columns, strict=True):
        norm = Normalize(-swing, swing) if signed else PowerNorm(0.5, 0.0, most)
        drawn[signed] = heat_panel(panel, numbers, norm, SCALE if signed else "Oranges")
        panel.set_title(f"{title}\nmean {np.mean(numbers):.3f}", fontsize=8)
        panel.set_xticks(range(len(fractions)), fractions, fontsize=7)
    _name_rows(axes[0], deviation.layers)
    for signed, mapped in drawn.items():
        here = [panel for panel, column in zip(axes, columns, strict=True) if column[2] == signed]
        bar = figure.colorbar(mapped, ax=here, location="bottom", shrink=0.9, aspect=40, pad=0.02)
        bar.ax.tick_params(labelsize=7)
        bar.set_label("map minus random masks" if signed else _MEASURES[measure], fontsize=7.5)
    whose = f"image {image}" if image is not None else f"mean of {batch} images" if batch > 1 else "one image"
    figure.suptitle(
        f"{caption + ': ' if caption else ''}{whose}; shares of pixels kept (insertion) or removed (deletion)",
        fontsize=9,
    )
    return figure


def shown_values(
    deviation: ActivationDeviation, measure: str, kind: str, image: int | None, *, floor: bool
) -> np.ndarray:
    """One measure on one kind of path, (layers, fractions), of one image or their mean."""
    values = deviation.values(measure, kind, floor=floor)
    shown: np.ndarray = (values.mean(0) if image is None else values[image]).double().cpu().numpy()
    return shown


def largest(columns: Sequence[np.ndarray]) -> float:
    """The largest size of all numbers, to scale colours with."""
    sizes = [float(np.abs(numbers[np.isfinite(numbers)]).max(initial=0.0)) for numbers in columns]
    return max(sizes, default=0.0) or 1.0


def heat_panel(panel: Axes, numbers: np.ndarray, norm: Normalize, colours: str | Colormap) -> AxesImage:
    """A table of numbers as colours; what is not defined is grey."""
    panel.set_facecolor("#b0b0b0")
    panel.tick_params(length=2)
    return panel.imshow(numbers, cmap=colours, norm=norm, aspect="auto", interpolation="nearest")


def _name_rows(panel: Axes, names: Sequence[str]) -> None:
    """All names, or evenly chosen ones where there are too many to read."""
    step = -(-len(names) // _MOST_NAMES)
    places = range(0, len(names), step)
    panel.set_yticks(places, [names[place] for place in places], fontsize=6.5)
