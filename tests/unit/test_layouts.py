"""How features lie on the image: the kinds, and which a layer has."""

import pytest
import torch
from torch import nn

from counterpoint.errors import InputError
from counterpoint.layers import run_once
from counterpoint.layout_finding import NoLayout, find_layout
from counterpoint.layouts import ChannelsLast, Joint, Maps, Part, Tokens, layout_from, on_maps
from counterpoint.token_grids import statements, tokens_layout
from laid_out import (
    TINY_HF,
    Laid,
    hugging_face_net,
    timm_net,
    tiny_maxvit,
    tiny_timm_vit,
    torchvision_net,
)

JOINED = Joint((Part("a", Tokens(1, 2, 3), (7, 4)), Part("b", Maps(), (5, 2, 2))))
KINDS = [
    (Maps(), (4, 2, 3), "maps 2 x 3"),
    (ChannelsLast(), (2, 3, 4), "maps 2 x 3, channels last"),
    (Tokens(0, 2, 3), (6, 4), "tokens 2 x 3"),
    (Tokens(2, 2, 3), (8, 4), "tokens 2 + 2 x 3"),
    (JOINED, (48,), "tokens 1 + 2 x 3; maps 2 x 2"),
]


def numbers(*shape):
    return torch.arange(float(torch.Size(shape).numel())).view(shape)


@pytest.mark.parametrize(("layout", "shape", "text"), KINDS)
def test_features_made_of_maps_are_the_features_but_for_what_lies_nowhere(layout, shape, text):
    z = numbers(2, *shape) + 1
    back = layout.features(layout.maps(z))
    assert back.shape == z.shape
    assert torch.equal(back[back != 0], z[back != 0])
    assert int((back == 0).sum()) == z.numel() - sum(m.numel() for m in layout.maps(z))
    assert layout.text(shape) == text
    assert layout_from(layout.as_dict()) == layout


def test_every_place_is_where_it_was():
    z = numbers(1, 2, 3, 4)  # (batch, channel, height, width)
    assert torch.equal(ChannelsLast().maps(z.movedim(1, -1))[0], z)
    tokens = torch.cat([torch.full((1, 2, 2), -1.0), z.flatten(2).transpose(1, 2)], 1)
    assert torch.equal(Tokens(2, 3, 4).maps(tokens)[0], z)
    joined = torch.cat([tokens.flatten(1), z.flatten(1)], 1)
    layout = Joint((Part("a", Tokens(2, 3, 4), (14, 2)), Part("b", Maps(), (2, 3, 4))))
    assert all(torch.equal(each, z) for each in layout.maps(joined))


def test_work_is_done_on_each_part_and_leaves_zero_where_there_is_no_place():
    z = torch.ones(1, 48)
    means = on_maps(JOINED, lambda m: m.sum((2, 3), keepdim=True), z)
    tokens, maps = JOINED.split(means)
    assert torch.equal(tokens[0, 0], torch.zeros(4))
    assert torch.equal(tokens[0, 1:], torch.full((6, 4), 6.0))
    assert torch.equal(maps, torch.full((1, 5, 2, 2), 4.0))


def test_what_is_no_layout_is_refused():
    with pytest.raises(InputError, match="unknown layout 'rings'"):
        layout_from({"kind": "rings"})
    with pytest.raises(InputError, match="a row and a column at least"):
        Tokens(1, 0, 3)


@pytest.mark.parametrize(
    ("kind", "layout"), [("maps", Maps()), ("channels_last", ChannelsLast()), ("tokens", Tokens(1, 3, 4))]
)
def test_the_layer_itself_says_where_its_channels_are(kind, layout):
    # (batch, 3, 4, 4) with the channels last fits the image as (3 channels, 4 x 4) as well.
    assert find_layout(Laid(kind), "laid", torch.rand(1, 2, 6, 8).double()) == layout


class Square(nn.Module):
    """Features (batch, 4, 4, 4) on an image of 4 x 4: their shape says nothing. `plain` is between two layers that may."""

    def __init__(self, before: nn.Module, after: nn.Module) -> None:
        super().__init__()
        self.before, self.plain, self.after = before, nn.Identity(), after

    def forward(self, x):
        return self.after(self.plain(self.before(x)) + 0).flatten(1)


@pytest.mark.parametrize(
    ("before", "after", "layout"),
    [
        (nn.Identity(), nn.Conv2d(4, 4, 1), Maps()),
        (nn.Identity(), nn.LayerNorm(4), ChannelsLast()),
        (nn.Linear(4, 4), nn.Identity(), ChannelsLast()),
        (nn.Linear(4, 4), nn.Conv2d(4, 4, 1), Maps()),  # who reads counts for more than who made
        (nn.Identity(), nn.Identity(), Maps()),  # PyTorch's own order, where nothing tells
    ],
)
def test_where_the_shape_says_nothing_the_layers_around_decide(before, after, layout):
    assert find_layout(Square(before, after), "plain", torch.rand(1, 4, 4, 4)) == layout


def test_weights_of_attention_have_no_layout():
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.drop = nn.Identity()

        def forward(self, x):
            return self.drop(x.softmax(-1)).flatten(1)

    found = find_layout(Attention(), "drop", torch.rand(1, 4, 6, 6))
    assert isinstance(found, NoLayout)
    assert "weights of attention" in found


def test_what_has_not_the_proportions_of_the_image_has_no_layout():
    class Heads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.queries, self.volume = nn.Identity(), nn.Identity()

        def forward(self, x):
            tokens = x.flatten(2).transpose(1, 2).reshape(len(x), 64, 2, 2).transpose(1, 2)
            return (
                self.queries(tokens).sum((1, 2))
                + self.volume(x[None].movedim(0, 1)).sum((1, 2, 3, 4))[:, None]
            )

    net, images = Heads(), torch.rand(1, 4, 8, 8)
    assert "proportions of 8 x 8 pixels" in find_layout(net, "queries", images)  # (1, 2 heads, 64 tokens, 2)
    assert "which gives (1, 1, 4, 8, 8)" in find_layout(net, "volume", images)


@pytest.mark.parametrize(
    ("name", "options", "size", "expected"),
    [
        ("swin_t", {}, 64, {"features.0.0": "maps 16 x 16", "features.0": "maps 16 x 16, channels last",
         "features.1.0": "maps 16 x 16, channels last", "features.1.0.mlp.1": "maps 16 x 16, channels last",
         "features.7": "maps 2 x 2, channels last", "norm": "maps 2 x 2, channels last", "permute": "maps 2 x 2"}),
        ("convnext_tiny", {}, 64, {"features.0.1": "maps 16 x 16", "features.1": "maps 16 x 16",
         "features.1.0.block.1": "maps 16 x 16, channels last", "features.1.0.block.4": "maps 16 x 16, channels last",
         "features.1.0.block.6": "maps 16 x 16", "features": "maps 2 x 2"}),
        ("vit_b_16", {"image_size": 32, "num_classes": 5}, 32, {"conv_proj": "maps 2 x 2", "encoder.dropout": "tokens 1 + 2 x 2",
         "encoder.layers.encoder_layer_3.ln_1": "tokens 1 + 2 x 2", "encoder": "tokens 1 + 2 x 2"}),
    ],
)  # fmt: skip
@pytest.mark.slow
def test_layouts_in_torchvisions_transformers(name, options, size, expected):
    net = torchvision_net(name, **options)
    check(net, (size, size), expected)


def check(net, size, expected):
    images = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
    shapes = {each.name: each.output.shape[1:] for each in run_once(net, images)}
    found = {}
    for layer in expected:
        layout = find_layout(net, layer, images)
        found[layer] = None if isinstance(layout, NoLayout) else layout.text(shapes[layer])
    assert found == expected


def test_layouts_in_maxvit_whose_windows_have_none():
    block = "blocks.1.layers.0.layers"
    check(tiny_maxvit(), (64, 64), {
        "stem": "maps 32 x 32", f"{block}.MBconv": "maps 8 x 8", f"{block}.window_attention": "maps 8 x 8",
        # 16 windows of 4 tokens, and in between (4, 16 x 16), which has the shape of maps
        f"{block}.window_attention.partition_op": None, f"{block}.window_attention.attn_layer.0": None,
        f"{block}.grid_attention.partition_op": None, f"{block}.grid_attention.departition_swap": None,
        f"{block}.grid_attention.departition_op": "maps 8 x 8", "blocks.1": "maps 8 x 8",
    })  # fmt: skip


def test_layouts_in_timm():
    check(tiny_timm_vit(), (32, 32), {
        "patch_embed.proj": "maps 4 x 4", "patch_embed": "tokens 4 x 4", "blocks.0": "tokens 1 + 4 x 4",
        "blocks.1.attn.q_norm": None, "blocks.1.mlp.act": "tokens 1 + 4 x 4", "norm": "tokens 1 + 4 x 4", "fc_norm": None,
    })  # fmt: skip
    check(tiny_timm_vit(reg_tokens=4), (32, 32), {"blocks.0": "tokens 5 + 4 x 4"})
    check(tiny_timm_vit(img_size=(32, 48)), (32, 48), {"blocks.0": "tokens 1 + 4 x 6"})
    check(tiny_timm_vit(class_token=False, global_pool="avg"), (32, 32), {"blocks.0": "tokens 4 x 4"})
    deit = timm_net("deit_tiny_distilled_patch16_224", img_size=32, depth=1, embed_dim=12, num_heads=2)
    check(deit, (32, 32), {"blocks.0": "tokens 2 + 2 x 2"})
    swin = timm_net(
        "swin_tiny_patch4_window7_224", img_size=64, window_size=4, depths=(1, 1), embed_dim=8, num_heads=(1, 2), num_classes=5
    )  # fmt: skip
    check(swin, (64, 64), {
        "patch_embed": "maps 16 x 16, channels last", "layers.0": "maps 16 x 16, channels last",
        "layers.1.blocks.0.attn": None, "layers.1": "maps 8 x 8, channels last", "norm": "maps 8 x 8, channels last",
    })  # fmt: skip


@pytest.mark.slow
def test_layouts_in_timms_convnext_and_maxvit():
    check(timm_net("convnext_atto", num_classes=5), (64, 64), {
        "stem": "maps 16 x 16", "stages.1.blocks.0.conv_dw": "maps 8 x 8", "stages.3": "maps 2 x 2", "norm_pre": "maps 2 x 2"
    })  # fmt: skip
    maxvit = timm_net("maxvit_nano_rw_256", img_size=64, num_classes=5)
    check(maxvit, (64, 64), {
        "stem": "maps 32 x 32", "stages.0": "maps 16 x 16", "stages.0.blocks.0.attn_block": "maps 16 x 16, channels last",
        "stages.0.blocks.0.attn_grid": "maps 16 x 16, channels last", "stages.3": "maps 2 x 2", "norm": "maps 2 x 2",
    })  # fmt: skip


def test_layouts_in_hugging_face():
    for name, options, before in [
        ("ViT", {}, 1), ("DeiT", {}, 2), ("Dinov2WithRegisters", {"num_register_tokens": 4}, 5), ("Dinov2", {}, 1)
    ]:  # fmt: skip
        net = hugging_face_net(name, image_size=32, **TINY_HF, **options)
        layer = next(
            n for n in dict(net.model.named_modules()) if n.endswith(("layers.1", "encoder.layer.1"))
        )
        check(net, (32, 32), {layer: f"tokens {before} + 4 x 4"})
    swin = hugging_face_net(
        "Swin", image_size=64, patch_size=4, embed_dim=8, depths=[2, 2], num_heads=[1, 2], window_size=4
    )
    check(swin, (64, 64), {
        "swin.embeddings.norm": "tokens 16 x 16", "swin.encoder.layers.0.blocks.1.mlp": "tokens 16 x 16",
        "swin.encoder.layers.0.blocks.0.attention.q_proj": None, "swin.encoder.layers.0.downsample": "tokens 8 x 8",
        "swin.layernorm": "tokens 8 x 8", "swin.pooler": None,
    })  # fmt: skip
    # 36 is no whole number of patches: 5 x 5 after padding, 3 x 3 after merging
    check(swin, (36, 36), {"swin.embeddings.norm": "tokens 9 x 9", "swin.layernorm": "tokens 5 x 5"})


def test_tokens_lie_as_the_model_states_and_not_as_few_extra_ones_would_have_it():
    # 9 tokens on 48 x 48 pixels are 3 x 3 patches of 16; this model has 5 registers before 2 x 2 patches of 24.
    class Registers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patch_size = 24
            self.cls_token, self.register_tokens = (
                nn.Parameter(torch.zeros(1, 1, 4)),
                nn.Parameter(torch.zeros(1, 4, 4)),
            )

    size = (48, 48)
    assert tokens_layout((), 9, size) == Tokens(0, 3, 3)
    assert tokens_layout(statements(Registers(), size), 9, size) == Tokens(5, 2, 2)
    assert tokens_layout(statements(Registers(), size), 4, size) == Tokens(0, 2, 2)
    # What it states does not fit: tiles, but without tokens before them.
    assert tokens_layout(statements(Registers(), size), 16, size) == Tokens(0, 4, 4)
    assert tokens_layout(statements(Registers(), size), 17, size) is None
    assert tokens_layout((), 17, size) == Tokens(1, 4, 4)


def test_a_joint_layer_has_the_layouts_of_its_parts():
    from laid_out import Pyramid

    net, images = Pyramid(), torch.rand(1, 2, 6, 8).double()
    assert find_layout(net, "p1+p2", images) == Joint(
        (Part("p1", Maps(), (4, 6, 8)), Part("p2", Maps(), (3, 3, 4)))
    )
    assert "of which 'head1' has none" in find_layout(net, "p1+head1", images)
