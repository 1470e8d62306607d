"""Does a metric do what it is for? On images whose evidence is known: how often it orders the better map above the worse."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from counterpoint import spec
from counterpoint.audit.statistics import Resampling, interval, mean_over_images
from counterpoint.checks import shape_text
from counterpoint.classifier import Classifier
from counterpoint.errors import InputError, ShapeError
from counterpoint.metrics import curves
from counterpoint.protocols import Baseline
from counterpoint.scores import Target, probability

_LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)
# Cells along each side of the random field that wrong pixels take their place from.
_CELLS = 8


@dataclass(frozen=True, kw_only=True, eq=False)
class EvidenceAudit:
    """How often each metric under each baseline orders a map above a more corrupted one; made by `audit_evidence`."""

    baselines: tuple[str, ...]
    correct: Mapping[str, Float[Tensor, "baselines images"]]
    """Metric ("deletion", "insertion", "relevance_gain") -> share of the pairs of levels put in the right order; chance is 1/2."""
    areas: Mapping[str, Float[Tensor, "levels baselines images"]]
    """The same metrics, turned so that higher is better."""
    levels: tuple[float, ...]
    resamples: int = 2000
    seed: int = 0

    def means(self, metric: str) -> Float[Tensor, " baselines"]:
        """The mean over images; higher is better, 0.5 is chance."""
        return mean_over_images(self.correct[metric])

    def intervals(self, metric: str) -> Float[Tensor, "ends baselines"]:
        """Its 95 % bootstrap interval over images."""
        return interval(self._resampled(metric))

    def gaps(self, metric: str) -> Float[Tensor, "ends baselines"]:
        """How far each baseline is below the best one, as the 95 % interval of the paired difference."""
        means = self._resampled(metric)
        best = int(self.means(metric).argmax())
        return interval(means[:, best : best + 1] - means)

    def _resampled(self, metric: str) -> Float[Tensor, "resamples baselines"]:
        numbers = self.correct[metric]
        return Resampling.of(numbers.shape[1], resamples=self.resamples, seed=self.seed).means(numbers)


def corrupted(
    evidence: Bool[Tensor, "images height width"], level: float, *, seed: int = 0
) -> Float[Tensor, "images height width"]:
    """A map of the evidence of which a share of the pixels, chosen in smooth patches, says something random instead.

    Args:
        evidence: True where the class is decided.
        level: 0 is the mask itself, softened so that it has few ties; 1 a smooth random field, which knows nothing of it.
        seed: Of the fields and of the patches: those of each place in the batch, nested from level to level.
    """
    images, height, width = evidence.shape
    generator = torch.Generator().manual_seed(seed)
    # Each image its own: what all of them had in common, no interval over images would show.
    fields = torch.rand(images, 2, _CELLS, _CELLS, generator=generator)
    fields = F.interpolate(fields, size=(height, width), mode="bicubic", align_corners=False)
    # As ranks from 0 to 1, so that `level` is the share of the pixels that are wrong.
    ranks = fields.flatten(2).argsort(2).argsort(2).view_as(fields) / (height * width)
    field, patches = ranks.unbind(1)
    mask = evidence.float().unsqueeze(1)
    soft = mask + F.avg_pool2d(mask, 3, 1, 1, count_include_pad=False)
    softened = (soft / 2)[:, 0] + 1e-3 * field
    return torch.where(patches < level, field, softened)


def audit_evidence(
    classifier: Classifier,
    images: Float[Tensor, "images channel height width"],
    evidence: Bool[Tensor, "images height width"],
    baselines: Sequence[Baseline],
    *,
    target: Target = "top1",
    levels: Sequence[float] = _LEVELS,
    steps: int = 10,
    resamples: int = 2000,
    seed: int = 0,
) -> EvidenceAudit:
    """Corrupt the exact mask by degrees, and ask each metric under each baseline to put the degrees in order.

    Args:
        classifier: The model; its probability of the class is followed.
        images: Pixels in [0, 1].
        evidence: True at the pixels that decide the class.
        baselines: What removed pixels become.
        target: The class that the evidence is of.
        levels: Shares of wrong pixels, rising.
        steps: Steps of each curve.
        resamples: Of the bootstrap over images.
        seed: Of the corruption and the bootstrap.

    Raises:
        ShapeError: evidence of another size than the images.
        InputError: levels that do not rise from 0 to 1, an image without evidence, or what `cp.metrics.curves` refuses.
    """
    if evidence.shape != (len(images), *images.shape[2:]):
        raise ShapeError(
            f"evidence must be (images, height, width) of {shape_text(images)}, got {shape_text(evidence)}."
        )
    empty = (~evidence.flatten(1).any(1)).nonzero().flatten().tolist()
    if empty:
        raise InputError(
            f"evidence must mark at least one pixel of each image, but images {empty[:5]} have none."
        )
    if len(levels) < 2 or list(levels) != sorted(set(levels)) or levels[0] < 0 or levels[-1] > 1:
        raise InputError(f"levels must rise from at least 0 to at most 1, got {tuple(levels)}.")
    maps = {f"{level:g}": corrupted(evidence, level, seed=seed).to(images) for level in levels}
    table = curves(probability(classifier, target), images, maps, list(baselines), steps=steps, seed=seed)
    deletion, insertion = (table.areas(kind).transpose(0, 1).double() for kind in ("deletion", "insertion"))
    areas = {"deletion": -deletion, "insertion": insertion, "relevance_gain": insertion - deletion}
    return EvidenceAudit(
        baselines=tuple(spec.unusual("baseline", spec.describe(each)).text for each in baselines),
        correct={name: _in_order(each) for name, each in areas.items()},
        areas=areas,
        levels=tuple(levels),
        resamples=resamples,
        seed=seed,
    )


def _in_order(areas: Float[Tensor, "levels baselines images"]) -> Float[Tensor, "baselines images"]:
    """The share of pairs of levels whose cleaner map has the higher area; equal ones count half."""
    pairs = [(a, b) for a in range(len(areas)) for b in range(a + 1, len(areas))]
    right = [(areas[a] > areas[b]).double() + 0.5 * (areas[a] == areas[b]).double() for a, b in pairs]
    return torch.stack(right).mean(0)
