"""The refined integral: exact where it can be, honest where it cannot, bounded in memory."""

import math

import numpy as np
import pytest
import torch

from counterpoint.refinement import Refinement, Wanted


def sigmoid(z):
    return 1 / (1 + np.exp(-np.clip(z, -700, 700)))


def run(score, gradient, end, start=None, wanted=None, floor=0.0):
    """Refine the integral of `gradient` on the straight path; float64."""
    end = np.array(end, dtype=float)
    start = np.zeros_like(end) if start is None else np.array(start, dtype=float)
    refinement = Refinement(wanted or Wanted(), floor=floor, velocity=torch.tensor(end - start))
    while not refinement.finished:
        points = [start + t * (end - start) for t in refinement.places]
        gradients = np.array([gradient(u) for u in points], dtype=float)
        refinement.add([float(score(u)) for u in points], torch.tensor(gradients))
    return refinement


def distance(refinement, truth):
    truth = np.array(truth)
    return np.abs(refinement.values.numpy() - truth).sum() / np.abs(truth).sum()


def test_a_linear_score_is_exact_and_stops_after_two_rounds():
    refinement = run(lambda u: 2 * u[0] - u[1] + 3, lambda u: (2, -1), (1, 1.5))
    assert distance(refinement, (2, -1.5)) < 1e-14
    assert refinement.gradients == 12
    assert refinement.converged
    assert refinement.value_error < 1e-14
    assert refinement.path_error < 1e-14


def test_a_smooth_score_converges_with_few_gradients():
    refinement = run(
        lambda u: np.tanh(3 * u[0] - 1) + u[1] ** 2,
        lambda u: (3 / np.cosh(3 * u[0] - 1) ** 2, 2 * u[1]),
        (1, 1),
    )
    assert refinement.converged
    assert refinement.gradients <= 24
    assert distance(refinement, (np.tanh(2) - np.tanh(-1), 1)) < 0.01


@pytest.mark.parametrize("place", [0.503, 0.57, 0.126])
def test_two_jumps_that_cancel_in_the_sum_do_not_fool_it(place):
    # Eight trapezoids have relative and path error 0 here and values (8.9, -8.9, 1) for (1, -1, 1).
    def score(u):
        return sigmoid(400 * (u[0] - place)) - sigmoid(400 * (u[1] - place)) + u[2]

    def gradient(u):
        slope = [400 * sigmoid(400 * (v - place)) * (1 - sigmoid(400 * (v - place))) for v in u[:2]]
        return slope[0], -slope[1], 1

    refinement = run(score, gradient, (1, 1, 1))
    assert refinement.converged
    assert distance(refinement, (1, -1, 1)) < 0.1


@pytest.mark.parametrize("level", [0.05, 0.3, 0.5, 0.77])
def test_a_saturating_score_gets_its_share_although_its_gradient_at_the_input_is_zero(level):
    refinement = run(lambda u: u[0] - max(u[0] - level, 0), lambda u: (float(u[0] <= level),), (1,))
    assert refinement.converged
    assert distance(refinement, (level,)) < 0.02


def test_the_error_bar_is_the_error_of_a_random_walk():
    # Gradients that walk at random along the path, 2000 features, known on 4096 steps.
    walk = torch.randn(4096, 2000, generator=torch.Generator().manual_seed(0), dtype=torch.float64).cumsum(0)
    truth = (walk[:-1] + walk[1:]).mean(0) / 2
    along = torch.cat(
        [torch.zeros(1, dtype=torch.float64), ((walk[:-1] + walk[1:]) / 2).sum(1).cumsum(0) / 4095]
    )
    refinement = Refinement(Wanted(value_error=0.02), velocity=torch.ones(2000, dtype=torch.float64))
    while not refinement.finished:
        rows = [round(t * 4095) for t in refinement.places]
        refinement.add(along[rows].tolist(), walk[rows])
    actual = float((refinement.values - truth).abs().sum() / truth.abs().sum())
    assert refinement.value_error == pytest.approx(actual, rel=0.15)


def test_the_budget_is_kept_and_the_result_says_that_it_was_not_enough():
    noise = np.random.default_rng(0)
    refinement = run(lambda u: u[0], lambda u: (noise.normal(),), (1,), wanted=Wanted(budget=20))
    assert refinement.gradients == 20
    assert not refinement.converged


def test_memory_is_bounded_whatever_the_budget():
    noise = np.random.default_rng(0)
    most = 0

    class Watched(Refinement):
        def add(self, *args):
            nonlocal most
            super().add(*args)
            most = max(most, len(self._gradient))

    refinement = Watched(Wanted(budget=300, kept=40), velocity=torch.ones(1, dtype=torch.float64))
    while not refinement.finished:
        refinement.add(
            [t for t in refinement.places], torch.tensor(noise.normal(size=(len(refinement.places), 1)))
        )
    assert most <= 40
    assert refinement.gradients > 100


def test_closing_intervals_keeps_their_values():
    def score(u):
        return math.sin(9 * u[0])

    wide, narrow = (
        run(
            score,
            lambda u: (9 * math.cos(9 * u[0]),),
            (1,),
            wanted=Wanted(value_error=1e-4, kept=kept, budget=400),
        )
        for kept in (1000, 30)
    )
    assert distance(wide, (math.sin(9),)) < 1e-3
    assert distance(narrow, (math.sin(9),)) < 5e-2


def test_a_constant_score_is_all_zeros():
    refinement = run(lambda u: 1.0, lambda u: (0, 0), (1, 2))
    assert refinement.converged
    assert refinement.values.tolist() == [0, 0]
    assert refinement.value_error == refinement.path_error == 0


def test_a_path_on_which_the_score_returns_is_judged_by_its_variation():
    # f = sin(2 pi u) + v - w: f(x) = f(x'), while the score goes up and down by 4 on the way.
    refinement = run(
        lambda u: math.sin(2 * math.pi * u[0]) + u[1] - u[2],
        lambda u: (2 * math.pi * math.cos(2 * math.pi * u[0]), 1, -1),
        (1, 1, 1),
    )
    assert refinement.variation == pytest.approx(4, rel=0.1)
    assert distance(refinement, (0, 1, -1)) < 0.1
    assert refinement.converged


def test_a_curved_path_integrates_the_gradient_over_its_own_positions():
    # z = (t, t^2) under z1 * z2: 1/3 and 2/3 along the curve.
    refinement = Refinement(Wanted(value_error=1e-3, path_error=1e-3, relative_error=1e-3))
    while not refinement.finished:
        t = torch.tensor(refinement.places, dtype=torch.float64)
        refinement.add((t**3).tolist(), torch.stack([t**2, t], 1), torch.stack([t, t**2], 1))
    assert refinement.converged
    assert distance(refinement, (1 / 3, 2 / 3)) < 1e-3
