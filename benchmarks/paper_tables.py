"""The tables of docs/three-papers.md, from folders of benchmarks.

    python benchmarks/paper_tables.py --neglected DIR --baseline DIR --pathways DIR

Each is what `counterpoint bench examples/NAME.toml --photographs PHOTO... --out DIR` wrote.
"""

import argparse
from pathlib import Path

import numpy as np

from counterpoint.bench import Results
from counterpoint.bench.statistics import ranking, stability, verdict
from kept import table


def percent(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}" if value < 1 else f"{value:.0%}"


def neglected(folder: Path) -> None:
    """Median and 90th percentile of the relative attribution error, by method and layer."""
    results = Results(folder)
    layers = ["input", "blocks.5", "blocks.10", "blocks.15"]
    rows = results.rows(
        "SELECT method, against, layer, median(relative_error) AS middle, quantile_cont(relative_error, 0.9) AS most, "
        "avg(gradients) AS gradients, count(relative_error) AS images FROM explanations WHERE claim = 'shares' GROUP BY ALL"
    )
    known = {(row["method"], row["against"], row["layer"]): row for row in rows}
    found = []
    for method, against in dict.fromkeys(
        (m, a) for m in results.manifest["methods"] for a in results.manifest["against"]
    ):
        cells = [
            f"{percent(row['middle'])} ({percent(row['most'])})"
            if (row := known.get((method, against, layer)))
            else ""
            for layer in layers
        ]
        found.append([f"`{method}`", against.split(":")[0], *cells])
    print(f"\n{max(row['images'] for row in rows)} images")
    table(["method", "against", *layers], found)


def baseline(folder: Path) -> None:
    """The rank of every method under every evaluation baseline."""
    results = Results(folder)
    evaluations = results.manifest["evaluations"]
    for metric in ("deletion", "insertion", "relevance_gain"):
        whole = ranking(results, metric)
        each = {
            name: {s.contender.method: s.rank for s in ranking(results, metric, evaluation=name)}
            for name in evaluations
        }
        short = [name.split(":")[0].replace("_", " ") for name in evaluations]
        rows = [
            [f"`{s.contender.method}`", f"{s.mean:.3f} ({s.low:.3f} to {s.high:.3f})"]
            + [f"{each[name][s.contender.method]}" for name in evaluations]
            for s in whole
        ]
        found = stability(results, metric)
        halves = stability(results, metric, over="subset")
        print(
            f"\n{metric}: {whole[0].images} images, mean tau {found.mean_tau:.2f} ({found.low:.2f} to {found.high:.2f}), "
            f"W {found.concordance:.2f}; halves of the images {halves.mean_tau:.2f}"
        )
        table(["method", "mean (95 %)", *short], rows)
    for sentence in verdict(results):
        print(f"- {sentence}")


def pathways(folder: Path) -> None:
    """Means of every measure, and of what random masks have."""
    results = Results(folder)
    metrics = results.manifest["metrics"]
    means = results.rows(
        "SELECT method, metric, avg(value) AS mean, stddev_samp(value) / sqrt(count(value)) AS error, count(value) AS images "
        "FROM measures GROUP BY ALL"
    )
    known = {(row["method"], row["metric"]): row for row in means}
    floors = {
        row["measure"]: row["floor"]
        for row in results.rows(
            "SELECT measure, avg(list_avg(floor)) AS floor FROM deviations WHERE method = 'random_map' GROUP BY ALL"
        )
    }
    rows = [
        [
            f"`{method}`",
            *(
                f"{known[method, metric]['mean']:.3f} ± {known[method, metric]['error']:.3f}"
                for metric in metrics
            ),
        ]
        for method in results.manifest["methods"]
        if (method, metrics[0]) in known
    ]
    rows.append(
        [
            "random masks",
            *(
                f"{floors[m]:.3f}" if (m := metric.removeprefix("activation_")) in floors else ""
                for metric in metrics
            ),
        ]
    )
    print(f"\n{max(row['images'] for row in means)} images, mean ± standard error")
    table(["method", *(metric.replace("activation_", "").replace("_", " ") for metric in metrics)], rows)
    pairs = results.rows("SELECT method, image, metric, avg(value) AS value FROM measures GROUP BY ALL")
    values = {(row["method"], row["image"], row["metric"]): row["value"] for row in pairs}
    images = list(dict.fromkeys(row["image"] for row in pairs))
    plain = next(
        m
        for m in results.manifest["methods"]
        if m.startswith("fei") and "rule" not in m and "penalty" not in m
    )
    rows = []
    for method in results.manifest["methods"]:
        if method == plain:
            continue
        cells = []
        for metric in ("relevance_gain", "activation_excess", "activation_seam_free_excess"):
            both = [
                values[method, i, metric] - values[plain, i, metric]
                for i in images
                if (method, i, metric) in values and (plain, i, metric) in values
            ]
            numbers = np.array(both)
            draws = np.random.default_rng(0).integers(len(numbers), size=(2000, len(numbers)))
            low, high = np.quantile(numbers[draws].mean(1), [0.025, 0.975])
            cells.append(f"{numbers.mean():+.3f} ({low:+.3f} to {high:+.3f})")
        rows.append([f"`{method}`", *cells])
    table([f"minus `{plain}`", "area", "excess", "seam-free excess"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("neglected", "baseline", "pathways"):
        parser.add_argument(f"--{name}", type=Path, metavar="DIR")
    given = parser.parse_args()
    for name, show in (("neglected", neglected), ("baseline", baseline), ("pathways", pathways)):
        if getattr(given, name):
            show(getattr(given, name))


if __name__ == "__main__":
    main()
