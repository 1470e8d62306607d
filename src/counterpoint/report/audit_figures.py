"""Figures of an audit: the trade-off, what each baseline looks like, rankings under every baseline, and whom a baseline favours."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from counterpoint.audit import METRICS, REMOVALS, BaselineAudit, Circularity, EvidenceAudit, RankingAudit
from counterpoint.metrics.ordering import removed_counts
from counterpoint.protocols import Baseline

_INK, _GREY, _FRONT, _LINE = "#1a1a1a", "#8a8a8a", "#d9690c", "#2470b3"
_LONG = 36
TITLES = {
    "confidence_lost": "confidence lost\n1 − p(u) / p(x)",  # noqa: RUF001 (a minus sign)
    "entropy": "entropy of the prediction\nshare of log(classes)",
    "negative_divergence": "− KL(prediction || mean prediction)\nnats",  # noqa: RUF001
    "deletion": "deletion area, negated",
    "insertion": "insertion area",
    "relevance_gain": "insertion minus deletion area",
}


def trade_off_figure(audit: BaselineAudit, caption: str = "") -> Figure:
    """Out of distribution against information removed, one panel for each removal score; better is up and to the left.

    Crosses are paired 95 % intervals over images. Orange: undominated. The line is drawn only where its correlation's interval excludes 0.
    """
    figure = Figure(figsize=(5.2 * len(REMOVALS), 5.6), dpi=130, facecolor="white", layout="constrained")
    axes = figure.subplots(1, len(REMOVALS))
    for panel, removal in zip(axes, REMOVALS, strict=True):
        trade_off_panel(panel, audit, removal)
        panel.set_ylabel(f"more removed →\n{TITLES[removal]}", fontsize=9)
    figure.suptitle(
        f"{caption + ': ' if caption else ''}{len(audit.images)} images; better is up and to the left; orange is dominated by none (95 %)",
        fontsize=11,
    )
    return figure


def trade_off_panel(panel: Axes, audit: BaselineAudit, removal: str) -> None:
    """One removal score against the distance."""
    free = set(audit.undominated)
    x, x_ends = audit.means("excess"), audit.intervals("excess")
    y, y_ends = audit.means(removal), audit.intervals(removal)
    for b, name in enumerate(audit.names):
        color = _FRONT if name in free else _GREY
        panel.plot(x_ends[:, b], [y[b], y[b]], color=color, lw=1.2, alpha=0.7)
        panel.plot([x[b], x[b]], y_ends[:, b], color=color, lw=1.2, alpha=0.7)
        panel.plot(x[b], y[b], "o", color=color, ms=5)
    _name_points(
        panel,
        x.tolist(),
        y.tolist(),
        audit.names,
        left=float(x_ends[0].min()),
        right=float(x_ends[1].max()),
    )
    r, (low, high), line = audit.trade_off_line(removal)
    if line is not None:
        ends = torch.tensor([float(x.min()), float(x.max())])
        panel.plot(ends, line[0] * ends + line[1], "--", color=_LINE, lw=1.2)
    claim = "" if line is not None else ", no claim"
    panel.set_title(f"r = {r:.2f} ({low:.2f} to {high:.2f}){claim}", fontsize=9, color=_INK)
    panel.set_xlabel("further out than the image itself\nin units of the spread of real images", fontsize=9)
    _plain(panel)


def looks_figure(
    image: Float[Tensor, "channel height width"],
    saliency: Float[Tensor, "height width"],
    baselines: Sequence[Baseline],
    names: Sequence[str],
    shares: Sequence[float] = (0.0, 0.25, 0.5, 0.75, 1.0),
) -> Figure:
    """One photograph while its most relevant pixels are removed, one row for each baseline."""
    cell = 1.25
    figure = Figure(
        figsize=(cell * len(shares) + 1.6, cell * len(baselines) + 0.4),
        dpi=130,
        facecolor="white",
        layout="constrained",
    )
    axes = figure.subplots(len(baselines), len(shares), squeeze=False)
    order = saliency.flatten().argsort(descending=True, stable=True)
    pixels = len(order)
    counts = removed_counts(pixels, 100)
    for row, baseline, name in zip(axes, baselines, names, strict=True):
        for panel, share in zip(row, shares, strict=True):
            removed = torch.zeros(pixels, dtype=torch.bool)
            removed[order[: counts[round(100 * share)]]] = True
            panel.set_xticks([])
            panel.set_yticks([])
            if share == 1 and baseline.fill_only:
                panel.text(
                    0.5,
                    0.5,
                    "nothing left\nto fill from",
                    ha="center",
                    va="center",
                    fontsize=7,
                    transform=panel.transAxes,
                )
            else:
                shown = baseline.fill(image.unsqueeze(0), removed.view(1, *saliency.shape))[0]
                panel.imshow(np.clip(shown.permute(1, 2, 0).float().cpu().numpy(), 0, 1))
            if panel in axes[0]:
                panel.set_title(f"{share:.0%}", fontsize=8)
        row[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
    return figure


def rankings_figure(audit: RankingAudit, caption: str = "") -> Figure:
    """The rank of every contender under every baseline, one panel for each metric; 1 is best."""
    rows, columns = len(audit.contenders), len(audit.baselines)
    figure = Figure(
        figsize=(2.6 + (0.55 * columns + 0.6) * len(METRICS), 1.6 + 0.3 * rows),
        dpi=130,
        facecolor="white",
        layout="constrained",
    )
    axes = figure.subplots(1, len(METRICS), sharey=True)
    for panel, metric in zip(axes, METRICS, strict=True):
        ranks = ((-audit.table(metric)).argsort(0).argsort(0) + 1).numpy()
        panel.imshow(ranks, cmap="Oranges_r", vmin=1, vmax=rows * 1.3, aspect="auto")
        for m in range(rows):
            for b in range(columns):
                color = "white" if ranks[m, b] <= 0.35 * rows else _INK
                panel.text(b, m, str(ranks[m, b]), ha="center", va="center", fontsize=8, color=color)
        tau, (ceiling, _) = audit.stability(metric).mean_tau, audit.ceiling(metric)
        panel.set_title(f"{TITLES[metric]}\nmean tau {tau:.2f}, ceiling {ceiling:.2f}", fontsize=8)
        panel.set_xticks(range(columns), audit.baselines, rotation=60, ha="right", fontsize=7)
        panel.set_yticks(range(rows), [_in_lines(name) for name in audit.contenders], fontsize=8)
    figure.suptitle(
        f"{caption + ': ' if caption else ''}ranks on {len(audit.images)} images, 1 is best", fontsize=10
    )
    return figure


def evidence_figure(audit: EvidenceAudit, caption: str = "") -> Figure:
    """How often each metric puts a map above a more corrupted one, under each baseline, with 95 % intervals; the dotted line is chance."""
    order = audit.means("relevance_gain").argsort().tolist()
    rows = range(len(order))
    figure = Figure(
        figsize=(3.2 * len(audit.correct) + 1.4, 1.5 + 0.26 * len(order)),
        dpi=130,
        facecolor="white",
        layout="constrained",
    )
    axes = figure.subplots(1, len(audit.correct), sharey=True)
    for panel, metric in zip(axes, audit.correct, strict=True):
        means, (low, high) = audit.means(metric)[order], audit.intervals(metric)[:, order]
        panel.hlines(rows, low, high, color=_GREY, lw=1.5)
        panel.plot(means, rows, "o", color=_FRONT, ms=5)
        panel.axvline(0.5, color=_LINE, ls=":", lw=1)
        panel.set_title(metric.replace("_", " "), fontsize=9)
        panel.set_xlabel("pairs in the right order →", fontsize=8)
        panel.set_xlim(min(0.45, float(low.min()) - 0.02), 1.02)
        panel.set_yticks(rows, [audit.baselines[b] for b in order], fontsize=8)
        _plain(panel)
    images = next(iter(audit.correct.values())).shape[1]
    title = (
        f"{caption + ': ' if caption else ''}maps of known evidence, corrupted by degrees; {images} images"
    )
    figure.suptitle(title, fontsize=10)
    return figure


def circularity_figure(found: Sequence[Circularity], caption: str = "") -> Figure:
    """Attribution baselines x evaluation baselines, one panel for each method; areas minus their column's mean. Boxes: its own."""
    tall = max(len(each.against) for each in found)
    wide = max(len(each.baselines) for each in found)
    figure = Figure(
        figsize=(3.0 + 0.6 * wide, (1.9 + 0.34 * tall) * len(found)),
        dpi=130,
        facecolor="white",
        layout="constrained",
    )
    axes = figure.subplots(len(found), 1, squeeze=False)[:, 0]
    for panel, each in zip(axes, found, strict=True):
        over = (each.areas - each.areas.mean(0)).numpy()
        limit = float(np.abs(over).max()) or 1.0
        panel.imshow(over, cmap="RdBu", vmin=-limit, vmax=limit, aspect="auto")
        for m, against in enumerate(each.against):
            for b, baseline in enumerate(each.baselines):
                dark = abs(over[m, b]) > 0.7 * limit
                panel.text(
                    b,
                    m,
                    f"{over[m, b]:+.3f}",
                    ha="center",
                    va="center",
                    fontsize=6.5,
                    color="white" if dark else _INK,
                )
                if against == baseline:
                    panel.add_patch(Rectangle((b - 0.5, m - 0.5), 1, 1, fill=False, ec=_INK, lw=1.8))
        low, high = each.gain_interval
        gain = (
            ""
            if np.isnan(each.gain)
            else f"\ngain under its own {each.gain:+.3f} ({low:+.3f} to {high:+.3f})"
        )
        panel.set_title(f"{_in_lines(each.method)}{gain}", fontsize=8)
        panel.set_xticks(range(len(each.baselines)), each.baselines, rotation=60, ha="right", fontsize=7)
        panel.set_yticks(range(len(each.against)), [f"against {name}" for name in each.against], fontsize=8)
    figure.suptitle(
        f"{caption + ': ' if caption else ''}insertion minus deletion area, over the mean of its column",
        fontsize=9,
    )
    return figure


def _in_lines(name: str) -> str:
    """A long name broken at its commas."""
    return name if len(name) <= _LONG else name.replace(",", ",\n")


def _name_points(
    panel: Axes, x: Sequence[float], y: Sequence[float], names: Sequence[str], *, left: float, right: float
) -> None:
    """Names to the right of all intervals, pushed apart from top to bottom where they would overlap."""
    low, high = panel.get_ylim()
    least = 0.035 * (high - low)
    span = right - left or 1.0
    last = high + least
    for b in sorted(range(len(names)), key=lambda b: -y[b]):
        last = min(y[b], last - least)
        panel.annotate(
            names[b],
            (x[b], y[b]),
            xytext=(right + 0.08 * span, last),
            fontsize=7.5,
            va="center",
            color=_INK,
            arrowprops={"arrowstyle": "-", "color": "#cccccc", "lw": 0.6},
        )
    panel.set_xlim(left - 0.05 * span, right + 0.65 * span)


def _plain(panel: Axes) -> None:
    panel.tick_params(labelsize=8)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)
