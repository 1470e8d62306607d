"""Agreement of maps with removed and disturbed pixels: known shares, known numbers, what is undefined, what is refused."""

import re
from pathlib import Path

import pytest
import torch
from scipy.stats import pearsonr, spearmanr
from torch import nn

import counterpoint as cp
from counterpoint import metrics
from counterpoint.errors import InputError, NotFiniteError, ShapeError
from networks import SmallNet, linear_score, random_images

BLACK = cp.baselines.Black()
GREY = cp.baselines.Grey()


def additive(seed=0, size=6, channels=2):
    """A score that is additive in its pixels but not linear, images, and the exact shares against grey."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(channels, size, size, generator=generator, dtype=torch.float64)

    def each(images):
        return (weight * (images**2 + 0.3 * images)).sum(1)

    images = random_images(seed + 1, channels=channels, size=size)
    return (
        (lambda x: each(x).flatten(1).sum(1)),
        images,
        each(images) - each(torch.full_like(images, 0.5)),
    )


def random_map(seed=5, size=6):
    return torch.randn(2, size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


CORRELATIONS = {
    "faithfulness_correlation": lambda score, images, saliency: metrics.faithfulness_correlation(
        score, images, saliency, baseline=GREY, count=9
    ),
    "mu_fidelity": lambda score, images, saliency: metrics.mu_fidelity(
        score, images, saliency, baseline=GREY, grid=6
    ),
    "sensitivity_n": lambda score, images, saliency: (
        metrics.sensitivity_n(score, images, saliency, baseline=GREY, counts=(1, 5, 20)).mean
    ),
}
SQUARES = metrics.RandomSquares(2)


@pytest.mark.parametrize("name", CORRELATIONS)
def test_exact_shares_correlate_fully_and_random_ones_less_and_inverse_ones_not(name):
    score, images, shares = additive()
    exact, random, inverse = (
        CORRELATIONS[name](score, images, each) for each in (shares, random_map(), -shares)
    )
    torch.testing.assert_close(exact, torch.ones_like(exact))
    torch.testing.assert_close(inverse, -torch.ones_like(exact))
    assert random.abs().max() < 0.6
    # A correlation has no unit.
    torch.testing.assert_close(CORRELATIONS[name](score, images, 7 * shares), exact)


def test_infidelity_is_0_for_exact_shares_and_more_for_random_ones_and_most_for_inverse_ones():
    score, images, shares = additive()
    random = random_map() * (shares.norm() / random_map().norm())
    exact, random, inverse = (
        metrics.infidelity(score, images, each, baseline=GREY, sets=SQUARES)
        for each in (shares, random, -shares)
    )
    torch.testing.assert_close(exact, torch.zeros_like(exact))
    assert (exact < random).all()
    assert (random < inverse).all()


def test_the_infidelity_of_inverse_shares_is_four_times_the_mean_square_of_the_drops():
    score, images, shares = additive()
    found = metrics.removals(score, images, baseline=GREY, sets=SQUARES)
    torch.testing.assert_close(found.infidelity(-shares), 4 * found.drops.square().mean(1))
    torch.testing.assert_close(found.infidelity(torch.zeros_like(shares)), found.drops.square().mean(1))


def test_rescaled_infidelity_knows_no_unit_and_is_the_least_of_all_scales():
    score, images, shares = additive()
    saliency = shares + 0.5 * random_map()
    found = metrics.removals(score, images, baseline=GREY, sets=SQUARES)
    least = found.infidelity(saliency, rescaled=True)
    torch.testing.assert_close(found.infidelity(-3 * saliency, rescaled=True), least)
    scales = torch.linspace(-3, 3, 6001, dtype=torch.float64)
    tried = torch.stack([found.infidelity(scale * saliency) for scale in scales[::20]])
    assert (tried.amin(0) >= least - 1e-12).all()
    sums = found.sums(saliency)
    best = (sums * found.drops).sum(1) / sums.square().sum(1)
    torch.testing.assert_close(found.infidelity(best[:, None, None] * saliency), least)
    zero = torch.zeros_like(saliency)
    torch.testing.assert_close(found.infidelity(zero, rescaled=True), found.infidelity(zero))


def test_correlations_are_scipys_of_sums_and_drops_on_a_network():
    net, images, saliency = SmallNet(3), random_images(4), random_map()
    found = metrics.removals(
        cp.logit(net, 1), images, baseline=GREY, sets=metrics.RandomPixels(7, samples=20)
    )
    for i in range(2):
        drops, sums = [], []
        for removed in found.removed:
            without = images[i : i + 1].clone()
            without[:, :, removed] = 0.5
            drops.append((net(images[i : i + 1]) - net(without))[0, 1].item())
            sums.append(saliency[i][removed].sum().item())
        assert found.pearson(saliency)[i].item() == pytest.approx(pearsonr(sums, drops).statistic, abs=1e-12)
        assert found.spearman(saliency)[i].item() == pytest.approx(
            spearmanr(sums, drops).statistic, abs=1e-12
        )


def test_faithfulness_correlation_is_sensitivity_n_at_one_n():
    net, images, saliency = SmallNet(3), random_images(4), random_map()
    table = metrics.sensitivity_n(
        cp.logit(net, 1), images, saliency, baseline=BLACK, counts=(2, 9), samples=30, seed=3
    )
    for k, count in enumerate(table.counts.tolist()):
        alone = metrics.faithfulness_correlation(
            cp.logit(net, 1), images, saliency, baseline=BLACK, count=count, samples=30, seed=3
        )
        torch.testing.assert_close(table.correlation[:, k], alone)
    torch.testing.assert_close(table.mean, table.correlation.mean(1))


def test_sensitivity_n_goes_from_one_pixel_to_80_percent_of_them():
    score, images, shares = additive()
    counts = metrics.sensitivity_n(score, images, shares, baseline=GREY, samples=3).counts.tolist()
    assert (counts[0], counts[-1]) == (1, 28)  # of 36
    assert counts == sorted(set(counts))


@pytest.mark.parametrize("name", CORRELATIONS)
def test_a_constant_map_and_a_score_that_does_not_move_have_no_correlation(name):
    score, images, shares = additive()
    assert CORRELATIONS[name](score, images, torch.full_like(shares, 0.1)).isnan().all()
    constant = lambda x: 0 * x.flatten(1).sum(1) + 100.0  # noqa: E731
    assert CORRELATIONS[name](constant, images, shares).isnan().all()


def test_drops_that_are_rounding_correlate_with_nothing():
    _, images, shares = additive()
    noise = lambda x: 100 + 1e-5 * x.flatten(1).sum(1).sin().float()  # noqa: E731
    assert CORRELATIONS["mu_fidelity"](noise, images.float(), shares.float()).isnan().all()


def test_very_small_maps_correlate_like_others():
    score, images, _ = additive()
    found = metrics.removals(score, images, baseline=GREY, sets=SQUARES)
    for correlation in (found.pearson, found.spearman):
        torch.testing.assert_close(correlation(1e-200 * random_map()), correlation(random_map()))


def test_equal_sums_share_their_rank_although_they_are_rounded_differently():
    # Tenths: many sets of pixels have the same sum, but not to the last bit.
    score, images, _ = additive()
    tenths = 1 + torch.arange(36).view(6, 6) % 3
    saliency = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)[tenths - 1].expand(2, -1, -1)
    found = metrics.removals(score, images, baseline=GREY, sets=metrics.RandomPixels(11))
    sums = torch.stack([tenths[removed].sum() for removed in found.removed])
    assert len(found.sums(saliency)[0].unique()) > len(sums.unique())  # the trap is there
    for i in range(2):
        expected = spearmanr(sums, found.drops[i]).statistic
        assert found.spearman(saliency)[i].item() == pytest.approx(expected, abs=1e-12)


def test_an_image_has_the_same_numbers_alone_and_in_company():
    net, images, saliency = SmallNet(3), random_images(4, batch=3), random_map()[[0, 1, 0]]
    for measure in (*CORRELATIONS.values(),):
        together = measure(cp.logit(net, 1), images, saliency)
        alone = [measure(cp.logit(net, 1), images[i : i + 1], saliency[i : i + 1]) for i in range(3)]
        torch.testing.assert_close(together, torch.cat(alone))


def test_one_run_serves_all_maps_and_each_set_costs_one_forward():
    rows, seen = [], []

    class Counting(SmallNet):
        def forward(self, x):
            rows.append(len(x))
            seen.append(torch.is_inference_mode_enabled())
            return super().forward(x)

    net, images = Counting(3), random_images(4)
    found = metrics.removals(
        cp.logit(net, 1), images, baseline=GREY, sets=metrics.RandomPixels(7, samples=20)
    )
    assert sum(rows) == 2 * (1 + 1 + 20)  # f(x), f(x'), and the sets
    assert all(seen[2:])
    assert found.forward_evaluations.tolist() == [21, 21]  # f(x) came with the class
    found.pearson(random_map())
    found.infidelity(random_map())
    assert sum(rows) == 2 * (1 + 1 + 20)
    assert not found.drops.is_inference()


def test_a_folded_copy_gives_the_same_numbers():
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(48, 3))
    net[1].running_var.fill_(2.0)
    net.double().eval()
    images, sets = random_images(4), metrics.RandomPixels(7, samples=128)
    folded, plain = (
        metrics.removals(cp.logit(net, 1), images, baseline=GREY, sets=sets, fold=fold)
        for fold in (True, False)
    )
    assert (folded.folded, plain.folded) == (True, False)
    torch.testing.assert_close(folded.drops, plain.drops, rtol=0, atol=1e-5)


def test_a_baseline_that_only_fills_removes_too():
    class Filling(cp.baselines.Baseline):
        fill_only = True

        def __call__(self, inputs):
            raise AssertionError("it has no image of its own")

        def fill(self, inputs, removed):
            return inputs.masked_fill(removed[:, None], 0.5)

    net, images, saliency = SmallNet(3), random_images(4), random_map()
    filled, pasted = (
        metrics.infidelity(cp.logit(net, 1), images, saliency, baseline=baseline, sets=SQUARES)
        for baseline in (Filling(), GREY)
    )
    torch.testing.assert_close(filled, pasted)


def test_an_attribution_is_taken_by_its_heat_map_and_must_claim_shares():
    net, images = SmallNet(3), random_images(4)
    comparison = cp.compare(cp.logit(net, 1), images, baseline=GREY)
    shares = comparison.explain(cp.methods.Taylor())
    given = dict(baseline=GREY, sets=SQUARES)
    torch.testing.assert_close(
        metrics.infidelity(cp.logit(net, 1), images, shares, **given),
        metrics.infidelity(cp.logit(net, 1), images, shares.values.sum(1), **given),
    )
    rates = comparison.explain(cp.methods.Gradient())
    with pytest.raises(InputError, match=r"needs shares, .* are 'rate'; with rescaled=True"):
        metrics.infidelity(cp.logit(net, 1), images, rates, **given)
    assert metrics.infidelity(cp.logit(net, 1), images, rates, rescaled=True, **given).isfinite().all()
    with pytest.raises(InputError, match="needs rates"):
        metrics.noise_infidelity(cp.logit(net, 1), images, shares, scale=0.1)
    torch.testing.assert_close(
        metrics.noise_infidelity(cp.logit(net, 1), images, rates, scale=0.1),
        metrics.noise_infidelity(cp.logit(net, 1), images, rates.values, scale=0.1),
    )


def test_noise_infidelity_is_0_for_the_gradient_of_a_linear_score_and_orders_the_rest():
    score, weight = linear_score(1, (2, 6, 6))
    images = random_images(4)
    exact = weight.expand_as(images)
    random = torch.randn(images.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    random *= exact.norm() / random.norm()
    least, middle, most = (
        metrics.noise_infidelity(score, images, each, scale=0.1) for each in (exact, random, -exact)
    )
    torch.testing.assert_close(least, torch.zeros_like(least))
    assert (middle < most).all()
    assert (middle > 0).all()
    # With a = 0 it is the variance of the score under noise, scale^2 |w|^2.
    zero = metrics.noise_infidelity(score, images, 0 * exact, scale=0.1, samples=4000)
    torch.testing.assert_close(zero, (0.01 * weight.square().sum()).expand(2), rtol=0.1, atol=0)
    torch.testing.assert_close(
        metrics.noise_infidelity(score, images, 5 * exact, scale=0.1, rescaled=True), least
    )


def test_noise_is_the_same_for_every_micro_batch_and_image(monkeypatch):
    net, images = SmallNet(3), random_images(4, batch=3)
    rates = torch.randn_like(images)
    together = metrics.noise_infidelity(cp.logit(net, 1), images, rates, scale=0.1, samples=9)
    monkeypatch.setattr("counterpoint.batching._CPU_NUMBERS", 4 * images[0].numel())
    for i in range(3):
        alone = metrics.noise_infidelity(
            cp.logit(net, 1), images[i : i + 1], rates[i : i + 1], scale=0.1, samples=9
        )
        torch.testing.assert_close(alone, together[i : i + 1])
    other = metrics.noise_infidelity(cp.logit(net, 1), images, rates, scale=0.1, samples=9, seed=1)
    assert (other != together).all()


def test_max_sensitivity_of_known_maps():
    _, weight = linear_score(1, (2, 6, 6))
    images = random_images(4)
    gradient = lambda x: weight.expand_as(x)  # noqa: E731
    torch.testing.assert_close(metrics.max_sensitivity(gradient, images), torch.zeros(2, dtype=torch.float64))
    # w * x moves by w * d, whose norm is at most radius * |w|.
    product = lambda x: weight * x  # noqa: E731
    found = metrics.max_sensitivity(product, images, radius=0.1, relative=False)
    assert (found <= 0.1 * weight.norm()).all()
    assert (found > 0.05 * weight.norm()).all()
    size = (weight * images).flatten(1).norm(dim=1)
    torch.testing.assert_close(metrics.max_sensitivity(product, images, radius=0.1), found / size)
    # More samples only add to what the maximum is taken over.
    assert (
        metrics.max_sensitivity(product, images, samples=40) >= metrics.max_sensitivity(product, images)
    ).all()


def test_changes_go_both_ways_up_to_the_radius_and_are_the_same_for_all_images():
    seen = []
    metrics.max_sensitivity(lambda x: seen.append(x) or x, random_images(4), radius=0.1, samples=20)
    changes = torch.stack(seen[1:]) - seen[0]
    assert -0.1 <= changes.min() < -0.099
    assert 0.099 < changes.max() <= 0.1
    assert changes.mean().abs() < 0.01
    torch.testing.assert_close(changes[:, 0], changes[:, 1])


def test_max_sensitivity_takes_attributions_and_leaves_a_map_of_zeros_undefined():
    net, images = SmallNet(3, "smooth"), random_images(4)
    explain = lambda x: cp.compare(cp.logit(net, 1), x, baseline=BLACK).explain(cp.methods.Gradient())  # noqa: E731
    found = metrics.max_sensitivity(explain, images, samples=3)
    assert ((0 < found) & (found < 1)).all()
    values = lambda x: explain(x).values  # noqa: E731
    torch.testing.assert_close(metrics.max_sensitivity(values, images, samples=3), found)
    assert metrics.max_sensitivity(torch.zeros_like, images).isnan().all()
    assert (metrics.max_sensitivity(torch.zeros_like, images, relative=False) == 0).all()


@pytest.mark.parametrize(
    ("sets", "expected"),
    [
        (metrics.RandomPixels(7, samples=500), 7),
        (metrics.RandomCells(4, 0.25, samples=500), 4 * 6),
        (metrics.RandomSquares(3, samples=500), 9),
    ],
)
def test_sets_have_their_size_and_reach_every_pixel_and_come_from_their_seed(sets, expected):
    removed = sets(8, 12)
    assert removed.shape == (500, 8, 12)
    assert (removed.sum((1, 2)) == expected).all()
    assert removed.any(0).all()
    assert torch.equal(removed, sets(8, 12))
    fewer = type(sets)(**{**vars(sets), "samples": 20})(8, 12)
    assert isinstance(sets, metrics.RandomSquares) or torch.equal(removed[:20], fewer)
    assert not torch.equal(removed, type(sets)(**{**vars(sets), "seed": 1})(8, 12))


def test_sets_are_drawn_without_the_global_generator():
    before = torch.get_rng_state()
    for sets in (metrics.RandomPixels(7), metrics.RandomCells(4), metrics.RandomSquares(3)):
        sets(8, 12)
    assert torch.equal(torch.get_rng_state(), before)


def test_sets_of_pixels_are_nested_and_squares_are_squares():
    small, large = (metrics.RandomPixels(n)(8, 12) for n in (5, 30))
    assert (small <= large).all()
    for removed in metrics.RandomSquares(3)(8, 12):
        rows, columns = removed.any(1), removed.any(0)
        assert (rows.sum(), columns.sum()) == (3, 3)
        assert rows.nonzero().diff(dim=0).eq(1).all()
        assert columns.nonzero().diff(dim=0).eq(1).all()


def test_cells_of_a_grid_that_does_not_divide_the_image_tile_it():
    removed = metrics.RandomCells(4, 1 / 16, samples=300)(7, 10)
    cells = {tuple(each.flatten().tolist()) for each in removed}
    assert len(cells) == 16
    assert torch.tensor(sorted(cells)).sum(0).eq(1).all()
    for each in removed:
        for line in (each.any(0), each.any(1)):
            assert line.nonzero().diff(dim=0).eq(1).all()


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (
            {"saliency": torch.ones(2, 5, 6)},
            ShapeError,
            r"must have one number for each pixel .* is \(2, 5, 6\)",
        ),
        ({"saliency": torch.ones(2, 2, 6, 6)}, ShapeError, "sum its channels"),
        (
            {"saliency": torch.full((2, 6, 6), torch.nan)},
            NotFiniteError,
            "saliency must be finite, but 72 of 72",
        ),
        ({"samples": 2}, InputError, "samples must be a whole number of at least 3, got 2"),
        ({"count": 36}, InputError, "count must be below 36"),
        ({"count": 0}, InputError, "count must be a whole number of at least 1, got 0"),
        ({"seed": -1}, InputError, "seed must be"),
        ({"inputs": torch.ones(2, 6)}, ShapeError, "inputs must be images"),
        ({"baseline": "black"}, InputError, "baseline must be one of cp.baselines"),
        ({"baseline": cp.baselines.Uniform(draws=3)}, InputError, "has 3 draws"),
    ],
)
def test_wrong_arguments_are_named_before_the_model_runs(change, error, words, unchecked):
    def score(x):
        raise AssertionError("the model ran")

    given = dict(inputs=random_images(4), saliency=random_map(), baseline=GREY, count=9)
    given |= change
    with pytest.raises(error, match=words):
        metrics.faithfulness_correlation(score, given.pop("inputs"), given.pop("saliency"), **given)


def test_wrong_sets_and_other_arguments_are_named(unchecked):
    score, images, shares = additive()
    for sets, words in (
        (metrics.RandomCells(12), "grid must be at most 6"),
        (metrics.RandomSquares(7), "side must be at most 6"),
        (metrics.GivenSets(torch.ones(4, 5, 6, dtype=torch.bool)), "of the size of the images, 6 x 6"),
        (metrics.RandomSquares, "sets must be sets of pixels"),
        (3, "sets must be sets of pixels"),
    ):
        with pytest.raises(InputError, match=words):
            metrics.infidelity(score, images, shares, baseline=GREY, sets=sets)
    with pytest.raises(InputError, match="must be a tensor of booleans"):
        metrics.GivenSets(torch.ones(4, 6, 6))
    with pytest.raises(InputError, match="share must leave some of the 4 cells"):
        metrics.RandomCells(2, 0.05)
    with pytest.raises(InputError, match="at least 3 sets of pixels, but samples is 2"):
        metrics.removals(score, images, baseline=GREY, sets=metrics.RandomPixels(3, 2)).pearson(shares)
    with pytest.raises(InputError, match="counts must hold"):
        metrics.sensitivity_n(score, images, shares, baseline=GREY, counts=())
    with pytest.raises(ShapeError, match=r"values is \(2, 6, 6\), inputs is"):
        metrics.noise_infidelity(score, images, shares, scale=0.1)
    with pytest.raises(InputError, match="scale must be above 0"):
        metrics.noise_infidelity(score, images, torch.zeros_like(images), scale=0.0)
    with pytest.raises(InputError, match="explain must be a function"):
        metrics.max_sensitivity(shares, images)
    with pytest.raises(ShapeError, match=r"one map for each of 2 images, but returned \(1, 2, 6, 6\)"):
        metrics.max_sensitivity(lambda x: x[:1], images)
    with pytest.raises(NotFiniteError, match="maps that explain returned"):
        metrics.max_sensitivity(lambda x: x / 0, images)
    with pytest.raises(InputError, match="explain must return maps"):
        metrics.max_sensitivity(lambda x: "map", images)


def test_the_page_names_every_metric_with_its_direction():
    page = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
    for module in ("agreement", "complexity", "disturbances", "localisation", "sanity"):
        functions = [
            name
            for name in metrics.__all__
            if getattr(metrics, name).__module__ == f"counterpoint.metrics.{module}" and name.islower()
        ]
        assert functions
        for name in functions:
            assert re.search(rf"^\| `{name}` \|", page, re.MULTILINE), name
            text = getattr(metrics, name).__doc__
            assert re.search(r"(higher|lower|sparser|complex)\b.*\bbetter", text), name


@pytest.mark.slow
def test_the_example_on_the_page_runs():
    page = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
    found = {}
    exec(re.search(r"```python\n(.*?)```", page, re.DOTALL).group(1), found)
    assert found["found"].similarity.spearman.shape == (2, 1)
