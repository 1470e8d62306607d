"""The length of a step by backtracking, for each image its own."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

Losses = Callable[[Tensor, Tensor], Tensor]
"""Masks (images, *mask), and which of the batch they belong to -> (images,) their losses."""


def backtracked(
    losses: Losses,
    masks: Float[Tensor, "batch *mask"],
    gradients: Float[Tensor, "batch *mask"],
    here: Float[Tensor, " batch"],
    *,
    first: float,
    decay: float = 0.2,
    enough: float = 1e-4,
    least: float = 1e-5,
) -> tuple[Float[Tensor, "batch *mask"], Float[Tensor, " batch"]]:
    """The masks one step further down, cut to [0, 1], and the lengths of the steps; 0 where none was good enough.

    A length a is taken if loss(mask - a gradient) <= loss(mask) - enough * a * |gradient|^2; if not, a becomes decay * a. Only images that
    have found none yet are tried again.

    Args:
        losses: What is minimised.
        masks: Where the steps begin.
        gradients: Of the losses there.
        here: The losses there.
        first: The first length tried.
        decay: From one length to the next.
        enough: How much of the drop that the gradient promises must come.
        least: No length below this is tried.

    Reference: Armijo 1966; settings as in Khorram et al. 2021, arXiv:2012.15783.
    """
    promised = gradients.flatten(1).square().sum(1)
    found, lengths = masks.clone(), torch.zeros_like(here)
    # A gradient of 0 promises nothing, and any length would do.
    left: Int[Tensor, " left"] = (promised > 0).nonzero().flatten()
    length = first
    while len(left) and length >= least:
        tried = (masks[left] - length * gradients[left]).clamp(0, 1)
        good = losses(tried, left) <= here[left] - enough * length * promised[left]
        found[left[good]], lengths[left[good]] = tried[good], length
        left, length = left[~good], length * decay
    return found, lengths
