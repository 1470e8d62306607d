"""Networks whose true shares are known, so that an explanation can be held against the truth and not against another explanation.

Every image is a row of patches of 4 x 4 pixels with one channel, float64; u_p is the mean of patch p. What counts as the truth:

- additively separable scores: undisputed, c_p (s(u_p(x)) - s(u_p(x')));
- otherwise the closed-form line integral along the path that the method declares. Where the Shapley value differs it stands
  beside, and is never counted as an error.

The networks and both measures are ours, after the definitions of attribution error by Cui and Fan 2026, arXiv:2605.22417.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from counterpoint.checks import check_same_shape
from counterpoint.errors import InputError
from counterpoint.protocols import Baseline

PATCH = 4


@dataclass(frozen=True)
class Patches(Baseline):
    """A row of flat patches of the given levels, whatever the image.

    Reference: ours, for networks with known shares.
    """

    levels: tuple[float, ...]

    def __call__(
        self, inputs: Float[Tensor, "batch 1 height width"]
    ) -> Float[Tensor, "batch 1 height width"]:
        """The patches, in the type and device of `inputs`."""
        return patches(self.levels).to(inputs).expand_as(inputs).clone()


@dataclass(frozen=True, eq=False)
class KnownShares:
    """A network, one question to it, and the answer."""

    name: str
    what: str
    """What it puts to the test, in one line."""
    module: nn.Module
    """(rows, 1, 4, 4 patches) -> (rows, 1); ask with `cp.logit(module, 0)`."""
    inputs: Float[Tensor, "1 1 height width"]
    baseline: Patches
    layer: str
    """Where the shares are asked for: "input", or a layer with one unit for each share."""
    shares: Float[Tensor, " parts"]
    """The line integral along the straight path, from baseline to input, in the space of `layer`."""
    induced: Float[Tensor, " parts"]
    """The line integral along the image of the straight path of the inputs; the same as `shares` at the input."""
    shapley: Float[Tensor, " parts"]
    """The Shapley values of the parts."""

    def parts(self, values: Float[Tensor, "1 *features"]) -> Float[Tensor, " parts"]:
        """The values of an attribution, summed over each part: a patch at the input, a unit at a layer."""
        if values.numel() == len(self.shares):
            return values.flatten()
        return values.view(PATCH, -1, PATCH).sum((0, 2))

    @property
    def unit_layer(self) -> str:
        """A layer with one unit for each part, where methods for layers can be held against the same truth."""
        return "means" if self.layer == "input" else self.layer


def patches(levels: tuple[float, ...]) -> Float[Tensor, "1 1 height width"]:
    """An image of flat patches side by side."""
    row = torch.tensor(levels, dtype=torch.float64).repeat_interleave(PATCH)
    return row.expand(1, 1, PATCH, -1).clone()


def distance(shares: Float[Tensor, " parts"], truth: Float[Tensor, " parts"]) -> float:
    """|a - a*|_1 / |a*|_1: 0 is the truth, 1 what all zeros would have."""
    check_same_shape("shares", shares, "truth", truth)
    return ((shares - truth).abs().sum() / truth.abs().sum()).item()


def scaled_distance(shares: Float[Tensor, " parts"], truth: Float[Tensor, " parts"]) -> float:
    """The least `distance` that any rescaling of the shares can reach: min over s of |s a - a*|_1 / |a*|_1.

    The minimum is taken at a weighted median of a*_i / a_i with weights |a_i|, so that it is exact.
    """
    check_same_shape("shares", shares, "truth", truth)
    used = shares != 0
    if not used.any():
        return 1.0
    ratio, weight = truth[used] / shares[used], shares[used].abs()
    order = ratio.argsort()
    middle = int(torch.searchsorted(weight[order].cumsum(0), weight.sum() / 2))
    return distance(ratio[order][min(middle, len(order) - 1)] * shares, truth)


class PatchMeans(nn.Module):
    """(rows, 1, 4, 4 patches) -> (rows, 1, 1, patches), the mean of each patch."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(PATCH)

    def forward(self, images: Tensor) -> Tensor:
        means: Tensor = self.pool(images)
        return means


class Saturation(nn.Module):
    """u - ReLU(u - q): grows up to q and then stays, so that the gradient at a saturated input is 0 and its share is not."""

    def __init__(self, levels: tuple[float, ...]) -> None:
        super().__init__()
        self.levels: Tensor
        self.register_buffer("levels", torch.tensor(levels, dtype=torch.float64))
        self.relu = nn.ReLU()

    def forward(self, means: Tensor) -> Tensor:
        over: Tensor = self.relu(means - self.levels)
        return means - over


class Weighted(nn.Module):
    """(rows, 1, 1, parts) -> (rows, 1), the sum with given weights."""

    def __init__(self, weights: tuple[float, ...]) -> None:
        super().__init__()
        self.linear = nn.Linear(len(weights), 1, bias=False, dtype=torch.float64)
        with torch.no_grad():
            self.linear.weight.copy_(torch.tensor([weights], dtype=torch.float64))

    def forward(self, parts: Tensor) -> Tensor:
        out: Tensor = self.linear(parts.flatten(1))
        return out


class Formula(nn.Module):
    """(rows, 1, 1, parts) -> (rows, 1), by a formula of the parts."""

    def __init__(self, formula: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.formula = formula

    def forward(self, parts: Tensor) -> Tensor:
        return self.formula(parts.flatten(1))[:, None]


class Powers(nn.Module):
    """(rows, 1, 1, 1) -> (rows, 1, 1, 2): t and t squared."""

    def forward(self, means: Tensor) -> Tensor:
        return torch.cat([means, means**2], 3)


def _network(**parts: nn.Module) -> nn.Sequential:
    network = nn.Sequential()
    for name, part in parts.items():
        network.add_module(name, part)
    return network.double().eval()


# N1: mixed signs; the parts are 0 saturated at x, 1 changed but not used, 2 used but not changed, 3 and 4 cancelling, 5 to 7 ordinary.
_WEIGHTS = (4.0, 0.0, 3.0, 2.0, -2.0, -1.5, 1.0, 0.5)
_SATURATED = (0.3, 0.5, 2.0, 2.0, 2.0, 0.4, 2.0, 0.1)
_INPUT = (0.9, 0.8, 0.4, 0.6, 0.6, 0.7, 0.1, 0.5)
_BASELINE = (0.0, 0.1, 0.4, 0.2, 0.2, 0.1, 0.6, 0.0)


def _additive(name: str, what: str, layer: str) -> KnownShares:
    network = _network(means=PatchMeans(), saturation=Saturation(_SATURATED), head=Weighted(_WEIGHTS))
    truth = [
        c * (min(x, q) - min(b, q))
        for c, q, x, b in zip(_WEIGHTS, _SATURATED, _INPUT, _BASELINE, strict=True)
    ]
    return _known(name, what, network, _INPUT, _BASELINE, truth, layer=layer)


def _known(
    name: str,
    what: str,
    module: nn.Module,
    x: tuple[float, ...],
    b: tuple[float, ...],
    shares: list[float],
    *,
    layer: str = "input",
    induced: list[float] | None = None,
    shapley: list[float] | None = None,
) -> KnownShares:
    def exact(numbers: list[float] | None) -> Tensor:
        return torch.tensor(shares if numbers is None else numbers, dtype=torch.float64)

    return KnownShares(
        name=name,
        what=what,
        module=module,
        inputs=patches(x),
        baseline=Patches(b),
        layer=layer,
        shares=exact(shares),
        induced=exact(induced),
        shapley=exact(shapley),
    )


def n1() -> KnownShares:
    """Additive in its patches: undisputed shares."""
    return _additive(
        "N1", "additive, with a saturated, an unused, an unchanged and a cancelling pair of patches", "input"
    )


def n2() -> KnownShares:
    """The same score, asked for at a late layer with an additive head: the truth is the same there."""
    return _additive("N2", "the same score explained at a late layer with an additive head", "saturation")


def n3() -> KnownShares:
    """Multilinear, f = a u_A + b u_B + g u_A u_B, with a baseline that is not 0: integrated gradients equal Shapley's values."""
    a, b, g = 1.0, -2.0, 3.0
    x, base = (0.9, 0.7), (0.2, 0.4)
    network = _network(
        means=PatchMeans(), head=Formula(lambda u: a * u[:, 0] + b * u[:, 1] + g * u[:, 0] * u[:, 1])
    )
    shares = [
        (x[0] - base[0]) * (a + g * (x[1] + base[1]) / 2),
        (x[1] - base[1]) * (b + g * (x[0] + base[0]) / 2),
    ]
    return _known("N3", "multilinear with a baseline that is not 0", network, x, base, shares)


def n4() -> KnownShares:
    """A power, f = u_A^2 u_B from 0: 2/3 and 1/3 along the straight path, half each by Shapley."""
    x = (0.8, 0.6)
    whole = x[0] ** 2 * x[1]
    network = _network(means=PatchMeans(), head=Formula(lambda u: u[:, 0] ** 2 * u[:, 1]))
    return _known(
        "N4",
        "a power, where the path decides and Shapley differs",
        network,
        x,
        (0.0, 0.0),
        [2 * whole / 3, whole / 3],
        shapley=[whole / 2, whole / 2],
    )


def n5() -> KnownShares:
    """A maximum, x = (2, 1) from 0: the straight path gives all to the larger; no tie on the way."""
    network = _network(means=PatchMeans(), head=Formula(lambda u: torch.maximum(u[:, 0], u[:, 1])))
    return _known(
        "N5",
        "a maximum, where the smaller gets nothing",
        network,
        (2.0, 1.0),
        (0.0, 0.0),
        [2.0, 0.0],
        shapley=[1.5, 0.5],
    )


def n6() -> KnownShares:
    """A layer z = (t, t^2) under a product: 1/2, 1/2 straight in the layer, 1/3, 2/3 along the image of the input path."""
    network = _network(means=PatchMeans(), powers=Powers(), head=Formula(lambda z: z[:, 0] * z[:, 1]))
    return _known(
        "N6",
        "a curved layer, where straight and induced path differ",
        network,
        (1.0,),
        (0.0,),
        [0.5, 0.5],
        layer="powers",
        induced=[1 / 3, 2 / 3],
        shapley=[0.5, 0.5],
    )


KNOWN_SHARES: dict[str, Callable[[], KnownShares]] = {
    "N1": n1,
    "N2": n2,
    "N3": n3,
    "N4": n4,
    "N5": n5,
    "N6": n6,
}


def known_shares(name: str) -> KnownShares:
    """The network of that name, N1 to N6.

    Raises:
        InputError: no such network.
    """
    if name not in KNOWN_SHARES:
        raise InputError(f"name must be one of {', '.join(KNOWN_SHARES)}, got {name!r}.")
    return KNOWN_SHARES[name]()
