"""Closed forms of guided, blurred and counterfactual paths, and of expected gradients under noise, in float64."""

import math

import pytest
import torch

import counterpoint as cp
from counterpoint.errors import InputError, ShapeError, UnknownNameError
from counterpoint.quadrature import Left, Trapezoid
from networks import SmallNet, linear_score, random_images

BLACK = cp.baselines.Black()


def explain(method, score, inputs, *, baseline=BLACK, layer=None):
    return cp.compare(score, inputs, baseline=baseline, layer=layer).explain(method)


def column(numbers):
    return torch.tensor([numbers], dtype=torch.float64)


def product(x):
    return x[:, 0] * x[:, 1]


@pytest.mark.parametrize(
    "method", [cp.methods.GuidedIG(steps=7), cp.methods.GuidedIG(steps=1, fraction=0.01)]
)
def test_guided_shares_of_a_linear_score_are_exact(method):
    score, weight = linear_score(0, (2, 6, 6))
    inputs, baseline = random_images(1), cp.baselines.Uniform(seed=2)
    attribution = explain(method, score, inputs, baseline=baseline)
    torch.testing.assert_close(attribution.values, (inputs - baseline(inputs)) * weight)
    assert attribution.path_error.max() < 1e-12


@pytest.mark.parametrize("settings", [{"fraction": 1.0}, {"max_distance": 0.0}])
@pytest.mark.parametrize(("gradient_at", "rule"), [("start", Left(20)), ("ends", Trapezoid(21))])
def test_a_guided_path_that_may_not_leave_the_straight_one_is_a_rule_on_that(settings, gradient_at, rule):
    question = (cp.logit(SmallNet(3), 1), random_images(4))
    guided = explain(cp.methods.GuidedIG(steps=20, gradient_at=gradient_at, **settings), *question)
    straight = explain(cp.methods.IntegratedGradients(rule=rule), *question)
    torch.testing.assert_close(guided.values, straight.values)
    assert guided.gradient_evaluations.tolist() == straight.gradient_evaluations.tolist()


def test_the_feature_with_the_smaller_gradient_goes_its_whole_way_first():
    # f = u v from (0.5, 0) to (1, 1): at the start df/du = v = 0, so u goes first and gains nothing; on the straight path it gains 1/4.
    class Start(cp.baselines.Black):
        def __call__(self, inputs):
            return column([0.5, 0.0]).expand_as(inputs)

    method = cp.methods.GuidedIG(steps=9, fraction=0.1, max_distance=1.0)
    attribution = explain(method, product, column([1.0, 1.0]), baseline=Start())
    torch.testing.assert_close(attribution.values, column([0.0, 1.0]))
    straight = explain(cp.methods.IntegratedGradients(), product, column([1.0, 1.0]), baseline=Start())
    torch.testing.assert_close(straight.values, column([0.25, 0.75]))


def published(score, inputs, baseline, *, steps, fraction, max_distance):
    """The algorithm as it is published: one image, one group of features after the other."""
    way, x, values = inputs - baseline, baseline.clone(), torch.zeros_like(inputs)
    whole = way.abs().sum()
    for step in range(steps):
        point = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(score(point.unsqueeze(0)).sum(), point)
        wanted = (step + 1) / steps
        before = x.clone()
        farthest = baseline + min(1.0, wanted + max_distance) * way
        behind = (x - baseline) / way < wanted - max_distance
        x = torch.where(behind, baseline + (wanted - max_distance) * way, x)
        while True:
            missing = (inputs - x).abs().sum() - whole * (1 - wanted)
            if missing <= 1e-12 * whole:
                break
            slope = gradient.abs().masked_fill((x - farthest).abs() < 1e-13, math.inf)
            chosen = slope <= slope.flatten().quantile(fraction, interpolation="lower")
            chosen &= slope < math.inf
            room = ((farthest - x).abs() * chosen).sum()
            x = torch.where(chosen, x + min(1.0, float(missing / room)) * (farthest - x), x)
        values += (x - before) * gradient
    return values


@pytest.mark.parametrize("settings", [(0.25, 0.02), (0.1, 0.3), (0.6, 1.0)])
def test_the_guided_path_is_the_published_one(settings):
    fraction, max_distance = settings
    net, images, baseline = SmallNet(5, "smooth"), random_images(6), cp.baselines.Uniform(seed=1)
    method = cp.methods.GuidedIG(steps=25, fraction=fraction, max_distance=max_distance, gradient_at="start")
    ours = explain(method, cp.logit(net, 2), images, baseline=baseline)
    for i in range(2):
        expected = published(
            lambda x: net(x)[:, 2],
            images[i],
            baseline(images)[i],
            steps=25,
            fraction=fraction,
            max_distance=max_distance,
        )
        torch.testing.assert_close(ours.values[i], expected)


def test_equal_gradients_move_together_whatever_their_rounding():
    inputs = random_images(0)
    # All gradients are 2 (1 + sum(x)) but for noise of 1e-12: no feature is ahead, and the path is straight.
    noise = 1e-12 * random_images(9)

    def score(x):
        total = x.flatten(1).sum(1)
        return (1 + total) ** 2 + (x * noise[:1]).flatten(1).sum(1)

    guided = explain(cp.methods.GuidedIG(steps=10, gradient_at="start"), score, inputs)
    straight = explain(cp.methods.IntegratedGradients(rule=Left(10)), score, inputs)
    torch.testing.assert_close(guided.values, straight.values)


def test_the_guided_path_stays_as_near_the_straight_one_as_it_was_told_and_reaches_the_input():
    images, seen = random_images(3, batch=1), []
    net = SmallNet(3)

    def score(x):
        seen.append(x.detach())
        return net(x)[:, 0]

    comparison = cp.compare(score, images, baseline=BLACK)
    seen.clear()
    attribution = comparison.explain(cp.methods.GuidedIG(steps=20, max_distance=0.05))
    for k, point in enumerate(seen):
        assert ((point / images) - k / 20).abs().max() <= 0.05 + 1e-12
        assert float(point.sum() / images.sum()) == pytest.approx(k / 20)
    far = max(((point / images) - k / 20).abs().max().item() for k, point in enumerate(seen))
    assert far > 0.04
    assert (
        attribution.error.abs().max() <= attribution.path_error.max() * attribution.target.abs().max() + 1e-12
    )


def test_the_error_of_a_guided_path_is_known_and_falls_with_the_steps():
    question = (cp.logit(SmallNet(8, "smooth"), 1), random_images(9))

    def guided(**settings):
        return explain(cp.methods.GuidedIG(**settings), *question)

    few, many = guided(steps=40, gradient_at="start"), guided(steps=320, gradient_at="start")
    assert (many.error.abs() < few.error.abs() / 4).all()
    assert (many.path_error < few.path_error / 4).all()
    assert many.pieces.tolist() == [8, 8]
    assert (many.path_variation >= many.target.abs() - 1e-12).all()
    # The same path with both gradients of each step: 41 are better than 320 were.
    both = guided(steps=40)
    assert (both.path_error < many.path_error).all()
    torch.testing.assert_close(both.path_variation, few.path_variation)


def test_blurred_shares_of_a_linear_score_are_exact_and_name_their_reference():
    score, weight = linear_score(0, (2, 6, 6))
    inputs = random_images(1)
    attribution = explain(cp.methods.BlurIG(max_sigma=5.0, steps=3), score, inputs)
    blurred = cp.baselines.Blur(sigma=5.0)(inputs)
    torch.testing.assert_close(attribution.values, (inputs - blurred) * weight)
    torch.testing.assert_close(attribution.own_target, score(inputs) - score(blurred))
    assert attribution.own_error.abs().max() < 1e-12
    assert attribution.error.abs().min() > 1e-3
    assert attribution.reference == "the image blurred by sigma 5"
    assert attribution.gradient_evaluations.tolist() == [3, 3]
    assert attribution.forward_evaluations.tolist() == [1, 1]


def test_blurred_shares_of_a_separable_score_are_each_pixels_own_change():
    inputs, seen = random_images(2), cp.baselines.Blur(sigma=50.0)
    factor = 1 + random_images(3)[0]

    def s(x):
        return factor * torch.sin(3 * x)

    truth = s(inputs) - s(seen(inputs))

    def distance(steps):
        attribution = explain(cp.methods.BlurIG(steps=steps), lambda x: s(x).flatten(1).sum(1), inputs)
        return ((attribution.values - truth).abs().sum() / truth.abs().sum()).item()

    assert distance(50) < 0.01
    assert distance(100) < distance(25) / 14  # second order: a sixteenth with four times the steps


def test_against_the_strongest_blur_its_own_target_is_the_comparisons():
    attribution = explain(
        cp.methods.BlurIG(steps=400),
        cp.logit(SmallNet(1, "smooth"), 0),
        random_images(2),
        baseline=cp.baselines.Blur(sigma=50.0),
    )
    torch.testing.assert_close(attribution.own_target, attribution.target)
    assert attribution.relative_error.max() < 2e-3


def test_blur_takes_images():
    with pytest.raises(ShapeError, match=r"inputs must be images"):
        explain(cp.methods.BlurIG(), lambda x: x.sum(1), torch.ones(1, 3))


def test_expected_gradients_are_gradient_shap_without_noise():
    question = (cp.logit(SmallNet(2), 0), random_images(3))
    baseline = cp.baselines.Uniform(draws=4, seed=9)
    without = explain(cp.methods.GradientSHAP(noise=0.0, samples=40), *question, baseline=baseline)
    expected = explain(cp.methods.ExpectedGradients(samples=40), *question, baseline=baseline)
    torch.testing.assert_close(without.values, expected.values)
    torch.testing.assert_close(without.standard_error, expected.standard_error)


def test_gradient_shap_explains_the_mean_score_under_its_noise():
    inputs, baseline = random_images(4), cp.baselines.Normal(draws=3)
    flat = inputs.flatten(1)
    sigma = (0.2 * (flat.amax(1) - flat.amin(1))).view(-1, 1, 1, 1)
    attribution = explain(
        cp.methods.GradientSHAP(samples=3000, noise=0.2),
        lambda x: (x**2).flatten(1).sum(1),
        inputs,
        baseline=baseline,
    )
    # f = sum x^2: each feature is owed E (x + e)^2 - E b^2.
    truth = inputs**2 + sigma**2 - (baseline(inputs) ** 2).mean(0)
    assert ((attribution.values - truth).abs() / attribution.standard_error).max() < 4.5
    assert attribution.standard_error.max() < 0.05
    # What the noise adds is missed, and reported: 72 sigma^2.
    torch.testing.assert_close(attribution.error, -72 * sigma.flatten() ** 2, rtol=0.1, atol=0)


def test_gradient_shap_stops_at_a_precision():
    attribution = explain(
        cp.methods.GradientSHAP(samples=4000, precision=0.1),
        cp.logit(SmallNet(2, "smooth"), 0),
        random_images(3),
    )
    assert attribution.converged.all()
    assert (attribution.gradient_evaluations < 4000).all()
    assert (attribution.value_error <= 0.1).all()


def test_ig2_walks_along_the_gradient_of_a_linear_score_until_it_has_the_baselines():
    score, weight = linear_score(0, (2, 6, 6))
    inputs = 0.4 + 0.2 * random_images(1)
    attribution = explain(cp.methods.IG2(), score, inputs, baseline=cp.baselines.Mean())
    # Straight along the weights: the values are weight^2, as far as the score had to change.
    share = weight**2 / weight.square().sum()
    torch.testing.assert_close(attribution.values, share * attribution.own_target.view(-1, 1, 1, 1))
    torch.testing.assert_close(attribution.own_target, attribution.target, rtol=0.02, atol=0)
    assert attribution.own_error.abs().max() < 1e-12


@pytest.mark.parametrize("layer", ["input", "stem"])
@pytest.mark.parametrize("kind", ["plain", "smooth"])
def test_the_end_of_ig2s_path_scores_as_the_baseline_does(kind, layer):
    method = cp.methods.IG2(step=0.002, steps=1000)
    attribution = explain(
        method, cp.logit(SmallNet(2, kind), 0), random_images(3), baseline=cp.baselines.Mean(), layer=layer
    )
    # At the end 1 % of the distance of all logits is left.
    assert ((attribution.own_target - attribution.target).abs() / attribution.target.abs()).max() < 0.15
    assert (attribution.own_error.abs() / attribution.own_target.abs()).max() < 0.05
    assert "end of the path" in attribution.reference
    assert (attribution.gradient_evaluations < 2000).all()


def test_both_gradients_of_a_step_make_ig2_more_exact_on_the_same_path():
    question = (cp.logit(SmallNet(2, "smooth"), 0), random_images(3))
    both, start = (
        explain(cp.methods.IG2(gradient_at=at), *question, baseline=cp.baselines.Mean())
        for at in ("ends", "start")
    )
    torch.testing.assert_close(both.own_target, start.own_target)
    assert both.own_error.abs().sum() < start.own_error.abs().sum() / 5
    assert (both.extras["distance_left"] <= 0.01).all()


def test_ig2s_pixels_stay_pixels():
    net, seen = SmallNet(2), []
    net.register_forward_hook(lambda module, arguments, output: seen.append(arguments[0].detach()))
    images = random_images(3).round()  # every pixel at an end of its range
    comparison = cp.compare(cp.logit(net, 0), images, baseline=cp.baselines.Mean())
    comparison.explain(cp.methods.IG2(step=0.05))
    assert min(float(x.min()) for x in seen) >= 0.0
    assert max(float(x.max()) for x in seen) <= 1.0


def test_ig2_takes_the_representation_of_a_layer():
    question = (cp.logit(SmallNet(2), 0), random_images(3))
    at_layer = explain(cp.methods.IG2(representation="last"), *question, baseline=cp.baselines.Mean())
    at_output = explain(cp.methods.IG2(), *question, baseline=cp.baselines.Mean())
    assert (at_layer.values - at_output.values).abs().max() > 0.01 * at_output.values.abs().max()
    # Through a layer that decides the output, the end has the baseline's score too.
    assert (at_layer.own_target - at_layer.target).abs().max() < 0.5 * at_layer.target.abs().max()


@pytest.mark.parametrize(
    ("score", "layer", "name", "error", "words"),
    [
        (lambda x: x.flatten(1).sum(1), None, "last", InputError, "needs a score that knows its module"),
        (cp.logit(SmallNet(0), 0), "stem", "last", InputError, "explained at the input"),
        (cp.logit(SmallNet(0), 0), None, "lst", UnknownNameError, "did you mean 'last'"),
    ],
)
def test_a_representation_that_cannot_be_had_is_named(score, layer, name, error, words):
    with pytest.raises(error, match=words):
        explain(cp.methods.IG2(representation=name), score, random_images(0), layer=layer)


@pytest.mark.parametrize(
    ("make", "arguments", "words"),
    [
        (cp.methods.GuidedIG, {"fraction": 0.0}, "fraction must be above 0"),
        (cp.methods.GuidedIG, {"max_distance": 1.5}, "max_distance must be at least 0 and at most 1"),
        (cp.methods.GuidedIG, {"steps": 0}, "steps must be at least 1"),
        (cp.methods.GuidedIG, {"gradient_at": "end"}, "gradient_at must be 'ends' or 'start', got 'end'"),
        (cp.methods.IG2, {"gradient_at": "middle"}, "gradient_at must be 'ends' or 'start', got 'middle'"),
        (cp.methods.BlurIG, {"max_sigma": 0.0}, "max_sigma must be above 0"),
        (cp.methods.BlurIG, {"steps": 0}, "steps must be at least 1"),
        (cp.methods.GradientSHAP, {"samples": 1}, "samples must be at least 2"),
        (cp.methods.GradientSHAP, {"noise": -0.1}, "noise must be at least 0"),
        (cp.methods.GradientSHAP, {"precision": 0.0}, "precision must be above 0"),
        (cp.methods.IG2, {"step": 0.0}, "step must be above 0"),
        (cp.methods.IG2, {"steps": 0}, "steps must be at least 1"),
    ],
)
def test_wrong_settings_are_named(make, arguments, words):
    with pytest.raises(InputError, match=words):
        make(**arguments)
