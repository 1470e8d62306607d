"""Ways to explain. One class, and one line in METHODS, for each; presets are functions that make one with settings of their own."""

from collections.abc import Callable

from counterpoint.methods.cam import ODAM, DifferenceMap, GradCAM, HiResCAM, IntegratedGradCAM, LayerCAM
from counterpoint.methods.gradients import Gradient, GradientTimesInput, Taylor
from counterpoint.methods.noisy import SmoothGrad, SquareGrad, VarGrad
from counterpoint.methods.path import IntegratedGradients, RevisedIG
from counterpoint.methods.sampled import IDGI, ExpectedGradients
from counterpoint.protocols import Method

METHODS: dict[str, Callable[..., Method]] = {
    "gradient": Gradient,
    "smooth_grad": SmoothGrad,
    "var_grad": VarGrad,
    "square_grad": SquareGrad,
    "taylor": Taylor,
    "gradient_times_input": GradientTimesInput,
    "integrated_gradients": IntegratedGradients,
    "revised_ig": RevisedIG,
    "expected_gradients": ExpectedGradients,
    "idgi": IDGI,
    "grad_cam": GradCAM,
    "hires_cam": HiResCAM,
    "layer_cam": LayerCAM,
    "odam": ODAM,
    "difference_map": DifferenceMap,
    "integrated_grad_cam": IntegratedGradCAM,
}

__all__ = [
    "IDGI",
    "METHODS",
    "ODAM",
    "DifferenceMap",
    "ExpectedGradients",
    "GradCAM",
    "Gradient",
    "GradientTimesInput",
    "HiResCAM",
    "IntegratedGradCAM",
    "IntegratedGradients",
    "LayerCAM",
    "Method",
    "RevisedIG",
    "SmoothGrad",
    "SquareGrad",
    "Taylor",
    "VarGrad",
]
