"""Who and what the results are about; the data within the page name them by their places in these lists."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from counterpoint.bench.contenders import Contender
from counterpoint.bench.metrics import METRICS
from counterpoint.bench.results import Results


@dataclass(frozen=True)
class Listing:
    """Models, contenders, evaluation baselines and metrics, in the order of the spec."""

    models: tuple[str, ...]
    contenders: tuple[Contender, ...]
    evaluations: tuple[str, ...]
    metrics: tuple[str, ...]

    @classmethod
    def of(cls, results: Results) -> "Listing":
        """What the folder holds, failures included."""
        manifest = results.manifest
        found = results.rows("SELECT DISTINCT model, method, against, layer FROM explanations")
        measured = results.rows("SELECT DISTINCT metric, evaluation FROM measures")
        drawn = results.rows(
            "SELECT DISTINCT evaluation FROM curves UNION SELECT DISTINCT evaluation FROM deviations"
        )
        methods, against, layers = (manifest.get(name, ()) for name in ("methods", "against", "layers"))
        rivals = {Contender(row["method"], row["against"], row["layer"]) for row in found}
        return cls(
            models=_ordered(
                (row["model"] for row in found), [model["name"] for model in manifest.get("models", ())]
            ),
            contenders=tuple(
                sorted(
                    rivals,
                    key=lambda each: (
                        _place(each.method, methods),
                        _place(each.against, against),
                        _place(each.layer, layers),
                    ),
                )
            ),
            evaluations=_ordered(
                (row["evaluation"] for row in [*measured, *drawn] if row["evaluation"]),
                manifest.get("evaluations", ()),
            ),
            metrics=_ordered((row["metric"] for row in measured), list(METRICS)),
        )

    @cached_property
    def places(self) -> Mapping[Contender, int]:
        """Where each contender stands in the list."""
        return {contender: k for k, contender in enumerate(self.contenders)}

    def place(self, row: Mapping[str, Any]) -> int:
        """Where the contender of a row with method, against and layer stands."""
        return self.places[Contender(row["method"], row["against"], row["layer"])]

    def way(self, metric: str) -> bool | None:
        """Whether higher is better; None where neither is, or where it is not known."""
        return METRICS[metric].higher_is_better if metric in METRICS else None

    @property
    def judging(self) -> tuple[str, ...]:
        """The metrics under which contenders can be better and worse."""
        return tuple(name for name in self.metrics if self.way(name) is not None)

    @cached_property
    def as_data(self) -> dict[str, Any]:
        """For the page."""
        return {
            "models": self.models,
            "contenders": [
                {"method": c.method, "against": c.against, "layer": c.layer, "name": c.name}
                for c in self.contenders
            ],
            "evaluations": self.evaluations,
            "metrics": [
                {
                    "name": name,
                    "title": title(name),
                    "summary": METRICS[name].summary if name in METRICS else "",
                    "higher": self.way(name),
                }
                for name in self.metrics
            ],
        }


def title(metric: str) -> str:
    """The name of a metric in words."""
    return {"relevance_gain": "insertion minus deletion"}.get(metric, metric.replace("_", " "))


def _ordered(found: Iterable[str], known: Sequence[str]) -> tuple[str, ...]:
    return tuple(sorted(set(found), key=lambda name: _place(name, known)))


def _place(name: str, known: Sequence[str]) -> tuple[int, str]:
    """Known names in their order, others behind by name."""
    return (list(known).index(name) if name in known else len(known), name)
