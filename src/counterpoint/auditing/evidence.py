"""Photographs and masks of their evidence in; how often metrics order maps rightly under each baseline out."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from counterpoint.audit import EvidenceAudit, audit_evidence
from counterpoint.audit.words import evidence_sentences
from counterpoint.auditing.written import Written, finite, markdown, model_facts, with_warning, write_text
from counterpoint.classifier import Classifier
from counterpoint.errors import InputError
from counterpoint.files import writable_folder
from counterpoint.images import IMAGE_SUFFIXES
from counterpoint.protocols import Baseline
from counterpoint.report.figures import save_png

_METRICS = ("deletion", "insertion", "relevance_gain")


def evidence_photographs(
    classifier: Classifier,
    paths: Sequence[Path],
    masks: Path,
    baselines: Sequence[Baseline],
    out: Path,
    **options: Any,
) -> Written:
    """Audit metrics on photographs whose evidence is known, and write table, words and figure.

    Args:
        classifier: The model.
        paths: Photographs.
        masks: A folder that holds, for every photograph, an image of the same name (up to its ending), white where the evidence is.
        baselines: What removed pixels become.
        out: Where files go.
        options: Of `audit_evidence`.

    Raises:
        InputError: a photograph without a mask, or with one of another size; see `audit_evidence` for the rest.
        OutputError: the folder cannot be written.
    """
    from counterpoint.report.audit_figures import evidence_figure

    evidence = read_evidence(classifier, paths, masks)
    images = classifier.preprocess(list(paths))
    folder = writable_folder(out)
    audit = audit_evidence(classifier, images, evidence, baselines, **options)
    save_png(evidence_figure(audit, classifier.name), folder / "evidence.png")
    headings, rows = evidence_table(audit)
    words = with_warning(evidence_sentences(audit), classifier)
    legend = (
        "Share of pairs of maps, one more corrupted than the other, that come in the right order; higher is better, 0.5 is chance.",
    )
    title = f"Known evidence: metrics for {classifier.name} on {len(paths)} photographs"
    write_text(folder / "evidence.md", markdown(title, words, headings, rows, legend))
    facts = {
        "model": model_facts(classifier),
        "conclusions": list(words),
        "levels": list(audit.levels),
        "metrics": {
            metric: [
                {
                    "baseline": name,
                    "correct": finite(audit.means(metric)[b]),
                    "interval": [finite(end) for end in audit.intervals(metric)[:, b]],
                }
                for b, name in enumerate(audit.baselines)
            ]
            for metric in _METRICS
        },
    }
    write_text(folder / "evidence.json", json.dumps(facts, indent=2, allow_nan=False) + "\n")
    files = tuple(folder / name for name in ("evidence.md", "evidence.json", "evidence.png"))
    return Written(words, headings, rows, legend, files, facts)


def evidence_table(audit: EvidenceAudit) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """One row for each baseline, one column for each metric; the best by insertion minus deletion first."""
    order = audit.means("relevance_gain").argsort(descending=True).tolist()
    rows = []
    for b in order:
        cells = []
        for metric in _METRICS:
            low, high = audit.intervals(metric)[:, b].tolist()
            cells.append(f"{float(audit.means(metric)[b]):.2f} ({low:.2f} to {high:.2f})")
        rows.append((audit.baselines[b], *cells))
    return ("baseline", *(metric.replace("_", " ") for metric in _METRICS)), tuple(rows)


def read_evidence(
    classifier: Classifier, paths: Sequence[Path], masks: Path
) -> Bool[Tensor, "images height width"]:
    """The masks of photographs, resized and cropped as these are; True where a mask is lighter than mid-grey.

    Raises:
        InputError: no such folder, a photograph without a mask, or a mask of another size.
    """
    folder = Path(masks)
    if not folder.is_dir():
        raise InputError(f"evidence must be a folder of masks, but there is none at '{folder}'.")
    there = {file.stem: file for file in sorted(folder.iterdir()) if file.suffix.lower() in IMAGE_SUFFIXES}
    missing = [path.name for path in paths if path.stem not in there]
    if missing:
        raise InputError(
            f"evidence must hold a mask for each photograph, an image of the same name, but '{folder}' has none for "
            f"{', '.join(missing[:3])}{' and others' if len(missing) > 3 else ''}."
        )
    found = [there[path.stem] for path in paths]
    for path, mask in zip(paths, found, strict=True):
        if _size(path) != _size(mask):
            raise InputError(
                f"evidence must be of the size of its photograph, but '{mask.name}' is {_size(mask)} and '{path.name}' {_size(path)}."
            )
    return torch.cat([classifier.preprocess([mask]).mean(1) > 0.5 for mask in found])


def _size(path: Path) -> tuple[int, int]:
    from PIL import Image

    with Image.open(path) as opened:
        return opened.size
