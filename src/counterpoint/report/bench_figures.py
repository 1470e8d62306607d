"""Figures of a benchmark's statistics: who is told apart from whom, who wins how often, and what a ranking survives."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from counterpoint.bench.contenders import Contender
from counterpoint.bench.friedman import Friedman
from counterpoint.bench.pairs import Pair
from counterpoint.bench.stability import Stability
from counterpoint.errors import InputError

_INK, _GREY, _FRONT, _LINE = "#1a1a1a", "#8a8a8a", "#d9690c", "#2470b3"
_ROW = 0.28
_LONG = 48


def critical_difference_figure(found: Friedman, caption: str = "") -> Figure:
    """The critical-difference diagram: mean ranks, and a bar for each group that the tests leave together; dots mark who belongs to it.

    Two contenders without a common bar are told apart by Wilcoxon's signed-rank test with Holm's correction. The grey bar is Nemenyi's
    critical difference, for comparison.

    Reference: Demsar 2006, Journal of Machine Learning Research 7 (the diagram).
    """
    count = len(found.contenders)
    left = (count + 1) // 2
    deep = 0.22 * len(found.groups) + 0.4
    rows = max(left, count - left)
    figure = Figure(figsize=(11, 1.5 + _ROW * (deep + 1.3 * rows)), dpi=130, facecolor="white")
    panel = figure.add_axes((0.01, 0.02, 0.98, 0.96))
    panel.set_axis_off()
    low, high = 1.0, float(count)
    panel.set_xlim(low - 0.95 * (high - low), high + 0.95 * (high - low))
    panel.hlines(0, low, high, color=_INK, lw=1.2)
    for tick in _ticks(count):
        panel.vlines(tick, 0, -0.25, color=_INK, lw=1)
        panel.text(tick, -0.4, str(tick), ha="center", va="bottom", fontsize=8, color=_INK)
    reach = min(found.critical_difference, high - low)
    panel.hlines(-1.5, low, low + reach, color=_GREY, lw=2)
    panel.text(
        low + reach / 2,
        -1.65,
        f"Nemenyi's critical difference {found.critical_difference:.2f}",
        ha="center",
        va="bottom",
        fontsize=7.5,
        color=_GREY,
    )
    place = dict(zip(found.contenders, found.mean_ranks, strict=True))
    for k, group in enumerate(found.groups):
        y = 0.35 + 0.22 * k
        ranks = [place[each] for each in group]
        panel.hlines(y, min(ranks), max(ranks), color=_LINE, lw=2.2)
        panel.plot(ranks, [y] * len(ranks), "o", color=_LINE, ms=2.6)
    for k, (each, rank) in enumerate(zip(found.contenders, found.mean_ranks, strict=True)):
        best = k < left
        y = deep + 1.3 * (k if best else count - 1 - k) + 0.6
        side = low - 0.04 * (high - low) if best else high + 0.04 * (high - low)
        panel.plot([rank, rank, side], [0, y, y], color=_FRONT if k == 0 else _GREY, lw=0.8)
        panel.text(
            side,
            y,
            f"{_in_lines(each.name)}  {rank:.2f}" if best else f"{rank:.2f}  {_in_lines(each.name)}",
            ha="right" if best else "left",
            va="center",
            fontsize=7.5,
            color=_INK,
        )
    panel.set_ylim(deep + 1.3 * rows + 0.6, -3.6)
    panel.text(
        (low + high) / 2,
        -3.3,
        f"{caption + ': ' if caption else ''}mean ranks on {found.images} images, 1 is best; "
        f"Friedman {found.statistic:.1f}, {_p(found.p_value)}\n"
        "on a common blue bar: not told apart (Wilcoxon, Holm, 5 %)",
        ha="center",
        va="top",
        fontsize=9,
        color=_INK,
    )
    return figure


def wins_figure(found: Sequence[Pair], order: Sequence[Contender] | None = None, caption: str = "") -> Figure:
    """On which share of the images each row is better than each column; bold where the two are told apart.

    Args:
        found: Every pair, from `pairs`.
        order: Of rows and columns, such as that of a ranking; by wins if left out.
        caption: What the title begins with.

    Raises:
        InputError: no pairs, or an order that lacks one of their contenders.
    """
    who = list(dict.fromkeys(each for pair in found for each in (pair.better, pair.worse)))
    if not who:
        raise InputError("pairs must be at least one, got none.")
    wins = {(pair.better, pair.worse): pair.wins for pair in found}
    wins |= {(pair.worse, pair.better): 1 - pair.wins for pair in found}
    sure = {(pair.better, pair.worse) for pair in found if pair.sure}
    if order is None:
        order = sorted(who, key=lambda one: -sum(wins[one, other] for other in who if other != one))
    if missing := [each.name for each in who if each not in order]:
        raise InputError(f"order must name every contender of the pairs, but lacks {', '.join(missing)}.")
    order = [each for each in order if each in who]
    names = [_in_lines(each.name) for each in order]
    matrix = np.array([[wins.get((one, other), np.nan) for other in order] for one in order])
    bold = np.array([[(one, other) in sure or (other, one) in sure for other in order] for one in order])
    title = (
        f"{caption + ': ' if caption else ''}share of images on which the row is better than the column\n"
        "bold: told apart (Wilcoxon, Holm, 5 %)"
    )
    return _matrix(matrix, names, title, colours=("RdBu", 0.0, 1.0), bold=bold, form="{:.0%}")


def stability_figure(found: Stability, caption: str = "") -> Figure:
    """Kendall's tau-b of every two rankings."""
    title = (
        f"{caption + ': ' if caption else ''}agreement of rankings, Kendall's tau\n"
        f"mean {found.mean_tau:.2f} ({found.low:.2f} to {found.high:.2f}), W {found.concordance:.2f}, {found.images} images"
    )
    names = [_in_lines(name) for name in found.names]
    return _matrix(found.taus, names, title, colours=("RdBu", -1.0, 1.0), form="{:.2f}")


def _matrix(
    numbers: np.ndarray,
    names: Sequence[str],
    title: str,
    *,
    colours: tuple[str, float, float],
    form: str,
    bold: np.ndarray | None = None,
) -> Figure:
    """A square of numbers, `colours` a map and its ends; without text in its cells where there are too many to read."""
    count = len(names)
    side = min(0.46, 16 / count) * count
    margin = 0.075 * max(len(line) for each in names for line in each.splitlines()) + 0.3
    figure = Figure(
        figsize=(max(5.5, side + margin), side + 0.75 * margin + 0.9),
        dpi=130,
        facecolor="white",
        layout="constrained",
    )
    panel = figure.subplots()
    name, low, high = colours
    panel.imshow(numbers, cmap=name, vmin=low, vmax=high)
    middle, reach = (low + high) / 2, (high - low) / 2
    if count <= 30:
        for i, j in zip(*np.nonzero(np.isfinite(numbers)), strict=True):
            dark = abs(numbers[i, j] - middle) > 0.65 * reach
            panel.text(
                j,
                i,
                form.format(numbers[i, j]),
                ha="center",
                va="center",
                fontsize=7,
                color="white" if dark else _INK,
                fontweight="bold" if bold is not None and bold[i, j] else "normal",
            )
    size = 8 if count <= 30 else 6
    panel.set_xticks(range(count), names, rotation=60, ha="right", rotation_mode="anchor", fontsize=size)
    panel.set_yticks(range(count), names, fontsize=size)
    figure.suptitle(title, fontsize=9)
    return figure


def _in_lines(name: str) -> str:
    """A long name in two lines, and each of these without its middle where it is longer still: ends tell names apart."""
    lines = [name] if len(name) <= _LONG else name.replace(" against ", "\nagainst ").splitlines()
    return "\n".join(
        line if len(line) <= _LONG else f"{line[: _LONG // 2]}…{line[-_LONG // 2 + 1 :]}" for line in lines
    )


def _p(p: float) -> str:
    return f"p {p:.2g}" if p >= 1e-99 else "p below 1e-99"


def _ticks(count: int) -> list[int]:
    """A few whole ranks, the first and the last among them."""
    step = max(1, round(count / 10))
    return [*(tick for tick in range(1, count, step) if count - tick > step / 2), count]
