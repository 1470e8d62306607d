"""For a linear score each baseline certifies another winner: deletion areas of five orders under five replacements, as a table.

With f(x) = sum of w_i x_i, replacing a set S by b changes f by minus the sum over S of w_i (x_i - b_i). The best order for deletion and for
insertion under b is therefore that of w_i (x_i - b_i), integrated gradients with the same b, and under another baseline it is another order
(the theorem is named by Picard et al. 2025, arXiv:2512.11433; the statement and its proof here are our reconstruction).

Uniform noise has two readings. Where pixels are *replaced* by noise the expected change is w_i (x_i - 1/2): mid-grey's order wins. Where
noise is *added* and the size of the change is scored, w_i u_i changes the score by an amount that knows nothing of x_i: the order of
|w_i|, the gradient's, wins.

    python examples/linear_case.py
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

import counterpoint as cp

SIDE, IMAGES, DRAWS = 16, 32, 8

_GENERATOR = torch.Generator().manual_seed(0)
WEIGHT = torch.randn(1, SIDE, SIDE, generator=_GENERATOR, dtype=torch.float64)
INPUTS = torch.rand(IMAGES, 1, SIDE, SIDE, generator=_GENERATOR, dtype=torch.float64)

ORDERS: dict[str, Tensor] = {
    "gradient x input": (WEIGHT * INPUTS)[:, 0],
    "w (x - white)": (WEIGHT * (INPUTS - 1))[:, 0],
    "w (x - grey)": (WEIGHT * (INPUTS - 0.5))[:, 0],
    "w (x - mean)": (WEIGHT * (INPUTS - INPUTS.mean((2, 3), keepdim=True)))[:, 0],
    "|gradient|": WEIGHT.abs().expand_as(INPUTS)[:, 0],
}


@dataclass(frozen=True)
class Added(cp.baselines.Baseline):
    """The image with uniform noise from [-1/2, 1/2] added to every pixel."""

    seed: int = 0

    def __call__(self, inputs: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed)
        return inputs + torch.rand(inputs.shape[1:], generator=generator, dtype=torch.float64) - 0.5


def linear(points: Tensor) -> Tensor:
    """The score."""
    return (points * WEIGHT).flatten(1).sum(1)


def areas(
    baseline: cp.baselines.Baseline, of: Callable[[Tensor, Tensor], Tensor] = lambda scores, clean: scores
) -> dict[str, float]:
    """Mean deletion area of each order, of the scores themselves or of what `of` makes of them."""
    table = cp.metrics.curves(linear, INPUTS, ORDERS, [baseline], steps=SIDE, kinds=["deletion"])
    found = {}
    for name in ORDERS:
        curve = table.curve("deletion", saliency=name)
        heights = of(curve.scores, curve.scores[:, :1])
        found[name] = float(torch.trapezoid(heights, curve.fractions.to(heights), dim=1).mean())
    return found


def averaged(columns: list[dict[str, float]]) -> dict[str, float]:
    """The mean over draws."""
    return {name: sum(column[name] for column in columns) / len(columns) for name in ORDERS}


def columns() -> dict[str, dict[str, float]]:
    """Deletion areas by what removed pixels become; lower is better, also for the size of a change, which is given with a minus."""
    return {
        "black": areas(cp.baselines.Black()),
        "white": areas(cp.baselines.White()),
        "mean": areas(cp.baselines.Mean()),
        "noise instead": averaged([areas(cp.baselines.Uniform(seed=s)) for s in range(DRAWS)]),
        "noise added, size of the change": averaged(
            [areas(Added(s), lambda scores, clean: -(scores - clean).abs()) for s in range(DRAWS)]
        ),
    }


def table() -> str:
    """Markdown; the winner of each column in bold."""
    found = columns()
    lines = ["| order | " + " | ".join(found) + " |", "|---" * (len(found) + 1) + "|"]
    for name in ORDERS:
        cells = [
            f"**{column[name]:.2f}**" if column[name] == min(column.values()) else f"{column[name]:.2f}"
            for column in found.values()
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
