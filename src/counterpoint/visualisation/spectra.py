"""How strong each frequency of photographs is: from images of one's own, from the bundled photographs, or 1 / f.

A spectrum is (3, size, size // 2 + 1): the magnitudes of `rfft2` for the three axes of decorrelated colour. Frequency 0,
the mean colour, has magnitude 0: it says nothing about texture, and images made from a spectrum have their mean set otherwise.
"""

from functools import cache
from importlib.resources import files

import torch
from jaxtyping import Float
from safetensors.torch import load
from scipy.ndimage import map_coordinates
from torch import Tensor

from counterpoint.checks import check_finite, check_images, shape_text
from counterpoint.errors import InputError, ShapeError
from counterpoint.visualisation.colour import decorrelate
from counterpoint.visualisation.views import check_count

Spectrum = Float[Tensor, "3 size half"]

SMALLEST = 4
"""Of a spectrum's size: below it there is no frequency between the lowest and the highest."""


def frequencies(size: int) -> Float[Tensor, "size half"]:
    """The frequency of each number of `rfft2`, in cycles for each pixel, 0 to sqrt(1/2); float64."""
    down = torch.fft.fftfreq(size, dtype=torch.float64)
    across = torch.fft.rfftfreq(size, dtype=torch.float64)
    return torch.hypot(down[:, None], across)


def mean_spectrum(images: Float[Tensor, "images 3 height width"], *, size: int | None = None) -> Spectrum:
    """The mean magnitude of each frequency over images.

    The largest central square of each image is taken to decorrelated colour, its mean taken off, and faded out towards its border with a
    Hann window: without it the jump from one border to the opposite one, which is no part of the photograph, would show as a cross.

    Args:
        images: Pixels in [0, 1]. A few dozen are enough.
        size: Of the spectrum; by default the side of the square. Another size is interpolated by frequency in cycles for each pixel,
            so that a spectrum of small images serves for large ones, as texture is much the same at every scale.

    Raises:
        InputError: no tensor of numbers, or nothing but images of one colour.
        ShapeError: no images, not three channels, or fewer than 4 pixels on a side.
        NotFiniteError: NaN or infinity.
    """
    if not isinstance(images, Tensor) or not images.is_floating_point():
        what = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise InputError(f"images must be a tensor of pixels in [0, 1], got {what}.")
    check_images("images", images)
    side = min(images.shape[2:])
    if images.shape[0] == 0 or images.shape[1] != 3 or side < SMALLEST:
        raise ShapeError(
            f"images must be at least one image of 3 channels and {SMALLEST} pixels a side, got {shape_text(images)}."
        )
    check_finite("images", images)
    top, left = (images.shape[2] - side) // 2, (images.shape[3] - side) // 2
    fade = torch.hann_window(side + 2, periodic=False, dtype=torch.float64)[1:-1]
    window = fade[:, None] * fade
    total = torch.zeros(3, side, side // 2 + 1, dtype=torch.float64)
    for image in images:
        colour = decorrelate(image[:, top : top + side, left : left + side].detach().cpu().double())
        mean = (colour * window).sum((1, 2), keepdim=True) / window.sum()
        total += torch.fft.rfft2((colour - mean) * window).abs()
    total[:, 0, 0] = 0
    if not total.max() > 1e-9 * side**2:
        raise InputError(
            "images must have more than one colour each, but all of them are plain: they have no spectrum."
        )
    return spectrum_at((total / len(images)).to(torch.float32), side if size is None else size)


def pink_spectrum(size: int) -> Spectrum:
    """1 / f, the mean magnitude of photographs at first sight; the same for all three axes.

    Raises:
        InputError: a size below 4.
    """
    check_count("size", size, SMALLEST)
    frequency = frequencies(size)
    magnitude = torch.where(frequency > 0, 1 / (size * frequency), 0.0)
    return magnitude.float().expand(3, -1, -1).clone()


def bundled_spectrum(size: int) -> Spectrum:
    """The mean magnitude of the bundled photographs, those samples of scikit-image that have colours.

    It lies in the package at a low resolution (25 kB), so that neither scikit-image nor time is needed, and is smooth, since so few
    photographs say nothing about single frequencies. `examples/bundled_spectrum.py` makes it.

    Raises:
        InputError: a size below 4.
    """
    check_count("size", size, SMALLEST)
    return spectrum_at(_bundled(), size)


def spectrum_at(spectrum: Spectrum, size: int) -> Float[Tensor, "3 new_size new_half"]:
    """A spectrum for images of another size, interpolated between frequencies in cycles for each pixel.

    What is interpolated is magnitude times frequency, which is nearly flat for photographs where the magnitude itself is steep.

    Raises:
        ShapeError: no spectrum.
        InputError: a size below 4, negative magnitudes, or nothing but zeros.
        NotFiniteError: NaN or infinity.
    """
    check_count("size", size, SMALLEST)
    check_spectrum(spectrum)
    side = spectrum.shape[1]
    if side == size:
        return spectrum
    flat = spectrum.detach().cpu().double() * frequencies(side)
    # Frequency 0 has no value of its own: it gets that of its neighbours.
    flat[:, 0, 0] = (flat[:, 1, 0] + flat[:, 0, 1] + flat[:, -1, 0]) / 3
    mirror = (-torch.arange(side)) % side
    rest = flat[:, mirror][:, :, mirror[side // 2 + 1 :]]  # the frequencies that rfft2 leaves out
    every = torch.cat([flat, rest], 2).numpy()
    down, across = torch.fft.fftfreq(size) * side, torch.fft.rfftfreq(size) * side
    places = [axis.double().numpy() for axis in torch.meshgrid(down, across, indexing="ij")]
    found = [map_coordinates(axis, places, order=1, mode="grid-wrap") for axis in every]
    # Not a number at frequency 0, which is set apart.
    magnitude = torch.stack([torch.from_numpy(axis) for axis in found]) / frequencies(size)
    magnitude[:, 0, 0] = 0
    return magnitude.to(spectrum)


def check_spectrum(spectrum: Spectrum) -> None:
    """Raise unless it is (3, size, size // 2 + 1), finite, not negative and not nothing.

    Raises:
        ShapeError: another shape.
        InputError: no tensor, negative magnitudes, or nothing but zeros beside frequency 0.
        NotFiniteError: NaN or infinity.
    """
    if not isinstance(spectrum, Tensor) or not spectrum.is_floating_point():
        raise InputError(f"spectrum must be a tensor of magnitudes, got {type(spectrum).__name__}.")
    side = spectrum.shape[1] if spectrum.ndim == 3 else 0
    if spectrum.shape != (3, side, side // 2 + 1) or side < SMALLEST:
        raise ShapeError(
            f"spectrum must be (3, size, size // 2 + 1) with a size of at least {SMALLEST}, got {shape_text(spectrum)}."
        )
    check_finite("spectrum", spectrum)
    if bool((spectrum < 0).any()) or not bool((spectrum.flatten(1)[:, 1:] > 0).any()):
        raise InputError("spectrum must be magnitudes: none negative, and not all 0.")


@cache
def _bundled() -> Spectrum:
    stored = files("counterpoint.visualisation").joinpath("bundled_spectrum.safetensors").read_bytes()
    return load(stored)["spectrum"]
