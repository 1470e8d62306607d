"""Against pytorch-grad-cam: equal before its scaling, and what its scaling does.

Its call returns a picture in [0, 1], float32, of the size of the input. `get_cam_image`, a public step of it, returns the map before
that; activations and gradients are those that the call has just recorded.
"""

import pytest
import torch
from torch.nn import functional as F

import counterpoint as cp
from closeness import assert_equal_within
from laid_out import timm_net, tiny_timm_vit, torchvision_net
from networks import CUTS, SmallNet, random_images, seeded_resnet18

peer = pytest.importorskip("pytorch_grad_cam")
targets = pytest.importorskip("pytorch_grad_cam.utils.model_targets")
pytestmark = pytest.mark.golden

# No map of theirs has a baseline, and none of these methods uses ours.
BLACK = cp.baselines.Black()
# Theirs, and ours before the ReLU that their call applies afterwards.
METHODS = [
    ("GradCAM", cp.methods.GradCAM(relu=False)),
    ("HiResCAM", cp.methods.HiResCAM()),
    ("LayerCAM", cp.methods.LayerCAM()),
]
TARGET = 2


def their_maps(name, net, layer, images, reshape=None):
    """The map before scaling, (batch, height, width), and what the call returns."""
    module = net.get_submodule(layer)
    wanted = [targets.ClassifierOutputTarget(TARGET)] * len(images)
    with getattr(peer, name)(net, [module], reshape_transform=reshape) as cam:
        picture = cam(images, wanted)
        seen = cam.activations_and_grads
        unscaled = cam.get_cam_image(
            images, module, wanted, seen.activations[0].numpy(), seen.gradients[0].numpy(), False
        )
    return torch.from_numpy(unscaled), torch.from_numpy(picture)


def our_map(method, net, layer, images):
    comparison = cp.compare(cp.logit(net, TARGET), images, baseline=BLACK, layer=layer)
    return comparison.explain(method).values.sum(1)


def stretched(maps):
    """Each map from its smallest value, which becomes 0, to its largest, which becomes 1 but for their epsilon."""
    maps = maps - maps.amin((1, 2), keepdim=True)
    return maps / (1e-7 + maps.amax((1, 2), keepdim=True))


@pytest.mark.parametrize(("kind", "layer"), [cut for cut in CUTS if cut != ("inplace", "stem")])
@pytest.mark.parametrize(("name", "method"), METHODS)
def test_maps_are_equal_before_scaling(kind, layer, name, method):
    net, images = SmallNet(5, kind), random_images(6)
    theirs, _ = their_maps(name, net, layer, images)
    assert_equal_within(our_map(method, net, layer, images), theirs, 1e-13)


@pytest.mark.parametrize(("name", "method"), METHODS)
@pytest.mark.parametrize("size_of_score", [1.0, 1e-7])
def test_their_call_drops_negative_places_and_stretches_each_map_to_0_and_1(name, method, size_of_score):
    net, images = SmallNet(5, "smooth"), random_images(6)
    with torch.no_grad():
        net.head.weight *= size_of_score
    _, picture = their_maps(name, net, "stem", images)
    ours = our_map(method, net, "stem", images)
    assert (ours < 0).any()
    # Twice: each layer's map, then the mean over layers, here one. Features are as large as the image, so nothing is resized.
    expected = stretched(stretched(ours.relu()))
    torch.testing.assert_close(picture, expected.float(), rtol=0, atol=1e-6)
    # The strongest place is 1 in every picture, also where the map is 1e-7 as strong: the second stretch undoes the epsilon of the first.
    assert (picture.amax((1, 2)) - 1).abs().max() <= 1e-5


def test_grad_cams_own_relu_is_the_one_of_their_call():
    net, images = SmallNet(5, "smooth"), random_images(6)
    theirs, _ = their_maps("GradCAM", net, "stem", images)
    assert_equal_within(our_map(cp.methods.GradCAM(), net, "stem", images), theirs.relu(), 1e-13)


def test_behind_an_in_place_activation_theirs_mixes_two_layers():
    net, twin, images = SmallNet(5, "inplace"), SmallNet(5, "plain"), random_images(6)
    theirs, _ = their_maps("GradCAM", net, "stem", images)
    before = cp.compare(cp.logit(twin, TARGET), images, baseline=BLACK, layer="stem")
    after = before.at("activation")
    # It keeps the convolution's output, which the ReLU then overwrites, but records the gradient before the ReLU.
    weights = before.gradients(before.end).mean((2, 3), keepdim=True)
    assert_equal_within((weights * after.end).sum(1), theirs, 1e-13)
    # Ours explains the convolution, in place or not.
    ours = our_map(cp.methods.GradCAM(relu=False), net, "stem", images)
    expected, _ = their_maps("GradCAM", twin, "stem", images)
    assert_equal_within(ours, expected, 1e-13)
    assert (ours - theirs).abs().max() > theirs.abs().max()


def patches(before, rows, columns):
    """Their documented `reshape_transform` for tokens: those before the grid dropped, the rest as (batch, channel, rows, columns)."""

    def reshape(tensor):
        grid = tensor[:, before:].reshape(len(tensor), rows, columns, tensor.shape[2])
        return grid.transpose(2, 3).transpose(1, 2)

    return reshape


def channels_first(tensor):
    """The same for a layer of Swin that has its channels last."""
    return tensor.transpose(2, 3).transpose(1, 2)


def our_heat(method, net, layer, images):
    """The channel sum on the layer's own grid, where a skip connection passes it by too: theirs is an intervention as well."""
    comparison = cp.compare(cp.logit(net, TARGET), images, baseline=BLACK, layer=layer, bypass="intervene")
    attribution = comparison.explain(method)
    (maps,) = attribution.layout.maps(attribution.values)
    return maps.sum(1)


@pytest.mark.parametrize("layer", ["blocks.0", "blocks.1", "blocks.2.norm1"])
@pytest.mark.parametrize(("name", "method"), METHODS)
def test_maps_of_a_vision_transformer_are_equal(layer, name, method):
    # The last is the layer that their documentation recommends: passed by, but with a gradient at the patches.
    net, images = tiny_timm_vit(reg_tokens=2).double(), random_images(8, channels=3, size=32)
    theirs, _ = their_maps(name, net, layer, images, patches(3, 4, 4))
    # Attention is almost even with random weights, and the gradient at a patch what is left of large parts that cancel.
    assert_equal_within(our_heat(method, net, layer, images), theirs, 1e-10)


@pytest.mark.parametrize("layer", ["layers.0", "layers.1.blocks.0.norm1", "norm"])
@pytest.mark.parametrize(("name", "method"), METHODS)
def test_maps_of_swin_are_equal(layer, name, method):
    options = {"img_size": 64, "window_size": 4, "depths": (1, 1), "embed_dim": 8, "num_heads": (1, 2)}
    net = timm_net("swin_tiny_patch4_window7_224", num_classes=5, **options).double()
    images = random_images(8, channels=3, size=64)
    theirs, _ = their_maps(name, net, layer, images, channels_first)
    assert_equal_within(our_heat(method, net, layer, images), theirs, 1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "method"), METHODS)
def test_maps_of_torchvisions_transformers_are_equal(name, method):
    vit = torchvision_net("vit_b_16", image_size=48, num_classes=5).double()
    images = random_images(8, channels=3, size=48)
    layer = "encoder.layers.encoder_layer_10"
    theirs, _ = their_maps(name, vit, layer, images, patches(1, 3, 3))
    # Even more so here: values of 1e-8 are left of parts that are of the size of 1, to 6e-9 of the largest.
    assert_equal_within(our_heat(method, vit, layer, images), theirs, 1e-7)
    swin, images = torchvision_net("swin_t", num_classes=5).double(), random_images(8, channels=3, size=64)
    theirs, _ = their_maps(name, swin, "features.5.2", images, channels_first)
    assert_equal_within(our_heat(method, swin, "features.5.2", images), theirs, 1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("layer", ["layer3", "layer4"])
@pytest.mark.parametrize(("name", "method"), METHODS)
def test_maps_and_pictures_on_a_resnet(layer, name, method):
    net, images = seeded_resnet18(7), random_images(8, channels=3, size=64)
    theirs, picture = their_maps(name, net, layer, images)
    ours = our_map(method, net, layer, images)
    assert_equal_within(ours, theirs, 1e-12)
    # OpenCV's resize interpolates between the centres of cells, as torch does, without keeping the sum; `heatmap` keeps it.
    large = F.interpolate(
        stretched(ours.relu())[:, None], images.shape[2:], mode="bilinear", align_corners=False
    )
    torch.testing.assert_close(picture, stretched(large[:, 0]).float(), rtol=0, atol=1e-5)
