"""Figure of what FEI found: the image as its masks keep it, its measured curves, the search, and how far activations went."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize, PowerNorm
from matplotlib.figure import Figure, SubFigure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator, PercentFormatter
from torch import Tensor

from counterpoint import spec
from counterpoint.attribution import Attribution
from counterpoint.errors import InputError
from counterpoint.metrics.deviation import ActivationDeviation
from counterpoint.metrics.ordering import ordering, removed_counts
from counterpoint.protocols import Baseline
from counterpoint.report.drawing import SCALE
from counterpoint.report.pathway_figure import heat_panel, largest, shown_values
from counterpoint.report.sheet import picture_of
from counterpoint.report.wording import command_text, number, percent, telling

EXTRAS = ("insertion", "deletion", "loss", "measured", "start")
"""What the figure needs an attribution to hold."""

_INK, _GREY, _COMES, _GOES = "#1a1a1a", "#5c5c5c", "#d9690c", "#2470b3"
_SHARES = (0.07, 0.2, 0.4, 0.6, 0.8)
_MOST_NAMES = 48


def fei_figure(
    attribution: Attribution,
    images: Float[Tensor, "batch channel height width"],
    deviation: ActivationDeviation | str | None = None,
    *,
    image: int = 0,
    caption: str = "",
) -> Figure:
    """The image where the map's masks keep it, the measured curves, loss and area on the way, and excess activation above its floor.

    Each picture is a point of the insertion curve, marked there: what the model was given, and what it made of it.

    Args:
        attribution: By FEI.
        images: What was explained, pixels in [0, 1].
        deviation: Of the same map, by `cp.metrics.activation_deviation`; or why there is none, which is then said in its place. None
            leaves the row out.
        image: Which image of the batch.
        caption: Where the image is from: a file name, a model.

    Raises:
        InputError: another method's attribution, a loaded one whose baseline is only described, or an image that is not in the batch.
    """
    if missing := [name for name in EXTRAS if name not in attribution.extras]:
        raise InputError(f"attribution must be FEI's, but has no {', '.join(missing)} in its extras.")
    if not isinstance(attribution.baseline, Baseline):
        raise InputError("attribution must know its baseline, but only its description was saved.")
    if not 0 <= image < len(images):
        raise InputError(f"image must be from 0 to {len(images) - 1}, got {image}.")
    last = {} if deviation is None else {"deviation": 0.5 if isinstance(deviation, str) else 3.25}
    heights = [3.25, 2.75, *last.values()]
    figure = Figure(
        figsize=(13.2, sum(heights)),
        dpi=130,
        facecolor="white",
        layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.06),
    )
    rows = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    heading, details = _heading(attribution, image, caption)
    rows[0].suptitle(heading, x=0.008, ha="left", fontsize=14, weight="bold", color=_INK)
    rows[0].supxlabel(details, x=0.008, ha="left", fontsize=9.5, color=_GREY)
    shown = _shown_points(attribution.extras["insertion"].shape[1] - 1)
    _pictures(rows[0], attribution, attribution.baseline, images[image : image + 1], image, shown)
    curves, loss, areas = rows[1].subplots(1, 3, gridspec_kw={"width_ratios": [1.5, 1, 1], "wspace": 0.06})
    _curves(curves, attribution, image, shown)
    _loss(loss, attribution.extras["loss"][image])
    _areas(areas, attribution.extras["measured"][image])
    if isinstance(deviation, str):
        rows[2].suptitle(
            f"no activation deviation: {deviation}", x=0.008, ha="left", fontsize=9.5, color=_GREY, wrap=True
        )
    elif deviation is not None:
        _deviation(rows[2], deviation, image)
    return figure


def _heading(attribution: Attribution, image: int, caption: str) -> tuple[str, str]:
    """The headline, and how the map was made."""
    classes, labels = attribution.question.get("class_target"), attribution.question.get("label")
    what = f"“{labels[image]}”" if labels else f"class {classes[image]}" if classes else "this score"
    against = command_text(telling(spec.describe(attribution.baseline)))
    method = command_text(spec.unusual("method", spec.describe(attribution.method)))
    details = (caption, method, f"all other pixels from {against}")
    return f"Which pixels {what} needs first", "  ·  ".join(filter(None, details))


def _unit(attribution: Attribution) -> str:
    """What the curves are measured in: a class by its probability, any other score as it is."""
    return "score" if attribution.question.get("class_target") is None else "p"


def _shown_points(steps: int) -> list[int]:
    """The points of a curve that are shown as pictures: no end of it, none twice."""
    return sorted({min(max(1, round(share * steps)), steps - 1) for share in _SHARES})


def _pictures(
    row: SubFigure,
    attribution: Attribution,
    baseline: Baseline,
    inputs: Float[Tensor, "1 channel height width"],
    image: int,
    points: Sequence[int],
) -> None:
    """The photograph, and the first so many pixels of the map on the baseline."""
    insertion = attribution.extras["insertion"][image]
    steps, unit = len(insertion) - 1, _unit(attribution)
    inputs = inputs.detach()
    fill = baseline(inputs)
    rank = ordering(attribution.heatmap()[image : image + 1].to(inputs.device), order="signed", seed=0).rank
    counts = removed_counts(rank.numel(), steps)
    panels = row.subplots(1, 1 + len(points))
    _show(panels[0], inputs, "photograph", f"{unit} = {number(float(insertion[-1]), 2)}")
    for panel, point in zip(panels[1:], points, strict=True):
        kept: Bool[Tensor, "1 height width"] = rank < counts[point]
        share = counts[point] / rank.numel()
        _show(
            panel,
            inputs.where(kept.unsqueeze(1), fill),
            f"{percent(share)} kept",
            f"{unit} = {number(float(insertion[point]), 2)}",
        )


def _show(panel: Axes, inputs: Tensor, above: str, below: str) -> None:
    panel.imshow(picture_of(inputs).numpy())
    panel.set_title(above, fontsize=9.5, color=_INK)
    panel.set_xlabel(below, fontsize=9.5, color=_COMES)
    panel.set_xticks([])
    panel.set_yticks([])
    panel.spines[:].set(color="#b0b0b0", linewidth=0.5)


def _curves(panel: Axes, attribution: Attribution, image: int, points: Sequence[int]) -> None:
    insertion, deletion = (
        attribution.extras[kind][image].double().cpu().numpy() for kind in ("insertion", "deletion")
    )
    shares = np.linspace(0, 1, len(insertion))
    panel.fill_between(
        shares,
        deletion,
        insertion,
        where=insertion >= deletion,
        interpolate=True,
        color=_COMES,
        alpha=0.08,
        lw=0,
    )
    panel.plot(shares, insertion, color=_COMES, lw=1.8, label="insertion: these pixels come first")
    panel.plot(shares, deletion, color=_GOES, lw=1.8, label="deletion: these pixels go first")
    panel.plot(shares[points], insertion[points], "o", color=_COMES, ms=4.5)
    areas = attribution.extras["measured"][image]
    best, start = float(areas.nan_to_num(-torch.inf).amax()), float(attribution.extras["start"][image])
    panel.set_title(f"area between {number(best, 3)}, of the start map {number(start, 3)}", fontsize=9.5)
    panel.set_xlabel("share of the pixels", fontsize=8.5)
    panel.set_ylabel("probability" if _unit(attribution) == "p" else "score", fontsize=8.5)
    panel.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
    panel.margins(x=0.01)
    low, high = (-0.03, 1.03) if _unit(attribution) == "p" else panel.get_ylim()
    panel.set_yticks([tick for tick in panel.get_yticks() if low <= tick <= high])
    panel.set_ylim(low, high + 0.17 * (high - low))  # room for the legend above the curves
    panel.legend(fontsize=8, frameon=False, loc="upper center", ncols=2, columnspacing=1.2, handlelength=1.4)
    _plain(panel)


def _loss(panel: Axes, losses: Float[Tensor, " steps"]) -> None:
    numbers = losses.double().cpu().numpy()
    panel.plot(np.arange(1, len(numbers) + 1), numbers, color=_GOES, lw=1.2)
    panel.set_title("loss, in units of |f(x) − f(x′)|", fontsize=9.5)  # noqa: RUF001 (a minus sign, a prime)
    panel.set_xlabel("step", fontsize=8.5)
    _plain(panel)


def _areas(panel: Axes, areas: Float[Tensor, " measurements"]) -> None:
    numbers = areas[~areas.isnan()].double().cpu().numpy()
    best = int(numbers.argmax())
    panel.axhline(numbers[0], color=_GREY, lw=1.0, ls="--")
    panel.plot(numbers, "-o", color=_COMES, lw=1.2, ms=3.5)
    panel.plot(best, numbers[best], "o", ms=9, mfc="none", mec=_INK, mew=1.2)
    panel.set_title("measured area: the best is kept", fontsize=9.5)
    panel.set_xlabel("measurement; 0 is the start map", fontsize=8.5)
    _plain(panel)


def _deviation(row: SubFigure, deviation: ActivationDeviation, image: int) -> None:
    """Excess activation of the map's masks, and what it is above that of random masks; one line for each kind of path."""
    kinds = deviation.kinds
    ours = [shown_values(deviation, "excess", kind, image, floor=False).T for kind in kinds]
    floors = [
        shown_values(deviation, "excess", kind, image, floor=True).T if deviation.floors[kind] else None
        for kind in kinds
    ]
    above = [mine - floor for mine, floor in zip(ours, floors, strict=True) if floor is not None]
    columns: list[tuple[list[np.ndarray], Normalize, str | Colormap, str]] = [
        (ours, PowerNorm(0.5, 0.0, largest(ours)), "Oranges", "excess activation")
    ]
    if len(above) == len(ours):
        swing = largest(above)
        columns.append((above, Normalize(-swing, swing), SCALE, "minus that of random masks"))
    panels = row.subplots(len(kinds), len(columns), sharex=True, sharey=True, squeeze=False)
    fractions = [f"{100 * fraction:.0f} %" for fraction in deviation.fractions.tolist()]
    for column, (tables, norm, colours, meaning) in enumerate(columns):
        drawn = None
        for panel, numbers, kind in zip(panels[:, column], tables, kinds, strict=True):
            drawn = heat_panel(panel, numbers, norm, colours)
            mean = number(float(np.nanmean(numbers)), 2)
            panel.set_title(f"{kind}: {meaning}, mean {mean}", fontsize=8.5, color=_INK)
            panel.set_yticks(range(len(fractions)), fractions, fontsize=7)
        _name_layers(panels[-1, column], deviation.layers)
        if drawn is not None:
            bar = row.colorbar(drawn, ax=list(panels[:, column]), location="right", aspect=24, pad=0.01)
            bar.ax.tick_params(labelsize=7)
    row.suptitle(
        "activations in the order in which they run, shares of pixels kept or removed: how much more active than for the photograph itself",
        fontsize=9.5,
        color=_INK,
    )


def _name_layers(panel: Axes, names: Sequence[str]) -> None:
    """All names, or evenly chosen ones where there are too many to read."""
    step = -(-len(names) // _MOST_NAMES)
    places = range(0, len(names), step)
    panel.set_xticks(places, [names[place] for place in places], fontsize=6, rotation=90)


def _plain(panel: Axes) -> None:
    panel.tick_params(labelsize=8)
    panel.title.set_color(_INK)
    panel.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True)) if panel.get_xlim()[1] > 1.5 else None
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)
