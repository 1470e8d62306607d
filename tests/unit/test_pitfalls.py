"""Known pitfalls of attribution tooling, each with proof that it is none here; docs/pitfalls.md has one section a test."""

import inspect
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import counterpoint as cp
from counterpoint.errors import InputError
from counterpoint.quadrature import RULES, Nodes, Trapezoid
from networks import SmallNet, linear_score, random_images

PAGE = Path(__file__).parents[2] / "docs" / "pitfalls.md"
BLACK = cp.baselines.Black()


def test_the_page_names_every_test_and_every_test_has_its_section():
    here = {name for name in globals() if name.startswith("test_") and not name.startswith("test_the_page")}
    assert set(re.findall(r"`(test_\w+)`", PAGE.read_text())) == here


@pytest.mark.parametrize("name", RULES)
def test_weights_of_every_rule_sum_to_one(name):
    nodes = RULES[name](7).nodes
    assert abs(sum(nodes.weights) - 1) < 1e-15
    score, weight = linear_score(0, (2, 6, 6))
    inputs = random_images(0)
    method = cp.methods.IntegratedGradients(rule=RULES[name](7))
    attribution = cp.compare(score, inputs, baseline=BLACK).explain(method)
    torch.testing.assert_close(attribution.values, inputs * weight, rtol=1e-14, atol=1e-14)


def test_a_trapezoid_that_forgets_a_piece_is_refused():
    # n points, n - 1 pieces, but weights of 1 / n, halved at the ends: what captum 0.9 uses.
    captum = pytest.importorskip("captum.attr")
    n = 10
    forgetful = tuple((0.5 if k in (0, n - 1) else 1.0) / n for k in range(n))
    with pytest.raises(InputError, match="must sum to 1"):
        Nodes(Trapezoid(n).nodes.places, forgetful)
    net = nn.Sequential(nn.Flatten(), nn.Linear(72, 1, bias=False)).double()
    inputs = random_images(0)
    theirs = captum.IntegratedGradients(net).attribute(inputs, n_steps=n, method="riemann_trapezoid")
    torch.testing.assert_close(theirs.flatten(1).sum(1), 0.9 * net(inputs)[:, 0], rtol=1e-6, atol=0)


def test_weights_are_not_rounded_to_float32():
    nodes = cp.quadrature.GaussLegendre(50).nodes
    rounded = np.float32(nodes.weights).astype(float)
    assert abs(sum(nodes.weights) - 1) < 1e-15 < abs(rounded.sum() - 1)


@pytest.mark.parametrize("method", [cp.methods.GuidedBackprop(), cp.methods.DeepLIFT(), cp.methods.LRP()])
def test_nothing_is_left_on_the_model_even_when_it_fails_midway(method):
    class Failing(SmallNet):
        broken = False

        def forward(self, x):
            h = super().forward(x)
            if self.broken:
                raise RuntimeError("out of luck")
            return h

    net, inputs = Failing(0), random_images(0)
    comparison = cp.compare(cp.logit(net, 0), inputs, baseline=BLACK)
    before, net.broken = net(inputs), True
    with pytest.raises(RuntimeError, match="out of luck"):
        comparison.explain(method)
    net.broken = False
    assert not any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in net.modules())
    torch.testing.assert_close(net(inputs), before, rtol=0, atol=0)
    plain = comparison.explain(cp.methods.Gradient()).values
    fresh = cp.compare(cp.logit(SmallNet(0), 0), inputs, baseline=BLACK).explain(cp.methods.Gradient()).values
    torch.testing.assert_close(plain, fresh, rtol=0, atol=0)


def test_values_keep_their_unit():
    net, inputs = SmallNet(1), random_images(1)
    once = cp.compare(lambda x: net(x)[:, 0], inputs, baseline=BLACK)
    thrice = cp.compare(lambda x: 3 * net(x)[:, 0], inputs, baseline=BLACK)
    for method in (cp.methods.IntegratedGradients(), cp.methods.Occlusion(size=2, stride=2)):
        torch.testing.assert_close(thrice.explain(method).values, 3 * once.explain(method).values)


def test_a_metric_sees_the_map_as_it_is():
    score, weight = linear_score(2, (2, 6, 6))
    inputs = random_images(2)
    shares = (inputs * weight).sum(1)  # both signs
    curve = cp.metrics.deletion_curve(score, inputs, shares, baseline=BLACK, steps=36)
    # The best order for a linear score, which clipping to [0, 1] would leave undecided for all negative pixels.
    clipped = cp.metrics.deletion_curve(score, inputs, shares.clamp(min=0), baseline=BLACK, steps=36)
    assert (curve.area < clipped.area).all()
    assert (curve.tied == 0).all()
    assert (clipped.tied > 0.2).all()


def test_there_is_no_silent_baseline():
    with pytest.raises(TypeError, match="baseline"):
        cp.compare(cp.logit(SmallNet(0)), random_images(0))
    for function in (cp.metrics.deletion_curve, cp.metrics.insertion_curve, cp.compare):
        assert inspect.signature(function).parameters["baseline"].default is inspect.Parameter.empty


def test_black_is_black_whatever_the_normalisation():
    plain = SmallNet(0)
    for mean, std in ((0.0, 1.0), (0.5, 0.25)):
        classifier = cp.Classifier(plain, mean=(mean,) * 2, std=(std,) * 2, size=6)
        comparison = cp.compare(cp.logit(classifier, 0), random_images(0), baseline=BLACK)
        normalised = torch.full((2, 2, 6, 6), -mean / std, dtype=torch.float64)
        torch.testing.assert_close(comparison.baseline_score, plain(normalised)[:, 0])


def test_ties_are_broken_by_a_seed_and_reported():
    score, _ = linear_score(3, (2, 6, 6))
    inputs, flat = random_images(3), torch.zeros(2, 6, 6, dtype=torch.float64)
    one, again, other = (
        cp.metrics.deletion_curve(score, inputs, flat, baseline=BLACK, steps=6, seed=seed)
        for seed in (0, 0, 1)
    )
    assert (one.tied == 1).all()
    torch.testing.assert_close(one.scores, again.scores, rtol=0, atol=0)
    assert not torch.equal(one.scores, other.scores)


def test_as_many_pixels_are_removed_as_the_fraction_says():
    # Mostly zeros, as maps are after a ReLU: a percentile of such a map is 0, and "above it" is the same set at every fraction.
    inputs = torch.ones(1, 1, 10, 10, dtype=torch.float64)
    saliency = torch.zeros(1, 10, 10, dtype=torch.float64)
    saliency[0, :3] = torch.arange(1.0, 31.0).view(3, 10)
    curve = cp.metrics.deletion_curve(
        lambda x: x.flatten(1).mean(1), inputs, saliency, baseline=BLACK, steps=10
    )
    torch.testing.assert_close(curve.scores[0], 1 - torch.linspace(0, 1, 11, dtype=torch.float64))
    by_threshold = [float((saliency > np.percentile(saliency, p)).double().mean()) for p in (10, 30, 50)]
    assert by_threshold == [0.3, 0.3, 0.3]  # asked for 90, 70 and 50 %


def test_the_class_stays_the_clean_images_top1():
    net, inputs = SmallNet(4), random_images(4)
    comparison = cp.compare(cp.logit(net), inputs, baseline=cp.baselines.White())
    first = net(inputs).argmax(1)
    expected = net(torch.ones_like(inputs)).gather(1, first[:, None])[:, 0]
    torch.testing.assert_close(comparison.baseline_score, expected)


def test_the_global_generator_is_left_alone():
    net = SmallNet(0)
    torch.manual_seed(11)
    state = torch.get_rng_state()
    comparison = cp.compare(cp.logit(net), random_images(0), baseline=cp.baselines.Uniform(seed=1))
    for method in (cp.methods.SmoothGrad(samples=4), cp.methods.RISE(masks=16), cp.methods.RandomMap()):
        comparison.explain(method)
    assert torch.equal(torch.get_rng_state(), state)


def test_reused_and_functional_activations_are_seen():
    inputs = random_images(5)
    values = [
        cp.compare(cp.logit(SmallNet(5, kind), 0), inputs, baseline=BLACK)
        .explain(cp.methods.GuidedBackprop())
        .values
        for kind in ("plain", "inplace", "reused", "functional")
    ]
    for each in values[1:]:
        torch.testing.assert_close(each, values[0])
