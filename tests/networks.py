"""Small random networks in float64 that tests explain: residuals, in-place and reused activations, functional code."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SmallNet(nn.Module):
    """Two convolutions with a residual sum, in the style that `kind` names; layers `stem`, `body`, `last` are real cuts."""

    KINDS = ("plain", "inplace", "reused", "functional", "smooth")

    def __init__(self, seed: int, kind: str = "plain", channels: int = 2, classes: int = 3) -> None:
        super().__init__()
        self.kind = kind
        self.stem = nn.Conv2d(channels, 4, 3, padding=1)
        self.body = nn.Conv2d(4, 4, 3, padding=1)
        self.activation = nn.GELU() if kind == "smooth" else nn.ReLU(inplace=kind == "inplace")
        self.other = self.activation if kind == "reused" else nn.ReLU()
        self.last = nn.Identity()
        self.head = nn.Linear(4, classes)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.6)
        self.double().eval()

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x)
        h = F.relu(h) if self.kind == "functional" else self.activation(h)
        h = self.last(self.other(self.body(h)) + h)
        return self.head(h.mean((2, 3)))


def linear_score(seed: int, shape: tuple[int, ...]):
    """A linear score and its weights."""
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (lambda x: (x * weight).flatten(1).sum(1)), weight


def random_images(seed: int, batch: int = 2, channels: int = 2, size: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, channels, size, size, generator=generator, dtype=torch.float64)
