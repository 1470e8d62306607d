"""Baselines of one colour: given, or taken from the image itself."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from counterpoint.checks import shape_text
from counterpoint.errors import InputError, ShapeError
from counterpoint.protocols import Baseline

Inputs = Float[Tensor, "batch *input"]


@dataclass(frozen=True)
class Constant(Baseline):
    """One colour everywhere, in pixel units.

    Parameters:
        color: One number for all channels, or one for each, `constant:color=(0.2,0.4,0.4)`; 0 is black, 1 is white.

    Reference: the usual constant baseline; Sundararajan et al. 2017, arXiv:1703.01365.
    """

    color: float | tuple[float, ...] = 0.5

    def __post_init__(self) -> None:
        numbers = self.color if isinstance(self.color, tuple) else (self.color,)
        if not numbers or not all(isinstance(n, int | float) and math.isfinite(n) for n in numbers):
            raise InputError(f"color must be one finite number or one for each channel, got {self.color!r}.")

    def __call__(self, inputs: Inputs) -> Inputs:
        """The colour, in the shape of `inputs`.

        Raises:
            ShapeError: one number for each channel, and the inputs have another number of channels.
        """
        if not isinstance(self.color, tuple):
            return torch.full_like(inputs, self.color)
        if inputs.ndim < 3 or inputs.shape[1] != len(self.color):
            raise ShapeError(
                f"color has {len(self.color)} channels, but inputs are {shape_text(inputs)}, expected (batch, {len(self.color)}, ...)."
            )
        color = torch.tensor(self.color, dtype=inputs.dtype, device=inputs.device)
        return color.view(1, -1, *[1] * (inputs.ndim - 2)).expand_as(inputs).clone()


@dataclass(frozen=True)
class Black(Baseline):
    """Black, 0 in pixel units; never "zero after normalisation".

    Reference: Sundararajan et al. 2017, arXiv:1703.01365.
    """

    def __call__(self, inputs: Inputs) -> Inputs:
        """Zeros."""
        return torch.zeros_like(inputs)


@dataclass(frozen=True)
class White(Baseline):
    """White, 1 in pixel units.

    Reference: Sturmfels et al. 2020, doi:10.23915/distill.00022.
    """

    def __call__(self, inputs: Inputs) -> Inputs:
        """Ones."""
        return torch.ones_like(inputs)


@dataclass(frozen=True, repr=False)
class Zero(Baseline):
    """Mid-grey, 0.5 in pixel units: the zero of networks that take [-1, 1]; also called grey.

    Reference: Picard et al. 2025, arXiv:2512.11433, baseline "zero".
    """

    def __call__(self, inputs: Inputs) -> Inputs:
        """0.5 everywhere."""
        return torch.full_like(inputs, 0.5)

    def __repr__(self) -> str:
        return "Zero(): mid-grey 0.5, paper B's zero"


Grey = Zero


@dataclass(frozen=True)
class Mean(Baseline):
    """The mean colour of the image itself, channel by channel.

    Reference: Picard et al. 2025, arXiv:2512.11433, baseline "mean".
    """

    def __call__(self, inputs: Inputs) -> Inputs:
        """Each image's mean over its pixels."""
        pixels = _pixels(inputs)
        # Summed in float32 at least: 50,176 pixels are too many for bfloat16.
        mean = pixels.mean(2, keepdim=True, dtype=torch.promote_types(inputs.dtype, torch.float32))
        return mean.to(inputs.dtype).expand_as(pixels).reshape(inputs.shape)


@dataclass(frozen=True)
class Median(Baseline):
    """The median of each channel of the image itself; of an even number of pixels, the mean of the middle two.

    Reference: Picard et al. 2025, arXiv:2512.11433, baseline "median".
    """

    def __call__(self, inputs: Inputs) -> Inputs:
        """Each image's median over its pixels."""
        pixels = _pixels(inputs)
        ordered, count = pixels.sort(2).values, pixels.shape[2]
        median = (ordered[:, :, (count - 1) // 2] + ordered[:, :, count // 2]) / 2
        return median.unsqueeze(2).expand_as(pixels).reshape(inputs.shape)


@dataclass(frozen=True)
class RandomColor(Baseline):
    """One random colour, every channel drawn from [0, 1]; the same for all images.

    Reference: Picard et al. 2025, arXiv:2512.11433, baseline "random_color".
    """

    seed: int = 0

    def __call__(self, inputs: Inputs) -> Inputs:
        """The colour that the seed stands for."""
        pixels = _pixels(inputs)
        generator = torch.Generator().manual_seed(self.seed)
        # Drawn on the CPU: one seed means one colour on every device.
        color = torch.rand(pixels.shape[1], generator=generator, dtype=torch.float64)
        return color.to(inputs)[None, :, None].expand_as(pixels).reshape(inputs.shape)


def _pixels(inputs: Inputs) -> Float[Tensor, "batch channel pixels"]:
    if inputs.ndim < 3:
        raise ShapeError(
            f"inputs must have channels and pixels, (batch, channel, ...), got {shape_text(inputs)}."
        )
    return inputs.flatten(2)
