"""Photographs in; the audit's table, its figures and what it says in words out. Used by the command."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from counterpoint import progress, spec
from counterpoint.audit import (
    MEASURES,
    METRICS,
    BaselineAudit,
    Contender,
    RankingAudit,
    audit_baselines,
    audit_rankings,
)
from counterpoint.audit.words import conclusions, measure_legend, recommendation
from counterpoint.baselines import Black
from counterpoint.classifier import Classifier
from counterpoint.comparison import compare
from counterpoint.data.photographs import output_names
from counterpoint.files import whole_file
from counterpoint.methods import GradCAM
from counterpoint.places import default_map_layer
from counterpoint.protocols import Baseline
from counterpoint.report.figures import save_png
from counterpoint.report.wording import number
from counterpoint.scores import logit

_IN_FILES_ONLY = ("out of distribution", "removal as published", "deletion beyond", "insertion beyond")


@dataclass(frozen=True)
class Written:
    """What an audit left behind."""

    words: tuple[str, ...]
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    legend: tuple[str, ...]
    files: tuple[Path, ...]
    facts: dict[str, Any]
    """Everything in numbers, for JSON."""
    in_files_only: tuple[str, ...] = ()
    """Headings that a terminal has no room for."""


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
    words, legend = tuple(recommendation(audit)), tuple(measure_legend())
    title = f"Baselines for {classifier.name} on {len(images)} photographs"
    _write(folder / "audit.md", _markdown(title, words, headings, rows, legend))
    facts = {
        "facts": dict(audit.facts),
        "recommendation": list(words),
        "undominated": list(audit.undominated),
        "baselines": [
            {
                "baseline": name,
                "best_compromise": float(audit.chosen[b]),
                **{
                    measure: {
                        "mean": _finite(audit.means(measure)[b]),
                        "interval": [_finite(end) for end in audit.intervals(measure)[:, b]],
                    }
                    for measure in MEASURES
                },
            }
            for b, name in enumerate(audit.names)
        ],
    }
    _write(folder / "audit.json", json.dumps(facts, indent=2, allow_nan=False) + "\n")
    files = tuple(folder / name for name in ("audit.md", "audit.json", "trade-off.png", "looks.png"))
    return Written(words, headings, rows, legend, files, facts, _IN_FILES_ONLY)


def rank_photographs(
    classifier: Classifier,
    paths: Sequence[Path],
    contenders: Sequence[Contender],
    baselines: Sequence[Baseline],
    out: Path,
    **options: Any,
) -> Written:
    """Rank methods under every baseline on photographs, and write table, words and figure.

    Args:
        classifier: The model.
        paths: Photographs.
        contenders: Methods, each with what it compares with.
        baselines: What removed pixels become.
        out: Where files go; see `audit_photographs`.
        options: Of `audit_rankings`.

    Raises:
        InputError: see `audit_rankings`.
        OutputError: the folder cannot be written.
    """
    from counterpoint.report.audit_figures import circularity_figure, rankings_figure

    folder = Path(out)
    images = classifier.preprocess(list(paths))
    audit = audit_rankings(
        classifier,
        images,
        contenders,
        baselines,
        names=output_names(paths),
        folder=folder / "ranking-results",
        **options,
    )
    save_png(rankings_figure(audit, classifier.name), folder / "rankings.png")
    figures = [folder / "rankings.png"]
    if matrices := audit.circularity("relevance_gain"):
        figures.append(folder / "circularity.png")
        save_png(circularity_figure(matrices, classifier.name), figures[-1])
    headings, rows = ranking_table(audit)
    words = tuple(conclusions(audit))
    legend = ("Mean areas over images; higher is better in all, deletion areas being negated.",)
    title = f"Rankings for {classifier.name} on {len(images)} photographs"
    _write(folder / "rankings.md", _markdown(title, words, headings, rows, legend))
    facts = {
        "conclusions": list(words),
        "metrics": {
            metric: {
                "areas": audit.table(metric).tolist(),
                "mean_tau": _finite(audit.stability(metric).mean_tau),
                "taus": [[_finite(tau) for tau in row] for row in audit.stability(metric).taus],
                "concordance": _finite(audit.stability(metric).concordance),
                "ceiling": audit.ceiling(metric)[0],
                "survive": [list(pair) for pair in audit.surviving(metric)],
                "contradicted": [list(found) for found in audit.contradicted(metric)],
                "circularity": [
                    {
                        "method": found.method,
                        "against": list(found.against),
                        "areas": found.areas.tolist(),
                        "gain": _finite(found.gain),
                        "interval": [_finite(end) for end in found.gain_interval],
                    }
                    for found in audit.circularity(metric)
                ],
            }
            for metric in METRICS
        },
        "contenders": list(audit.contenders),
        "baselines": list(audit.baselines),
    }
    _write(folder / "rankings.json", json.dumps(facts, indent=2, allow_nan=False) + "\n")
    files = (folder / "rankings.md", folder / "rankings.json", *figures)
    return Written(words, headings, rows, legend, files, facts)


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


def ranking_table(audit: RankingAudit) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """One row for each metric and contender, one column for each baseline: mean area and rank."""
    rows = []
    for metric in METRICS:
        table = audit.table(metric)
        ranks = (-table).argsort(0).argsort(0) + 1
        for m, contender in enumerate(audit.contenders):
            cells = [
                f"{number(float(table[m, b]), 3)} ({int(ranks[m, b])})" for b in range(len(audit.baselines))
            ]
            rows.append((metric.replace("_", " "), contender, *cells))
    return ("metric", "method", *audit.baselines), tuple(rows)


def contenders_of(methods: Sequence[Any], against: Sequence[Baseline]) -> list[Contender]:
    """Every method against every baseline that it is to be tried with; methods that read none only once.

    Raises:
        InputError: never; duplicates are left to `audit_rankings`.
    """
    found: dict[tuple[str, str], Contender] = {}
    for method in methods:
        reads = method.claim == "shares" and getattr(method, "reference", "comparison") == "comparison"
        for baseline in against if reads else against[:1]:
            found.setdefault(
                (spec.describe(method).text, spec.describe(baseline).text), Contender(method, baseline)
            )
    return list(found.values())


def _markdown(
    title: str,
    words: Sequence[str],
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    legend: Sequence[str],
) -> str:
    lines = [f"# {title}", "", *(f"- {sentence}" for sentence in words), ""]
    lines += ["| " + " | ".join(headings) + " |", "|---" * len(headings) + "|"]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([*lines, "", *(f"- {each}" for each in legend)]) + "\n"


def _write(path: Path, text: str) -> None:
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def _finite(value: Any) -> float | None:
    number = float(value)
    return number if number == number and abs(number) != float("inf") else None
