"""Ways to write an image as numbers that an optimiser may change freely: by its pixels, its frequencies, or the phases of these.

All are scaled so that a learning rate of about 1 suits them, and their images lie in [0, 1] whatever the numbers. Parameters are plain
dictionaries of tensors with fixed names, so that they can be saved.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from counterpoint.checks import check_finite, check_images, check_range, shape_text
from counterpoint.errors import InputError, ShapeError
from counterpoint.visualisation.colour import decorrelate, recorrelate
from counterpoint.visualisation.resampling import resampled, whole_box
from counterpoint.visualisation.spectra import SMALLEST, Spectrum, check_spectrum, frequencies, spectrum_at
from counterpoint.visualisation.views import check_count

Parameters = Mapping[str, Tensor]
Image = Float[Tensor, "1 3 size size"]

MARGIN = 1 / 512
"""Half a grey level of 8 bits: black and white lie at infinity for the sigmoid, and `of` takes the colours this near to them instead."""

# What one unit of a parameter means, for those that a step of 1 would change too much.
_STEP = 0.05
_PHASE_STEP = 0.25  # radians; a full one at each step never comes to rest
_TINY = 1e-8


@runtime_checkable
class Parametrisation(Protocol):
    """An image as parameters."""

    @property
    def size(self) -> int:
        """The side of the square image."""
        ...

    @property
    def fixed(self) -> frozenset[str]:
        """Names of parameters that are kept as they are."""
        ...

    def start(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Parameters to start from, drawn with a generator of the CPU; float32, on the CPU."""
        ...

    def image(self, parameters: Parameters) -> Image:
        """Their image, in the type and on the device of the parameters; differentiable."""
        ...

    def of(self, image: Float[Tensor, "1 3 height width"]) -> dict[str, Tensor]:
        """Parameters of an image close to this one; another size is resampled, and of another shape the central square is taken."""
        ...


@dataclass(frozen=True)
class Pixels:
    """Each pixel on its own: the sigmoid of a twentieth of the parameter.

    An optimiser that is free to change each pixel mostly finds high frequencies. `of` is exact but for MARGIN at black and white.

    Parameters:
        size: Of the image, in pixels.
        spread: Standard deviation of the pixels at the start, about mid-grey.

    Raises:
        InputError: a size below 1, or a negative spread.
    """

    size: int = 224
    spread: float = 0.01

    def __post_init__(self) -> None:
        check_count("size", self.size)
        check_range("spread", self.spread, 0)

    @property
    def fixed(self) -> frozenset[str]:
        """None."""
        return frozenset()

    def start(self, generator: torch.Generator) -> dict[str, Tensor]:
        """`pixels`: normal noise."""
        # The sigmoid has slope 1/4 at mid-grey.
        noise = torch.randn(1, 3, self.size, self.size, generator=generator)
        return {"pixels": 4 * self.spread / _STEP * noise}

    def image(self, parameters: Parameters) -> Image:
        """The sigmoid of the pixels."""
        return torch.sigmoid(_STEP * parameters["pixels"])

    def of(self, image: Float[Tensor, "1 3 height width"]) -> dict[str, Tensor]:
        """The pixels whose sigmoid this is.

        Raises:
            ShapeError: not one image of three channels.
            InputError: pixels outside [0, 1].
            NotFiniteError: NaN or infinity.
        """
        return {"pixels": _logit(image, self.size) / _STEP}


@dataclass(frozen=True)
class Fourier:
    """The frequencies of the image in decorrelated colour, each divided by its frequency to a power.

        u = irfft2(spectrum / max(f, 1/size)^decay);  image = sigmoid(C (mean + contrast (u - mean(u)) / sd(u)))

    High frequencies so change least, as they do in photographs. Dividing by the standard deviation keeps the contrast, and makes the
    optimiser settle: as the spectrum grows, a step of one size changes the image ever less. `of` is exact but for MARGIN at black and
    white, and about 1e-5 elsewhere in float32.

    Parameters:
        size: Of the image, in pixels.
        decay: The power. 1 is that of photographs; above it images are smoother.
        contrast: Standard deviation before the sigmoid, over places and the three axes of colour, at the start.
        learn_contrast: Whether mean and contrast are learned as well, or kept as they start.

    Raises:
        InputError: a size below 4, a negative decay, or a contrast that is not positive.

    Reference: Olah et al. 2017, "Feature Visualization", Distill, doi:10.23915/distill.00007; standardised as in Picard et al. 2025,
        arXiv:2512.11433.
    """

    size: int = 512
    decay: float = 1.0
    contrast: float = 1.0
    learn_contrast: bool = False

    def __post_init__(self) -> None:
        check_count("size", self.size, SMALLEST)
        check_range("decay", self.decay, 0)
        check_range("contrast", self.contrast, 0, open_low=True)

    @property
    def fixed(self) -> frozenset[str]:
        """`mean` and `contrast`, unless they are learned."""
        return frozenset() if self.learn_contrast else frozenset({"mean", "contrast"})

    def start(self, generator: torch.Generator) -> dict[str, Tensor]:
        """`spectrum` (3, size, size // 2 + 1, real and imaginary part): normal noise; `mean` and `contrast`: one number each."""
        spectrum = torch.randn(3, self.size, self.size // 2 + 1, 2, generator=generator)
        return {
            "spectrum": spectrum,
            "mean": torch.zeros(1),
            "contrast": torch.full((1,), self.contrast / _STEP),
        }

    def image(self, parameters: Parameters) -> Image:
        """Back to pixels, standardised, and through the sigmoid."""
        spectrum = parameters["spectrum"]
        shaped = torch.view_as_complex(spectrum.contiguous()) * self._scale().to(spectrum)
        colour = torch.fft.irfft2(shaped, s=(self.size, self.size), norm="ortho")
        colour = _STEP * (parameters["mean"] + parameters["contrast"] * _standardised(colour))
        return torch.sigmoid(recorrelate(colour)).unsqueeze(0)

    def of(self, image: Float[Tensor, "1 3 height width"]) -> dict[str, Tensor]:
        """The spectrum, mean and contrast of an image. The contrast of a grey one, which has none, is 0.05: so it can change at all.

        Raises:
            ShapeError: not one image of three channels.
            InputError: pixels outside [0, 1].
            NotFiniteError: NaN or infinity.
        """
        colour = decorrelate(_logit(image, self.size)[0])
        mean, contrast = colour.mean(), colour.std(correction=0)
        spectrum = torch.view_as_real(torch.fft.rfft2(colour - mean, norm="ortho") / self._scale().to(colour))
        if contrast < 1e-6:
            spectrum, contrast = torch.zeros_like(spectrum), torch.full_like(contrast, _STEP)
        else:
            spectrum = spectrum / spectrum.square().mean().sqrt()
        return {
            "spectrum": spectrum.contiguous(),
            "mean": (mean / _STEP).view(1),
            "contrast": (contrast / _STEP).view(1),
        }

    def _scale(self) -> Float[Tensor, "size half"]:
        return _decay(self.size, self.decay)


@dataclass(frozen=True, eq=False)
class MaCo:
    """The phases of the frequencies; their magnitudes are those of photographs, and fixed (magnitude-constrained optimisation).

        u = irfft2(spectrum * magnitude * exp(i phase));  image = sigmoid(C (contrast (u - mean(u)) / sd(u)))

    Phases of mirrored frequencies are kept opposite, so that the magnitudes of u are those of the spectrum to the digit. `of` keeps the
    phases of an image; with `learn_magnitude` also its magnitudes, but not its mean and contrast.

    Parameters:
        spectrum: Magnitudes in decorrelated colour, see `mean_spectrum`; interpolated where their size is another.
        size: Of the image, in pixels.
        learn_magnitude: Whether factors of the magnitudes are learned as well, from 1 on.
        contrast: Standard deviation before the sigmoid, over places and the three axes of colour.
        as_published: The form of the published code, our reconstruction of it: phases start at N(0, 1) and are standardised each time, and
            mirrored frequencies are left unpaired. Its contrast is 0.5. Its factors start at 0, where PyTorch's gradient is not a
            number; here they start at 1 in both forms.

    Raises:
        InputError: a size below 4, a contrast that is not positive, or numbers that are no magnitudes.
        ShapeError: no spectrum.
        NotFiniteError: NaN or infinity in the spectrum.

    Reference: Fel et al. 2023, arXiv:2306.06805; with learned magnitudes Picard et al. 2025, arXiv:2512.11433.
    """

    spectrum: Spectrum = field(repr=False)
    size: int = 512
    learn_magnitude: bool = False
    contrast: float = 1.0
    as_published: bool = False
    _template: Spectrum = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_count("size", self.size, SMALLEST)
        check_range("contrast", self.contrast, 0, open_low=True)
        check_spectrum(self.spectrum)
        template = spectrum_at(self.spectrum.detach().cpu(), self.size).clone()
        template[:, 0, 0] = 0
        for column in _own_mirrors(self.size):
            template[:, :, column] = (template + template[:, _mirror(self.size)])[:, :, column] / 2
        template = template / template.square().mean().sqrt()
        object.__setattr__(self, "_template", template)

    @property
    def fixed(self) -> frozenset[str]:
        """None."""
        return frozenset()

    def start(self, generator: torch.Generator) -> dict[str, Tensor]:
        """`phase` (3, size, size // 2 + 1), in quarter radians, as published in radians; with `learn_magnitude` also `magnitude`: 1."""
        shape = (3, self.size, self.size // 2 + 1)
        if self.as_published:
            phase = torch.randn(shape, generator=generator)
        else:
            phase = torch.pi / _PHASE_STEP * (2 * torch.rand(shape, generator=generator) - 1)
        return {"phase": phase, **({"magnitude": torch.ones(shape)} if self.learn_magnitude else {})}

    def image(self, parameters: Parameters) -> Image:
        """The picture of the phases, standardised, and through the sigmoid."""
        phase = parameters["phase"]
        magnitude = self._template.to(phase)
        if self.learn_magnitude:
            magnitude = magnitude * self._paired(parameters["magnitude"], odd=False)
        phase = _standardised(phase) if self.as_published else self._paired(_PHASE_STEP * phase, odd=True)
        spectrum = torch.complex(magnitude * phase.cos(), magnitude * phase.sin())
        colour = torch.fft.irfft2(spectrum, s=(self.size, self.size), norm="ortho")
        return torch.sigmoid(recorrelate(self.contrast * _standardised(colour))).unsqueeze(0)

    def of(self, image: Float[Tensor, "1 3 height width"]) -> dict[str, Tensor]:
        """The phases of an image and, where they are learned, its magnitudes as factors of the spectrum's, their mean square 1.

        Raises:
            ShapeError: not one image of three channels.
            InputError: pixels outside [0, 1].
            NotFiniteError: NaN or infinity.
        """
        spectrum = torch.fft.rfft2(decorrelate(_logit(image, self.size)[0]), norm="ortho")
        spectrum[:, 0, 0] = 0
        found = {"phase": spectrum.angle() / (1 if self.as_published else _PHASE_STEP)}
        if self.learn_magnitude:
            template = self._template.to(image)
            ratio = torch.where(template > 0, spectrum.abs() / template.clamp(min=1e-12), 0.0)
            scale = ratio.square().mean().sqrt()
            found["magnitude"] = ratio / scale if scale > 0 else torch.zeros_like(ratio)
        return found

    def _paired(self, values: Tensor, *, odd: bool) -> Tensor:
        """The values with mirrored frequencies made equal, or opposite where `odd`; in all columns but these they have no mirror image."""
        if self.as_published:
            return values
        own, mirror = _own_mirrors(self.size), _mirror(self.size).to(values.device)
        rows = torch.arange(self.size, device=values.device)
        paired = values[:, rows.minimum(mirror)]
        if odd:  # a frequency that is its own mirror image has a real number
            paired = paired * (mirror - rows).sign()[:, None]
        columns = torch.zeros(values.shape[2], dtype=torch.bool, device=values.device)
        columns[list(own)] = True
        return torch.where(columns, paired, values)


def check_parameters(parametrisation: Parametrisation, parameters: Parameters) -> None:
    """Raise unless these are parameters of this parametrisation, finite and of one type.

    Raises:
        InputError: other names, or no floating-point numbers of one type.
        ShapeError: another shape.
        NotFiniteError: NaN or infinity.
    """
    usual = parametrisation.start(torch.Generator().manual_seed(0))
    if set(parameters) != set(usual):
        raise InputError(
            f"start must have the parameters {', '.join(sorted(usual))}, got {', '.join(sorted(parameters)) or 'none'}."
        )
    for name, tensor in parameters.items():
        if tensor.shape != usual[name].shape:
            raise ShapeError(
                f"start['{name}'] must be {shape_text(usual[name])}, got {shape_text(tensor)}; start is for another size or kind of image."
            )
        check_finite(f"start['{name}']", tensor)
    kinds = {tensor.dtype for tensor in parameters.values()}
    if len(kinds) != 1 or not kinds <= {torch.float32, torch.float64}:
        raise InputError(
            f"start must be float32 or float64 throughout, got {', '.join(sorted(map(str, kinds)))}."
        )


def _standardised(values: Tensor) -> Tensor:
    """Mean 0 and standard deviation 1 over all; of a constant 0, with a finite gradient."""
    centred = values - values.mean()
    return centred / (centred.square().mean() + _TINY).sqrt()


def _logit(image: Tensor, size: int) -> Tensor:
    """What the sigmoid takes to the image, at the side `size`."""
    if not isinstance(image, Tensor) or not image.is_floating_point():
        raise InputError("image must be a tensor of pixels in [0, 1].")
    check_images("image", image)
    if image.shape[:2] != (1, 3):
        raise ShapeError(f"image must be one image of three channels, got {shape_text(image)}.")
    check_finite("image", image)
    square = image.detach()
    low, high = float(square.min()), float(square.max())
    if low < 0 or high > 1:
        raise InputError(f"image must be pixels in [0, 1], but they go from {low:.3g} to {high:.3g}.")
    if image.shape[2:] != (size, size):
        square = resampled(square, whole_box(square, (size, size)), (size, size))
    return torch.logit(square.clamp(MARGIN, 1 - MARGIN))


@lru_cache(maxsize=8)
def _decay(size: int, power: float) -> Float[Tensor, "size half"]:
    """1 / max(f, 1 / size)^power, its mean square 1."""
    scale = frequencies(size).clamp(min=1 / size) ** -power
    return scale / scale.square().mean().sqrt()


def _own_mirrors(size: int) -> tuple[int, ...]:
    """The columns of `rfft2` whose frequencies have their mirror images in the same column."""
    return (0,) if size % 2 else (0, size // 2)


def _mirror(size: int) -> Tensor:
    return (-torch.arange(size)) % size
