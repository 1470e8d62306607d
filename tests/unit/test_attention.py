"""Attention as it runs, against torch's own; rollout and gradient-weighted attention against loops; what both refuse."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import counterpoint as cp
from counterpoint.activations import Attending, DotProducts, MultiHead
from counterpoint.errors import InputError, ModelError, ShapeError
from counterpoint.methods import GAE, AttentionRollout
from networks import SmallNet, TinyViT, random_images

MEAN = cp.baselines.Mean()
both = pytest.mark.parametrize("method", [AttentionRollout(), GAE()], ids=["rollout", "gae"])
every_form = pytest.mark.parametrize("attention", TinyViT.ATTENTION)
with_class_token = pytest.mark.parametrize("class_token", [True, False], ids=["class token", "mean"])


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def explain(method, net, inputs, *, baseline=MEAN, **options):
    return cp.compare(cp.logit(net, 1), inputs, baseline=baseline, **options).explain(method)


# --- attention taken apart --------------------------------------------------------------------------------------------------------

Q, K, V = random(2, 4, 5, 3), random(2, 4, 6, 3, seed=1), random(2, 4, 6, 7, seed=2)
BOOLEANS = random(5, 6, seed=3) > -1
FUSED_CALLS = {
    "plain": ((Q, K, V), {}),
    "a scale": ((Q, K, V), {"scale": 0.3}),
    "numbers for a mask": ((Q, K, V, random(2, 1, 5, 6)), {}),
    "booleans for a mask": ((Q, K, V), {"attn_mask": BOOLEANS}),
    "causal": ((Q, K, V, None, 0.0, True), {}),
    "by name": ((), {"query": Q, "key": K, "value": V}),
    "grouped queries": ((Q, K[:, :2], V[:, :2]), {"enable_gqa": True}),
    "no heads": ((Q[:, 0], K[:, 0], V[:, 0]), {}),
}


@pytest.mark.parametrize("name", FUSED_CALLS)
def test_fused_attention_written_out_is_the_same(name):
    args, kwargs = FUSED_CALLS[name]
    ours = DotProducts.of_fused(args, kwargs)
    torch.testing.assert_close(ours.output(), F.scaled_dot_product_attention(*args, **kwargs))
    torch.testing.assert_close(ours.probabilities().sum(-1), torch.ones(ours.query.shape[:-1]).double())


X, Y, Z = random(3, 5, 8), random(3, 6, 8, seed=1), random(3, 6, 8, seed=2)
PADDING = torch.zeros(3, 6, dtype=torch.bool)
PADDING[1, 4:] = True
MULTI_HEAD_CALLS = {
    "self-attention": ({}, (X, X, X), {}),
    "without weights": ({}, (X, X, X), {"need_weights": False}),
    "cross attention": ({}, (X, Y, Y), {}),
    "three sources": ({}, (X, Y, Z), {}),
    "no bias": ({"bias": False}, (X, Y, Z), {}),
    "keys of another width": ({"kdim": 4, "vdim": 6}, (X, Y[..., :4], Z[..., :6]), {}),
    "tokens first": ({"batch_first": False}, (X, Y, Z), {}),
    "no batch": ({}, (X[0], X[0], X[0]), {}),
    "padding": ({}, (X, Y, Z), {"key_padding_mask": PADDING}),
    "both masks": ({}, (X, Y, Z), {"key_padding_mask": PADDING, "attn_mask": ~BOOLEANS}),
    "a mask for each head": ({}, (X, Y, Z), {"attn_mask": random(6, 5, 6)}),
}


@pytest.mark.parametrize("name", MULTI_HEAD_CALLS)
def test_multi_head_attention_written_out_is_the_same(name, monkeypatch):
    settings, args, kwargs = MULTI_HEAD_CALLS[name]
    if name == "tokens first":
        args = tuple(each.transpose(0, 1) for each in args)
    with torch.random.fork_rng(devices=[]):
        layer = nn.MultiheadAttention(8, 2, **{"batch_first": True, **settings}).double().eval()
    seen = []
    original = F.multi_head_attention_forward

    def watched(*args, **kwargs):
        ours = MultiHead.of(args, kwargs)
        result = original(*args, **kwargs)
        seen.append((ours.joined(ours.dot_products().output()), result[0]))
        return result

    monkeypatch.setattr(F, "multi_head_attention_forward", watched)
    layer(*args, **kwargs)
    ((ours, theirs),) = seen
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("settings", [{"add_bias_kv": True}, {"add_zero_attn": True}], ids=str)
@both
def test_attention_with_keys_of_its_own_is_refused(settings, method):
    net = TinyViT(0, "multi_head")
    with torch.random.fork_rng(devices=[]):
        net.blocks[0].attention = nn.MultiheadAttention(8, 2, batch_first=True, **settings).double()
    with pytest.raises(ModelError, match="attention with keys of its own"):
        explain(method, net, random_images(0))


@every_form
def test_probabilities_and_their_gradients_are_seen_and_change_nothing(attention):
    net, x = TinyViT(5, attention), random_images(1).requires_grad_()
    kept = []
    with Attending(lambda probabilities, slope: kept.append((probabilities, slope)) or slope.sum(1)) as run:
        out = net(x)
    (gradient,) = torch.autograd.grad(out[:, 1].sum(), x)
    plain = net(x)
    assert torch.equal(out, plain)
    assert torch.equal(gradient, torch.autograd.grad(plain[:, 1].sum(), x)[0])
    assert [call.shape for call in run.calls] == [(2, 2, 10, 10)] * 2
    assert run.calls[-1].read.tolist() == [[True] + [False] * 9] * 2
    assert run.calls[0].read.all()
    for (probabilities, slope), (theirs, their_slope) in zip(
        reversed(kept), attention_by_autograd(5, x.detach()), strict=True
    ):
        torch.testing.assert_close(probabilities, theirs)
        torch.testing.assert_close(slope, their_slope)


def attention_by_autograd(seed, x, *, class_token=True):
    """The probabilities of each block of a TinyViT, and the gradient of class 1, taken from its written form."""
    found = []

    class Kept(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            if getattr(func, "__name__", "") == "softmax":
                result.requires_grad_().retain_grad()
                found.append(result)
            return result

    net = TinyViT(seed, "written", class_token=class_token)
    with Kept():
        out = net(x)
    out[:, 1].sum().backward()
    return [(each.detach(), each.grad) for each in found]


# --- rollout and gradient-weighted attention --------------------------------------------------------------------------------------


def rows_read(whole, class_token):
    """Of one image: the patches' part of the row of the class token, or of the mean of all rows."""
    return (whole[0, 1:] if class_token else whole.mean(0)).view(3, 3)


@every_form
@with_class_token
def test_rollout_is_the_product_of_the_blocks(attention, class_token):
    x = random_images(3)
    tokens = explain(AttentionRollout(), TinyViT(7, attention, class_token=class_token), x).extras["tokens"]
    blocks = attention_by_autograd(7, x, class_token=class_token)
    for i in range(2):
        whole = torch.eye(9 + class_token).double()
        for probabilities, _ in blocks:
            mixed = 0.5 * probabilities[i].mean(0) + 0.5 * torch.eye(9 + class_token)
            whole = mixed @ whole
        torch.testing.assert_close(tokens[i], rows_read(whole, class_token))
    assert tokens.flatten(1).sum(1).max() <= 1 + 1e-12


@every_form
@with_class_token
def test_gae_adds_up_gradient_times_attention(attention, class_token):
    x = random_images(3)
    tokens = explain(GAE(), TinyViT(7, attention, class_token=class_token), x).extras["tokens"]
    blocks = attention_by_autograd(7, x, class_token=class_token)
    for i in range(2):
        identity = torch.eye(9 + class_token).double()
        whole = identity
        for probabilities, slope in blocks:
            whole = whole + (probabilities[i] * slope[i]).clamp(min=0).mean(0) @ whole
        torch.testing.assert_close(tokens[i], rows_read(whole - identity, class_token))


@pytest.mark.parametrize("head", ["mean", "max", "min"])
def test_rollout_brings_heads_together_and_discards_as_asked(head):
    x = random_images(4)
    net = TinyViT(2)
    tokens = explain(AttentionRollout(head=head, discard=0.25, residual=0.2), net, x).extras["tokens"]
    whole = torch.eye(10).double()
    for probabilities, _ in attention_by_autograd(2, x):
        heads = probabilities[0]
        fused = {"mean": heads.mean(0), "max": heads.amax(0), "min": heads.amin(0)}[head]
        least = fused.flatten().sort().values[25]
        mixed = 0.8 * torch.where(fused < least, 0.0, fused) + 0.2 * torch.eye(10)
        whole = mixed / mixed.sum(1, keepdim=True) @ whole
    torch.testing.assert_close(tokens[0], rows_read(whole, True))


def test_where_all_attention_is_even_all_patches_have_the_same():
    net = TinyViT(0, "multi_head")
    with torch.no_grad():
        for block in net.blocks:
            block.attention.in_proj_weight[:16] = 0  # queries and keys
            block.attention.in_proj_bias[:16] = 0
    tokens = explain(AttentionRollout(), net, random_images(0)).extras["tokens"]
    # After one block 1/20 of each patch is in the class token; after two 1/2 of that, and 1/20 of what all ten tokens hold of the patch.
    torch.testing.assert_close(tokens, torch.full((2, 3, 3), 0.5 / 20 + 0.5 / 20 + 0.5 * 0.5 / 10).double())


@both
def test_a_tokens_amount_lies_evenly_on_its_patch_and_channels(method):
    attribution = explain(method, TinyViT(1), random_images(2))
    tokens = attribution.extras["tokens"]
    assert attribution.claim == "importance"
    assert (attribution.gradient_evaluations == 1).all()
    by_hand = (tokens / 8).repeat_interleave(2, 1).repeat_interleave(2, 2)[:, None].expand(-1, 2, -1, -1)
    torch.testing.assert_close(attribution.values, by_hand)
    torch.testing.assert_close(attribution.heatmap(), by_hand.sum(1))
    assert attribution.error.isnan().all()


def test_rollout_does_not_depend_on_the_class_and_gae_does():
    net, x = TinyViT(1), random_images(2)

    def values(method, target):
        return cp.compare(cp.logit(net, target), x, baseline=MEAN).explain(method).values

    torch.testing.assert_close(values(AttentionRollout(), 0), values(AttentionRollout(), 2))
    assert (values(GAE(), 0) - values(GAE(), 2)).abs().max() > 1e-4


@both
def test_images_run_one_by_one_have_the_same_maps(method):
    net, x = TinyViT(3), random_images(5, batch=3)
    together, alone = explain(method, net, x), explain(method, net, x, micro_batch=1)
    torch.testing.assert_close(together.values, alone.values)


@both
def test_images_come_again_where_memory_ran_out(method, monkeypatch):
    net, x = TinyViT(3), random_images(5, batch=4)
    expected = explain(method, net, x)
    comparison = cp.compare(cp.logit(net, 1), x, baseline=MEAN)
    original, failed = torch.autograd.grad, []

    def short_of_memory(outputs, inputs, *rest, **options):
        if len(inputs) == 4 and not failed:
            failed.append(True)
            raise MemoryError
        return original(outputs, inputs, *rest, **options)

    monkeypatch.setattr(torch.autograd, "grad", short_of_memory)
    torch.testing.assert_close(comparison.explain(method).values, expected.values)
    assert failed


@both
def test_a_transformer_encoder_of_torch_is_seen_through_its_fast_path(method):
    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                self.patches = nn.Conv2d(2, 8, 2, 2)
                layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=False)
                self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
                self.head = nn.Linear(8, 3)
            self.double().eval()

        def forward(self, x):
            return self.head(self.encoder(self.patches(x).flatten(2).transpose(1, 2)).mean(1))

    tokens = explain(method, Encoder(), random_images(0)).extras["tokens"]
    assert tokens.shape == (2, 3, 3)
    assert tokens.std() > 0


class Patched(nn.Module):
    """Patches of 2 x 2 pixels as tokens, something done to them, and a linear head on their mean."""

    def __init__(self, between):
        super().__init__()
        self.patches, self.head = nn.Conv2d(2, 8, 2, 2), nn.Linear(8, 3)
        self.between = between
        with torch.no_grad():
            for seed, parameter in enumerate(self.parameters()):
                parameter.copy_(random(*parameter.shape, seed=seed))
        self.double().eval()

    def forward(self, x):
        return self.head(self.between(self.patches(x).flatten(2).transpose(1, 2)).mean(1))


class Lambda(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def attend(q, k, v):
    return (q @ k.transpose(-2, -1)).softmax(-1) @ v


def merged(t):
    t = attend(t, t, t)
    return attend(t[:, ::2], t[:, ::2], t[:, ::2])


def talking_heads(t):
    weights = (t @ t.transpose(1, 2)).softmax(-1)
    return (weights + 0.5 * weights.transpose(1, 2)) @ t


REFUSED = {
    "the model has none: neither fused attention nor a softmax": Lambda(torch.relu),
    "3 queries look at 9 keys": Lambda(lambda t: attend(t[:, :3], t, t)),
    r"attention \(6, 3, 3\) for 2 images runs in windows": Lambda(
        lambda t: attend(*3 * [t.reshape(-1, 3, 8)]).reshape(t.shape)
    ),
    "tokens are merged or dropped on the way: there are 5, 9": Lambda(merged),
    "attention runs over 8 places, which are no tokens, such as channels": nn.Sequential(
        nn.Linear(8, 8), Lambda(lambda t: attend(*3 * [t.transpose(1, 2)]).transpose(1, 2))
    ),
    r"a softmax \(2, 9, 9\) is mixed further": nn.Sequential(
        Lambda(lambda t: attend(t, t, t)), Lambda(talking_heads)
    ),
    "dropout of 0.1 on the attention is active": Lambda(
        lambda t: F.dropout((t @ t.transpose(1, 2)).softmax(-1), 0.1) @ t
    ),
    "dropout of 0.2 on the attention is active": Lambda(
        lambda t: F.scaled_dot_product_attention(t, t, t, dropout_p=0.2)
    ),
}


@both
@pytest.mark.parametrize("message", REFUSED)
def test_what_is_no_self_attention_over_all_patches_is_refused(method, message):
    with pytest.raises(ModelError, match=message):
        explain(method, Patched(REFUSED[message]), random_images(0))


@both
def test_tokens_on_no_grid_are_refused(method):
    net = Patched(Lambda(lambda t: attend(t, t, t)))
    net.patches = nn.Conv2d(2, 8, (1, 2)).double()  # 6 x 5 patches that overlap
    with pytest.raises(ModelError, match="30 tokens, some of them left out, fit no grid"):
        explain(method, net, random_images(0))


@both
def test_a_score_that_attention_has_no_part_in_is_refused(method):
    net = Patched(Lambda(lambda t: attend(t, t, t).detach() * 0 + t))
    with pytest.raises(ModelError, match="the score does not depend on any of it"):
        explain(method, net, random_images(0))


@both
def test_dropout_in_training_mode_is_refused_by_name_and_eval_is_not(method):
    net = TinyViT(0, "multi_head")
    for block in net.blocks:
        block.attention.dropout = 0.3
    explain(method, net, random_images(0))
    with pytest.raises(ModelError, match=r"dropout of 0\.3 on the attention is active.*call model\.eval\(\)"):
        explain(method, net.train(), random_images(0))


@both
def test_numbers_that_are_no_images_are_refused(method, unchecked):
    net = nn.Linear(4, 3).double()
    with pytest.raises(ShapeError, match="images"):
        explain(method, net, random(2, 4), baseline=cp.baselines.Black())


@both
def test_a_layer_is_refused(method):
    with pytest.raises(InputError, match="explains the input only, but layer is 'last'"):
        explain(method, SmallNet(0), random_images(0), layer="last")


def test_rollout_checks_its_settings():
    with pytest.raises(InputError, match="head must be one of mean, max, min, got 'sum'"):
        AttentionRollout(head="sum")
    with pytest.raises(InputError, match=r"residual must be at least 0 and at most 1, got 1\.5"):
        AttentionRollout(residual=1.5)
    with pytest.raises(InputError, match="discard must be"):
        AttentionRollout(discard=1.0)
