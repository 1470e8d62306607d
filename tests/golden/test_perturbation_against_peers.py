"""Perturbation methods against captum: equal but for how a region's number stands on its pixels, and what sampling costs.

captum writes a region's number on each of its pixels and channels, so that its map does not sum to anything; ours of shares is spread
over them. `on_each` undoes that.
"""

import pytest
import torch

import counterpoint as cp
from closeness import assert_equal_within
from counterpoint.methods import LIME, FeatureAblation, Grid, KernelSHAP, Occlusion
from networks import SmallNet, random_images

captum = pytest.importorskip("captum.attr")
pytestmark = pytest.mark.golden

MEAN = cp.baselines.Mean()
TARGET = 1
# Its Occlusion, ShapleyValues and Lime return float32, also where scores are float64; its FeatureAblation does not.
FLOAT32 = 1e-6


def asked(kind="smooth", size=12, batch=2):
    net, images = SmallNet(5, kind), random_images(6, batch=batch, size=size)
    return net, images, cp.compare(cp.logit(net, TARGET), images, baseline=MEAN)


def on_each(values, pixels):
    """Our shares as captum writes them: the region's number on each of its pixels and channels."""
    return values * pixels * values.shape[1]


@pytest.mark.parametrize("kind", SmallNet.KINDS)
@pytest.mark.parametrize("size", [3, 4, 12])
def test_occlusion_by_windows_side_by_side(kind, size):
    net, images, comparison = asked(kind)
    ours = comparison.explain(Occlusion(size=size, stride=size))
    theirs = captum.Occlusion(net).attribute(
        images, (2, size, size), strides=(2, size, size), baselines=MEAN(images), target=TARGET
    )
    assert_equal_within(on_each(ours.values, size**2), theirs.double(), FLOAT32)


def test_occlusion_by_windows_that_overlap_differs_at_the_edges_only():
    net, images, comparison = asked(size=16)
    ours = comparison.explain(Occlusion(size=4, stride=2))
    theirs = captum.Occlusion(net).attribute(
        images, (2, 4, 4), strides=(2, 2, 2), baselines=MEAN(images), target=TARGET
    )
    inside = slice(2, -2)
    assert_equal_within(
        on_each(ours.values, 16)[:, :, inside, inside], theirs[:, :, inside, inside].double(), FLOAT32
    )
    # Their first windows begin at the edge: a corner is removed once where inner pixels are removed four times.
    assert (on_each(ours.values, 16) - theirs)[:, :, 0, 0].abs().max() > 0.1 * theirs.abs().max()


def test_only_windows_from_outside_the_image_explain_all_of_a_sum_over_pixels():
    _, images, _ = asked(size=8)

    def score(x):
        return (x**3).sum((1, 2, 3))

    ours = cp.compare(score, images, baseline=MEAN).explain(Occlusion(size=4, stride=2))
    theirs = captum.Occlusion(score).attribute(images, (2, 4, 4), strides=(2, 2, 2), baselines=MEAN(images))
    assert ours.relative_error.max() < 1e-12
    missed = (
        1 - theirs.sum((1, 2, 3)) / (16 * 2) / ours.target
    )  # their numbers spread over their windows, as ours are
    assert missed.abs().min() > 0.01
    assert missed.abs().max() > 0.1


@pytest.mark.parametrize("kind", SmallNet.KINDS)
def test_feature_ablation_by_region(kind):
    net, images, comparison = asked(kind)
    labels = Grid(4)(images)
    ours = comparison.explain(FeatureAblation(regions=Grid(4)))
    theirs = captum.FeatureAblation(net).attribute(
        images, baselines=MEAN(images), target=TARGET, feature_mask=labels.unsqueeze(1)
    )
    assert_equal_within(on_each(ours.values, 9), theirs, 1e-13)


@pytest.mark.parametrize("kind", ["plain", "smooth"])
def test_exact_shapley_values_of_four_regions(kind):
    net, images, comparison = asked(kind)
    ours = comparison.explain(KernelSHAP(regions=Grid(2), samples=14))
    theirs = captum.ShapleyValues(net).attribute(
        images, baselines=MEAN(images), target=TARGET, feature_mask=Grid(2)(images).unsqueeze(1).contiguous()
    )
    assert ours.standard_error.abs().max() == 0
    assert_equal_within(on_each(ours.values, 36), theirs.double(), FLOAT32)


def distances(values, truth):
    return ((values - truth).abs().sum() / truth.abs().sum()).item()


def test_kernel_shap_is_nearer_to_the_exact_values_with_as_many_forwards():
    net, images, comparison = asked(batch=1)
    exact = on_each(comparison.explain(KernelSHAP(regions=Grid(3), samples=510)).values, 16)
    labels = Grid(3)(images).unsqueeze(1)
    ours, theirs, permutations = [], [], []
    for seed in range(10):
        method = KernelSHAP(regions=Grid(3), samples=90, seed=seed, precision=None)
        ours.append(distances(on_each(comparison.explain(method).values, 16), exact))
        with torch.random.fork_rng(devices=[]):  # it draws from the global generator
            torch.manual_seed(seed)
            given = {"baselines": MEAN(images), "target": TARGET, "feature_mask": labels}
            theirs.append(distances(captum.KernelShap(net).attribute(images, n_samples=90, **given), exact))
            sampling = captum.ShapleyValueSampling(net).attribute(images, n_samples=10, **given)
            permutations.append(distances(sampling, exact))
    mean = [sum(each) / len(each) for each in (ours, theirs, permutations)]
    # Relative L1 distance from the exact values, 90 forwards each. All converge to the same.
    assert mean[0] < 0.01
    assert mean[1] > 0.02
    assert mean[2] > 0.02


def test_lime_on_the_same_coalitions():
    from captum._utils.models.linear_model import SkLearnRidge

    net, images, comparison = asked(batch=1)
    method = LIME(regions=Grid(3), samples=60, seed=3)
    ours = comparison.explain(method)
    drawn = torch.rand(60, 9, generator=torch.Generator().manual_seed(3), dtype=torch.float64) < 0.5
    # Ours counts the whole image as well.
    coalitions = iter(torch.cat([torch.ones(1, 9, dtype=torch.bool), drawn]).long().split(1))

    def similarity(original, perturbed, there, **settings):
        distance = 1 - there.double().mean().sqrt()
        return torch.exp(-(distance**2) / (2 * 0.25**2))

    theirs = captum.Lime(
        net,
        interpretable_model=SkLearnRidge(alpha=1.0),
        similarity_func=similarity,
        perturb_func=lambda *given, **settings: next(coalitions),
    ).attribute(
        images,
        baselines=MEAN(images),
        target=TARGET,
        feature_mask=Grid(3)(images).unsqueeze(1),
        n_samples=61,
    )
    # A coefficient stands on each pixel in both; ours is shared by the channels.
    assert_equal_within(ours.values * 2, theirs.double(), FLOAT32)
