"""A tiny model of the user's own, and photographs to explain with it, in a temporary folder."""

import numpy as np
import pytest
import torch
from PIL import Image

MODULE = """
import torch
from torch import nn

import counterpoint as cp


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.act = nn.Softplus()
        self.side = nn.Conv2d(4, 4, 1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(4, 3)
        generator = torch.Generator().manual_seed(0)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator) / 2

    def forward(self, x):
        x = self.act(self.conv(x))
        x = x + self.side(x)
        return self.linear(self.pool(x).flatten(1))


class Wrapped(nn.Module):
    def __init__(self, change):
        super().__init__()
        self.net, self.change = Net(), change

    def forward(self, x):
        return self.change(self.net(x))


def classifier(module):
    return cp.Classifier(module.eval(), mean=0.5, std=0.5, size=32, labels=["cat", "dog", "rocket"], name="tiny")


def build():
    return classifier(Net())


def tuple_output():
    return classifier(Wrapped(lambda y: (y, y)))


def wrong_shape():
    return classifier(Wrapped(lambda y: y[:, :, None]))


def nan_output():
    return classifier(Wrapped(lambda y: y * torch.nan))


def training():
    module = nn.Sequential(nn.Dropout(0.5), Net())
    return cp.Classifier(module, mean=0.5, std=0.5, size=32, name="tiny")


def raises():
    raise ValueError("no weights here")
"""


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A working folder with `tinymodel.py` and three photographs, one of them in its own folder."""
    (tmp_path / "tinymodel.py").write_text(MODULE)
    generator = np.random.default_rng(0)
    for name in ("cat.jpg", "dog.png", "folder/tree.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        blocks = generator.integers(0, 255, (8, 10, 3), dtype=np.uint8)
        Image.fromarray(blocks).resize((80, 64), Image.Resampling.BICUBIC).save(path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    threads = torch.get_num_threads()
    yield tmp_path
    torch.set_num_threads(threads)
