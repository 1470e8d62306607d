"""The three networks of MTCNN, built for looking inside: one module per operation, nothing in place.

They take pixels in [-1, 1] and say of a square window whether it shows a face, and where in it the face's box lies. The landmarks
that the third one also finds are left out.

Reference: Zhang et al. 2016, arXiv:1604.02878.
"""

from collections import OrderedDict

from jaxtyping import Float
from torch import Tensor, nn

WINDOWS = {"pnet": 12, "rnet": 24, "onet": 48}
"""The side of the window that each network looks at, in pixels."""

STRIDE = 2
"""Of the first network, which is convolutional throughout: one window every two pixels."""


class ProposalNet(nn.Module):
    """P-Net: every window of 12 x 12 pixels of an image at once."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            OrderedDict(
                conv1=nn.Conv2d(3, 10, 3),
                prelu1=nn.PReLU(10),
                pool1=nn.MaxPool2d(2, 2, ceil_mode=True),
                conv2=nn.Conv2d(10, 16, 3),
                prelu2=nn.PReLU(16),
                conv3=nn.Conv2d(16, 32, 3),
                prelu3=nn.PReLU(32),
            )
        )
        self.face = nn.Conv2d(32, 2, 1)
        self.box = nn.Conv2d(32, 4, 1)

    def forward(
        self, image: Float[Tensor, "rows 3 height width"]
    ) -> tuple[Float[Tensor, "rows 2 tall wide"], Float[Tensor, "rows 4 tall wide"]]:
        """Scores before softmax of "no face" and "face", and the box relative to its window, of each window."""
        features = self.features(image)
        return self.face(features), self.box(features)


class _WindowNet(nn.Module):
    """A network on windows of a fixed size: convolutions, one hidden layer, two answers."""

    def __init__(self, features: nn.Sequential, places: int, hidden: int) -> None:
        super().__init__()
        self.features = features
        self.flatten = nn.Flatten()
        self.dense = nn.Linear(places, hidden)
        self.prelu = nn.PReLU(hidden)
        self.face = nn.Linear(hidden, 2)
        self.box = nn.Linear(hidden, 4)

    def forward(
        self, windows: Float[Tensor, "windows 3 side side"]
    ) -> tuple[Float[Tensor, "windows 2"], Float[Tensor, "windows 4"]]:
        """Scores before softmax of "no face" and "face", and the box relative to the window."""
        hidden = self.prelu(self.dense(self.flatten(self.features(windows))))
        return self.face(hidden), self.box(hidden)


def refine_net() -> nn.Module:
    """R-Net, on windows of 24 x 24 pixels."""
    features = nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(3, 28, 3),
            prelu1=nn.PReLU(28),
            pool1=nn.MaxPool2d(3, 2, ceil_mode=True),
            conv2=nn.Conv2d(28, 48, 3),
            prelu2=nn.PReLU(48),
            pool2=nn.MaxPool2d(3, 2, ceil_mode=True),
            conv3=nn.Conv2d(48, 64, 2),
            prelu3=nn.PReLU(64),
        )
    )
    return _WindowNet(features, 64 * 3 * 3, 128)


def output_net() -> nn.Module:
    """O-Net, on windows of 48 x 48 pixels."""
    features = nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(3, 32, 3),
            prelu1=nn.PReLU(32),
            pool1=nn.MaxPool2d(3, 2, ceil_mode=True),
            conv2=nn.Conv2d(32, 64, 3),
            prelu2=nn.PReLU(64),
            pool2=nn.MaxPool2d(3, 2, ceil_mode=True),
            conv3=nn.Conv2d(64, 64, 3),
            prelu3=nn.PReLU(64),
            pool3=nn.MaxPool2d(2, 2, ceil_mode=True),
            conv4=nn.Conv2d(64, 128, 2),
            prelu4=nn.PReLU(128),
        )
    )
    return _WindowNet(features, 128 * 3 * 3, 256)


class FaceNets(nn.Module):
    """All three, with random weights: 493 thousand parameters. What runs them one after the other stands in mtcnn.py."""

    def __init__(self) -> None:
        super().__init__()
        self.pnet = ProposalNet()
        self.rnet = refine_net()
        self.onet = output_net()
