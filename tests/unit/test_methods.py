"""Closed forms of the methods, in float64."""

import math

import pytest
import torch
from torch import nn

import counterpoint as cp
from counterpoint import spec
from counterpoint.errors import InputError
from counterpoint.quadrature import GaussLegendre, Midpoint
from networks import SmallNet, random_images

BLACK = cp.baselines.Black()


def explain(method, score, inputs, *, baseline=BLACK, layer=None):
    return cp.compare(score, inputs, baseline=baseline, layer=layer).explain(method)


class PooledLinear(nn.Module):
    """A layer of features, global mean pooling, a linear head: what class activation maps are exact for."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 3, padding=1)
        self.relu = nn.ReLU()
        self.fc = nn.Linear(3, 2)
        generator = torch.Generator().manual_seed(7)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
        self.double().eval()

    def forward(self, x):
        return self.fc(self.relu(self.conv(x)).mean((2, 3)))


def test_taylor_of_order_two_is_exact_for_a_quadratic_score_at_either_end():
    matrix = torch.randn(9, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    inputs = random_images(1, channels=1, size=3)

    def score(x):
        flat = x.flatten(1)
        return ((flat @ matrix) * flat).sum(1) + flat.sum(1)

    for at in ("input", "baseline"):
        for baseline in (BLACK, cp.baselines.Uniform(seed=2)):
            second = explain(cp.methods.Taylor(order=2, at=at), score, inputs, baseline=baseline)
            assert second.error.abs().max() < 1e-12
            first = explain(cp.methods.Taylor(at=at), score, inputs, baseline=baseline)
            assert first.error.abs().max() > 0.1
            # Exact integrals of a quadratic score: the values themselves agree, not only their sum.
            path = explain(
                cp.methods.IntegratedGradients(rule=GaussLegendre(2)), score, inputs, baseline=baseline
            )
            torch.testing.assert_close(second.values, path.values)
    assert second.gradient_evaluations.tolist() == [2, 2]


def test_the_second_order_vanishes_for_a_relu_network_and_not_for_gelu():
    images = random_images(3)
    for kind, same in (("plain", True), ("smooth", False)):
        one, two = (
            explain(cp.methods.Taylor(order=o), cp.logit(SmallNet(0, kind), 1), images) for o in (1, 2)
        )
        assert torch.allclose(one.values, two.values, rtol=1e-12, atol=0) is same


def test_taylor_refuses_other_orders():
    with pytest.raises(InputError, match="order must be 1 or 2, got 3"):
        cp.methods.Taylor(order=3)


def test_smooth_grad_of_a_quadratic_is_the_gradient_and_var_grad_the_curvature():
    # f = sum 3 x^2: gradient 6 (x + noise), whose mean is 6 x and whose variance is 36 sigma^2.
    inputs = random_images(0, batch=1, size=4)
    sigma = 0.1 * float(inputs.max() - inputs.min())
    settings = {"samples": 400, "noise": 0.1, "seed": 5}

    def score(x):
        return 3 * (x**2).flatten(1).sum(1)

    smooth = explain(cp.methods.SmoothGrad(**settings), score, inputs)
    variance = explain(cp.methods.VarGrad(**settings), score, inputs)
    square = explain(cp.methods.SquareGrad(**settings), score, inputs)
    assert ((smooth.values - 6 * inputs).abs() / smooth.standard_error).max() < 4.5
    torch.testing.assert_close(smooth.standard_error, (variance.values / 400).sqrt())
    assert variance.values.mean().item() == pytest.approx(36 * sigma**2, rel=0.05)
    torch.testing.assert_close(square.values, variance.values * 399 / 400 + smooth.values**2)


def test_expected_gradients_of_a_linear_score_are_exact_in_the_mean_over_draws():
    weight = torch.randn(2, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    inputs, baseline = random_images(1), cp.baselines.Uniform(draws=4, seed=9)

    def score(x):
        return (x * weight).flatten(1).sum(1)

    attribution = explain(cp.methods.ExpectedGradients(samples=8), score, inputs, baseline=baseline)
    draws = baseline(inputs)
    assert draws.shape == (4, *inputs.shape)
    torch.testing.assert_close(
        attribution.target, score(inputs) - score(draws.flatten(0, 1)).view(4, 2).mean(0)
    )
    torch.testing.assert_close(attribution.values, (inputs - draws.mean(0)) * weight)
    assert attribution.error.abs().max() < 1e-12


def test_the_standard_error_of_expected_gradients_covers_the_truth():
    images = random_images(4)
    baseline = cp.baselines.Normal(draws=3)
    score = cp.logit(SmallNet(2, "smooth"), 0)
    truth = explain(cp.methods.ExpectedGradients(samples=6000), score, images, baseline=baseline)
    few = explain(cp.methods.ExpectedGradients(samples=60, seed=1), score, images, baseline=baseline)
    off = (few.values - truth.values).abs() / few.standard_error
    assert off.mean() < 1.0
    assert (off < 3).double().mean() > 0.95


def test_methods_for_one_baseline_refuse_several_draws():
    with pytest.raises(InputError, match=r"has 3 draws; use cp\.methods\.ExpectedGradients"):
        explain(
            cp.methods.IntegratedGradients(),
            lambda x: x.flatten(1).sum(1),
            random_images(0),
            baseline=cp.baselines.Uniform(draws=3),
        )


def test_idgi_sums_to_the_target_whatever_the_map_and_says_so():
    # f = u1 + u2, x = (2, 0), b = 0: (1, 1) for the true (2, 0), with error 0.
    attribution = explain(
        cp.methods.IDGI(steps=4), lambda x: x.sum(1), torch.tensor([[2.0, 0.0]], dtype=torch.float64)
    )
    torch.testing.assert_close(attribution.values, torch.tensor([[1.0, 1.0]], dtype=torch.float64))
    assert attribution.error.item() == pytest.approx(0.0, abs=1e-15)
    assert attribution.error_is_forced
    assert not explain(cp.methods.Taylor(), lambda x: x.sum(1), torch.ones(1, 2)).error_is_forced


def test_hires_cam_is_exact_against_its_own_target_under_pooling_and_a_linear_head():
    net, images = PooledLinear(), random_images(5)
    for reference in ("zeros", "comparison"):
        exact = explain(cp.methods.HiResCAM(reference=reference), cp.logit(net, 1), images, layer="relu")
        assert exact.own_error.abs().max() < 1e-12
    for flawed in (cp.methods.LayerCAM(), cp.methods.ODAM()):
        attribution = explain(flawed, cp.logit(net, 1), images, layer="relu")
        assert attribution.own_error.abs().min() > 1e-3


def test_grad_cam_equals_hires_cam_under_pooling_and_a_linear_head():
    net, images = PooledLinear(), random_images(5)
    one = explain(cp.methods.GradCAM(relu=False), cp.logit(net, 0), images, layer="relu")
    two = explain(cp.methods.HiResCAM(), cp.logit(net, 0), images, layer="relu")
    torch.testing.assert_close(one.values, two.values)


def test_the_channel_sum_after_relu_is_the_published_map():
    net, images = SmallNet(3), random_images(6)
    signed = explain(cp.methods.GradCAM(relu=False), cp.logit(net, 0), images, layer="last")
    shown = explain(cp.methods.GradCAM(), cp.logit(net, 0), images, layer="last")
    torch.testing.assert_close(shown.values.sum(1), signed.values.sum(1).relu())
    odam = explain(cp.methods.ODAM(), cp.logit(net, 0), images, layer="last")
    hires = explain(cp.methods.HiResCAM(), cp.logit(net, 0), images, layer="last")
    torch.testing.assert_close(odam.values.sum(1), hires.values.sum(1).relu())


def test_scaled_layer_cam_is_the_papers_formula_and_claims_no_shares():
    net, images = SmallNet(3), random_images(6)
    plain = explain(cp.methods.LayerCAM(), cp.logit(net, 0), images, layer="last").values.sum(1)
    scaled = explain(cp.methods.LayerCAM(gamma=2.0), cp.logit(net, 0), images, layer="last")
    expected = torch.tanh(2 * plain / plain.amax((1, 2), keepdim=True))
    torch.testing.assert_close(scaled.values.sum(1), expected)
    assert scaled.claim == "importance"
    assert scaled.error.isnan().all()


def test_odam_smooths_the_gradient_where_asked():
    net, images = SmallNet(3), random_images(6)
    wide = explain(cp.methods.ODAM(sigma=100.0), cp.logit(net, 0), images, layer="last")
    mean = explain(cp.methods.GradCAM(), cp.logit(net, 0), images, layer="last")
    torch.testing.assert_close(wide.values, mean.values, rtol=1e-2, atol=1e-3)
    narrow = explain(cp.methods.ODAM(sigma=0.05), cp.logit(net, 0), images, layer="last")
    plain = explain(cp.methods.ODAM(), cp.logit(net, 0), images, layer="last")
    torch.testing.assert_close(narrow.values, plain.values)


@pytest.mark.parametrize(
    ("named", "same", "layer"),
    [
        (cp.methods.GradientTimesInput(), cp.methods.Taylor(reference="zeros"), None),
        (cp.methods.RevisedIG(tolerance=0.1), cp.methods.IntegratedGradients(tolerance=0.1), None),
        (cp.methods.DifferenceMap(), cp.methods.GradCAM(reference="comparison"), "last"),
    ],
)
def test_a_method_with_a_name_of_its_own_keeps_it_and_has_the_numbers_of_what_it_is(named, same, layer):
    net, images = SmallNet(1), random_images(2)
    ours, theirs = (
        explain(method, cp.logit(net, 0), images, baseline=cp.baselines.White(), layer=layer)
        for method in (named, same)
    )
    assert torch.equal(ours.values, theirs.values)
    assert spec.describe(named).name != spec.describe(same).name
    assert spec.build("method", spec.describe(named).text) == named


def test_integrated_grad_cam_is_its_formula():
    net, images, baseline = SmallNet(1), random_images(2), cp.baselines.White()
    attribution = explain(
        cp.methods.IntegratedGradCAM(steps=3), cp.logit(net, 0), images, baseline=baseline, layer="stem"
    )
    expected = torch.zeros_like(attribution.values)
    start = net.stem(baseline(images))
    for t in (1 / 6, 3 / 6, 5 / 6):
        point = baseline(images) + t * (images - baseline(images))
        features = net.stem(point).detach().requires_grad_()
        h = net.activation(features)
        score = net.head(net.last(net.other(net.body(h)) + h).mean((2, 3)))[:, 0].sum()
        weights = torch.autograd.grad(score, features)[0].mean((2, 3), keepdim=True)
        product = weights * (features - start)
        expected += product * (product.sum(1, keepdim=True) > 0) / 3
    torch.testing.assert_close(attribution.values, expected.detach())
    assert attribution.prefix_evaluations.tolist() == [3, 3]
    assert attribution.gradient_evaluations.tolist() == [3, 3]


@pytest.mark.parametrize("layer", ["input", "stem", "last"])
def test_straight_and_induced_paths_both_explain_the_whole_target(layer):
    net, images = SmallNet(8, "smooth"), random_images(9)
    for path in ("straight", "induced"):
        method = cp.methods.IntegratedGradients(tolerance=0.002, value_tolerance=0.01, path=path)
        attribution = explain(method, cp.logit(net, 2), images, baseline=cp.baselines.White(), layer=layer)
        assert attribution.converged.all()
        assert attribution.relative_error.max() <= 0.002
        fixed = explain(
            cp.methods.IntegratedGradients(rule=Midpoint(400), path=path),
            cp.logit(net, 2),
            images,
            baseline=cp.baselines.White(),
            layer=layer,
        )
        distance = (attribution.values - fixed.values).abs().sum() / fixed.values.abs().sum()
        assert distance < 0.03


def test_straight_and_induced_paths_differ_where_the_layer_is_curved():
    net, images = SmallNet(8, "smooth"), random_images(9)
    values = [
        explain(
            cp.methods.IntegratedGradients(path=path),
            cp.logit(net, 2),
            images,
            baseline=cp.baselines.White(),
            layer="activation",
        ).values
        for path in ("straight", "induced")
    ]
    assert (values[0] - values[1]).abs().max() > 1e-3 * values[0].abs().max()


def test_an_easy_image_stops_early_and_leaves_the_batch():
    # The first image's path is straight in the score; the second's jumps.
    inputs = torch.tensor([[1.0, 0.0], [1.0, 1.0]], dtype=torch.float64)

    def score(x):
        return x[:, 0] + torch.sigmoid(400 * (x[:, 1] - 0.503))

    attribution = explain(cp.methods.IntegratedGradients(), score, inputs)
    assert attribution.gradient_evaluations[0] == 12
    assert attribution.gradient_evaluations[1] > 12
    assert attribution.converged.all()


def test_a_spent_budget_is_said():
    def score(x):
        return torch.sin(4000 * x[:, 0]) + x[:, 0]

    attribution = explain(
        cp.methods.IntegratedGradients(budget=30), score, torch.ones(1, 1, dtype=torch.float64)
    )
    assert attribution.gradient_evaluations.item() == 30
    assert not attribution.converged.item()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"tolerance": 0.01, "rule": Midpoint(3)}, "give tolerance or rule, not both"),
        ({"tolerance": 0.0}, "tolerance must be above 0"),
        ({"tolerance": math.nan}, "tolerance must be above 0"),
        ({"budget": 3}, "budget must be at least 9"),
        ({"path": "induced", "rule": GaussLegendre(5)}, r"takes a tolerance or rule=midpoint\(n\)"),
    ],
)
def test_wrong_settings_of_integrated_gradients_are_named(arguments, words):
    with pytest.raises(InputError, match=words):
        cp.methods.IntegratedGradients(**arguments)


@pytest.mark.parametrize(
    ("method", "layer", "lossy"),
    [
        (cp.methods.IntegratedGradients(rule=Midpoint(2)), "stem", {"quadrature"}),
        (cp.methods.Taylor(), "stem", {"one_step"}),
        (cp.methods.GradientTimesInput(), "stem", {"one_step", "baseline"}),
        (cp.methods.GradCAM(), "stem", {"one_step", "baseline", "operator", "display"}),
        (cp.methods.HiResCAM(), "stem", {"one_step", "baseline"}),
        (cp.methods.LayerCAM(reference="comparison"), "stem", {"one_step", "operator"}),
        (cp.methods.ODAM(), "stem", {"one_step", "baseline", "display"}),
    ],
)
def test_the_parts_of_the_budget_sum_to_the_error_and_only_lossy_steps_have_one(method, layer, lossy):
    attribution = explain(
        method,
        cp.logit(SmallNet(11, "smooth"), 1),
        random_images(12),
        baseline=cp.baselines.White(),
        layer=layer,
    )
    parts = attribution.budget()
    assert list(parts) == ["baseline", "quadrature", "one_step", "operator", "display"]
    torch.testing.assert_close(sum(parts.values()), attribution.error)
    # Rounding and a step that changes nothing for these images aside, other steps cost nothing.
    assert {name for name, part in parts.items() if part.abs().max() > 1e-9} <= lossy
    assert parts["quadrature" if "quadrature" in lossy else "one_step"].abs().min() > 1e-9


def test_the_budget_of_a_rate_is_undefined():
    parts = explain(cp.methods.Gradient(), cp.logit(SmallNet(0), 0), random_images(0)).budget()
    assert all(part.isnan().all() for part in parts.values())


@pytest.mark.parametrize(
    "method", [cp.methods.IntegratedGradients(path="induced"), cp.methods.IntegratedGradCAM()]
)
def test_an_induced_path_refuses_a_start_that_no_input_is_known_to_have(method):
    question = cp.compare(
        cp.logit(SmallNet(0), 1),
        random_images(0),
        baseline=cp.baselines.Mean(),
        layer="last",
        layer_baseline="zeros",
    )
    with pytest.raises(InputError, match="layer_baseline is zero features"):
        question.explain(method)
    # The same start, reached by an input: nothing is refused.
    question.at("last").explain(method)
