"""Another network's view of what is in distribution: a judge that took no part in making a baseline."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from counterpoint.audit.baseline_audit import BaselineAudit
from counterpoint.classifier import Classifier
from counterpoint.errors import InputError
from counterpoint.metrics import Bank, trade_off
from counterpoint.protocols import Baseline
from counterpoint.scores import logit


def as_seen_by(
    witness: Classifier,
    audit: BaselineAudit,
    images: Float[Tensor, "images channel height width"],
    saliency: Float[Tensor, "images height width"],
    baselines: Sequence[Baseline],
    *,
    crops: int = 2,
    steps: int = 20,
    seed: int = 0,
) -> BaselineAudit:
    """The same audit, with distances in the features of another network; what is removed is still what the audited model loses.

    Args:
        witness: The other model, for images of the same size.
        audit: Of these images and baselines.
        images: Pixels in [0, 1].
        saliency: The order in which pixels go.
        baselines: As the audit's, in their order.
        crops: Of each image in the witness's bank.
        steps: Points of each path.
        seed: Of ties and crops.

    Raises:
        InputError: other baselines or images than the audit's, or baselines that refuse the witness (learned ones, unless `any_model`).

    Reference: our own definition.
    """
    if len(baselines) != len(audit.names) or len(images) != len(audit.images):
        raise InputError(
            f"baselines and images must be those of the audit, {len(audit.names)} and {len(audit.images)}, got {len(baselines)} and "
            f"{len(images)}."
        )
    bank = Bank.of(witness, images, groups=audit.images, crops=crops, seed=seed)
    found = trade_off(
        logit(witness),
        images,
        saliency,
        baselines=baselines,
        bank=bank,
        groups=audit.images,
        steps=steps,
        seed=seed,
    )
    excess = torch.stack([each.out_of_distribution.excess.double().cpu() for each in found])
    return replace(audit, numbers={**audit.numbers, "excess": excess})
