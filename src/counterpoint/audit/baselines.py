"""Which baseline for this model and these images? Paper B's two demands on every baseline, per image, with intervals."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from counterpoint import progress, spec
from counterpoint.audit.statistics import (
    Resampling,
    correlation,
    dominates,
    interval,
    line,
    mean_over_images,
    on_front,
)
from counterpoint.baselines import Black
from counterpoint.checks import check_range
from counterpoint.classifier import Classifier
from counterpoint.comparison import compare
from counterpoint.errors import InputError
from counterpoint.methods import GradCAM
from counterpoint.metrics import Bank, TradeOff, random_occlusions, trade_off
from counterpoint.places import default_map_layer
from counterpoint.protocols import Baseline, Method
from counterpoint.scores import classes_of, logit
from counterpoint.spec import content_hash
from counterpoint.store import Store, key_of

# Images that are explained and scored together; small, so that a run that is stopped has lost little.
_TOGETHER = 4
# Parts along each side for random occlusion.
_CELLS = 8
# Of the progress the bank takes one part, the rest is for the images.
_PARTS = 20

_COLUMNS = {
    "image": "VARCHAR",
    "position": "INTEGER",
    "baseline": "VARCHAR",
    "class_target": "INTEGER",
    "clean_distance": "DOUBLE",
    "fractions": "DOUBLE[]",
    "distances": "DOUBLE[]",
    "sigmoid_sums": "DOUBLE[]",
    "confidences_lost": "DOUBLE[]",
    "entropies": "DOUBLE[]",
    "negative_divergences": "DOUBLE[]",
    "insertion_distances": "DOUBLE[]",
    "insertion_confidences_lost": "DOUBLE[]",
    "r_oms": "DOUBLE",
}


@dataclass(frozen=True)
class Measure:
    """One number of the table: what it is, and which way is better."""

    name: str
    meaning: str
    higher_is_better: bool | None
    """None where neither way is."""


MEASURES = {
    each.name: each
    for each in (
        Measure("out_of_distribution", "mean distance to the nearest real image, as published", False),
        Measure("excess", "the same beyond the image's own, in units of the spread of real images", False),
        Measure("beyond", "share of the path further out than 95 % of real images", False),
        Measure("removal_as_published", "mean sigmoid of all logits times classes / 20, as published", False),
        Measure("confidence_lost", "1 - p_c(u) / p_c(x), mean over the path", True),
        Measure("entropy", "entropy of the prediction over log(classes), mean over the path", True),
        Measure("negative_divergence", "-KL(prediction || mean prediction), mean over the path", True),
        Measure("r_oms", "probability of the class under random occlusion; rewards removing nothing", None),
        Measure(
            "deletion_beyond", "share of the deletion area earned further out than 95 % of real images", None
        ),
        Measure("insertion_beyond", "share of the insertion area earned there", None),
    )
}
# What "removes information" is read by; a conclusion must hold under two of them.
REMOVALS = ("confidence_lost", "entropy", "negative_divergence")


@dataclass(frozen=True, kw_only=True, eq=False)
class BaselineAudit:
    """Every measure of every baseline on every image; made by `audit_baselines`. Means and intervals come last."""

    names: tuple[str, ...]
    """The baselines, as the command line takes them."""
    images: tuple[str, ...]
    numbers: Mapping[str, Float[Tensor, "baselines images"]]
    """Name of the measure -> numbers."""
    facts: Mapping[str, Any]
    """What was asked: model, bank, map, steps."""
    resamples: int = 2000
    seed: int = 0

    @cached_property
    def _resampling(self) -> Resampling:
        return Resampling.of(len(self.images), resamples=self.resamples, seed=self.seed)

    def means(self, measure: str) -> Float[Tensor, " baselines"]:
        """The mean over images."""
        return mean_over_images(self.numbers[measure])

    def resampled(self, measure: str) -> Float[Tensor, "resamples baselines"]:
        """The means over the images of each bootstrap resample; the same resamples for every measure."""
        return self._resampling.means(self.numbers[measure])

    def intervals(self, measure: str) -> Float[Tensor, "ends baselines"]:
        """The 95 % bootstrap interval of each mean."""
        return interval(self.resampled(measure))

    def front(self, removal: str) -> Float[Tensor, " baselines"]:
        """How often, over the resamples, no other baseline is better both at staying in distribution and at removing information."""
        goods = torch.stack([-self.resampled("excess"), self.resampled(removal)])
        return on_front(goods).double().mean(0)

    @cached_property
    def dominated(self) -> Bool[Tensor, "baselines baselines"]:
        """[i, j]: i is better than j at both demands, paired 95 %, under at least two of the three removal scores."""
        inside = -self.resampled("excess")
        holds = torch.stack([dominates(torch.stack([inside, self.resampled(name)])) for name in REMOVALS])
        return holds.sum(0) >= 2

    @property
    def undominated(self) -> tuple[str, ...]:
        """The baselines that no other one dominates."""
        beaten = self.dominated.any(0)
        return tuple(name for name, lost in zip(self.names, beaten.tolist(), strict=True) if not lost)

    @cached_property
    def chosen(self) -> Float[Tensor, " baselines"]:
        """How often, over the resamples, each baseline is nearest to the ideal: best at both demands.

        Each demand is in units of its range over baselines, removal as the mean of the three scores. The rule is ours: a compromise that
        weighs both demands equally.
        """
        distance = _from_ideal(-self.resampled("excess"))
        removal = torch.stack([_from_ideal(self.resampled(name)) for name in REMOVALS]).mean(0)
        nearest = (distance.square() + removal.square()).argmin(1)
        return torch.bincount(nearest, minlength=len(self.names)).double() / len(nearest)

    def trade_off_line(self, removal: str) -> tuple[float, tuple[float, float], tuple[float, float] | None]:
        """Correlation over baselines of removal and excess, its 95 % interval, and slope and intercept of the line.

        The line is None where the interval of the correlation, found anew in every resample, includes 0: nothing is claimed about it then.
        """
        x, y = self.means("excess"), self.means(removal)
        r = float(correlation(x, y))
        low, high = interval(correlation(self.resampled("excess"), self.resampled(removal))).tolist()
        if low <= 0 <= high:
            return r, (low, high), None
        slope, intercept = line(x, y)
        return r, (low, high), (float(slope), float(intercept))


def audit_baselines(
    classifier: Classifier,
    images: Float[Tensor, "images channel height width"],
    baselines: Sequence[Baseline],
    *,
    names: Sequence[str] | None = None,
    method: Method | None = None,
    against: Baseline | None = None,
    layer: str | None = None,
    bank: Bank | None = None,
    crops: int = 2,
    steps: int = 20,
    insertion: bool = True,
    occlusions: int = 10,
    resamples: int = 2000,
    seed: int = 0,
    folder: str | Path | None = None,
) -> BaselineAudit:
    """Hold baselines against two demands, to remove information and to stay in distribution, along the path of a map.

    Forwards for each image: 2 and the map's own; for each baseline steps - 1, as many again and one for `insertion`, and `occlusions`.

    Args:
        classifier: The model.
        images: Pixels in [0, 1]; their top class is followed.
        baselines: The candidates.
        names: What the images are called, in results and in the bank; numbers by default.
        method: Whose heat map says what is removed first; Grad-CAM, read at zero features, by default, as published.
        against: What that method compares with; must be given with a method.
        layer: Where a method for layers works; the model's default for maps if left out.
        bank: Features of real images; by default these images and crops of them. What is of the scored image's own photograph is left out.
        crops: Crops of each image in that bank.
        steps: Points of each path, 0 to the last below 1.
        insertion: Also follow the insertion path, which says where its area is earned.
        occlusions: Random occlusions of each image for R-OMS.
        resamples: Of the bootstrap over images.
        seed: Of ties, crops, occlusions and the bootstrap.
        folder: Keeps results as they come, so that a run that was stopped goes on where it was.

    Raises:
        InputError: fewer than 3 images, fewer than 2 baselines, one twice, or another number of names than images; the folder holds the
            results to another question; see `cp.metrics.trade_off` for the rest.
        LayerError: the layer cannot be cut at.
        OutputError: the folder cannot be written.
        MissingPackageError: a folder, without DuckDB.

    Reference: Picard et al. 2025, arXiv:2512.11433; `excess`, the three removal scores, intervals, dominance and choice are ours.
    """
    if len(images) < 3:
        raise InputError(f"images must be at least 3, so that means have intervals, got {len(images)}.")
    labels = [spec.unusual("baseline", spec.describe(each)).text for each in baselines]
    if len(labels) < 2 or len(set(labels)) < len(labels):
        raise InputError(f"baselines must be at least 2 different ones, got {', '.join(labels) or 'none'}.")
    known = [str(n) for n in (range(len(images)) if names is None else names)]
    if len(known) != len(images) or len(set(known)) < len(known):
        raise InputError(
            f"names must be one for each of {len(images)} images, all different, got {len(known)}."
        )
    check_range("occlusions", occlusions, 1)
    check_range("steps", steps, 2)
    if (method is None) != (against is None):
        raise InputError(
            "give method and against together: a map is made against a baseline, which must be named."
        )
    # Grad-CAM as published reads no baseline of the input.
    method, against = (GradCAM(), Black()) if method is None or against is None else (method, against)
    if layer is None and method.level == "layer":
        layer = default_map_layer(classifier.module, images[:1])
    pictures = [content_hash(image) for image in images]
    # A bank made here is known by what it is made of: its features have other last digits with another number of threads.
    if bank is None:
        identity = key_of({"photographs": list(zip(known, pictures, strict=True)), "crops": crops})
    else:
        identity = bank.fingerprint
    if bank is None:
        with progress.stage(0, 1, _PARTS, "bank"):
            bank = Bank.of(classifier, images, groups=known, crops=crops, seed=seed)
    bank.check_model(classifier.module)
    facts = {
        "audit": "baselines 1",
        "model": bank.model,
        "bank": identity,
        "method": spec.describe(method).as_dict(),
        "against": spec.describe(against).as_dict(),
        "layer": layer or "input",
        "steps": steps,
        "insertion": insertion,
        "occlusions": occlusions,
        "seed": seed,
    }
    store = None if folder is None else Store(folder, facts, _COLUMNS)
    asked = Question(classifier, method, against, layer, bank, steps, insertion, occlusions, seed)
    with progress.stage(1, _PARTS, _PARTS):
        rows = _rows(asked, images, known, pictures, baselines, labels, facts, store)
    return BaselineAudit(
        names=tuple(labels),
        images=tuple(known),
        numbers=_numbers(
            rows, labels, known, limit=float(torch.quantile(bank.real_distances(), 0.95)), bank=bank
        ),
        facts=facts,
        resamples=resamples,
        seed=seed,
    )


@dataclass(frozen=True, eq=False)
class Question:
    """What is measured on each image."""

    classifier: Classifier
    method: Method
    against: Baseline
    layer: str | None
    bank: Bank
    steps: int
    insertion: bool
    occlusions: int
    seed: int

    def answered(
        self, images: Tensor, names: Sequence[str], baselines: Sequence[Baseline]
    ) -> list[list[dict[str, Any]]]:
        """The columns of each baseline and image, without the names."""
        score = logit(self.classifier)
        comparison = compare(score, images, baseline=self.against, layer=self.layer)
        saliency = comparison.explain(self.method).heatmap()
        classes = classes_of(comparison.bound)[0] or []
        options: dict[str, Any] = {
            "baselines": baselines,
            "bank": self.bank,
            "groups": list(names),
            "steps": self.steps,
            "seed": self.seed,
        }
        # What each part of the work costs, for the progress.
        path, total = self.steps, self.steps * (2 if self.insertion else 1) + self.occlusions
        with progress.stage(0, path, total):
            deletion = trade_off(score, images, saliency, kind="deletion", **options)
        insertion: Sequence[TradeOff | None] = [None] * len(baselines)
        if self.insertion:
            with progress.stage(path, 2 * path, total):
                insertion = trade_off(score, images, saliency, kind="insertion", **options)
        with progress.stage(total - self.occlusions, total, total):
            occluded = random_occlusions(
                score,
                images,
                baselines=baselines,
                samples=self.occlusions,
                cells=min(_CELLS, *images.shape[2:]),
                seed=self.seed,
            )
        return [
            [_columns(i, gone, back, float(parts.score[i]), target) for i, target in enumerate(classes)]
            for gone, back, parts in zip(deletion, insertion, occluded, strict=True)
        ]


def _columns(i: int, gone: TradeOff, back: TradeOff | None, occluded: float, target: int) -> dict[str, Any]:
    out, removed = gone.out_of_distribution, gone.information_removed
    divergences = cast(Tensor, removed.negative_divergences)
    return {
        "class_target": target,
        "clean_distance": float(out.clean_distances[i]),
        "fractions": out.fractions.tolist(),
        "distances": out.distances[i].tolist(),
        "sigmoid_sums": removed.sigmoid_sums[i].tolist(),
        "confidences_lost": removed.confidences_lost[i].tolist(),
        "entropies": removed.entropies[i].tolist(),
        "negative_divergences": divergences[i].tolist(),
        "insertion_distances": None if back is None else back.out_of_distribution.distances[i].tolist(),
        "insertion_confidences_lost": None
        if back is None
        else back.information_removed.confidences_lost[i].tolist(),
        "r_oms": occluded,
    }


def _rows(
    asked: Question,
    images: Tensor,
    names: Sequence[str],
    pictures: Sequence[str],
    baselines: Sequence[Baseline],
    labels: Sequence[str],
    facts: Mapping[str, Any],
    store: Store | None,
) -> dict[str, dict[str, Any]]:
    """Key -> row, from the store where it is there, computed and stored where it is not."""
    keys = {
        (i, b): key_of({**facts, "image": pictures[i], "baseline": spec.describe(baseline).fingerprint})
        for i in range(len(images))
        for b, baseline in enumerate(baselines)
    }
    rows = {} if store is None else {row["key"]: row for row in store.rows()}
    missing = {place for place, key in keys.items() if key not in rows}
    chunks = _chunks(missing, len(images))
    for k, (chunk, lacking) in enumerate(chunks):
        with progress.stage(k, k + 1, len(chunks), f"image {chunk[0] + 1} of {len(images)}"):
            chosen = [baselines[b] for b in lacking]
            found = asked.answered(images[chunk], [names[i] for i in chunk], chosen)
        fresh = [
            {"key": keys[i, b], "image": names[i], "position": i, "baseline": labels[b], **found[n][m]}
            for n, b in enumerate(lacking)
            for m, i in enumerate(chunk)
        ]
        rows.update({row["key"]: row for row in fresh})
        if store is not None:
            store.add(fresh)
    return {key: rows[key] for key in keys.values()}


def _chunks(missing: Iterable[tuple[int, int]], images: int) -> list[tuple[list[int], list[int]]]:
    """A few images at a time that lack the same baselines."""
    lacking: dict[int, list[int]] = {}
    for i, b in sorted(missing):
        lacking.setdefault(i, []).append(b)
    chunks: list[tuple[list[int], list[int]]] = []
    for i in range(images):
        if i not in lacking:
            continue
        if chunks and chunks[-1][1] == lacking[i] and len(chunks[-1][0]) < _TOGETHER:
            chunks[-1][0].append(i)
        else:
            chunks.append(([i], lacking[i]))
    return chunks


def _numbers(
    rows: Mapping[str, Mapping[str, Any]],
    labels: Sequence[str],
    names: Sequence[str],
    *,
    limit: float,
    bank: Bank,
) -> dict[str, Float[Tensor, "baselines images"]]:
    """The measures, each (baselines, images)."""
    spread = float(bank.real_distances().std())
    place = {(row["baseline"], row["image"]): row for row in rows.values()}
    numbers = {
        name: torch.full((len(labels), len(names)), torch.nan, dtype=torch.float64) for name in MEASURES
    }
    for b, label in enumerate(labels):
        for i, name in enumerate(names):
            row = place[label, name]
            mean = {key: sum(row[key]) / len(row[key]) for key in row if isinstance(row[key], list)}
            numbers["out_of_distribution"][b, i] = mean["distances"]
            numbers["excess"][b, i] = (mean["distances"] - row["clean_distance"]) / spread
            numbers["beyond"][b, i] = sum(d > limit for d in row["distances"]) / len(row["distances"])
            numbers["removal_as_published"][b, i] = mean["sigmoid_sums"] / 20
            numbers["confidence_lost"][b, i] = mean["confidences_lost"]
            numbers["entropy"][b, i] = mean["entropies"]
            numbers["negative_divergence"][b, i] = mean["negative_divergences"]
            numbers["r_oms"][b, i] = row["r_oms"]
            numbers["deletion_beyond"][b, i] = _earned(row["confidences_lost"], row["distances"], limit)
            if row["insertion_distances"] is not None:
                numbers["insertion_beyond"][b, i] = _earned(
                    row["insertion_confidences_lost"], row["insertion_distances"], limit
                )
    return numbers


def _earned(confidences_lost: Sequence[float], distances: Sequence[float], limit: float) -> float:
    """The share of the area under p_c(u) / p_c(x) that lies at points further out than the limit."""
    heights = [1 - lost for lost in confidences_lost]
    whole = sum(heights)
    return (
        sum(h for h, d in zip(heights, distances, strict=True) if d > limit) / whole
        if whole > 0
        else torch.nan
    )


def _from_ideal(goods: Float[Tensor, "resamples baselines"]) -> Float[Tensor, "resamples baselines"]:
    """How far below the best of each resample, in units of the range over baselines."""
    best, worst = goods.amax(1, keepdim=True), goods.amin(1, keepdim=True)
    return (best - goods) / (best - worst).clamp_min(torch.finfo(goods.dtype).tiny)
