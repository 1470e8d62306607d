"""Small networks whose features lie on the image in different ways, and tiny transformers of the libraries, with random weights."""

import torch
from torch import Tensor, nn

KINDS = ("maps", "channels_last", "tokens")


class Laid(nn.Module):
    """One network in three layouts: what `laid` returns holds the same numbers, and the score is the same.

    Images are (2, 6, 8), maps (4, 3, 4). Tokens have a class token before them, which counts for `weight` in the score.
    """

    def __init__(self, kind: str, weight: float = 0.0) -> None:
        super().__init__()
        self.kind, self.weight = kind, weight
        generator = torch.Generator().manual_seed(0)
        self.stem = nn.Conv2d(2, 4, 3, stride=2, padding=1)
        self.laid = nn.Conv2d(4, 4, 1) if kind == "maps" else nn.Linear(4, 4)
        self.head = nn.Linear(4, 3)
        with torch.no_grad():
            for layer in (self.stem, self.laid, self.head):
                for parameter in (layer.weight, layer.bias):
                    drawn = torch.randn(parameter.numel(), generator=generator)
                    parameter.copy_(drawn.view(parameter.shape))
        self.double().eval()

    def forward(self, x: Tensor) -> Tensor:
        z = self.stem(x)
        if self.kind == "maps":
            z = self.laid(z)
        elif self.kind == "channels_last":
            z = self.laid(z.movedim(1, -1)).movedim(-1, 1)
        else:
            tokens = z.flatten(2).transpose(1, 2)
            tokens = self.laid(torch.cat([tokens.mean(1, keepdim=True), tokens], 1))
            z = tokens[:, 1:].transpose(1, 2).reshape(-1, 4, 3, 4)
            return self.head((z.relu() + z**2).mean((2, 3)) + self.weight * tokens[:, 0])
        return self.head((z.relu() + z**2).mean((2, 3)))


class Pyramid(nn.Module):
    """Two levels of features, each passed by through the other: `p1` (4, 6, 8), `p2` (3, 3, 4) on images (2, 6, 8)."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.c1, self.c2 = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 3, 3, stride=2, padding=1)
        self.p2, self.p1 = nn.Conv2d(3, 3, 1), nn.Conv2d(4, 4, 1)
        self.head1, self.head2 = nn.Linear(4, 3), nn.Linear(3, 3)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.6)
        self.double().eval()

    def forward(self, x: Tensor) -> Tensor:
        c1 = self.c1(x).relu()
        p2 = self.p2(self.c2(c1).relu())  # the coarse level runs first
        p1 = self.p1(c1)
        return self.head1((p1**2).mean((2, 3))) + self.head2(p2.exp().mean((2, 3)))


class Logits(nn.Module):
    """A Hugging Face classifier that returns its logits alone."""

    wraps = "model"

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> Tensor:
        return self.model(pixels).logits


def seeded(make, *arguments, **options) -> nn.Module:
    """A network with random weights that are the same each time, in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = make(*arguments, **options)
        with torch.no_grad():  # some heads begin with zeros, whose gradient is zero everywhere
            for name, parameter in net.named_parameters():
                if parameter.ndim == 2 and not parameter.any():
                    parameter.copy_(torch.randn(parameter.shape) * 0.1)
                elif name.endswith("token") and not parameter.any():
                    parameter.copy_(torch.randn(parameter.shape) * 0.1)
    return net.eval()


def timm_net(name: str, **options) -> nn.Module:
    import timm

    return seeded(timm.create_model, name, pretrained=False, **options)


def torchvision_net(name: str, **options) -> nn.Module:
    import torchvision

    return seeded(getattr(torchvision.models, name), weights=None, **options)


def hugging_face_net(name: str, **options) -> nn.Module:
    import transformers

    config = getattr(transformers, f"{name}Config")(**options)
    return seeded(lambda: Logits(getattr(transformers, f"{name}ForImageClassification")(config)))


TINY_HF = {
    "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32, "patch_size": 8,
}  # fmt: skip


def tiny_timm_vit(**options) -> nn.Module:
    """Three blocks of 12 channels on patches of 8 x 8; (1 +) 4 x 4 tokens on images of 32 x 32."""
    settings = {
        "img_size": 32,
        "patch_size": 8,
        "depth": 3,
        "embed_dim": 12,
        "num_heads": 2,
        "num_classes": 5,
    }
    return timm_net("vit_tiny_patch16_224", **{**settings, **options})


def tiny_maxvit() -> nn.Module:
    """torchvision's MaxViT of two blocks, on images of 64 x 64; (8, 16 x 16), then (16, 8 x 8)."""
    from torchvision.models.maxvit import MaxVit

    return seeded(
        MaxVit, input_size=(64, 64), stem_channels=8, partition_size=2, block_channels=[8, 16], block_layers=[1, 1],
        head_dim=4, stochastic_depth_prob=0.0, num_classes=5,
    )  # fmt: skip
