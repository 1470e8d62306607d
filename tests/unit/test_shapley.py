"""Shapley values against their definition, and what sampling adds."""

import math
from itertools import combinations

import pytest
import torch

import counterpoint as cp
from counterpoint.errors import InputError
from counterpoint.methods import Grid, KernelSHAP
from counterpoint.methods.shapley import _pairs, _Plan
from networks import SmallNet, random_images

BLACK = cp.baselines.Black()


def columns(count):
    """Regions: `count` groups of columns."""
    return lambda inputs: (torch.arange(inputs.shape[3]) * count // inputs.shape[3]).expand(
        inputs.shape[0], *inputs.shape[2:]
    )


def shares(attribution, count):
    """The values of each group of columns, summed."""
    labels = columns(count)(attribution.values)[0, 0]
    summed = attribution.values.sum((1, 2))
    return torch.stack([summed[:, labels == region].sum(1) for region in range(count)], 1)


def explain(method, score, images, baseline=BLACK):
    return cp.compare(score, images, baseline=baseline).explain(method)


def by_definition(score, image, count):
    """The mean over all orders of what a region adds to those before it, from all 2^n coalitions; black is what is removed."""
    labels = columns(count)(image)[0]
    value = {}
    for size in range(count + 1):
        for members in combinations(range(count), size):
            there = torch.isin(labels, torch.tensor(members, dtype=torch.int64))
            value[members] = float(score(image * there))
    found = []
    for region in range(count):
        others = [r for r in range(count) if r != region]
        total = 0.0
        for size in range(count):
            weight = math.factorial(size) * math.factorial(count - size - 1) / math.factorial(count)
            for members in combinations(others, size):
                total += weight * (value[tuple(sorted((*members, region)))] - value[members])
        found.append(total)
    return torch.tensor(found, dtype=torch.float64)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 8])
def test_all_coalitions_give_the_shapley_values_of_the_definition(count):
    images = random_images(4, batch=2, size=8)
    net = SmallNet(3, "smooth")
    attribution = explain(
        KernelSHAP(regions=columns(count), samples=max(2, 2**count - 2)), cp.logit(net, 1), images
    )
    with torch.no_grad():
        truth = [by_definition(lambda x: net(x)[0, 1], images[i : i + 1], count) for i in range(2)]
    torch.testing.assert_close(shares(attribution, count), torch.stack(truth), rtol=1e-10, atol=1e-12)
    assert attribution.forward_evaluations.tolist() == [2**count - 2] * 2
    assert attribution.value_error.tolist() == [0.0, 0.0]
    assert attribution.converged.all()
    assert attribution.standard_error.abs().max() == 0


def test_all_coalitions_give_the_weighted_least_squares_of_the_published_kernel():
    count, images = 8, random_images(5, batch=1, size=8)
    net = SmallNet(6, "smooth")
    found = shares(explain(KernelSHAP(regions=columns(count), samples=300), cp.logit(net, 0), images), count)
    labels = columns(count)(images)[0]
    rows, scores, weights = [], [], []
    for size in range(count + 1):
        for members in combinations(range(count), size):
            there = torch.zeros(count, dtype=torch.float64)
            there[list(members)] = 1.0
            with torch.no_grad():
                scores.append(net(images * there[labels])[0, 0])
            rows.append(there)
            # The kernel is infinite for none and all: a weight of 1e9 stands for it.
            ends = size in (0, count)
            weights.append(1e9 if ends else (count - 1) / (math.comb(count, size) * size * (count - size)))
    root = torch.tensor(weights, dtype=torch.float64).sqrt()[:, None]
    design = torch.cat([torch.stack(rows), torch.ones(len(rows), 1, dtype=torch.float64)], 1)
    solution = torch.linalg.lstsq(root * design, root * torch.stack(scores)[:, None]).solution
    torch.testing.assert_close(found[0], solution[:count, 0], rtol=1e-6, atol=1e-8)


def test_a_product_of_two_regions_is_split_evenly_and_what_is_unused_gets_nothing():
    images = random_images(0, batch=2, size=8)

    def score(x):
        return x[:, :, :, :2].sum((1, 2, 3)) * x[:, :, :, 2:4].sum((1, 2, 3))

    attribution = explain(KernelSHAP(regions=columns(4), samples=14), score, images)
    half = score(images) / 2
    torch.testing.assert_close(
        shares(attribution, 4), torch.stack([half, half, 0 * half, 0 * half], 1), rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("baseline", [BLACK, cp.baselines.Uniform(seed=2)])
@pytest.mark.parametrize("samples", [72, 500])
def test_shares_of_a_score_that_is_a_sum_are_exact_however_few_coalitions_are_drawn(baseline, samples):
    images = random_images(1, size=12)
    attribution = explain(
        KernelSHAP(regions=Grid(6), samples=samples), lambda x: (x**3).sum((1, 2, 3)), images, baseline
    )
    each = (images**3 - baseline(images) ** 3).sum(1)
    cells = each.view(2, 6, 2, 6, 2).sum((2, 4))
    torch.testing.assert_close(attribution.values.sum(1).view(2, 6, 2, 6, 2).sum((2, 4)), cells)
    if samples == 72:  # single regions and no pair beyond: nothing to tell the error from
        assert attribution.value_error.isnan().all()
        assert not attribution.converged.any()
    else:  # the first draws show that there is no error
        assert attribution.value_error.max() < 1e-10
        assert attribution.forward_evaluations.tolist() == [72 + 64] * 2


def test_a_sampled_explanation_lies_within_its_standard_error_and_still_sums_to_the_target():
    images = random_images(8, batch=1, size=12)
    score = cp.logit(SmallNet(9, "smooth"), 2)
    truth = shares(explain(KernelSHAP(regions=columns(12), samples=5000), score, images), 12)[0]
    found, claimed = [], []
    for seed in range(40):
        method = KernelSHAP(regions=columns(12), samples=60, seed=seed, precision=None)
        attribution = explain(method, score, images)
        found.append(shares(attribution, 12)[0])
        # Spread over 12 pixels and 2 channels, so 24 times the error of a value is that of the share.
        claimed.append(attribution.standard_error[0, 0, 0] * 24)
        assert abs(float(attribution.error[0])) < 1e-10
    found, claimed = torch.stack(found), torch.stack(claimed)
    off = (found - truth).square().mean(0).sqrt()
    assert off.max() > 1e-4  # something was left to sample
    ratio = claimed.square().mean(0).sqrt() / off
    # Few pairs for 12 regions: residuals that were not left out of the fit would claim half of it.
    assert 0.8 < ratio.min()
    assert ratio.max() < 1.45
    # The mean over seeds has a fortieth of the variance: no bias beyond it.
    assert ((found.mean(0) - truth).abs() / (off / 40**0.5)).max() < 4


def test_it_stops_at_the_precision_asked_for_and_says_whether_it_was_reached():
    images = random_images(8, batch=2, size=12)
    comparison = cp.compare(cp.logit(SmallNet(9, "smooth"), 2), images, baseline=BLACK)
    loose, strict, hopeless = (
        comparison.explain(KernelSHAP(regions=Grid(4), samples=samples, precision=precision))
        for samples, precision in ((4000, 0.1), (4000, 0.03), (100, 1e-6))
    )
    assert loose.converged.all()
    assert strict.converged.all()
    assert (loose.value_error <= 0.1).all()
    assert (loose.forward_evaluations < strict.forward_evaluations).all()
    assert (strict.forward_evaluations < 4000).all()
    assert not hopeless.converged.any()
    assert hopeless.forward_evaluations.tolist() == [100, 100]


def test_images_may_have_different_numbers_of_regions():
    def regions(inputs):
        return torch.stack([columns(n)(inputs)[0] for n in (3, 5)])

    images = random_images(2, batch=2, size=10)
    score = cp.logit(SmallNet(1, "smooth"), 0)
    together = explain(KernelSHAP(regions=regions, samples=40), score, images)
    assert together.forward_evaluations.tolist() == [6, 30]
    for i, n in enumerate((3, 5)):
        alone = explain(KernelSHAP(regions=columns(n), samples=40), score, images[i : i + 1])
        torch.testing.assert_close(alone.values[0], together.values[i])


def test_micro_batches_change_nothing():
    images = random_images(2, batch=1)
    score = cp.logit(SmallNet(1), 0)
    one, many = (
        cp.compare(score, images, baseline=BLACK, micro_batch=rows).explain(KernelSHAP(samples=80))
        for rows in (7, 1000)
    )
    torch.testing.assert_close(one.values, many.values, rtol=1e-9, atol=1e-12)


def test_too_few_samples_are_refused_before_the_model_runs():
    comparison = cp.compare(lambda x: x.sum((1, 2, 3)), random_images(0), baseline=BLACK)
    method = KernelSHAP(regions=Grid(5), samples=49)
    with pytest.raises(
        InputError, match="samples must be at least 50, two for each of the 25 regions, got 49"
    ):
        comparison.explain(method)
    assert comparison.explain(KernelSHAP(regions=Grid(5), samples=50)).forward_evaluations[0] == 50


@pytest.mark.parametrize("regions", range(2, 14))
def test_the_plan_keeps_to_its_budget_and_takes_all_pairs_where_they_fit(regions):
    every = 2 ** (regions - 1) - 1
    for pairs in {min(regions, every), 3 * regions, every - 1, every, every + 5}:
        if pairs < min(regions, every):
            continue
        plan = _Plan.of(regions, pairs)
        whole = sum(_pairs(regions, size) for size in plan.whole)
        assert whole + plan.drawn <= pairs
        assert (plan.sizes == ()) == (pairs >= every)
        assert plan.whole + plan.sizes == tuple(range(1, regions // 2 + 1))
    assert sum(len(coalitions) for coalitions, _ in _Plan.of(regions, every).enumerated()) == every


def test_pairs_are_drawn_in_proportion_to_the_kernel():
    plan = _Plan.of(9, 40)
    assert plan.whole == (1,)
    drawn = plan.draw(20000, torch.Generator().manual_seed(0))
    sizes = drawn.sum(1).bincount(minlength=10)[2:5].double()
    mass = torch.tensor([1 / (s * (9 - s)) for s in (2, 3, 4)], dtype=torch.float64)
    torch.testing.assert_close(sizes / 20000, mass / mass.sum(), rtol=0.03, atol=0)
    assert (drawn.double().mean(0) - drawn.double().mean()).abs().max() < 0.015


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"samples": 1}, "samples must be at least 2"), ({"precision": 0.0}, "precision must be above 0")],
)
def test_settings_out_of_range_are_refused(settings, words):
    with pytest.raises(InputError, match=words):
        KernelSHAP(**settings)
