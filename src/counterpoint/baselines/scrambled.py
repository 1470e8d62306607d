"""The image itself, put out of order: its pixels, or the phases or amplitudes of its frequencies."""

from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from counterpoint.checks import check_images
from counterpoint.protocols import Baseline

Images = Float[Tensor, "batch channel height width"]
Spectrum = Complex[Tensor, "batch channel height width"]


def permutation(count: int, seed: int) -> Int[Tensor, " count"]:
    """A random order of `count` places, drawn on the CPU: one seed means one order on every device."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))


@dataclass(frozen=True)
class Permutation(Baseline):
    """The image's own pixels in a random order, each with its colour; the same order for all images of a size.

    Parameters:
        seed: Which order.

    Reference: Picard et al. 2025, arXiv:2512.11433, baseline "permutation".
    """

    seed: int = 0

    def __call__(self, inputs: Images) -> Images:
        """Each image's pixels, moved.

        Raises:
            ShapeError: the inputs are no images.
        """
        check_images("inputs", inputs)
        pixels = inputs.flatten(2)
        order = permutation(pixels.shape[2], self.seed).to(inputs.device)
        return pixels[:, :, order].view_as(inputs)


@dataclass(frozen=True)
class ScramblePhase(Baseline):
    """The image's frequencies with their amplitudes, their phases in a random order: its texture without its shapes.

    Two-dimensional frequencies of each channel, one order for all channels and images. A frequency and its mirror image take their phase
    as a pair, and those that are their own mirror image, the mean colour among them, keep theirs: so the picture is real. It is cut
    off at black and white, since a baseline is a picture that the model could be shown; that meets about one in twenty numbers of a
    photograph, one in four of a harsh one, and moves the mean colour by 0.03 at most.

    Parameters:
        seed: Which order.
        as_published: The form of the published code, our reconstruction of it: frequencies over the last two axes of a (height, width,
            channel) array in [-1, 1], that is over width and channel; phases moved regardless of mirror images, one order of
            (height, width) places for all channels; the absolute value of what comes back, so that no number is below mid-grey and some
            are above white.

    Reference: Picard et al. 2025, arXiv:2512.11433, baseline "scramble_phase".
    """

    seed: int = 0
    as_published: bool = False

    def __call__(self, inputs: Images) -> Images:
        """Each image with its phases moved.

        Raises:
            ShapeError: the inputs are no images.
        """
        spectrum = _spectrum(inputs, as_published=self.as_published)
        moved = _moved(spectrum.angle(), self.seed, as_published=self.as_published, odd=True)
        return _picture(torch.polar(spectrum.abs(), moved), inputs, as_published=self.as_published)


@dataclass(frozen=True)
class ScrambleAmplitude(Baseline):
    """The image's frequencies with their phases, their amplitudes in a random order: its edges, drowned in noise.

    As in ScramblePhase: a frequency and its mirror image take their amplitude as a pair, the mean colour stays, and the picture is cut off
    at black and white.

    Parameters:
        seed: Which order.
        as_published: The form of the published code, our reconstruction of it; see ScramblePhase.

    Reference: Picard et al. 2025, arXiv:2512.11433, baseline "scramble_amplitude".
    """

    seed: int = 0
    as_published: bool = False

    def __call__(self, inputs: Images) -> Images:
        """Each image with its amplitudes moved.

        Raises:
            ShapeError: the inputs are no images.
        """
        spectrum = _spectrum(inputs, as_published=self.as_published)
        moved = _moved(spectrum.abs(), self.seed, as_published=self.as_published, odd=False)
        return _picture(torch.polar(moved, spectrum.angle()), inputs, as_published=self.as_published)


def _spectrum(inputs: Images, *, as_published: bool) -> Spectrum:
    check_images("inputs", inputs)
    exact = inputs.to(torch.promote_types(inputs.dtype, torch.float32))
    # Width and channel are the last two axes of (height, width, channel).
    spectrum: Tensor = torch.fft.fft2(2 * exact - 1, dim=(3, 1)) if as_published else torch.fft.fft2(exact)
    return spectrum


def _picture(spectrum: Spectrum, inputs: Images, *, as_published: bool) -> Images:
    if as_published:
        modulus: Tensor = torch.fft.ifft2(spectrum, dim=(3, 1)).abs()
        return ((modulus + 1) / 2).to(inputs.dtype)
    picture: Tensor = torch.fft.ifft2(spectrum).real
    return picture.clamp(0.0, 1.0).to(inputs.dtype)


def _moved(values: Images, seed: int, *, as_published: bool, odd: bool) -> Images:
    """The values of frequencies in a random order of places, mirror images kept together; of opposite sign where `odd`."""
    height, width = values.shape[2:]
    flat = values.flatten(2)
    if as_published:
        order = permutation(height * width, seed).to(values.device)
        return flat.index_select(2, order).reshape(values.shape)
    place = torch.arange(height * width).view(height, width)
    mirror = place.roll((-1, -1), (0, 1)).flip(0, 1).flatten()  # of frequency k: -k, modulo the size
    one = (place.flatten() < mirror).nonzero().flatten()  # one of each pair
    order = one[permutation(len(one), seed)]
    one, other, order = (index.to(values.device) for index in (one, mirror[one], order))
    moved = flat.clone()
    moved[:, :, one] = flat[:, :, order]
    moved[:, :, other] = -flat[:, :, order] if odd else flat[:, :, order]
    return moved.reshape(values.shape)
