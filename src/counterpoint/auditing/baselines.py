"""Photographs in; the audit's table of baselines, its figures and what it says in words out."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from counterpoint import progress
from counterpoint.audit import MEASURES, BaselineAudit, audit_baselines
from counterpoint.audit.words import measure_legend, recommendation
from counterpoint.auditing.written import Written, finite, markdown, model_facts, with_warning, write_text
from counterpoint.baselines import Black
from counterpoint.classifier import Classifier
from counterpoint.comparison import compare
from counterpoint.data.photographs import output_names
from counterpoint.methods import GradCAM
from counterpoint.places import default_map_layer
from counterpoint.protocols import Baseline
from counterpoint.report.figures import save_png
from counterpoint.report.wording import number
from counterpoint.scores import logit

_IN_FILES_ONLY = ("out of distribution", "removal as published", "deletion beyond", "insertion beyond")


def audit_photographs(
    classifier: Classifier, paths: Sequence[Path], baselines: Sequence[Baseline], out: Path, **options: Any
) -> Written:
    """Audit baselines on photographs, and write table, words and figures.

    Args:
        classifier: The model.
        paths: Photographs.
        baselines: The candidates.
        out: Where files go; results are kept there as they come, and a second run goes on where the first was stopped.
        options: Of `audit_baselines`.

    Raises:
        InputError: see `audit_baselines`.
        OutputError: the folder cannot be written.
    """
    from counterpoint.report.audit_figures import looks_figure, trade_off_figure

    folder = Path(out)
    images = classifier.preprocess(list(paths))
    names = output_names(paths)
    with progress.stage(0, 0.98, 1):
        audit = audit_baselines(
            classifier, images, baselines, names=names, folder=folder / "results", **options
        )
    layer = default_map_layer(classifier.module, images[:1])
    shown = (
        compare(logit(classifier), images[:1], baseline=Black(), layer=layer).explain(GradCAM()).heatmap()[0]
    )
    prepared = [
        each.prepare(compare(logit(classifier), images[:1], baseline=Black()).bound, images[:1])
        for each in baselines
    ]
    save_png(trade_off_figure(audit, classifier.name), folder / "trade-off.png")
    save_png(looks_figure(images[0], shown, prepared, audit.names), folder / "looks.png")
    headings, rows = baseline_table(audit)
    words, legend = with_warning(recommendation(audit), classifier), tuple(measure_legend())
    title = f"Baselines for {classifier.name} on {len(images)} photographs"
    write_text(folder / "audit.md", markdown(title, words, headings, rows, legend))
    facts = {
        "model": model_facts(classifier),
        "facts": dict(audit.facts),
        "recommendation": list(words),
        "undominated": list(audit.undominated),
        "baselines": [
            {
                "baseline": name,
                "best_compromise": float(audit.chosen[b]),
                **{
                    measure: {
                        "mean": finite(audit.means(measure)[b]),
                        "interval": [finite(end) for end in audit.intervals(measure)[:, b]],
                    }
                    for measure in MEASURES
                },
            }
            for b, name in enumerate(audit.names)
        ],
    }
    write_text(folder / "audit.json", json.dumps(facts, indent=2, allow_nan=False) + "\n")
    files = tuple(folder / name for name in ("audit.md", "audit.json", "trade-off.png", "looks.png"))
    return Written(words, headings, rows, legend, files, facts, _IN_FILES_ONLY)


def baseline_table(audit: BaselineAudit) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """One row for each baseline, means with their 95 % intervals; the best compromise first."""
    shown = [name for name in MEASURES if bool(audit.means(name).isfinite().any())]
    order = sorted(
        range(len(audit.names)), key=lambda b: (-float(audit.chosen[b]), float(audit.means("excess")[b]))
    )
    rows = []
    for b in order:
        cells = []
        for name in shown:
            low, high = audit.intervals(name)[:, b].tolist()
            mean = float(audit.means(name)[b])
            cells.append(f"{number(mean, 3)} ({number(low, 3)} to {number(high, 3)})")
        free = "yes" if audit.names[b] in audit.undominated else "no"
        rows.append((audit.names[b], f"{float(audit.chosen[b]):.0%}", free, *cells))
    headings = ("baseline", "best compromise", "undominated", *(name.replace("_", " ") for name in shown))
    return headings, tuple(rows)
