"""Scrambled and local baselines, in both forms, against plain NumPy transcriptions of their formulas."""

import itertools

import numpy as np
import pytest
import torch

from counterpoint import baselines
from counterpoint.baselines.scrambled import permutation
from counterpoint.errors import InputError, ShapeError


@pytest.fixture
def images():
    return torch.rand(2, 3, 13, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def order(count, seed=0):
    return permutation(count, seed).numpy()


def test_permutation_moves_whole_pixels_all_images_alike(images):
    # Its own coordinates as colours say where each pixel of an image came from.
    y, x = torch.meshgrid(torch.arange(13.0), torch.arange(10.0), indexing="ij")
    came_from = baselines.Permutation(seed=3)(torch.stack([y, x]).unsqueeze(0).double())[0].long()
    assert len({tuple(place) for place in came_from.flatten(1).T.tolist()}) == 130
    moved = baselines.Permutation(seed=3)(images)
    torch.testing.assert_close(moved, images[:, :, came_from[0], came_from[1]], rtol=0, atol=0)
    assert not torch.equal(moved, baselines.Permutation(seed=4)(images))


def edges(size, cells):
    return [-(-k * size // cells) for k in range(cells + 1)]


def test_local_mean_is_the_mean_of_cells_as_even_as_can_be(images):
    expected, down, across = images.numpy().copy(), edges(13, 4), edges(10, 4)
    assert sorted(np.diff(down)) == [3, 3, 3, 4]
    assert sorted(np.diff(across)) == [2, 2, 3, 3]
    for a, b in itertools.pairwise(down):
        for c, d in itertools.pairwise(across):
            expected[:, :, a:b, c:d] = images.numpy()[:, :, a:b, c:d].mean((2, 3), keepdims=True)
    torch.testing.assert_close(baselines.LocalMean(cells=4)(images), torch.tensor(expected))


def test_local_mean_keeps_the_light_where_cells_divide_the_size_and_an_image_smaller_than_its_cells(images):
    square = torch.rand(1, 3, 16, 24, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    torch.testing.assert_close(baselines.LocalMean()(square).mean((2, 3)), square.mean((2, 3)))
    torch.testing.assert_close(baselines.LocalMean(cells=20)(images), images)


def resized_as_published(images, cells):
    """Bilinear at half-pixel centres, without antialias."""

    def line(size):
        centre = np.clip((np.arange(cells) + 0.5) * size / cells - 0.5, 0, size - 1)
        low = np.floor(centre).astype(int)
        return low, np.minimum(low + 1, size - 1), centre - low

    x = 2 * images.numpy() - 1
    low, high, share = line(x.shape[2])
    x = x[:, :, low] * (1 - share)[:, None] + x[:, :, high] * share[:, None]
    low, high, share = line(x.shape[3])
    return x[..., low] * (1 - share) + x[..., high] * share


def enlarged_as_published(small, height, width):
    down = np.floor((np.arange(height) + 0.5) * small.shape[2] / height).astype(int)
    across = np.floor((np.arange(width) + 0.5) * small.shape[3] / width).astype(int)
    return torch.tensor((small[:, :, down][..., across] + 1) / 2)


@pytest.mark.parametrize(("height", "width"), [(13, 10), (24, 32), (5, 9)])
def test_local_mean_as_published_reads_two_by_two_pixels_of_a_cell(height, width):
    images = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = enlarged_as_published(resized_as_published(images, 8), height, width)
    torch.testing.assert_close(baselines.LocalMean(as_published=True)(images), expected)


def test_local_permutation_moves_the_cells_of_local_mean():
    images = torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    means = images.numpy().reshape(2, 3, 8, 2, 8, 3).mean((3, 5))
    moved = means.reshape(2, 3, 64)[:, :, order(64, 5)].reshape(2, 3, 8, 8)
    expected = torch.tensor(np.kron(moved, np.ones((2, 3))))
    torch.testing.assert_close(baselines.LocalPermutation(seed=5)(images), expected)
    small = resized_as_published(images, 8).reshape(2, 3, 64)[:, :, order(64, 5)].reshape(2, 3, 8, 8)
    torch.testing.assert_close(
        baselines.LocalPermutation(seed=5, as_published=True)(images), enlarged_as_published(small, 16, 24)
    )


def scrambled(image, moves_phase, seed):
    """One channel: amplitudes or phases of pairs of mirrored frequencies move, one pair at a time."""
    height, width = image.shape
    spectrum = np.fft.fft2(image)
    amplitude, phase = np.abs(spectrum), np.angle(spectrum)
    pairs = []
    for i in range(height):
        for j in range(width):
            mirror = ((-i) % height, (-j) % width)
            if (i, j) < mirror:
                pairs.append(((i, j), mirror))
    new_amplitude, new_phase = amplitude.copy(), phase.copy()
    for (here, mirror), k in zip(pairs, order(len(pairs), seed), strict=True):
        source = pairs[k][0]
        if moves_phase:
            new_phase[here], new_phase[mirror] = phase[source], -phase[source]
        else:
            new_amplitude[here] = new_amplitude[mirror] = amplitude[source]
    picture = np.fft.ifft2(new_amplitude * np.exp(1j * new_phase))
    assert np.abs(picture.imag).max() < 1e-12
    return np.clip(picture.real, 0, 1)


@pytest.mark.parametrize("size", [(13, 10), (8, 8), (7, 9)])
@pytest.mark.parametrize(
    ("make", "moves_phase"), [(baselines.ScramblePhase, True), (baselines.ScrambleAmplitude, False)]
)
def test_scrambled_frequencies_are_numpys_and_make_a_real_picture(make, moves_phase, size):
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = [[scrambled(channel, moves_phase, 2) for channel in image] for image in images.numpy()]
    torch.testing.assert_close(make(seed=2)(images), torch.tensor(np.array(expected)), rtol=0, atol=1e-12)


@pytest.mark.parametrize("make", [baselines.ScramblePhase, baselines.ScrambleAmplitude])
def test_scrambling_keeps_the_mean_colour_and_one_half_of_the_spectrum(images, make):
    faint = 0.5 + 0.02 * images  # nothing is cut off
    before, after = torch.fft.fft2(faint), torch.fft.fft2(make()(faint))
    torch.testing.assert_close(make()(faint).mean((2, 3)), faint.mean((2, 3)))
    half = (lambda z: z.abs()) if make is baselines.ScramblePhase else (lambda z: z / z.abs())
    torch.testing.assert_close(half(after), half(before), rtol=1e-7, atol=1e-7)
    other = (lambda z: z / z.abs()) if make is baselines.ScramblePhase else (lambda z: z.abs())
    assert (other(after) - other(before)).abs().median() > 0.1 * other(before).abs().median()


@pytest.mark.parametrize(
    ("make", "moves_phase"), [(baselines.ScramblePhase, True), (baselines.ScrambleAmplitude, False)]
)
def test_scrambling_as_published_works_over_width_and_channel_and_takes_the_absolute_value(
    images, make, moves_phase
):
    x = 2 * images.numpy().transpose(0, 2, 3, 1) - 1  # (batch, height, width, channel) in [-1, 1]
    spectrum = np.fft.fft2(x)  # over the last two axes
    amplitude, phase = np.abs(spectrum), np.angle(spectrum)

    def moved(a):
        return a.reshape(2, 130, 3)[:, order(130, 2)].reshape(a.shape)

    mixed = amplitude * np.exp(1j * moved(phase)) if moves_phase else moved(amplitude) * np.exp(1j * phase)
    expected = (np.abs(np.fft.ifft2(mixed)).transpose(0, 3, 1, 2) + 1) / 2
    found = make(seed=2, as_published=True)(images)
    torch.testing.assert_close(found, torch.tensor(expected))
    assert found.min() >= 0.5


def test_wrong_arguments_are_named(unchecked):
    with pytest.raises(InputError, match="cells must be at least 1, got 0"):
        baselines.LocalMean(cells=0)
    for make in (baselines.Permutation, baselines.LocalMean, baselines.ScramblePhase):
        with pytest.raises(ShapeError, match=r"inputs must be images .* got \(2, 5\)"):
            make()(torch.ones(2, 5))
