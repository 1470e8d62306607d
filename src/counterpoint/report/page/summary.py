"""The summary: who is first by each metric, how surely, and under how many evaluation baselines; then the same in whole sentences."""

from dataclasses import dataclass
from typing import Any

from counterpoint.bench.results import Results
from counterpoint.bench.values import values
from counterpoint.bench.words import about
from counterpoint.errors import InputError
from counterpoint.report.page.listing import Listing, title

# What most readers ask first: one number that neither curve alone can be tuned for.
_FIRST = ("relevance_gain", "insertion", "deletion", "attribution_error")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What one metric says of one model."""

    model: str
    metric: str
    best: str
    """The contender with the best mean; several where they are tied."""
    mean: float | None
    low: float | None
    high: float | None
    first: float
    """The share of resamples in which it is first."""
    beaten: int | None
    """Rivals that it surely beats; None where there is no rival."""
    rivals: int
    under: int
    """Evaluation baselines under which it is first."""
    of: int
    """Evaluation baselines."""
    images: int
    tau: float | None
    """Mean agreement between the rankings under different evaluation baselines."""
    sentences: list[str]

    @property
    def headline(self) -> str:
        """One sentence, without the name of the model."""
        text = f"By {title(self.metric)}, {self.best} comes first"
        if not self.rivals:
            return f"{text}, alone."
        sure = (
            "surely better than every other contender"
            if self.beaten == self.rivals
            else f"surely better than {self.beaten} of {self.rivals} others"
            if self.beaten
            else "but none of the others is surely worse"
        )
        under = ""
        if self.of > 1:
            under = f", and first under {'every one' if self.under == self.of else self.under} of {self.of} evaluation baselines"
        return f"{text}, {sure}{under}."


def findings(results: Results, listing: Listing, data: dict[str, Any]) -> list[Finding]:
    """One for each model and metric that can rank, the metric that is asked for first in front.

    Args:
        results: Of the benchmark.
        listing: What they are about.
        data: The page's rankings, pairs and stabilities.
    """
    found = []
    for m, model in enumerate(listing.models):
        for metric in sorted(
            listing.judging, key=lambda name: _FIRST.index(name) if name in _FIRST else len(_FIRST)
        ):
            place = f"{m}/{listing.metrics.index(metric)}"
            if f"{place}/-1" in data["rankings"]:
                found.append(_finding(results, listing, data, model, metric, place))
    return found


def _finding(
    results: Results, listing: Listing, data: dict[str, Any], model: str, metric: str, place: str
) -> Finding:
    rows = data["rankings"][f"{place}/-1"]
    leader, mean, low, high, _, _, _, first, images = rows[0]
    tied = [row[0] for row in rows if row[4] == 1]
    others = [
        data["rankings"][f"{place}/{b}"]
        for b in range(len(listing.evaluations))
        if f"{place}/{b}" in data["rankings"]
    ]
    wins = data["pairs"].get(place, {}).get("wins", [])
    beaten = next((row[1] for row in wins if row[0] == leader), None)
    return Finding(
        model=model,
        metric=metric,
        best=" and ".join(listing.contenders[c].name for c in tied[:3]),
        mean=mean,
        low=low,
        high=high,
        first=first,
        beaten=beaten,
        rivals=len(rows) - 1,
        under=sum(any(row[0] == leader and row[4] == 1 for row in each) for each in others),
        of=len(others),
        images=images,
        tau=data["stabilities"].get(place, {}).get("mean_tau"),
        sentences=_sentences(results, metric, model),
    )


def _sentences(results: Results, metric: str, model: str) -> list[str]:
    try:
        return about(values(results, metric, model=model), title(metric).capitalize())
    except InputError as error:
        return [str(error)]
