"""Which method is best, and does the answer survive another baseline? Areas of every method's map under every baseline, per image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from counterpoint import progress, spec
from counterpoint.audit.circularity import Circularity
from counterpoint.audit.statistics import Resampling, interval, mean_over_images
from counterpoint.classifier import Classifier, weights_hash
from counterpoint.comparison import Comparison, compare
from counterpoint.errors import InputError
from counterpoint.metrics import RankStability, curves, rank_stability
from counterpoint.metrics.ordering import Order, check_order
from counterpoint.places import default_map_layer
from counterpoint.protocols import Baseline, Method
from counterpoint.scores import logit, probability
from counterpoint.spec import content_hash
from counterpoint.store import Store, key_of

Metric = Literal["deletion", "insertion", "relevance_gain"]
METRICS: tuple[Metric, ...] = ("deletion", "insertion", "relevance_gain")
"""All areas are turned so that higher is better: deletion areas with a minus."""

_TOGETHER = 4
_SPLITS = 200
_COLUMNS = {
    "image": "VARCHAR",
    "position": "INTEGER",
    "method": "VARCHAR",
    "baseline": "VARCHAR",
    "deletion": "DOUBLE",
    "insertion": "DOUBLE",
    "tied": "DOUBLE",
}


@dataclass(frozen=True)
class Contender:
    """A method together with what it compares with."""

    method: Method
    against: Baseline

    @property
    def parts(self) -> tuple[str, str]:
        """Method and attribution baseline, as in the tables."""
        method = spec.unusual("method", spec.describe(self.method)).text
        against = spec.unusual("baseline", spec.describe(self.against)).text
        return method, against

    @property
    def name(self) -> str:
        """As in the tables."""
        return " against ".join(self.parts)


@dataclass(frozen=True, kw_only=True, eq=False)
class RankingAudit:
    """Areas of every contender under every evaluation baseline on every image; made by `audit_rankings`."""

    rivals: tuple[tuple[str, str], ...]
    """(method, attribution baseline) of each contender."""
    baselines: tuple[str, ...]
    images: tuple[str, ...]
    areas: Mapping[Metric, Float[Tensor, "contenders baselines images"]]
    """Higher is better in all of them."""
    tied: Float[Tensor, "contenders images"]
    """The share of pixels whose place in the order was drawn."""
    resamples: int = 2000
    seed: int = 0

    @property
    def contenders(self) -> tuple[str, ...]:
        """The names of the rows."""
        return tuple(" against ".join(rival) for rival in self.rivals)

    @cached_property
    def _resampling(self) -> Resampling:
        return Resampling.of(len(self.images), resamples=self.resamples, seed=self.seed)

    def table(self, metric: Metric) -> Float[Tensor, "contenders baselines"]:
        """The mean area over images."""
        return mean_over_images(self.areas[metric])

    def stability(self, metric: Metric) -> RankStability:
        """How far the rankings under different baselines agree."""
        return rank_stability(self.table(metric), seed=self.seed)

    def stability_interval(self, metric: Metric) -> tuple[float, float]:
        """The 95 % bootstrap interval over images of the mean tau between baselines."""
        tables = self._resampling.means(self.areas[metric])
        low, high = interval(between_baselines(taus_of(tables, tables))).tolist()
        return low, high

    def ceiling(self, metric: Metric) -> tuple[float, tuple[float, float]]:
        """The noise ceiling: mean tau between the rankings of two halves of the images under one baseline, its 95 % interval over splits.

        Rankings under different baselines cannot be expected to agree better than that.
        """
        each = within_baselines(self._splits(metric))
        low, high = interval(each).tolist()
        return float(each.mean()), (low, high)

    def dependence(self, metric: Metric) -> tuple[float, tuple[float, float]]:
        """Tau within a baseline minus tau between baselines, both between halves of the images, and its 95 % interval over splits.

        Above 0 throughout: the ranking depends on the baseline by more than chance.
        """
        taus = self._splits(metric)
        each = within_baselines(taus) - between_baselines(taus)
        low, high = interval(each).tolist()
        return float(each.mean()), (low, high)

    def _splits(self, metric: Metric) -> Float[Tensor, "splits baselines baselines"]:
        """Taus between the rankings of two random halves of the images, one for each baseline on either side."""
        generator = torch.Generator().manual_seed(self.seed)
        half, images = len(self.images) // 2, len(self.images)
        order = torch.stack([torch.randperm(images, generator=generator) for _ in range(_SPLITS)])
        weights = torch.zeros(2, _SPLITS, images, dtype=torch.float64)
        weights[0].scatter_(1, order[:, :half], 1 / half)
        weights[1].scatter_(1, order[:, half:], 1 / (images - half))
        one, two = torch.einsum("hsi,mbi->hsmb", weights, self.areas[metric].double())
        return taus_of(one, two)

    def surviving(self, metric: Metric) -> list[tuple[str, str]]:
        """(better, worse): pairs whose order holds under every baseline, each by a paired 95 % interval."""
        means = self._resampling.means(self.areas[metric])  # (resamples, contenders, baselines)
        found = []
        for i, j in permutations(range(len(self.contenders)), 2):
            low = interval(means[:, i] - means[:, j])[0]
            if bool((low > 0).all()):
                found.append((self.contenders[i], self.contenders[j]))
        return found

    def circularity(self, metric: Metric) -> list[Circularity]:
        """For every method that was tried against several baselines: how its areas depend on whether the evaluation uses the same one."""
        found = []
        for method in dict.fromkeys(name for name, _ in self.rivals):
            rows = [m for m, (name, _) in enumerate(self.rivals) if name == method]
            if len(rows) > 1:
                against = tuple(self.rivals[m][1] for m in rows)
                areas = self.areas[metric][rows].double()
                found.append(Circularity.of(method, against, self.baselines, areas, self._resampling))
        return found

    def contradicted(self, metric: Metric) -> list[tuple[str, str, str, str]]:
        """(one, other, baseline, another): `one` is better under `baseline` and `other` under `another`, both by a paired 95 % interval."""
        means = self._resampling.means(self.areas[metric])
        found = []
        for i, j in permutations(range(len(self.contenders)), 2):
            low, high = interval(means[:, i] - means[:, j])
            wins, losses = (low > 0).nonzero().flatten().tolist(), (high < 0).nonzero().flatten().tolist()
            if i < j and wins and losses:
                found.append(
                    (
                        self.contenders[i],
                        self.contenders[j],
                        self.baselines[wins[0]],
                        self.baselines[losses[0]],
                    )
                )
        return found


def audit_rankings(
    classifier: Classifier,
    images: Float[Tensor, "images channel height width"],
    contenders: Sequence[Contender],
    baselines: Sequence[Baseline],
    *,
    names: Sequence[str] | None = None,
    layer: str | None = None,
    steps: int = 10,
    order: Order = "signed",
    scored: Literal["probability", "logit"] = "probability",
    resamples: int = 2000,
    seed: int = 0,
    folder: str | Path | None = None,
) -> RankingAudit:
    """Rank methods by insertion, deletion and relevance gain under every baseline, and ask what of it holds.

    Forwards for each image: 1 + B + 2 B M (steps - 1) for B baselines and M contenders, and what the maps cost.

    Args:
        classifier: The model; each image's top class is explained by its logit.
        images: Pixels in [0, 1].
        contenders: Methods, each with what it compares with: the same method against several baselines shows whether an evaluation baseline
            favours its own.
        baselines: What removed pixels become in the evaluation.
        names: What the images are called; numbers by default.
        layer: Where methods for layers work; the model's default for maps if left out.
        steps: Steps of each curve.
        order: Put pixels in order by their value, "signed", or by its size, "absolute", as published.
        scored: What the curves follow.
        resamples: Of the bootstrap over images.
        seed: Of ties, the bootstrap and the splits.
        folder: Keeps results as they come, so that a run that was stopped goes on where it was.

    Raises:
        InputError: fewer than 4 images, fewer than 2 contenders or baselines, or one twice; see `cp.metrics.curves` for the rest.
        LayerError: the layer cannot be cut at.

    Reference: Picard et al. 2025, arXiv:2512.11433 (rankings under several baselines); the ceiling, intervals and pairs are ours.
    """
    if len(images) < 4:
        raise InputError(
            f"images must be at least 4, so that there are halves to compare, got {len(images)}."
        )
    rivals = _distinct("contenders", [each.name for each in contenders])
    check_order(order, seed)
    labels = _distinct(
        "baselines", [spec.unusual("baseline", spec.describe(each)).text for each in baselines]
    )
    known = [str(n) for n in (range(len(images)) if names is None else names)]
    if len(known) != len(images) or len(set(known)) < len(known):
        raise InputError(
            f"names must be one for each of {len(images)} images, all different, got {len(known)}."
        )
    if layer is None and any(each.method.level == "layer" for each in contenders):
        layer = default_map_layer(classifier.module, images[:1])
    facts = {
        "audit": "rankings 2",
        "model": weights_hash(classifier.module),
        "layer": layer or "input",
        "steps": steps,
        "order": order,
        "scored": scored,
        "seed": seed,
    }
    store = None if folder is None else Store(folder, facts, _COLUMNS)
    rows = {} if store is None else {row["key"]: row for row in store.rows()}
    fingerprints = [
        [spec.describe(each.method).fingerprint, spec.describe(each.against).fingerprint]
        for each in contenders
    ]
    keys = [
        [
            [
                key_of(
                    {**facts, "image": picture, "method": method, "baseline": spec.describe(b).fingerprint}
                )
                for b in baselines
            ]
            for method in fingerprints
        ]
        for picture in (content_hash(image) for image in images)
    ]
    lacking = [i for i in range(len(images)) if any(k not in rows for row in keys[i] for k in row)]
    groups = [lacking[k : k + _TOGETHER] for k in range(0, len(lacking), _TOGETHER)]
    for k, group in enumerate(groups):
        with progress.stage(k, k + 1, len(groups), f"image {group[0] + 1} of {len(images)}"):
            found = _answered(
                classifier, images[group], contenders, baselines, layer, steps, order, scored, seed
            )
        fresh = [
            {
                "key": keys[i][m][b],
                "image": known[i],
                "position": i,
                "method": rival,
                "baseline": label,
                **{name: float(found[name][m, b, n]) for name in ("deletion", "insertion", "tied")},
            }
            for n, i in enumerate(group)
            for m, rival in enumerate(rivals)
            for b, label in enumerate(labels)
        ]
        rows.update({row["key"]: row for row in fresh})
        if store is not None:
            store.add(fresh)

    def gathered(name: str) -> Tensor:
        numbers = [
            [[rows[keys[i][m][b]][name] for i in range(len(images))] for b in range(len(labels))]
            for m in range(len(rivals))
        ]
        return torch.tensor(numbers, dtype=torch.float64)

    deletion, insertion = gathered("deletion"), gathered("insertion")
    return RankingAudit(
        rivals=tuple(each.parts for each in contenders),
        baselines=tuple(labels),
        images=tuple(known),
        areas={"deletion": -deletion, "insertion": insertion, "relevance_gain": insertion - deletion},
        tied=gathered("tied")[:, 0],
        resamples=resamples,
        seed=seed,
    )


def _answered(
    classifier: Classifier,
    images: Tensor,
    contenders: Sequence[Contender],
    baselines: Sequence[Baseline],
    layer: str | None,
    steps: int,
    order: Order,
    scored: Literal["probability", "logit"],
    seed: int,
) -> dict[str, Float[Tensor, "contenders baselines images"]]:
    """Areas, and the share of ties, of a few images."""
    asked: dict[str, Comparison] = {}
    saliencies: dict[str, Tensor] = {}
    for k, each in enumerate(contenders):
        with progress.stage(k, k + 1, 2 * len(contenders), each.name):
            against = spec.describe(each.against).text
            if against not in asked:  # one comparison for all methods that share a baseline
                asked[against] = compare(logit(classifier), images, baseline=each.against)
            comparison = (
                asked[against].at(layer or "input") if each.method.level == "layer" else asked[against]
            )
            saliencies[each.name] = comparison.explain(each.method).heatmap()
    score = (probability if scored == "probability" else logit)(classifier)
    with progress.stage(len(contenders), 2 * len(contenders), 2 * len(contenders), "curves"):
        table = curves(score, images, saliencies, list(baselines), steps=steps, order=order, seed=seed)
    found = {kind: table.areas(kind).transpose(0, 1) for kind in ("deletion", "insertion")}
    tied = torch.stack(
        [table.curve("deletion", baseline=baselines[0], saliency=name).tied for name in saliencies]
    )
    found["tied"] = tied.unsqueeze(1).expand_as(found["deletion"])
    return found


def _distinct(what: str, names: list[str]) -> list[str]:
    if len(names) < 2 or len(set(names)) < len(names):
        raise InputError(f"{what} must be at least 2 different ones, got {', '.join(names) or 'none'}.")
    return names


def taus_of(
    one: Float[Tensor, "*some methods baselines"], two: Float[Tensor, "*some methods others"]
) -> Float[Tensor, "*some baselines others"]:
    """Kendall's tau-b of every column of one table with every column of the other; NaN where all methods are tied in one of them.

    It is the cosine between the signs of all differences.
    """
    first, second = ((each.unsqueeze(-2) - each.unsqueeze(-3)).sign().flatten(-3, -2) for each in (one, two))
    sizes = first.norm(dim=-2).unsqueeze(-1) * second.norm(dim=-2).unsqueeze(-2)
    cosines: Tensor = first.transpose(-1, -2) @ second / sizes
    return cosines


def within_baselines(taus: Float[Tensor, "*some baselines baselines"]) -> Float[Tensor, "*some"]:
    """The mean over baselines of tau with themselves."""
    own: Tensor = taus.diagonal(dim1=-2, dim2=-1).nanmean(-1)
    return own


def between_baselines(taus: Float[Tensor, "*some baselines baselines"]) -> Float[Tensor, "*some"]:
    """The mean over pairs of different baselines."""
    same = torch.eye(taus.shape[-1], dtype=torch.bool)
    return taus.masked_fill(same, torch.nan).flatten(-2).nanmean(-1)
