"""FEI: smooth quantiles, nested masks, and a map whose measured curves are never worse than its start's."""

from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import counterpoint as cp
from counterpoint import spec
from counterpoint.errors import Cancelled, InputError, LayerError, UnknownNameError
from counterpoint.methods import FEI
from counterpoint.methods.fei.masks import VARIANTS, masks_of
from counterpoint.methods.fei.pathway import penalised
from counterpoint.methods.fei.quantiles import nested_masks, smooth_quantile, spread_shares
from counterpoint.progress import listening

SMALL = partial(FEI, quantiles=4, steps=30, grids=(4, 8), every=5, measure=8, learning_rate=0.2)
PATCH = (slice(8, 12), slice(4, 8))


class Decisive(nn.Module):
    """Two classes: how bright one patch is, through a ReLU, and nothing."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.conv.weight.data.fill_(0.0)
        self.conv.weight.data[:, :, 1, 1] = 1.0
        self.relu = nn.ReLU()
        self.fc = nn.Linear(4, 2, bias=False)
        self.fc.weight.data = torch.tensor([[1.0] * 4, [0.0] * 4])

    def forward(self, x):
        maps = self.relu(self.conv(x))
        return self.fc(maps[..., PATCH[0], PATCH[1]].mean((2, 3)))


@pytest.fixture
def net():
    return Decisive().eval()


@pytest.fixture
def images():
    return torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.5


def question(net, images, baseline=None):
    return cp.compare(cp.logit(net, 0), images, baseline=baseline or cp.baselines.Black())


# smooth quantiles


@given(seed=st.integers(0, 2**16), share=st.floats(0.02, 0.98), temperature=st.floats(0.01, 2.0))
def test_a_smooth_mask_has_the_area_asked_for(seed, share, temperature):
    numbers = torch.randn(2, 60, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    shares = torch.full((2, 1), share, dtype=torch.float64)
    masks = nested_masks(numbers, shares, temperature)
    torch.testing.assert_close(masks.mean(2), shares, atol=1e-6, rtol=0)


@given(seed=st.integers(0, 2**16), temperature=st.floats(0.01, 2.0))
def test_masks_are_nested(seed, temperature):
    numbers = torch.randn(1, 50, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    masks = nested_masks(numbers, torch.tensor([[0.1, 0.35, 0.7, 0.95]]).double(), temperature)
    assert (masks[:, 1:] - masks[:, :-1] >= -1e-9).all()


def test_the_smooth_quantile_becomes_the_hard_one_as_the_temperature_falls():
    numbers = torch.randn(1, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    shares = torch.tensor([[0.25, 0.5]], dtype=torch.float64)
    ordered = numbers[0].sort(descending=True).values
    for share, found in zip((0.25, 0.5), smooth_quantile(numbers, shares, 1e-4)[0], strict=True):
        count = round(40 * share)
        assert ordered[count] < found < ordered[count - 1]
    hard = nested_masks(numbers, shares, 1e-4).round()
    assert hard.sum(2).tolist() == [[10, 20]]


def test_the_gradient_of_the_quantile_is_that_of_finite_differences():
    numbers = torch.randn(1, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    shares = torch.tensor([[0.3, 0.6]], dtype=torch.float64)
    leaves = numbers.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(smooth_quantile(leaves, shares, 0.3)[0, 0], leaves)
    for k in range(12):
        step = torch.zeros_like(numbers)
        step[0, k] = 1e-5
        up, down = (smooth_quantile(numbers + sign * step, shares, 0.3)[0, 0] for sign in (1, -1))
        assert float((up - down) / 2e-5) == pytest.approx(float(gradient[0, k]), abs=1e-5)
    assert float(gradient.sum()) == pytest.approx(1)  # moves along with all numbers


def test_shares_lie_one_in_each_equal_part():
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        shares = spread_shares(5, generator)
        assert (shares * 5).floor().tolist() == [0, 1, 2, 3, 4]
    assert spread_shares(4, None).tolist() == [0.125, 0.375, 0.625, 0.875]


# masks


@pytest.mark.parametrize("variant", VARIANTS)
def test_masks_start_in_the_order_of_the_map_and_keep_it_when_refined(variant):
    saliency = torch.rand(2, 8, 8, generator=torch.Generator().manual_seed(0))
    masks = masks_of(variant, saliency, cells=8, quantiles=6)
    for form in (masks, masks.refined(8)):
        found = form.saliency().flatten(1)
        for image in range(2):
            pair = torch.stack(
                [saliency[image].flatten().argsort().argsort(), found[image].argsort().argsort()]
            )
            assert float(torch.corrcoef(pair.double())[0, 1]) > 0.95


@pytest.mark.parametrize("variant", VARIANTS)
def test_masks_stay_in_range_and_have_about_the_area(variant):
    saliency = torch.rand(2, 12, 12, generator=torch.Generator().manual_seed(0))
    masks = masks_of(variant, saliency, cells=6, quantiles=5)
    shares = spread_shares(5, None).expand(2, -1)
    found = masks.at(shares, 0.1)
    assert found.shape == (2, 5, 12, 12)
    assert found.min() >= 0
    assert found.max() <= 1 + 1e-6
    torch.testing.assert_close(found.mean((2, 3)).double(), shares, atol=0.12, rtol=0)
    (gradient,) = torch.autograd.grad(found.square().sum(), masks.leaves())
    assert gradient.isfinite().all()
    assert gradient.abs().max() > 0


def test_masks_of_their_own_pay_for_not_being_nested():
    masks = masks_of("masks", torch.rand(1, 8, 8), cells=4, quantiles=3)
    shares = spread_shares(3, None).expand(1, -1)
    assert float(masks.penalty(shares, 0.1).detach()) < 1e-6
    with torch.no_grad():
        masks.leaves()[0][:, 0].mul_(-1)
    assert float(masks.penalty(shares, 0.1).detach()) > 0.05


# the method


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("rule", ["none", "fgvis", "directional"])
def test_the_decisive_patch_is_found_from_noise(net, images, variant, rule):
    found = question(net, images).explain(SMALL(variant=variant, rule=rule, start="noise"))
    saliency = found.heatmap()
    inside = torch.zeros(16, 16, dtype=torch.bool)
    inside[PATCH] = True
    for image in saliency:
        top = image.flatten().topk(16).indices
        assert inside.flatten()[top].double().mean() >= 0.7
    assert (found.extras["measured"].nan_to_num(-1).amax(1) > found.extras["start"]).all()


def test_the_result_is_never_worse_than_its_start_by_the_measured_curve(net, images):
    found = question(net, images).explain(SMALL(steps=4, learning_rate=5.0))
    area = torch.trapezoid(found.extras["insertion"] - found.extras["deletion"], dim=1) / 8
    assert (area >= found.extras["start"] - 1e-6).all()


@pytest.mark.parametrize("make", [cp.logit, cp.log_probability, cp.probability, cp.contrast])
def test_curves_are_measured_as_probabilities_whatever_is_optimised(net, images, make):
    comparison = cp.compare(make(net, 0), images, baseline=cp.baselines.Black())
    found = comparison.explain(SMALL(steps=2))
    p = net(images).softmax(1)[:, 0]
    torch.testing.assert_close(found.extras["insertion"][:, -1].float(), p.detach())


def test_several_fill_ins_are_measured_together(net, images):
    alone = question(net, images).explain(SMALL(steps=4))
    both = question(net, images).explain(SMALL(steps=4, also=("white",)))
    assert not torch.allclose(alone.extras["deletion"][:, -1], both.extras["deletion"][:, -1])


def test_the_cost_is_two_gradients_for_each_share_and_step(net, images):
    found = question(net, images).explain(SMALL(start="noise", patience=99))
    assert found.gradient_evaluations.tolist() == [2 * 4 * 30] * 3
    one_sided = question(net, images).explain(SMALL(start="noise", patience=99, deletion=0.0))
    assert one_sided.gradient_evaluations.tolist() == [4 * 30] * 3


def test_progress_rises_from_the_start_to_the_last_step(net, images):
    seen = []
    with listening(lambda done, total, what: seen.append(done / total)):
        question(net, images).explain(SMALL(steps=6))
    assert seen == sorted(seen)
    assert (seen[0], seen[-1]) == (0, 1)


def test_an_image_that_gains_nothing_stops_and_does_not_stop_the_others(net, images):
    images = images.clone()
    images[1] = 0.0  # the baseline itself: nothing to gain
    found = question(net, images).explain(SMALL(start="noise", patience=2))
    cost = found.gradient_evaluations.tolist()
    assert cost[1] < cost[0]
    assert found.extras["loss"][1].isnan().any()


@pytest.mark.parametrize("start", ["best", "noise"])
def test_a_score_that_nothing_changes_gives_zeros_and_says_so(images, start):
    flat = cp.compare(
        lambda points: 0 * torch.relu(points).flatten(1).sum(1) + 1, images, baseline=cp.baselines.Black()
    )
    found = flat.explain(SMALL(steps=4, start=start))
    assert (found.values == 0).all()
    assert (found.extras["largest_gradient"] == 0).all()


def test_a_score_in_steps_keeps_the_best_measured_map_and_says_that_it_has_no_gradient(net, images):
    class Steps(torch.autograd.Function):
        @staticmethod
        def forward(context, scores):
            return scores.round()

        @staticmethod
        def backward(context, gradient):
            return torch.zeros_like(gradient)

    comparison = cp.compare(
        lambda points: Steps.apply(10 * net(points)[:, 0]), images, baseline=cp.baselines.Black()
    )
    found = comparison.explain(SMALL(steps=4, start="noise"))
    assert (found.extras["largest_gradient"] == 0).all()
    assert (found.values.flatten(1).abs().amax(1) > 0).all()


def test_the_search_is_for_a_higher_score_where_the_baseline_has_the_highest(net, images):
    found = question(net, images, cp.baselines.Constant((2.0,) * 3)).explain(SMALL(start="noise"))
    assert (found.target < 0).all()
    assert (found.extras["largest_gradient"] > 0).all()
    assert (found.extras["measured"].nan_to_num(-9).amax(1) > found.extras["start"]).all()


def test_a_penalty_is_the_mean_seam_free_excess_of_the_row(net, images):
    comparison = question(net, images)
    price, image = torch.tensor([0.0, 1.0, 2.0]), torch.arange(3)
    fills = torch.stack([images + 0.25, images - 0.25])
    score, alone = (
        penalised(comparison, price, fills, alone=alone).evaluation.runner for alone in (False, True)
    )

    def units(points):
        return net.relu(net.conv(points)).detach()

    # Beyond both fill-ins: what neither has costs nothing.
    most = torch.maximum(units(fills[0]), units(fills[1]))
    for brighter in (images + 0.1, images + 0.25, images + 0.5):
        over = (torch.minimum(units(brighter), most) - units(images)).clamp_min(0).flatten(1).sum(1)
        excess = over / units(images).flatten(1).sum(1)
        expected = net(brighter)[:, 0] - price * excess
        torch.testing.assert_close(score(brighter, image), expected.detach(), check_dtype=False)
        torch.testing.assert_close(alone(brighter, image), -price * excess, check_dtype=False)
    torch.testing.assert_close(score(images, image), net(images)[:, 0])


def test_the_price_counts_the_activations_that_are_named(images):
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Conv2d(4, 4, 3), torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(4, 2),
    ).to(images).eval()  # fmt: skip
    comparison = cp.compare(cp.logit(net, target=0), images, baseline=cp.baselines.White())
    price, image, fills = torch.ones(3), torch.arange(3), (images + 0.5)[None]

    def paid(*layers):
        runner = penalised(comparison, price, fills, layers or None, alone=True).evaluation.runner
        return runner(images + 0.25, image)

    first, second = paid("1"), paid("3")
    assert not torch.allclose(first, second)
    torch.testing.assert_close(paid(), (first + second) / 2)
    with pytest.raises(UnknownNameError, match="nowhere"):
        comparison.explain(SMALL(penalty=1.0, priced=("nowhere",), start="noise"))


def test_a_wide_tolerance_clips_nothing(net, images):
    asked = cp.compare(cp.logit(net, target=0), images, baseline=cp.baselines.White())
    free, narrow, wide = (
        asked.explain(SMALL(steps=8, **each)).extras["loss"]
        for each in ({"rule": "none"}, {"rule": "fgvis"}, {"rule": "fgvis", "tolerance": 1e6})
    )
    torch.testing.assert_close(wide, free)
    assert not torch.allclose(narrow, free)


def test_no_rule_clips_the_gradient_of_the_price(net, images):
    asked = cp.compare(cp.logit(net, target=0), images, baseline=cp.baselines.White())
    free = asked.explain(SMALL(rule="none", penalty=2.0, steps=3))
    both = asked.explain(SMALL(rule="fgvis", penalty=2.0, steps=3))
    clipped = asked.explain(SMALL(rule="fgvis", steps=3))
    # The score is run with clipped gradients, the price without, each on its own.
    extra = both.gradient_evaluations - clipped.gradient_evaluations
    assert extra.tolist() == [SMALL().count * (3 // 2) * 2] * len(images)  # one step on each of two grids
    # The loss before the first step knows no gradient yet: the same masks, the same price.
    torch.testing.assert_close(both.extras["loss"][:, 0], free.extras["loss"][:, 0])
    assert bool((both.extras["loss"][:, 0] > clipped.extras["loss"][:, 0]).all())


def test_a_layer_start_needs_a_layer(images):
    with pytest.raises(LayerError, match="grad_cam"):
        cp.compare(lambda x: x.flatten(1).sum(1), images, baseline=cp.baselines.Black()).explain(
            SMALL(start="grad_cam", rule="none")
        )
    found = cp.compare(lambda x: x.flatten(1).sum(1), images, baseline=cp.baselines.Black()).explain(
        SMALL(steps=2)
    )
    assert found.values.isfinite().all()


def test_the_model_is_untouched_when_it_is_stopped_in_the_middle(net, images):
    weights = {name: value.clone() for name, value in net.state_dict().items()}

    def stop(done, total, what):
        if "fei" in what and done > 0.3 * total:
            raise Cancelled("enough")

    with listening(stop), pytest.raises(Cancelled):
        question(net, images).explain(SMALL())
    assert all(torch.equal(weights[name], value) for name, value in net.state_dict().items())
    assert not any(m._forward_hooks or m._backward_hooks for m in net.modules())
    assert all(p.grad is None and p.requires_grad for p in net.parameters())


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"quantiles": 1}, "quantiles must be at least 2"),
        ({"quantiles": (0.5, 1.0)}, r"within \(0, 1\)"),
        ({"quantiles": (0.5, 0.2)}, "quantiles must rise"),
        ({"variant": "map"}, "variant must be one of"),
        ({"rule": "exact"}, "rule must be one of"),
        ({"start": "saliency"}, "start must be one of"),
        ({"grids": (14, 7)}, "grids must rise"),
        ({"temperature": (0.1, 0.5)}, "temperature must fall"),
        ({"jitter": 2, "rule": "fgvis"}, "jitter and flip"),
        ({"penalty": -1.0}, "penalty"),
        ({"tolerance": -1.0}, "tolerance"),
        ({"overshoot": -1.0}, "overshoot"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, words):
    with pytest.raises(InputError, match=words):
        FEI(**settings)


def test_what_cannot_be_filled_by_one_image_is_refused(net, images):
    with pytest.raises(InputError, match="only fills"):
        question(net, images, cp.baselines.ROAD()).explain(SMALL())
    with pytest.raises(InputError, match="draws"):
        question(net, images, cp.baselines.Uniform(draws=2)).explain(SMALL())
    with pytest.raises(InputError, match="also must name"):
        question(net, images).explain(SMALL(also=("road",)))


def test_text_makes_the_same_method():
    method = FEI(also=("white", "blur:sigma=3"), quantiles=(0.2, 0.6))
    assert spec.build("method", spec.describe(method)) == method


def test_layers_can_be_named_on_the_command_line():
    method = FEI(rule="directional", clipped=("stem", "head"), penalty=8.0, priced=("head",))
    text = spec.unusual("method", spec.describe(method)).text
    assert text == "fei:rule=directional,clipped=(stem,head),penalty=8.0,priced=(head)"
    assert spec.build("method", text) == method
    with pytest.raises(
        InputError, match=r"clipped .* must be any number of words in brackets or a whole number or none"
    ):
        spec.build("method", "fei:clipped=stem")
