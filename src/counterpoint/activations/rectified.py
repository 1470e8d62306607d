"""Another gradient through every rectifying activation: guided backpropagation and the deconvolution network."""

from typing import Literal

from torch import Tensor

from counterpoint.activations.modes import Mode, with_gradient
from counterpoint.activations.operations import RECTIFIERS, Operation
from counterpoint.errors import InputError

RectifierRule = Literal["guided", "deconvnet"]
RECTIFIER_RULES: tuple[RectifierRule, ...] = ("guided", "deconvnet")


class Rectified(Mode):
    """The gradient through every rectifying activation replaced by a rule.

    guided     ReLU of the gradient, times the plain derivative (Springenberg et al. 2014, arXiv:1412.6806).
    deconvnet  ReLU of the gradient alone (Zeiler and Fergus 2013, arXiv:1311.2901).
    """

    def __init__(self, rule: RectifierRule) -> None:
        if rule not in RECTIFIER_RULES:
            raise InputError(f"rule must be one of {', '.join(RECTIFIER_RULES)}, got {rule!r}.")
        super().__init__(RECTIFIERS | {"hardtanh"})
        self._rule = rule
        self.met = 0
        """How many activations a gradient went back through."""

    def meet(self, operation: Operation) -> Tensor:
        """The value as it is, the gradient by the rule."""
        if operation.name == "hardtanh" and operation.option("min_val", 1, -1.0) != 0.0:
            return operation.as_called()
        slope = operation.slope() if self._rule == "guided" else None

        def pull(gradient: Tensor) -> tuple[Tensor]:
            self.met += 1
            passed = gradient.relu()
            return (passed if slope is None else passed * slope,)

        return with_gradient(operation.value(), operation.tensors[:1], pull)
