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


# Each kind with the layers that it can be cut at: the convolution, what follows it where that is a module run once, the last features.
CUTS = tuple(
    (kind, layer)
    for kind in SmallNet.KINDS
    for layer in ("stem", "activation", "last")
    if layer != "activation" or kind in ("plain", "inplace", "smooth")
)


def seeded_resnet18(seed: int) -> nn.Module:
    """torchvision's resnet18 for 10 classes, random weights of a common size, running means and biases that are not 0."""
    from torchvision.models import resnet18  # only the golden tests need torchvision

    with torch.random.fork_rng(
        devices=[]
    ):  # its own weights, which the global generator draws, are drawn anew below
        net = resnet18(weights=None, num_classes=10)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if name.endswith(("running_var", "num_batches_tracked")):
                continue
            noise = torch.randn(tensor.shape, generator=generator)
            if tensor.ndim > 1:
                tensor.copy_(noise * (2 / tensor[0].numel()) ** 0.5)
            else:
                is_scale = name.endswith("weight")
                tensor.copy_(is_scale + 0.1 * noise)
    return net.double().eval()


def linear_score(seed: int, shape: tuple[int, ...]):
    """A linear score and its weights."""
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (lambda x: (x * weight).flatten(1).sum(1)), weight


def random_images(seed: int, batch: int = 2, channels: int = 2, size: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, channels, size, size, generator=generator, dtype=torch.float64)
