"""The tables of a benchmark's results: their columns, and the folder that holds them.

Each table is a folder of Parquet parts (see `counterpoint.store`). A row of `explanations` is one map of one image; `measures`, `curves`
and `deviations` hold what was measured on it, `attempts` when, where and how long it was worked on, which no two runs have in common.
Which of the rows belong to the spec as it is now, the manifest says: see `counterpoint.bench.results`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from counterpoint.store import Store, key_of

FORMAT = "counterpoint bench 1"

_EXPLANATION = {
    "asked": "VARCHAR",  # hash of the question but for the image: a spec that was changed asks others, and earlier answers stay aside
    "model": "VARCHAR",
    "precision": "VARCHAR",
    "image": "VARCHAR",  # its name, unique within the benchmark
    "position": "BIGINT",  # its place in the data set
    "sha256": "VARCHAR",  # of the file
    "label": "VARCHAR",  # what the data set says that it shows; NULL where it says nothing
    "method": "VARCHAR",
    "against": "VARCHAR",  # the attribution baseline
    "layer": "VARCHAR",  # "input", or where the map was made
    "seed": "BIGINT",
}
"""Which map: the columns that `explanations`, `measures`, `curves` and `deviations` share."""

_NUMBERS = (
    "score",  # f(x)
    "baseline_score",  # f(x')
    "attribution_target",  # f(x) - f(x')
    "result",
    "error",
    "relative_error",
    "own_error",
    "path_error",
    "value_error",
    "cancellation",
    "budget_baseline",
    "budget_quadrature",
    "budget_one_step",
    "budget_operator",
    "budget_display",
)

COLUMNS: dict[str, dict[str, str]] = {
    "explanations": {
        **_EXPLANATION,
        "status": "VARCHAR",  # "ok" or "failed"
        "reason": "VARCHAR",  # why it failed
        "claim": "VARCHAR",  # "shares", "rate", "importance"
        "class_target": "VARCHAR",
        "class_index": "BIGINT",
        "probability": "DOUBLE",  # of that class
        **dict.fromkeys(_NUMBERS, "DOUBLE"),
        "converged": "BOOLEAN",
        "gradients": "BIGINT",
        "forwards": "BIGINT",
        "prefixes": "BIGINT",
        "thumbnail": "BLOB",  # signed 8-bit numbers, 64 x 64, rows from the top, of the map over `scale`; of some images only
        "scale": "DOUBLE",  # what 127 stands for, in units of the score per cell
    },
    "measures": {
        **_EXPLANATION,
        "metric": "VARCHAR",
        "evaluation": "VARCHAR",  # the baseline that the metric removes with; "" for metrics without one
        "status": "VARCHAR",
        "reason": "VARCHAR",
        "value": "DOUBLE",
    },
    "curves": {
        **_EXPLANATION,
        "evaluation": "VARCHAR",
        "kind": "VARCHAR",  # "deletion" or "insertion"
        "fractions": "DOUBLE[]",
        "scores": "DOUBLE[]",
        "tied": "DOUBLE",
    },
    "deviations": {
        **_EXPLANATION,
        "evaluation": "VARCHAR",
        "path": "VARCHAR",  # "deletion" or "insertion"
        "measure": "VARCHAR",  # "total", "excess", "seam_free_excess", "disinhibition"
        "activation": "VARCHAR",
        "activation_number": "BIGINT",  # its place in the network
        "fractions": "DOUBLE[]",
        "found": "DOUBLE[]",
        "floor": "DOUBLE[]",  # mean of random masks of the same areas
    },
    "attempts": {
        "run": "VARCHAR",
        "model": "VARCHAR",
        "image": "VARCHAR",
        "rows": "BIGINT",  # explanations that came of it
        "attempt": "BIGINT",
        "status": "VARCHAR",  # "ok", "failed", or "lost" with its worker
        "reason": "VARCHAR",
        "started": "DOUBLE",  # seconds since 1970
        "seconds": "DOUBLE",
        "host": "VARCHAR",
        "process": "BIGINT",
        "engine": "VARCHAR",
    },
}
"""Table -> name and SQL type of each column beside `key`."""

RESULTS = ("explanations", "measures", "curves", "deviations")
"""The tables that a run which was stopped and went on has in common with one that was not."""


def stores(folder: Path) -> Mapping[str, Store]:
    """Every table of a benchmark's folder, made if it is not there."""
    question: dict[str, Any] = {"format": FORMAT}
    return {name: Store(folder / name, question, columns) for name, columns in COLUMNS.items()}


def picture_file(sha256: str, preprocessing: Mapping[str, Any]) -> str:
    """Where in the folder the small picture of an image lies, as a model sees it: models with one preprocessing share it."""
    return f"photographs/{sha256}-{key_of(preprocessing)[:8]}.jpg"
