"""Gradients with another rule at rectifying activations: guided backpropagation and the deconvolution network."""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from counterpoint.activations import Rectified, RectifierRule
from counterpoint.comparison import Comparison
from counterpoint.errors import ModelError
from counterpoint.layers import eager
from counterpoint.methods.arithmetic import exact
from counterpoint.protocols import Claim, Level, ModuleScore, Outcome


@dataclass(frozen=True)
class GuidedBackprop:
    """The gradient, with what is negative dropped before every rectifying activation.

    Formula: the gradient of f at x, where each activation a = s(z) hands back ReLU(df/da) * s'(z) in the place of df/da * s'(z)

    Values: (batch, *features), signed; an importance: the values are no derivative of the score any more, and sum to nothing.

    Rectifying activations are ReLU, ReLU6, LeakyReLU, GELU, SiLU and Hardswish, as modules or functions; all others keep their gradient.
    That the picture shows edges of the image rather than reasons of the class is known (Adebayo et al. 2018, arXiv:1810.03292).

    Raises:
        ModelError: no rectifying activation comes after the point, so that this would be the plain gradient; or a part of the model is
            compiled or scripted, and its activations cannot be seen.

    Reference: Springenberg et al. 2014, arXiv:1412.6806; for other activations than ReLU our reconstruction.
    """

    claim: ClassVar[Claim] = "importance"
    level: ClassVar[Level] = "any"
    version: ClassVar[int] = 1

    def __call__(self, comparison: Comparison) -> Outcome:
        """One gradient for each image."""
        return _rectified(comparison, "guided", type(self).__name__)


@dataclass(frozen=True)
class Deconvnet:
    """The gradient, with what is negative dropped in the place of the derivative of every rectifying activation.

    Formula: the gradient of f at x, where each activation a = s(z) hands back ReLU(df/da) in the place of df/da * s'(z)

    Values: (batch, *features), signed; an importance: the values are no derivative of the score any more, and sum to nothing.

    Rectifying activations are those of `GuidedBackprop`. Max pooling hands its gradient back to where the maximum was, as the
    paper's switches do.

    Raises:
        ModelError: no rectifying activation comes after the point, so that this would be the plain gradient; or a part of the model is
            compiled or scripted, and its activations cannot be seen.

    Reference: Zeiler and Fergus 2013, arXiv:1311.2901; for other activations than ReLU our reconstruction.
    """

    claim: ClassVar[Claim] = "importance"
    level: ClassVar[Level] = "any"
    version: ClassVar[int] = 1

    def __call__(self, comparison: Comparison) -> Outcome:
        """One gradient for each image."""
        return _rectified(comparison, "deconvnet", type(self).__name__)


def _rectified(comparison: Comparison, rule: RectifierRule, who: str) -> Outcome:
    mode = Rectified(rule)
    values = exact(step_by_step(comparison).gradients(comparison.end, under=lambda image: mode))
    if not mode.met:
        raise ModelError(
            f"{who} changes the gradient at rectifying activations (ReLU, ReLU6, LeakyReLU, GELU, SiLU, Hardswish), but none was seen "
            f"between '{comparison.layer}' and the score, so that it would be the plain gradient; use cp.methods.Gradient()."
        )
    return Outcome(values=values)


def step_by_step(comparison: Comparison) -> Comparison:
    """The comparison on the model without `torch.compile` around it, so that each of its operations can be met by a mode.

    Raises:
        ModelError: a part inside is compiled or scripted.
    """
    runner = comparison.evaluation.runner
    if not isinstance(runner, ModuleScore):
        return comparison
    module = eager(runner.module)
    for name, part in module.named_modules():
        if isinstance(part, torch.jit.ScriptModule) or "_orig_mod" in part._modules:
            raise ModelError(
                f"the operations inside '{name or type(part).__name__}' cannot be seen, as it is compiled or scripted; explain the model "
                "that it was made of."
            )
    return replace(comparison, evaluation=replace(comparison.evaluation, runner=runner.on(module)))
