"""R-OMS: what a model still says about images of which random parts are occluded."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from counterpoint import progress
from counterpoint.batching import MicroBatch
from counterpoint.checks import check_batch, check_images, check_range
from counterpoint.errors import InputError
from counterpoint.layers import eager
from counterpoint.metrics.curves import FOLD_FROM
from counterpoint.metrics.perturbation import Replacement
from counterpoint.metrics.readout import Readout
from counterpoint.metrics.removal_path import bound_to_module, check_baseline
from counterpoint.protocols import Baseline, Score
from counterpoint.scores import classes_of
from counterpoint.state import left_as_found


@dataclass(frozen=True, kw_only=True, eq=False)
class RandomOcclusion:
    """The probability of the reference class in randomly occluded images; made by `r_oms`."""

    baseline: Baseline
    """As it was used."""
    fractions: Float[Tensor, " samples"]
    """The share of pixels occluded in each sample: exact counts over the number of pixels."""
    probabilities: Float[Tensor, "batch samples"]
    """Softmax of the reference class."""

    @property
    def score(self) -> Float[Tensor, " batch"]:
        """The mean over the samples; **higher = more reliable**, by its authors."""
        return self.probabilities.mean(1)


def r_oms(
    score: Score | Callable[[Tensor], Tensor],
    inputs: Float[Tensor, "batch channel height width"],
    *,
    baseline: Baseline,
    samples: int = 20,
    cells: int = 8,
    seed: int = 0,
    fold: bool = True,
    micro_batch: int | None = None,
) -> RandomOcclusion:
    """R-OMS, the expected probability of the reference class for randomly occluded samples; higher = more reliable, by its authors.

    Read with care: it rewards a baseline that removes nothing. With x' = x it is p_c(x), the most it can usually be, and 1 - p_c, what a
    removal of information is measured by, is its opposite. So print both.

    The image is cut into cells x cells equal parts, where the authors occlude superpixels; as with theirs the number of occluded parts goes
    evenly from one up, here to all but one, and which ones they are is random. The samples are the same for all images.

    Args:
        score: Of a class, such as `cp.logit(classifier)`, which is the reference; its softmax probability is taken, whatever the score.
        inputs: Images with pixels in [0, 1]; never changed.
        baseline: What occluded pixels become.
        samples: Occluded versions of each image.
        cells: Parts along each side, from 2 to the number of pixels there.
        seed: Of the parts that are occluded.
        fold: Run on an equal, faster copy of the model where that pays; see `cp.metrics.curves`.
        micro_batch: Images that go through the model at once; by default chosen for the device, and halved when memory runs out.

    Raises:
        InputError: an argument of the wrong type or out of range, NaN, a score without a class, a baseline with several draws.
        ShapeError: inputs that are no images, or a baseline of another size.
        ModelError: the model does not return class scores.

    Reference: Bluecher, Vielhaben and Strodthoff 2024, arXiv:2401.06654; with square parts for superpixels.
    """
    (found,) = random_occlusions(
        score,
        inputs,
        baselines=[baseline],
        samples=samples,
        cells=cells,
        seed=seed,
        fold=fold,
        micro_batch=micro_batch,
    )
    return found


def random_occlusions(
    score: Score | Callable[[Tensor], Tensor],
    inputs: Float[Tensor, "batch channel height width"],
    *,
    baselines: Sequence[Baseline],
    samples: int = 20,
    cells: int = 8,
    seed: int = 0,
    fold: bool = True,
    micro_batch: int | None = None,
) -> tuple[RandomOcclusion, ...]:
    """`r_oms` under each baseline: the same numbers as one by one, the score settled and the model folded once.

    Args:
        baselines: What occluded pixels become, one after another.
        score, inputs, samples, cells, seed, fold, micro_batch: As in `r_oms`.

    Raises:
        InputError: as in `r_oms`; no baselines.
        ShapeError: as there.
        ModelError: as there.

    Reference: Bluecher, Vielhaben and Strodthoff 2024, arXiv:2401.06654.
    """
    check_batch("inputs", inputs)
    check_images("inputs", inputs)
    if isinstance(baselines, Baseline | str) or not isinstance(baselines, Sequence) or not baselines:
        raise InputError(f"baselines must be a list, such as [cp.baselines.Mean()], got {baselines!r}.")
    for baseline in baselines:
        check_baseline(baseline)
    check_range("samples", samples, 1)
    check_range("cells", cells, 2, min(inputs.shape[2:]))
    check_range("seed", seed, 0)
    bound, module = bound_to_module(score, inputs)
    classes = classes_of(bound)[0]
    if classes is None:
        raise InputError("score must be of a class, such as cp.logit(classifier), which is the reference.")
    inputs = inputs.detach()
    masks = _masks(samples, cells, (inputs.shape[2], inputs.shape[3]), seed).to(inputs.device)
    read = Readout(module=eager(module), layer=None, side="output", class_scores=True)
    if fold and len(baselines) * len(inputs) * samples >= FOLD_FROM:
        read = read.on_folded_copy(inputs)
    micro = MicroBatch.for_inputs(inputs) if micro_batch is None else MicroBatch(micro_batch)
    kind = torch.promote_types(inputs.dtype, torch.float32)
    results = []
    with left_as_found(module):
        for b, baseline in enumerate(baselines):
            replacement, found = Replacement.settled_for(baseline, bound, inputs), []
            for number, reference in enumerate(classes):
                with torch.inference_mode():
                    fill = replacement.of(inputs, torch.tensor([number], device=inputs.device))
                    occluded = partial(_occluded, replacement, inputs[number], fill, masks)
                    _, logits = read(samples, occluded, micro=micro)
                    found.append(logits.softmax(1)[:, reference])
                progress.advance(
                    b * len(classes) + number + 1, len(baselines) * len(classes), "random occlusion"
                )
            results.append(
                RandomOcclusion(
                    baseline=replacement.baseline,
                    fractions=masks.flatten(1).double().mean(1).to(kind),
                    probabilities=torch.stack(found).to(inputs.device, kind),
                )
            )
    return tuple(results)


def _masks(
    samples: int, cells: int, size: tuple[int, int], seed: int
) -> Bool[Tensor, "samples height width"]:
    """True where a sample is occluded."""
    # Drawn on the CPU: one seed means one set of masks on every device.
    order = torch.rand(samples, cells**2, generator=torch.Generator().manual_seed(seed)).argsort(1)
    counts = torch.linspace(1, cells**2 - 1, samples, dtype=torch.float64).round()
    occluded = (order < counts[:, None]).view(samples, cells, cells)
    rows, columns = (torch.arange(side) * cells // side for side in size)
    return occluded[:, rows][:, :, columns]


def _occluded(
    replacement: Replacement, image: Tensor, fill: Tensor | None, masks: Tensor, start: int, stop: int
) -> Float[Tensor, "rows channel height width"]:
    removed = masks[start:stop]
    images = image.expand(len(removed), *image.shape)
    if fill is None:
        return replacement.baseline.fill(images, removed)
    return fill.where(removed.unsqueeze(1), images)
