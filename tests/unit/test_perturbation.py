"""Closed forms of the methods that perturb the image, in float64."""

import sys
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

import counterpoint as cp
from counterpoint.errors import Cancelled, InputError, MissingPackageError, ShapeError
from counterpoint.methods import HSIC, LIME, RISE, XRAI, FeatureAblation, Grid, Occlusion, Sobol
from counterpoint.methods.xrai import _greedy
from counterpoint.progress import listening
from counterpoint.protocols import Baseline
from networks import SmallNet, random_images

BLACK = cp.baselines.Black()
REMOVING = [
    Occlusion(size=3, stride=3),
    FeatureAblation(),
    LIME(samples=100),
    RISE(masks=40),
    Sobol(cells=3, designs=4),
    HSIC(cells=3, designs=20),
]


def explain(method, score, images, *, baseline=BLACK, **settings):
    return cp.compare(score, images, baseline=baseline, **settings).explain(method)


def cubes(x):
    """A score that is a sum over pixels, and not linear."""
    return (x**3).sum((1, 2, 3))


def halves(x):
    """The means of the left and the right half."""
    left, right = x.chunk(2, dim=3)
    return left.mean((1, 2, 3)), right.mean((1, 2, 3))


def cells_of(images, cells=2):
    """The mean of each cell of a grid that divides the image: (rows, cells^2)."""
    side = images.shape[2] // cells
    return images.view(len(images), -1, cells, side, cells, side).mean((1, 3, 5)).flatten(1)


# Occlusion and ablation


@pytest.mark.parametrize("baseline", [BLACK, cp.baselines.Mean(), cp.baselines.Uniform(seed=1)])
@pytest.mark.parametrize(("size", "stride"), [(3, 3), (4, 2), (6, 2), (5, 1), (2, 2), (12, 4)])
def test_occlusion_explains_all_of_a_score_that_is_a_sum_over_pixels(baseline, size, stride):
    images = random_images(2, size=7)
    attribution = explain(Occlusion(size=size, stride=stride), cubes, images, baseline=baseline)
    assert attribution.target.abs().min() > 0.1
    assert attribution.error.abs().max() < 1e-12


def test_occlusion_is_the_windows_loss_spread_over_its_pixels_and_averaged_where_windows_overlap():
    images, net = random_images(4, size=7), SmallNet(2, "smooth")
    size, stride = 4, 2
    attribution = explain(Occlusion(size=size, stride=stride), cp.logit(net, 1), images)
    total, count = torch.zeros(2, 7, 7).double(), torch.zeros(7, 7)
    with torch.no_grad():
        whole = net(images)[:, 1]
        for top in range(-2, 7, 2):
            for left in range(-2, 7, 2):
                here = slice(max(0, top), top + size), slice(max(0, left), left + size)
                without = images.clone()
                without[:, :, *here] = 0.0
                loss = whole - net(without)[:, 1]
                total[:, *here] += (loss / count[here].numel())[:, None, None]
                count[here] += 1
    torch.testing.assert_close(attribution.values.sum(1), total / count)
    torch.testing.assert_close(attribution.values[:, 0], attribution.values[:, 1])
    assert attribution.forward_evaluations.tolist() == [25, 25]
    # Windows that begin outside the image remove each pixel equally often.
    assert count.unique().tolist() == [4.0]


def test_what_two_halves_do_together_is_counted_twice_and_shows_as_error():
    images = random_images(3)

    def score(x):
        left, right = halves(x)
        return left * right

    for method in (Occlusion(size=6, stride=6), FeatureAblation(regions=Grid(1))):
        assert explain(method, score, images).error.abs().max() < 1e-12  # everything at once
    by_half = FeatureAblation(
        regions=lambda inputs: (torch.arange(6) // 3).expand(len(inputs), 6, 6).contiguous()
    )
    attribution = explain(by_half, score, images)
    torch.testing.assert_close(attribution.result, 2 * score(images))
    torch.testing.assert_close(attribution.error, -score(images))
    torch.testing.assert_close(attribution.budget()["one_step"], -score(images))


def test_feature_ablation_gives_each_region_what_is_lost_without_it():
    images = random_images(5)
    attribution = explain(FeatureAblation(regions=Grid(3)), cubes, images)
    torch.testing.assert_close(cells_of(attribution.values, 3) * 8, cells_of(images**3, 3) * 8)
    assert attribution.forward_evaluations.tolist() == [9, 9]
    assert attribution.error.abs().max() < 1e-12


# LIME


def test_lime_of_a_score_that_is_a_sum_finds_each_regions_effect():
    images = random_images(1)
    attribution = explain(LIME(regions=Grid(3), samples=60, ridge=1e-9), cubes, images)
    # A region's coefficient stands on each of its pixels, channels summed.
    torch.testing.assert_close(
        cells_of(attribution.values.sum(1, keepdim=True), 3), cells_of(images**3, 3) * 8
    )
    torch.testing.assert_close(attribution.extras["r_squared"], torch.ones(2).double())
    assert attribution.value_error.max() < 1e-6


def test_lime_minimises_what_it_says():
    images, net = random_images(7, batch=1), SmallNet(5, "smooth")
    method = LIME(regions=Grid(3), samples=50, kernel_width=0.3, ridge=2.0, seed=4)
    attribution = explain(method, cp.logit(net, 0), images)
    generator = torch.Generator().manual_seed(4)
    drawn = (torch.rand(50, 9, generator=generator, dtype=torch.float64) < 0.5).double()
    z = torch.cat([torch.ones(1, 9).double(), drawn])
    with torch.no_grad():
        f = net(images * z[:, Grid(3)(images)[0]].unsqueeze(1))[:, 0]
    weight = torch.exp(-((1 - z.mean(1).sqrt()) ** 2) / (2 * 0.3**2))
    # As one least-squares problem: a row for each coalition, one for the penalty on each coefficient.
    root = weight.sqrt()[:, None]
    ones = torch.ones(51, 1).double()
    penalty = torch.cat([2.0**0.5 * torch.eye(9).double(), torch.zeros(9, 1).double()], 1)
    design = torch.cat([root * torch.cat([z, ones], 1), penalty])
    answer = torch.cat([root * f[:, None], torch.zeros(9, 1).double()])
    solution = torch.linalg.lstsq(design, answer).solution[:, 0]
    torch.testing.assert_close(cells_of(attribution.values.sum(1, keepdim=True), 3)[0], solution[:9])
    residual = weight * (f - z @ solution[:9] - solution[9]) ** 2
    variance = weight * (f - (weight * f).sum() / weight.sum()) ** 2
    torch.testing.assert_close(attribution.extras["r_squared"][0], 1 - residual.sum() / variance.sum())


def test_limes_standard_error_is_the_spread_over_seeds():
    images, net = random_images(7, batch=1), SmallNet(5, "smooth")
    found, claimed = [], []
    for seed in range(60):
        attribution = explain(LIME(regions=Grid(3), samples=120, seed=seed), cp.logit(net, 0), images)
        found.append(cells_of(attribution.values.sum(1, keepdim=True), 3)[0])
        claimed.append(cells_of(attribution.standard_error.sum(1, keepdim=True), 3)[0])
    ratio = torch.stack(claimed).square().mean(0).sqrt() / torch.stack(found).std(0)
    assert 0.75 < ratio.min()
    assert ratio.max() < 1.4


def test_lime_stops_at_its_precision():
    images, score = random_images(7), cp.logit(SmallNet(5, "smooth"), 0)
    attribution = explain(LIME(regions=Grid(3), samples=2000, precision=0.1), score, images)
    assert attribution.converged.all()
    assert (attribution.forward_evaluations < 2000).all()
    assert not explain(LIME(samples=64, precision=1e-6), score, images).converged.any()


# RISE


def covariances(rise, size):
    """Of the masks at every pair of pixels, exactly: a mask is W_rows G W_columns', averaged over the places where it is cut out."""
    cells = min(rise.cells, size)
    cell = -(-size // cells)
    eye = torch.eye(cells).double().view(cells, 1, cells, 1)
    column = interpolate(eye, ((cells + 1) * cell, 1), mode="bilinear")[:, 0, :, 0].T  # (pixels, cells)
    one = sum(column[k : k + size] @ column[k : k + size].T for k in range(cell)) / cell
    return rise.keep * (1 - rise.keep) * torch.einsum("ik,jl->ijkl", one, one)


@pytest.mark.parametrize(
    "rise", [RISE(masks=3000, cells=2, precision=None), RISE(masks=3000, cells=8, keep=0.3, precision=None)]
)
def test_rise_converges_to_the_mean_score_given_the_pixel_less_the_mean_score(rise):
    images = random_images(2, batch=1, channels=1)
    weight = torch.randn(6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    attribution = explain(rise, lambda x: (x[:, 0] * weight).sum((1, 2)) + 3.0, images)
    effects = images[0, 0] * weight
    expected = torch.einsum("ijkl,kl->ij", covariances(rise, 6), effects) / rise.keep
    off = (attribution.values[0, 0] - expected).abs() / attribution.standard_error[0, 0]
    assert off.max() < 4.5
    assert 0.3 < off.square().mean().sqrt() < 2.0  # the error is neither hidden nor exaggerated
    assert (expected.abs() / attribution.standard_error[0, 0]).max() > 20
    level = 3.0 + rise.keep * float(effects.sum())
    assert float(attribution.extras["level"]) == pytest.approx(level, abs=0.2)


def test_rise_and_its_level_are_the_published_map_within_its_noise():
    images, net, rise = (
        random_images(1, batch=1),
        SmallNet(8, "smooth"),
        RISE(masks=2000, cells=3, precision=None),
    )
    attribution = explain(rise, cp.logit(net, 2), images)
    kept = rise._masks(2000, 6, 6, torch.Generator().manual_seed(17))
    with torch.no_grad():
        scores = net(images * kept.unsqueeze(1))[:, 2]
    published = scores[:, None, None] * kept / 0.5
    error = published.std(0) / 2000**0.5
    ours = attribution.values[0].sum(0) + attribution.extras["level"]
    assert ((ours - published.mean(0)).abs() / error).max() < 4


def test_a_constant_added_to_the_score_changes_nothing_of_rise():
    images, net = random_images(1), SmallNet(8, "smooth")
    one, two = (
        explain(RISE(masks=100), lambda x, added=added: net(x)[:, 0] + added, images)
        for added in (0.0, 100.0)
    )
    torch.testing.assert_close(one.values, two.values, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(one.extras["level"] + 100, two.extras["level"])


def test_rise_masks_have_the_asked_mean_everywhere_and_lie_within_0_and_1():
    masks = RISE(cells=4, keep=0.3)._masks(4000, 9, 14, torch.Generator().manual_seed(0))
    assert masks.shape == (4000, 9, 14)
    assert masks.min() >= 0
    assert masks.max() <= 1 + 1e-12
    assert (masks.mean(0) - 0.3).abs().max() < 0.04


def test_rise_stops_at_its_precision_and_says_when_it_did_not():
    images, score = random_images(4), cp.logit(SmallNet(3, "smooth"), 1)
    loose, strict = (explain(RISE(masks=4000, precision=p), score, images) for p in (0.4, 0.25))
    assert loose.converged.all()
    assert strict.converged.all()
    assert (strict.value_error <= 0.25).all()
    assert (loose.forward_evaluations < strict.forward_evaluations).all()
    hopeless = explain(RISE(masks=32, precision=1e-3), score, images)
    assert not hopeless.converged.any()
    assert hopeless.forward_evaluations.tolist() == [32, 32]


# Sobol


def weighted_cells(weights):
    """A score that is linear in the means of four cells; on a white image against black, in their masks."""
    return lambda x: cells_of(x) @ torch.tensor(weights, dtype=torch.float64)


WHITE = torch.ones(1, 1, 4, 4, dtype=torch.float64)


def test_sobol_indices_of_a_sum_are_the_shares_of_its_variance():
    weights = [3.0, -2.0, 1.0, 0.0]
    attribution = explain(Sobol(cells=2, designs=1024), weighted_cells(weights), WHITE)
    found = cells_of(attribution.values)[0]
    expected = torch.tensor([9.0, 4.0, 1.0, 0.0]).double() / 14
    torch.testing.assert_close(found, expected, rtol=0.01, atol=0)
    assert found[3] == 0
    assert attribution.forward_evaluations.tolist() == [1024 * 6]
    assert ((found - expected)[:3].abs() < 2 * cells_of(attribution.standard_error)[0, :3]).all()


def test_sobol_indices_are_jansens_estimate_on_their_designs():
    images, net, method = random_images(3, batch=1), SmallNet(1, "smooth"), Sobol(cells=3, designs=8, seed=5)
    attribution = explain(method, cp.logit(net, 0), images)
    first, second = method._designs(9).chunk(2, 1)
    assert 0 <= first.min() < first.max() < 1
    labels = Grid(3)(images)[0]

    def scores(masks):
        with torch.no_grad():
            return net(images * masks[:, labels].unsqueeze(1))[:, 0]

    of_first = scores(first)
    variance = torch.cat([of_first, scores(second)]).var()
    expected = []
    for cell in range(9):
        swapped = first.clone()
        swapped[:, cell] = second[:, cell]
        expected.append((of_first - scores(swapped)).square().mean() / 2 / variance)
    found = cells_of(attribution.values.sum(1, keepdim=True), 3)[0]
    torch.testing.assert_close(found, torch.stack(expected))
    assert attribution.forward_evaluations.tolist() == [8 * 11]


def test_total_sobol_indices_of_a_product_count_its_interaction_in_each_factor():
    def score(x):
        cells = cells_of(x)
        return cells[:, 0] * cells[:, 1]

    found = cells_of(explain(Sobol(cells=2, designs=1024), score, WHITE).values)[0]
    # Variance 1/9 - 1/16 = 7/144, of which E[m^2] Var[m] = 1/36 needs a factor.
    torch.testing.assert_close(found, torch.tensor([4 / 7, 4 / 7, 0, 0]).double(), rtol=0.02, atol=0)


def test_sobol_indices_have_no_sign_and_no_unit_and_are_0_for_a_score_that_stands_still():
    sobol = Sobol(cells=2, designs=16)
    one, two, none = (
        explain(sobol, weighted_cells(w), WHITE).values
        for w in ([1.0, 2, 3, 4], [-5.0, -10, -15, -20], [0.0] * 4)
    )
    torch.testing.assert_close(one, two)
    assert none.abs().max() == 0


# HSIC


def test_hsic_of_a_cell_that_decides_the_score_and_of_those_that_do_not():
    images = torch.ones(1, 1, 16, 16, dtype=torch.float64)
    attribution = explain(HSIC(cells=8, designs=200), lambda x: x[:, 0, 0, 0], images)
    found = cells_of(attribution.values, 8)[0]
    # Scores 0 and 1, half of each: the median distance is 1, K = 2 u u', L = (1 + e) / 2 + (1 - e) / 2 s s' with s = 2 u.
    e = np.exp(-0.5)
    assert found[0].item() == pytest.approx((1 - e) / 4, rel=1e-12)
    unused = (1 - e) / 4 / 199
    assert float(attribution.extras["unused"]) == pytest.approx(unused, rel=1e-12)
    rest = found[1:]
    assert rest.max() < found[0] / 10
    # Each is `unused` times a squared normal variable: mean 1, variance 2.
    assert abs(rest.mean().item() / unused - 1) < 4 * (2 / 63) ** 0.5


def test_hsic_is_the_trace_of_its_definition():
    images, net = random_images(3, batch=1), SmallNet(1, "smooth")
    method = HSIC(cells=3, designs=40, seed=2)
    attribution = explain(method, cp.logit(net, 0), images)
    ranks = (
        torch.rand(40, 9, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
        .argsort(0)
        .argsort(0)
    )
    z = (ranks < 20).double()
    with torch.no_grad():
        f = net(images * z[:, Grid(3)(images)[0]].unsqueeze(1))[:, 0]
    distance = (f[:, None] - f).abs()
    pairs = sorted(float(distance[i, j]) for i in range(40) for j in range(i))
    kernel = torch.exp(-(distance**2) / (2 * pairs[(len(pairs) - 1) // 2] ** 2))
    centre = torch.eye(40).double() - 1 / 40
    traces = [
        torch.trace((0.5 - (z[:, c, None] - z[:, c]) ** 2) @ centre @ kernel @ centre) / 40**2
        for c in range(9)
    ]
    torch.testing.assert_close(cells_of(attribution.values.sum(1, keepdim=True), 3)[0], torch.stack(traces))


def test_hsics_standard_error_is_the_spread_over_seeds_of_cells_that_matter():
    images = torch.ones(1, 1, 4, 4, dtype=torch.float64)
    found, claimed = [], []
    for seed in range(60):
        attribution = explain(
            HSIC(cells=2, designs=200, seed=seed), weighted_cells([3.0, -2.0, 1.5, 2.5]), images
        )
        found.append(cells_of(attribution.values)[0])
        claimed.append(cells_of(attribution.standard_error)[0])
    ratio = torch.stack(claimed).mean(0) / torch.stack(found).std(0)
    assert 0.7 < ratio.min()
    assert ratio.max() < 2.0  # each cell is there in exactly half of the masks, which makes it steadier


def test_hsic_of_a_score_that_stands_still_is_0():
    attribution = explain(HSIC(cells=2, designs=20), weighted_cells([0.0] * 4), WHITE)
    assert attribution.values.abs().max() < 1e-15


# XRAI


def test_regions_are_taken_by_density_and_each_keeps_its_sum():
    share = np.array([[8.0, 4.0, 0.0, -1.0]])
    masks = np.array([[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 0], [0, 0, 0, 1]], dtype=bool)
    np.testing.assert_allclose(_greedy(share, masks), [[6.0, 6.0, 0.0, -1.0]])
    # A region that holds a better one is left with the rest of it.
    nested = np.array([[1, 0, 0, 0], [1, 1, 1, 1]], dtype=bool)
    np.testing.assert_allclose(_greedy(share, nested), [[8.0, 1.0, 1.0, 1.0]])
    # What no region holds is one region of its own.
    np.testing.assert_allclose(_greedy(share, nested[:1]), [[8.0, 1.0, 1.0, 1.0]])


def quarters(size=64):
    """Four flat squares of different grey."""
    levels = torch.tensor([[0.9, 0.1], [0.35, 0.6]], dtype=torch.float64)
    return (
        levels.repeat_interleave(size // 2, 0)
        .repeat_interleave(size // 2, 1)
        .expand(1, 3, -1, -1)
        .contiguous()
    )


def test_xrai_finds_the_square_that_the_score_reads_and_sums_to_integrated_gradients():
    images = quarters()
    weight = torch.zeros(64, 64, dtype=torch.float64)
    weight[32:, 32:] = torch.rand(32, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    score = lambda x: (x * weight).sum((1, 2, 3))  # noqa: E731
    attribution = explain(XRAI(), score, images)
    assert attribution.result.item() == pytest.approx(score(images).item(), rel=1e-9)
    heat = attribution.heatmap()[0]
    inner, elsewhere = heat[36:, 36:], heat[:28, :]
    assert inner.std() < 1e-12  # one region, but for its rounded corner
    assert inner.min() > 100 * elsewhere.abs().max()
    assert attribution.gradient_evaluations.item() > 0


def test_xrai_from_black_and_white_is_the_mean_of_both():
    images = quarters()
    score = lambda x: (x**2).sum((1, 2, 3))  # noqa: E731
    attribution = explain(XRAI(reference="black_and_white"), score, images, baseline=cp.baselines.Mean())
    wanted = score(images) - (score(0 * images) + score(1 + 0 * images)) / 2
    torch.testing.assert_close(attribution.result, wanted, rtol=1e-6, atol=1e-6)
    assert attribution.reference == "black and white"
    assert explain(XRAI(), score, images).reference == "comparison"


def test_xrai_without_scikit_image_says_so_before_any_gradient(monkeypatch):
    comparison = cp.compare(cubes, quarters(), baseline=BLACK)
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(MissingPackageError, match="xrai needs scikit-image"):
        comparison.explain(XRAI())


# All of them


@dataclass(frozen=True)
class FromTheLeft(Baseline):
    """Fills removed pixels with the image's first column; has no image of its own."""

    fill_only: ClassVar[bool] = True

    def __call__(self, inputs):
        raise AssertionError("never asked")

    def fill(self, inputs, removed):
        return inputs[:, :, :, :1].expand_as(inputs).where(removed.unsqueeze(1), inputs)


@dataclass(frozen=True)
class FirstColumn(Baseline):
    """The same as an image."""

    def __call__(self, inputs):
        return inputs[:, :, :, :1].expand_as(inputs).clone()


@pytest.mark.parametrize("method", REMOVING, ids=lambda m: type(m).__name__)
def test_a_baseline_that_only_fills_will_do_where_pixels_are_only_removed(method):
    images, score = random_images(3), cp.logit(SmallNet(2, "smooth"), 0)
    filled = explain(method, score, images, baseline=FromTheLeft())
    assert filled.values.isfinite().all()
    assert filled.target.isnan().all()
    if not isinstance(method, RISE | Sobol):  # their masks are soft, and a fill knows no mixture
        pasted = explain(method, score, images, baseline=FirstColumn())
        torch.testing.assert_close(filled.values, pasted.values)


@pytest.mark.parametrize("method", [cp.methods.KernelSHAP(), XRAI()])
def test_methods_that_compare_with_an_image_refuse_a_baseline_that_only_fills(method):
    with pytest.raises(InputError, match="only fills removed pixels"):
        explain(method, cp.logit(SmallNet(2), 0), random_images(3), baseline=FromTheLeft())


@pytest.mark.parametrize("method", REMOVING, ids=lambda m: type(m).__name__)
def test_micro_batches_change_nothing(method):
    images, score = random_images(3, batch=2), cp.logit(SmallNet(2, "smooth"), 0)
    one, many = (explain(method, score, images, micro_batch=rows) for rows in (5, 1000))
    torch.testing.assert_close(one.values, many.values, rtol=1e-9, atol=1e-12)
    assert torch.equal(one.forward_evaluations, many.forward_evaluations)


@pytest.mark.parametrize(
    "method", [*REMOVING, cp.methods.KernelSHAP(regions=Grid(2))], ids=lambda m: type(m).__name__
)
def test_progress_is_told_after_each_micro_batch_and_work_can_be_stopped_there(method):
    comparison = cp.compare(cp.logit(SmallNet(2), 0), random_images(3), baseline=BLACK, micro_batch=3)
    told = []
    with listening(lambda done, total, what: told.append(done / total)):
        runs = int(comparison.explain(method).forward_evaluations.sum())
    assert told == sorted(told)
    assert told[-1] == pytest.approx(1.0)
    if not isinstance(method, RISE):  # told after each round of 16
        assert len(set(told)) >= runs / 3

    def stop(done, total, what):
        if done > 0:
            raise Cancelled

    with listening(stop), pytest.raises(Cancelled):
        comparison.explain(method)


@pytest.mark.parametrize(
    "method", [*REMOVING, cp.methods.KernelSHAP(), XRAI()], ids=lambda m: type(m).__name__
)
def test_they_need_places(method, unchecked):
    flat = torch.rand(2, 12, dtype=torch.float64)
    with pytest.raises(ShapeError, match=r"inputs must (be images|have channels and places)"):
        explain(method, lambda x: x.sum(1), flat)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Occlusion(size=0), "size must be at least 1"),
        (lambda: Occlusion(stride=0), "stride must be at least 1"),
        (lambda: Occlusion(size=4, stride=5), "stride must be at most size"),
        (lambda: LIME(samples=1), "samples must be at least 2"),
        (lambda: LIME(kernel_width=0.0), "kernel_width must be above 0"),
        (lambda: LIME(ridge=0.0), "ridge must be above 0"),
        (lambda: LIME(precision=-1.0), "precision must be above 0"),
        (lambda: RISE(masks=1), "masks must be at least 2"),
        (lambda: RISE(cells=0), "cells must be at least 1"),
        (lambda: RISE(keep=1.0), "keep must be at least 0.01 and at most 0.99"),
        (lambda: RISE(precision=0.0), "precision must be above 0"),
        (lambda: Sobol(cells=0), "cells must be at least 1"),
        (lambda: Sobol(designs=24), "designs must be a power of two, as Sobol sequences come, got 24"),
        (lambda: Sobol(designs=1), "designs must be at least 2"),
        (lambda: HSIC(designs=2), "designs must be at least 4"),
        (lambda: HSIC(designs=21), "designs must be even"),
        (lambda: HSIC(cells=0), "cells must be at least 1"),
        (lambda: XRAI(reference="black"), "reference must be 'comparison' or 'black_and_white'"),
        (lambda: XRAI(scales=()), "at least one number"),
        (lambda: XRAI(scales=(0.0,)), "scales must be above 0"),
        (lambda: XRAI(tolerance=0.0), "tolerance must be above 0"),
    ],
)
def test_settings_out_of_range_are_refused(make, words):
    with pytest.raises(InputError, match=words):
        make()


@pytest.mark.parametrize(
    ("method", "fewest"), [(Sobol(cells=3, designs=256), 8 * 11), (HSIC(cells=3, designs=1000), 100)]
)
def test_sensitivity_stops_at_the_precision_each_image_for_itself(method, fewest):
    images, score = random_images(3, batch=3), cp.logit(SmallNet(1, "smooth"), 0)
    whole = explain(method, score, images)
    assert whole.converged is None
    precision = float(whole.value_error.max()) * 2.5
    stopped = explain(replace(method, precision=precision), score, images)
    assert stopped.converged.all()
    assert (stopped.value_error <= precision).all()
    assert (stopped.forward_evaluations < whole.forward_evaluations).any()
    assert (stopped.forward_evaluations >= fewest).all()
    alone = explain(replace(method, precision=precision), score, images[1:2])
    torch.testing.assert_close(alone.values[0], stopped.values[1])
    # A precision out of reach takes all, gives the same map and says so.
    never = explain(replace(method, precision=1e-9), score, images)
    assert not never.converged.any()
    torch.testing.assert_close(never.values, whole.values, rtol=0, atol=0)
