"""Images and what is removed of them: points of real deletion paths, on which a baseline has to serve."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

# Cells along each side of the smooth random field and of the blocks.
_FIELD, _BLOCKS = 7, 8


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
    image = torch.cat(
        [torch.randperm(len(saliency), generator=generator) for _ in range(-(-count // len(saliency)))]
    )[:count]
    orders = []
    for k, number in enumerate(image.tolist()):
        if k % 4 == 0:
            order = saliency[number].detach().cpu().double()
        elif k % 4 == 3:
            order = torch.rand(height, width, generator=generator).double()
        else:
            side, mode = (_FIELD, "bicubic") if k % 4 == 1 else (_BLOCKS, "nearest")
            field = torch.rand(1, 1, side, side, generator=generator).double()
            order = F.interpolate(field, size=(height, width), mode=mode)[0, 0]
        # Ties, within a block or a constant map, are broken at random.
        ties = torch.rand(height * width, generator=generator).argsort()
        ranks = order.flatten()[ties].argsort(descending=True, stable=True)
        rank = torch.empty_like(ties)
        rank[ties[ranks]] = torch.arange(height * width)
        orders.append(rank.view(height, width))
    shares = 1 - torch.rand(count, 1, 1, generator=generator).double()
    counts = (shares * height * width).round().clamp_min(1)
    return Pairs(image, torch.stack(orders) < counts)
