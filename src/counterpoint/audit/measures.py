"""The measures of a baseline audit: what they are, and their numbers from what was found along the paths."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from counterpoint.metrics import Bank


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


def numbers_of(
    rows: Mapping[str, Mapping[str, Any]],
    labels: Sequence[str],
    names: Sequence[str],
    bank: Bank,
) -> dict[str, Float[Tensor, "baselines images"]]:
    """Every measure of every baseline on every image.

    Args:
        rows: Key -> what was found of one baseline on one image; columns as in the store of the audit.
        labels: The baselines.
        names: The images.
        bank: Says how far real images are from each other.
    """
    real = bank.real_distances()
    limit, spread = float(torch.quantile(real, 0.95)), float(real.std())
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
