"""`trust`: explain, check the explanation, and say what the checks say together."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from counterpoint import progress
from counterpoint.attribution import Attribution
from counterpoint.baselines import Black, Blur, Mean
from counterpoint.checks import check_images, check_range, shape_text
from counterpoint.comparison import Comparison
from counterpoint.errors import CounterpointError, InputError, NotFiniteError, ShapeError, UnknownNameError
from counterpoint.layer_baseline import FEATURES_OF_THE_BASELINE
from counterpoint.methods import RandomMap
from counterpoint.metrics import Bank
from counterpoint.numerals import finite
from counterpoint.protocols import Baseline, Method
from counterpoint.scores import BoundClassScore, ClassScore
from counterpoint.trusting.curves import curve_facts
from counterpoint.trusting.pathway import pathway_facts
from counterpoint.trusting.verdict import CHECKS, Check, Verdict, verdict
from counterpoint.trusting.weights import weight_facts

USUAL_JUDGES: tuple[Baseline, ...] = (Black(), Blur(), Mean())


@dataclass(frozen=True, kw_only=True, eq=False)
class Trust:
    """What is known of how far one explanation of one image can be trusted."""

    attribution: Attribution
    verdict: Verdict
    facts: Mapping[Check, Mapping[str, Any] | None]
    """What each check found, as plain data; None where it was not made."""
    missing: Mapping[Check, str]
    """Why it was not."""

    @property
    def standing(self) -> str:
        """ "good", "doubtful", "bad" or "unknown"."""
        return self.verdict.standing

    @property
    def words(self) -> str:
        """The verdict in a sentence."""
        return self.verdict.words


def trust(
    comparison: Comparison,
    method: Method,
    *,
    judges: Sequence[Baseline] = USUAL_JUDGES,
    checks: Sequence[Check] = CHECKS,
    steps: int = 10,
    bank: Bank | None = None,
) -> Trust:
    """Explain one image with a method, check the map, and say how far it can be trusted.

    Four checks, whose thresholds are conventions of ours (`verdict.as_dict()["thresholds"]`): the error of the explanation; whether its
    insertion and deletion curves beat those of a random map, under each of several baselines; whether its most relevant pixels run on the
    network's own pathway, as random masks of the same areas do; whether the map changes when weights become random. With a bank, curves
    whose images are far from real ones are said to say little. A check that cannot be made is no reason, and says why.

    Args:
        comparison: Of a class score and one image.
        method: What is judged.
        judges: What removed pixels become in the curves; by default black, a blur and the mean colour.
        checks: Which of "error", "curves", "pathway" and "weights"; all by default.
        steps: Points of each curve, but one.
        bank: Real images, from `cp.metrics.Bank.of`, for how far those on the curves are from them.

    Costs, beside the explanation: 1 + judges * (1 + 4 * steps) forwards for the curves, those of `activation_deviation`, and four more
    explanations.

    Raises:
        InputError: the score is of no class of a module, no judges, or a number out of range.
        ShapeError: several images, or what is no image.
        UnknownNameError: no such check.
        NotFiniteError: the method gives NaN or infinity.
        CounterpointError: what the method raises.

    Reference: the checks are Sundararajan et al. 2017 (completeness), Petsiuk et al. 2018 (curves), Zhang and McMillan 2025 (pathway, our
    reconstruction) and Adebayo et al. 2018 (random weights); the verdict is ours.
    """
    score = _checked(comparison, judges, checks, steps)
    inputs, baseline = comparison.inputs, comparison.baseline
    with progress.stage(0, 2, 12, "the map"):
        attribution = comparison.explain(method)
    if not bool(torch.isfinite(attribution.values).all()):
        raise NotFiniteError(f"values of {method!r} must be finite, but some are NaN or infinite.")
    heat = attribution.heatmap()[0]
    facts: dict[Check, Mapping[str, Any] | None] = {}
    missing: dict[Check, str] = {each: "it was not asked for." for each in CHECKS if each not in checks}
    if "error" in checks:
        facts["error"] = error_facts(attribution)
    work: dict[Check, tuple[int, int, Callable[[], dict[str, Any]]]] = {
        "curves": (2, 4, lambda: _curves(comparison, method, score, heat, judges, steps, bank)),
        "pathway": (4, 6, lambda: pathway_facts(score, inputs, heat, baseline)),
        "weights": (6, 12, lambda: _weights(comparison, method, score, attribution, heat)),
    }
    for check, (begins, ends, make) in work.items():
        if check not in checks:
            continue
        try:
            with progress.stage(begins, ends, 12, check):
                facts[check] = finite(make())
        except CounterpointError as error:
            missing[check] = str(error)
    return Trust(attribution=attribution, verdict=verdict(facts, missing), facts=facts, missing=missing)


def error_facts(attribution: Attribution) -> dict[str, Any]:
    """What the error of an explanation of one image says, as plain data."""
    return {
        "claim": attribution.claim,
        "relative_error": finite(float(attribution.relative_error[0])),
        "undefined": attribution.undefined[0],
        "error_is_forced": attribution.error_is_forced,
    }


def _checked(
    comparison: Comparison, judges: Sequence[Baseline], checks: Sequence[Check], steps: int
) -> ClassScore:
    """The score with its class settled."""
    bound = comparison.bound
    if not isinstance(bound, BoundClassScore):
        raise InputError(
            f"comparison must be of a class score of a model, such as cp.logit(classifier), got {type(bound).__name__}."
        )
    check_images("inputs", comparison.inputs)
    if len(comparison.inputs) != 1:
        raise ShapeError(
            f"inputs must be one image, (1, channel, height, width), got {shape_text(comparison.inputs)}."
        )
    if not judges or not checks:
        raise InputError("judges and checks must name at least one each.")
    for check in checks:
        if check not in CHECKS:
            raise UnknownNameError.among("check", str(check), CHECKS)
    check_range("steps", steps, 2)
    against = None if bound.against is None else bound.against.tolist()
    return ClassScore(bound.module, bound.classes.tolist(), bound.kind, against)


def _curves(
    comparison: Comparison,
    method: Method,
    score: ClassScore,
    heat: Float[Tensor, "height width"],
    judges: Sequence[Baseline],
    steps: int,
    bank: Bank | None,
) -> dict[str, Any]:
    """Of the map, and of a random one to compare with, unless that is what is judged."""
    maps = [heat]
    if not isinstance(method, RandomMap):
        maps.append(comparison.at("input").explain(RandomMap()).heatmap()[0].to(heat))
    return curve_facts(score, comparison.inputs, torch.stack(maps), list(judges), steps=steps, bank=bank)[1]


def _weights(
    comparison: Comparison,
    method: Method,
    score: ClassScore,
    attribution: Attribution,
    heat: Float[Tensor, "height width"],
) -> dict[str, Any]:
    if comparison.layer_baseline != FEATURES_OF_THE_BASELINE:
        raise InputError(
            f"a random model's features are compared with those of its baseline, but layer_baseline is {comparison.layer_baseline}."
        )
    partial = comparison.cut is not None and comparison.cut.kind == "partial"
    return weight_facts(
        score,
        comparison.inputs,
        heat,
        baseline=comparison.baseline,
        method=method,
        layer=comparison.layer,
        bypass="intervene" if partial else "refuse",
        gradients=int(attribution.gradient_evaluations[0]),
    )
