"""The remaining class activation maps against pytorch-grad-cam and torch-cam: equal where definitions agree, and what their epsilons,
their ways of enlarging and their ablation values do where they do not.

Features of every layer here are as large as the image, unless a test says otherwise: nothing is enlarged.
"""

import pytest
import torch
from torch.nn import functional as F

import counterpoint as cp
from closeness import assert_equal_within, largest_difference
from networks import SmallNet, random_images, seeded_resnet18

grad_cam = pytest.importorskip("pytorch_grad_cam")
targets = pytest.importorskip("pytorch_grad_cam.utils.model_targets")
torch_cam = pytest.importorskip("torchcam.methods")
pytestmark = pytest.mark.golden

# What theirs put in the place of what they mask is 0, in the space that the network takes: black, where it takes pixels.
BLACK = cp.baselines.Black()
TARGET = 2


@pytest.fixture(autouse=True)
def no_progress_bars(monkeypatch):
    """pytorch-grad-cam prints a bar for each image."""
    for name in ("score_cam", "ablation_cam"):
        monkeypatch.setattr(f"pytorch_grad_cam.{name}.tqdm.tqdm", lambda each: each)


def grad_cams(name, net, layer, images):
    """The map before their ReLU and scaling, (batch, height, width)."""
    module = net.get_submodule(layer)
    wanted = [targets.ClassifierOutputTarget(TARGET)] * len(images)
    with getattr(grad_cam, name)(net, [module]) as cam:
        cam(images, wanted)
        seen = cam.activations_and_grads
        features = seen.activations[0].numpy()
        gradients = seen.gradients[0].numpy() if seen.gradients else None
        found = cam.get_cam_image(images, module, wanted, features, gradients, False)
    return torch.from_numpy(found)


def torch_cams(name, net, layer, images):
    """The map after their ReLU and before scaling, (batch, height, width)."""
    with getattr(torch_cam, name)(net, layer) as extractor:
        (found,) = extractor(TARGET, net(images), normalized=False)
    return found.detach()


def asked(net, layer, images):
    return cp.compare(cp.logit(net, TARGET), images, baseline=BLACK, layer=layer)


def our_map(method, net, layer, images):
    return asked(net, layer, images).explain(method).values.sum(1)


def with_epsilon(comparison, epsilon):
    """Grad-CAM++ of ours with an epsilon in the denominator, where theirs have one."""
    g, a = comparison.gradients(comparison.end), comparison.end
    alpha = g**2 / (2 * g**2 + a.sum((2, 3), keepdim=True) * g**3 + epsilon)
    return ((alpha * g.relu()).sum((2, 3), keepdim=True) * a).sum(1)


@pytest.mark.parametrize(("kind", "layer"), [("plain", "activation"), ("plain", "last"), ("smooth", "stem")])
def test_grad_cam_plus_plus_but_for_the_epsilon_in_pytorch_grad_cams(kind, layer):
    net, images = SmallNet(5, kind), random_images(6)
    theirs = grad_cams("GradCAMPlusPlus", net, layer, images)
    assert_equal_within(with_epsilon(asked(net, layer, images), 1e-6), theirs, 1e-13)
    ours = our_map(cp.methods.GradCAMPlusPlus(relu=False), net, layer, images)
    # Gradients of 0.01 here; their 1e-6 stands beside squares of them.
    assert_equal_within(ours, theirs, 0.03)


def test_pytorch_grad_cams_epsilon_puts_out_the_map_of_a_score_in_small_units():
    net, images = SmallNet(5, "plain"), random_images(6)
    with torch.no_grad():
        net.head.weight *= 1e-4
    ours = our_map(cp.methods.GradCAMPlusPlus(relu=False), net, "activation", images)
    theirs = grad_cams("GradCAMPlusPlus", net, "activation", images)
    assert 0.5 < largest_difference(theirs, ours) <= 1


@pytest.mark.parametrize(("kind", "layer"), [("plain", "last"), ("smooth", "stem"), ("smooth", "last")])
def test_torch_cams_grad_cam_plus_plus_forgets_its_denominator(kind, layer):
    net, images = SmallNet(4, kind), random_images(6)
    theirs = torch_cams("GradCAMpp", net, layer, images)
    # It divides a copy: boolean indexing makes one. What is left is the sum of cubed positive gradients.
    comparison = asked(net, layer, images)
    g, a = comparison.gradients(comparison.end), comparison.end
    assert_equal_within((g.relu() ** 3).sum((2, 3), keepdim=True).mul(a).sum(1).relu(), theirs, 1e-13)
    ours = our_map(cp.methods.GradCAMPlusPlus(), net, layer, images)
    scale = (ours * theirs).sum() / theirs.square().sum()
    assert largest_difference(scale * theirs, ours) > 0.05  # nor is it a matter of scale


@pytest.mark.parametrize("layer", ["activation", "last"])
def test_xgrad_cam_but_for_the_epsilons_of_both(layer):
    net, images = SmallNet(1, "plain"), random_images(6)
    signed = our_map(cp.methods.XGradCAM(relu=False), net, layer, images)
    # Beside sums of features of about 10 their 1e-7 and 1e-8 are little.
    assert_equal_within(signed, grad_cams("XGradCAM", net, layer, images), 1e-7)
    assert_equal_within(signed.relu(), torch_cams("XGradCAM", net, layer, images), 1e-8)


@pytest.mark.parametrize(("kind", "layer"), [("plain", "last"), ("smooth", "stem"), ("smooth", "last")])
def test_score_cam_but_for_the_epsilon_in_their_masks(kind, layer):
    net, images = SmallNet(5, kind), random_images(6)
    ours = our_map(cp.methods.ScoreCAM(relu=False), net, layer, images)
    # pytorch-grad-cam takes the softmax in float32.
    assert_equal_within(ours, grad_cams("ScoreCAM", net, layer, images), 1e-6)
    assert_equal_within(ours.relu(), torch_cams("ScoreCAM", net, layer, images), 1e-6)


def test_a_dead_channel_has_no_part_in_our_softmax_and_one_in_theirs():
    net, images = SmallNet(5, "plain"), random_images(6)
    with torch.no_grad():  # channel 3 is 0 everywhere after the ReLU
        net.stem.weight[3] = 0
        net.stem.bias[3] = -1
    attribution = asked(net, "activation", images).explain(cp.methods.ScoreCAM(relu=False))
    assert attribution.extras["left_out"].tolist() == [1, 1]
    ours = attribution.values.sum(1)
    for theirs in (
        grad_cams("ScoreCAM", net, "activation", images),
        torch_cams("ScoreCAM", net, "activation", images),
    ):
        # Theirs: the channel, which masks all, takes its share of the softmax from the others: the same map, weaker.
        factor = (theirs.relu().amax((1, 2)) / ours.relu().amax((1, 2))).view(-1, 1, 1)
        assert (factor < 0.95).all()
        assert_equal_within(factor * ours.relu(), theirs.relu(), 1e-6)


def test_ablation_cam_is_the_drop_as_a_share_of_the_score():
    net, images = SmallNet(5, "plain"), random_images(6)
    comparison = asked(net, "activation", images)
    theirs = grad_cams("AblationCAM", net, "activation", images)
    ours = comparison.explain(cp.methods.AblationCAM(relu=False)).values.sum(1)
    # Theirs divides by the score, ours by its size, so that a negative one turns nothing around; scores are float32 in theirs.
    assert_equal_within(comparison.score.sign().view(-1, 1, 1) * ours, theirs, 1e-6)


def test_where_features_can_be_negative_pytorch_grad_cam_ablates_to_minus_ten_million():
    net, images = SmallNet(5, "smooth"), random_images(6)
    # A GELU follows the first layer, which takes minus ten million as it takes the 0 that is published.
    comparison = asked(net, "stem", images)
    ours = comparison.explain(cp.methods.AblationCAM(relu=False)).values.sum(1)
    ours = comparison.score.sign().view(-1, 1, 1) * ours
    assert_equal_within(ours, grad_cams("AblationCAM", net, "stem", images), 1e-6)
    # A linear layer follows the last one, whose weights are then those of ten million.
    assert asked(net, "last", images).end.amin((1, 2, 3)).max() < 0
    huge = grad_cams("AblationCAM", net, "last", images)
    assert (
        huge.abs().max() > 1e5 * our_map(cp.methods.AblationCAM(relu=False), net, "last", images).abs().max()
    )


@pytest.mark.parametrize(("kind", "layer"), [("plain", "last"), ("smooth", "stem")])
def test_eigen_cam_centred_is_theirs_up_to_the_sign_that_it_leaves_open(kind, layer):
    net, images = SmallNet(5, kind), random_images(6)
    theirs = grad_cams("EigenCAM", net, layer, images)
    assert theirs.dtype == torch.float32
    ours = our_map(cp.methods.EigenCAM(centred=True), net, layer, images).float()
    sign = (ours * theirs).sum((1, 2), keepdim=True).sign()
    assert_equal_within(sign * ours, theirs, 1e-6)
    # The paper does not centre; that is another map.
    plain = our_map(cp.methods.EigenCAM(), net, layer, images).float()
    plain = (plain * theirs).sum((1, 2), keepdim=True).sign() * plain
    assert largest_difference(plain, theirs) > 0.1


def enlarged_as_theirs(comparison, *, corners, stretched_first):
    """Score-CAM's signed map with masks enlarged from corner to corner, or stretched before they are enlarged."""
    maps, size = comparison.end, comparison.inputs.shape[2:]
    if stretched_first:
        maps = stretched(maps)
    large = F.interpolate(maps, size, mode="bilinear", align_corners=corners)
    if not stretched_first:
        large = stretched(large)
    pixels, rows = comparison.at("input"), []
    for k in range(maps.shape[1]):
        rows.append(pixels.scores(pixels.blended(large[:, k], torch.arange(len(maps)))))
    return (torch.stack(rows, 1).softmax(1)[:, :, None, None] * comparison.end).sum(1)


def stretched(maps):
    low, high = maps.amin((2, 3), keepdim=True), maps.amax((2, 3), keepdim=True)
    return (maps - low) / (high - low + 1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("layer", ["layer3", "layer4"])
def test_gradient_weights_on_a_resnet(layer):
    net, images = seeded_resnet18(7), random_images(8, channels=3, size=64)
    comparison = asked(net, layer, images)
    theirs = grad_cams("GradCAMPlusPlus", net, layer, images)
    assert_equal_within(with_epsilon(comparison, 1e-6), theirs, 1e-12)
    signed = our_map(cp.methods.XGradCAM(relu=False), net, layer, images)
    assert_equal_within(signed, grad_cams("XGradCAM", net, layer, images), 1e-6)
    assert_equal_within(signed.relu(), torch_cams("XGradCAM", net, layer, images), 1e-7)


@pytest.mark.slow
def test_score_weights_on_a_resnet_and_how_each_enlarges_its_masks():
    net, images = seeded_resnet18(7), random_images(8, batch=1, channels=3, size=32)
    comparison = asked(net, "layer2", images)  # 4 x 4 cells
    ours = comparison.explain(cp.methods.ScoreCAM(relu=False)).values.sum(1)
    theirs = grad_cams("ScoreCAM", net, "layer2", images)
    # pytorch-grad-cam enlarges from corner to corner, ours and torch-cam between the centres of cells;
    expected = enlarged_as_theirs(comparison, corners=True, stretched_first=False)
    assert_equal_within(expected, theirs, 1e-6)
    assert largest_difference(ours, theirs) > 1e-3
    # torch-cam stretches before it enlarges, which is the same where an enlarged map keeps its smallest and largest values.
    theirs = torch_cams("ScoreCAM", net, "layer2", images)
    expected = enlarged_as_theirs(comparison, corners=False, stretched_first=True)
    assert_equal_within(expected.relu(), theirs, 1e-12)
    assert 1e-3 < largest_difference(ours.relu(), theirs) < 0.05


@pytest.mark.slow
def test_ablation_weights_on_a_resnet():
    net, images = seeded_resnet18(7), random_images(8, batch=1, channels=3, size=32)
    comparison = asked(net, "layer2", images)
    ours = comparison.explain(cp.methods.AblationCAM(relu=False)).values.sum(1)
    theirs = grad_cams("AblationCAM", net, "layer2", images)
    # A channel changes the score by a thousandth: what float32 leaves of it.
    assert_equal_within(comparison.score.sign().view(-1, 1, 1) * ours, theirs, 1e-4)
