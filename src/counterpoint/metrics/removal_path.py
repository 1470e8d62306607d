"""What a network sees along the way from an image to its baseline: features and class scores, from one forward of each point."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from counterpoint import progress
from counterpoint.attribution import Attribution
from counterpoint.batching import MicroBatch
from counterpoint.checks import check_batch, check_images
from counterpoint.errors import InputError, UnknownNameError
from counterpoint.layers import eager
from counterpoint.metrics.bank import Bank
from counterpoint.metrics.curve_table import KINDS, Kind
from counterpoint.metrics.curves import FOLD_FROM
from counterpoint.metrics.ordering import Order, check_order, check_saliency, ordering, removed_counts
from counterpoint.metrics.perturbation import Replacement
from counterpoint.metrics.readout import Readout
from counterpoint.protocols import Baseline, BoundScore, ModuleScore, Score
from counterpoint.scores import as_score
from counterpoint.state import left_as_found

# So many micro-batches are measured at once: their features and class scores are small beside the network.
_MEASURED = 32

Measure = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, ...]]
"""(features (rows, ...), class scores (rows, ...), image (rows,)) -> some numbers for each row, (rows,) each."""


@dataclass(frozen=True, kw_only=True)
class PathOptions:
    """Which points of a path are looked at, and how they are run."""

    steps: int = 20
    """Steps from one end to the other; the last of the steps + 1 points is left out."""
    include_last: bool = False
    """Whether the last point is looked at too."""
    kind: Kind = "deletion"
    """deletion: from the image, the most relevant pixels are removed first. insertion: from the baseline, they come back first."""
    order: Order = "signed"
    seed: int = 0
    clip: bool = False
    """Whether perturbed pixels are brought into the range of the image's own, as in the published code."""
    fold: bool = True
    micro_batch: int | None = None

    def __post_init__(self) -> None:
        check_order(self.order, self.seed)
        if self.kind not in KINDS:
            raise UnknownNameError.among("kind of path", str(self.kind), KINDS)
        if isinstance(self.steps, bool) or not isinstance(self.steps, int) or self.steps < 2:
            raise InputError(f"steps must be a whole number of at least 2, got {self.steps!r}.")


@dataclass(frozen=True, kw_only=True, eq=False)
class RemovalPath:
    """Paths of some images in the order of one map, ready to be measured under any baseline; made by `opened`."""

    options: PathOptions
    bound: ModuleScore
    read: Readout
    inputs: Float[Tensor, "batch channel height width"]
    rank: Int[Tensor, "batch height width"]
    tied: Float[Tensor, " batch"]
    """The share of pixels whose place in the order was drawn."""
    clean_features: Float[Tensor, "batch features"]
    clean_logits: Float[Tensor, "batch classes"]
    micro: MicroBatch

    @classmethod
    def opened(
        cls,
        score: Score | Callable[[Tensor], Tensor],
        inputs: Float[Tensor, "batch channel height width"],
        saliency: Tensor | Attribution,
        baselines: Sequence[Baseline],
        options: PathOptions,
        *,
        bank: Bank | None,
        class_scores: bool,
    ) -> "RemovalPath":
        """Check everything, put the pixels in order and run the network on the unperturbed images, once for all baselines.

        Args:
            score: Of a module.
            inputs: Images with pixels in [0, 1].
            saliency: (batch, height, width), larger is more relevant; or an Attribution, whose heat map is taken.
            baselines: Those that the paths will be measured under.
            options: Which points are looked at.
            bank: Says which layer's features are read; None for none.
            class_scores: Whether the module's output is read.

        Raises:
            InputError: an argument of the wrong type or out of range, NaN, a score that knows no module, or another model than the bank's.
            ShapeError: inputs that are no images, or a map of another size.
        """
        check_batch("inputs", inputs)
        check_images("inputs", inputs)
        for baseline in baselines:
            check_baseline(baseline)
        numbers = check_saliency("saliency", saliency, inputs)
        points = removed_counts(inputs[0, 0].numel(), options.steps)
        settled, module = bound_to_module(score, inputs)
        if bank is not None:
            bank.check_model(module)
        inputs = inputs.detach()
        read = Readout(
            module=eager(module),
            layer=None if bank is None else bank.layer,
            side="input" if bank is None else bank.side,
            class_scores=class_scores,
        )
        if options.fold and len(inputs) * len(baselines) * (len(points) - 2) >= FOLD_FROM:
            read = read.on_folded_copy(inputs)
        micro = (
            MicroBatch.for_inputs(inputs) if options.micro_batch is None else MicroBatch(options.micro_batch)
        )
        with left_as_found(module), torch.inference_mode():
            features, logits = read(len(inputs), lambda start, stop: inputs[start:stop], micro=micro)
        order = ordering(numbers, order=options.order, seed=options.seed)
        return cls(
            options=options,
            bound=settled,
            read=read,
            inputs=inputs,
            rank=order.rank,
            tied=order.tied,
            clean_features=features,
            clean_logits=logits,
            micro=micro,
        )

    def counts(self, baseline: Baseline) -> list[int]:
        """How many pixels are removed (deletion) or brought back (insertion) at each point looked at.

        A kind that only fills has no point at which nothing of the image is left.
        """
        pixels = self.rank[0].numel()
        counts = removed_counts(pixels, self.options.steps)
        if not self.options.include_last:
            counts = counts[:-1]
        return [count for count in counts if not (baseline.fill_only and self._removed(count) == pixels)]

    def fractions(self, baseline: Baseline) -> Float[Tensor, " points"]:
        """`counts` over the number of pixels."""
        exact = torch.tensor(self.counts(baseline), dtype=torch.float64) / self.rank[0].numel()
        return self.out(exact)

    def out(self, numbers: Tensor) -> Tensor:
        """Numbers as results hold them: on the device of the inputs, in their type, float32 at least."""
        return numbers.to(self.inputs.device, torch.promote_types(self.inputs.dtype, torch.float32))

    def measured(
        self, baselines: Sequence[Baseline], measure: Measure
    ) -> list[tuple[Baseline, tuple[Float[Tensor, "batch points"], ...]]]:
        """The numbers at every point under each baseline, and the baseline as it was used.

        Raises:
            ShapeError: a baseline of another shape than the inputs.
            ModelError: out of memory with a single image.
            Cancelled: the listener of the progress wants the work to stop.
        """
        replacements = [Replacement.settled_for(each, self.bound, self.inputs) for each in baselines]
        total, done, found = len(replacements), 0, []
        with left_as_found(self.bound.module):
            for replacement in replacements:
                with progress.stage(done, done + 1, total, "removal paths"):
                    found.append((replacement.baseline, self._under(replacement, measure)))
                done += 1
        return found

    def _under(self, replacement: Replacement, measure: Measure) -> tuple[Float[Tensor, "batch points"], ...]:
        """The numbers at every point under one baseline, in float64."""
        counts = self.counts(replacement.baseline)
        clean = [point for point, count in enumerate(counts) if self._removed(count) == 0]
        inner = [point for point in range(len(counts)) if point not in clean]
        size = math.ceil(_MEASURED * self.micro.rows / len(inner))
        everywhere = torch.arange(len(self.inputs))
        parts = []
        for images in torch.split(everywhere, size):
            with torch.inference_mode():
                fill = replacement.of(self.inputs, images.to(self.inputs.device))
                points = partial(self._points, replacement, fill, images, [counts[point] for point in inner])
                features, logits = self.read(len(images) * len(inner), points, micro=self.micro)
            numbers = measure(features, logits, images.repeat_interleave(len(inner)))
            parts.append(torch.stack([each.view(len(images), len(inner)) for each in numbers]))
            progress.advance(float(images[-1]) + 1, len(self.inputs), "removal paths")
        found = torch.cat(parts, 1)
        whole = found.new_empty(*found.shape[:2], len(counts))
        whole[..., inner] = found
        if clean:
            whole[..., clean] = torch.stack(measure(self.clean_features, self.clean_logits, everywhere))[
                ..., None
            ]
        return tuple(whole)

    def _points(
        self,
        replacement: Replacement,
        fill: Tensor | None,
        images: Int[Tensor, " images"],
        counts: list[int],
        start: int,
        stop: int,
    ) -> Float[Tensor, "rows channel height width"]:
        """Rows `start` to `stop` of a sequence with all points of the first image, then all of the next."""
        rows = torch.arange(start, stop)
        place = (rows // len(counts)).to(self.inputs.device)
        count = torch.tensor(counts)[rows % len(counts)].to(self.inputs.device)[:, None, None]
        image = images.to(self.inputs.device)[place]
        clean = self.inputs[image]
        removed = (self.rank[image] < count) == (self.options.kind == "deletion")
        if fill is None:
            points = replacement.baseline.fill(clean, removed)
        else:
            points = fill[place].where(removed.unsqueeze(1), clean)
        if self.options.clip:
            points = points.clamp(clean.amin((1, 2, 3), keepdim=True), clean.amax((1, 2, 3), keepdim=True))
        return points

    def _removed(self, count: int) -> int:
        return count if self.options.kind == "deletion" else self.rank[0].numel() - count


def check_baseline(baseline: object) -> None:
    """Raise InputError unless it is a baseline of one draw."""
    if not isinstance(baseline, Baseline) or isinstance(baseline, type):
        raise InputError(
            f"baseline must be one of cp.baselines, such as cp.baselines.Blur(sigma=10), got {baseline!r}."
        )
    if baseline.draws > 1:
        raise InputError(
            f"a path has one image to go to, but {baseline!r} has {baseline.draws} draws; give one draw, and another seed for another one."
        )


def bound_to_module(
    score: Score | Callable[[Tensor], Tensor], inputs: Float[Tensor, "batch channel height width"]
) -> tuple[ModuleScore, nn.Module]:
    """The score settled at the inputs, and the module that it reads.

    Raises:
        InputError: it knows no module.
    """
    bound: BoundScore = as_score(score).bind(inputs)
    if not isinstance(bound, ModuleScore):
        raise InputError(
            "score must be of a module whose features and class scores can be read, such as cp.logit(module); got a callable."
        )
    return bound, bound.module
