"""One-step methods: the gradient at a single point, as a rate or as a Taylor expansion."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch

from counterpoint.comparison import Comparison
from counterpoint.errors import InputError
from counterpoint.methods.arithmetic import exact
from counterpoint.protocols import Claim, Level, Outcome


@dataclass(frozen=True)
class Gradient:
    """The gradient of the score at the input: how fast the score changes, not how much of it is owed to a feature.

    Formula: f'(x)

    Values: (batch, *features), signed, score per unit of the feature; a rate, so that no sum and no error is defined.

    Reference: Simonyan et al. 2013, arXiv:1312.6034.
    """

    claim: ClassVar[Claim] = "rate"
    level: ClassVar[Level] = "any"
    version: ClassVar[int] = 1

    def __call__(self, comparison: Comparison) -> Outcome:
        """One gradient for each image."""
        return Outcome(values=exact(comparison.gradients(comparison.end)))


@dataclass(frozen=True)
class Taylor:
    """Taylor expansion of the score at one end of the straight path, read at the other.

    Formula: (x - x') * f'(x) at the input, (x - x') * f'(x') at the baseline; of order 2 also -/+ (x - x') * H (x - x') / 2

    Values: (batch, *features), signed, in units of the score; additive, but exact for polynomials of the order only: the error
    is the remainder. The second order is divided equally between the two features of each product.

    Parameters:
        order: 1, or 2 with the Hessian at the same point (0 wherever it exists for ReLU networks with a logit).
        at: Where the derivatives are taken.
        reference: "comparison" reads the expansion at the comparison's baseline; "zeros" at zero pixels (black) or zero features, as
            "gradient times input" does. The target stays the comparison's; the error against the own reference stands beside it.

    Reference: Cui and Fan 2026, arXiv:2605.22417 (the one-step members of the family; our derivation).
    """

    order: int = 1
    at: Literal["input", "baseline"] = "input"
    reference: Literal["comparison", "zeros"] = "comparison"
    claim: ClassVar[Claim] = "shares"
    level: ClassVar[Level] = "any"
    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if self.order not in (1, 2):
            raise InputError(f"order must be 1 or 2, got {self.order!r}.")

    def __call__(self, comparison: Comparison) -> Outcome:
        """One gradient for each image (three of order 2), and one forward where the reference is zeros."""
        end, start, own_target = comparison.end, comparison.start, None
        if self.reference == "zeros":
            start = torch.zeros_like(end)
            own_target = comparison.score - comparison.scores(start)
        point = end if self.at == "input" else start
        difference = exact(end) - exact(start)
        if self.order == 1:
            values = difference * exact(comparison.gradients(point))
        else:
            gradient, product = comparison.hessian_products(point, end - start)
            half = exact(product) / 2
            values = difference * (exact(gradient) + (-half if self.at == "input" else half))
        return Outcome(
            values=values,
            reference="zeros" if self.reference == "zeros" else None,
            own_target=own_target,
            stages={"one_step": values.flatten(1).sum(1)},
        )


@dataclass(frozen=True)
class GradientTimesInput(Taylor):
    """The input times its gradient: a Taylor expansion at the input, read at zero pixels (black) or zero features.

    Formula: x * f'(x)

    Values: (batch, *features), signed, in units of the score; shares of f(x) - f(0) in one step.

    Reference: Shrikumar et al. 2016, arXiv:1605.01713.
    """

    order: int = field(default=1, init=False)
    at: Literal["input", "baseline"] = field(default="input", init=False)
    reference: Literal["comparison", "zeros"] = field(default="zeros", init=False)
