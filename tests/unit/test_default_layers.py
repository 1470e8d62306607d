"""The layer that class activation maps are taken at: a real cut, with maps, where the gradient reaches the places."""

import pytest
import torch
from torch import nn

import counterpoint as cp
from counterpoint.cut import open_cut
from counterpoint.default_layers import default_map_layer
from counterpoint.errors import LayerError
from counterpoint.everything_through import passed_by
from laid_out import (
    TINY_HF,
    hugging_face_net,
    timm_net,
    tiny_maxvit,
    tiny_timm_vit,
    torchvision_net,
)


def pictures(*size):
    return torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))


def check(net, size, expected):
    """The default is what it should be, a real cut, and its gradient is not zero at the places."""
    images = pictures(size, size)
    layer = default_map_layer(net, images)
    assert layer == expected
    comparison = cp.compare(cp.logit(net, 1), images, baseline=cp.baselines.Black(), layer=layer)
    assert comparison.cut.kind in ("split", "replaced")
    (maps,) = comparison.layout.maps(comparison.gradients(comparison.end))
    assert maps.shape[2] * maps.shape[3] > 1
    assert maps.any()
    assert comparison.explain(cp.methods.HiResCAM()).heatmap().any()


def small(activation=None):
    body = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), activation or nn.ReLU(inplace=True))
    return nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))


def test_it_is_the_outermost_block_that_ends_with_the_last_maps():
    assert default_map_layer(small(), pictures(8, 8)) == "0"
    assert default_map_layer(nn.Sequential(nn.Identity(), small()), pictures(8, 8)) == "1.0"
    # What only hands on the maps, and pooling to a fixed size, is no block.
    handed_on = nn.Sequential(
        small()[0], nn.Dropout(), nn.Identity(), nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(36, 2)
    )
    assert default_map_layer(handed_on.eval(), pictures(8, 8)) == "0"


def test_an_in_place_step_makes_another_value_of_the_same_memory():
    flat = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    )
    assert default_map_layer(flat, pictures(8, 8)) == "1"


def test_there_is_none_without_maps_and_the_message_says_what_to_do():
    with pytest.raises(LayerError, match=r"no layer returns maps .* name the layer"):
        default_map_layer(nn.Sequential(nn.Flatten(), nn.Linear(192, 2)), pictures(8, 8))
    with pytest.raises(LayerError, match=r"\(1, 5\), which are no images"):
        default_map_layer(nn.Linear(5, 2), torch.rand(1, 5))


def test_a_layer_that_is_passed_by_is_not_taken():
    class Skipped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.side, self.fc = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Linear(4, 2)

        def forward(self, x):
            z = self.first(x)
            return self.fc((z + self.side(z)).mean((2, 3)))

    assert default_map_layer(Skipped(), pictures(4, 4)) == "first"
    assert passed_by(Skipped(), pictures(4, 4)) == {"first": False, "side": True, "fc": False}


def test_frozen_weights_and_in_place_first_steps_are_no_obstacle():
    net = nn.Sequential(nn.ReLU(inplace=True), *small().requires_grad_(False))
    assert default_map_layer(net, pictures(8, 8)) == "1"
    images = pictures(8, 8)
    kept = images.clone()
    default_map_layer(net, images)
    torch.testing.assert_close(images, kept, rtol=0, atol=0)


def test_maps_of_classes_are_no_features():
    class Segments(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone, self.classifier = nn.Conv2d(3, 6, 3, stride=2), nn.Conv2d(6, 2, 1)

        def forward(self, x):
            return nn.functional.interpolate(self.classifier(self.backbone(x)), x.shape[2:])

    assert default_map_layer(Segments(), pictures(8, 8)) == "backbone"


def test_a_transformer_that_reads_its_class_token_is_taken_before_its_last_block():
    net, images = tiny_timm_vit(), pictures(32, 32)
    assert default_map_layer(net, images) == "blocks.1"
    # Why not later: after the last block and the last norm the gradient is zero at every patch,
    for later in ("blocks.2", "norm"):
        comparison = cp.compare(cp.logit(net, 1), images, baseline=cp.baselines.Black(), layer=later)
        gradient = comparison.gradients(comparison.end)
        assert gradient[:, 0].any()
        assert not gradient[:, 1:].any()
    # and inside the last block, where it is not, the skip connection passes by.
    with pytest.raises(LayerError, match=r"passed by.* nearest layer that is a real cut is 'blocks'"):
        open_cut(net, "blocks.2.norm1", images)
    inside = cp.compare(
        cp.logit(net, 1), images, baseline=cp.baselines.Black(), layer="blocks.2.norm1", bypass="intervene"
    )
    assert inside.gradients(inside.end)[:, 1:].any()


def test_a_transformer_that_averages_its_patches_is_taken_at_its_end():
    check(tiny_timm_vit(global_pool="avg"), 32, "blocks")
    check(tiny_timm_vit(global_pool="avg", fc_norm=False), 32, "norm")


def test_tiny_transformers_of_timm_and_hugging_face():
    check(tiny_timm_vit(reg_tokens=4), 32, "blocks.1")
    check(hugging_face_net("ViT", image_size=32, **TINY_HF), 32, "vit.layers.1")
    check(hugging_face_net("DeiT", image_size=32, **TINY_HF), 32, "deit.layers.1")
    registers = hugging_face_net("Dinov2WithRegisters", image_size=32, num_register_tokens=4, **TINY_HF)
    check(registers, 32, "dinov2_with_registers.layernorm")  # reads the mean of the patches too
    swin = hugging_face_net(
        "Swin", image_size=64, patch_size=4, embed_dim=8, depths=[1, 1], num_heads=[1, 2], window_size=4
    )
    check(swin, 64, "swin.layernorm")
    check(tiny_maxvit(), 64, "blocks.1")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options", "size", "expected"),
    [
        ("vgg11_bn", {}, 64, "features"),
        ("resnet18", {}, 64, "layer4"),
        ("resnext50_32x4d", {}, 64, "layer4"),
        ("squeezenet1_1", {}, 64, "classifier.2"),
        ("googlenet", {"init_weights": False}, 64, "inception5b"),
        ("inception_v3", {"init_weights": False}, 128, "Mixed_7c"),
        ("densenet121", {}, 64, "features"),
        ("mobilenet_v2", {}, 64, "features"),
        ("mobilenet_v3_small", {}, 64, "features"),
        ("mnasnet0_5", {}, 64, "layers"),
        ("shufflenet_v2_x0_5", {}, 64, "conv5"),
        ("efficientnet_b0", {}, 64, "features"),
        ("regnet_y_400mf", {}, 64, "trunk_output"),
        ("convnext_tiny", {}, 64, "features"),
        ("swin_t", {}, 64, "norm"),
        ("swin_v2_t", {}, 64, "norm"),
        ("vit_b_16", {"image_size": 32}, 32, "encoder.layers.encoder_layer_10"),
    ],
)
def test_networks_of_torchvision(name, options, size, expected):
    check(torchvision_net(name, num_classes=5, **options), size, expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options", "size", "expected"),
    [
        ("convnext_atto", {}, 64, "stages"),
        ("efficientnet_lite0", {}, 64, "bn2"),
        ("resnetv2_50", {}, 64, "norm"),
        ("pvt_v2_b0", {}, 64, "stages"),
        ("mobilevit_xxs", {}, 64, "final_conv"),
        ("edgenext_xx_small", {}, 64, "stages"),
        ("mixer_s32_224", {"img_size": 64}, 64, "norm"),
        ("deit_tiny_distilled_patch16_224", {"img_size": 64, "depth": 3}, 64, "blocks.1"),
        (
            "beit_base_patch16_224",
            {"img_size": 64, "depth": 2, "embed_dim": 48, "num_heads": 3},
            64,
            "blocks.1",
        ),
        (
            "swin_tiny_patch4_window7_224",
            {"img_size": 64, "window_size": 4, "depths": (1, 1, 1, 1)},
            64,
            "norm",
        ),
        ("maxvit_nano_rw_256", {"img_size": 64}, 64, "norm"),
    ],
)
def test_networks_of_timm(name, options, size, expected):
    check(timm_net(name, num_classes=5, **options), size, expected)
