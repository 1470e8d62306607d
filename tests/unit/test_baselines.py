"""Closed forms of the baselines."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from counterpoint import baselines
from counterpoint.errors import InputError, ShapeError


@pytest.fixture
def images():
    return torch.rand(2, 3, 12, 15, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_black_white_and_grey_are_pixel_units(images):
    for baseline, level in ((baselines.Black(), 0.0), (baselines.White(), 1.0), (baselines.Grey(), 0.5)):
        torch.testing.assert_close(baseline(images), torch.full_like(images, level))


def test_zero_says_that_it_is_grey():
    assert baselines.Grey is baselines.Zero
    assert "mid-grey 0.5" in repr(baselines.Zero())


def test_constant_takes_one_number_or_one_for_each_channel(images):
    coloured = baselines.Constant((0.1, 0.2, 0.3))(images)
    for channel, level in enumerate((0.1, 0.2, 0.3)):
        torch.testing.assert_close(coloured[:, channel], torch.full_like(images[:, 0], level))
    torch.testing.assert_close(baselines.Constant(0.7)(images), torch.full_like(images, 0.7))
    with pytest.raises(ShapeError, match="color has 2 channels, but inputs are"):
        baselines.Constant((0.1, 0.2))(images)
    with pytest.raises(InputError, match="finite"):
        baselines.Constant(float("nan"))


def test_mean_and_median_are_numpys(images):
    for baseline, reference in ((baselines.Mean(), np.mean), (baselines.Median(), np.median)):
        expected = torch.tensor(reference(images.numpy(), axis=(2, 3)))[:, :, None, None].expand_as(images)
        torch.testing.assert_close(baseline(images), expected)


def test_mean_does_not_lose_a_large_image_to_bfloat16():
    images = torch.full((1, 3, 224, 224), 0.5, dtype=torch.bfloat16)
    torch.testing.assert_close(baselines.Mean()(images), images, rtol=0, atol=0)


@pytest.mark.parametrize("sigma", [0.7, 2.0, 6.0])
def test_blur_is_scipys_gaussian_filter(images, sigma):
    expected = gaussian_filter(images.numpy(), sigma=(0, 0, sigma, sigma), mode="reflect", truncate=4.0)
    torch.testing.assert_close(baselines.Blur(sigma=sigma)(images), torch.tensor(expected))


def test_blur_keeps_a_constant_image_and_the_mean_light(images):
    flat = torch.full_like(images, 0.3)
    torch.testing.assert_close(baselines.Blur(sigma=10)(flat), flat)
    blurred = baselines.Blur(sigma=3)(images)
    torch.testing.assert_close(blurred.mean((2, 3)), images.mean((2, 3)))


def test_noise_has_the_distribution_that_it_names():
    images = torch.zeros(1, 3, 200, 200, dtype=torch.float64)
    uniform = baselines.Uniform(low=0.2, high=0.6)(images)
    assert 0.2 <= uniform.min() < 0.201 < 0.599 < uniform.max() <= 0.6
    assert uniform.mean() == pytest.approx(0.4, abs=2e-3)
    normal = baselines.Normal()(images)
    assert normal.min() == 0.0
    assert normal.max() == 1.0
    # A share 0.3173 of N(0, 1) lies beyond one standard deviation.
    assert ((normal == 0) | (normal == 1)).double().mean() == pytest.approx(0.3173, abs=5e-3)


def test_a_random_colour_is_one_colour(images):
    colour = baselines.RandomColor(seed=4)(images)
    torch.testing.assert_close(colour, colour[:1, :, :1, :1].expand_as(images))
    assert not torch.equal(colour, baselines.RandomColor(seed=5)(images))


def test_fill_pastes_the_baseline_where_pixels_are_removed(images):
    removed = torch.zeros(2, 12, 15, dtype=torch.bool)
    removed[0, :3] = True
    filled = baselines.White().fill(images, removed)
    assert (filled[0, :, :3] == 1).all()
    torch.testing.assert_close(filled[0, :, 3:], images[0, :, 3:])
    torch.testing.assert_close(filled[1], images[1])


def test_wrong_inputs_are_named(unchecked):
    with pytest.raises(ShapeError, match=r"got \(2, 5\)"):
        baselines.Mean()(torch.ones(2, 5))
    with pytest.raises(ShapeError, match="must have channels and places"):
        baselines.Blur()(torch.ones(2, 5))
    with pytest.raises(InputError, match="low must be below high"):
        baselines.Uniform(low=1.0, high=0.0)
