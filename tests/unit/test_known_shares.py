"""Networks with known shares: their truth is true, and integrated gradients find it."""

import itertools
import math

import pytest
import torch

import counterpoint as cp
from counterpoint.data.known_shares import KNOWN_SHARES, distance, known_shares, patches, scaled_distance
from counterpoint.errors import InputError


@pytest.mark.parametrize("name", KNOWN_SHARES)
def test_the_true_shares_and_shapleys_sum_to_the_target(name):
    known = known_shares(name)
    comparison = cp.compare(cp.logit(known.module, 0), known.inputs, baseline=known.baseline)
    target = comparison.score - comparison.baseline_score
    for shares in (known.shares, known.induced, known.shapley):
        torch.testing.assert_close(shares.sum(), target[0])


@pytest.mark.parametrize("name", KNOWN_SHARES)
def test_shapleys_values_are_those_of_an_enumeration(name):
    known = known_shares(name)
    comparison = cp.compare(
        cp.logit(known.module, 0), known.inputs, baseline=known.baseline, layer=known.layer
    )
    parts = len(known.shapley)
    x, b = known.parts(comparison.end), known.parts(comparison.start)
    if known.layer == "input":
        x, b = x / 16, b / 16  # sums of a patch's pixels to its level

    def score(present):
        mixed = torch.where(torch.tensor([p in present for p in range(parts)]), x, b)
        point = patches(tuple(mixed.tolist())) if known.layer == "input" else mixed.view(1, 1, 1, -1)
        return comparison.scores(point).item()

    for part in range(parts):
        others = [p for p in range(parts) if p != part]
        value = sum(
            (score({*group, part}) - score(set(group))) / (parts * math.comb(parts - 1, size))
            for size in range(parts)
            for group in itertools.combinations(others, size)
        )
        assert value == pytest.approx(known.shapley[part].item(), abs=1e-9)


@pytest.mark.parametrize("path", ["straight", "induced"])
@pytest.mark.parametrize("name", KNOWN_SHARES)
def test_integrated_gradients_to_a_tolerance_find_the_truth_of_the_path_that_they_declare(name, path):
    known = known_shares(name)
    comparison = cp.compare(
        cp.logit(known.module, 0), known.inputs, baseline=known.baseline, layer=known.layer
    )
    attribution = comparison.explain(cp.methods.IntegratedGradients(path=path, value_tolerance=0.01))
    assert attribution.converged.all()
    truth = known.induced if path == "induced" else known.shares
    assert distance(known.parts(attribution.values), truth) <= 0.02


def test_the_default_tolerance_is_enough_for_two_per_cent():
    for name in KNOWN_SHARES:
        known = known_shares(name)
        comparison = cp.compare(
            cp.logit(known.module, 0), known.inputs, baseline=known.baseline, layer=known.layer
        )
        attribution = comparison.explain(cp.methods.IntegratedGradients())
        assert distance(known.parts(attribution.values), known.shares) <= 0.02, name


@pytest.mark.parametrize("method", [cp.methods.Taylor(), cp.methods.Gradient(), cp.methods.IDGI()])
def test_closing_the_gap_of_the_sum_does_not_mend_a_map(method):
    known = known_shares("N1")
    comparison = cp.compare(cp.logit(known.module, 0), known.inputs, baseline=known.baseline)
    shares = known.parts(comparison.explain(method).values)
    forced = shares * (known.shares.sum() / shares.sum())
    assert forced.sum().item() == pytest.approx(known.shares.sum().item())
    assert scaled_distance(forced, known.shares) >= scaled_distance(shares, known.shares) - 1e-12
    assert distance(forced, known.shares) > 0.3


def test_the_same_truth_holds_at_a_late_layer():
    torch.testing.assert_close(known_shares("N1").shares, known_shares("N2").shares)
    assert known_shares("N2").layer == "saturation"


def test_the_scaled_distance_is_the_least_over_all_scales():
    shares = torch.tensor([3.0, -1.0, 0.5, 2.0], dtype=torch.float64)
    truth = torch.tensor([1.0, 1.0, 0.4, 0.5], dtype=torch.float64)
    tried = min(distance(s * shares, truth) for s in torch.linspace(-2, 2, 4001).double())
    assert scaled_distance(shares, truth) == pytest.approx(tried, abs=1e-3)
    assert scaled_distance(shares, truth) <= tried + 1e-12
    assert scaled_distance(torch.zeros(4, dtype=torch.float64), truth) == 1.0
    assert scaled_distance(7 * truth, truth) == pytest.approx(0.0, abs=1e-12)


def test_an_unknown_network_is_named():
    with pytest.raises(InputError, match="N1, N2, N3, N4, N5, N6, got 'N7'"):
        known_shares("N7")
