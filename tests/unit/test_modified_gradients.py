"""Closed forms of guided backpropagation, DeepLIFT, relevance propagation and excitation backpropagation, in float64; what each refuses."""

import math
from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import counterpoint as cp
from counterpoint.errors import InputError, ModelError
from counterpoint.methods import LRP, Deconvnet, DeepLIFT, ExcitationBackprop, GuidedBackprop
from networks import SmallNet, random_images

BLACK = cp.baselines.Black()
MEAN = cp.baselines.Mean()
COMPOSITES = ("epsilon", "epsilon_plus", "epsilon_plus_flat", "epsilon_gamma", "epsilon_gamma_box")
RELEVANCE = (LRP(), ExcitationBackprop())


class TwoLayers(nn.Module):
    """v . activation(W x + b) + d, two classes: the score and its negative."""

    def __init__(self, first, bias, second, offset=0.0, activation=F.relu):
        super().__init__()
        self.first = nn.Parameter(torch.tensor(first, dtype=torch.float64))
        self.bias = nn.Parameter(torch.tensor(bias, dtype=torch.float64))
        self.second = nn.Parameter(torch.tensor([second, [-v for v in second]], dtype=torch.float64))
        self.offset = nn.Parameter(torch.tensor([offset, -offset], dtype=torch.float64))
        self.activation = activation

    def forward(self, x):
        hidden = self.activation(F.linear(x, self.first, self.bias))
        return F.linear(hidden, self.second, self.offset)


class Small(nn.Module):
    """A convolution, something else, a mean over places and a linear head."""

    def __init__(self, between, *, seed=0, channels=4):
        super().__init__()
        self.stem = nn.Conv2d(2, channels, 3, padding=1)
        self.between = between
        self.head = nn.Linear(channels, 3)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.6)
        self.double().eval()

    def forward(self, x):
        return self.head(self.between(self.stem(x)).mean((2, 3)))


class Lambda(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def squeeze_and_excite(x):
    return x * torch.sigmoid(x.mean((2, 3), keepdim=True))


def attention(x):
    tokens = x.flatten(2).transpose(1, 2)
    weights = (tokens @ tokens.transpose(1, 2)).softmax(-1)
    return (weights @ tokens).transpose(1, 2).view(x.shape)


def explain(method, score, inputs, *, baseline=BLACK, layer=None, **options):
    return cp.compare(score, inputs, baseline=baseline, layer=layer, **options).explain(method)


def row(*numbers):
    return torch.tensor([numbers], dtype=torch.float64)


# --- guided backpropagation and the deconvolution network -------------------------------------------------------------------------


def test_guided_backprop_and_deconvnet_of_two_layers_by_hand():
    # Hidden: 1 (on), -1 (off), 3 (on, speaks against). Gradients that reach them: 2, 5, -3.
    net = TwoLayers([[1.0, 0.0], [0.0, -1.0], [1.0, 2.0]], [0.0, 0.0, 0.0], [2.0, 5.0, -3.0])
    x = row(1.0, 1.0)
    score = cp.logit(net, 0)
    assert explain(cp.methods.Gradient(), score, x).values.tolist() == [[2 - 3, -6]]
    assert explain(GuidedBackprop(), score, x).values.tolist() == [
        [2, 0]
    ]  # on and in favour: the first alone
    assert explain(Deconvnet(), score, x).values.tolist() == [[2, -5]]  # in favour, on or not


@pytest.mark.parametrize("method", [GuidedBackprop(), Deconvnet()])
def test_where_no_rectifying_activation_follows_guided_backprop_and_deconvnet_refuse(method):
    name = type(method).__name__
    with pytest.raises(
        ModelError, match=f"{name} changes the gradient .* none was seen between 'last' and the score"
    ):
        explain(method, cp.logit(SmallNet(0), 1), random_images(0), layer="last")
    with pytest.raises(ModelError, match="none was seen between 'input'"):
        explain(method, cp.logit(Small(nn.Tanh()), 1), random_images(0))


# --- DeepLIFT ---------------------------------------------------------------------------------------------------------------------


def test_deep_lift_divides_where_the_gradient_is_saturated():
    # 1 - relu(1 - x1 - x2): flat at (1, 1), a change of 1 from (0, 0), owed to both alike.
    net = TwoLayers([[-1.0, -1.0]], [1.0], [-1.0], 1.0)
    attribution = explain(DeepLIFT(), cp.logit(net, 0), row(1.0, 1.0))
    assert attribution.values.tolist() == [[0.5, 0.5]]
    assert explain(cp.methods.Taylor(), cp.logit(net, 0), row(1.0, 1.0)).values.tolist() == [[0, 0]]


def test_deep_lift_of_products_and_quotients_takes_the_middle_of_the_other():
    x = row(3.0, 5.0)
    start = cp.baselines.Constant(1.0)

    def values(score):
        attribution = explain(DeepLIFT(), score, x, baseline=start)
        assert attribution.error.abs().max() < 1e-14
        return attribution.values[0].tolist()

    # 15 - 1: each one's change times the mean of the other.
    assert values(lambda x: x[:, 0] * x[:, 1]) == pytest.approx([2 * 3, 4 * 2])
    assert values(lambda x: x[:, 0] / x[:, 1]) == pytest.approx([2 * (1 / 5 + 1) / 2, -4 * 2 / 5])
    assert values(lambda x: (x * x).sum(1)) == pytest.approx([8, 24])
    assert values(lambda x: 2 / x[:, 0] + x[:, 1] ** 2 - x[:, 0]) == pytest.approx([-4 / 3 - 2, 24])


def test_deep_lift_of_max_pooling_gives_a_rise_to_the_new_maximum_and_a_fall_to_the_old_one():
    def score(x):
        return F.max_pool2d(x, 2).flatten(1).sum(1)

    # Windows: (1, 3 | 2, 0) against all 0: 3 by the second. All 0 against (.., ) below.
    rises = torch.tensor([[[[1.0, 3.0], [2.0, 0.0]]]], dtype=torch.float64)
    assert explain(DeepLIFT(), score, rises).values.flatten().tolist() == [0, 3, 0, 0]

    class Falls(cp.baselines.Black):
        def __call__(self, inputs):
            return torch.tensor([[[[5.0, 1.0], [2.0, 0.0]]]], dtype=torch.float64)

    attribution = explain(DeepLIFT(), score, rises, baseline=Falls())
    # 3 - 5: the place that had 5 fell by 4, and is given -2.
    assert attribution.values.flatten().tolist() == [-2, 0, 0, 0]


@pytest.mark.parametrize("layer", ["input", "stem", "last"])
@pytest.mark.parametrize("make", [cp.logit, cp.probability, cp.log_probability, cp.log_odds, cp.contrast])
@pytest.mark.parametrize("kind", SmallNet.KINDS)
def test_deep_lift_is_complete_for_every_score_at_every_layer(kind, make, layer):
    score = make(SmallNet(1, kind), 1)
    attribution = explain(DeepLIFT(), score, random_images(2), baseline=MEAN, layer=layer)
    assert attribution.target.abs().min() > 1e-4
    assert attribution.error.abs().max() < 1e-12
    torch.testing.assert_close(attribution.budget()["operator"], attribution.error)


COMPLETE = {
    "overlapping max pooling": nn.MaxPool2d(3, stride=2, padding=1),
    "dilated max pooling, ceil mode": nn.MaxPool2d(2, stride=2, dilation=2, ceil_mode=True),
    "adaptive max pooling": nn.AdaptiveMaxPool2d(2),
    "functional max pooling": Lambda(lambda x: F.max_pool2d(x, (2, 3))),
    "pooling after an activation": nn.Sequential(nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Sigmoid()),
    "average pooling": nn.AvgPool2d(2),
    "squeeze and excitation": Lambda(squeeze_and_excite),
    "attention": Lambda(attention),
    "SiLU by hand": Lambda(lambda x: x * x.sigmoid()),
    "log softmax": nn.LogSoftmax(1),
    "log-sum-exp": Lambda(lambda x: x.logsumexp((2, 3), keepdim=True) * x),
    "log-sum-exp of one axis": Lambda(lambda x: x.logsumexp(1)[:, None].expand_as(x)),
    "PReLU": nn.PReLU(),
    "batch norm": nn.BatchNorm2d(4),
    "division": Lambda(lambda x: x / (1 + x.square())),
}


@pytest.mark.parametrize("what", COMPLETE)
def test_deep_lift_is_complete_for_every_step_with_a_rule(what):
    net = Small(COMPLETE[what])
    attribution = explain(DeepLIFT(), cp.logit(net, 1), random_images(5), baseline=MEAN)
    assert attribution.target.abs().min() > 1e-4
    assert attribution.error.abs().max() < 1e-12
    assert (attribution.gradient_evaluations == 1).all()
    assert (attribution.forward_evaluations == 1).all()


@pytest.mark.parametrize(
    "between", [nn.GroupNorm(2, 4), Lambda(lambda x: F.layer_norm(x, x.shape[1:]))], ids=["group", "layer"]
)
def test_deep_lift_keeps_the_plain_gradient_of_norms_and_its_error_says_so(between):
    attribution = explain(DeepLIFT(), cp.logit(Small(between), 1), random_images(5), baseline=MEAN)
    assert (attribution.relative_error > 0.01).all()


def test_deep_lift_of_equal_input_and_baseline_is_zero():
    images = torch.zeros(1, 2, 6, 6, dtype=torch.float64)
    attribution = explain(DeepLIFT(), cp.logit(SmallNet(0, "smooth"), 1), images)
    assert not attribution.values.any()


def test_deep_lift_refuses_a_network_that_goes_another_way_for_the_baseline():
    def score(x):
        return (x.relu() if x.sum() > 0 else x.tanh()).flatten(1).sum(1)

    with pytest.raises(ModelError, match=r"relu of \(2, 2, 6, 6\) where there was tanh"):
        explain(DeepLIFT(), score, random_images(0))


@pytest.mark.parametrize("when", ["forward", "gradient"])
def test_deep_lift_goes_on_with_fewer_rows_where_memory_runs_out(when):
    net, images = SmallNet(0), random_images(1, batch=5)
    expected = explain(DeepLIFT(), cp.logit(net, 1), images)
    rows = []

    def score(x):
        scores = net(x)[:, 1]
        fails = scores.requires_grad == (when == "gradient") and len(rows) > 0  # not in the comparison itself
        if fails and len(x) > 2:
            raise torch.OutOfMemoryError("out of memory")
        rows.append(len(x))
        return scores

    comparison = cp.compare(score, images, baseline=BLACK, micro_batch=4)
    attribution = comparison.explain(DeepLIFT())
    torch.testing.assert_close(attribution.values, expected.values, rtol=1e-12, atol=1e-14)
    assert comparison.micro.rows == 2


# --- relevance --------------------------------------------------------------------------------------------------------------------


def test_the_epsilon_rule_of_two_layers_by_hand():
    # Hidden: relu(1*2 - 1*1 + 1) = 2 and relu(2 + 3) = 5, score 3*2 - 5 + 0.5 = 1.5, epsilon 0.1.
    net = TwoLayers([[1.0, -1.0], [1.0, 3.0]], [1.0, 0.0], [3.0, -1.0], 0.5)
    attribution = explain(LRP(composite="epsilon", epsilon=0.1), cp.logit(net, 0), row(2.0, 1.0))
    above = [6 / 1.6 * 1.5, -5 / 1.6 * 1.5]
    by_hand = [2 / 2.1 * above[0] + 2 / 5.1 * above[1], -1 / 2.1 * above[0] + 3 / 5.1 * above[1]]
    assert attribution.values[0].tolist() == pytest.approx(by_hand, rel=1e-12)
    assert attribution.reference == "zero activations"
    assert attribution.own_error.item() == pytest.approx(1.5 - sum(by_hand))


@pytest.mark.parametrize("bias", [0.5, 0.0])
def test_the_rules_of_convolutions_by_hand(bias):
    # One pixel, 1 x 1 convolutions: a = (2, -1, 1), w = (1, 2, -3), z = 2 - 2 - 3 + bias.
    class OnePixel(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 1, 1).double()
            with torch.no_grad():
                self.conv.weight.copy_(torch.tensor([1.0, 2.0, -3.0]).view(1, 3, 1, 1))
                self.conv.bias.fill_(bias)

        def forward(self, x):
            return self.conv(x).flatten(1)

    x = torch.tensor([2.0, -1.0, 1.0], dtype=torch.float64).view(1, 3, 1, 1)

    def found(composite, **options):
        method = LRP(composite=composite, **options)
        return explain(method, cp.logit(OnePixel(), 0), x).values.flatten().tolist()

    b, f, e = bias, -3 + bias, 1e-6
    assert found("epsilon") == pytest.approx([f * c / (-5 + 2 + b - e) for c in (2, -2, -3)], rel=1e-12)
    # For the output: 2 * 1 alone, since -1 * 2 and 1 * -3 are negative.
    assert found("epsilon_plus") == pytest.approx([f * 2 / (2 + b + e), 0, 0], rel=1e-12)
    # z < 0: negative weights raised for positive activations, positive ones for negative activations.
    gamma = [2 * 1, -1 * 2 * 1.5, -3 * 1.5]
    expected = [f * c / (sum(gamma) + b - e) for c in gamma]
    assert found("epsilon_gamma", gamma=0.5) == pytest.approx(expected, rel=1e-12)
    assert found("epsilon_plus_flat") == pytest.approx([f / (3 + e)] * 3, rel=1e-12)


def test_the_box_rule_knows_what_a_pixel_can_be_after_normalisation():
    # (x - 0.5) / -0.25 lies in [-2, 2]; w = (1, -1): a w - low w+ - high w- = (a1 + 2) + (2 - a2).
    def score(x):
        return F.linear(x.sub(0.5) / -0.25, torch.tensor([[1.0, -1.0]], dtype=torch.float64))[:, 0] + 7

    x = row(0.25, 0.5)
    a1, a2, f = 1.0, 0.0, 8.0
    parts = [a1 + 2, 2 - a2]
    found = explain(LRP(composite="epsilon_gamma_box"), score, x).values[0].tolist()
    assert found == pytest.approx([f * part / (sum(parts) + 1e-6) for part in parts], rel=1e-12)
    with pytest.raises(InputError, match=r"needs inputs in \[0, 1\], got 0.25 to 3"):
        explain(LRP(composite="epsilon_gamma_box"), score, row(0.25, 3.0))


def test_sums_divide_in_proportion_and_constants_hand_relevance_through():
    x = row(2.0, 3.0)

    def relevance(score, method=LRP()):  # noqa: B008 (a frozen value)
        return explain(method, score, x).values[0].tolist()

    assert relevance(lambda x: x[:, 0] + x[:, 1]) == pytest.approx([2, 3], rel=1e-5)
    assert relevance(lambda x: x[:, 0] - x[:, 1]) == pytest.approx([2, -3], rel=1e-5)
    assert relevance(lambda x: x.sum(1)) == pytest.approx([2, 3], rel=1e-5)
    assert relevance(lambda x: x.mean(1)) == pytest.approx([1, 1.5], rel=1e-5)
    assert relevance(lambda x: (3 * (10 - x) + 1).relu()[:, 0]) == pytest.approx([25, 0])
    assert relevance(lambda x: x[:, 0] + x[:, 0]) == pytest.approx([4, 0], rel=1e-5)
    assert relevance(lambda x: (x @ torch.eye(2).double())[:, 1]) == pytest.approx([0, 3], rel=1e-5)
    assert relevance(lambda x: torch.maximum(x[:, 0], x[:, 1])) == pytest.approx([0, 3])
    # Excitation: a sum with a negative part goes to the other alone.
    found = relevance(lambda x: x[:, 0] + (-x[:, 1]), ExcitationBackprop())
    assert found == pytest.approx([1, 0], rel=1e-5)


def test_excitation_backprop_of_two_layers_by_hand():
    # Hidden 2 and 5; from the score back through positive weights only: 3 * 2 alone, then x1 alone of (1, -1).
    net = TwoLayers([[1.0, -1.0], [1.0, 3.0]], [1.0, 0.0], [3.0, -1.0], 0.5)
    assert explain(ExcitationBackprop(), cp.logit(net, 0), row(2.0, 1.0)).values[0].tolist() == pytest.approx(
        [1, 0], rel=1e-5
    )
    # For the other class 1 * 5 alone; then 1 * 2 and 3 * 1.
    assert explain(ExcitationBackprop(), cp.logit(net, 1), row(2.0, 1.0)).values[0].tolist() == pytest.approx(
        [0.4, 0.6], rel=1e-5
    )


@pytest.mark.parametrize("kind", SmallNet.KINDS)
def test_probabilities_of_excitation_backprop_are_not_negative_and_sum_to_at_most_one(kind):
    for layer in ("input", "stem", "last"):
        values = explain(
            ExcitationBackprop(), cp.logit(SmallNet(4, kind), 0), random_images(4), layer=layer
        ).values
        assert (values >= 0).all()
        assert (values.flatten(1).sum(1) <= 1).all()
        assert (values.flatten(1).sum(1) > 0.5).all()


@pytest.mark.parametrize("composite", COMPOSITES)
@pytest.mark.parametrize("kind", SmallNet.KINDS)
def test_a_network_without_biases_hands_back_its_whole_score(kind, composite):
    net, unbiased = SmallNet(7, kind), SmallNet(7, kind)
    with torch.no_grad():
        for layer in (unbiased.stem, unbiased.body, unbiased.head):
            layer.bias.zero_()
    for make in (cp.logit, cp.contrast):
        attribution = explain(LRP(composite=composite), make(unbiased, 1), random_images(8))
        assert (attribution.own_error.abs() / attribution.score.abs()).max() < 1e-3
        biased = explain(LRP(composite=composite), make(net, 1), random_images(8))
        assert (biased.own_error.abs() / biased.score.abs()).max() > 1e-2
        budget = biased.budget()
        torch.testing.assert_close(sum(budget.values()), biased.error)
        torch.testing.assert_close(budget["operator"], biased.own_error)


@pytest.mark.parametrize("method", [LRP(composite=composite) for composite in COMPOSITES] + [RELEVANCE[1]])
def test_a_networks_style_changes_no_relevance(method):
    found = [
        explain(method, cp.logit(SmallNet(3, kind), 0), random_images(4)).values
        for kind in ("plain", "inplace", "reused", "functional")
    ]
    for values in found[1:]:
        assert torch.equal(values, found[0])


def test_first_layer_rules_hold_for_pixels_only():
    comparison = cp.compare(cp.logit(SmallNet(1), 0), random_images(2), baseline=MEAN)
    plain, flat = LRP(), LRP(composite="epsilon_plus_flat")
    assert not torch.equal(comparison.explain(plain).values, comparison.explain(flat).values)
    there = comparison.at("activation")
    assert torch.equal(there.explain(plain).values, there.explain(flat).values)


class Normalised(nn.Module):
    """Two convolutions with batch norm and a residual sum; `body` is passed by."""

    def __init__(self):
        super().__init__()
        self.stem, self.first = nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.body, self.second = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.join = nn.ReLU()
        self.head = nn.Linear(4, 3)
        generator = torch.Generator().manual_seed(11)
        with torch.no_grad():
            for name, tensor in self.state_dict().items():
                if tensor.is_floating_point():
                    noise = torch.randn(tensor.shape, generator=generator) * 0.5
                    tensor.copy_(noise.abs() + 0.5 if name.endswith("var") else noise)
        self.double().eval()

    def forward(self, x):
        h = F.relu(self.first(self.stem(x)), inplace=True)
        return self.head(self.join(self.second(self.body(h)) + h).mean((2, 3)))

    def folded(self):
        """The same network, its norms taken over by hand."""
        twin = Normalised()
        for conv, norm in (("stem", "first"), ("body", "second")):
            layer, bn = getattr(twin, conv), getattr(twin, norm)
            scale = bn.weight / (bn.running_var + bn.eps).sqrt()
            with torch.no_grad():
                layer.weight.mul_(scale.view(-1, 1, 1, 1))
                layer.bias.sub_(bn.running_mean).mul_(scale).add_(bn.bias)
            setattr(twin, norm, nn.Identity())
        return twin


@pytest.mark.parametrize("method", [LRP(), LRP(composite="epsilon_gamma_box"), ExcitationBackprop()])
@pytest.mark.parametrize("layer", ["input", "join", "second"])
def test_batch_norm_is_folded_into_the_layer_before_it(layer, method):
    net, images = Normalised(), random_images(3)
    options = {"layer": layer, "bypass": "intervene"}
    ours = explain(method, cp.logit(net, 1), images, **options)
    by_hand = explain(method, cp.logit(net.folded(), 1), images, **options)
    torch.testing.assert_close(ours.values, by_hand.values, rtol=1e-9, atol=1e-12)
    asked = explain(method, cp.logit(net, 1), images, fold=True, **options)
    torch.testing.assert_close(ours.values, asked.values, rtol=1e-9, atol=1e-12)
    assert isinstance(net.first, nn.BatchNorm2d)


def test_batch_norm_that_cannot_be_folded_hands_relevance_through():
    net = Small(nn.Sequential(nn.ReLU(), nn.BatchNorm2d(4)))
    with torch.no_grad():
        net.between[1].running_mean.copy_(torch.tensor([0.1, -0.2, 0.3, 0.0]))
    twin = Small(nn.ReLU())
    twin.load_state_dict({k: v for k, v in net.state_dict().items() if not k.startswith("between")})
    images = random_images(1)
    at_norm = explain(LRP(), cp.logit(net, 0), images, layer="between.1")
    before = explain(LRP(), cp.logit(net, 0), images, layer="between.0")
    torch.testing.assert_close(before.values, at_norm.values)


def relu_through_a_view(x):
    x.flatten().relu_()
    return x


@pytest.mark.parametrize("relu", [nn.ReLU(inplace=True), Lambda(relu_through_a_view)], ids=["itself", "view"])
def test_batch_norm_is_not_folded_into_a_layer_whose_output_was_overwritten(relu):
    images = random_images(1)

    def relevance(relu):
        net = Small(nn.Sequential(relu, nn.BatchNorm2d(4)))
        with torch.no_grad():
            net.between[1].running_mean.add_(0.3)
        return explain(LRP(), cp.logit(net, 0), images).values

    assert torch.equal(relevance(relu), relevance(nn.ReLU()))


def test_batch_norm_over_tokens_is_no_part_of_the_linear_layer_before_it():
    class Tokens(nn.Module):
        def __init__(self, norm):
            super().__init__()
            self.linear, self.norm = nn.Linear(5, 5, bias=False), norm
            with torch.no_grad():
                self.linear.weight.copy_(torch.arange(25).view(5, 5) / 20)
            self.double().eval()

        def forward(self, x):
            return self.norm(self.linear(x)).sum(1)

    norm, x = nn.BatchNorm1d(5), random_images(1, channels=5, size=5)[:, :, 0]
    with torch.no_grad():
        norm.running_mean.copy_(torch.arange(5.0))
    relevance = explain(LRP(), cp.logit(Tokens(norm), 1), x).values
    # As a shift and a scale by hand.
    scale = (norm.weight / (norm.running_var + norm.eps).sqrt()).detach().view(5, 1)
    by_hand = Lambda(lambda z: (z - norm.running_mean.view(5, 1)) * scale + norm.bias.view(5, 1))
    torch.testing.assert_close(relevance, explain(LRP(), cp.logit(Tokens(by_hand), 1), x).values)


REFUSED = {
    "the operation 'mul' of two activations": Lambda(lambda x: x * x.relu()),
    "the operation '__rdiv__', which is not 0 at 0": Lambda(lambda x: 2 / (1 + x.abs())),
    "the operation 'div' by activations": Lambda(lambda x: torch.ones_like(x.detach()) / (1 + x.abs())),
    "the operation 'exp', which is not 0 at 0": Lambda(lambda x: x.exp()),
    "the operation 'dropout' in training mode": Lambda(lambda x: F.dropout(x, 0.5, training=True)),
    "the operation 'batch_norm' in training mode": nn.BatchNorm2d(4),
    "the operation 'cumsum'": Lambda(lambda x: x.cumsum(1)),
}


@pytest.mark.parametrize("method", RELEVANCE, ids=["lrp", "excitation"])
@pytest.mark.parametrize("message", REFUSED)
def test_an_operation_without_a_rule_is_refused_by_its_name(message, method):
    net = Small(REFUSED[message]).train("batch_norm" in message)
    warned = pytest.warns(UserWarning, match="in training mode") if net.training else nullcontext()
    with warned, pytest.raises(ModelError, match=f"no rule for {message}"):
        explain(method, cp.logit(net, 0), random_images(0))


GATED = {
    "sigmoid": lambda x: x * torch.sigmoid(3 * x + 1),
    "hard sigmoid": lambda x: F.hardsigmoid(x + 1) * x,
    "squeeze and excitation": lambda x: x * torch.sigmoid(x.mean((2, 3), keepdim=True)),
    "normaliser": lambda x: x / x.std((1, 2, 3), keepdim=True),
}


@pytest.mark.parametrize("method", RELEVANCE, ids=["lrp", "excitation"])
@pytest.mark.parametrize("gated", GATED)
def test_what_decides_how_much_passes_is_a_constant(gated, method):
    images = random_images(0)
    net = Small(Lambda(GATED[gated]))
    kept = {}

    def remember(module, arguments, output):
        kept["factor"] = (output / arguments[0]).detach()

    handle = net.between.register_forward_hook(remember)
    net(images)
    handle.remove()
    fixed = Small(Lambda(lambda x: x * kept["factor"]))
    torch.testing.assert_close(
        explain(method, cp.logit(net, 0), images).values, explain(method, cp.logit(fixed, 0), images).values
    )


def test_normalisation_hands_relevance_through():
    images = random_images(0)
    for norm in (nn.GroupNorm(2, 4, dtype=torch.float64), Lambda(lambda x: F.layer_norm(x, x.shape[1:]))):
        net = Small(norm)
        behind = explain(LRP(), cp.logit(net, 0), images, layer="between")
        before = explain(LRP(), cp.logit(net, 0), images, layer="stem")
        torch.testing.assert_close(before.values, behind.values)


@pytest.mark.parametrize("gate", [nn.Softmax(1), nn.Sigmoid()])
def test_a_score_behind_a_gate_says_that_no_relevance_reaches_the_features(gate):
    net = nn.Sequential(SmallNet(0), gate)
    with pytest.raises(ModelError, match="only way leads through gates"):
        explain(LRP(), cp.logit(net, 0), random_images(0))


class _Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, gradient):
        return 2 * gradient


def test_an_operation_that_cannot_be_seen_is_refused():
    net = Small(nn.Sequential(Lambda(_Doubled.apply), nn.ReLU()))
    with pytest.raises(ModelError, match="what 'relu' is given comes from an operation that cannot be seen"):
        explain(LRP(), cp.logit(net, 0), random_images(0))


@pytest.mark.slow  # the first compilation loads a compiler
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("method", [GuidedBackprop(), DeepLIFT(), *RELEVANCE], ids=lambda m: type(m).__name__)
def test_a_scripted_part_is_refused_and_a_compiled_model_is_explained_uncompiled(method):
    images = random_images(0)
    net = SmallNet(0)
    net.body = torch.jit.trace(net.body, torch.zeros(1, 4, 6, 6, dtype=torch.float64))
    with pytest.raises(ModelError, match="inside 'body' cannot be seen, as it is compiled or scripted"):
        explain(method, cp.logit(net, 0), images)
    net = SmallNet(0)
    calls = []
    compiled = torch.compile(net, backend=lambda graph, inputs: calls.append(graph) or graph)
    expected = explain(method, cp.logit(net, 0), images)
    with pytest.warns(UserWarning, match="runs it uncompiled"):
        score = cp.logit(compiled, 0)
    torch.testing.assert_close(explain(method, score, images).values, expected.values)
    assert not calls


def test_weights_that_are_computed_are_no_activations():
    class Standardised(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.tensor([[1.0, 3.0], [2.0, -4.0]], dtype=torch.float64))

        def forward(self, x):
            weight = self.weight / self.weight.square().sum(1, keepdim=True).sqrt().exp().log()
            return F.linear(x, weight)

    net, x = Standardised(), row(2.0, 1.0)
    attribution = explain(LRP(), cp.logit(net, 0), x)
    torch.testing.assert_close(attribution.values, row(2.0, 3.0) / math.sqrt(10), rtol=1e-5, atol=0)


@pytest.mark.parametrize("make", [cp.probability, cp.log_probability, cp.log_odds, cp.label_probability])
def test_relevance_refuses_scores_that_are_not_linear_in_the_outputs(make):
    kind = make.__name__
    for method, wanted in zip(RELEVANCE, ("cp.logit or cp.contrast", "cp.logit"), strict=True):
        with pytest.raises(InputError, match=f"score must be {wanted}, got {kind}"):
            explain(method, make(SmallNet(0), 1), random_images(0))
    with pytest.raises(InputError, match=r"score must be cp\.logit, got contrast"):
        explain(ExcitationBackprop(), cp.contrast(SmallNet(0), 1), random_images(0))


def test_relevance_refuses_a_cosine_and_takes_a_dot_product():
    net, images = SmallNet(0), random_images(0)
    with pytest.raises(InputError, match="got cosine_similarity"):
        explain(LRP(), cp.similarity(net, random_images(1)), images)
    assert explain(LRP(), cp.similarity(net, random_images(1), kind="dot"), images).values.isfinite().all()


def test_lrp_checks_its_settings():
    with pytest.raises(InputError, match=r"composite must be one of epsilon, epsilon_plus, .*, got 'alpha'"):
        LRP(composite="alpha")
    with pytest.raises(InputError, match="epsilon must be above 0, got 0"):
        LRP(epsilon=0)
    with pytest.raises(InputError, match="gamma must be at least 0, got -1"):
        LRP(gamma=-1)
