"""Against captum: equal where definitions agree, and how they differ where they do not."""

import numpy as np
import pytest
from torch import nn

import counterpoint as cp
from closeness import assert_equal_within, largest_difference
from counterpoint.data.photographs import find_photographs
from counterpoint.errors import InputError, LayerError
from counterpoint.quadrature import Nodes
from networks import CUTS, SmallNet, random_images, seeded_resnet18

captum = pytest.importorskip("captum.attr")
pytestmark = pytest.mark.golden

MEAN = cp.baselines.Mean()


def relative_distance(one, other):
    return ((one - other).norm() / other.norm()).item()


def compared(kind, layer, *, baseline=MEAN, bypass="refuse"):
    """A small network, two images, and the comparison of class 2 at a layer."""
    net, images = SmallNet(5, kind), random_images(6)
    comparison = cp.compare(cp.logit(net, 2), images, baseline=baseline, layer=layer, bypass=bypass)
    return net, images, comparison


def gauss_legendre(n):
    return cp.methods.IntegratedGradients(rule=cp.quadrature.GaussLegendre(n))


def conductance(n):
    return cp.methods.IntegratedGradients(rule=cp.quadrature.Midpoint(n), path="induced")


@pytest.mark.parametrize("kind", SmallNet.KINDS)
@pytest.mark.parametrize("baseline", [cp.baselines.Black(), cp.baselines.Mean()])
def test_gauss_legendre_integrated_gradients_at_the_input(kind, baseline):
    net, images = SmallNet(1, kind), random_images(2)
    ours = cp.compare(cp.logit(net, 1), images, baseline=baseline).explain(gauss_legendre(20))
    theirs = captum.IntegratedGradients(net).attribute(images, baseline(images), target=1, n_steps=20)
    assert_equal_within(ours.values, theirs, 3e-8)  # they round the weights to float32, see below


@pytest.mark.slow
def test_gauss_legendre_integrated_gradients_on_a_photograph():
    classifier = cp.load_model("efficientnet_lite0")
    images = classifier.preprocess(find_photographs(["sample:chelsea"]))
    baseline = cp.baselines.Blur(sigma=10)
    comparison = cp.compare(cp.logit(classifier), images, baseline=baseline)
    ours = comparison.explain(gauss_legendre(50))
    theirs = captum.IntegratedGradients(classifier.module).attribute(
        images, baseline(images), target=comparison.bound.classes, n_steps=50, internal_batch_size=5
    )
    assert relative_distance(ours.values, theirs.float()) <= 1e-4


@pytest.mark.parametrize(("kind", "layer"), [cut for cut in CUTS if cut != ("inplace", "stem")])
@pytest.mark.parametrize("steps", [5, 20])
def test_gauss_legendre_integrated_gradients_at_a_convolution_and_after_it(kind, layer, steps):
    net, images, comparison = compared(kind, layer)
    ours = comparison.explain(gauss_legendre(steps))
    theirs = captum.LayerIntegratedGradients(net, net.get_submodule(layer)).attribute(
        images, MEAN(images), target=2, n_steps=steps, method="gausslegendre"
    )
    assert_equal_within(ours.values, theirs, 3e-8)


def test_what_is_left_is_that_captum_rounds_the_weights_of_the_rule_to_float32():
    net, images, comparison = compared("plain", "stem")
    theirs = captum.LayerIntegratedGradients(net, net.stem).attribute(
        images, MEAN(images), target=2, n_steps=20
    )
    nodes = cp.quadrature.GaussLegendre(20).nodes
    rounded = np.float32(nodes.weights).astype(float).tolist()
    difference = comparison.end - comparison.start
    gradient = sum(
        weight * comparison.gradients(comparison.start + place * difference)
        for place, weight in zip(nodes.places, rounded, strict=True)
    )
    assert_equal_within(difference * gradient, theirs, 1e-13)
    # Even where the score is linear after the layer their sum is then short by what the weights are, 4e-9 here.
    with pytest.raises(InputError, match="must sum to 1"):
        Nodes(nodes.places, tuple(rounded))


def test_before_an_in_place_activation_captum_raises_and_we_explain_what_an_ordinary_one_gives():
    net, images, comparison = compared("inplace", "stem")
    with pytest.raises(RuntimeError, match="leaf Variable"):
        captum.LayerIntegratedGradients(net, net.stem).attribute(images, MEAN(images), target=2, n_steps=20)
    twin = SmallNet(5, "plain")
    theirs = captum.LayerIntegratedGradients(twin, twin.stem).attribute(
        images, MEAN(images), target=2, n_steps=20
    )
    assert_equal_within(comparison.explain(gauss_legendre(20)).values, theirs, 3e-8)


def test_where_a_skip_connection_passes_the_layer_by_captum_answers_and_we_ask_first():
    with pytest.raises(LayerError, match="passed by"):
        compared("plain", "body")
    net, images, comparison = compared("plain", "body", bypass="intervene")
    theirs = captum.LayerIntegratedGradients(net, net.body).attribute(
        images, MEAN(images), target=2, n_steps=20
    )
    ours = comparison.explain(gauss_legendre(20))
    assert_equal_within(ours.values, theirs, 3e-8)
    assert ours.cut == "partial"
    # Both explain the change of the score when the layer alone is changed: not f(x) - f(x').
    whole = cp.compare(cp.logit(net, 2), images, baseline=MEAN)
    target = whole.score - whole.baseline_score
    assert ((ours.target - target).abs() / target.abs()).max() > 0.02


@pytest.mark.parametrize(("kind", "layer"), CUTS)
@pytest.mark.parametrize("steps", [4, 30])
def test_captums_conductance_takes_gradients_at_the_left_ends_of_pieces_between_gauss_legendre_nodes(
    kind, layer, steps
):
    net, images, comparison = compared(kind, layer)
    theirs = captum.LayerConductance(net, net.get_submodule(layer)).attribute(
        images, MEAN(images), target=2, n_steps=steps
    )
    b = MEAN(images)
    # n + 1 nodes, none of them 0 or 1: what lies before the first and after the last is missing.
    places = cp.quadrature.GaussLegendre(steps + 1).nodes.places
    features = [comparison.features(b + place * (images - b)) for place in places]
    replica = sum((features[k + 1] - features[k]) * comparison.gradients(features[k]) for k in range(steps))
    assert_equal_within(replica, theirs, 1e-12)


@pytest.mark.parametrize("kind", SmallNet.KINDS)
def test_conductance_before_a_linear_head_differs_by_the_ends_of_the_path_only(kind):
    net, images, comparison = compared(kind, "last")
    theirs = captum.LayerConductance(net, net.last)
    ours = comparison.explain(conductance(8))
    # One gradient everywhere: pieces that begin at 0 and end at 1 give it all, however few.
    whole = theirs.attribute(images, MEAN(images), target=2, n_steps=8, method="riemann_trapezoid")
    assert_equal_within(ours.values, whole, 1e-12)
    assert ours.relative_error.max() <= 1e-12
    # Gauss-Legendre nodes leave out ends that shrink with the square of their number.
    short = [
        largest_difference(theirs.attribute(images, MEAN(images), target=2, n_steps=n), ours.values)
        for n in (8, 64, 512)
    ]
    assert short[0] >= 0.01
    assert short[1] <= short[0] / 30
    assert short[2] <= short[1] / 40
    assert short[2] <= 2e-5


def smooth_at_the_stem():
    """No kinks, so that the order of a rule shows: with a ReLU every rule converges like 1 / n."""
    net, images = SmallNet(5, "smooth"), random_images(6)
    net.other = nn.GELU()
    return net, images, cp.compare(cp.logit(net, 2), images, baseline=MEAN, layer="stem")


def test_conductance_converges_to_the_same_values_ours_faster():
    net, images, comparison = smooth_at_the_stem()
    theirs = captum.LayerConductance(net, net.stem)
    converged = comparison.explain(conductance(400)).values

    def captums(steps):
        return largest_difference(theirs.attribute(images, MEAN(images), target=2, n_steps=steps), converged)

    def midpoint(steps):
        return largest_difference(comparison.explain(conductance(steps)).values, converged)

    assert 0.15 <= captums(8) <= 0.2
    assert midpoint(8) <= 0.003
    assert 6 <= captums(8) / captums(64) <= 10  # first order: an eighth of the error with 8 times the steps
    assert 6 <= captums(64) / captums(512) <= 10
    assert 50 <= midpoint(8) / midpoint(64) <= 80  # second order
    # Run from both ends, captum's left-point sums become the trapezoid rule: second order as well, and then equal to ours.
    there = theirs.attribute(images, MEAN(images), target=2, n_steps=400, method="riemann_trapezoid")
    back = theirs.attribute(MEAN(images), images, target=2, n_steps=400, method="riemann_trapezoid")
    assert_equal_within(converged, (there - back) / 2, 1e-5)


@pytest.mark.parametrize("kind", ["plain", "smooth"])  # of the others the features are those of plain
def test_conductance_with_kinks_converges_to_the_same_values(kind):
    net, images, comparison = compared(kind, "stem")
    theirs = captum.LayerConductance(net, net.stem)
    converged = comparison.explain(conductance(400)).values
    few, many = (
        largest_difference(theirs.attribute(images, MEAN(images), target=2, n_steps=n), converged)
        for n in (8, 800)
    )
    assert few >= 0.1
    assert many <= 4e-3


@pytest.mark.parametrize("kind", SmallNet.KINDS)
def test_gradient_is_saliency_with_its_sign(kind):
    net, images = SmallNet(3, kind), random_images(4)
    ours = cp.compare(cp.logit(net, 0), images, baseline=cp.baselines.Black()).explain(cp.methods.Gradient())
    theirs = captum.Saliency(net).attribute(images.clone().requires_grad_(), target=0, abs=False)
    assert_equal_within(ours.values, theirs, 1e-13)


@pytest.mark.parametrize(("kind", "layer"), CUTS)
def test_hires_cam_is_layer_gradient_times_activation(kind, layer):
    net, images, comparison = compared(kind, layer)
    theirs = captum.LayerGradientXActivation(net, net.get_submodule(layer)).attribute(images, target=2)
    assert_equal_within(comparison.explain(cp.methods.HiResCAM()).values, theirs, 1e-13)


@pytest.mark.parametrize(("kind", "layer"), CUTS)
@pytest.mark.parametrize("relu", [False, True])
def test_grad_cam_summed_over_channels_with_and_without_its_relu(kind, layer, relu):
    net, images, comparison = compared(kind, layer)
    # Theirs leaves the ReLU out unless asked, ours applies it unless asked not to.
    theirs = captum.LayerGradCam(net, net.get_submodule(layer)).attribute(
        images, target=2, relu_attributions=relu
    )
    ours = comparison.explain(cp.methods.GradCAM(relu=relu))
    assert_equal_within(ours.values.sum(1, keepdim=True), theirs, 1e-13)


@pytest.mark.slow
@pytest.mark.parametrize("layer", ["layer3", "layer4"])
def test_layer_methods_on_a_resnet(layer):
    net, images = seeded_resnet18(7), random_images(8, channels=3, size=64)
    module = net.get_submodule(layer)
    comparison = cp.compare(cp.logit(net, 4), images, baseline=MEAN, layer=layer)
    values = {
        name: comparison.explain(method).values
        for name, method in {
            "path": gauss_legendre(8),
            "hires": cp.methods.HiResCAM(),
            "grad_cam": cp.methods.GradCAM(),
        }.items()
    }
    theirs = captum.LayerIntegratedGradients(net, module).attribute(images, MEAN(images), target=4, n_steps=8)
    assert_equal_within(values["path"], theirs, 1e-7)
    theirs = captum.LayerGradientXActivation(net, module).attribute(images, target=4)
    assert_equal_within(values["hires"], theirs, 1e-12)
    theirs = captum.LayerGradCam(net, module).attribute(images, target=4, relu_attributions=True)
    assert_equal_within(values["grad_cam"].sum(1, keepdim=True), theirs, 1e-12)
