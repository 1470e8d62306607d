"""Ways to explain. One class, and one line in METHODS, for each; presets are functions that make one with settings of their own."""

from collections.abc import Callable

from counterpoint.methods.cam import GradCAM, LayerCAM
from counterpoint.methods.gradients import Gradient, GradientTimesInput, SmoothGrad, Taylor
from counterpoint.methods.path import IntegratedGradients
from counterpoint.protocols import Method

METHODS: dict[str, Callable[..., Method]] = {
    "gradient": Gradient,
    "smooth_grad": SmoothGrad,
    "taylor": Taylor,
    "gradient_times_input": GradientTimesInput,
    "integrated_gradients": IntegratedGradients,
    "grad_cam": GradCAM,
    "layer_cam": LayerCAM,
}

__all__ = [
    "METHODS",
    "GradCAM",
    "Gradient",
    "GradientTimesInput",
    "IntegratedGradients",
    "LayerCAM",
    "Method",
    "SmoothGrad",
    "Taylor",
]
