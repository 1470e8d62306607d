"""Three small networks of the common kinds, one module per operation, nothing in place, nothing used twice.

All take normalised images (batch, 3, 64, 64) and return the scores before softmax, (batch, classes).

Reference: He et al. 2016, arXiv:1512.03385 (ResNet); Simonyan and Zisserman 2015, arXiv:1409.1556 (VGG); Dosovitskiy et al. 2021,
arXiv:2010.11929 (ViT); each far smaller than published.
"""

import math
from collections import OrderedDict

import torch
from torch import Tensor, nn

SIZE = 64
"""Side of the images that the networks were trained on; the VGG and the ViT take no other."""


class Add(nn.Module):
    """The sum of a residual block, as a module of its own."""

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """left + right."""
        return left + right


class ResidualBlock(nn.Module):
    """Two convolutions with batch norm beside a shortcut, which is a 1 x 1 convolution where the shapes differ."""

    def __init__(self, inputs: int, outputs: int, *, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                OrderedDict(
                    conv=nn.Conv2d(inputs, outputs, 1, stride, bias=False), norm=nn.BatchNorm2d(outputs)
                )
            )
        self.add = Add()
        self.relu2 = nn.ReLU()

    def forward(self, image: Tensor) -> Tensor:
        """(batch, inputs, height, width) to (batch, outputs, height / stride, width / stride)."""
        inner = self.norm2(self.conv2(self.relu1(self.norm1(self.conv1(image)))))
        out: Tensor = self.relu2(self.add(inner, self.shortcut(image)))
        return out


class ResNet(nn.Module):
    """A stem and three residual blocks of 16, 32 and 64 channels; batch norm throughout."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3, 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        self.block1 = ResidualBlock(16, 16, stride=1)
        self.block2 = ResidualBlock(16, 32, stride=2)
        self.block3 = ResidualBlock(32, 64, stride=2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(64, classes)

    def forward(self, image: Tensor) -> Tensor:
        """(batch, 3, height, width) to (batch, classes)."""
        features = self.block3(self.block2(self.block1(self.relu(self.norm(self.conv(image))))))
        scores: Tensor = self.fc(self.flatten(self.pool(features)))
        return scores


class VGG(nn.Module):
    """Five convolutions, each with a ReLU and a maximum over 2 x 2, and two linear layers; no normalisation inside."""

    CHANNELS = (16, 32, 48, 64, 64)

    def __init__(self, classes: int) -> None:
        super().__init__()
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        inputs = 3
        for k, outputs in enumerate(self.CHANNELS, start=1):
            layers[f"conv{k}"] = nn.Conv2d(inputs, outputs, 3, 1, 1)
            layers[f"relu{k}"] = nn.ReLU()
            layers[f"pool{k}"] = nn.MaxPool2d(2)
            inputs = outputs
        self.features = nn.Sequential(layers)
        self.flatten = nn.Flatten()
        side = SIZE // 2 ** len(self.CHANNELS)
        self.fc1 = nn.Linear(inputs * side * side, 64)
        self.relu = nn.ReLU()
        self.fc2 = nn.Linear(64, classes)

    def forward(self, image: Tensor) -> Tensor:
        """(batch, 3, 64, 64) to (batch, classes)."""
        scores: Tensor = self.fc2(self.relu(self.fc1(self.flatten(self.features(image)))))
        return scores


class Attention(nn.Module):
    """Self-attention; `softmax` returns the weights, (batch, heads, tokens, tokens)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.softmax = nn.Softmax(dim=-1)
        self.out = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """(batch, tokens, width) to the same."""
        query, key, value = (
            # (batch, tokens, heads * part) to (batch, heads, tokens, part)
            part.unflatten(2, (self.heads, -1)).transpose(1, 2)
            for part in (self.query(tokens), self.key(tokens), self.value(tokens))
        )
        scale = 1 / math.sqrt(self.query.out_features / self.heads)
        weights = self.softmax((scale * query) @ key.transpose(2, 3))
        out: Tensor = self.out((weights @ value).transpose(1, 2).flatten(2))
        return out


class TransformerBlock(nn.Module):
    """Attention and two linear layers, each after a norm and beside a shortcut."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.add1 = Add()
        self.norm2 = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, 2 * width)
        self.gelu = nn.GELU()
        self.fc2 = nn.Linear(2 * width, width)
        self.add2 = Add()

    def forward(self, tokens: Tensor) -> Tensor:
        """(batch, tokens, width) to the same."""
        tokens = self.add1(tokens, self.attention(self.norm1(tokens)))
        out: Tensor = self.add2(tokens, self.fc2(self.gelu(self.fc1(self.norm2(tokens)))))
        return out


class Stem(nn.Module):
    """A convolution and two residual blocks, of stride 2 each.

    In place of one linear map per patch: with that, a transformer needs far more images than two minutes of training can show it.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, width // 4, 3, 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(width // 4)
        self.relu = nn.ReLU()
        self.block1 = ResidualBlock(width // 4, width // 2, stride=2)
        self.block2 = ResidualBlock(width // 2, width, stride=2)

    def forward(self, image: Tensor) -> Tensor:
        """(batch, 3, 64, 64) to (batch, width, 8, 8)."""
        out: Tensor = self.block2(self.block1(self.relu(self.norm(self.conv(image)))))
        return out


class Embedding(nn.Module):
    """The class token and one token for each cell of 8 x 8 pixels, a learned position added to each."""

    CELL = 8

    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem = Stem(width)
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.position = nn.Parameter(torch.zeros(1, 1 + (SIZE // self.CELL) ** 2, width))

    def forward(self, image: Tensor) -> Tensor:
        """(batch, 3, 64, 64) to (batch, 1 + 64, width)."""
        cells = self.stem(image).flatten(2).transpose(1, 2)
        class_token = self.class_token.expand(cells.shape[0], -1, -1)
        return torch.cat([class_token, cells], dim=1) + self.position


class ClassToken(nn.Module):
    """The first of the tokens."""

    def forward(self, tokens: Tensor) -> Tensor:
        """(batch, tokens, width) to (batch, width)."""
        return tokens[:, 0]


class ViT(nn.Module):
    """A hybrid: two residual blocks describe the cells of 8 x 8 pixels, two transformer blocks bring them together in the class token."""

    def __init__(self, classes: int, *, width: int = 64, depth: int = 2, heads: int = 4) -> None:
        super().__init__()
        self.embedding = Embedding(width)
        self.blocks = nn.Sequential(*(TransformerBlock(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.class_token = ClassToken()
        self.fc = nn.Linear(width, classes)

    def forward(self, image: Tensor) -> Tensor:
        """(batch, 3, 64, 64) to (batch, classes)."""
        scores: Tensor = self.fc(self.class_token(self.norm(self.blocks(self.embedding(image)))))
        return scores
