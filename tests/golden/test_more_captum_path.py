"""GradientSHAP against captum's: equal for the same draws, and in the mean for its own."""

import numpy as np
import pytest
import torch

import counterpoint as cp
from closeness import assert_equal_within
from networks import SmallNet, random_images

captum = pytest.importorskip("captum.attr")
pytestmark = pytest.mark.golden

DRAWS = cp.baselines.Uniform(draws=3, seed=1)


def ours(net, images, **settings):
    return cp.compare(cp.logit(net, 2), images, baseline=DRAWS).explain(cp.methods.GradientSHAP(**settings))


@pytest.mark.parametrize("kind", SmallNet.KINDS)
def test_for_the_same_draws_the_values_are_equal(kind, monkeypatch):
    net, images, samples, noise = SmallNet(5, kind), random_images(6), 12, 0.2
    # Our draws, in our order: a place in each of 12 strata, then the noise of each sample, the same for every image.
    generator = torch.Generator().manual_seed(4)
    jitter = torch.rand(samples, generator=generator, dtype=torch.float64)
    places = (torch.randperm(samples, generator=generator) + jitter) / samples
    normal = torch.randn(samples, 2, 6, 6, generator=generator, dtype=torch.float64)
    flat = images.flatten(1)
    sigma = (noise * (flat.amax(1) - flat.amin(1))).view(2, 1, 1, 1, 1)
    # Captum keeps no generator: it draws noise from torch's global one, places and baselines from numpy's, image by image.
    monkeypatch.setattr(torch, "normal", lambda mean, size: (sigma * normal).flatten(0, 1))
    monkeypatch.setattr(np.random, "uniform", lambda low, high, size: places.repeat(2).numpy())
    monkeypatch.setattr(np.random, "choice", lambda count, size: np.tile(np.arange(samples) % 3, 2))
    theirs = captum.GradientShap(net).attribute(
        images, DRAWS(images)[:, 0], n_samples=samples, stdevs=0.2, target=2
    )
    assert_equal_within(ours(net, images, samples=samples, noise=noise, seed=4).values, theirs, 1e-13)


def test_with_its_own_draws_captum_has_the_same_mean():
    net, images = SmallNet(5, "smooth"), random_images(6)
    few = ours(net, images, samples=400, noise=0.1)
    many = ours(net, images, samples=4000, noise=0.1, seed=1)
    flat = images[:1].flatten(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        state = np.random.get_state()
        np.random.seed(0)
        try:
            theirs = captum.GradientShap(net).attribute(
                images[:1],
                DRAWS(images)[:, 0],
                n_samples=4000,
                stdevs=0.1 * float(flat.max() - flat.min()),
                target=2,
            )
        finally:
            np.random.set_state(state)
    # Two means of 4000: their difference has the standard error of one of 400 divided by sqrt(10), times sqrt(2).
    expected = few.standard_error[:1] * (2 / 10) ** 0.5
    off = (theirs - many.values[:1]).abs() / expected
    assert off.max() < 4.5
    assert off.mean() < 1.0
