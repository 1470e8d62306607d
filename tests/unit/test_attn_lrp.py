"""Closed forms of AttnLRP in float64, and the same relevance found another way: as input times a gradient of changed functions."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import counterpoint as cp
from counterpoint.errors import InputError, ModelError
from counterpoint.methods import LRP, AttnLRP
from networks import SmallNet, TinyViT, random_images

NOISE = cp.baselines.Uniform(seed=1)


class Lambda(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def explain(net, inputs, method=None, *, target=0, layer=None):
    net = net if isinstance(net, nn.Module) else Lambda(net)
    method = method or AttnLRP(epsilon=1e-12)
    return cp.compare(cp.logit(net, target), inputs, baseline=NOISE, layer=layer).explain(method)


def row(*numbers):
    return torch.tensor([numbers], dtype=torch.float64)


# --- by hand ----------------------------------------------------------------------------------------------------------------------


def test_softmax_by_hand():
    x = row(1.0, 2.0, -0.5)
    s = x[0].softmax(0)
    for k in range(3):
        # All relevance is s_k, at output k.
        expected = x[0] * (torch.eye(3)[k] * s[k] - s * s[k])
        attribution = explain(lambda x: x.softmax(-1), x, target=k)
        torch.testing.assert_close(attribution.values[0], expected)
        torch.testing.assert_close(attribution.own_error[0], s[k] - expected.sum())
        torch.testing.assert_close(attribution.own_target[0], s[k])


def test_what_a_mask_leaves_out_of_a_softmax_has_no_relevance():
    x = row(1.0, 2.0, 3.0)
    hidden = torch.tensor([[False, False, True]])
    values = explain(lambda x: x.masked_fill(hidden, -torch.inf).softmax(-1), x).values
    s = x[0, :2].softmax(0)
    torch.testing.assert_close(
        values[0], torch.cat([x[0, :2] * (torch.eye(2)[0] * s[0] - s * s[0]), row(0.0)[0]])
    )


def matmul(x):
    return (x[:, None, :2] @ x[:, 2:, None])[:, 0]


def einsum(x):
    return torch.einsum("rp,rp->r", x[:, :2], x[:, 2:])[:, None]


@pytest.mark.parametrize(
    "product", [matmul, einsum, lambda x: torch.bmm(x[:, None, :2], x[:, 2:, None])[:, 0]]
)
def test_a_product_of_matrices_gives_half_of_each_term_to_both_sides(product):
    # 1 * 3 + 2 * 4 = 11: 3 / 2 to the 1 and to the 3, 8 / 2 to the 2 and to the 4.
    attribution = explain(product, row(1.0, 2.0, 3.0, 4.0))
    torch.testing.assert_close(attribution.values, row(1.5, 4.0, 1.5, 4.0))
    assert attribution.own_error.abs().max() < 1e-10
    # epsilon is added to twice the output.
    damped = explain(product, row(1.0, 2.0, 3.0, 4.0), AttnLRP(epsilon=2.0))
    torch.testing.assert_close(damped.values, row(1.5, 4.0, 1.5, 4.0) * 22 / 24)


def test_a_product_number_by_number_gives_half_to_each_factor():
    torch.testing.assert_close(explain(lambda x: x[:, :1] * x[:, 1:], row(3.0, -5.0)).values, row(-7.5, -7.5))
    # Shared by places: squeeze and excitation. The gate's half reaches it from all of them.
    torch.testing.assert_close(
        explain(lambda x: (x[:, :2] * x[:, 2:]).sum(1, keepdim=True), row(3.0, 1.0, 2.0)).values,
        row(3.0, 1.0, 4.0),
    )


def by_hand(x):
    """softmax(x x^T) x of two tokens of one number, class 0 being the first token; all relevance with loops."""
    products = [[x[i] * x[j] for j in range(2)] for i in range(2)]
    s = torch.tensor(products[0], dtype=torch.float64).softmax(0).tolist()
    relevance = [0.0, 0.0]
    of_weights = []
    for j in range(2):
        of_weights.append(s[j] * x[j] / 2)
        relevance[j] += s[j] * x[j] / 2  # as a value
    for j in range(2):
        of_product = products[0][j] * (of_weights[j] - s[j] * sum(of_weights))
        relevance[0] += of_product / 2  # as the query
        relevance[j] += of_product / 2  # as a key
    return relevance


def written(x):
    t = x[:, :, None]
    return ((t @ t.transpose(1, 2)).softmax(-1) @ t)[:, :, 0]


def fused(x):
    t = x[:, None, :, None]
    return F.scaled_dot_product_attention(t, t, t)[:, 0, :, 0]


class MultiHead(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(1, 1, batch_first=True, bias=False).double()
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.fill_(1.0)

    def forward(self, x):
        t = x[:, :, None]
        return self.attention(t, t, t)[0][:, :, 0]


@pytest.mark.parametrize("attention", [written, fused, MultiHead()], ids=["written", "fused", "multi head"])
def test_attention_with_one_head_by_hand(attention):
    x = [0.7, -1.3]
    attribution = explain(attention, row(*x))
    torch.testing.assert_close(attribution.values, row(*by_hand(x)))
    torch.testing.assert_close(attribution.score, attribution.own_target)


@pytest.mark.parametrize(
    "norm",
    [
        lambda x: F.layer_norm(x, (3,), row(1.0, 2.0, -1.0)[0], row(0.5, 0.0, 1.0)[0]),
        lambda x: F.rms_norm(x, (3,)),
        lambda x: x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-6),
        lambda x: x / x.norm(dim=1, keepdim=True),
        lambda x: x / x.std(1, keepdim=True),
        lambda x: F.normalize(x, dim=1),
    ],
)
def test_a_norm_hands_relevance_through_as_it_is(norm):
    x, weight = row(1.0, 2.0, 4.0), row(0.3, -0.2, 0.6)
    attribution = explain(lambda x: F.linear(norm(x), weight), x)
    torch.testing.assert_close(attribution.values, norm(x) * weight)


@pytest.mark.parametrize("gate", [torch.sigmoid, F.hardsigmoid, F.gelu, F.silu, torch.tanh])
def test_activations_hand_relevance_through_as_it_is(gate):
    x, weight = row(1.0, 0.5, 2.0), row(0.3, -0.2, 0.6)
    torch.testing.assert_close(explain(lambda x: F.linear(gate(x), weight), x).values, gate(x) * weight)


def test_silu_by_hand_is_silu():
    x, weight = row(1.0, 0.5, -2.0), row(0.3, -0.2, 0.6)
    one, two = (
        explain(lambda x, f=f: F.linear(f(x), weight), x).values for f in (F.silu, lambda x: x * x.sigmoid())
    )
    torch.testing.assert_close(one, two)


# --- networks ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", [None, "blocks.0"])
@pytest.mark.parametrize(
    "method", [AttnLRP(1e-12), AttnLRP(1e-12, gamma=0.1, convolution_gamma=0.25)], ids=["epsilon", "gamma"]
)
def test_the_way_attention_is_written_changes_no_relevance(method, layer):
    found = [
        explain(TinyViT(4, attention), random_images(1), method, layer=layer).values
        for attention in TinyViT.ATTENTION
    ]
    for values in found[1:]:
        torch.testing.assert_close(values, found[0], rtol=1e-8, atol=1e-10)


def as_is(x, f):
    """f(x), with the gradient of x * (f(x) / x), the quotient a constant: input times gradient hands relevance through as it is."""
    return x * (f(x) / x).detach()


def halved(x):
    """x with half its gradient."""
    return 0.5 * x + 0.5 * x.detach()


class Changed(TinyViT):
    """The functions of a TinyViT with other gradients, such that input times gradient is AttnLRP with epsilon 0 (found apart from it)."""

    remainders: list[tuple[torch.Tensor, torch.Tensor]]

    def forward(self, x):
        self.remainders = []
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        if self.class_token is not None:
            tokens = torch.cat([self.class_token.expand(len(x), -1, -1), tokens], 1)
        tokens = as_is(tokens, lambda t: t + self.position)
        for block in self.blocks:
            tokens = tokens + self.attend(block.attention, as_is(tokens, block.norm1))
            up = block.up(as_is(tokens, block.norm2))
            tokens = tokens + block.down(as_is(up, F.gelu))
        tokens = as_is(tokens, self.norm)
        return self.head(tokens.mean(1) if self.class_token is None else tokens[:, 0])

    def attend(self, own, x):
        query, key, value = (
            part.unflatten(2, (2, -1)).transpose(1, 2)
            for part in F.linear(x, own.in_proj_weight, own.in_proj_bias).chunk(3, 2)
        )
        products = halved(query) @ halved(key).transpose(2, 3) / query.shape[3] ** 0.5
        weights = products.softmax(-1)
        for each in (products, weights):
            each.retain_grad()
        self.remainders.append((products, weights))
        return own.out_proj((halved(weights) @ halved(value)).transpose(1, 2).flatten(2))


@pytest.mark.parametrize("class_token", [True, False], ids=["class token", "mean"])
def test_relevance_is_input_times_a_gradient_of_changed_functions(class_token):
    x = random_images(2).requires_grad_()
    changed = Changed(6, class_token=class_token)
    out = changed(x)
    torch.testing.assert_close(out, TinyViT(6, class_token=class_token)(x))
    out[:, 0].sum().backward()
    ours = explain(TinyViT(6, class_token=class_token), x.detach()).values
    torch.testing.assert_close(ours, (x * x.grad).detach(), rtol=1e-6, atol=1e-8)


def without_biases(net):
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.endswith(("bias", "position")):
                parameter.zero_()
    return net


def test_without_biases_and_constants_all_that_is_missing_stays_in_the_softmax():
    x = random_images(3).requires_grad_()
    changed = without_biases(Changed(8, class_token=False))
    # A bias of 0 is kept out of the quotients of zeros.
    changed(x)[:, 0].sum().backward()
    stays = sum(
        (weights * weights.grad - products * products.grad).flatten(1).sum(1)
        for products, weights in changed.remainders
    )
    attribution = explain(without_biases(TinyViT(8, class_token=False)), x.detach())
    assert attribution.own_error.abs().min() > 1e-4
    torch.testing.assert_close(attribution.own_error, stays.detach(), rtol=1e-6, atol=1e-8)


def test_without_softmax_nothing_is_missing():
    class Linear(nn.Module):
        """Attention without a softmax, twice, each beside a shortcut and after a norm."""

        def __init__(self):
            super().__init__()
            self.patches, self.head = nn.Conv2d(2, 8, 2, 2, bias=False), nn.Linear(8, 3, bias=False)
            self.norm = nn.LayerNorm(8)
            with torch.no_grad():
                for parameter in (self.patches.weight, self.head.weight):
                    parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
            self.double().eval()

        def forward(self, x):
            t = self.patches(x).flatten(2).transpose(1, 2)
            for _ in range(2):
                n = self.norm(t)
                t = t + F.gelu(n @ n.transpose(1, 2) @ n / 9)
            return self.head(t.mean(1))

    attribution = explain(Linear(), random_images(4))
    assert attribution.score.abs().min() > 1e-2
    assert attribution.own_error.abs().max() < 1e-9


@pytest.mark.parametrize("kind", SmallNet.KINDS)
def test_without_attention_it_is_lrp_with_the_same_rules(kind):
    net, x = SmallNet(2, kind), random_images(1)
    torch.testing.assert_close(explain(net, x, AttnLRP()).values, explain(net, x, LRP("epsilon")).values)
    torch.testing.assert_close(
        explain(net, x, AttnLRP(convolution_gamma=0.4)).values,
        explain(net, x, LRP("epsilon_gamma", gamma=0.4)).values,
    )


def test_gamma_is_that_of_linear_layers():
    x, weight = row(1.0, 2.0, 3.0), row(2.0, -1.0, 1.0)
    raised = weight + 0.5 * weight.clamp(min=0)
    values = explain(lambda x: F.linear(x, weight), x, AttnLRP(gamma=0.5)).values
    torch.testing.assert_close(values, 3 * x * raised / (x * raised).sum(), rtol=1e-5, atol=0)


def test_values_of_the_run_stay_the_models_own():
    net, x = TinyViT(3).float(), random_images(1).float()
    comparison = cp.compare(cp.logit(net, 0), x, baseline=NOISE)
    seen = []
    own = F.scaled_dot_product_attention

    class Seen(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            if func is own:
                seen.append(result.detach().clone())
            return result

    with Seen():
        net(x)
        comparison.explain(AttnLRP())
    # The fused function itself is asked for each value that the run goes on with.
    assert len(seen) == 4
    assert torch.equal(seen[0], seen[2])
    assert torch.equal(seen[1], seen[3])


# --- what is refused --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("composite", ["epsilon", "epsilon_plus"])
def test_lrp_takes_attention_weights_as_constants_however_attention_is_written(composite):
    values = [
        explain(TinyViT(0, attention), random_images(0), LRP(composite=composite)).values
        for attention in TinyViT.ATTENTION
    ]
    for each in values[1:]:
        torch.testing.assert_close(each, values[0])


def test_lrp_of_attention_is_what_constant_weights_hand_back():
    x = row(1.0, 2.0)
    # One token attends to two by weights 3/4 and 1/4: half a logarithm of 3 apart, and then held still.
    weights = torch.tensor([[0.75, 0.25]], dtype=torch.float64)

    def attended(x):
        return (torch.softmax(weights.log() + 0 * x, 1) * x).sum(1, keepdim=True).expand(-1, 2)

    attribution = explain(attended, x, LRP(composite="epsilon"))
    torch.testing.assert_close(attribution.values, weights * x, rtol=1e-5, atol=0)


def test_lrp_names_attn_lrp_where_that_one_has_a_rule():
    with pytest.raises(ModelError, match=r"no rule for the operation 'mul' of two activations; .*AttnLRP"):
        explain(lambda x: x * x.relu(), row(1.0, 2.0), LRP())


REFUSED = {
    "the operation 'cumsum'; use another method, such as cp.methods.IntegratedGradients": lambda x: x.cumsum(
        1
    ),
    "the operation '__rdiv__', which is not 0 at 0": lambda x: 2 / (1 + x),
    "the operation 'div' by activations": lambda x: torch.ones(1, 2) / x,
    "the operation 'exp', which is not 0 at 0": lambda x: x.exp(),
    "the operation 'dropout' in training mode": lambda x: F.dropout(x, 0.5, training=True),
}


@pytest.mark.parametrize("message", REFUSED)
def test_an_operation_without_a_rule_is_refused_by_its_name(message):
    with pytest.raises(ModelError, match=f"no rule for {message}"):
        explain(REFUSED[message], row(1.0, 2.0))


def test_dropout_on_the_attention_is_refused():
    with pytest.raises(ModelError, match=r"dropout of 0\.5 on the attention is active"):
        explain(
            lambda x: F.scaled_dot_product_attention(*3 * [x[:, :, None]], dropout_p=0.5)[:, :, 0],
            row(1.0, 2.0),
        )


@pytest.mark.parametrize("make", [cp.probability, cp.log_probability, cp.log_odds, cp.label_probability])
def test_scores_that_are_not_linear_in_the_outputs_are_refused(make):
    comparison = cp.compare(make(TinyViT(0), 1), random_images(0), baseline=NOISE)
    with pytest.raises(InputError, match=f"score must be cp.logit or cp.contrast, got {make.__name__}"):
        comparison.explain(AttnLRP())


def test_settings_are_checked():
    for settings in ({"epsilon": 0}, {"gamma": -1}, {"convolution_gamma": -1}):
        (name,) = settings
        with pytest.raises(InputError, match=f"{name} must be"):
            AttnLRP(**settings)
