"""Where the numbers come from, and how to cite them."""

from dataclasses import dataclass
from typing import Any

from counterpoint.bench.results import Results
from counterpoint.store import key_of


@dataclass(frozen=True)
class Paper:
    """One that the benchmark stands on."""

    authors: str
    title: str
    year: int
    arxiv: str
    for_what: str

    @property
    def address(self) -> str:
        """On arXiv."""
        return f"https://arxiv.org/abs/{self.arxiv}"


PAPERS = (
    Paper(
        "Cui and Fan",
        "The Neglected Baseline in Model Interpretation",
        2026,
        "2605.22417",
        "attribution error; every method has a baseline, said or unsaid",
    ),
    Paper(
        "Picard, Boissin, Subhash, Cadene and Fel",
        "Back to the Baseline",
        2025,
        "2512.11433",
        "the evaluation baseline decides who wins; information removed against distance from real images",
    ),
    Paper(
        "Zhang and McMillan",
        "Beyond Output Faithfulness",
        2025,
        "2509.04588",
        "activation deviation: whether a perturbed image runs on the same pathway",
    ),
)


def spec_hash(results: Results) -> str:
    """24 hexadecimal digits that stand for the spec as checked: the same for the same benchmark, whoever runs it."""
    return key_of(results.manifest.get("spec", {}))


def facts(results: Results) -> list[tuple[str, list[tuple[str, str]]]]:
    """Headed lists of what was run on what, for the provenance card."""
    manifest = results.manifest
    fixed, data = manifest.get("fixed", {}), manifest.get("data", {})
    return [
        (
            "Benchmark",
            [
                ("name", str(manifest.get("name", ""))),
                ("spec hash", spec_hash(results)),
                ("folder begun", _moment(manifest.get("created"))),
                ("format", str(manifest.get("format", ""))),
            ],
        ),
        ("Versions", [(str(name), str(version)) for name, version in manifest.get("versions", {}).items()]),
        ("Fixed for all runs", [(_words(name), str(value)) for name, value in fixed.items()]),
        ("Images", [(_words(name), str(value)) for name, value in data.items() if value not in (None, "")]),
        *[
            (
                f"Model {model['name']}",
                [
                    ("weights", str(model.get("weights", ""))),
                    ("SHA-256 of the weights", str(model.get("weights_sha256", ""))),
                    *([("warning", "random weights, not trained")] if model.get("random_weights") else []),
                    *[
                        (f"preprocessing: {_words(name)}", str(value))
                        for name, value in (model.get("preprocessing") or {}).items()
                    ],
                ],
            )
            for model in manifest.get("models", ())
        ],
    ]


def runs(results: Results) -> list[dict[str, Any]]:
    """When, where and how the folder was worked on."""
    return [
        {
            "started": _moment(run.get("started")),
            "ended": _moment(run.get("ended")) if run.get("ended") else "stopped before its end",
            "engine": str(run.get("engine", "")).replace("_", " "),
            "workers": run.get("workers"),
            "host": run.get("host"),
        }
        for run in results.manifest.get("runs", ())
    ]


def _moment(text: Any) -> str:
    """ "2026-11-22 10:00:00 UTC" of an ISO time."""
    said = str(text or "")
    return said[:19].replace("T", " ") + (" UTC" if said.endswith(("+00:00", "Z")) else said[19:])


def _words(name: str) -> str:
    return str(name).replace("_", " ").replace("sha256", "SHA-256")
