"""Activation deviation: do perturbed images run on the activations of the original one, or on others?"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from counterpoint import progress
from counterpoint.activations import Layers, Pathway, Watch
from counterpoint.activations.operations import at_least_float32
from counterpoint.attribution import Attribution
from counterpoint.batching import in_micro_batches
from counterpoint.errors import ModelError
from counterpoint.metrics.curve_table import Kind
from counterpoint.metrics.deviation import ActivationDeviation, Deviations
from counterpoint.metrics.nested import MasksOfOneImage, NestedMasks
from counterpoint.metrics.ordering import Order
from counterpoint.protocols import Baseline, Score
from counterpoint.state import left_as_found

FRACTIONS = (0.1, 0.3, 0.5, 0.7, 0.9)


def activation_deviation(
    score: Score | Callable[[Tensor], Tensor],
    inputs: Float[Tensor, "batch channel height width"],
    saliency: Tensor | Attribution,
    *,
    baseline: Baseline,
    layers: Layers = None,
    fractions: Sequence[float] = FRACTIONS,
    kinds: Sequence[Kind] = ("insertion", "deletion"),
    floor: int = 2,
    order: Order = "signed",
    seed: int = 0,
    micro_batch: int | None = None,
) -> ActivationDeviation:
    """How far activations leave those of the original image while pixels are inserted, or deleted, in the order of a map.

    A high insertion curve can be had by an image that the network reads with other units than it does the original. Activations are those
    with 0 at 0: ReLU and its kin, GELU, SiLU, Hardswish, as modules or functions; what is looked at is their output, which is what the next
    operation is given. Each image costs one gradient and 2 + kinds * (1 + floor) * fractions forwards, and one more that settles its class;
    a baseline that only fills has one less. What the preparation of a baseline costs is not counted. Images are taken one by one, and of
    perturbed images only sums are kept: memory holds the activations of one image four times, and those of a micro-batch.

    Args:
        score: Of a module, such as `cp.probability(classifier)`.
        inputs: Images with pixels in [0, 1]; never changed.
        saliency: (batch, height, width), larger is more relevant; or an Attribution, whose heat map is taken.
        baseline: What removed pixels become.
        layers: Which activations: None for all; a list of names, of modules or of single activations; or how many of the last.
        fractions: Shares of the pixels, rising, above 0 and below 1.
        kinds: "insertion": that share of the most relevant pixels is the image's, the others the baseline's. "deletion": the reverse.
        floor: How many random nested masks of the same areas to measure beside; their fields are noise, blurred by a sixteenth of the
            shorter side, the same for every image.
        order: Put pixels in order by their value, "signed", or by its size, "absolute".
        seed: Of the random order among pixels of equal value, and of the random masks.
        micro_batch: Images that go through the model at once; by default chosen for the device, and halved when memory runs out.

    Raises:
        InputError: an argument of the wrong type or out of range, NaN, a score that knows no module, a model without activations, or a
            baseline of several draws.
        ShapeError: inputs that are no images, or a map or a baseline of another size.
        UnknownNameError: an unknown layer, order or kind.
        LayerError: a layer in which no activation runs.
        ModelError: a part of the model is compiled or scripted; its way depends on the numbers; or its score has no gradient.

    Reference: Zhang and McMillan 2025, arXiv:2509.04588, name the measure without a public definition: total and excess are our
    reconstruction, the others our own.
    """
    masks = NestedMasks.opened(
        score,
        inputs,
        saliency,
        baseline=baseline,
        fractions=fractions,
        kinds=kinds,
        floor=floor,
        order=order,
        seed=seed,
        micro_batch=micro_batch,
    )
    batch, found = len(inputs), []
    names: tuple[str, ...] = ()
    with left_as_found(masks.bound.module):
        for image in range(batch):
            of_image = masks.of(image)
            with progress.stage(image, image + 1, batch, "activation deviation"):
                names, numbers = _of_one_image(of_image, layers)
            found.append(numbers.to(masks.numbers))
    # (measures, kinds, orders, batch, layers, fractions)
    every = torch.stack(found).permute(5, 1, 2, 0, 4, 3)
    paths, floors = {}, {}
    for k, kind in enumerate(masks.kinds):
        each = [_deviations(every[:, k, which]) for which in range(every.shape[2])]
        paths[kind], floors[kind] = each[0], tuple(each[1:])
    forwards = (
        masks.settling_forwards + 2 - masks.replacement.baseline.fill_only + every[0, :, :, 0, 0].numel()
    )
    return ActivationDeviation(
        baseline=masks.replacement.baseline,
        layers=names,
        fractions=masks.fractions,
        paths=paths,
        floors=floors,
        tied=masks.tied.to(masks.numbers),
        forward_evaluations=torch.full((batch,), forwards),
        gradient_evaluations=torch.ones(batch, dtype=torch.int64),
    )


def _deviations(numbers: Float[Tensor, "measures batch layers fractions"]) -> Deviations:
    total, excess, seams, disinhibition = numbers
    return Deviations(total=total, excess=excess, seams=seams, disinhibition=disinhibition)


def _of_one_image(
    masks: MasksOfOneImage, layers: Layers
) -> tuple[tuple[str, ...], Float[Tensor, "kinds orders fractions layers 4"]]:
    """The names of the activations, and the four numbers of each perturbed image and activation."""
    _, original = masks.scored_pathway(masks.clean, layers)
    yardsticks = _yardsticks(masks, original, layers)
    rows, done = masks.rows, 0

    def measured(some: Tensor) -> tuple[Tensor]:
        nonlocal done
        numbers: list[Tensor] = []

        def look(watch: Watch, place: int, output: Tensor) -> None:
            numbers.append(yardsticks[place].measured(watch.by_rows(output).flatten(1)))

        with torch.no_grad(), Watch(original, torch.zeros_like(some), look):
            masks.score(masks.points(some))
        done += len(some)
        progress.advance(done, len(rows))
        return (torch.stack(numbers, 1),)

    (found,) = in_micro_batches(measured, rows, micro=masks.whole.micro)
    return original.names, torch.unflatten(found, 0, masks.shape)


def _yardsticks(masks: MasksOfOneImage, original: Pathway, layers: Layers) -> "dict[int, _Yardstick]":
    """What each chosen activation is measured with."""
    gradients = _gradients(masks, original)
    other = None if masks.fill is None else masks.scored_pathway(masks.fill, layers)[1].values
    found = {}
    for place, value in original.values.items():
        gradient = gradients.pop(place, None)
        found[place] = _Yardstick.of(
            value[0].flatten(),
            None if other is None else other[place][0].flatten(),
            torch.zeros_like(value).flatten() if gradient is None else gradient.flatten(),
        )
    return found


@dataclass(frozen=True, kw_only=True, eq=False)
class _Yardstick:
    """One activation at the original image, and all that deviations from it are divided by."""

    here: Float[Tensor, " units"]
    """h(x)."""
    most: Float[Tensor, " units"] | None
    """max(0, h(x), h(b)); None without a baseline image."""
    least: Float[Tensor, " units"] | None
    """min(0, h(x), h(b)); None without a baseline image."""
    against: Float[Tensor, " units"]
    """max(0, -g): how much each unit speaks against the class."""
    divisors: Float[Tensor, "4"]

    @classmethod
    def of(
        cls,
        here: Float[Tensor, " units"],
        other: Float[Tensor, " units"] | None,
        gradient: Float[Tensor, " units"],
    ) -> "_Yardstick":
        exact = at_least_float32(here)
        here, gradient = here.to(exact), gradient.to(exact)
        size = here.abs().sum()
        divisors = torch.stack([here.norm(), size, size, (gradient * here).abs().sum()])
        most = least = None
        if other is not None:
            most = torch.maximum(here, other.to(exact)).clamp_(min=0)
            least = torch.minimum(here, other.to(exact)).clamp_(max=0)
        return cls(
            here=here,
            most=most,
            least=least,
            against=(-gradient).clamp_(min=0),
            divisors=divisors.where(divisors > 0, torch.nan),
        )

    def measured(self, perturbed: Float[Tensor, "rows units"]) -> Float[Tensor, "rows 4"]:
        """total, excess, seams and disinhibition of each row."""
        perturbed = perturbed.to(self.here.dtype)
        missing = self.here - perturbed
        total = torch.linalg.vector_norm(missing, dim=1)
        disinhibition = missing.clamp_(min=0) @ self.against
        excess = _outside(perturbed, self.here.clamp(max=0), self.here.clamp(min=0))
        seams = torch.full_like(excess, torch.nan)
        if self.most is not None and self.least is not None:
            seams = _outside(perturbed, self.least, self.most)
        return torch.stack([total, excess, seams, disinhibition], 1) / self.divisors


def _outside(
    units: Float[Tensor, "rows units"], low: Float[Tensor, " units"], high: Float[Tensor, " units"]
) -> Float[Tensor, " rows"]:
    """The sum of what lies above `high` and below `low`."""
    return (units - high).clamp_(min=0).sum(1) + (low - units).clamp_(min=0).sum(1)


def _gradients(masks: MasksOfOneImage, original: Pathway) -> dict[int, Tensor]:
    """The gradient of the score with respect to each activation's output, at the image; none for those that it does not depend on."""
    found: dict[int, Tensor] = {}

    def look(watch: Watch, place: int, output: Tensor) -> None:
        if output.requires_grad:
            # A hook, as the network may overwrite the output: it is given the gradient of what the output is now.
            output.register_hook(lambda gradient: found.update({place: gradient.detach()}))  # type: ignore[no-untyped-call]

    with torch.inference_mode(False), torch.enable_grad():
        point = masks.clean.clone().requires_grad_()
        with Watch(original, masks.place.new_zeros(1), look):
            score = masks.score(point)
        if not score.requires_grad:
            raise ModelError(
                "the score has no gradient: it does not depend on its input, or the model computes under torch.no_grad()."
            )
        torch.autograd.grad(score.sum(), point)
    return found
