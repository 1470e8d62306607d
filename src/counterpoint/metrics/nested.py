"""Perturbed images along nested masks: those of a map, and random ones of the same areas as a floor."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from counterpoint.activations import Layers, Pathway, Under
from counterpoint.attribution import Attribution
from counterpoint.batching import MicroBatch
from counterpoint.checks import check_batch, check_images
from counterpoint.errors import InputError
from counterpoint.layers import eager
from counterpoint.metrics.curve_table import Kind, check_kinds
from counterpoint.metrics.ordering import Order, check_order, check_saliency, ordering
from counterpoint.metrics.perturbation import Replacement
from counterpoint.metrics.removal_path import bound_to_module, check_baseline
from counterpoint.protocols import Baseline, ModuleScore, Score

# Standard deviation of the blur that makes random masks smooth, as a share of the shorter side: 14 pixels of 224.
SMOOTHNESS = 1 / 16


@dataclass(frozen=True, kw_only=True, eq=False)
class NestedMasks:
    """Images whose most relevant pixels are kept or removed, for some shares of the pixels; made by `opened`."""

    bound: ModuleScore
    """On the model without `torch.compile` around it, whose activations can be seen."""
    inputs: Float[Tensor, "batch channel height width"]
    replacement: Replacement
    rank: Int[Tensor, "batch height width"]
    tied: Float[Tensor, " batch"]
    """The share of pixels whose place in the order was drawn."""
    random_rank: Int[Tensor, "masks height width"]
    """Of smooth random fields, the same for every image."""
    counts: tuple[int, ...]
    """How many pixels are kept (insertion) or removed (deletion)."""
    kinds: tuple[Kind, ...]
    micro: MicroBatch

    @classmethod
    def opened(
        cls,
        score: Score | Callable[[Tensor], Tensor],
        inputs: Float[Tensor, "batch channel height width"],
        saliency: Tensor | Attribution,
        *,
        baseline: Baseline,
        fractions: Sequence[float],
        kinds: Sequence[Kind],
        floor: int,
        order: Order,
        seed: int,
        micro_batch: int | None,
    ) -> "NestedMasks":
        """Check everything, settle score and baseline, put the pixels in order.

        Raises:
            InputError: an argument of the wrong type or out of range, NaN, a score that knows no module, a baseline of several draws.
            ShapeError: inputs that are no images, or a map or a baseline of another size.
            UnknownNameError: an unknown order or kind.
        """
        check_batch("inputs", inputs)
        check_images("inputs", inputs)
        check_baseline(baseline)
        check_order(order, seed)
        counts = _checked_counts(fractions, inputs[0, 0].numel())
        chosen = check_kinds(kinds, of="path")
        if isinstance(floor, bool) or not isinstance(floor, int) or floor < 0:
            raise InputError(
                f"floor must be how many random masks to compare with, 0 or more, got {floor!r}."
            )
        numbers = check_saliency("saliency", saliency, inputs)
        micro = MicroBatch.for_inputs(inputs) if micro_batch is None else MicroBatch(micro_batch)
        bound, module = bound_to_module(score, inputs)
        inputs = inputs.detach()
        found = ordering(numbers, order=order, seed=seed)
        fields = smooth_fields(floor, inputs.shape[2], inputs.shape[3], seed).to(inputs.device)
        return cls(
            bound=bound.on(eager(module)),
            inputs=inputs,
            replacement=Replacement.settled_for(baseline, bound, inputs),
            rank=found.rank,
            tied=found.tied,
            random_rank=ordering(fields, order="signed", seed=seed).rank,
            counts=counts,
            kinds=chosen,
            micro=micro,
        )

    @property
    def numbers(self) -> torch.dtype:
        """The type of results: that of the inputs, float32 at least."""
        return torch.promote_types(self.inputs.dtype, torch.float32)

    @property
    def fractions(self) -> Float[Tensor, " fractions"]:
        """`counts` over the number of pixels."""
        counts = torch.tensor(self.counts, dtype=self.numbers, device=self.inputs.device)
        return counts / self.rank[0].numel()

    @property
    def settling_forwards(self) -> int:
        """Forwards of each image that settled the classes."""
        return int(hasattr(self.bound, "at_inputs"))

    def of(self, image: int) -> "MasksOfOneImage":
        """All masks of one image."""
        place = torch.tensor([image], device=self.inputs.device)
        with torch.no_grad():
            fill = self.replacement.of(self.inputs, place)
        return MasksOfOneImage(
            whole=self,
            place=place,
            clean=self.inputs[place],
            fill=fill,
            rank=torch.cat([self.rank[place], self.random_rank]),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class MasksOfOneImage:
    """The perturbed images of one image: for each kind, the map and each random field, and each fraction."""

    whole: NestedMasks
    place: Int[Tensor, "1"]
    """Which image of the batch."""
    clean: Float[Tensor, "1 channel height width"]
    fill: Float[Tensor, "1 channel height width"] | None
    """The image's baseline; None for a kind that only fills."""
    rank: Int[Tensor, "orders height width"]
    """The map's order first, then those of the random fields."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """How many kinds, orders and fractions there are."""
        return len(self.whole.kinds), len(self.rank), len(self.whole.counts)

    @property
    def rows(self) -> Int[Tensor, " rows"]:
        """The numbers of all perturbed images, in the order of `shape`."""
        kinds, orders, fractions = self.shape
        return torch.arange(kinds * orders * fractions, device=self.clean.device)

    def points(self, rows: Int[Tensor, " rows"]) -> Float[Tensor, "rows channel height width"]:
        """The perturbed images of these numbers."""
        kind, order, fraction = torch.unravel_index(rows, self.shape)
        count = torch.tensor(self.whole.counts, device=rows.device)[fraction][:, None, None]
        deletes = torch.tensor([each == "deletion" for each in self.whole.kinds], device=rows.device)
        removed = (self.rank[order] < count) == deletes[kind][:, None, None]
        if self.fill is not None:
            return self.fill.where(removed.unsqueeze(1), self.clean)
        clean = self.clean.expand(len(rows), -1, -1, -1)
        return self.whole.replacement.baseline.fill(clean, removed)

    def score(self, points: Float[Tensor, "rows channel height width"]) -> Float[Tensor, " rows"]:
        """The score of perturbed images of this image."""
        return self.whole.bound(points, self.place.expand(len(points)))

    def scored_pathway(
        self, points: Float[Tensor, "1 channel height width"], layers: Layers
    ) -> tuple[Float[Tensor, "1"], Pathway]:
        """The score of one image, and the outputs of its activations, as image 0 of a pathway; see `Pathway.recorded`."""
        scores: list[Tensor] = []

        def run(under: Under) -> None:
            with torch.no_grad(), under(self.place.new_zeros(1)):
                scores.append(self.score(points))

        pathway = Pathway.recorded(run, self.whole.bound.module, layers=layers, reading="output")
        return scores[0], pathway


def smooth_fields(count: int, height: int, width: int, seed: int) -> Float[Tensor, "count height width"]:
    """White noise under a Gaussian blur that goes round the edges; float64, on the CPU.

    Its standard deviation is SMOOTHNESS of the shorter side. The fields of a seed are the first of those of the same seed and more.
    """
    generator = torch.Generator().manual_seed(seed)
    # One by one, so that the first field is the same whatever their number.
    noise = [torch.randn(height, width, generator=generator, dtype=torch.float64) for _ in range(count)]
    if not noise:
        return torch.empty(0, height, width, dtype=torch.float64)
    sigma = SMOOTHNESS * min(height, width)
    frequencies = (torch.fft.fftfreq(height)[:, None] ** 2 + torch.fft.rfftfreq(width) ** 2).double()
    passed = torch.exp(-2 * (torch.pi * sigma) ** 2 * frequencies)
    smooth: Tensor = torch.fft.irfft2(torch.fft.rfft2(torch.stack(noise)) * passed, s=(height, width))
    return smooth


def _checked_counts(fractions: Sequence[float], pixels: int) -> tuple[int, ...]:
    """The number of pixels of each fraction."""
    try:
        wanted = [float(fraction) for fraction in fractions]
    except (TypeError, ValueError):
        raise InputError(f"fractions must be a list of numbers between 0 and 1, got {fractions!r}.") from None
    if not wanted or not all(0 < fraction < 1 for fraction in wanted):
        raise InputError(
            f"fractions must be numbers above 0 and below 1, at least one, got {wanted}: at 0 and at 1 all methods have one image."
        )
    counts = [round(fraction * pixels) for fraction in wanted]
    if not all(low < high for low, high in zip([0, *counts], [*counts, pixels], strict=True)):
        raise InputError(
            f"fractions must rise, and differ by a pixel at least from each other, 0 and 1, but of {pixels} pixels {wanted} are {counts}."
        )
    return tuple(counts)
