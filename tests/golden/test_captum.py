"""Against captum, where definitions agree."""

import pytest
import torch
from captum.attr import IntegratedGradients, LayerGradCam, Saliency

import counterpoint as cp
from counterpoint.data.photographs import find_photographs
from networks import SmallNet, random_images

pytestmark = pytest.mark.golden


def relative_distance(one, other):
    return ((one - other).norm() / other.norm()).item()


@pytest.mark.parametrize("kind", SmallNet.KINDS)
@pytest.mark.parametrize("baseline", [cp.baselines.Black(), cp.baselines.Mean()])
def test_gauss_legendre_integrated_gradients_at_the_input(kind, baseline):
    net, images = SmallNet(1, kind), random_images(2)
    ours = cp.compare(cp.logit(net, 1), images, baseline=baseline).explain(
        cp.methods.IntegratedGradients(rule=cp.quadrature.GaussLegendre(20))
    )
    theirs = IntegratedGradients(net).attribute(images, baseline(images), target=1, n_steps=20)
    # captum rounds its nodes' weights to float32 nowhere here: both are float64 to the last few bits.
    assert (ours.values - theirs).abs().max() <= 1e-6 * theirs.abs().max()


@pytest.mark.slow
def test_gauss_legendre_integrated_gradients_on_a_photograph():
    classifier = cp.load_model("efficientnet_lite0")
    images = classifier.preprocess(find_photographs(["sample:chelsea"]))
    baseline = cp.baselines.Blur(sigma=10)
    comparison = cp.compare(cp.logit(classifier), images, baseline=baseline)
    ours = comparison.explain(cp.methods.IntegratedGradients(rule=cp.quadrature.GaussLegendre(50)))
    theirs = IntegratedGradients(classifier.module).attribute(
        images, baseline(images), target=comparison.bound.classes, n_steps=50, internal_batch_size=5
    )
    assert relative_distance(ours.values, theirs.float()) <= 1e-4


@pytest.mark.parametrize("kind", SmallNet.KINDS)
def test_gradient_is_saliency_with_its_sign(kind):
    net, images = SmallNet(3, kind), random_images(4)
    ours = cp.compare(cp.logit(net, 0), images, baseline=cp.baselines.Black()).explain(cp.methods.Gradient())
    theirs = Saliency(net).attribute(images.clone().requires_grad_(), target=0, abs=False)
    torch.testing.assert_close(ours.values, theirs)


def test_grad_cam_before_its_relu():
    net, images = SmallNet(5), random_images(6)
    ours = cp.compare(cp.logit(net, 2), images, baseline=cp.baselines.Black(), layer="last").explain(
        cp.methods.GradCAM(relu=False)
    )
    theirs = LayerGradCam(net, net.last).attribute(images, target=2)
    torch.testing.assert_close(ours.values.sum(1, keepdim=True), theirs)
