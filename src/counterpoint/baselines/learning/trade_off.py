"""The loss of a baseline: what is left of the information, how far out of distribution, and whether a rival does better at both.

A baseline b is judged where it is used: pasted in parts into real images, u = (1 - S) x + S b. All terms are our own definitions, after the
two demands of Picard et al. 2025, arXiv:2512.11433.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from counterpoint import progress
from counterpoint.baselines.learning.network import Network
from counterpoint.baselines.learning.pairs import Pairs
from counterpoint.errors import InputError
from counterpoint.protocols import Baseline

_AT_ONCE = 16
# A photograph that the model hardly recognises would make "confidence lost" huge.
_LEAST_CONFIDENCE = 0.05


@dataclass(frozen=True, eq=False)
class Scores:
    """The two demands on perturbed images; R larger: more removed, O larger: further out."""

    removed: Float[Tensor, "rows kinds"]
    """Confidence lost, normalised entropy, -KL(softmax || mean prediction)."""
    distance: Float[Tensor, " rows"]
    """From the nearest real images."""


@dataclass(frozen=True, eq=False)
class Judge:
    """Measures images that have lost something, with gradients; made by `Judge.of`."""

    network: Network
    images: Float[Tensor, "images channel height width"]
    classes: Int[Tensor, " images"]
    confidence: Float[Tensor, " images"]
    bank: Float[Tensor, "entries features"]
    """Features of real images, none of them one of `images`."""
    log_mean: Float[Tensor, " classes"]
    """The logarithm of the mean prediction over the bank."""

    @classmethod
    def of(
        cls,
        network: Network,
        images: Float[Tensor, "images channel height width"],
        bank: Float[Tensor, "entries channel height width"],
    ) -> "Judge":
        """Settle classes and bank.

        Raises:
            InputError: fewer than 3 real images for the bank.
        """
        if len(bank) < 3:
            raise InputError(f"images must leave at least 3 for the bank, got {len(bank)}.")
        _, scores = network.measured(images)
        confidence, classes = scores.softmax(1).max(1)
        features, others = network.measured(bank)
        log_mean = others.log_softmax(1).logsumexp(0) - math.log(len(others))
        return cls(network, images, classes, confidence.clamp_min(_LEAST_CONFIDENCE), features, log_mean)

    def spread(self) -> float:
        """The standard deviation of a real image's distance to its nearest neighbour."""
        distances = torch.cdist(self.bank.double(), self.bank.double())
        return float(distances.fill_diagonal_(math.inf).amin(1).std())

    def scores(
        self,
        features: Float[Tensor, "rows features"],
        logits: Float[Tensor, "rows classes"],
        image: Int[Tensor, " rows"],
        temperature: float,
    ) -> Scores:
        """Of rows that come from these images.

        Args:
            features: Of the perturbed images.
            logits: Of the perturbed images.
            image: Which image each row is of.
            temperature: t of the soft minimum -t log mean_j exp(-d_j / t), in units of the distance; 0 for the hard one.
        """
        log_p = logits.log_softmax(1)
        p = log_p.exp()
        lost = 1 - p.gather(1, self.classes[image, None])[:, 0] / self.confidence[image]
        entropy = -(p * log_p).sum(1) / math.log(p.shape[1])
        divergence = (p * (log_p - self.log_mean)).sum(1)
        distances = torch.cdist(features, self.bank)
        if temperature > 0:
            soft = torch.logsumexp(-distances / temperature, 1) - math.log(len(self.bank))
            distance = -temperature * soft
        else:
            distance = distances.amin(1)
        return Scores(torch.stack([lost, entropy, -divergence], 1), distance)

    def of_fills(self, baseline: Baseline, pairs: Pairs, temperature: float) -> Scores:
        """Of a baseline at these pairs, without gradients."""
        found = []
        for start in range(0, len(pairs), _AT_ONCE):
            some = pairs[start : start + _AT_ONCE]
            with torch.no_grad():
                u = baseline.fill(self.images[some.image], some.removed.to(self.images.device))
                features, logits, _ = self.network.read(u)
                found.append(self.scores(features, logits, some.image, temperature))
        return Scores(
            torch.cat([each.removed for each in found]), torch.cat([each.distance for each in found])
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class TradeOffLoss:
    """Mean over pairs of the distance minus the information removed, in units of how far the rivals differ, and what else counts against b.

    loss = weight E[O] - E[R] + dominance mean_r max(0, min(E[R_r - R], E[O - O_r]) + margin) + seams E[A] + end_point KL(mean || p(b))

    R is the mean of the three removal scores, each in units of its standard deviation over the rivals' means, O the soft distance in its
    own. R_r, O_r are those of rival r at the same pairs. A is the activity that neither the image nor b has: over the watched layers,
    sum_i max(0, h_i(u) - max(h_i(x), h_i(b))) / sum_i |h_i(x)|.
    """

    judge: Judge
    pairs: Pairs
    rivals: tuple[str, ...]
    rival_removed: Float[Tensor, "rivals pairs kinds"]
    rival_distance: Float[Tensor, "rivals pairs"]
    temperature: float
    weight: float
    dominance: float
    margin: float
    seams: float
    end_point: float

    @classmethod
    def against(
        cls,
        judge: Judge,
        pairs: Pairs,
        rivals: Sequence[tuple[str, Baseline]],
        *,
        temperature: float,
        weight: float,
        dominance: float,
        margin: float,
        seams: float,
        end_point: float,
    ) -> "TradeOffLoss":
        """Measure the rivals at the pairs, and settle the units.

        Args:
            temperature: Of the soft distance, in units of the spread of real images.
            judge, pairs, rivals, weight, dominance, margin, seams, end_point: See the class.

        Raises:
            InputError: fewer than 3 rivals, or rivals that do not differ.
        """
        if len(rivals) < 3:
            raise InputError(f"rivals must be at least 3, which settle the units, got {len(rivals)}.")
        absolute = temperature * judge.spread()
        removed, distance = [], []
        for k, (name, baseline) in enumerate(rivals):
            with progress.stage(k, k + 1, len(rivals), f"rival {name}"):
                scores = judge.of_fills(baseline, pairs, absolute)
                progress.advance(1, 1)
            removed.append(scores.removed)
            distance.append(scores.distance)
        return cls(
            judge=judge,
            pairs=pairs,
            rivals=tuple(name for name, _ in rivals),
            rival_removed=torch.stack(removed),
            rival_distance=torch.stack(distance),
            temperature=absolute,
            weight=weight,
            dominance=dominance,
            margin=margin,
            seams=seams,
            end_point=end_point,
        )

    def __post_init__(self) -> None:
        units = (*self.removal_unit.tolist(), self.distance_unit.item())
        if not all(math.isfinite(unit) and unit > 0 for unit in units):
            raise InputError("the rivals must differ, in what they remove and in how far out they lead.")

    @property
    def removal_unit(self) -> Float[Tensor, " kinds"]:
        """The standard deviation over rivals of their mean removal."""
        return self.rival_removed.mean(1).std(0)

    @property
    def distance_unit(self) -> Float[Tensor, ""]:
        """The standard deviation over rivals of their mean distance."""
        return self.rival_distance.mean(1).std(0)

    def __call__(
        self, image: Float[Tensor, "1 channel height width"], rows: Int[Tensor, " rows"]
    ) -> Float[Tensor, ""]:
        """The loss of one image as the baseline, at some of the pairs; differentiable."""
        some, judge = self.pairs[rows], self.judge
        x = judge.images[some.image]
        removed = some.removed.to(image.device).unsqueeze(1)
        u = torch.where(removed, image.to(x), x)
        # b itself runs along as the last row.
        features, logits, activity = judge.network.read(torch.cat([u, image.to(x)]))
        scores = judge.scores(features[:-1], logits[:-1], some.image, self.temperature)
        loss = self.balance(scores, rows)
        if self.end_point:
            loss = loss + self.end_point * self._divergence(logits[-1])
        if self.seams and activity:
            with torch.no_grad():
                _, _, clean = judge.network.read(x)
            loss = loss + self.seams * _seams(activity, clean)
        return loss

    def balance(self, scores: Scores, rows: Int[Tensor, " rows"]) -> Float[Tensor, ""]:
        """Distance minus removal beyond the rivals, and being beaten by them, of scores at some of the pairs."""
        r = (scores.removed / self.removal_unit).mean(1)
        o = scores.distance / self.distance_unit
        rivals_r = (self.rival_removed[:, rows] / self.removal_unit).mean(2)
        rivals_o = self.rival_distance[:, rows] / self.distance_unit
        # Paired with the rivals' at the same rows, which takes the differences between images out.
        behind = (rivals_r - r).mean(1)
        further = (o - rivals_o).mean(1)
        dominated = (torch.minimum(behind, further) + self.margin).clamp_min(0).mean()
        return self.weight * further.mean() + behind.mean() + self.dominance * dominated

    def _divergence(self, logits: Float[Tensor, " classes"]) -> Float[Tensor, ""]:
        mean = self.judge.log_mean
        return (mean.exp() * (mean - logits.log_softmax(0))).sum()

    def of_baseline(self, baseline: Baseline) -> float:
        """The loss, without seams and end point, of any baseline at all pairs."""
        scores = self.judge.of_fills(baseline, self.pairs, self.temperature)
        return float(self.balance(scores, torch.arange(len(self.pairs))))

    def dominated(self, scores: Scores) -> Bool[Tensor, " rivals"]:
        """Which rivals these scores are better than, both in distance and in at least two of the three removals, on average."""
        nearer = scores.distance.mean() < self.rival_distance.mean(1)
        more = (scores.removed.mean(0) > self.rival_removed.mean(1)).sum(1) >= 2
        return nearer & more


def _seams(activity: Sequence[Tensor], clean: Sequence[Tensor]) -> Float[Tensor, ""]:
    """Activity that neither the image nor b has, as a share of the image's; mean over layers and rows."""
    shares = []
    for layer, original in zip(activity, clean, strict=True):
        u, b = layer[:-1], layer[-1:]
        new = (u - torch.maximum(original, b)).clamp_min(0).flatten(1).sum(1)
        shares.append((new / original.abs().flatten(1).sum(1).clamp_min(torch.finfo(u.dtype).tiny)).mean())
    return torch.stack(shares).mean()
