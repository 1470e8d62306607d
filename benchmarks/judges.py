"""Judges of what is in distribution that no learned baseline was made with: a Gaussian, the energy score, directions of features."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

import counterpoint as cp
from counterpoint.audit import BaselineAudit
from counterpoint.classifier import Classifier
from counterpoint.metrics import Bank
from counterpoint.metrics.neighbours import kth_distance
from counterpoint.metrics.removal_path import PathOptions, RemovalPath
from counterpoint.protocols import Baseline

JUDGES = ("Mahalanobis distance", "energy score", "nearest direction")


@dataclass(frozen=True)
class Gaussian:
    """Mean and covariance of some features, shrunk towards a multiple of the identity.

    Reference: Lee et al. 2018, arXiv:1807.03888 (the distance, with one class as no labels are known); Ledoit and Wolf 2004 (how far to
    shrink).
    """

    mean: Tensor
    directions: Tensor
    """(rank, features), orthonormal."""
    variances: Tensor
    """(rank,), shrunk."""
    rest: float
    """The variance in every other direction."""

    @classmethod
    def of(cls, features: Tensor) -> "Gaussian":
        """Of (entries, features)."""
        entries, width = features.shape
        mean = features.double().mean(0)
        centred = features.double() - mean
        _, singular, directions = torch.linalg.svd(centred, full_matrices=False)
        variances = singular.square() / entries
        level = variances.sum() / width
        squared = variances.square().sum()
        distance = squared - width * level.square()
        lengths = centred.square().sum(1)
        along = ((centred @ directions.T).square() * variances).sum(1)
        error = (lengths.square() - 2 * along + squared).sum() / entries**2
        share = float((error / distance).clamp(1e-6, 1))
        return cls(mean, directions, (1 - share) * variances + share * level, share * float(level))

    def distance(self, features: Tensor) -> Tensor:
        """(rows,), the square root of the quadratic form."""
        centred = features.double() - self.mean
        along = (centred @ self.directions.T).square()
        outside = (centred.square().sum(1) - along.sum(1)).clamp_min(0)
        return ((along / self.variances).sum(1) + outside / self.rest).sqrt()


def as_judged(
    classifier: Classifier,
    audit: BaselineAudit,
    images: Tensor,
    saliency: Tensor,
    baselines: Sequence[Baseline],
    *,
    crops: int,
    steps: int,
    seed: int,
) -> dict[str, BaselineAudit]:
    """The audit by each judge: distance from real images is theirs, what is removed stays. An image's own photograph is left out."""
    bank = Bank.of(classifier, images, groups=audit.images, crops=crops, seed=seed)
    path = RemovalPath.opened(
        cp.logit(classifier),
        images,
        saliency,
        baselines,
        PathOptions(steps=steps, seed=seed),
        bank=bank,
        class_scores=True,
    )
    out = bank.left_out(path.clean_features, audit.images)
    gaussians = [Gaussian.of(bank.features[~mine]) for mine in out]

    def distances(features: Tensor, logits: Tensor, image: Tensor) -> tuple[Tensor, ...]:
        mahalanobis = torch.stack(
            [gaussians[i].distance(each[None])[0] for i, each in zip(image.tolist(), features, strict=True)]
        )
        energy = -logits.double().logsumexp(1)
        direction = kth_distance(features, bank.features, out[image], k=1, normalise=True)
        return mahalanobis, energy, direction

    everyone = torch.arange(len(images))
    clean = distances(path.clean_features, path.clean_logits, everyone)
    found = [measured for _, measured in path.measured(baselines, distances)]
    audits = {}
    for place, judge in enumerate(JUDGES):
        here = torch.stack([each[place].mean(1) for each in found])
        excess = (here - clean[place]) / clean[place].std()
        audits[judge] = replace(audit, numbers={**audit.numbers, "excess": excess.cpu()})
    return audits
