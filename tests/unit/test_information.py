"""What a model still tells about images while their pixels are removed: the published formula in NumPy, closed forms, and directions."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from scipy.special import expit, softmax
from torch import nn

import counterpoint as cp
from counterpoint.errors import InputError, ModelError, NotFiniteError, ShapeError
from counterpoint.metrics import Bank, information_removed, r_oms
from counterpoint.protocols import Baseline
from networks import SmallNet, random_images

BLACK = cp.baselines.Black()


class Logits(nn.Module):
    """The logits are `weights` times the mean of the image, plus `biases`."""

    def __init__(self, weights, biases):
        super().__init__()
        self.weights = torch.tensor(weights, dtype=torch.float64)
        self.biases = torch.tensor(biases, dtype=torch.float64)

    def forward(self, x):
        return x.flatten(1).mean(1, keepdim=True) * self.weights + self.biases


class Raised(nn.Module):
    """Another model's logits, all raised by ten times the mean of the image: its predictions stay what they are."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x) + 10 * x.flatten(1).mean(1, keepdim=True)


@dataclass(frozen=True)
class Same(Baseline):
    """The image itself: nothing is removed."""

    def __call__(self, inputs):
        return inputs


@dataclass(frozen=True)
class Darkened(Baseline):
    """Only fills: removed pixels become black."""

    fill_only: ClassVar[bool] = True

    def fill(self, inputs, removed):
        return inputs.masked_fill(removed.unsqueeze(1), 0.0)


def maps(seed, batch=2, size=6):
    return torch.rand(batch, size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def logits_along_the_path(net, inputs, saliency, baseline, steps):
    """(batch, steps, classes), the most relevant pixels removed first, in NumPy but for the network."""
    found = []
    for point in range(steps):
        images = []
        for image, importance, replaced in zip(inputs, saliency, baseline, strict=True):
            removed = np.argsort(-importance.flatten().numpy(), kind="stable")[: round(point * 36 / steps)]
            flat = image.flatten(1).numpy().copy()
            flat[:, removed] = replaced.flatten(1).numpy()[:, removed]
            images.append(flat.reshape(image.shape))
        found.append(net(torch.from_numpy(np.stack(images))).detach().numpy())
    return np.stack(found, 1)


@pytest.mark.parametrize("steps", [20, 7])
def test_the_published_score_is_that_of_its_formula_in_numpy(steps):
    net, inputs, saliency = SmallNet(1, classes=9), random_images(3), maps(4)
    baseline = cp.baselines.Median()(inputs)
    logits = logits_along_the_path(net, inputs, saliency, baseline, steps)
    n = len(inputs)
    # RemScore = mean over steps of (1 / (20 n)) sum over images and classes of sigmoid(logit)
    expected = np.mean([expit(logits[:, point]).sum() / (20 * n) for point in range(steps)])
    found = information_removed(cp.logit(net), inputs, saliency, baseline=cp.baselines.Median(), steps=steps)
    assert found.score.mean().item() == pytest.approx(expected, rel=1e-12)
    torch.testing.assert_close(found.sigmoid_sums, torch.from_numpy(expit(logits).sum(2)))
    assert found.fractions.tolist() == [round(point * 36 / steps) / 36 for point in range(steps)]


def test_the_other_three_are_those_of_their_formulas_in_numpy():
    net, inputs, saliency = SmallNet(1, classes=9), random_images(3), maps(4)
    mean = np.arange(1, 10) / 45
    shares = softmax(logits_along_the_path(net, inputs, saliency, torch.zeros_like(inputs), 20), axis=2)
    chosen = shares[:, 0].argmax(1)
    own = np.stack([shares[i, :, c] for i, c in enumerate(chosen)])
    found = information_removed(
        cp.logit(net), inputs, saliency, baseline=BLACK, mean_prediction=torch.from_numpy(mean)
    )
    expected = {
        "confidences_lost": 1 - own / own[:, :1],
        "entropies": -(shares * np.log(shares)).sum(2) / np.log(9),
        "negative_divergences": -(shares * np.log(shares / mean)).sum(2),
    }
    for name, numbers in expected.items():
        torch.testing.assert_close(getattr(found, name), torch.from_numpy(numbers))
    torch.testing.assert_close(found.confidence_lost, torch.from_numpy(expected["confidences_lost"].mean(1)))
    torch.testing.assert_close(found.entropy, torch.from_numpy(expected["entropies"].mean(1)))
    torch.testing.assert_close(
        found.negative_divergence, torch.from_numpy(expected["negative_divergences"].mean(1))
    )


def test_a_model_without_an_opinion_has_the_published_score_25_and_full_entropy():
    silent = Logits([0.0] * 1000, [0.0] * 1000)
    found = information_removed(
        cp.logit(silent),
        random_images(3),
        maps(4),
        baseline=BLACK,
        mean_prediction=torch.full((1000,), 1e-3).double(),
    )
    torch.testing.assert_close(found.score, torch.tensor([25.0, 25.0]).double())
    torch.testing.assert_close(found.entropy, torch.ones(2).double())
    torch.testing.assert_close(found.confidence_lost, torch.zeros(2).double())
    torch.testing.assert_close(found.negative_divergence, torch.zeros(2).double())


def test_what_a_removal_of_everything_does_is_worked_out_by_hand():
    net = Logits([np.log(16.0), 0.0], [0.0, 0.0])
    white = torch.ones(1, 1, 4, 4, dtype=torch.float64)
    found = information_removed(
        cp.logit(net),
        white,
        maps(4, 1, 4),
        baseline=BLACK,
        steps=4,
        include_last=True,
        mean_prediction=torch.tensor([0.5, 0.5]).double(),
    )
    # At fraction q the odds are 16^(1 - q): 16, 8, 4, 2, 1.
    share = np.array([16, 8, 4, 2, 1]) / np.array([17, 9, 5, 3, 2])
    torch.testing.assert_close(found.confidences_lost[0], torch.from_numpy(1 - share * 17 / 16))
    assert found.entropies[0, -1].item() == pytest.approx(1)
    assert found.negative_divergences[0, -1].item() == pytest.approx(0, abs=1e-12)
    for numbers in (found.confidences_lost, found.entropies, found.negative_divergences):
        assert (numbers.diff() > 0).all()  # higher = more removed
    assert (found.sigmoid_sums.diff() < 0).all()  # lower = more removed, as published


def test_the_published_score_is_no_function_of_what_the_model_predicts():
    net, inputs, saliency = SmallNet(1), random_images(3), maps(4)
    mean = torch.tensor([0.2, 0.3, 0.5]).double()
    one, other = (
        information_removed(cp.logit(each), inputs, saliency, baseline=BLACK, mean_prediction=mean)
        for each in (net, Raised(net))
    )
    assert (one.score - other.score).abs().min() > 0.02
    for name in ("confidences_lost", "entropies", "negative_divergences"):
        torch.testing.assert_close(getattr(one, name), getattr(other, name))


def test_the_class_that_is_followed_is_that_of_the_score():
    net, inputs, saliency = SmallNet(1), random_images(3), maps(4)
    for target in (0, 1, 2):
        for score in (
            cp.logit(net, target),
            cp.probability(net, target),
            cp.contrast(net, target, against=(target + 1) % 3),
        ):
            found = information_removed(score, inputs, saliency, baseline=BLACK, include_last=True)
            before, after = net(inputs).softmax(1)[:, target], net(0 * inputs).softmax(1)[:, target]
            torch.testing.assert_close(found.confidences_lost[:, -1], (1 - after / before).detach())


def test_the_mean_prediction_may_come_from_a_bank_or_be_given_or_be_left_out():
    net, inputs, saliency = SmallNet(1), random_images(3), maps(4)
    bank = Bank.of(net, random_images(2, 5))
    ask = dict(baseline=BLACK)
    of_bank = information_removed(cp.logit(net), inputs, saliency, bank=bank, **ask)
    given = information_removed(cp.logit(net), inputs, saliency, mean_prediction=bank.mean_prediction, **ask)
    torch.testing.assert_close(of_bank.negative_divergences, given.negative_divergences)
    neither = information_removed(cp.logit(net), inputs, saliency, **ask)
    assert neither.negative_divergences is None
    assert neither.negative_divergence is None
    torch.testing.assert_close(neither.score, given.score)
    with pytest.raises(InputError, match="give bank or mean_prediction, not both"):
        information_removed(
            cp.logit(net), inputs, saliency, bank=bank, mean_prediction=bank.mean_prediction, **ask
        )


def test_a_baseline_that_only_fills_is_followed_to_the_last_fraction_below_one():
    net, inputs, saliency = SmallNet(1), random_images(3), maps(4)
    filled = information_removed(
        cp.logit(net), inputs, saliency, baseline=Darkened(), steps=6, include_last=True
    )
    black = information_removed(cp.logit(net), inputs, saliency, baseline=BLACK, steps=6)
    assert filled.fractions.tolist() == black.fractions.tolist()
    torch.testing.assert_close(filled.confidences_lost, black.confidences_lost)


def test_numbers_are_float32_for_float32_and_exact_where_probabilities_are_tiny():
    net = Logits([300.0, 0.0], [-150.0, 0.0])
    images = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, 1, 4, 4).clone()
    found = information_removed(
        cp.logit(net, 0), images, maps(4, 2, 4), baseline=cp.baselines.White(), include_last=True, steps=4
    )
    assert found.entropies.dtype == torch.float32
    assert found.entropies.isfinite().all()
    # p_0 rises from e^-150 to 1: nothing is lost, and the number is very negative or, beyond float32, -inf; never NaN.
    assert found.confidences_lost[0, -1] < -1e30
    assert not found.confidences_lost.isnan().any()


def test_bad_arguments_are_named(unchecked):
    net, inputs, saliency = SmallNet(1), random_images(3), maps(4)

    def ask(score=None, **options):
        return information_removed(score or cp.logit(net), inputs, saliency, **{"baseline": BLACK, **options})

    class OnlyModule:
        """A score that knows its module, but has no class."""

        module = net

        def bind(self, inputs):
            return self

        def read(self, output, image):
            return output.sum(1)

        def on(self, module):
            return self

        def __call__(self, points, image):
            return self.read(net(points), image)

    with pytest.raises(InputError, match="score must be of a module"):
        ask(score=lambda x: x.flatten(1).sum(1))
    with pytest.raises(InputError, match="score must be of a class"):
        ask(score=OnlyModule())
    with pytest.raises(ModelError, match="at least 2 classes, but the model returns 1"):
        ask(score=cp.logit(SmallNet(1, classes=1)))
    with pytest.raises(InputError, match="mean_prediction must be a tensor"):
        ask(mean_prediction=[0.2, 0.3, 0.5])
    with pytest.raises(ShapeError, match=r"one number for each of 3 classes, got \(2,\)"):
        ask(mean_prediction=torch.tensor([0.5, 0.5]))
    with pytest.raises(InputError, match="above 0 that sum to 1, got 0 for the smallest"):
        ask(mean_prediction=torch.tensor([0.5, 0.5, 0.0]))
    with pytest.raises(InputError, match="above 0 that sum to 1"):
        ask(mean_prediction=torch.tensor([0.5, 0.5, 0.5]))
    with pytest.raises(NotFiniteError, match="mean_prediction must be finite"):
        ask(mean_prediction=torch.tensor([0.5, 0.5, torch.nan]))
    with pytest.raises(InputError, match=r"baseline must be one of cp.baselines"):
        ask(baseline=cp.baselines.Black)


# R-OMS


def test_r_oms_rewards_a_baseline_that_removes_nothing():
    net, inputs = SmallNet(1), random_images(3)
    clean = net(inputs).softmax(1).amax(1).detach()
    same = r_oms(cp.logit(net), inputs, baseline=Same(), cells=3)
    torch.testing.assert_close(same.probabilities, clean[:, None].expand(-1, 20))
    torch.testing.assert_close(same.score, clean)
    bright = Logits([5.0, 0.0], [0.0, 0.0])
    black = r_oms(cp.logit(bright), inputs, baseline=BLACK, cells=3)
    white = r_oms(cp.logit(bright), inputs, baseline=cp.baselines.White(), cells=3)
    assert (black.score < white.score).all()


def test_r_oms_is_the_mean_probability_over_evenly_many_occluded_cells():
    net = Logits([np.log(81.0), 0.0], [0.0, 0.0])
    white = torch.ones(2, 1, 6, 6, dtype=torch.float64)
    found = r_oms(cp.logit(net), white, baseline=BLACK, cells=2, samples=3, seed=4)
    # One, two and three of four cells are black: the odds are 81^(3/4), 9 and 3.
    assert found.fractions.tolist() == [0.25, 0.5, 0.75]
    odds = np.array([27.0, 9.0, 3.0])
    torch.testing.assert_close(found.probabilities, torch.from_numpy(odds / (odds + 1)).expand(2, -1))
    torch.testing.assert_close(found.score, torch.from_numpy(np.full(2, np.mean(odds / (odds + 1)))))


def test_r_oms_occludes_the_same_random_cells_in_every_image_and_others_under_another_seed():
    net, inputs = SmallNet(1), random_images(3, 3)
    ask = dict(baseline=cp.baselines.Uniform(), cells=3, samples=6)
    together = r_oms(cp.logit(net), inputs, micro_batch=4, **ask)
    for i in range(3):
        alone = r_oms(cp.logit(net), inputs[i : i + 1], **ask)
        torch.testing.assert_close(alone.probabilities[0], together.probabilities[i])
    other = r_oms(cp.logit(net), inputs, seed=1, **ask)
    assert (other.probabilities != together.probabilities).any()
    folded = r_oms(cp.logit(net), inputs, **{**ask, "samples": 90})
    unfolded = r_oms(cp.logit(net), inputs, fold=False, **{**ask, "samples": 90})
    torch.testing.assert_close(folded.probabilities, unfolded.probabilities)


def test_r_oms_takes_baselines_that_only_fill_and_follows_the_class_of_the_score():
    net, inputs = SmallNet(1), random_images(3)
    filled = r_oms(cp.logit(net, 2), inputs, baseline=Darkened(), cells=3)
    black = r_oms(cp.logit(net, 2), inputs, baseline=BLACK, cells=3)
    torch.testing.assert_close(filled.probabilities, black.probabilities)
    every = sum(r_oms(cp.logit(net, c), inputs, baseline=BLACK, cells=3).score for c in range(3))
    torch.testing.assert_close(every, torch.ones(2).double())


def test_r_oms_names_bad_arguments(unchecked):
    net, inputs = SmallNet(1), random_images(3)
    for options, message in (
        ({"cells": 7}, "cells must be at least 2 and at most 6, got 7"),
        ({"cells": 1}, "cells must be at least 2"),
        ({"samples": 0}, "samples must be at least 1, got 0"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"baseline": cp.baselines.Uniform(draws=2)}, "has 2 draws"),
    ):
        with pytest.raises(InputError, match=message):
            r_oms(cp.logit(net), inputs, **{"baseline": BLACK, "cells": 3, **options})
    with pytest.raises(InputError, match="score must be of a module"):
        r_oms(lambda x: x.flatten(1).sum(1), inputs, baseline=BLACK, cells=3)
