"""Statistics of a benchmark: closed forms, SciPy where it has the same thing, and sentences that say no more than the numbers."""

import json
import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import bootstrap, friedmanchisquare, kendalltau, wilcoxon

from counterpoint.bench import standings as standings_module
from counterpoint.bench.friedman import _cliques, friedman_of
from counterpoint.bench.pairs import holm, pair_tests, pairs_of, signed_rank
from counterpoint.bench.results import Results
from counterpoint.bench.stability import dependence_of, stability_of
from counterpoint.bench.standings import ranks_of, resampled_means, standings
from counterpoint.bench.statistics import (
    Contender,
    dependence,
    friedman,
    measured,
    pairs,
    ranking,
    stability,
    verdict,
)
from counterpoint.bench.tables import stores
from counterpoint.bench.values import Values, settled, values
from counterpoint.bench.words import about
from counterpoint.errors import InputError, UnknownNameError
from counterpoint.report.bench_figures import critical_difference_figure, stability_figure, wins_figure


def table(numbers, metric="insertion", seeds=(0,)):
    """Numbers (contenders, evaluations, images) or (contenders, evaluations, seeds, images) as if they had been read."""
    numbers = np.asarray(numbers, dtype=float)
    if numbers.ndim == 3:
        numbers = numbers[:, :, None]
    return Values(
        metric=metric,
        contenders=tuple(Contender(f"m{c}", "black") for c in range(len(numbers))),
        evaluations=tuple(f"b{e}" for e in range(numbers.shape[1])),
        seeds=seeds,
        numbers=numbers,
        absent=(),
    )


def normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


def measure(image, value, **changes):
    row = {
        "asked": "0",
        "model": "net",
        "precision": "float32",
        "image": f"photo {image}",
        "position": image,
        "sha256": str(image),
        "label": None,
        "method": "gradient",
        "against": "black",
        "layer": "input",
        "seed": 0,
        "metric": "insertion",
        "evaluation": "black",
        "status": "ok",
        "reason": None,
        "value": value,
    }
    row |= changes
    return {**row, "key": json.dumps([str(each) for each in row.values()])}


def folder(path, rows, explanations=(), **manifest):
    """A benchmark's folder with these measures."""
    tables = stores(path)
    for name, some in (("measures", rows), ("explanations", explanations)):
        tables[name].add([{**dict.fromkeys(tables[name].columns), **row} for row in some])
    (path / "manifest.json").write_text(json.dumps({"format": "counterpoint bench 1", **manifest}))
    return Results(path)


def rows_of(numbers, evaluations=("black", "blur"), **changes):
    """Measures of numbers (contenders, evaluations, images)."""
    return [
        measure(i, float(value), **{"method": f"m{c}", "evaluation": evaluations[e], **changes})
        for c, row in enumerate(numbers)
        for e, column in enumerate(row)
        for i, value in enumerate(column)
    ]


# What was measured


def test_seeds_are_averaged_within_an_image_before_anything_else(tmp_path):
    rows = [measure(i, i + s, seed=s) for i in range(3) for s in (0, 1)]
    rows += [measure(i, 5.0, method="fixed") for i in range(3)]
    found = values(folder(tmp_path, rows), "insertion")
    assert found.seeds == (0, 1)
    fixed, gradient = found.scores()
    np.testing.assert_allclose(fixed, 5.0)
    np.testing.assert_allclose(gradient, [0.5, 1.5, 2.5])
    # A method that was run with one seed has the same numbers beside every seed of the others.
    np.testing.assert_allclose(found.by_seed()[:, 1], [[5, 5, 5], [1, 2, 3]])


def test_a_seed_that_failed_leaves_its_image_the_mean_of_the_others(tmp_path):
    rows = [measure(i, i + s, seed=s) for i in range(3) for s in (0, 2)]
    rows[1] |= {"status": "failed"}
    np.testing.assert_allclose(values(folder(tmp_path, rows), "insertion").scores(), [[0, 2, 3]])


def test_images_that_somebody_has_no_number_for_are_left_out_and_counted(tmp_path):
    rows = [measure(i, float(i)) for i in range(6)] + [measure(i, 1.0, method="other") for i in range(6)]
    rows[8] |= {"status": "failed", "reason": "raised"}
    rows[9] |= {"value": math.nan}
    rows[10] |= {"value": math.inf}
    results = folder(tmp_path, rows)
    assert not np.isinf(values(results, "insertion").numbers).any()
    order = ranking(results, "insertion")
    assert [(each.images, each.left_out) for each in order] == [(3, 3)] * 2
    assert {each.contender.method: each.mean for each in order} == pytest.approx(
        {"gradient": 2.0, "other": 1.0}
    )


def test_a_contender_without_numbers_on_most_images_does_not_cost_the_others_theirs(tmp_path):
    rows = [measure(i, 1.0) for i in range(9)] + [measure(i, 2.0, method="rare") for i in range(3)]
    results = folder(tmp_path, rows)
    found = values(results, "insertion")
    assert found.contenders == (Contender("gradient", "black"),)
    assert found.absent == (Contender("rare", "black"),)
    assert "not ranked: rare against black" in " ".join(verdict(results))


def test_means_over_models_need_every_model(tmp_path):
    rows = [measure(i, 1.0) for i in range(4)] + [measure(i, 3.0, model="deep") for i in range(3)]
    results = folder(tmp_path, rows, models=[{"name": "deep"}, {"name": "net"}])
    (one,) = ranking(results, "insertion")
    assert (one.mean, one.images, one.left_out) == (2.0, 3, 1)
    (one,) = ranking(results, "insertion", model="net")
    assert (one.mean, one.images, one.left_out) == (1.0, 4, 0)
    assert measured(results) == (["deep", "net"], ["insertion"])


def test_evaluation_baselines_keep_the_order_of_the_spec(tmp_path):
    rows = rows_of(normal(0, 2, 3, 5), evaluations=("a", "b", "c"))
    assert values(folder(tmp_path, rows, evaluations=["c", "a"]), "insertion").evaluations == ("c", "a", "b")


def test_the_mean_over_evaluation_baselines_and_each_by_itself_can_be_ranked(tmp_path):
    results = folder(tmp_path, rows_of([[[1.0] * 8, [4.0] * 8], [[2.0] * 8, [2.0] * 8]]))
    assert [each.contender.method for each in ranking(results, "insertion")] == ["m0", "m1"]
    assert [each.contender.method for each in ranking(results, "insertion", evaluation="black")] == [
        "m1",
        "m0",
    ]
    assert ranking(results, "insertion")[0].mean == 2.5
    assert pairs(results, "insertion", evaluation="blur")[0].difference == pytest.approx(2.0)


def test_names_that_are_not_in_the_results_are_named(tmp_path):
    results = folder(tmp_path / "some", rows_of(normal(0, 3, 2, 6)))
    with pytest.raises(UnknownNameError, match="unknown metric 'insertoin'; did you mean 'insertion'"):
        ranking(results, "insertoin")
    with pytest.raises(UnknownNameError, match="unknown model 'resnet'"):
        pairs(results, "insertion", model="resnet")
    with pytest.raises(UnknownNameError, match="unknown evaluation baseline 'whit'"):
        friedman(results, "insertion", evaluation="whit")
    with pytest.raises(InputError, match="resamples must be at least 1"):
        ranking(results, "insertion", resamples=0)
    with pytest.raises(InputError, match="over must be 'evaluation', 'seed' or 'subset'"):
        stability(results, "insertion", over="subsets")
    with pytest.raises(InputError, match="at least 2 seeds"):
        stability(results, "insertion", over="seed")
    with pytest.raises(InputError, match="holds no measures"):
        verdict(folder(tmp_path / "empty", []))


# Means and ranks


@given(
    seed=st.integers(0, 2**16), images=st.integers(12, 40), metric=st.sampled_from(["insertion", "deletion"])
)
def test_who_is_better_on_every_image_by_a_margin_is_found_best(seed, images, metric):
    numbers = normal(seed, 4, 2, images)
    way = 1 if metric == "insertion" else -1
    numbers[2] = way * ((way * numbers).max(0) + 0.1)
    found = table(numbers, metric)
    best = standings(found, resamples=200)[0]
    assert best.contender.method == "m2"
    assert (best.rank, best.rank_low, best.rank_high, best.first) == (1, 1, 1, 1.0)
    assert best.low <= best.mean <= best.high
    own = [pair for pair in pairs_of(found, resamples=200) if best.contender in (pair.better, pair.worse)]
    assert len(own) == 3
    for pair in own:
        assert pair.better == best.contender
        assert pair.p_holm < 0.05
        assert pair.sure
        assert pair.wins == 1.0
        assert pair.low > 0


@given(seed=st.integers(0, 2**16), images=st.integers(1, 60))
def test_identical_methods_are_never_told_apart(seed, images):
    numbers = normal(seed, 3, 2, images)
    numbers[1] = numbers[0]
    found = table(numbers)
    pair = next(p for p in pairs_of(found, resamples=50) if {p.better.method, p.worse.method} == {"m0", "m1"})
    assert (pair.difference, pair.low, pair.high, pair.p, pair.p_holm, pair.wins) == (0, 0, 0, 1, 1, 0.5)
    assert not pair.sure
    one, two = (
        next(each for each in standings(found, resamples=300) if each.contender.method == name)
        for name in ("m0", "m1")
    )
    assert (one.rank, one.rank_low, one.rank_high, one.first) == (
        two.rank,
        two.rank_low,
        two.rank_high,
        two.first,
    )


def test_intervals_are_those_of_scipy():
    found = table(normal(3, 2, 1, 30))
    theirs = bootstrap(
        (found.scores()[0],), np.mean, n_resamples=20000, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    ours = next(e for e in standings(found, resamples=20000) if e.contender.method == "m0")
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.01)
    assert ours.mean == pytest.approx(found.scores()[0].mean())


def test_a_metric_where_lower_is_better_is_ranked_from_the_lowest_and_keeps_its_sign():
    numbers = normal(1, 4, 2, 25)
    up, down = standings(table(numbers)), standings(table(-numbers, "deletion"))
    assert [e.contender for e in up] == [e.contender for e in down]
    np.testing.assert_allclose(
        [(e.low, e.mean, e.high, e.first) for e in up], [(-e.high, -e.mean, -e.low, e.first) for e in down]
    )
    assert pairs_of(table(numbers)) == pairs_of(table(-numbers, "deletion"))


def test_tied_ones_share_a_rank_and_the_first_place():
    order = standings(table([[[0.1, 0.2, 0.3]], [[0.3, 0.1, 0.2]], [[0.0, 0.0, 0.0]]]), resamples=200)
    assert [each.rank for each in order] == [1, 1, 3]
    assert sum(each.first for each in order) == pytest.approx(1.0)
    assert ranks_of(np.array([[0.1 + 0.2, 0.3, 1.0]])).tolist() == [[2, 2, 1]]
    assert settled(np.array([0.0, -2.5, np.nan])).tolist()[:2] == [0.0, -2.5]


def test_one_image_has_intervals_of_no_width_and_tells_nothing_apart():
    found = table([[[0.5]], [[0.2]], [[0.1]]])
    assert all(each.low == each.mean == each.high for each in standings(found))
    assert all(pair.p == 1 for pair in pairs_of(found))


def test_resamples_are_drawn_in_blocks_where_images_are_many(monkeypatch):
    numbers = normal(0, 2, 50)
    whole = resampled_means(numbers, resamples=3000, seed=0)
    monkeypatch.setattr(standings_module, "_AT_ONCE", 50 * 100)
    blocks = resampled_means(numbers, resamples=3000, seed=0)
    assert blocks.shape == whole.shape == (3000, 2)
    assert len(np.unique(blocks[:, 0])) > 2900
    np.testing.assert_allclose(blocks.std(0), numbers.std(1) / 50**0.5, rtol=0.06)
    again = resampled_means(numbers, resamples=3000, seed=0)
    np.testing.assert_array_equal(blocks, again)


# Pairs


@given(p=st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_holm_is_never_below_the_raw_p_nor_above_bonferroni(p):
    p = np.array(p)
    corrected = holm(p)
    assert (corrected >= p).all()
    assert (corrected <= np.minimum(1, p * len(p))).all()
    assert (np.diff(corrected[np.argsort(p)]) >= 0).all()


def test_holm_steps_down():
    assert holm(np.array([0.04, 0.01, 0.03])).tolist() == pytest.approx([0.06, 0.03, 0.06])
    assert holm(np.array([0.6, 0.7])).tolist() == [1.0, 1.0]


@pytest.mark.parametrize("images", [5, 12, 30, 200])
def test_p_values_are_those_of_scipy_pair_by_pair(images):
    scores = normal(images, 4, images) + np.arange(4)[:, None] * 0.2
    tests = pair_tests(scores)
    for k, (i, j) in enumerate(combinations(range(4), 2)):
        assert (tests.first[k], tests.second[k]) == (i, j)
        assert tests.p[k] == pytest.approx(wilcoxon(scores[i], scores[j]).pvalue)
        assert tests.wins[k] == (scores[i] > scores[j]).mean()


@pytest.mark.parametrize("images", [1, 2, 5, 7, 20])
def test_p_values_of_tied_sizes_are_those_of_scipy_too(images):
    differences = np.random.default_rng(images).integers(-1, 3, size=(6, images)).astype(float)
    expected = [wilcoxon(row[row != 0]).pvalue if row.any() else 1.0 for row in differences]
    np.testing.assert_allclose(signed_rank(differences), expected)


def test_images_where_two_are_equal_say_nothing_and_count_half_a_win():
    differences = normal(0, 1, 120)
    differences[:, ::2] = 0.0
    assert signed_rank(differences)[0] == pytest.approx(
        wilcoxon(differences[0, 1::2], method="asymptotic").pvalue
    )
    tests = pair_tests(np.stack([differences[0], np.zeros(120)]))
    assert tests.wins[0] == pytest.approx(0.25 + (differences[0] > 0).mean())


def test_a_difference_is_that_of_means_with_a_paired_interval():
    images = 10 * normal(0, 60)  # their own spread, far larger than the difference, does not matter
    (pair,) = pairs_of(table([[images + 0.1 * normal(1, 60)], [images + 0.3]]))
    assert (pair.better.method, pair.worse.method) == ("m1", "m0")
    assert pair.difference == pytest.approx(0.3 - 0.1 * normal(1, 60).mean())
    assert 0.25 < pair.low < pair.difference < pair.high < 0.35


def test_a_mean_that_few_images_decide_is_not_called_sure():
    one, two = np.zeros(40), -1 - np.arange(40) / 100
    two[0] = 100.0
    (pair,) = pairs_of(table([[one], [two]]))
    assert pair.better.method == "m1"
    assert pair.p_holm < 0.001
    assert (pair.agrees, pair.sure) == (False, False)
    assert pair_tests(np.stack([one, two])).sure.tolist() == [0.0]
    said = " ".join(about(table([[one], [two]]), "Insertion"))
    assert "Not told apart from it: m0 against black (1 of 1 others)" in said
    assert "m0 against black is better on 98% of the images for all that" in said


# All together


def test_friedman_is_that_of_scipy_and_groups_are_what_no_test_tells_apart():
    scores = normal(0, 4, 1, 60)
    scores[0] += 3
    scores[3] -= 3
    found = friedman_of(table(scores))
    theirs = friedmanchisquare(*scores[:, 0])
    assert (found.statistic, found.p_value) == pytest.approx((theirs.statistic, theirs.pvalue))
    assert [each.method for each in (found.contenders[0], found.contenders[3])] == ["m0", "m3"]
    assert sum(found.mean_ranks) == pytest.approx(10)
    assert [{each.method for each in group} for group in found.groups] == [{"m1", "m2"}]


@pytest.mark.parametrize(("contenders", "q"), [(3, 2.343), (5, 2.728), (10, 3.164)])
def test_the_critical_difference_is_that_of_the_published_table(contenders, q):
    found = friedman_of(table(normal(0, contenders, 1, 20)))
    expected = q * math.sqrt(contenders * (contenders + 1) / (6 * 20))
    assert found.critical_difference == pytest.approx(expected, rel=5e-4)


def test_methods_that_are_all_the_same_are_one_group():
    found = friedman_of(table(np.broadcast_to(normal(0, 1, 1, 9), (4, 1, 9))))
    assert (found.statistic, found.p_value) == (0.0, 1.0)
    assert [len(group) for group in found.groups] == [4]
    with pytest.raises(InputError, match="at least 3 contenders"):
        friedman_of(table(normal(0, 2, 1, 9)))


@given(edges=st.sets(st.tuples(st.integers(0, 6), st.integers(0, 6)).filter(lambda edge: edge[0] < edge[1])))
def test_groups_are_the_largest_cliques(edges):
    neighbours = [{b for a, b in edges if a == n} | {a for a, b in edges if b == n} for n in range(7)]

    def joined(group):
        return all(b in neighbours[a] for a, b in combinations(group, 2))

    every = [set(group) for size in range(1, 8) for group in combinations(range(7), size) if joined(group)]
    largest = [group for group in every if not any(group < other for other in every)]
    found = list(_cliques(neighbours))
    assert sorted(map(sorted, found)) == sorted(map(sorted, largest))


# Stability


def test_a_ranking_that_no_baseline_changes_is_stable_and_a_reversed_one_is_not():
    ladder = np.arange(5)[:, None, None] + 0.01 * normal(0, 5, 3, 20)
    same = stability_of(table(ladder), "evaluation")
    assert (same.mean_tau, same.low, same.high, same.concordance) == pytest.approx((1, 1, 1, 1))
    assert same.p_value < 0.01
    turned = stability_of(table(np.concatenate([ladder[:, :1], -ladder[:, 1:2]], 1)), "evaluation")
    assert turned.names == ("b0", "b1")
    np.testing.assert_allclose(turned.taus, [[1, -1], [-1, 1]])
    assert (turned.mean_tau, turned.concordance) == pytest.approx((-1, 0))


def test_taus_are_those_of_scipy_and_the_interval_holds_them():
    numbers = normal(2, 9, 4, 30) + 0.3 * normal(3, 9, 1, 1)
    numbers[4] = numbers[5]  # tied, also in every resample
    found = stability_of(table(numbers), "evaluation")
    means = numbers.mean(2)
    for i, j in combinations(range(4), 2):
        assert found.taus[i, j] == pytest.approx(kendalltau(means[:, i], means[:, j]).statistic)
    assert found.mean_tau == pytest.approx(found.taus[np.triu_indices(4, 1)].mean())
    assert -1 <= found.low < found.mean_tau < found.high <= 1


def test_seeds_are_compared_as_rankings_of_their_own():
    numbers = np.arange(4)[:, None, None, None] + 0.01 * normal(0, 4, 2, 3, 15)
    found = stability_of(table(numbers, seeds=(0, 1, 7)), "seed")
    assert found.names == ("0", "1", "7")
    assert found.mean_tau == pytest.approx(1)
    numbers[:, :, 2] *= -1
    assert stability_of(table(numbers, seeds=(0, 1, 7)), "seed").mean_tau == pytest.approx(-1 / 3)


def test_halves_of_the_images_agree_as_far_as_noise_lets_them():
    ladder = np.arange(5)[:, None, None] + 0.01 * normal(0, 5, 2, 20)
    clear = stability_of(table(ladder), "subset")
    assert (clear.mean_tau, clear.low, clear.high, clear.concordance) == pytest.approx((1, 1, 1, 1))
    assert math.isnan(clear.p_value)
    # Where images take turns, what is best on one half is worst on the other.
    noise = stability_of(table(normal(1, 5, 2, 20)), "subset")
    assert abs(noise.mean_tau) < 0.5
    with pytest.raises(InputError, match="at least 2 contenders and 4 images"):
        stability_of(table(normal(1, 5, 2, 3)), "subset")


def test_dependence_is_found_where_baselines_reverse_the_ranking_and_not_in_noise(tmp_path):
    ladder = np.arange(5)[:, None, None] + 0.01 * normal(0, 5, 2, 20)
    ladder[:, 1] *= -1
    found = dependence(folder(tmp_path, rows_of(ladder)), "insertion")
    assert (found.within, found.gap, found.low, found.high) == pytest.approx((1, 2, 2, 2))
    # Of 20 tables without any dependence hardly one may be called dependent.
    shared = [
        dependence_of(table(normal(seed, 6, 1, 30) + normal(seed + 99, 6, 3, 30))) for seed in range(20)
    ]
    assert sum(each.low > 0 for each in shared) <= 1


def test_tables_where_all_are_tied_have_no_tau():
    tied = np.stack([normal(0, 4, 12), np.ones((4, 12))], 1)
    found = stability_of(table(tied), "evaluation")
    assert math.isnan(found.mean_tau)
    assert any("all contenders are tied" in said for said in about(table(tied), "Insertion"))


# Words


def said_of(path, numbers, **changes):
    return verdict(folder(path, rows_of(numbers, **changes), evaluations=["black", "blur"]))


def test_a_clear_winner_is_called_better_and_by_how_much(tmp_path):
    numbers = np.array([3.0, 1.0, 0.0])[:, None, None] + 0.1 * normal(0, 3, 2, 30)
    first, best, sure, under, agree, kept, *_ = said_of(tmp_path, numbers)
    assert first.startswith("3 contenders (method, attribution baseline and layer) on 30 images and 1 model")
    assert best.startswith(
        "Insertion (higher is better, mean over 2 evaluation baselines), 30 images: m0 against black"
    )
    assert "first in 100% of resamples of the images, and its rank is 1 of 3" in best
    assert "better than every other one" in sure
    assert "than the next, m1 against black, by 2 (1.9" in sure
    assert "m0 against black under every evaluation baseline" in under
    assert "does not depend on the baseline by more than chance" in agree
    assert kept.startswith(
        "Insertion: 3 of 3 pairs have the same sure winner under every evaluation baseline: m0"
    )


def test_six_images_are_called_too_few(tmp_path):
    numbers = np.arange(4.0)[:, None, None] + 0.1 * normal(0, 4, 2, 6)
    said = " ".join(said_of(tmp_path, numbers))
    # The smallest p of the signed-rank test is 2 / 2^6, over 6 pairs.
    assert "6 images are too few to tell 6 pairs of contenders apart" in said
    assert "a corrected p of 0.19" in said
    assert "better than every other" not in said
    assert "sure winner" not in said


def test_methods_that_are_alike_are_said_not_to_be_told_apart(tmp_path):
    said = " ".join(said_of(tmp_path, normal(4, 4, 2, 40)))
    assert "Not told apart from it:" in said
    assert "better than every other" not in said
    assert "0 of 6 pairs have the same sure winner under every evaluation baseline." in said


def test_a_ranking_that_a_baseline_turns_round_is_said_to_depend_on_it(tmp_path):
    numbers = np.arange(4.0)[:, None, None] + 0.1 * normal(0, 4, 2, 30)
    numbers[:, 1] *= -1
    said = " ".join(said_of(tmp_path, numbers))
    assert (
        "depends on the evaluation baseline: m3 against black under black; m0 against black under blur"
        in said
    )
    assert "so the ranking depends on the baseline" in said
    assert "0 of 6 pairs have the same sure winner" in said
    turned = "6 pairs surely change the winner, such as: m0 against black beats m1 against black under blur"
    assert f"{turned}, and loses under black." in said


def test_rankings_of_several_seeds_are_compared(tmp_path):
    rows = [
        measure(i, c + 0.01 * s * i, method=f"m{c}", seed=s)
        for c in range(3)
        for i in range(10)
        for s in range(3)
    ]
    said = verdict(folder(tmp_path, rows))
    assert any("rankings with different seeds agree with mean tau 1.00" in each for each in said)


def test_failures_are_counted_by_method(tmp_path):
    rows = rows_of(normal(0, 2, 2, 5))
    rows[0] |= {"status": "failed", "value": None}
    maps = [
        measure(i, 0.0, status="failed" if i < 3 else "ok", method=name)
        for i in range(5)
        for name in ("a", "b")
    ]
    maps = [{k: v for k, v in row.items() if k not in ("metric", "evaluation", "value")} for row in maps]
    said = verdict(folder(tmp_path, rows, maps, data={"images": 7}))
    assert "5 images (of 7 asked for)" in said[0]
    assert "4 images (1 left out because some contender lacks a number there)" in said[1]
    assert said[-2:] == ["6 of 10 explanations failed: a (3) and b (3).", "1 of 20 measures failed."]


def test_models_are_spoken_of_one_by_one_and_metrics_without_direction_not_at_all(tmp_path):
    numbers = normal(0, 2, 2, 8)
    rows = [row for name in ("net", "deep") for row in rows_of(numbers, model=name)]
    rows += rows_of(numbers, metric="sparseness", evaluation="")
    said = verdict(folder(tmp_path, rows))
    assert any(each.startswith("net, insertion (") for each in said)
    assert any(each.startswith("deep, insertion (") for each in said)
    assert "parseness" not in " ".join(said)


@given(
    seed=st.integers(0, 2**16),
    contenders=st.integers(1, 4),
    baselines=st.integers(1, 3),
    images=st.integers(1, 12),
    levels=st.integers(1, 3),
)
def test_something_is_said_of_whatever_was_measured(seed, contenders, baselines, images, levels):
    numbers = np.random.default_rng(seed).integers(levels, size=(contenders, baselines, images))
    said = about(table(numbers, "pointing_game"), "Pointing game", resamples=50)
    assert said
    assert not any("nan" in each.lower() for each in said)


# Figures


def texts(figure):
    found = [text for text in figure.findobj() if hasattr(text, "get_text")]
    return " ".join(text.get_text() for text in found)


def test_the_critical_difference_figure_names_everyone_and_joins_groups():
    scores = normal(0, 4, 1, 60)
    scores[0] += 3
    scores[3] -= 3
    figure = critical_difference_figure(friedman_of(table(scores)), "insertion")
    figure.draw_without_rendering()
    text = texts(figure)
    assert all(f"m{c} against black" in text for c in range(4))
    assert "Nemenyi's critical difference" in text
    dots = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert [len(line.get_xdata()) for line in dots] == [2]


def test_the_wins_figure_is_bold_where_a_pair_is_told_apart():
    found = pairs_of(table(np.array([2.0, 0.0, 0.0])[:, None, None] + 0.1 * normal(0, 3, 1, 20)))
    order = [Contender(f"m{c}", "black") for c in (1, 0, 2)]
    figure = wins_figure(found, order, "insertion")
    figure.draw_without_rendering()
    cells = {tuple(map(int, text.get_position())): text for text in figure.axes[0].texts}
    assert cells[0, 1].get_text() == "100%"  # column m1, row m0
    assert cells[1, 0].get_text() == "0%"
    assert {place for place, text in cells.items() if text.get_fontweight() == "bold"} >= {
        (0, 1),
        (1, 0),
        (2, 1),
    }
    wins_figure(found).draw_without_rendering()
    with pytest.raises(InputError, match="lacks m2 against black"):
        wins_figure(found, order[:2])
    with pytest.raises(InputError, match="got none"):
        wins_figure([])


def test_the_stability_figure_shows_every_tau():
    figure = stability_figure(stability_of(table(normal(0, 5, 3, 12)), "evaluation"))
    figure.draw_without_rendering()
    assert len(figure.axes[0].texts) == 9
    assert "12 images" in texts(figure)
