"""What a baseline audit measures on each image."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from counterpoint import progress
from counterpoint.classifier import Classifier
from counterpoint.comparison import compare
from counterpoint.metrics import Bank, TradeOff, random_occlusions, trade_off
from counterpoint.protocols import Baseline, Method
from counterpoint.scores import classes_of, logit

# Parts along each side for random occlusion.
_CELLS = 8


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
        occluded = torch.full((len(baselines), len(images)), torch.nan)
        if self.occlusions:
            with progress.stage(total - self.occlusions, total, total):
                found = random_occlusions(
                    score,
                    images,
                    baselines=baselines,
                    samples=self.occlusions,
                    cells=min(_CELLS, *images.shape[2:]),
                    seed=self.seed,
                )
            occluded = torch.stack([each.score for each in found])
        return [
            [_columns(i, gone, back, float(parts[i]), target) for i, target in enumerate(classes)]
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
