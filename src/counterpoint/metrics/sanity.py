"""Does a map depend on what it should? It must change with the weights of the model, and with the class that is asked for."""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from counterpoint import progress
from counterpoint.attribution import Attribution
from counterpoint.checks import check_batch, check_same_shape
from counterpoint.classifier import Classifier
from counterpoint.errors import InputError, ShapeError, UnknownNameError
from counterpoint.layers import find_layer, own_name, run_once, unwrapped
from counterpoint.metrics.maps import map_numbers
from counterpoint.metrics.pixel_sets import check_whole
from counterpoint.metrics.similarity import Similarity, map_similarity

Images = Float[Tensor, "batch *input"]

Cascade = Literal["top_down", "bottom_up", "independent", "together"]
"""Which layers are random at once: more and more of them from the last or from the first on, each one alone, or all at the first step."""
CASCADES: tuple[Cascade, ...] = ("top_down", "bottom_up", "independent", "together")

Randomisation = Literal["initialise", "shuffle"]
"""initialise draws a layer's weights as PyTorch does for a new one; shuffle puts its own numbers in a random order."""
RANDOMISATIONS: tuple[Randomisation, ...] = ("initialise", "shuffle")

_BINS = 100


@dataclass(frozen=True, kw_only=True, eq=False)
class RandomisedWeights:
    """How alike maps stay when weights become random. Lower is better: a map that stays the same does not depend on them."""

    layers: tuple[str, ...]
    """In the order in which they were randomised."""
    cascade: Cascade
    points: tuple[int, ...]
    """How many of `layers` had been randomised where the map was looked at: 1, 2, ..., unless `steps` asked for fewer looks."""
    similarity: Similarity
    """Of each image's map before and after, (points, batch)."""
    entropy: Float[Tensor, "looks batch"]
    """Entropy of the histogram of each map's values, 100 bins, in nats: at first, then at each point."""
    untouched: tuple[str, ...]
    """Names of the parameters that no randomised layer owns: they kept their values throughout."""

    @property
    def entropy_rise(self) -> Float[Tensor, " batch"]:
        """(last - first) / first of `entropy`, higher is better: the map of a model that knows nothing should be as complex as noise.

        NaN where each layer was randomised alone, since the last is then no random model, and where the first entropy is 0.

        Reference: Hedstroem et al. 2024, arXiv:2401.06465 (eMPRT).
        """
        first, last = self.entropy[0], self.entropy[-1]
        known = (first > 0) & (self.cascade != "independent")
        return ((last - first) / first).where(known, torch.nan)


@dataclass(frozen=True, kw_only=True, eq=False)
class RandomLogit:
    """How alike the maps of two classes are. Lower is better: a map that is the same for both does not explain a class."""

    other: Int[Tensor, " batch"]
    """The other class of each image."""
    similarity: Similarity
    """(batch,)."""


def randomised_weights(
    model: nn.Module | Classifier,
    explain: Callable[[nn.Module, Tensor], Tensor | Attribution],
    inputs: Images,
    *,
    cascade: Cascade = "top_down",
    how: Randomisation = "initialise",
    layers: Sequence[str] | None = None,
    steps: int | None = None,
    seed: int = 0,
) -> RandomisedWeights:
    """Randomise the weights of a copy of the model, layer after layer, and see whether the maps change; lower similarity is better.

    Args:
        model: A module or a Classifier; it is copied and never changed.
        explain: (module, images) -> their maps, (batch, height, width) or an Attribution. It gets the copy, and must settle the class
            itself: the "top1" of a random model is another class, which would change the map too.
        inputs: What is explained.
        cascade: "top_down" from the last layer on, each one staying random; "bottom_up" from the first; "independent" one alone; "together"
            all of them, for the price of two maps.
        how: "initialise" draws every layer anew that PyTorch can (`reset_parameters`; for batch norm its running means too); "shuffle"
            takes every layer with parameters of its own, and keeps their size.
        layers: Dotted names, in the order of randomisation; by default all, in the order in which they run.
        steps: How often the map is looked at, evenly spaced over the layers, the last time after all of them; by default after each.
        seed: Of the weights; each layer draws its own numbers, so that layers of one shape do not become equal.

    Returns:
        Similarities for each look and image; nothing is averaged. NaN where a map becomes constant, as that of a dead network does.

    Raises:
        InputError: an argument of the wrong type, a model that cannot be copied, a layer that cannot be randomised, or none at all.
        UnknownNameError: no such layer, cascade or way to randomise.
        ShapeError: `explain` does not return one map for each image, or maps of another size afterwards.
        NotFiniteError: NaN or infinity in the inputs or a map.

    Reference: Adebayo et al. 2018, arXiv:1810.03292 (model parameter randomisation test, MPRT).
    """
    module = model.module if isinstance(model, Classifier) else model
    if not isinstance(module, nn.Module):
        raise InputError(f"model must be a torch.nn.Module or a Classifier, got {type(model).__name__}.")
    if not callable(explain):
        raise InputError(
            f"explain must be a function (module, images) -> maps, got {type(explain).__name__}."
        )
    check_batch("inputs", inputs)
    check_whole("seed", seed, 0)
    if steps is not None:
        check_whole("steps", steps, 1)
    for name, value, known in (("cascade", cascade, CASCADES), ("way to randomise", how, RANDOMISATIONS)):
        if value not in known:
            raise UnknownNameError.among(name, str(value), known)
    inputs = inputs.detach()
    random = _copied(module)
    chosen = _in_running_order(random, inputs, how) if layers is None else _checked(random, layers, how)
    if cascade == "bottom_up" and layers is None:
        chosen.reverse()
    points = _points(len(chosen), 1 if cascade == "together" else steps)
    first = _maps(explain(random, inputs), len(inputs))
    found, entropies = [], [_histogram_entropy(first)]
    for position, name in enumerate(chosen):
        if cascade == "independent":
            random = _copied(module)
        _randomise(find_layer(random, name), how, seed + position)
        if position + 1 not in points:
            continue
        maps = _maps(explain(random, inputs), len(inputs))
        check_same_shape(f"map after randomising {name}", maps, "map before", first)
        found.append(map_similarity(first, maps))
        entropies.append(_histogram_entropy(maps))
        progress.advance(position + 1, len(chosen), "randomised_weights")
    kinds = ("spearman", "absolute_spearman", "ssim")
    return RandomisedWeights(
        layers=tuple(chosen),
        cascade=cascade,
        points=points,
        similarity=Similarity(
            **{kind: torch.stack([getattr(each, kind) for each in found]) for kind in kinds}
        ),
        entropy=torch.stack(entropies),
        untouched=_untouched(random, chosen),
    )


def random_logit(
    explain: Callable[[Tensor, Tensor], Tensor | Attribution],
    inputs: Images,
    target: int | Int[Tensor, " batch"],
    *,
    classes: int,
    seed: int = 0,
) -> RandomLogit:
    """Compare each image's map with that of another, random class; lower similarity is better.

    Args:
        explain: (images, classes (batch,)) -> their maps, (batch, height, width) or an Attribution.
        inputs: What is explained.
        target: The class of each image, or one for all.
        classes: How many classes there are.
        seed: Of the other class: one random distance from the target, the same for every image.

    Raises:
        InputError: an argument of the wrong type or out of range, or `explain` returns no maps.
        ShapeError: another number of targets or maps than of images.
        NotFiniteError: NaN or infinity in the inputs or a map.

    Reference: Sixt et al. 2020, arXiv:1912.09818.
    """
    if not callable(explain):
        raise InputError(
            f"explain must be a function (images, classes) -> maps, got {type(explain).__name__}."
        )
    check_batch("inputs", inputs)
    check_whole("classes", classes, 2)
    check_whole("seed", seed, 0)
    inputs = inputs.detach()
    if isinstance(target, Tensor) and (target.is_floating_point() or target.shape != inputs.shape[:1]):
        raise ShapeError(
            f"target must be one class, or whole numbers ({len(inputs)},), got {target.dtype} {tuple(target.shape)}."
        )
    own = torch.as_tensor(target, device=inputs.device).long().expand(len(inputs))
    if not ((own >= 0) & (own < classes)).all():
        raise InputError(f"target must be classes from 0 to {classes - 1}, got {own.tolist()}.")
    step = torch.randint(1, classes, (), generator=torch.Generator().manual_seed(seed))
    other = (own + int(step)) % classes
    maps = [_maps(explain(inputs, asked), len(inputs)) for asked in (own, other)]
    check_same_shape("map of the other class", maps[1], "map of the target", maps[0])
    return RandomLogit(other=other, similarity=map_similarity(*maps))


def _copied(module: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(module)
    except (RuntimeError, TypeError) as error:
        raise InputError(
            f"randomised_weights needs a copy of the model, which cannot be made: {error}"
        ) from error


def _maps(found: Tensor | Attribution, images: int) -> Float[Tensor, "batch height width"]:
    maps = map_numbers("the map that explain returned", found)
    if len(maps) != images:
        raise ShapeError(
            f"explain must return one map for each of {images} images, but returned {len(maps)}."
        )
    return maps


def _can_be_randomised(layer: nn.Module, how: Randomisation) -> bool:
    owns = any(parameter is not None for parameter in layer._parameters.values())
    return owns and (how == "shuffle" or callable(getattr(layer, "reset_parameters", None)))


def _points(layers: int, steps: int | None) -> tuple[int, ...]:
    """After how many layers the map is looked at."""
    looks = layers if steps is None else min(steps, layers)
    return tuple(sorted({max(1, round((k + 1) * layers / looks)) for k in range(looks)}))


def _in_running_order(module: nn.Module, inputs: Tensor, how: Randomisation) -> list[str]:
    """The layers that can be randomised, the last to run first; one that is never called counts as what it is a part of."""
    place = {seen.name: i for i, seen in enumerate(run_once(module, inputs[:1]))}

    def last_run(name: str) -> int:
        while name and name not in place:
            name = name.rpartition(".")[0]
        return place.get(name, len(place))

    inner = unwrapped(module)[1]
    names = [name for name, layer in inner.named_modules() if name and _can_be_randomised(layer, how)]
    if not names:
        raise InputError(f"this {type(inner).__name__} has no layer whose weights can be randomised.")
    # Stable: of layers at one place the one that was registered last goes first.
    return sorted(reversed(names), key=last_run, reverse=True)


def _checked(module: nn.Module, layers: Sequence[str], how: Randomisation) -> list[str]:
    if isinstance(layers, str) or not layers:
        raise InputError(f"layers must be a list of at least one name, got {layers!r}.")
    for name in layers:
        if not _can_be_randomised(find_layer(module, name), how):
            other = (
                ", or cannot be drawn anew; how='shuffle' only needs weights" if how == "initialise" else ""
            )
            raise InputError(f"layer '{name}' has no weights of its own{other}.")
    return [own_name(module, find_layer(module, name)) for name in layers]


def _randomise(layer: nn.Module, how: Randomisation, seed: int) -> None:
    """Give a layer of the copy other weights; the global generator is left as it was."""
    own = [parameter for parameter in layer._parameters.values() if parameter is not None]
    if how == "shuffle":
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in own:
                order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
                parameter.copy_(parameter.flatten()[order].view_as(parameter))
        return
    # Drawn on the CPU, so that one seed means one model on every device. PyTorch initialises from its global generator only.
    device = own[0].device
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        layer.to("cpu")
        layer.reset_parameters()  # type: ignore[operator]
        layer.to(device)


def _untouched(module: nn.Module, layers: Sequence[str]) -> tuple[str, ...]:
    random = {id(p) for name in layers for p in find_layer(module, name)._parameters.values()}
    named: Iterator[tuple[str, nn.Parameter]] = unwrapped(module)[1].named_parameters()
    return tuple(name for name, parameter in named if id(parameter) not in random)


def _histogram_entropy(maps: Float[Tensor, "batch height width"]) -> Float[Tensor, " batch"]:
    each = [scipy.stats.entropy(np.histogram(one.double().cpu().numpy(), bins=_BINS)[0]) for one in maps]
    return torch.tensor(each, dtype=torch.float64, device=maps.device)
