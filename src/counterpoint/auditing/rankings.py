"""Photographs in; the rankings of methods under every baseline, in tables, figures and words, out."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from counterpoint import spec
from counterpoint.audit import METRICS, Contender, RankingAudit, audit_rankings
from counterpoint.audit.words import conclusions
from counterpoint.auditing.written import Written, finite, markdown, model_facts, with_warning, write_text
from counterpoint.classifier import Classifier
from counterpoint.data.photographs import output_names
from counterpoint.protocols import Baseline
from counterpoint.report.figures import save_png
from counterpoint.report.wording import number


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
    words = with_warning(conclusions(audit), classifier)
    legend = ("Mean areas over images; higher is better in all, deletion areas being negated.",)
    title = f"Rankings for {classifier.name} on {len(images)} photographs"
    write_text(folder / "rankings.md", markdown(title, words, headings, rows, legend))
    facts = {
        "model": model_facts(classifier),
        "conclusions": list(words),
        "metrics": {
            metric: {
                "areas": audit.table(metric).tolist(),
                "mean_tau": finite(audit.stability(metric).mean_tau),
                "taus": [[finite(tau) for tau in row] for row in audit.stability(metric).taus],
                "concordance": finite(audit.stability(metric).concordance),
                "ceiling": audit.ceiling(metric)[0],
                "survive": [list(pair) for pair in audit.surviving(metric)],
                "contradicted": [list(found) for found in audit.contradicted(metric)],
                "circularity": [
                    {
                        "method": found.method,
                        "against": list(found.against),
                        "areas": found.areas.tolist(),
                        "gain": finite(found.gain),
                        "interval": [finite(end) for end in found.gain_interval],
                    }
                    for found in audit.circularity(metric)
                ],
            }
            for metric in METRICS
        },
        "contenders": list(audit.contenders),
        "baselines": list(audit.baselines),
    }
    write_text(folder / "rankings.json", json.dumps(facts, indent=2, allow_nan=False) + "\n")
    files = (folder / "rankings.md", folder / "rankings.json", *figures)
    return Written(words, headings, rows, legend, files, facts)


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
