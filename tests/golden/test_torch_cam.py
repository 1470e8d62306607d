"""Against torch-cam: equal without its normalization, and what its normalization, its ReLU and its hooks do."""

import pytest
import torch

import counterpoint as cp
from closeness import assert_equal_within
from networks import CUTS, SmallNet, random_images, seeded_resnet18

peer = pytest.importorskip("torchcam.methods")
pytestmark = pytest.mark.golden

# No map of theirs has a baseline, and none of these methods uses ours.
BLACK = cp.baselines.Black()
METHODS = [("GradCAM", cp.methods.GradCAM()), ("LayerCAM", cp.methods.LayerCAM())]
TARGET = 2


def their_map(name, net, layer, images, *, normalized=False):
    """(batch, height, width), of the size of the features: torch-cam leaves resizing to the caller."""
    with getattr(peer, name)(net, layer) as extractor:
        (found,) = extractor(TARGET, net(images), normalized=normalized)
    return found


def our_map(method, net, layer, images):
    comparison = cp.compare(cp.logit(net, TARGET), images, baseline=BLACK, layer=layer)
    return comparison.explain(method).values.sum(1)


@pytest.mark.parametrize(("kind", "layer"), [cut for cut in CUTS if cut != ("inplace", "stem")])
@pytest.mark.parametrize(("name", "method"), METHODS)
def test_maps_are_equal_without_normalization(kind, layer, name, method):
    net, images = SmallNet(5, kind), random_images(6)
    # Theirs drops negative places in both methods; ours in GradCAM only, which matters where features can be negative.
    ours = our_map(method, net, layer, images).relu()
    assert_equal_within(ours, their_map(name, net, layer, images), 1e-13)


def test_layer_cam_drops_negative_places_in_theirs_only():
    net, images = SmallNet(5, "smooth"), random_images(6)
    assert (our_map(cp.methods.LayerCAM(), net, "stem", images) < 0).any()
    assert their_map("LayerCAM", net, "stem", images).min() == 0


@pytest.mark.parametrize("layer", ["stem", "activation", "last"])
def test_layer_cam_has_no_negative_places_where_relus_surround_the_layer(layer):
    net, images = SmallNet(5, "plain"), random_images(6)
    theirs = their_map("LayerCAM", net, layer, images)
    assert_equal_within(our_map(cp.methods.LayerCAM(), net, layer, images), theirs, 1e-13)


@pytest.mark.parametrize(("name", "method"), METHODS)
def test_their_normalization_takes_each_map_from_0_to_1(name, method):
    net, images = SmallNet(5, "smooth"), random_images(6)
    ours = our_map(method, net, "stem", images).relu()
    ours = ours - ours.amin((1, 2), keepdim=True)
    ours = ours / (ours.amax((1, 2), keepdim=True) + 1e-8)
    assert_equal_within(ours, their_map(name, net, "stem", images, normalized=True), 1e-13)


def test_layer_cams_scaling_of_shallow_layers_is_what_theirs_does_when_it_fuses():
    net, images = SmallNet(5, "plain"), random_images(6)
    theirs = their_map("LayerCAM", net, "stem", images)
    # Fusing scales each map by tanh(2 M) and takes the largest; M must be at most 1. A single map it returns unscaled.
    share = theirs / theirs.amax((1, 2), keepdim=True)
    fused = peer.LayerCAM.fuse_cams([share, share])
    assert_equal_within(our_map(cp.methods.LayerCAM(gamma=2.0), net, "stem", images), fused, 1e-13)
    assert peer.LayerCAM.fuse_cams([share]) is share


def test_behind_an_in_place_activation_theirs_is_the_map_of_the_activation():
    net, twin, images = SmallNet(5, "inplace"), SmallNet(5, "plain"), random_images(6)
    theirs = their_map("GradCAM", net, "stem", images)
    # It keeps the convolution's output, which the ReLU then overwrites, and takes the gradient there.
    assert_equal_within(our_map(cp.methods.GradCAM(), twin, "activation", images), theirs, 1e-13)
    # Ours explains the convolution, in place or not.
    ours = our_map(cp.methods.GradCAM(), net, "stem", images)
    assert_equal_within(ours, their_map("GradCAM", twin, "stem", images), 1e-13)
    assert (ours - theirs).abs().max() > theirs.abs().max()


@pytest.mark.slow
@pytest.mark.parametrize("layer", ["layer3", "layer4"])
@pytest.mark.parametrize(("name", "method"), METHODS)
def test_maps_on_a_resnet(layer, name, method):
    net, images = seeded_resnet18(7), random_images(8, channels=3, size=64)
    theirs = their_map(name, net, layer, images)
    assert_equal_within(our_map(method, net, layer, images), theirs, 1e-12)
    assert theirs.dtype == torch.float64
