"""The engine of insertion and deletion curves: every map under every baseline, nothing scored twice."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from counterpoint import progress, spec
from counterpoint.attribution import Attribution
from counterpoint.batching import MicroBatch, Tally, in_micro_batches
from counterpoint.checks import check_batch, check_finite, check_places
from counterpoint.errors import InputError, UnknownNameError
from counterpoint.folding import fold as folded_copy
from counterpoint.metrics import half_precision
from counterpoint.metrics.curve_table import (
    KINDS,
    CurveTable,
    Kind,
    Precision,
    check_kinds,
    mean_height,
    points_of,
)
from counterpoint.metrics.half_precision import PrecisionCheck
from counterpoint.metrics.ordering import Order, check_order, check_saliencies, removed_counts
from counterpoint.metrics.perturbation import Perturbation, Replacement
from counterpoint.protocols import Baseline, BoundScore, ModuleScore, Score
from counterpoint.scores import as_score
from counterpoint.state import undisturbed

# To make and check a folded copy costs about as much as a hundred forwards, of which it then saves a third to a half.
FOLD_FROM = 256


def curves(
    score: Score | Callable[[Tensor], Tensor],
    inputs: Float[Tensor, "batch channel *space"],
    saliencies: Mapping[str, Tensor | Attribution],
    baselines: Sequence[Baseline],
    *,
    steps: int = 20,
    order: Order = "signed",
    seed: int = 0,
    kinds: Sequence[Kind] = KINDS,
    precision: Precision = "float32",
    fold: bool = True,
    micro_batch: int | None = None,
) -> CurveTable:
    """Deletion and insertion curves of each image, for every map under every baseline.

    At point k the round(k * pixels / steps) most relevant pixels are the baseline's, and the others the image's (deletion), or the other
    way round (insertion). The score of the image itself is computed once, that of each baseline once for all maps: with B baselines, M maps
    and both kinds 1 + B + 2 * B * M * (steps - 1) forwards for each image. Perturbed images exist only while they are scored.

    Args:
        score: `cp.logit(...)` and its like, or a callable (rows, ...) -> (rows,).
        inputs: Images with pixels in [0, 1], or signals (batch, channel, length), or volumes; never changed.
        saliencies: Name -> map, (batch, height, width), larger is more relevant; or an Attribution, whose heat map is taken.
        baselines: What removed pixels become. Kinds that only fill have no point at which nothing of the image is left.
        steps: Steps from the first point to the last, from 1 to the number of pixels.
        order: Put pixels in order by their value, "signed", or by its size, "absolute".
        seed: Of the random order among pixels of equal value.
        kinds: "deletion", "insertion" or both; one alone costs half.
        precision: "bfloat16" runs a copy of the model in that type. It is checked first on 8 images and 4 maps (random ones are added to
            fewer maps; fewer images are refused): for each kind and baseline Spearman's correlation of its areas with those in float32 must
            be 0.98 at least. It scores the images themselves once more. "float32" is the type of the inputs, which may be float64.
        fold: Run on an equal, faster copy of the model where there is one, checked to 1e-5; not for fewer than 256 forwards, which cost
            less than the copy.
        micro_batch: Images that go through the model at once; by default chosen for the device, and halved when memory runs out.

    Raises:
        InputError: an argument of the wrong type or out of range, NaN, a baseline with several draws, or areas in bfloat16 that disagree
            with those in float32.
        ShapeError: inputs without channels or places, or a map or a baseline of another size.
        UnknownNameError: an unknown order, kind or precision.
        ModelError: the model does not return what the score reads.

    Reference: Petsiuk et al. 2018, arXiv:1806.07421 (deletion, insertion); Samek et al. 2017, arXiv:1509.06321 (most relevant first);
    Picard et al. 2025, arXiv:2512.11433 (the baseline decides).
    """
    check_batch("inputs", inputs)
    check_places("inputs", inputs)
    check_order(order, seed)
    asked = check_kinds(kinds, of="curve")
    if precision not in ("float32", "bfloat16"):
        raise UnknownNameError.among("precision", str(precision), ["float32", "bfloat16"])
    names = _checked_names(baselines)
    counts = removed_counts(inputs[0, 0].numel(), steps)
    if steps < 2 and any(baseline.fill_only for baseline in baselines):
        raise InputError(
            "steps must be at least 2 under a baseline that only fills, whose curve has one point less, got 1."
        )
    maps = check_saliencies(saliencies, inputs)
    micro = MicroBatch.for_inputs(inputs) if micro_batch is None else MicroBatch(micro_batch)
    with undisturbed(getattr(score, "module", None)):
        bound = as_score(score).bind(inputs)
        inputs = inputs.detach()
        work = Perturbation(
            runner=bound,
            inputs=inputs,
            clean=_clean_scores(bound, inputs, micro),
            maps=maps,
            replacements=tuple(Replacement.settled_for(baseline, bound, inputs) for baseline in baselines),
            counts=torch.tensor(counts, device=inputs.device),
            kinds=tuple(kind for kind in KINDS if kind in asked),
            order=order,
            seed=seed,
            micro=micro,
            numbers=inputs.dtype,
            images=torch.arange(len(inputs), device=inputs.device),
        )
        folded = False
        if fold and isinstance(bound, ModuleScore) and work.rows >= FOLD_FROM:
            folding = folded_copy(bound.module, inputs)
            work, folded = replace(work, runner=bound.on(folding.module)), folding.folded
        if precision == "float32":
            return _table(work, names, folded=folded)
        half, part = _in_bfloat16(work), _part(work)
        before, total = 2 * part.rows, 2 * part.rows + work.rows
        with progress.stage(0, before, total, "checking bfloat16"):
            check = _agreement(part, half, controls=len(set(part.maps) - set(maps)))
        with progress.stage(before, total, total, "curves"):
            return _table(half, names, folded=folded, check=check)


def _clean_scores(
    bound: BoundScore, inputs: Float[Tensor, "batch channel *space"], micro: MicroBatch
) -> Float[Tensor, " batch"]:
    """f(x): known to a score that had to look at the inputs, computed here for the others."""
    known: Tensor | None = getattr(bound, "at_inputs", None)
    if known is None:
        image = torch.arange(len(inputs), device=inputs.device)
        with torch.no_grad():
            (known,) = in_micro_batches(lambda *rows: (bound(*rows),), inputs, image, micro=micro)
    check_finite("score of the inputs", known)
    return known


def _table(
    work: Perturbation, names: tuple[str, ...], *, folded: bool, check: PrecisionCheck | None = None
) -> CurveTable:
    """Do the work, and name what came out."""
    tally = Tally(len(work.inputs))
    tally.add_forwards(work.images)
    if check is not None:
        tally.add_forwards(work.images)  # f(x) once more, by the copy
    scores, tied = work.run(tally)
    return CurveTable(
        kinds=work.kinds,
        maps=tuple(work.maps),
        baselines=tuple(each.baseline for each in work.replacements),
        baseline_names=names,
        order=work.order,
        seed=work.seed,
        counts=work.counts,
        scores=scores,
        tied=tied.to(scores),
        folded=folded,
        precision_check=check,
        forward_evaluations=tally.forwards,
    )


def _in_bfloat16(work: Perturbation) -> Perturbation:
    """The same work on a copy of the model in bfloat16.

    The copy scores the images themselves once more, so that all points of a curve come from one model.

    Raises:
        InputError: there is no model to copy, it does not run in that type, or there are too few images to check it on.
    """
    if not isinstance(work.runner, ModuleScore):
        raise InputError(
            "precision='bfloat16' needs a score that knows its module, such as cp.logit(module, ...); got a callable."
        )
    if len(work.images) < half_precision.IMAGES:
        raise InputError(
            f"precision='bfloat16' is checked on {half_precision.IMAGES} images, but there are {len(work.images)}; "
            "give more at once, or use precision='float32'."
        )
    runner = work.runner.on(half_precision.bfloat16_copy(work.runner.module))

    def score(rows: Tensor, image: Tensor) -> tuple[Tensor]:
        return (runner(rows.to(torch.bfloat16), image),)

    try:
        with torch.no_grad():
            (clean,) = in_micro_batches(score, work.inputs, work.images, micro=work.micro)
    except (RuntimeError, TypeError) as error:
        raise InputError(f"precision='bfloat16': the model does not run in that type: {error}") from error
    return replace(work, runner=runner, clean=clean, numbers=torch.bfloat16)


def _part(work: Perturbation) -> Perturbation:
    """The images and maps that bfloat16 is checked on."""
    images = half_precision.spread_evenly(len(work.images), half_precision.IMAGES)
    names = list(work.maps)
    chosen = [names[i] for i in half_precision.spread_evenly(len(names), half_precision.MAPS)]
    maps = {name: work.maps[name] for name in chosen}
    controls = half_precision.control_maps(maps[chosen[0]], half_precision.MAPS - len(maps))
    return replace(work, images=work.images[images], maps={**maps, **controls})


def _agreement(part: Perturbation, half: Perturbation, *, controls: int) -> PrecisionCheck:
    """How well the areas in bfloat16 agree with those in float32.

    Raises:
        InputError: they do not.
    """
    with progress.stage(0, 1, 2):
        rough = _areas(replace(half, images=part.images, maps=part.maps))
    with progress.stage(1, 2, 2):
        check = half_precision.agreement(rough, _areas(part), controls=controls)
    if not check.spearman >= half_precision.LEAST_SPEARMAN:
        raise InputError(
            f"precision='bfloat16' must keep the order of the areas: Spearman's correlation with float32 on {check.images} images and "
            f"{check.maps} maps must be at least {half_precision.LEAST_SPEARMAN}, but is {check.spearman:.3f}; use precision='float32'."
        )
    return check


def _areas(work: Perturbation) -> Float[Tensor, "curves maps images"]:
    """The areas of all curves; the first axis is kind and baseline."""
    scores, _ = work.run(Tally(len(work.inputs)))
    fractions = work.counts.to(work.clean) / work.counts[-1]
    areas = []
    for k, kind in enumerate(work.kinds):
        for b, replacement in enumerate(work.replacements):
            here = points_of(kind, replacement.baseline)
            areas.append(mean_height(scores[k, b][..., here], fractions[here]))
    return torch.stack(areas)


def _checked_names(baselines: Sequence[Baseline]) -> tuple[str, ...]:
    """The name of each baseline.

    Raises:
        InputError: not a list, an empty one, something that is no baseline, one of several draws, or the same one twice.
    """
    if isinstance(baselines, Baseline | str) or not isinstance(baselines, Sequence):
        raise InputError(f"baselines must be a list, such as [cp.baselines.Mean()], got {baselines!r}.")
    if not baselines:
        raise InputError("baselines must hold at least one baseline, got an empty list.")
    for baseline in baselines:
        if not isinstance(baseline, Baseline) or isinstance(baseline, type):
            raise InputError(
                f"baselines must hold objects of cp.baselines, such as cp.baselines.Blur(sigma=10), got {baseline!r}."
            )
        if baseline.draws > 1:
            raise InputError(
                f"a curve has one image to go to, but {baseline!r} has {baseline.draws} draws; give several baselines of one draw "
                "with seeds of their own, and average their areas."
            )
    names = tuple(
        spec.describe(each).text if dataclasses.is_dataclass(each) else type(each).__name__
        for each in baselines
    )
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"baselines must differ, but {', '.join(twice)} comes more than once.")
    return names
