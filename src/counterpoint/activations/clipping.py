"""Selective gradient clipping: no gradient through units that a perturbed image drives out of the range of the original one."""

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from counterpoint.activations.chosen import SATURATING
from counterpoint.activations.following import Following
from counterpoint.activations.operations import Operation, at_least_float32
from counterpoint.activations.pathway import Pathway
from counterpoint.checks import check_range
from counterpoint.errors import InputError

ClipRule = Literal["none", "fgvis", "directional"]
"""Which units hand no gradient on.

none         all do hand it on.
fgvis        those outside their interval do not.
directional  those outside their interval do not, if the step of the optimiser would take them further out.
"""
CLIP_RULES: tuple[ClipRule, ...] = ("none", "fgvis", "directional")

Aim = Literal["maximise", "minimise"]
"""What the optimiser does to the score whose gradient is taken: go along the gradient, or against it."""
AIMS: tuple[Aim, ...] = ("maximise", "minimise")

# With exact comparison, rounding alone clips 40 to 46 % of the active units where the image is kept: another batch size is enough.
_TOLERANCE, _TOLERANCE_16_BITS = 1e-4, 1e-2

# Non-monotonic: there the gradient of the output may have another sign than that of what goes in.
_FALLING = frozenset({"gelu", "hardswish", "mish", "silu"})


class Clip(Following):
    """The gradient clipped at the chosen activations of a run of perturbed images.

    The unit h of a row may move between d = min(0, s h') and u = max(0, s h'), h' being the unit for the row's original image and
    s = 1 + overshoot. A unit is what
    comes out of a ReLU, LeakyReLU, PReLU, ELU; and what goes into a ReLU6, GELU, SiLU, Hardswish, Mish. It is outside where h > u + e or
    h < d - e, with e = tolerance * (|h'| + root mean square of the activation for that image). Forward values stay what they are, bit
    for bit. At the original image nothing is outside, and the gradient is the plain one.

    Parameters:
        pathway: Of the original images, recorded with reading "unit".
        image: Which of them each row belongs to.
        rule: See `ClipRule`.
        aim: What the optimiser does to the score; needed by "directional", which lets a gradient pass that leads back into the interval.
            To maximise it moves a unit along the score's gradient, to minimise against it.
        tolerance: By default 1e-4, and 1e-2 for activations in 16 bits.
        overshoot: How much further than in the original an active unit may go, as a share of that; silent units stay where they were. Ours.

    Raises:
        InputError: an unknown rule or aim, no aim for "directional", a negative overshoot, a pathway of another reading, a row of no image.
        ModelError: the run takes another way than the recorded one.

    Reference: "fgvis" is the rule of Wagner et al. 2019, arXiv:1908.02686; the tolerance, "directional" and the interval before
    saturating functions are our reconstruction of the "selective" clipping of Zhang and McMillan 2025, arXiv:2509.04588.
    """

    def __init__(
        self,
        pathway: Pathway,
        image: Int[Tensor, " rows"],
        *,
        rule: ClipRule,
        aim: Aim | None = None,
        tolerance: float | None = None,
        overshoot: float = 0.0,
    ) -> None:
        check_clip(rule, aim)
        super().__init__(pathway, image)
        check_range("overshoot", overshoot, 0)
        if pathway.reading != "unit":
            raise InputError("clipping needs a pathway recorded with reading='unit', got 'output'.")
        self._rule = rule
        self._sign = -1.0 if aim == "minimise" else 1.0
        self._tolerance = tolerance
        self._reach = 1 + overshoot

    def follow(self, place: int, operation: Operation) -> Tensor:
        """The value as it is, with the clipped gradient."""
        point = operation.tensors[0]
        if self._rule == "none" or not (torch.is_grad_enabled() and point.requires_grad):
            return operation.as_called()
        if operation.name in _FALLING and self._rule == "directional":
            # The clone is read by this activation alone: a gradient that comes from elsewhere is not clipped.
            unit = point.clone()
            unit.register_hook(self._passing(place, unit))  # type: ignore[no-untyped-call]
            return operation.run(unit, *operation.tensors[1:])
        if operation.name in SATURATING:
            passing = self._passing(place, point)  # before an in-place form overwrites it
            result = operation.as_called()
        else:
            result = operation.as_called()
            passing = self._passing(place, result)
        result.register_hook(passing)  # type: ignore[no-untyped-call]
        return result

    def _passing(self, place: int, unit: Tensor) -> "_Passing":
        return _Passing(
            self._outside(place, unit.detach()), self._sign if self._rule == "directional" else 0.0
        )

    def _outside(self, place: int, unit: Float[Tensor, "all *unit"]) -> Tensor:
        """1 for a unit above its interval, -1 for one below, 0 for one inside; int8, of the shape of `unit`."""
        exact = at_least_float32(unit)
        here, original = self.by_rows(unit).to(exact), self.original(place).to(exact)
        scale = self.pathway.scale[place][self.image].view(-1, *[1] * (original.ndim - 1))
        tolerance = self._tolerance
        if tolerance is None:
            tolerance = _TOLERANCE_16_BITS if unit.dtype.itemsize == 2 else _TOLERANCE
        slack = tolerance * (original.abs() + scale)
        above = here > self._reach * original.clamp(min=0) + slack
        below = here < self._reach * original.clamp(max=0) - slack
        return (above.to(torch.int8) - below.to(torch.int8)).reshape(unit.shape)


class _Passing:
    """The gradient of a unit, without what is clipped."""

    def __init__(self, outside: Tensor, sign: float) -> None:
        self._outside = outside
        self._sign = sign

    def __call__(self, gradient: Tensor) -> Tensor:
        if not self._sign:
            return gradient.masked_fill(self._outside != 0, 0.0)
        further = self._sign * gradient.sign() * self._outside > 0
        return gradient.masked_fill(further, 0.0)


def check_clip(rule: str, aim: str | None) -> None:
    """Raise InputError unless the rule is known, and the aim where the rule looks at it."""
    if rule not in CLIP_RULES:
        raise InputError(f"rule must be one of {', '.join(CLIP_RULES)}, got {rule!r}.")
    if aim not in (None, *AIMS) or (rule == "directional" and aim is None):
        raise InputError(
            f"aim must say what the optimiser does to the score, {' or '.join(AIMS)}, got {aim!r}."
        )
