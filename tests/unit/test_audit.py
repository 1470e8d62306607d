"""The audit: its statistics on numbers whose answer is known, and whole runs on a small network."""

import json
import math

import pytest
import torch
from scipy.stats import kendalltau

import counterpoint as cp
from counterpoint.audit import METRICS, REMOVALS, BaselineAudit, Contender, RankingAudit
from counterpoint.audit.rankings import taus_of
from counterpoint.audit.statistics import Resampling, correlation, dominates, interval, line, on_front
from counterpoint.audit.words import conclusions, recommendation
from counterpoint.auditing import audit_photographs, baseline_table, contenders_of
from counterpoint.errors import Cancelled, InputError
from counterpoint.progress import listening
from networks import SmallNet, random_images

BASELINES = [cp.baselines.Black(), cp.baselines.Mean(), cp.baselines.Uniform(seed=1)]


@pytest.fixture(scope="module")
def classifier():
    return cp.Classifier(SmallNet(3), mean=(0.0, 0.0), std=(1.0, 1.0), size=6)


@pytest.fixture(scope="module")
def images():
    return random_images(0, batch=9)


def audited(classifier, images, **options):
    return cp.audit_baselines(
        classifier,
        images,
        BASELINES,
        **{"layer": "last", "steps": 4, "crops": 1, "resamples": 200, **options},
    )


def test_resamples_draw_images_with_replacement_and_the_same_for_everything():
    resampling = Resampling.of(50, resamples=4000, seed=0)
    assert (resampling.counts.sum(1) == 50).all()
    numbers = torch.randn(3, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    means = resampling.means(torch.stack([numbers[0], numbers[0] + 1, numbers[2]]))
    torch.testing.assert_close(means[:, 1] - means[:, 0], torch.ones(4000, dtype=torch.float64))
    # The spread of a mean of n independent numbers.
    expected = float(numbers[0].std(correction=0)) / 50**0.5
    assert abs(float(means[:, 0].std()) / expected - 1) < 0.05


def test_images_without_a_number_are_left_out_of_a_mean():
    resampling = Resampling.of(20, resamples=50, seed=0)
    numbers = torch.full((20,), 3.0)
    numbers[::2] = torch.nan
    torch.testing.assert_close(resampling.means(numbers), torch.full((50,), 3.0, dtype=torch.float64))


def test_one_row_dominates_another_only_where_every_good_is_surely_better():
    images = torch.randn(40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    resampling = Resampling.of(40, resamples=500, seed=0)
    # Paired: the images' own spread, far larger than the differences, does not matter.
    one = resampling.means(torch.stack([images, images + 0.1, images]))
    other = resampling.means(torch.stack([images, images + 0.1, images + 0.2]))
    expected = torch.tensor([[False, False, False], [True, False, False], [False, False, False]])
    assert torch.equal(dominates(torch.stack([one, other])), expected)


def test_the_front_is_what_nothing_else_beats():
    goods = torch.tensor([[[0.0, 1.0, 2.0, 1.0]], [[2.0, 1.0, 0.0, 0.5]]])
    assert on_front(goods).tolist() == [[True, True, True, False]]
    equal = torch.ones(2, 1, 3)
    assert on_front(equal).all()


def test_a_line_and_its_correlation_are_those_of_least_squares():
    x = torch.tensor([0.0, 1.0, 2.0, 3.0], dtype=torch.float64)
    slope, intercept = line(x, 2 * x - 1)
    assert (float(slope), float(intercept)) == (2.0, -1.0)
    assert float(correlation(x, -x)) == pytest.approx(-1.0)


def test_an_interval_holds_95_percent():
    low, high = interval(torch.linspace(0, 1, 1001, dtype=torch.float64)).tolist()
    assert (low, high) == pytest.approx((0.025, 0.975))


def test_measures_of_an_audit_are_those_of_the_metrics(classifier, images):
    audit = audited(classifier, images)
    bank = cp.metrics.Bank.of(classifier, images, groups=[str(n) for n in range(9)], crops=1, seed=0)
    comparison = cp.compare(cp.logit(classifier), images, baseline=BASELINES[0], layer="last")
    saliency = comparison.explain(cp.methods.GradCAM()).heatmap()
    for b, baseline in enumerate(BASELINES):
        options = {"baseline": baseline, "bank": bank, "steps": 4}
        out = cp.metrics.out_of_distribution(cp.logit(classifier), images, saliency, **options)
        removed = cp.metrics.information_removed(cp.logit(classifier), images, saliency, **options)
        for name, expected in {
            "out_of_distribution": out.score,
            "excess": out.excess,
            "beyond": out.beyond,
            "removal_as_published": removed.score,
            "confidence_lost": removed.confidence_lost,
            "entropy": removed.entropy,
            "negative_divergence": removed.negative_divergence,
        }.items():
            torch.testing.assert_close(audit.numbers[name][b], expected.double(), rtol=1e-6, atol=1e-9)
    assert audit.numbers["deletion_beyond"].ge(0).all()


def test_without_random_occlusions_all_else_is_the_same(classifier, images, tmp_path):
    whole, less = audited(classifier, images), audited(classifier, images, occlusions=0, folder=tmp_path)
    assert less.numbers["r_oms"].isnan().all()
    assert audited(classifier, images, occlusions=0, folder=tmp_path).numbers["r_oms"].isnan().all()
    for name, numbers in whole.numbers.items():
        if name != "r_oms":
            torch.testing.assert_close(less.numbers[name], numbers, equal_nan=True)


def test_a_stopped_audit_goes_on_where_it_was(classifier, images, tmp_path):
    whole = audited(classifier, images)
    runs = []

    def stop(done, total, what):
        runs.append(done / total)
        if done / total > 0.4:
            raise Cancelled

    with pytest.raises(Cancelled), listening(stop):
        audited(classifier, images, folder=tmp_path)
    kept = len(list((tmp_path / "parts").glob("part-*.parquet")))
    assert kept >= 1
    resumed = audited(classifier, images, folder=tmp_path)
    assert len(list((tmp_path / "parts").glob("part-*.parquet"))) > kept
    for name in whole.numbers:
        torch.testing.assert_close(resumed.numbers[name], whole.numbers[name], equal_nan=True)
    with pytest.raises(InputError, match="steps was 4, is 3"):
        audited(classifier, images, folder=tmp_path, steps=3)


def test_a_further_baseline_runs_alone(classifier, images, tmp_path):
    audited(classifier, images, folder=tmp_path)
    more, rows = [*BASELINES, cp.baselines.White()], []
    hook = classifier.module.model.head.register_forward_hook(lambda m, a, out: rows.append(len(out)))
    try:
        audit = cp.audit_baselines(classifier, images, more, layer="last", steps=4, crops=1, folder=tmp_path)
    finally:
        hook.remove()
    assert len(audit.names) == 4
    # Each image: a few for the map and the classes, 3 + 4 + 10 for the one baseline that is new; the bank again.
    assert sum(rows) <= 9 * 2 + 9 * (8 + 3 + 5 + 11)


def numbers_of(excess, removal):
    shape = (len(excess), 30)
    noise = 0.01 * torch.randn(30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    spread = {"excess": excess, **dict.fromkeys(REMOVALS, removal)}
    return {
        **{
            name: torch.tensor(each, dtype=torch.float64)[:, None].expand(shape) + noise
            for name, each in spread.items()
        },
        "deletion_beyond": torch.full(shape, 0.2, dtype=torch.float64),
        "insertion_beyond": torch.full(shape, torch.nan, dtype=torch.float64),
    }


def made(excess, removal):
    return BaselineAudit(
        names=("near", "far", "worse"),
        images=tuple(map(str, range(30))),
        numbers=numbers_of(excess, removal),
        facts={},
    )


def test_words_name_the_best_compromise_what_is_dominated_and_the_line():
    audit = made([0.0, 1.0, 1.1], [0.8, 1.0, 0.3])
    assert audit.undominated == ("near", "far")
    assert audit.chosen.argmax() == 0
    text = " ".join(recommendation(audit))
    assert "take near: it is the best compromise in 100%" in text
    assert "worse (than near and far)" in text
    assert "deletion earns 20%" in text


def test_no_line_is_claimed_where_its_sign_is_open():
    _, (low, high), fitted = made([0.0, 1.0, 0.5], [0.5, 0.5, 0.5]).trade_off_line("entropy")
    assert (fitted is None) == (low <= 0 <= high)
    rising = made([0.0, 1.0, 2.0], [0.0, 1.0, 2.0]).trade_off_line("entropy")
    assert rising[0] == pytest.approx(1.0)
    assert rising[2] is not None
    assert rising[2][0] == pytest.approx(1.0)


def ranking(values, noise=0.001, rivals=None):
    """An audit with these mean areas (contenders, baselines) on 24 images."""
    table = torch.tensor(values, dtype=torch.float64)
    spread = noise * torch.randn(
        *table.shape, 24, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    areas = table[:, :, None] + spread
    return RankingAudit(
        rivals=rivals or tuple((name, "black") for name in "abcd"[: len(values)]),
        baselines=tuple("xyz"[: len(values[0])]),
        images=tuple(map(str, range(24))),
        areas=dict.fromkeys(METRICS, areas),
        tied=torch.zeros(len(values), 24, dtype=torch.float64),
        resamples=200,
    )


def test_a_ranking_that_every_baseline_shares_survives():
    audit = ranking([[3.0, 3.1], [2.0, 2.2], [1.0, 1.3], [0.0, 0.1]])
    assert len(audit.surviving("insertion")) == 6
    assert audit.contradicted("insertion") == []
    assert audit.stability("insertion").mean_tau == 1
    assert audit.ceiling("insertion")[0] == pytest.approx(1)
    assert audit.dependence("insertion")[1] == pytest.approx((0, 0))
    assert "does not depend" in " ".join(conclusions(audit))


def test_a_ranking_that_turns_with_the_baseline_is_told_from_noise():
    turned = ranking([[3.0, 0.0], [2.0, 1.0], [1.0, 2.0], [0.0, 3.0]])
    assert turned.surviving("deletion") == []
    assert len(turned.contradicted("deletion")) == 6
    assert turned.dependence("deletion")[1][0] > 0
    assert "depends on the baseline" in " ".join(conclusions(turned))
    noise = ranking([[0.0, 0.0]] * 4, noise=1.0)
    low, high = noise.dependence("deletion")[1]
    assert low <= 0 <= high


def test_a_map_that_does_best_under_its_own_baseline_is_found_out():
    own = [[3.0, 1.0, 9.0], [2.0, 2.0, 9.0], [0.0, 0.0, 0.0]]
    rivals = (("ig", "x"), ("ig", "y"), ("grad_cam", "x"))
    (found,) = ranking(own, rivals=rivals).circularity("insertion")
    assert (found.method, found.against, found.baselines) == ("ig", ("x", "y"), ("x", "y", "z"))
    assert found.gain == pytest.approx((3 + 2 - 1 - 2) / 2, abs=1e-3)  # z is nobody's own
    assert found.gain_interval[0] > 0.9
    words = " ".join(conclusions(ranking(own, rivals=rivals)))
    assert "ig: judged by the baseline it was made against, a map gains +1.00" in words
    assert "favours its own baseline" in words
    none = ranking([[1.0, 1.0]] * 2, noise=1.0, rivals=rivals[:2])
    assert "no favour is shown" in " ".join(conclusions(none))


def test_no_gain_is_claimed_where_no_two_baselines_are_on_both_sides():
    audit = ranking([[1.0, 2.0], [2.0, 1.0]], rivals=(("ig", "x"), ("ig", "elsewhere")))
    assert math.isnan(audit.circularity("deletion")[0].gain)
    assert "judged by" not in " ".join(conclusions(audit))


def test_for_a_linear_score_each_baseline_favours_its_own_maps():
    generator = torch.Generator().manual_seed(0)
    weight, images = torch.randn(3, 8, 8, generator=generator), torch.rand(6, 3, 8, 8, generator=generator)
    baselines = [cp.baselines.Black(), cp.baselines.White(), cp.baselines.Grey()]

    def linear(x):
        return (x * weight).flatten(1).sum(1)

    areas = torch.stack(
        [
            torch.stack(
                [
                    cp.metrics.insertion_curve(
                        linear,
                        images,
                        cp.compare(linear, images, baseline=own).explain(cp.methods.Taylor()).heatmap(),
                        baseline=judge,
                        steps=8,
                    ).area
                    for judge in baselines
                ]
            )
            for own in baselines
        ]
    )
    audit = RankingAudit(
        rivals=tuple(("taylor", name) for name in ("black", "white", "grey")),
        baselines=("black", "white", "grey"),
        images=tuple(map(str, range(6))),
        areas=dict.fromkeys(METRICS, areas.double()),
        tied=torch.zeros(3, 6),
        resamples=200,
    )
    (found,) = audit.circularity("insertion")
    assert found.areas.argmax(0).tolist() == [0, 1, 2]
    assert found.gain_interval[0] > 0


def test_tau_is_scipys_tau_b():
    generator = torch.Generator().manual_seed(0)
    one, two = torch.randint(4, (2, 3, 7, 2), generator=generator).double()  # ties too
    found = taus_of(one, two)
    for k in range(3):
        for a in range(2):
            for b in range(2):
                expected = kendalltau(one[k, :, a], two[k, :, b], variant="b").statistic
                assert float(found[k, a, b]) == pytest.approx(expected)


def test_rankings_of_a_small_network(classifier, images, tmp_path):
    methods = [cp.methods.Gradient(), cp.methods.Taylor(), cp.methods.GradCAM()]
    contenders = contenders_of(methods, BASELINES[:2])
    assert [c.name for c in contenders] == [
        "gradient against black",
        "taylor against black",
        "taylor against mean",
        "grad_cam against black",
    ]
    options = {"layer": "last", "steps": 4, "resamples": 100}
    audit = cp.audit_rankings(classifier, images, contenders, BASELINES, folder=tmp_path, **options)
    again = cp.audit_rankings(classifier, images, contenders, BASELINES, folder=tmp_path, **options)
    saliency = cp.compare(cp.logit(classifier), images, baseline=BASELINES[1]).explain(methods[1]).heatmap()
    curve = cp.metrics.insertion_curve(
        cp.probability(classifier), images, saliency, baseline=BASELINES[2], steps=4
    )
    torch.testing.assert_close(audit.areas["insertion"][2, 2], curve.area.double())
    for metric in METRICS:
        torch.testing.assert_close(again.areas[metric], audit.areas[metric])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"images": slice(0, 2)}, "at least 3"),
        ({"baselines": BASELINES[:1]}, "at least 2 different"),
        ({"baselines": [*BASELINES, BASELINES[0]]}, "at least 2 different"),
        ({"names": ["a"]}, "one for each of 9"),
        ({"method": cp.methods.Gradient()}, "against together"),
    ],
)
def test_bad_input_is_named_before_any_work(classifier, images, change, words):
    given = {"images": slice(None), "baselines": BASELINES, "layer": "last", **change}
    with pytest.raises(InputError, match=words):
        cp.audit_baselines(classifier, images[given.pop("images")], given.pop("baselines"), **given)


def test_contenders_must_differ(classifier, images):
    same = [Contender(cp.methods.Gradient(), BASELINES[0])] * 2
    with pytest.raises(InputError, match="contenders must be at least 2 different"):
        cp.audit_rankings(classifier, images, same, BASELINES)


@pytest.mark.slow
def test_photographs_in_table_figures_and_words_out(tmp_path):
    from counterpoint.data.photographs import find_photographs

    paths = find_photographs(["sample:chelsea", "sample:coffee", "sample:rocket"])
    classifier = cp.load_model("efficientnet_lite0")
    written = audit_photographs(
        classifier, paths, BASELINES[:2], tmp_path, steps=2, crops=0, occlusions=1, insertion=False
    )
    assert {path.name for path in written.files} == {"audit.md", "audit.json", "trade-off.png", "looks.png"}
    assert all(path.stat().st_size > 0 for path in written.files)
    facts = json.loads((tmp_path / "audit.json").read_text())
    assert [each["baseline"] for each in facts["baselines"]] == ["black", "mean"]
    assert facts["baselines"][0]["insertion_beyond"]["mean"] is None
    assert written.words[0] in (tmp_path / "audit.md").read_text()
    assert len(baseline_table(audit_of(facts))[1]) == 2


def audit_of(facts):
    """An audit with the means of a file as the numbers of three images."""
    measures = [key for key in facts["baselines"][0] if key not in ("baseline", "best_compromise")]
    numbers = {
        name: torch.tensor(
            [[each[name]["mean"] or torch.nan] * 3 for each in facts["baselines"]], dtype=torch.float64
        )
        for name in measures
    }
    names = tuple(each["baseline"] for each in facts["baselines"])
    return BaselineAudit(names=names, images=("a", "b", "c"), numbers=numbers, facts={}, resamples=50)
