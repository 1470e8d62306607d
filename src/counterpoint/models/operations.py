"""Operations that have no weights, as modules: a hook sees each of them, and sees it once."""

import torch
from torch import Tensor, nn


class Add(nn.Module):
    """The sum of a residual block, as a module of its own."""

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """left + right."""
        return left + right


class Concatenate(nn.Module):
    """The channels of two branches one after the other, as a module of its own."""

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """(batch, a, height, width) and (batch, b, height, width) to (batch, a + b, height, width)."""
        return torch.cat([first, second], dim=1)
