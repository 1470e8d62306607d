"""Which pixel goes first: the order that a map gives to its pixels, ties broken by a seed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from counterpoint.attribution import Attribution
from counterpoint.checks import check_finite, shape_text
from counterpoint.errors import InputError, ShapeError, UnknownNameError

Order = Literal["signed", "absolute"]
"""By what pixels are put in order, largest first: the value as it is, or its absolute value."""
ORDERS: tuple[Order, ...] = ("signed", "absolute")


@dataclass(frozen=True, eq=False)
class Ordering:
    """The pixels of each map from most to least relevant."""

    rank: Int[Tensor, "maps *space"]
    """0 for the pixel that goes first, pixels - 1 for the last."""
    tied: Float[Tensor, " maps"]
    """The share of pixels whose value another pixel has too: for these the seed decides, not the map."""


def ordering(saliency: Float[Tensor, "maps *space"], *, order: Order, seed: int) -> Ordering:
    """Put the pixels of each map in order.

    Args:
        saliency: One number for each pixel, without NaN; larger goes first.
        order: "absolute" to look at the size alone.
        seed: Of the random order that breaks ties. It is one order for all maps, so that a map's own is the same alone or in company.
    """
    flat = saliency.flatten(1)
    if order == "absolute":
        flat = flat.abs()
    pixels = flat.shape[1]
    # Drawn on the CPU: one seed means one order on every device.
    shuffle = torch.randperm(pixels, generator=torch.Generator().manual_seed(seed)).to(flat.device)
    ordered, place = flat[:, shuffle].sort(dim=1, descending=True, stable=True)
    numbers = torch.arange(pixels, device=flat.device, dtype=torch.int32).expand(len(flat), -1)
    rank = torch.empty_like(numbers, memory_format=torch.contiguous_format)
    rank.scatter_(1, shuffle[place], numbers)
    same = ordered[:, 1:] == ordered[:, :-1]
    outside = same.new_zeros(len(flat), 1)
    tied = torch.cat([same, outside], 1) | torch.cat([outside, same], 1)
    share = tied.sum(1).to(torch.promote_types(saliency.dtype, torch.float32)) / pixels
    return Ordering(rank=rank.view(saliency.shape), tied=share)


def removed_counts(pixels: int, steps: int) -> list[int]:
    """How many pixels are removed at each of the steps + 1 points: round(k * pixels / steps), both ends included.

    Raises:
        InputError: not a whole number from 1 to the number of pixels.
    """
    if isinstance(steps, bool) or not isinstance(steps, int) or not 1 <= steps <= pixels:
        raise InputError(
            f"steps must be a whole number from 1 to {pixels}, the number of pixels, got {steps!r}."
        )
    return [round(k * pixels / steps) for k in range(steps + 1)]


def check_order(order: str, seed: int) -> None:
    """Raise unless `order` is known and `seed` a whole number that is not negative.

    Raises:
        UnknownNameError: no such order.
        InputError: no such seed.
    """
    if order not in ORDERS:
        raise UnknownNameError.among("order", str(order), ORDERS)
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise InputError(f"seed must be a whole number of at least 0, got {seed!r}.")


def check_saliency(
    name: str, saliency: Tensor | Attribution, inputs: Float[Tensor, "batch channel *space"]
) -> Float[Tensor, "batch *space"]:
    """The map as numbers, one for each pixel of the inputs.

    Args:
        name: What messages call it.
        saliency: (batch, height, width); of an Attribution its heat map, of signals and volumes its values at the input, channels summed.
        inputs: What it is a map of.

    Raises:
        InputError: neither a tensor nor an Attribution, or complex numbers.
        ShapeError: of another size than the inputs.
        NotFiniteError: NaN or infinity.
    """
    if isinstance(saliency, Attribution):
        saliency = _map_of(saliency, inputs)
    if not isinstance(saliency, Tensor) or saliency.is_complex():
        kind = saliency.dtype if isinstance(saliency, Tensor) else type(saliency).__name__
        raise InputError(
            f"{name} must be a tensor of real numbers (batch, height, width) or an Attribution, got {kind}."
        )
    expected = (inputs.shape[0], *inputs.shape[2:])
    if saliency.shape != expected:
        hint = "; sum its channels, or take their mean." if saliency.ndim == inputs.ndim else "."
        raise ShapeError(
            f"{name} must have one number for each pixel of inputs, {shape_text(expected)}, but is {shape_text(saliency)}{hint}"
        )
    saliency = saliency.detach().to(inputs.device)
    if not saliency.is_floating_point():  # a mask, or counts
        saliency = saliency.to(torch.float32)
    check_finite(name, saliency)
    return saliency


def check_saliencies(
    saliencies: Mapping[str, Tensor | Attribution], inputs: Float[Tensor, "batch channel *space"]
) -> dict[str, Float[Tensor, "batch *space"]]:
    """Every map as numbers, by its name; see `check_saliency` for what is raised.

    Raises:
        InputError: not a dictionary, an empty one, or names that are not text.
    """
    if not isinstance(saliencies, Mapping):
        raise InputError(f"saliencies must be a dictionary, name -> map, got {type(saliencies).__name__}.")
    if not saliencies:
        raise InputError("saliencies must hold at least one map, got an empty dictionary.")
    for name in saliencies:
        if not isinstance(name, str):
            raise InputError(f"saliencies must have text for names, got {name!r}.")
    return {name: check_saliency(f"saliency '{name}'", each, inputs) for name, each in saliencies.items()}


def _map_of(attribution: Attribution, inputs: Float[Tensor, "batch channel *space"]) -> Tensor:
    """One number for each place."""
    if inputs.ndim == 4:
        return attribution.heatmap()
    if attribution.values.shape != inputs.shape:
        raise ShapeError(
            f"signals and volumes have maps at the input only: values must be {shape_text(inputs)}, but those of layer "
            f"'{attribution.layer}' are {shape_text(attribution.values)}."
        )
    return attribution.values.to(attribution.result.dtype).sum(1)
