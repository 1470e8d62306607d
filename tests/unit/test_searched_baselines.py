"""Baselines sought with the model or among images: closed forms on linear models, and what a prepared one knows."""

import math

import pytest
import torch
from torch import nn

import counterpoint as cp
from counterpoint import baselines, spec
from counterpoint.errors import Cancelled, InputError, ShapeError
from counterpoint.progress import listening
from networks import SmallNet, linear_score, random_images


class Linear(nn.Module):
    """Logits W (x - 1/2) + b."""

    def __init__(self, weight, bias=0.0):
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), bias

    def forward(self, x):
        return (x - 0.5).flatten(1) @ self.weight.T + self.bias


def two_classes(seed=0):
    weight = torch.randn(2, 72, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return Linear(weight)


def images(batch=3):
    """Away from black and white, so that the nearest boundary lies inside [0, 1]."""
    return 0.3 + 0.4 * random_images(5, batch)


def test_boundary_of_two_linear_classes_is_the_projection_on_their_plane():
    net, inputs = two_classes(), images()
    normal = (net.weight[0] - net.weight[1]).detach()
    margin = (inputs - 0.5).flatten(1) @ normal
    expected = inputs - (margin[:, None] * normal / normal.square().sum()).view_as(inputs)
    for target in (0, 1):  # for one of them each image lies on its own side, for the other it has to rise
        comparison = cp.compare(cp.logit(net, target), inputs, baseline=baselines.Boundary(bisections=40))
        torch.testing.assert_close(comparison.baseline_inputs, expected, rtol=0, atol=1e-9)


def test_at_the_boundary_the_class_ties_with_the_best_other_and_the_image_keeps_to_its_range():
    inputs = random_images(3, 3)
    inputs[:, :, :2] = inputs[:, :, :2].round()  # black and white pixels, which cannot go further
    net = Linear(torch.randn(4, 72, generator=torch.Generator().manual_seed(1), dtype=torch.float64))
    found = cp.compare(cp.logit(net), inputs, baseline=baselines.Boundary(bisections=40)).baseline_inputs
    best = net(found).topk(2).values
    assert (best[:, 0] - best[:, 1] < 1e-9).all()
    assert found.min() >= 0
    assert found.max() <= 1
    start = net(inputs).topk(2).values
    assert (start[:, 0] - start[:, 1] > 0.05).all()


def test_pixels_that_cannot_go_further_are_left_out_of_the_way():
    net, inputs = two_classes(), images(1)
    normal = (net.weight[0] - net.weight[1]).detach().view_as(inputs)
    stuck = torch.arange(72).view_as(inputs) % 6 == 0
    inputs[stuck] = (
        normal[stuck] < 0
    ).double()  # black or white already, where down the margin is out of [0, 1]
    free = normal.masked_fill(stuck, 0.0)
    margin = ((inputs - 0.5) * normal).sum()
    inputs += (2.0 - margin) * free / free.square().sum()  # class 0 leads by 2
    baseline = baselines.Boundary(step=1.0, steps=1, bisections=40)
    found = cp.compare(cp.logit(net, 0), inputs, baseline=baseline).baseline_inputs
    torch.testing.assert_close(found, inputs - 2.0 * free / free.square().sum(), rtol=0, atol=1e-9)


def test_small_steps_find_a_nearer_boundary_than_one_long_one():
    net, inputs = SmallNet(12, "smooth"), random_images(0, 4)
    near, far = (
        cp.compare(cp.logit(net), inputs, baseline=baselines.Boundary(step=step)).baseline_inputs
        for step in (1e-4, 1.0)
    )
    near, far = ((found - inputs).flatten(1).norm(dim=1) for found in (near, far))
    assert (near < far).all()


def test_where_no_other_class_can_win_the_images_are_named():
    net = Linear(torch.zeros(2, 72, dtype=torch.float64), torch.tensor([1.0, 0.0], dtype=torch.float64))
    with pytest.raises(
        InputError, match=r"no decision boundary was found within 5 steps for images \[0, 1, 2\]"
    ):
        cp.compare(cp.logit(net), images(), baseline=baselines.Boundary(steps=5))
    single = Linear(torch.ones(1, 72, dtype=torch.float64))
    for baseline in (baselines.Boundary(), baselines.MaximumEntropy()):
        with pytest.raises(InputError, match="at least two classes, got one"):
            cp.compare(cp.logit(single), images(), baseline=baseline)


@pytest.mark.parametrize("start", ["black", "grey", "mean", "input"])
def test_maximum_entropy_makes_all_classes_equally_likely(start):
    net = Linear(2 * torch.randn(5, 72, generator=torch.Generator().manual_seed(1), dtype=torch.float64))
    inputs = random_images(3, 3)

    def entropy(x):
        return torch.distributions.Categorical(logits=net(x)).entropy()

    baseline = baselines.MaximumEntropy(start=start, tolerance=1e-3)
    found = cp.compare(cp.logit(net), inputs, baseline=baseline).baseline_inputs
    assert (entropy(found) >= (1 - 1e-3) * math.log(5)).all()
    assert found.min() >= 0
    assert found.max() <= 1
    if start == "grey":  # even already
        torch.testing.assert_close(found, torch.full_like(inputs, 0.5))
    else:
        assert (entropy(inputs) < 0.9 * math.log(5)).all()
    if start in ("black", "grey"):
        torch.testing.assert_close(found[0], found[2], rtol=0, atol=0)


def test_a_penalty_keeps_the_image_of_highest_entropy_near_its_start():
    net = Linear(torch.randn(5, 72, generator=torch.Generator().manual_seed(1), dtype=torch.float64))
    distance = [
        cp.compare(
            cp.logit(net),
            random_images(3, 1),
            baseline=baselines.MaximumEntropy(penalty=penalty, tolerance=0.0),
        )
        .baseline_inputs.square()
        .mean()
        for penalty in (0.0, 1.0, 10.0)
    ]
    assert distance[2] < 0.9 * distance[1] < 0.9 * distance[0]


def test_maximum_entropy_descends_the_gradient_of_its_loss():
    # The same with torch's own Adam.
    net = Linear(torch.randn(3, 72, generator=torch.Generator().manual_seed(1), dtype=torch.float64))
    inputs = random_images(3, 2)
    u = torch.full((1, 2, 6, 6), 0.0, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([u], lr=0.01, eps=1e-12)
    best, least = None, math.inf
    for _ in range(8):
        log_p = net(u).log_softmax(1)
        missing = 1 + float((log_p.exp() * log_p).sum().detach()) / math.log(3)
        if missing < least:
            best, least = u.detach().clone(), missing
        adam.zero_grad()
        (-log_p.mean() - math.log(3) + 2.0 * u.square().mean()).backward()
        adam.step()
        u.data.clamp_(0, 1)
    baseline = baselines.MaximumEntropy(penalty=2.0, steps=7, tolerance=0.0)
    found = cp.compare(cp.logit(net), inputs, baseline=baseline).baseline_inputs
    torch.testing.assert_close(found, best.expand_as(found), rtol=0, atol=1e-9)


SOUGHT = (baselines.Boundary(), baselines.MaximumEntropy(start="input"))


@pytest.mark.parametrize("baseline", SOUGHT)
def test_a_prepared_baseline_knows_its_images_in_any_order_and_no_others(baseline):
    net, inputs = two_classes(), images()
    prepared = cp.compare(cp.logit(net), inputs, baseline=baseline).baseline
    found = prepared(inputs)
    torch.testing.assert_close(prepared(inputs[[2, 0, 2]]), found[[2, 0, 2]], rtol=0, atol=0)
    for other in (inputs + 0.001, inputs.float(), random_images(0, 1, 2, 5)):
        with pytest.raises(InputError, match=r"known for the 3 images that it was prepared for.*\(image 0\)"):
            prepared(other)
    mixed = torch.cat([inputs[:1], inputs[:1] + 0.1])
    with pytest.raises(InputError, match=r"\(image 1\)"):
        prepared(mixed)
    with pytest.raises(InputError, match="is sought with the model, and was not yet"):
        baseline(inputs)


@pytest.mark.parametrize("baseline", SOUGHT)
def test_a_prepared_baseline_describes_itself_as_before_and_is_equal(baseline, tmp_path):
    comparison = cp.compare(cp.logit(two_classes()), images(), baseline=baseline)
    prepared = comparison.baseline
    assert prepared is not baseline
    assert baseline.found is None
    assert prepared == baseline
    assert hash(prepared) == hash(baseline)
    assert repr(prepared) == repr(baseline)
    assert spec.describe(prepared) == spec.describe(baseline)
    assert "found" not in spec.describe(prepared).parameters
    comparison.explain(cp.methods.IntegratedGradients()).save(tmp_path / "a.safetensors")
    assert cp.load_attribution(tmp_path / "a.safetensors").baseline == baseline


@pytest.mark.parametrize("baseline", SOUGHT)
def test_sought_baselines_need_a_class_score_of_a_module(baseline):
    with pytest.raises(
        InputError, match=r"score must be one of a module, such as cp\.logit.* got a callable"
    ):
        cp.compare(linear_score(0, (2, 6, 6))[0], images(), baseline=baseline)


@pytest.mark.parametrize("baseline", SOUGHT)
def test_the_search_leaves_model_and_inputs_as_they_came_and_can_be_cancelled(baseline):
    net, inputs = two_classes().train(), random_images(0, 2)
    weights, pixels = {k: v.clone() for k, v in net.state_dict().items()}, inputs.clone()
    bound = cp.logit(net).bind(inputs)

    def cancel(done, total, what):
        raise Cancelled

    with torch.inference_mode():
        baseline.prepare(bound, inputs)
    with listening(cancel), pytest.raises(Cancelled):
        baseline.prepare(bound, inputs)
    assert net.training
    assert all(p.grad is None and p.requires_grad for p in net.parameters())
    for key, value in net.state_dict().items():
        torch.testing.assert_close(value, weights[key], rtol=0, atol=0)
    torch.testing.assert_close(inputs, pixels, rtol=0, atol=0)


def test_nearest_is_the_nearest_by_euclidean_distance_but_the_image_itself():
    bank, inputs = random_images(0, 40, 3), random_images(1, 3, 3)
    bank[7], bank[9] = inputs[1], inputs[1] + 1e-9
    found = baselines.Nearest(bank)(inputs)
    distance = torch.cdist(inputs.flatten(1), bank.flatten(1))
    distance[1, 7] = torch.inf
    torch.testing.assert_close(found, bank[distance.argmin(1)], rtol=0, atol=0)
    torch.testing.assert_close(found[1], bank[9], rtol=0, atol=0)


def test_samples_are_different_images_the_same_for_all_and_never_the_image_itself():
    bank, inputs = random_images(0, 12, 3), random_images(1, 3, 3)
    drawn = baselines.Samples(bank, draws=11, seed=2)(inputs)
    assert drawn.shape == (11, 3, 3, 6, 6)
    torch.testing.assert_close(drawn[:, 0], drawn[:, 2], rtol=0, atol=0)
    which = [int((bank == one).flatten(1).all(1).nonzero()) for one in drawn[:, 0]]
    assert len(set(which)) == 11
    inputs[1] = drawn[3, 0]
    again = baselines.Samples(bank, draws=11, seed=2)(inputs)
    torch.testing.assert_close(again[:, 0], drawn[:, 0], rtol=0, atol=0)
    of_bank = [int((bank == one).flatten(1).all(1).nonzero()) for one in again[:, 1]]
    assert sorted(of_bank) == sorted(set(range(12)) - {which[3]})
    assert not torch.equal(baselines.Samples(bank, draws=11, seed=3)(inputs), again)
    assert baselines.Samples(bank, draws=1)(inputs).shape == inputs.shape


def test_baselines_of_images_are_equal_where_their_images_are():
    bank = random_images(0, 9, 3)
    other = bank.clone()
    other[0, 0, 0, 0] += 1e-12
    for make in (baselines.Nearest, baselines.Samples):
        assert make(bank) == make(bank.clone())
        assert hash(make(bank)) == hash(make(bank.clone()))
        assert make(bank) != make(other)
        assert spec.describe(make(bank)) == spec.describe(make(bank.clone()))
        assert spec.describe(make(bank)) != spec.describe(make(other))
    assert baselines.Samples(bank, seed=1) != baselines.Samples(bank)
    assert baselines.Nearest(bank) != baselines.Samples(bank)


def test_expected_gradients_take_samples():
    bank, inputs = random_images(0, 9), random_images(1, 2)
    score, _ = linear_score(0, (2, 6, 6))
    comparison = cp.compare(score, inputs, baseline=baselines.Samples(bank, draws=9))
    attribution = comparison.explain(cp.methods.ExpectedGradients())
    torch.testing.assert_close(attribution.target, score(inputs) - score(bank).mean())


def test_wrong_arguments_are_named(unchecked):
    bank = random_images(0, 4, 3)
    for make in (baselines.Nearest, baselines.Samples):
        with pytest.raises(
            InputError, match=r"images must be given, a tensor .*cp\.baselines\.Nearest\(images\)"
        ):
            make()
        with pytest.raises(ShapeError, match="images must be images"):
            make(bank[0])
        with pytest.raises(InputError, match=r"images must be a torch\.Tensor, got str"):
            make("folder")
    with pytest.raises(ShapeError, match=r"images are \(4, 3, 6, 6\), inputs are \(1, 3, 7, 7\)"):
        baselines.Nearest(bank)(random_images(0, 1, 3, 7))
    with pytest.raises(InputError, match="all are identical to it"):
        baselines.Nearest(bank[:1])(bank[:1])
    with pytest.raises(InputError, match="draws must be at most the number of images, 4, got 5"):
        baselines.Samples(bank, draws=5)
    with pytest.raises(InputError, match="must hold 4 others than the input to draw from, but hold 3"):
        baselines.Samples(bank, draws=4)(bank[:1])
    with pytest.raises(InputError, match="step must be above 0"):
        baselines.Boundary(step=0.0)
    with pytest.raises(InputError, match="start must be"):
        baselines.MaximumEntropy(start="white")
