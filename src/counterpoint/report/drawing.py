"""Draw a Sheet with matplotlib: every part has its place in inches, so that nothing overlaps whatever the numbers are.

matplotlib's objects are used alone, never pyplot, and no global setting is read or changed but its own bundled font.
"""

from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties

from counterpoint.report.sheet import Column, Fact, Panel, Row, Sheet
from counterpoint.report.wording import number

# Blue against orange is told apart with every common kind of colour blindness; lightness falls evenly to both sides.
SCALE = LinearSegmentedColormap.from_list(
    "blue_orange", ["#08386e", "#2470b3", "#83b5dc", "#ffffff", "#f6b26b", "#d9690c", "#7d2e00"]
)
_INK, _GREY, _ALERT = "#1a1a1a", "#5c5c5c", "#8a1253"

# Inches. At 1200 px width, three baselines and the photograph have text of about 13 px.
_CELL, _GAP, _MARGIN, _DPI = 2.75, 0.3, 0.35, 150
_TITLE, _TEXT, _SMALL = 15.0, 9.0, 8.0
_LINE = 0.175
# The photograph below a map, light enough that no colour of the map is mistaken.
_FAINT = 0.30


def draw(sheet: Sheet) -> Figure:
    """The figure of a sheet."""
    return _Drawing(sheet).figure


class _Drawing:
    """The figure in the making. Places are in inches from the top left."""

    def __init__(self, sheet: Sheet) -> None:
        self.width = 2 * _MARGIN + (1 + len(sheet.columns)) * _CELL + len(sheet.columns) * _GAP
        self.figure = Figure(figsize=(self.width, 1.0), dpi=_DPI, facecolor="white")
        canvas: Any = FigureCanvasAgg(self.figure)
        self.renderer = canvas.get_renderer()
        self.sheet = sheet
        shape = None if sheet.photograph.picture is None else sheet.photograph.picture.shape
        ratio = 1.0 if shape is None else shape[0] / shape[1]
        self.picture_height = _CELL * min(max(ratio, 0.4), 1.5)
        # Texts and pictures are noted first: the height of the figure is known only when all have their place.
        self.notes: list[tuple[float, float, str, dict[str, Any]]] = []
        self.pictures: list[tuple[float, float, float, float, np.ndarray]] = []
        height = self.lay_out()
        self.figure.set_size_inches(self.width, height)
        self.put_down(height)
        # A figure without pyplot shows itself in a notebook by this method.
        self.figure._repr_png_ = self.png  # type: ignore[attr-defined]

    def png(self) -> bytes:
        stream = BytesIO()
        self.figure.savefig(stream, format="png", metadata={"Software": None})
        return stream.getvalue()

    def lay_out(self) -> float:
        sheet, wide = self.sheet, self.width - 2 * _MARGIN
        y = self.text(_MARGIN, 0.3, sheet.title, wide, size=_TITLE, weight="bold", line=0.29)
        y = self.text(_MARGIN, y + 0.04, sheet.subtitle, wide, size=10.0, color=_GREY, line=0.2) + 0.22
        y = max(
            self.column(self.left(k), y, column)
            for k, column in enumerate((sheet.photograph, *sheet.columns))
        )
        for row in sheet.rows:
            y = self.row(y + 0.32, row)
        if sheet.note:
            y = self.text(_MARGIN, y + 0.25, sheet.note, wide, size=_TEXT, color=_INK)
        return y + 0.3

    def left(self, column: int) -> float:
        return _MARGIN + column * (_CELL + _GAP)

    def column(self, x: float, y: float, column: Column) -> float:
        # Two lines are kept for every title, so that the pictures stand in one line.
        self.text(x, y, column.title, _CELL, size=10.0, weight="bold", line=0.19, most=2)
        y += 0.26 if self.one_line_titles() else 0.44
        if column.picture is None:
            self.text(
                x + 0.2,
                y + self.picture_height / 2 - 0.2,
                column.reason,
                _CELL - 0.4,
                size=_TEXT,
                color=_GREY,
            )
        else:
            self.pictures.append((x, y, _CELL, self.picture_height, column.picture.numpy()))
        return self.facts(x, y + self.picture_height + 0.1, column.facts)

    def one_line_titles(self) -> bool:
        titles = [column.title for column in self.sheet.columns]
        return all(len(self.wrapped(title, _CELL, 10.0, "bold")) == 1 for title in titles)

    def row(self, y: float, row: Row) -> float:
        bottoms = [self.legend(y, row)]
        for k, panel in enumerate(row.panels, start=1):
            if panel is not None:
                bottoms.append(self.panel(self.left(k), y, panel, row.limit))
        return max(bottoms)

    def panel(self, x: float, y: float, panel: Panel, limit: float) -> float:
        if panel.heat is None:
            self.text(
                x + 0.2, y + self.picture_height / 2 - 0.4, panel.reason, _CELL - 0.4, size=_TEXT, color=_GREY
            )
        else:
            colours = SCALE(0.5 + 0.5 * np.clip(panel.heat.double().numpy() / (limit or 1.0), -1.0, 1.0))[
                ..., :3
            ]
            self.pictures.append((x, y, _CELL, self.picture_height, colours * self.faint_photograph()))
        return self.facts(x, y + self.picture_height + 0.1, panel.facts)

    def faint_photograph(self) -> np.ndarray:
        """The photograph in light grey, (height, width, 1) in [1 - _FAINT, 1]."""
        picture = self.sheet.photograph.picture
        if picture is None:
            raise ValueError("a sheet needs its photograph.")
        grey: np.ndarray = picture.double().numpy() @ np.array([0.299, 0.587, 0.114])
        return 1.0 - _FAINT * (1.0 - grey[..., None])

    def legend(self, y: float, row: Row) -> float:
        """Left of the maps: which method, what its values are, and the colour scale."""
        x, width = _MARGIN, _CELL - 0.1
        y = self.text(x, y, row.title, width, size=11.5, weight="bold", line=0.21)
        for line in row.lines:
            y = self.text(x, y + 0.03, line, width, size=_TEXT, color=_GREY)
        if any(panel is not None and panel.heat is not None for panel in row.panels):
            y = self.colour_bar(x, y + 0.16, width, row)
        for remark in row.remarks:
            y = self.text(x, y + 0.03, remark, width, size=_SMALL, color=_GREY, line=0.155)
        return y

    def colour_bar(self, x: float, y: float, width: float, row: Row) -> float:
        signed = row.limit > 0
        self.text(x, y, row.ends[0], width / 2, size=_SMALL, color="#2470b3", weight="bold")
        self.text(
            x + width, y, row.ends[1], width / 2, size=_SMALL, color="#b85a0a", weight="bold", align="right"
        )
        y += 0.19
        bar = np.repeat(SCALE(np.linspace(0.0, 1.0, 256))[None, :, :3], 2, axis=0)
        self.pictures.append((x, y, width, 0.17, bar))
        y += 0.21
        ends = (number(-row.limit, 2), "0", "+" + number(row.limit, 2)) if signed else ("", "0", "")
        for place, text, align in zip(
            (x, x + width / 2, x + width), ends, ("left", "center", "right"), strict=True
        ):
            self.text(place, y, text, width, size=_TEXT, align=align)
        return self.text(x, y + _LINE, row.unit, width, size=_TEXT) + 0.06

    def facts(self, x: float, y: float, facts: Sequence[Fact]) -> float:
        for name, value, alert in facts:
            colour, weight = (_ALERT, "bold") if alert else (_INK, "normal")
            room = _CELL - self.measured(value, _TEXT, weight) - 0.12
            self.text(x + _CELL, y, value, _CELL, size=_TEXT, color=colour, weight=weight, align="right")
            y = self.text(x, y, name, room, size=_TEXT, color=_GREY)
        return y

    def text(
        self,
        x: float,
        y: float,
        text: str,
        width: float,
        *,
        size: float,
        color: str = _INK,
        weight: str = "normal",
        line: float = _LINE,
        align: str = "left",
        most: int = 12,
    ) -> float:
        """Note a text, wrapped to `width`; returns where the next may stand."""
        lines = self.wrapped(text, width, size, weight)
        if len(lines) > most:
            lines = [*lines[: most - 1], self.shortened(" ".join(lines[most - 1 :]), width, size, weight)]
        for each in lines:
            self.notes.append((x, y, each, {"size": size, "color": color, "weight": weight, "ha": align}))
            y += line
        return y

    def wrapped(self, text: str, width: float, size: float, weight: str) -> list[str]:
        lines: list[str] = []
        for word in text.split(" "):
            candidate = f"{lines[-1]} {word}" if lines else word
            if lines and self.measured(candidate, size, weight) <= width:
                lines[-1] = candidate
                continue
            while (
                len(word) > 1 and self.measured(word, size, weight) > width
            ):  # a word wider than the line is cut
                fits = max(1, int(len(word) * width / self.measured(word, size, weight)) - 1)
                lines.append(word[:fits])
                word = word[fits:]
            lines.append(word)
        return lines

    def shortened(self, text: str, width: float, size: float, weight: str) -> str:
        while len(text) > 1 and self.measured(text + "…", size, weight) > width:
            text = text[:-1]
        return text + "…"

    def measured(self, text: str, size: float, weight: str) -> float:
        """The width of a line in inches."""
        width, _, _ = self.renderer.get_text_width_height_descent(text, _font(size, weight), ismath=False)
        return float(width) / _DPI

    def put_down(self, height: float) -> None:
        for x, y, text, look in self.notes:
            font = _font(look["size"], look["weight"])
            self.figure.text(
                x / self.width,
                1.0 - y / height,
                text,
                fontproperties=font,
                color=look["color"],
                ha=look["ha"],
                va="top",
                parse_math=False,
            )
        for x, y, width, tall, pixels in self.pictures:
            axes = self.figure.add_axes(
                (x / self.width, 1.0 - (y + tall) / height, width / self.width, tall / height)
            )
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set(color="#b0b0b0", linewidth=0.5)  # white pictures end somewhere too
            axes.imshow(np.clip(pixels, 0.0, 1.0), interpolation="antialiased")
            if tall < 0.3:  # the colour bar fills its place
                axes.set_aspect("auto")


def _font(size: float, weight: str) -> FontProperties:
    return FontProperties(family="DejaVu Sans", size=size, weight=weight)
