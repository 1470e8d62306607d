"""Insertion and deletion curves of several maps as plain data, with how far the images on the way are from real ones."""

from typing import Any

from jaxtyping import Float
from torch import Tensor

from counterpoint import progress, spec
from counterpoint.errors import CounterpointError
from counterpoint.metrics import Bank, CurveTable, out_of_distribution
from counterpoint.metrics import curves as curve_table
from counterpoint.metrics.curve_table import KINDS, Kind
from counterpoint.metrics.similarity import spearman
from counterpoint.protocols import Baseline
from counterpoint.report.wording import telling
from counterpoint.scores import ClassScore


def curve_facts(
    score: ClassScore,
    inputs: Float[Tensor, "1 channel height width"],
    maps: Float[Tensor, "maps height width"],
    baselines: list[Baseline],
    *,
    steps: int,
    bank: Bank | None,
) -> tuple[CurveTable, dict[str, Any]]:
    """Curves of every map of one image under every baseline.

    Args:
        score: With its class settled, so that all maps are judged by the same score.
        inputs: The image.
        maps: Their order numbers them; in the table they are named "0", "1", ...
        baselines: What removed pixels become.
        steps: Points of each curve, but one.
        bank: Real images, for how far those on the way are from them; None leaves it out.

    Returns:
        The table, and {"baselines": texts, "steps", "curves": [{"kind", "cell" (which map), "baseline" (which one), "fractions", "scores",
        "area", "area_error", "tied", "out_of_distribution"}], "agreement": rank correlations of the maps}.
    """
    with progress.stage(0, 5, 10, "curves"):
        named = {str(place): heat[None].to(inputs) for place, heat in enumerate(maps)}
        table = curve_table(score, inputs, named, baselines, steps=steps)
    lines, pairs = [], len(maps) * len(baselines)
    for place, heat in enumerate(maps):
        for b, baseline in enumerate(baselines):
            k = place * len(baselines) + b
            with progress.stage(5 + 5 * k / pairs, 5 + 5 * (k + 1) / pairs, 10, "images on the way"):
                for kind in KINDS:
                    far = _far(score, inputs, heat, baseline, kind, steps, bank)
                    lines.append({**_line(table, kind, place, b), "out_of_distribution": far})
    flat, count = maps.flatten(1), len(maps)
    agreement = spearman(flat.repeat_interleave(count, 0), flat.repeat(count, 1)).view(count, count)
    texts = [telling(spec.describe(each)).text for each in table.baselines]
    return table, {"baselines": texts, "steps": steps, "curves": lines, "agreement": agreement.tolist()}


def _line(table: CurveTable, kind: Kind, place: int, b: int) -> dict[str, Any]:
    curve = table.curve(kind, baseline=table.baselines[b], saliency=str(place))
    return {
        "kind": kind,
        "cell": place,
        "baseline": b,
        "fractions": curve.fractions.tolist(),
        "scores": curve.scores[0].tolist(),
        "area": float(curve.area[0]),
        "area_error": float(curve.area_error[0]),
        "tied": float(curve.tied[0]),
    }


def _far(
    score: ClassScore,
    inputs: Tensor,
    heat: Tensor,
    baseline: Baseline,
    kind: Kind,
    steps: int,
    bank: Bank | None,
) -> dict[str, Any] | None:
    """How far each point is from real photographs, in units of their spread; None without a bank."""
    if bank is None:
        return None
    try:
        found = out_of_distribution(
            score,
            inputs,
            heat[None].to(inputs),
            baseline=baseline,
            bank=bank,
            kind=kind,
            steps=steps,
            include_last=not baseline.fill_only,
        )
    except CounterpointError as error:
        return {"reason": str(error)}
    return {
        "fractions": found.fractions.tolist(),
        "excesses": found.excesses[0].tolist(),
        "beyond_limit": found.beyond_limit[0].tolist(),
    }
