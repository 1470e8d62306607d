"""Whether a map's perturbed images stay on the network's own pathway, as plain data."""

from typing import Any

from jaxtyping import Float
from torch import Tensor

from counterpoint.metrics import activation_deviation
from counterpoint.protocols import Baseline
from counterpoint.scores import ClassScore


def pathway_facts(
    score: ClassScore,
    inputs: Float[Tensor, "1 channel height width"],
    heat: Float[Tensor, "height width"],
    baseline: Baseline,
) -> dict[str, Any]:
    """How far activations leave the original ones, beside random masks.

    Returns:
        {"layers", "fractions", "kinds": {kind: {"excess": rows of layers by fractions, "floor": the same of random masks, "mean",
        "mean_floor"}}}.

    Raises:
        CounterpointError: it cannot be measured; see `activation_deviation`.
    """
    found = activation_deviation(score, inputs, heat[None].to(inputs), baseline=baseline)
    return {
        "layers": list(found.layers),
        "fractions": found.fractions.tolist(),
        "kinds": {
            kind: {
                "excess": found.values("excess", kind)[0].tolist(),
                "floor": found.values("excess", kind, floor=True)[0].tolist(),
                "mean": float(found.mean("excess", kind)[0]),
                "mean_floor": float(found.mean("excess", kind, floor=True)[0]),
            }
            for kind in found.kinds
        },
    }
