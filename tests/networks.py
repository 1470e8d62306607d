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


class TinyViT(nn.Module):
    """A vision transformer of two blocks for 2 x 6 x 6 pixels: 9 patches and a class token, or without one and with the mean over patches.

    `attention` says how its attention is written: "fused" (one function), "written" (a softmax between two products), "multi_head"
    (`nn.MultiheadAttention`). With one seed all three have the same weights.
    """

    ATTENTION = ("fused", "written", "multi_head")

    def __init__(
        self,
        seed: int,
        attention: str = "fused",
        *,
        class_token: bool = True,
        width: int = 8,
        classes: int = 3,
    ) -> None:
        super().__init__()
        self.patches = nn.Conv2d(2, width, 2, 2)
        self.class_token = nn.Parameter(torch.zeros(1, 1, width)) if class_token else None
        self.position = nn.Parameter(torch.zeros(1, 9 + class_token, width))
        self.blocks = nn.Sequential(*(TinyBlock(width, attention) for _ in range(2)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, parameter in sorted(self.named_parameters()):
                noise = torch.randn(parameter.shape, generator=generator) * 0.5
                parameter.copy_(1 + 0.2 * noise if "norm" in name and "weight" in name else noise)
        self.double().eval()

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        if self.class_token is not None:
            tokens = torch.cat([self.class_token.expand(len(x), -1, -1), tokens], 1)
        tokens = self.norm(self.blocks(tokens + self.position))
        return self.head(tokens.mean(1) if self.class_token is None else tokens[:, 0])


class TinyBlock(nn.Module):
    """Attention of two heads and two linear layers, each after a norm and beside a shortcut."""

    def __init__(self, width: int, attention: str) -> None:
        super().__init__()
        self.kind = attention
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, 2, batch_first=True)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.attend(self.norm1(tokens))
        return tokens + self.down(F.gelu(self.up(self.norm2(tokens))))

    def attend(self, x: Tensor) -> Tensor:
        own = self.attention
        if self.kind == "multi_head":
            return own(x, x, x, need_weights=False)[0]
        # (rows, tokens, 3 * heads * part) to 3 times (rows, heads, tokens, part)
        query, key, value = (
            part.unflatten(2, (2, -1)).transpose(1, 2)
            for part in F.linear(x, own.in_proj_weight, own.in_proj_bias).chunk(3, 2)
        )
        if self.kind == "fused":
            out = F.scaled_dot_product_attention(query, key, value)
        else:
            out = (query @ key.transpose(2, 3) / query.shape[3] ** 0.5).softmax(-1) @ value
        return own.out_proj(out.transpose(1, 2).flatten(2))


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
