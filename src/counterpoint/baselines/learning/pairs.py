"""Images and what is removed of them: points of real deletion paths, on which a baseline has to serve."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

# Cells along each side of the smooth random field and of the blocks.
_FIELD, _BLOCKS = 7, 8
# The share of an order that counts as what matters least.
_LEAST = 0.7


@dataclass(frozen=True, eq=False)
class Pairs:
    """Which image, and which of its pixels are removed."""

    image: Int[Tensor, " pairs"]
    removed: Bool[Tensor, "pairs height width"]

    def __len__(self) -> int:
        return len(self.image)

    def __getitem__(self, some: Int[Tensor, " some"] | slice) -> "Pairs":
        return Pairs(self.image[some], self.removed[some])


def draw_pairs(
    saliency: Float[Tensor, "images height width"], count: int, generator: torch.Generator
) -> Pairs:
    """Random points of deletion paths: the top share p of an order, p ~ U(0, 1].

    The order is in turn that of the map of the image, that of a smooth random field, that of random blocks and that of single pixels, so
    that a baseline is fitted to no single kind of mask.

    Args:
        saliency: Larger goes first.
        count: How many; every image comes equally often, to one.
        generator: Of the CPU.

    Reference: our own definition.
    """
    height, width = saliency.shape[1:]
    image = _in_turn(len(saliency), count, generator)
    ranks = []
    for k, number in enumerate(image.tolist()):
        if k % 4 == 0:
            order = saliency[number].detach().cpu().double()
        elif k % 4 == 3:
            order = torch.rand(height, width, generator=generator).double()
        elif k % 4 == 1:
            order = _field(_FIELD, "bicubic", (height, width), generator)
        else:
            order = _field(_BLOCKS, "nearest", (height, width), generator)
        ranks.append(_ranked(order, generator))
    return _cut(image, ranks, height * width, generator)


def draw_spared(
    saliency: Float[Tensor, "images height width"], count: int, generator: torch.Generator
) -> Pairs:
    """Where only goes what matters least: of the lower seven tenths of a map a share p ~ U(0, 1], in turn from below and by random blocks.

    Args:
        saliency: Larger matters more.
        count: How many; every image comes equally often, to one.
        generator: Of the CPU.

    Reference: our own definition.
    """
    height, width = saliency.shape[1:]
    image = _in_turn(len(saliency), count, generator)
    least = round(_LEAST * height * width)
    ranks = []
    for k, number in enumerate(image.tolist()):
        rank = _ranked(-saliency[number].detach().cpu().double(), generator)
        if k % 2:
            blocks = _field(_BLOCKS, "nearest", (height, width), generator)
            rank = _ranked(torch.where(rank < least, blocks, -1), generator)
        ranks.append(rank)
    return _cut(image, ranks, least, generator)


def _cut(
    image: Int[Tensor, " pairs"],
    ranks: list[Int[Tensor, "height width"]],
    pixels: int,
    generator: torch.Generator,
) -> Pairs:
    """Each order cut off after a random share of so many pixels, in (0, 1], at least one of them."""
    shares = 1 - torch.rand(len(image), 1, 1, generator=generator).double()
    return Pairs(image, torch.stack(ranks) < (shares * pixels).round().clamp_min(1))


def _in_turn(images: int, count: int, generator: torch.Generator) -> Int[Tensor, " count"]:
    """Numbers of images, each equally often, to one."""
    rounds = [torch.randperm(images, generator=generator) for _ in range(-(-count // images))]
    return torch.cat(rounds)[:count]


def _field(
    side: int, mode: str, size: tuple[int, int], generator: torch.Generator
) -> Float[Tensor, "height width"]:
    """Random numbers on a grid, brought to a size."""
    field = torch.rand(1, 1, side, side, generator=generator).double()
    return F.interpolate(field, size=size, mode=mode)[0, 0]


def _ranked(order: Float[Tensor, "height width"], generator: torch.Generator) -> Int[Tensor, "height width"]:
    """The rank of each pixel, the largest 0; ties, within a block or a constant map, are broken at random."""
    ties = torch.rand(order.numel(), generator=generator).argsort()
    ranks = order.flatten()[ties].argsort(descending=True, stable=True)
    rank = torch.empty_like(ties)
    rank[ties[ranks]] = torch.arange(order.numel())
    return rank.view(order.shape)
