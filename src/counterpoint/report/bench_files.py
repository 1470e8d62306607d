"""Every figure of a benchmark's statistics, in files."""

import re
from collections.abc import Callable
from itertools import product
from pathlib import Path

from matplotlib.figure import Figure

from counterpoint.bench.metrics import HIGHER_IS_BETTER
from counterpoint.bench.results import Results
from counterpoint.bench.statistics import friedman, measured, pairs, ranking, stability
from counterpoint.errors import InputError
from counterpoint.files import writable_folder
from counterpoint.report.bench_figures import critical_difference_figure, stability_figure, wins_figure
from counterpoint.report.figures import save_png


def write_figures(results: Results, folder: Path) -> list[Path]:
    """Every figure of every model and metric that can rank, as `METRIC.KIND.png`; what cannot be drawn is left out.

    Args:
        results: Of a benchmark.
        folder: Made if it is not there.

    Raises:
        OutputError: it cannot be written.
    """
    place = writable_folder(folder)
    models, metrics = measured(results)
    written = []
    for model, metric in product(models, metrics):
        if HIGHER_IS_BETTER.get(metric) is None:
            continue
        caption = metric.replace("_", " ") if len(models) == 1 else f"{model}, {metric.replace('_', ' ')}"
        try:
            order = [standing.contender for standing in ranking(results, metric, model=model)]
        except InputError:
            continue
        kinds: dict[str, Callable[[], Figure]] = {
            "critical-difference": lambda m=metric, n=model, c=caption: critical_difference_figure(
                friedman(results, m, model=n), c
            ),
            "wins": lambda m=metric, n=model, c=caption, o=order: wins_figure(
                pairs(results, m, model=n), o, c
            ),
            "stability": lambda m=metric, n=model, c=caption: stability_figure(
                stability(results, m, model=n), c
            ),
        }
        for kind, draw in kinds.items():
            try:
                figure = draw()
            except InputError:
                continue
            stem = metric if len(models) == 1 else f"{re.sub(r'[^-.0-9A-Za-z_]+', '_', model)}.{metric}"
            written.append(place / f"{stem}.{kind}.png")
            save_png(figure, written[-1])
    return written
