"""Figure of a verdict: the map, its curves beside those of a random map, the pathway, random weights, and the reasons in words."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator, PercentFormatter
from torch import Tensor

from counterpoint import spec
from counterpoint.numerals import number
from counterpoint.report.drawing import SCALE
from counterpoint.report.pathway_figure import heat_panel, largest
from counterpoint.report.scale import scale_end
from counterpoint.report.sheet import picture_of
from counterpoint.report.wording import command_text, name_text, telling
from counterpoint.trusting.trust import Trust
from counterpoint.trusting.verdict import MARKS, SANITY_BAD, SANITY_GOOD

_INK, _GREY, _COMES, _GOES = "#1a1a1a", "#5c5c5c", "#d9690c", "#2470b3"
_MARK_COLOURS = {"good": "#2470b3", "doubtful": "#9a5b00", "bad": "#8a1253", "unknown": _GREY}
_PANEL, _HIGH, _LINE, _WIDE = 2.9, 2.9, 0.22, 130


def trust_figure(
    found: Trust, images: Float[Tensor, "1 channel height width"], *, caption: str = ""
) -> Figure:
    """The map, its curves under each judge, what its masks do to the network's pathway, the check with random weights, and the verdict.

    Args:
        found: From `cp.trust`.
        images: What was explained, pixels in [0, 1].
        caption: Where the image is from: a file name, a model.
    """
    curves = found.facts.get("curves")
    judges: Sequence[str] = curves["baselines"] if curves else ()
    lines = [
        (reason, textwrap.wrap(f"{reason.check}: {reason.words}", _WIDE)) for reason in found.verdict.reasons
    ]
    columns = 2 + max(2, len(judges))
    words_high = 0.75 + _LINE * sum(len(wrapped) for _, wrapped in lines)
    heights = [_HIGH, _HIGH, words_high]
    figure = Figure(
        figsize=(_PANEL * columns, sum(heights)),
        dpi=130,
        facecolor="white",
        layout=ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.06),
    )
    upper, lower, words = figure.subfigures(3, 1, height_ratios=heights)
    upper.suptitle(_heading(found), x=0.008, ha="left", fontsize=13, weight="bold", color=_INK)
    upper.supxlabel(_details(found, caption), x=0.008, ha="left", fontsize=9.5, color=_GREY)
    panels = upper.subplots(1, columns, gridspec_kw={"width_ratios": [1] * columns})
    _picture(panels[0], picture_of(images.detach()).numpy(), "photograph")
    heat = found.attribution.heatmap()[0].detach().double().cpu().numpy()
    end = scale_end(found.attribution.heatmap()[0]) or 1.0
    panels[1].imshow(picture_of(images.detach()).double().mean(2).numpy(), cmap="gray")
    _picture(panels[1], heat, "the map", cmap=SCALE, norm=Normalize(-end, end), alpha=0.75)
    for b, panel in enumerate(panels[2:]):
        if curves and b < len(judges):
            _curves(panel, curves, b, first=b == 0)
        else:
            panel.set_axis_off()
            if b == 0:
                _none(panel, f"no curves: {found.missing.get('curves', '')}")
    if judges:
        handles, names = panels[2].get_legend_handles_labels()
        upper.legend(
            handles, names, loc="lower right", ncols=4, fontsize=8.5, frameon=False, handlelength=1.6
        )
    _lower_row(lower.subplots(1, 3, gridspec_kw={"width_ratios": [1, 1, 0.9]}), found)
    _reasons(words.subplots(), found, lines, words_high)
    return figure


def _heading(found: Trust) -> str:
    labels = found.attribution.question.get("label")
    classes = found.attribution.question.get("class_target")
    what = f"“{labels[0]}”" if labels else f"class {classes[0]}" if classes else "this score"
    return f"{what}: {found.words}"


def _details(found: Trust, caption: str) -> str:
    attribution = found.attribution
    layer = "" if attribution.layer == "input" else f" at {attribution.layer}"
    against = command_text(telling(spec.describe(attribution.baseline)))
    method = f"{name_text(spec.describe(attribution.method))}{layer}"
    return "  ·  ".join(filter(None, (caption, method, f"against {against}")))


def _picture(panel: Axes, picture: np.ndarray, title: str, **how: Any) -> None:
    panel.imshow(picture, **how)
    panel.set_title(title, fontsize=9.5, color=_INK)
    panel.set_xticks([])
    panel.set_yticks([])
    panel.spines[:].set(color="#b0b0b0", linewidth=0.5)


def _curves(panel: Axes, curves: Mapping[str, Any], b: int, *, first: bool) -> None:
    """Both curves of the map, and, dashed, those of the random map."""
    areas: dict[tuple[str, int], float] = {}
    for line in curves["curves"]:
        if line["baseline"] != b:
            continue
        kind, ours = line["kind"], line["cell"] == 0
        areas[kind, line["cell"]] = line["area"]
        panel.plot(
            line["fractions"],
            np.array(line["scores"], dtype=float),
            color=_COMES if kind == "insertion" else _GOES,
            lw=1.8 if ours else 1.2,
            ls="-" if ours else (0, (3, 2)),
            label=kind if ours else f"{kind}, random",
        )
    gains = [areas["insertion", k] - areas["deletion", k] for k in (0, 1) if ("deletion", k) in areas]
    panel.set_title(
        f"under {curves['baselines'][b]}\ngain {' against '.join(number(gain, 3) for gain in gains)}",
        fontsize=9,
        color=_INK,
    )
    panel.set_xlabel("share of the pixels", fontsize=8.5)
    panel.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
    if first:
        panel.set_ylabel("score", fontsize=8.5)
    _plain(panel)


def _lower_row(panels: Sequence[Axes], found: Trust) -> None:
    pathway, weights = found.facts.get("pathway"), found.facts.get("weights")
    if pathway:
        above = {
            kind: np.array(each["excess"], dtype=float) - np.array(each["floor"], dtype=float)
            for kind, each in pathway["kinds"].items()
        }
        swing = largest(list(above.values()))
        for panel, (kind, table) in zip(panels, above.items(), strict=False):
            drawn = heat_panel(panel, table.T, Normalize(-swing, swing), SCALE)
            panel.set_title(f"{kind}: excess activation minus that of random masks", fontsize=9, color=_INK)
            panel.set_xlabel("activations, in the order in which they run", fontsize=8.5)
            shares = [f"{100 * share:.0f} %" for share in pathway["fractions"]]
            panel.set_yticks(range(len(shares)), shares, fontsize=7.5)
            panel.tick_params(axis="x", labelsize=7.5)
            panel.figure.colorbar(drawn, ax=panel, aspect=20, pad=0.01).ax.tick_params(labelsize=7)
    else:
        for panel in panels[:2]:
            panel.set_axis_off()
        _none(panels[0], f"no pathway: {found.missing.get('pathway', '')}")
    if weights:
        _weights(panels[2], weights)
    else:
        panels[2].set_axis_off()
        _none(panels[2], f"no random weights: {found.missing.get('weights', '')}")


def _weights(panel: Axes, weights: Mapping[str, Any]) -> None:
    steps = weights["steps"]
    places = [0, *(step["randomised"] for step in steps)]
    for name, label, style in (
        ("spearman", "of the values", "-o"),
        ("absolute_spearman", "of their sizes", "--s"),
    ):
        panel.plot(
            places,
            np.array([1.0, *(step[name] for step in steps)], dtype=float),
            style,
            color=_COMES if style == "-o" else _GOES,
            lw=1.4,
            ms=4,
            label=label,
        )
    panel.axhspan(-SANITY_GOOD, SANITY_GOOD, color=_GREY, alpha=0.1, lw=0)
    for end in (-SANITY_BAD, SANITY_BAD):
        panel.axhline(end, color=_GREY, lw=0.8, ls=":")
    panel.set_title("rank correlation with itself under random weights", fontsize=9, color=_INK)
    panel.set_xlabel(f"layers with random weights, from the last on, of {weights['layers']}", fontsize=8.5)
    panel.set_ylim(-1.05, 1.05)
    panel.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    panel.legend(fontsize=7.5, frameon=False, loc="lower left")
    _plain(panel)


def _reasons(panel: Axes, found: Trust, lines: Sequence[tuple[Any, Sequence[str]]], high: float) -> None:
    panel.set_axis_off()
    panel.set_xlim(0, 1)
    panel.set_ylim(-high, 0)
    y = -0.3
    for reason, wrapped in lines:
        mark = f"{MARKS[reason.standing]} {reason.standing}"
        panel.text(0.0, y, mark, fontsize=10, weight="bold", color=_MARK_COLOURS[reason.standing], va="top")
        for line in wrapped:
            panel.text(0.09, y, line, fontsize=10, color=_INK, va="top")
            y -= _LINE


def _none(panel: Axes, words: str) -> None:
    text = "\n".join(textwrap.wrap(words, 44))
    panel.text(0.0, 0.9, text, fontsize=9, color=_GREY, va="top", transform=panel.transAxes)


def _plain(panel: Axes) -> None:
    panel.tick_params(labelsize=8)
    panel.spines[["top", "right"]].set_visible(False)
