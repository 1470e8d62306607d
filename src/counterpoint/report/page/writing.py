"""Put the page together and write it."""

import base64
import hashlib
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2

from counterpoint import progress
from counterpoint.bench.results import Results
from counterpoint.files import whole_file, writable_folder
from counterpoint.report.page import failures
from counterpoint.report.page.attribution_errors import attribution_errors
from counterpoint.report.page.curves import curves
from counterpoint.report.page.deviations import deviations
from counterpoint.report.page.gallery import gallery
from counterpoint.report.page.listing import Listing, title
from counterpoint.report.page.plain import json_text
from counterpoint.report.page.provenance import PAPERS, facts, runs, spec_hash
from counterpoint.report.page.rankings import pairwise, rankings, stabilities
from counterpoint.report.page.summary import findings
from counterpoint.report.page.trade_off import trade_off
from counterpoint.report.wording import ENDS, number, percent

NAME = "report.html"


def write_report(folder: str | Path, out: str | Path | None = None) -> Path:
    """One self-contained HTML file of a benchmark's results: it asks nothing of a network and opens from disk.

    Args:
        folder: What `counterpoint bench` wrote.
        out: The file to write; `report.html` in that folder by default.

    Returns:
        Where it was written, whole or not at all.

    Raises:
        InputError: the folder holds no benchmark's results.
        OutputError: the file cannot be written.
        MissingPackageError: DuckDB, which reads the results, is not installed.
    """
    results = Results(folder)
    path = results.folder / NAME if out is None else Path(out)
    writable_folder(path.parent)
    text = page(results)
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")
    return path


def page(results: Results) -> str:
    """The page's HTML."""
    listing = Listing.of(results)
    parts = {
        "rankings": rankings,
        "stabilities": stabilities,
        "pairs": pairwise,
        "trade_off": trade_off,
        "curves": curves,
        "deviations": deviations,
        "gallery": gallery,
    }
    data: dict[str, Any] = {**listing.as_data, "ends": ENDS}
    for k, (name, gathered) in enumerate(parts.items()):
        progress.advance(k, len(parts), name.replace("_", " "))
        data[name] = gathered(results, listing)
    progress.advance(len(parts), len(parts), "page")
    script = _text("page.js")
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_text),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=number, percent=percent, title=title)
    return environment.get_template("page.html").render(
        name=results.manifest.get("name") or results.folder.name,
        listing=listing,
        counts=_counts(results),
        findings=findings(results, listing, data),
        errors=attribution_errors(results, listing),
        failures=failures.Failures.of(results),
        most=failures.SHOWN,
        facts=facts(results),
        runs=runs(results),
        papers=PAPERS,
        spec_hash=spec_hash(results),
        spec_text=results.manifest.get("spec_text") or "",
        parts={name: bool(data[name]) for name in parts},
        pictured=bool(data["gallery"]["images"]),
        style=_text("page.css"),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        data=json_text(data),
    )


def _counts(results: Results) -> dict[str, int]:
    return results.rows(
        "SELECT count(DISTINCT image) AS images, count(*) FILTER (status = 'ok') AS maps, "
        "count(*) FILTER (status <> 'ok') AS failed FROM explanations"
    )[0]


def _text(name: str) -> str:
    """A file of the page: the template, its style or its script."""
    return (files("counterpoint.report.page") / "templates" / name).read_text(encoding="utf-8")
