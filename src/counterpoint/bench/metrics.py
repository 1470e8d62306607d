"""The measures that a benchmark can take of a map: what each needs, and which way is better."""

from dataclasses import dataclass
from typing import Literal

Group = Literal[
    "curves",
    "masked",
    "deviation",
    "removal",
    "distance",
    "map",
    "evidence",
    "error",
    "disturbed",
    "randomised",
]
"""What is computed together."""


@dataclass(frozen=True)
class Metric:
    """One column of the results."""

    group: Group
    higher_is_better: bool | None
    """None where neither is: the number describes a map or a baseline."""
    summary: str

    @property
    def per_baseline(self) -> bool:
        """Whether pixels are removed, so that there is a number for each evaluation baseline."""
        return self.group in ("curves", "masked", "deviation", "removal", "distance")


METRICS: dict[str, Metric] = {
    "deletion": Metric("curves", False, "area of the deletion curve"),
    "insertion": Metric("curves", True, "area of the insertion curve"),
    "relevance_gain": Metric("curves", True, "insertion minus deletion area (SRG)"),
    "average_drop": Metric("masked", False, "score lost where the map masks the image"),
    "average_increase": Metric("masked", True, "whether the masked image scores higher"),
    "activation_total": Metric("deviation", False, "how far activations move on the insertion path"),
    "activation_excess": Metric(
        "deviation", False, "activity on the insertion path that the image does not have"
    ),
    "activation_seam_free_excess": Metric("deviation", False, "the same without the edges of masks"),
    "activation_disinhibition": Metric("deviation", False, "less of what speaks against the class"),
    "information_removed": Metric(
        "removal", None, "confidence lost on the deletion path, mean over fractions"
    ),
    "out_of_distribution": Metric(
        "distance", None, "how far the deletion path leads from real images, mean over fractions"
    ),
    "attribution_error": Metric("error", False, "|target - sum of the values| / |target|"),
    "complexity": Metric("map", None, "entropy of the map"),
    "sparseness": Metric("map", None, "Gini index of the map"),
    "pointing_game": Metric("evidence", True, "whether the largest value lies on the evidence"),
    "mass_in_mask": Metric("evidence", True, "share of the positive relevance on the evidence"),
    "rank_in_mask": Metric("evidence", True, "share of the evidence among as many top pixels"),
    "auc_in_mask": Metric("evidence", True, "how well the map tells evidence from the rest"),
    "sensitivity": Metric("disturbed", False, "largest relative change of the map under small noise"),
    "randomised_weights": Metric(
        "randomised", False, "likeness to the map of the same network with random weights"
    ),
}
"""Every measure by its name in a spec and in the results."""

HIGHER_IS_BETTER: dict[str, bool | None] = {name: metric.higher_is_better for name, metric in METRICS.items()}
