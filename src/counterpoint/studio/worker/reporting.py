"""The results given on the command line: a benchmark's report, or a saved attribution."""

import dataclasses
from pathlib import Path
from typing import Any

from counterpoint.attribution import load_attribution
from counterpoint.errors import InputError
from counterpoint.studio.jobs import Task
from counterpoint.studio.questions import Results
from counterpoint.studio.worker.answering import Folder
from counterpoint.studio.worker.explaining import cost, explained, scale_ends, sentence_of
from counterpoint.studio.worker.workshop import Workshop


def results(workshop: Workshop, question: Results, task: Task, folder: Folder) -> dict[str, Any]:
    """What they say."""
    if workshop.beginning.results is None:
        raise InputError("no results were given when the studio was started; give a folder with --results.")
    path = Path(workshop.beginning.results)
    return _attribution(path, folder) if path.is_file() else _benchmark(path, folder)


def _benchmark(path: Path, folder: Folder) -> dict[str, Any]:
    from counterpoint.bench import results as of_bench
    from counterpoint.report.page.listing import Listing
    from counterpoint.report.page.rankings import pairwise, rankings, stabilities
    from counterpoint.report.page.summary import findings
    from counterpoint.report.page.writing import write_report

    write_report(path, folder.path / "report.html")
    found = of_bench.Results(path)
    listing = Listing.of(found)
    data = {
        "rankings": rankings(found, listing),
        "stabilities": stabilities(found, listing),
        "pairs": pairwise(found, listing),
    }
    return {
        "what": "benchmark",
        "name": found.manifest.get("name") or path.name,
        "findings": [
            {**dataclasses.asdict(each), "headline": each.headline} for each in findings(found, listing, data)
        ],
        "rankings": data["rankings"],
        "stabilities": data["stabilities"],
        "listing": listing.as_data,
    }


def _attribution(path: Path, folder: Folder) -> dict[str, Any]:
    attribution = load_attribution(path)
    heat = attribution.heatmap()[0]
    folder.write_map(heat)
    answer = {
        **explained(attribution),
        "cost": cost(attribution),
        **scale_ends(heat),
        "images": len(attribution.score),
    }
    return {"what": "attribution", "name": path.name, **answer, "sentence": sentence_of(answer, heat)}
