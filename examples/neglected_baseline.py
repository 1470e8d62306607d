"""Five findings about explanations and their baselines, on one real network and three photographs.

Prints Markdown tables and draws four figures: docs/neglected-baseline.md is made of them. Network: EfficientNet-Lite0; photographs:
scikit-image's cat, cup and rocket. After Cui and Fan 2026, arXiv:2605.22417.

    python examples/neglected_baseline.py              # some minutes; figures into docs/images
    python examples/neglected_baseline.py --quick --out figures
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

import counterpoint as cp
from counterpoint.data.photographs import find_photographs
from counterpoint.report.drawing import SCALE

# Where in each photograph a colour is read, (row, column) of 224 x 224, and what is seen there.
PLACES = {
    "chelsea": ((100, 150), "the fur between the eyes"),
    "coffee": ((80, 100), "the espresso"),
    "rocket": ((30, 112), "the evening sky"),
}
# Which photograph the figures of one photograph show, and the tables of one.
SHOWN = "coffee"
# A pixel is near a colour if no channel is farther from it than this.
NEAR = 0.05
BASELINES: dict[str, cp.baselines.Baseline] = {
    "blur, sigma 10": cp.baselines.Blur(sigma=10),
    "mean colour": cp.baselines.Mean(),
    "black": cp.baselines.Black(),
}
BLUR = "blur, sigma 10"
LAYERS = ["input", "blocks.1", "blocks.3", "blocks.5", "blocks.8", "blocks.11", "blocks.15", "head"]
DRAWN = ["input", "blocks.1", "blocks.3", "blocks.8", "blocks.11", "head"]
EVERY_LAYER = ["input", "stem", *(f"blocks.{i}" for i in range(16)), "head"]
BUDGET_LAYERS = ["blocks.11", "head"]
CAMS: dict[str, cp.methods.Method] = {
    "hires_cam": cp.methods.HiResCAM(),
    "grad_cam": cp.methods.GradCAM(),
    "layer_cam": cp.methods.LayerCAM(),
    "odam": cp.methods.ODAM(),
}
BUDGETS = {**CAMS, "gradient_times_input": cp.methods.GradientTimesInput()}
CAPTUMS_DEFAULT = cp.methods.IntegratedGradients(rule=cp.quadrature.GaussLegendre(50))
TOLERANCE = cp.methods.IntegratedGradients()
REFERENCE = cp.methods.IntegratedGradients(value_tolerance=0.02)

# Told apart with every common kind of colour blindness (Okabe and Ito), and by their markers.
COLOURS = {"chelsea": "#0072B2", "coffee": "#D55E00", "rocket": "#009E73"}
MARKERS = {"chelsea": "o", "coffee": "s", "rocket": "^"}
PARTS = {"baseline": "#0072B2", "one_step": "#E69F00", "operator": "#009E73", "display": "#CC79A7"}
INK, GREY = "#1a1a1a", "#5c5c5c"


class Photographs(NamedTuple):
    """What is explained: some photographs, in one batch."""

    classifier: cp.Classifier
    names: list[str]
    inputs: Tensor

    def alone(self, name: str) -> Tensor:
        """One of them, as a batch of one."""
        row = self.names.index(name)
        return self.inputs[row : row + 1]


def load(names: Sequence[str]) -> Photographs:
    """Photographs of scikit-image, by name."""
    classifier = cp.load_model("efficientnet_lite0")
    paths = find_photographs([f"sample:{name}" for name in names])
    return Photographs(classifier, list(names), classifier.preprocess(paths))


def table(rows: Sequence[Mapping[str, str]]) -> str:
    """In Markdown; each row is a mapping from heading to cell."""
    lines = ["| " + " | ".join(rows[0]) + " |", "|---" * len(rows[0]) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(row.values()) + " |" for row in rows)])


def percent(share: float) -> str:
    """With as many digits as can be told apart; the sign of a rounded zero says nothing."""
    digits = 2 if abs(share) < 0.1 else 0
    return f"{100 * share:.{digits}f} %".replace("-0 %", "0 %").replace("-0.00 %", "0.00 %")


def fixed(number: float) -> str:
    """Three decimals: logits."""
    return f"{number:.3f}".replace("-0.000", "0.000")


# 1. Blind to the colour of the baseline


class Map(NamedTuple):
    """Integrated gradients of one photograph."""

    values: Tensor
    """(channel, height, width)."""
    heat: Tensor
    """(height, width)."""


class Blindness(NamedTuple):
    """One photograph against a colour of its own, and against black."""

    photograph: str
    seen: str
    near: Tensor
    """(height, width): which pixels are near the colour."""
    unchanged: Tensor
    """(channel, height, width): which numbers are exactly those of the baseline."""
    own: Map
    black: Map

    def share(self, one: Map) -> float:
        """The share of the absolute values that lies on the pixels near the colour."""
        amounts = one.values.abs().sum(0)
        return float(amounts[self.near].sum() / amounts.sum())

    def unchanged_sum(self, one: Map) -> float:
        """Sum of the absolute values where x = x' for the photograph's own colour."""
        return float(one.values.abs()[self.unchanged].sum())


def blindness(photographs: Photographs, black: cp.Attribution) -> list[Blindness]:
    """Integrated gradients of each photograph against the colour of one of its pixels; `black` holds those against black."""
    found = []
    for i, name in enumerate(photographs.names):
        (row, column), seen = PLACES[name]
        inputs = photographs.alone(name)
        color = inputs[0, :, row, column]
        baseline = cp.baselines.Constant(tuple(color.tolist()))
        own = cp.compare(cp.logit(photographs.classifier), inputs, baseline=baseline).explain(TOLERANCE)
        distance = inputs[0] - color[:, None, None]
        near = (distance.abs() <= NEAR).all(0)
        maps = (Map(one.values[k], one.heatmap()[k]) for one, k in ((own, 0), (black, i)))
        found.append(Blindness(name, seen, near, distance == 0, *maps))
    return found


def blindness_table(found: Sequence[Blindness]) -> str:
    """Shares of the map on the pixels of one colour."""
    return table(
        [
            {
                "photograph": each.photograph,
                "colour of": each.seen,
                "pixels near it": percent(float(each.near.double().mean())),
                "share of Σ abs(values) there, against that colour": percent(each.share(each.own)),
                "against black": percent(each.share(each.black)),
                "numbers with x = x′": str(int(each.unchanged.sum())),  # noqa: RUF001
                "Σ abs(values) on them, against that colour": f"{each.unchanged_sum(each.own):g}",
                "on the same ones, against black": f"{each.unchanged_sum(each.black):.1f}",
            }
            for each in found
        ]
    )


# 2. A fixed number of steps


class Steps(NamedTuple):
    """A fixed number of gradients beside as many as a tolerance needs, for one photograph and baseline."""

    photograph: str
    baseline: str
    target: float
    fixed_error: float
    """Of the sum, relative."""
    fixed_map_error: float
    """|a - a*|₁ / |a*|₁, a* the reference's."""
    gradients: int
    tolerance_error: float
    tolerance_map_error: float
    reference_gradients: int
    reference_own_estimate: float


def fixed_steps(
    photographs: Photographs,
    comparisons: Mapping[str, cp.Comparison],
    tolerant: Mapping[str, cp.Attribution],
    *,
    rule: cp.methods.Method = CAPTUMS_DEFAULT,
    reference: cp.methods.Method = REFERENCE,
) -> list[Steps]:
    """The rule, and the run to a tolerance, against a refined run of ours; one row for each baseline and photograph."""
    found = []
    for baseline, comparison in comparisons.items():
        best, fast, ours = comparison.explain(reference), comparison.explain(rule), tolerant[baseline]
        fast_distance, our_distance = map_distance(fast, best), map_distance(ours, best)
        for i, name in enumerate(photographs.names):
            found.append(
                Steps(
                    photograph=name,
                    baseline=baseline,
                    target=float(ours.target[i]),
                    fixed_error=float(fast.relative_error[i]),
                    fixed_map_error=float(fast_distance[i]),
                    gradients=int(ours.gradient_evaluations[i]),
                    tolerance_error=float(ours.relative_error[i]),
                    tolerance_map_error=float(our_distance[i]),
                    reference_gradients=int(best.gradient_evaluations[i]),
                    reference_own_estimate=float(best.value_error[i]),
                )
            )
    return found


def map_distance(one: cp.Attribution, best: cp.Attribution) -> Tensor:
    """|a - a*|₁ / |a*|₁, image by image."""
    size = best.values.flatten(1).abs().sum(1)
    return (one.values - best.values).flatten(1).abs().sum(1) / size


def fixed_steps_table(found: Sequence[Steps]) -> str:
    """Errors of the sum and of the map."""
    return table(
        [
            {
                "baseline": each.baseline,
                "photograph": each.photograph,
                "target": fixed(each.target),
                "50 steps: error of the sum": percent(each.fixed_error),
                "of the map": percent(each.fixed_map_error),
                "tolerance 1 %: gradients": str(each.gradients),
                "error of the sum": percent(each.tolerance_error),
                "of the map ": percent(each.tolerance_map_error),
                "reference: gradients": str(each.reference_gradients),
                "its own estimate": percent(each.reference_own_estimate),
            }
            for each in found
        ]
    )


# 3. Class activation maps before a linear head


class LinearHead(NamedTuple):
    """Class activation maps at the last layer with places, for one photograph and score."""

    photograph: str
    score: str
    target: float
    """f(x) - f(x')."""
    own_target: float
    """f(x) - f(A = 0)."""
    results: dict[str, float]
    own_errors: dict[str, float]
    corrected_error: float
    """Of HiResCAM with A - A' for A."""


def linear_head(photographs: Photographs) -> list[LinearHead]:
    """All maps at "head": pooling and a linear layer follow, so that the score is linear in these features."""
    scores: dict[str, Callable[[cp.Classifier], object]] = {
        "logit": cp.logit,
        "contrast with the runner-up": cp.contrast,
    }
    found = []
    for kind, score in scores.items():
        comparison = cp.compare(
            score(photographs.classifier), photographs.inputs, baseline=BASELINES[BLUR], layer="head"
        )
        maps = {name: comparison.explain(method) for name, method in CAMS.items()}
        corrected = comparison.explain(cp.methods.HiResCAM(reference="comparison"))
        own_target = maps["hires_cam"].own_target
        if own_target is None:
            raise ValueError("HiResCAM compares with zero features.")
        for i, name in enumerate(photographs.names):
            found.append(
                LinearHead(
                    photograph=name,
                    score=kind,
                    target=float(corrected.target[i]),
                    own_target=float(own_target[i]),
                    results={method: float(each.result[i]) for method, each in maps.items()},
                    own_errors={method: float(each.own_error[i]) for method, each in maps.items()},
                    corrected_error=float(corrected.error[i]),
                )
            )
    return found


def linear_head_table(found: Sequence[LinearHead]) -> str:
    """Each map's error against its own target."""
    return table(
        [
            {
                "score": each.score,
                "photograph": each.photograph,
                "f(x) − f(A = 0)": fixed(each.own_target),  # noqa: RUF001
                **{f"error of {method}": fixed(error) for method, error in each.own_errors.items()},
                "f(x) − f(x′)": fixed(each.target),  # noqa: RUF001
                "error of hires_cam against that": fixed(each.target - each.results["hires_cam"]),
                "corrected, A − A′": fixed(each.corrected_error),  # noqa: RUF001
            }
            for each in found
        ]
    )


# 4. One target, at every layer


class AtLayer(NamedTuple):
    """One photograph at one layer."""

    photograph: str
    layer: str
    features: str
    target: float
    """f(x) - f(x'), from two forwards of the whole network."""
    target_here: float
    """The same, from the features of this layer by the part of the network after it."""
    one_step: float
    """(target - result) / target of the Taylor expansion at the input."""
    full: cp.Attribution | None
    """Integrated gradients, of the batch; None at layers where only one step was taken."""
    row: int


def at_layers(
    photographs: Photographs,
    whole: cp.Comparison,
    pixels: cp.Attribution,
    *,
    layers: Sequence[str] = EVERY_LAYER,
    full_at: Sequence[str] = LAYERS,
) -> list[AtLayer]:
    """One step at every layer, and integrated gradients at those of `full_at`; `pixels` are the ones at the input."""
    found = []
    for layer in layers:
        here = whole.at(layer)
        target_here = here.scores(here.end) - here.scores(here.start)
        step = here.explain(cp.methods.Taylor())
        full = None if layer not in full_at else pixels if layer == "input" else here.explain(TOLERANCE)
        for i, name in enumerate(photographs.names):
            found.append(
                AtLayer(
                    photograph=name,
                    layer=layer,
                    features=" x ".join(map(str, here.end.shape[1:])),
                    target=float(whole.score[i] - whole.baseline_score[i]),
                    target_here=float(target_here[i]),
                    one_step=float(step.error[i] / step.target[i]),
                    full=full,
                    row=i,
                )
            )
    return found


def layers_table(found: Sequence[AtLayer], photograph: str) -> str:
    """Layer by layer, for one photograph."""
    return table(
        [
            {
                "layer": each.layer,
                "features": each.features,
                "target, from here": f"{each.target_here:.5f}",
                "result": fixed(float(each.full.result[each.row])),
                "error": percent(float(each.full.relative_error[each.row])),
                "gradients": str(int(each.full.gradient_evaluations[each.row])),
                "cancellation": f"{float(each.full.cancellation[each.row]):.1f}",
                "error of one step": percent(each.one_step),
            }
            for each in found
            if each.full is not None and each.photograph == photograph
        ]
    )


def layers_summary(found: Sequence[AtLayer], names: Sequence[str]) -> str:
    """Over all layers, for each photograph."""
    rows = []
    for name in names:
        mine = [each for each in found if each.photograph == name]
        full = [(each.full, each.row) for each in mine if each.full is not None]
        before = [abs(each.one_step) for each in mine if each.layer != "head"]
        rows.append(
            {
                "photograph": name,
                "target": fixed(mine[0].target),
                "layers": str(len(mine)),
                "largest difference of the target at any layer": f"{max(abs(e.target_here - e.target) for e in mine):.1g}",
                "largest error of integrated gradients": percent(
                    max(float(a.relative_error[i]) for a, i in full)
                ),
                "cancellation, input to head": f"{float(full[0][0].cancellation[full[0][1]]):.1f} to "
                f"{float(full[-1][0].cancellation[full[-1][1]]):.1f}",
                "error of one step before the head": f"{percent(min(before))} to {percent(max(before))}",
                "at the head": percent(abs(mine[-1].one_step)),
            }
        )
    return table(rows)


# 5. The error taken apart


class Budget(NamedTuple):
    """The error of one method at one layer, for one photograph."""

    layer: str
    method: str
    target: float
    result: float
    error: float
    parts: dict[str, float]


def budgets(photographs: Photographs, whole: cp.Comparison, photograph: str) -> list[Budget]:
    """The budget of every method at each of two layers."""
    row = photographs.names.index(photograph)
    found = []
    for layer in BUDGET_LAYERS:
        here = whole.at(layer)
        for name, method in BUDGETS.items():
            each = here.explain(method)
            parts = {part: float(amount[row]) for part, amount in each.budget().items() if part in PARTS}
            numbers = (float(each.target[row]), float(each.result[row]), float(each.error[row]))
            found.append(Budget(layer, name, *numbers, parts))
    return found


def budget_table(found: Sequence[Budget]) -> str:
    """Signed parts, in logits."""
    return table(
        [
            {
                "layer": each.layer,
                "method": each.method,
                "target": fixed(each.target),
                "result": fixed(each.result),
                "error =": fixed(each.error),
                **{part.replace("_", " "): fixed(amount) for part, amount in each.parts.items()},
            }
            for each in found
        ]
    )


# Figures


def canvas(width: float, height: float) -> Figure:
    """An empty figure, in inches, made without pyplot."""
    figure = Figure(figsize=(width, height), dpi=100, facecolor="white", layout="constrained")
    figure.get_layout_engine().set(h_pad=0.09, w_pad=0.06)
    FigureCanvasAgg(figure)
    return figure


def show_picture(axes: Axes, inputs: Tensor, title: str) -> None:
    """A photograph."""
    axes.imshow(inputs[0].permute(1, 2, 0).numpy())
    finish_picture(axes, title)


def show_map(axes: Axes, inputs: Tensor, heat: Tensor, title: str) -> float:
    """A signed map over the faint photograph; returns where its colour scale ends."""
    limit = float(heat.abs().flatten().quantile(0.99))
    grey = inputs[0].mean(0)[..., None].numpy()
    colours = SCALE(0.5 + 0.5 * (heat / limit).clamp(-1, 1).numpy())[..., :3]
    axes.imshow(colours * (0.75 + 0.25 * grey))
    finish_picture(axes, title)
    return limit


def finish_picture(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=9.5, color=INK, loc="left")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set(color="#b0b0b0", linewidth=0.5)


def smoothed(heat: Tensor) -> Tensor:
    """Drawn with a blur of 3 pixels, as maps of pixels are speckled; the values are not smoothed."""
    return cp.baselines.Blur(sigma=3)(heat[None, None])[0, 0]


def blindness_figure(photographs: Photographs, found: Sequence[Blindness]) -> Figure:
    """The pixels of one colour, the map against that colour, the map against black."""
    # Fur has no region of one colour that could be outlined.
    found = [each for each in found if each.photograph != "chelsea"]
    figure = canvas(8.4, 0.5 + 3.2 * len(found))
    grid = figure.subplots(len(found), 3, squeeze=False)
    for row, each in zip(grid, found, strict=True):
        inputs = photographs.alone(each.photograph)
        faint = 0.7 + 0.3 * inputs.mean(1, keepdim=True).expand_as(inputs)
        show_picture(
            row[0], torch.where(each.near, inputs, faint), f"in full colour: all pixels\nlike {each.seen}"
        )
        for axes, one, against in ((row[1], each.own, "that colour"), (row[2], each.black, "black")):
            title = f"against {against}:\n{percent(each.share(one))} of the map there"
            show_map(axes, inputs, smoothed(one.heat), title)
            # Specks of a few pixels would hide the map under outlines.
            axes.contour(smoothed(each.near.float()).numpy(), levels=[0.5], colors=[INK], linewidths=1.2)
    figure.supxlabel(
        "orange: speaks for the class, blue: against it; each map on its own scale, drawn smoothed by 3 px",
        fontsize=9,
        color=GREY,
    )
    return figure


def maps_figure(photographs: Photographs, found: Sequence[AtLayer], photograph: str) -> Figure:
    """One photograph's integrated gradients at six layers."""
    inputs = photographs.alone(photograph)
    drawn = [each for each in found if each.photograph == photograph and each.layer in DRAWN]
    figure = canvas(9.6, 6.3)
    grid = figure.subplots(2, 4).flatten()
    show_picture(grid[0], inputs, "photograph")
    show_picture(
        grid[4], BASELINES[BLUR](inputs), f"its baseline\ntarget {drawn[0].target:.2f} at every layer"
    )
    places = [*grid[1:4], *grid[5:]]
    for axes in places[len(drawn) :]:
        axes.set_visible(False)
    for axes, each in zip(places, drawn, strict=False):
        if each.full is None:
            raise ValueError(f"no integrated gradients at {each.layer}.")
        heat = each.full.heatmap()[each.row]
        title = f"{each.layer}, {each.features}\nresult {float(each.full.result[each.row]):.2f}"
        limit = show_map(axes, inputs, smoothed(heat) if each.layer == "input" else heat, title)
        axes.set_xlabel(f"scale ±{100 * limit:.2g} logit per 10 × 10 px", fontsize=8, color=GREY)  # noqa: RUF001
    figure.supxlabel(
        "orange: speaks for the class, blue: against it; pixels drawn smoothed by 3 px",
        fontsize=9,
        color=GREY,
    )
    return figure


def depth_figure(found: Sequence[AtLayer], names: Sequence[str]) -> Figure:
    """One-step error and cancellation, by depth."""
    figure = canvas(9.4, 4.3)
    left, right = figure.subplots(1, 2)
    layers = list(dict.fromkeys(each.layer for each in found))
    for name in names:
        mine = [each for each in found if each.photograph == name]
        look = {"color": COLOURS[name], "marker": MARKERS[name], "markersize": 5, "linewidth": 1.6}
        where = [layers.index(each.layer) for each in mine]
        left.plot(where, [100 * abs(each.one_step) for each in mine], label=name, **look)
        full = [each for each in mine if each.full is not None]
        amounts = [float(each.full.cancellation[each.row]) for each in full if each.full is not None]
        right.plot([layers.index(each.layer) for each in full], amounts, label=name, **look)
    left.axhline(100, color=GREY, linewidth=1, linestyle="--")
    left.set_title(
        "Error of one step, % of the target\n(dashed: that of a map of zeros)",
        fontsize=11,
        loc="left",
        color=INK,
    )
    left.set_ylim(bottom=-8)
    right.set_title(
        "Cancellation, Σ |values| / |target|,\nof integrated gradients", fontsize=11, loc="left", color=INK
    )
    right.set_yscale("log")
    right.set_yticks([2, 5, 10, 20, 50], ["2", "5", "10", "20", "50"])
    right.minorticks_off()
    for axes in (left, right):
        axes.set_xticks(range(len(layers)), layers, rotation=90, fontsize=8)
        axes.grid(axis="y", color="#e4e4e4", linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_axisbelow(True)
        axes.legend(frameon=False, fontsize=9)
    return figure


def budget_figure(found: Sequence[Budget]) -> Figure:
    """Stacked signed bars: what each step adds to the error."""
    figure = canvas(9.4, 4.6)
    panels = figure.subplots(1, len(BUDGET_LAYERS), sharey=True)
    for axes, layer in zip(panels, BUDGET_LAYERS, strict=True):
        mine = [each for each in found if each.layer == layer]
        where = list(range(len(mine)))
        up, down = [0.0] * len(mine), [0.0] * len(mine)
        for part, colour in PARTS.items():
            amounts = [each.parts[part] for each in mine]
            bottoms = [u if amount >= 0 else d for amount, u, d in zip(amounts, up, down, strict=True)]
            axes.bar(where, amounts, 0.62, bottom=bottoms, color=colour, label=part.replace("_", " "))
            up = [u + max(0.0, amount) for u, amount in zip(up, amounts, strict=True)]
            down = [d + min(0.0, amount) for d, amount in zip(down, amounts, strict=True)]
        errors = [each.error for each in mine]
        axes.plot(
            where,
            errors,
            "D",
            color=INK,
            markeredgecolor="white",
            markersize=8,
            label="error, their sum, also below each name",
        )
        axes.axhline(0, color=INK, linewidth=0.8)
        axes.set_title(f"at {layer}, target {mine[0].target:.2f}", fontsize=11, loc="left", color=INK)
        names = [each.method.replace("gradient_times_input", "gradient x\nfeatures") for each in mine]
        axes.set_xticks(
            where,
            [f"{name}\n{each.error:+.1f}" for name, each in zip(names, mine, strict=True)],
        )
        axes.tick_params(axis="x", labelsize=8.5, length=0)
        axes.grid(axis="y", color="#e4e4e4", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right", "bottom"]].set_visible(False)
    highest = max(sum(max(0.0, part) for part in each.parts.values()) for each in found)
    lowest = min(sum(min(0.0, part) for part in each.parts.values()) for each in found)
    panels[0].set_ylim(1.1 * lowest - 0.5, 1.1 * highest)
    panels[0].set_ylabel("target − result, logits", fontsize=9)  # noqa: RUF001
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False, fontsize=9
    )
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a PNG of 256 colours, a third of the size of one with all."""
    stream = BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": None})
    picture = Image.open(stream).convert("RGB")
    # A palette first: only onto a given one are colours dithered, and without that a smooth map shows bands.
    reduced = picture.quantize(palette=picture.quantize(256), dither=Image.Dither.FLOYDSTEINBERG)
    colours, margin = reduced.getpalette() or [], reduced.getpixel((0, 0))
    colours[3 * margin : 3 * margin + 3] = [255, 255, 255]  # nearly white else
    reduced.putpalette(colours)
    reduced.save(path, optimize=True)


class Findings(NamedTuple):
    """Everything that is printed and drawn."""

    photographs: Photographs
    blindness: list[Blindness]
    steps: list[Steps]
    head: list[LinearHead]
    layers: list[AtLayer]
    budgets: list[Budget]

    def tables(self) -> list[str]:
        """In the order of the page."""
        return [
            blindness_table(self.blindness),
            fixed_steps_table(self.steps),
            linear_head_table(self.head),
            layers_table(self.layers, SHOWN),
            layers_summary(self.layers, self.photographs.names),
            budget_table(self.budgets),
        ]

    def figures(self) -> dict[str, Figure]:
        """By file name."""
        return {
            "neglected-blind.png": blindness_figure(self.photographs, self.blindness),
            "neglected-layers.png": maps_figure(self.photographs, self.layers, SHOWN),
            "neglected-depth.png": depth_figure(self.layers, self.photographs.names),
            "neglected-budget.png": budget_figure(self.budgets),
        }


def find(*, quick: bool) -> Findings:
    """All findings; quickly: of one photograph, with fewer baselines, layers and gradients."""
    photographs = load([SHOWN] if quick else list(PLACES))
    names = [BLUR, "black"] if quick else list(BASELINES)
    layers = ["input", "blocks.8", "head"] if quick else EVERY_LAYER
    score = cp.logit(photographs.classifier)
    whole = {n: cp.compare(score, photographs.inputs, baseline=BASELINES[n]) for n in names}
    tolerant = {name: comparison.explain(TOLERANCE) for name, comparison in whole.items()}
    reference = cp.methods.IntegratedGradients(value_tolerance=0.05) if quick else REFERENCE
    return Findings(
        photographs=photographs,
        blindness=blindness(photographs, tolerant["black"]),
        steps=fixed_steps(photographs, whole, tolerant, reference=reference),
        head=linear_head(photographs),
        layers=at_layers(photographs, whole[BLUR], tolerant[BLUR], layers=layers),
        budgets=budgets(photographs, whole[BLUR], SHOWN),
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="folder of the figures; by default the page's, docs/images")
    parser.add_argument("--quick", action="store_true", help="one photograph, fewer baselines and layers")
    arguments = parser.parse_args()
    if arguments.quick and arguments.out is None:
        parser.error("--quick needs --out: its figures are not the page's.")
    out = arguments.out or Path(__file__).parents[1] / "docs" / "images"
    torch.set_num_threads(2)
    findings = find(quick=arguments.quick)
    print("\n\n".join(findings.tables()))
    out.mkdir(parents=True, exist_ok=True)
    for name, figure in findings.figures().items():
        save(figure, out / name)


if __name__ == "__main__":
    main()
