"""Attention in the networks of torchvision, timm and Hugging Face, small and with random weights: seen, multiplied up, handed back, cut.

Held against what the libraries hand out themselves: Hugging Face's `output_attentions`, and timm's attention with and without its fused
function. None of them has rollout, gradient-weighted attention or AttnLRP.
"""

import pytest
import torch
from torch import nn

import counterpoint as cp
from counterpoint.activations import Attending
from counterpoint.errors import LayerError, ModelError
from counterpoint.methods import GAE, AttentionRollout, AttnLRP
from counterpoint.metrics import token_deletion_curve
from counterpoint.metrics.token_dropping import find_token_place

pytestmark = pytest.mark.golden

timm = pytest.importorskip("timm")
transformers = pytest.importorskip("transformers")
torchvision = pytest.importorskip("torchvision")

SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2, "num_classes": 3}


class Logits(nn.Module):
    """What a model of Hugging Face says of the classes."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(x).logits


def seeded(net):
    """The network with random weights of a common size, in float64."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.ndim > 1:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return net.double().eval()


def of_timm(*, fused=True, kind="vision_transformer.VisionTransformer", **settings):
    module, name = kind.split(".")
    with torch.random.fork_rng(devices=[]):
        net = getattr(getattr(timm.models, module), name)(**{**SMALL, **settings})
    for block in net.blocks:
        block.attn.fused_attn = fused
    return seeded(net)


def of_hugging_face(kind="ViT", attention="sdpa", head="ForImageClassification", **settings):
    plain = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "patch_size": 8,
    }
    config = getattr(transformers, f"{kind}Config")(
        image_size=32, num_labels=3, attn_implementation=attention, **(settings or plain)
    )
    with torch.random.fork_rng(devices=[]):
        return seeded(Logits(getattr(transformers, f"{kind}{head}")(config)))


def of_torchvision():
    with torch.random.fork_rng(devices=[]):
        return seeded(torchvision.models.VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=3))


def swin(library):
    with torch.random.fork_rng(devices=[]):
        if library == "torchvision":
            return seeded(
                torchvision.models.swin_transformer.SwinTransformer(
                    [2, 2], 8, [2, 2], [2, 2], [4, 4], num_classes=3
                )
            )
        if library == "timm":
            settings = {"embed_dim": 8, "depths": (2, 2), "num_heads": (2, 2), "window_size": 4}
            return seeded(timm.models.SwinTransformer(img_size=32, patch_size=2, num_classes=3, **settings))
    settings = {"embed_dim": 8, "depths": [2, 2], "num_heads": [2, 2], "window_size": 4, "patch_size": 2}
    return of_hugging_face("Swin", **settings)


TRANSFORMERS = {
    "torchvision": of_torchvision,
    "timm": of_timm,
    "timm, plain": lambda: of_timm(fused=False),
    "timm, mean": lambda: of_timm(class_token=False, global_pool="avg"),
    "timm, mean beside a class token": lambda: of_timm(global_pool="avg"),
    "timm, registers": lambda: of_timm(reg_tokens=4),
    "timm, DeiT distilled": lambda: of_timm(kind="deit.VisionTransformerDistilled"),
    "timm, BEiT": lambda: of_timm(kind="beit.Beit"),
    "Hugging Face": of_hugging_face,
    "Hugging Face, plain": lambda: of_hugging_face(attention="eager"),
    "Hugging Face, DeiT distilled": lambda: of_hugging_face("DeiT", head="ForImageClassificationWithTeacher"),
    "Hugging Face, DINOv2 with registers": lambda: of_hugging_face("Dinov2WithRegisters"),
}


def images(batch=2):
    return torch.rand(batch, 3, 32, 32, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def explained(net, method):
    return cp.compare(cp.logit(net, 1), images(), baseline=cp.baselines.Mean()).explain(method)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_probabilities_are_those_that_hugging_face_hands_out(attention):
    theirs = of_hugging_face(attention="eager").model(images(), output_attentions=True).attentions
    kept = []
    with Attending(lambda probabilities, slope: kept.append(probabilities) or probabilities) as run:
        out = of_hugging_face(attention=attention)(images().requires_grad_())
    out.sum().backward()
    assert len(run.calls) == 2
    for ours, their in zip(reversed(kept), theirs, strict=True):
        # Their softmax is taken in float32.
        torch.testing.assert_close(ours.double(), their.detach().double(), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "method", [AttentionRollout(), GAE(), AttnLRP(1e-12)], ids=["rollout", "gae", "attn_lrp"]
)
def test_fused_and_plain_attention_of_timm_have_one_explanation(method):
    fused, plain = (explained(of_timm(fused=fused), method) for fused in (True, False))
    largest = plain.values.abs().max().item()
    torch.testing.assert_close(fused.values, plain.values, rtol=0, atol=1e-9 * largest)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_every_transformer_is_explained(name):
    net = TRANSFORMERS[name]()
    for method in (AttentionRollout(), GAE()):
        tokens = explained(net, method).extras["tokens"]
        assert tokens.shape == (2, 4, 4)
        assert tokens.min() >= 0
        assert tokens.std() > 0
    attribution = explained(net, AttnLRP(gamma=0.1))
    assert attribution.values.isfinite().all()
    assert attribution.values.std() > 0


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_patches_can_be_taken_out_of_every_transformer(name):
    net = TRANSFORMERS[name]()
    saliency = torch.rand(2, 4, 4, generator=torch.Generator().manual_seed(2))
    curve = token_deletion_curve(cp.logit(net, 1), images(), saliency, steps=4)
    with torch.no_grad():
        torch.testing.assert_close(curve.scores[:, 0], net(images())[:, 1], rtol=1e-6, atol=1e-6)
    # Their heads read the mean over patches, DINOv2's beside the class token.
    pools = any(word in name for word in ("mean", "BEiT", "DINOv2"))
    assert curve.fractions.tolist() == [0, 0.25, 0.5, 0.75, 1][: 4 if pools else 5]
    assert curve.scores.std(1).min() > 1e-3


def test_the_place_is_behind_the_positions():
    def place(net):
        found = find_token_place(cp.logit(net, 1).bind(images()), images())
        return f"{found.at} of {found.name}", found.grid.before

    assert place(of_torchvision()) == ("input of encoder.dropout", 1)
    assert place(of_timm()) == ("input of pos_drop", 1)
    assert place(of_hugging_face()) == ("input of model.vit.embeddings.dropout", 1)


@pytest.mark.parametrize("library", ["torchvision", "timm", "Hugging Face"])
def test_swin_is_explained_by_attn_lrp_and_refused_by_the_others(library):
    net = swin(library)
    assert explained(net, AttnLRP(gamma=0.1)).values.isfinite().all()
    for method in (AttentionRollout(), GAE()):
        with pytest.raises(ModelError, match="runs in windows or groups"):
            explained(net, method)
    with pytest.raises(LayerError, match="patches cannot be taken out"):
        token_deletion_curve(cp.logit(net, 1), images(), torch.rand(2, 32, 32))


OTHERS = {
    "EVA, rotary positions": lambda: of_timm(kind="eva.Eva", use_rot_pos_emb=True),
    "root mean square norms, gated": lambda: of_timm(
        norm_layer=timm.layers.RmsNorm, mlp_layer=timm.layers.SwiGLU
    ),
    "attention pooling": lambda: of_timm(class_token=False, global_pool="map"),
    "CaiT": lambda: seeded(timm.models.Cait(**SMALL)),
    "XCiT": lambda: seeded(timm.models.Xcit(**{**SMALL, "embed_dim": 32})),
    "MaxViT": lambda: seeded(
        torchvision.models.MaxVit((32, 32), 8, 2, [8, 8], [1, 1], 4, 0.0, num_classes=3)
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_attn_lrp_has_rules_for_other_transformers(name):
    with torch.random.fork_rng(devices=[]):
        net = OTHERS[name]()
    attribution = explained(net, AttnLRP(gamma=0.1, convolution_gamma=0.1))
    assert attribution.values.isfinite().all()
    assert attribution.values.std() > 0


def test_other_attention_is_refused_by_rollout_with_its_reason():
    refused = {
        "1 queries look at 16 keys": of_timm(class_token=False, global_pool="map"),
        "is mixed further before it meets its values|1 queries look": seeded(timm.models.Cait(**SMALL)),
        "which are no tokens, such as channels|1 queries look": seeded(
            timm.models.Xcit(**{**SMALL, "embed_dim": 32})
        ),
    }
    for message, net in refused.items():
        with pytest.raises(ModelError, match=message):
            explained(net, AttentionRollout())
