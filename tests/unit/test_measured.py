"""The judge of maps that searches use: the same curves as the metrics, at no more forwards."""

from dataclasses import replace

import pytest
import torch

import counterpoint as cp
from counterpoint.errors import InputError
from counterpoint.methods.measured import Judge
from counterpoint.metrics.perturbation import Replacement
from networks import SmallNet, random_images


@pytest.fixture
def question():
    return asked()


def asked(baseline=None, make=cp.logit):
    # 7 x 7 pixels and 8 steps: the counts at the points are not equally spaced.
    return cp.compare(
        make(SmallNet(3), 0),
        random_images(5, 3, size=7),
        baseline=cp.baselines.Mean() if baseline is None else baseline,
    )


def some_map(images=3):
    return torch.rand(images, 7, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def table_of(question, baselines, make=cp.logit, seed=0):
    return cp.metrics.curves(
        make(SmallNet(3), 0), question.inputs, {"map": some_map()}, baselines, steps=8, seed=seed
    )


@pytest.mark.parametrize("baseline", [cp.baselines.Mean(), cp.baselines.Black(), cp.baselines.ROAD()])
def test_a_judge_finds_the_curves_of_the_metrics(baseline):
    question = asked(baseline)
    found = Judge.of(question, steps=8, seed=2).curves(some_map())
    table = table_of(question, [baseline], seed=2)
    for kind in ("insertion", "deletion"):
        torch.testing.assert_close(getattr(found, kind), table.curve(kind).scores)
    torch.testing.assert_close(found.area, table.gains()[0, 0])


@pytest.mark.parametrize(("baseline", "forwards"), [(cp.baselines.Mean(), 15), (cp.baselines.ROAD(), 14)])
def test_only_points_between_the_ends_and_the_empty_image_are_run(baseline, forwards):
    question = asked(baseline)
    before = question.tally.forwards.clone()
    Judge.of(question, steps=8).curves(some_map())
    assert (question.tally.forwards - before).tolist() == [forwards] * 3


def test_several_fill_ins_are_averaged(question):
    fills = [cp.baselines.Black(), cp.baselines.White()]
    judge = replace(
        Judge.of(question, steps=8),
        fills=tuple(Replacement(baseline=each, whole=each(question.inputs)) for each in fills),
    )
    found, table = judge.curves(some_map()), table_of(question, fills)
    for kind in ("insertion", "deletion"):
        expected = torch.stack([table.curve(kind, baseline=each).scores for each in fills]).mean(0)
        torch.testing.assert_close(getattr(found, kind), expected)
    torch.testing.assert_close(found.area, table.gains()[:, 0].mean(0))


@pytest.mark.parametrize("make", [cp.logit, cp.log_probability, cp.log_odds, cp.contrast, cp.probability])
def test_any_score_of_a_class_is_judged_by_its_probability_for_one_forward(make):
    question = asked(make=make)
    before = question.tally.forwards.clone()
    judge = Judge.of(question, steps=8).by_probability()
    assert (question.tally.forwards - before).tolist() == [int(make is not cp.probability)] * 3
    expected = table_of(question, [cp.baselines.Mean()], cp.probability).gains()[0, 0]
    torch.testing.assert_close(judge.curves(some_map()).area, expected)


def test_a_score_without_classes_is_judged_as_it_is():
    question = cp.compare(lambda x: x.flatten(1).sum(1), random_images(5, 3), baseline=cp.baselines.Black())
    judge = Judge.of(question)
    assert judge.by_probability() is judge


def test_some_of_the_images_are_judged_as_among_all(question):
    judge = Judge.of(question, steps=8)
    whole, some = judge.curves(some_map()), judge.curves(some_map()[[2, 0]], torch.tensor([2, 0]))
    torch.testing.assert_close(some.area, whole.area[[2, 0]])
    torch.testing.assert_close(some.insertion, whole.insertion[[2, 0]])


def test_the_better_of_two_is_taken_for_each_image(question):
    judge = Judge.of(question, steps=8)
    one, other = judge.curves(some_map()), judge.curves(-some_map())
    better = torch.tensor([True, False, True])
    mixed = one.where(better, other)
    for name in ("insertion", "deletion", "area"):
        found, first, second = (getattr(each, name) for each in (mixed, one, other))
        assert torch.equal(found, torch.stack([first[0], second[1], first[2]]))


def test_a_baseline_of_several_draws_is_refused():
    with pytest.raises(InputError, match="has 2 draws; use a baseline of one"):
        Judge.of(asked(cp.baselines.Uniform(draws=2)))
