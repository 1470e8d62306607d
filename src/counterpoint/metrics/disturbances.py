"""What small disturbances do: to the score, held against a map of rates, and to the map itself."""

from collections.abc import Callable
from contextlib import nullcontext

import torch
from jaxtyping import Float
from torch import Tensor

from counterpoint import progress
from counterpoint.attribution import Attribution
from counterpoint.batching import MicroBatch, Tally
from counterpoint.checks import check_batch, check_finite, check_range, check_same_shape
from counterpoint.errors import InputError, ShapeError
from counterpoint.evaluation import Evaluation
from counterpoint.metrics.pixel_sets import check_whole
from counterpoint.metrics.removals import check_claim, mean_squared_gap
from counterpoint.protocols import ModuleScore, Score
from counterpoint.scores import as_score
from counterpoint.state import left_as_found

AnyScore = Score | Callable[[Tensor], Tensor]
Images = Float[Tensor, "batch channel height width"]


def noise_infidelity(
    score: AnyScore,
    inputs: Images,
    values: Tensor | Attribution,
    *,
    scale: float,
    samples: int = 100,
    seed: int = 0,
    rescaled: bool = False,
) -> Float[Tensor, " batch"]:
    """How far a map of rates is from what the score does under Gaussian noise, squared; lower is better.

    Formula: mean over I ~ N(0, scale^2) of (sum of I a - (f(x) - f(x - I)))^2

    Nothing is removed, so there is no baseline. Shares do not say what a disturbed pixel costs, and are refused.

    Args:
        score: `cp.logit(...)` and its like, or a callable (rows, ...) -> (rows,).
        inputs: Images with pixels in [0, 1]; never changed.
        values: Rates, one for each number of the inputs: (batch, channel, height, width), or an Attribution at the input.
        scale: Standard deviation of the noise, in units of pixels.
        samples: Draws, and forwards for each image.
        seed: Of the noise, which is the same for every image.
        rescaled: Multiply each map with the one number that makes this least, so that maps in other units can be compared.

    Returns:
        (batch,), in squared units of the score, 0 for the gradient of a linear score.

    Raises:
        InputError: an argument of the wrong type or out of range, or an Attribution whose values are no rates, without `rescaled`.
        ShapeError: values of another shape than the inputs.
        NotFiniteError: NaN or infinity in the inputs, their score or the values.

    Reference: Yeh et al. 2019, arXiv:1901.09392; the best scale is that of the authors' published code.
    """
    check_batch("inputs", inputs)
    check_range("scale", scale, 0.0, open_low=True)
    check_whole("samples", samples, 1)
    check_whole("seed", seed, 0)
    check_claim("rate", values, rescaled=rescaled)
    rates = values.values if isinstance(values, Attribution) else values
    if not isinstance(rates, Tensor):
        raise InputError(f"values must be a tensor or an Attribution, got {type(rates).__name__}.")
    check_same_shape("values", rates, "inputs", inputs)
    check_finite("values", rates)
    rates = rates.detach().to(inputs.device, torch.float64).flatten(1)
    bound = as_score(score).bind(inputs)
    inputs = inputs.detach()
    micro = MicroBatch.for_inputs(inputs)
    evaluation = Evaluation(runner=bound, inputs=inputs, cut=None, micro=micro, tally=Tally(len(inputs)))
    clean: Tensor | None = getattr(bound, "at_inputs", None)
    if clean is None:
        clean = evaluation.scores(inputs)
    check_finite("score of the inputs", clean)
    generator = torch.Generator().manual_seed(seed)
    claimed, noisy = [], []
    with (
        left_as_found(bound.module) if isinstance(bound, ModuleScore) else nullcontext(),
        torch.inference_mode(),
    ):
        at_once = max(1, micro.rows // len(inputs))
        for start in range(0, samples, at_once):
            # Drawn one by one, on the CPU and in one type: the same noise on every device and for every micro-batch.
            noise = torch.stack(
                [
                    torch.randn(inputs.shape[1:], generator=generator, dtype=torch.float64) * scale
                    for _ in range(start, min(start + at_once, samples))
                ]
            ).to(inputs.device)
            points = (inputs - noise[:, None]).to(inputs.dtype)  # (noise, batch, channel, height, width)
            image = torch.arange(len(inputs), device=inputs.device).repeat(len(noise))
            scores = evaluation.scores(points.flatten(0, 1), image)
            noisy.append(scores.view(len(noise), -1).T)
            claimed.append(rates @ noise.flatten(1).T)
            progress.advance(start + len(noise), samples, "noise_infidelity")
        found = mean_squared_gap(
            torch.cat(claimed, 1), clean[:, None] - torch.cat(noisy, 1), rescaled=rescaled
        )
    return found.clone()


def max_sensitivity(
    explain: Callable[[Tensor], Tensor | Attribution],
    inputs: Images,
    *,
    radius: float = 0.02,
    samples: int = 10,
    seed: int = 0,
    relative: bool = True,
) -> Float[Tensor, " batch"]:
    """How far the map moves when the image hardly does, at most; lower is better, but a map that never moves has 0 too.

    Formula: max over d, |d|_inf <= radius, of |a(x + d) - a(x)|_2, relative: divided by |a(x)|_2

    Args:
        explain: Images -> their maps, (batch, ...) or an Attribution, whose values are taken. It is called once for the images and once
            for each sample, and must settle the class itself: "top1" may be another one at x + d.
        inputs: Images with pixels in [0, 1]; never changed. x + d may leave this range: clamp inside `explain` if it must not.
        radius: Largest change of a pixel.
        samples: Random changes, uniform in [-radius, radius] for every number of the image, the same for all images. The maximum grows with
            their number: compare under one number only.
        seed: Of the changes.
        relative: Divide by the size of the map, so that maps in different units can be compared.

    Returns:
        (batch,); relative: NaN where the map of the image is 0 everywhere.

    Raises:
        InputError: an argument of the wrong type or out of range, or `explain` returns something else than maps.
        ShapeError: the maps are not one for each image, or not of one shape.
        NotFiniteError: NaN or infinity in the inputs or a map.

    Reference: Yeh et al. 2019, arXiv:1901.09392 (there not relative).
    """
    check_batch("inputs", inputs)
    check_range("radius", radius, 0.0, open_low=True)
    check_whole("samples", samples, 1)
    check_whole("seed", seed, 0)
    if not callable(explain):
        raise InputError(
            f"explain must be a function from images to their maps, got {type(explain).__name__}."
        )
    inputs = inputs.detach()
    first = _explained(explain, inputs)
    largest = torch.zeros(len(inputs), dtype=first.dtype, device=first.device)
    generator = torch.Generator().manual_seed(seed)
    for done in range(samples):
        change = torch.rand(inputs.shape[1:], generator=generator, dtype=torch.float64) * 2 - 1
        moved = _explained(explain, inputs + (radius * change).to(inputs))
        check_same_shape("a map of explain", moved, "the map of the images", first)
        largest = torch.maximum(largest, (moved - first).flatten(1).norm(dim=1))
        progress.advance(done + 1, samples, "max_sensitivity")
    if not relative:
        return largest
    size = first.flatten(1).norm(dim=1)
    return torch.where(size > 0, largest / size, torch.nan)


def _explained(
    explain: Callable[[Tensor], Tensor | Attribution], inputs: Images
) -> Float[Tensor, "batch ..."]:
    found = explain(inputs)
    values = found.values if isinstance(found, Attribution) else found
    if not isinstance(values, Tensor) or not values.is_floating_point():
        kind = values.dtype if isinstance(values, Tensor) else type(values).__name__
        raise InputError(f"explain must return maps of real numbers, or an Attribution, but returned {kind}.")
    if values.ndim < 2 or len(values) != len(inputs):
        raise ShapeError(
            f"explain must return one map for each of {len(inputs)} images, but returned {tuple(values.shape)}."
        )
    check_finite("maps that explain returned", values)
    return values.detach().to(torch.promote_types(values.dtype, torch.float32))
