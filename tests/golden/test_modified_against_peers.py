"""Guided backpropagation, DeepLIFT and relevance against captum and zennit: equal where definitions agree, and how they differ."""

import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

import counterpoint as cp
from closeness import assert_equal_within, largest_difference
from counterpoint.methods import LRP, Deconvnet, DeepLIFT, ExcitationBackprop, GuidedBackprop
from counterpoint.methods.propagation import Propagation, Rules
from networks import random_images, seeded_resnet18

captum = pytest.importorskip("captum.attr")
zennit = pytest.importorskip("zennit")
from captum.attr._utils.lrp_rules import EpsilonRule  # noqa: E402
from zennit import attribution as zennit_attribution  # noqa: E402
from zennit import canonizers, composites  # noqa: E402
from zennit.torchvision import ResNetCanonizer  # noqa: E402

pytestmark = pytest.mark.golden

MEAN = cp.baselines.Mean()
EQUAL = 1e-10


class Vgg(nn.Module):
    """Convolutions, pooling and two linear layers, as small as it goes; each activation is a module of its own, as captum needs."""

    def __init__(self, *, pool=nn.MaxPool2d, activation=nn.ReLU, norm=False, seed=0):
        super().__init__()
        norms = [nn.BatchNorm2d(6)] if norm else []
        self.features = nn.Sequential(
            *[nn.Conv2d(3, 6, 3, padding=1), *norms, activation()],
            *[nn.Conv2d(6, 6, 3, padding=1), activation(), pool(2)],
            *[nn.Conv2d(6, 8, 3, padding=1), activation(), pool(2)],
        )
        self.head = nn.Sequential(nn.Linear(32, 10), activation(), nn.Dropout(), nn.Linear(10, 5))
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, tensor in self.state_dict().items():
                if not tensor.is_floating_point():
                    continue
                noise = torch.randn(tensor.shape, generator=generator)
                if tensor.ndim > 1:
                    tensor.copy_(noise * (2 / tensor[0].numel()) ** 0.5)
                else:
                    tensor.copy_(0.3 * noise + (("1" in name and norm) or name.endswith("var")))
                    if name.endswith("var"):
                        tensor.abs_()
        self.double().eval()

    def forward(self, x):
        return self.head(torch.flatten(self.features(x), 1))


def images(size=8):
    return random_images(3, channels=3, size=size)


def ours(method, net, x, score=cp.logit):
    return cp.compare(score(net, 2), x, baseline=MEAN).explain(method)


def zennits(net, composite, x, seed=None):
    """zennit's relevance of class 2, from its logit at the output unless another seed is given."""

    def start(output):
        value = output[:, 2].detach() if seed is None else torch.full_like(output[:, 2], seed)
        return torch.zeros_like(output).index_copy(1, torch.tensor([2]), value[:, None])

    with zennit_attribution.Gradient(model=net, composite=composite) as attributor:
        return attributor(x, start)[1]


def zennit_composite(name, x, canonizer=()):
    made = {
        "epsilon_plus": composites.EpsilonPlus,
        "epsilon_plus_flat": composites.EpsilonPlusFlat,
        "epsilon_gamma_box": lambda **options: composites.EpsilonGammaBox(
            low=torch.zeros_like(x[:1]), high=torch.ones_like(x[:1]), **options
        ),
    }
    return made[name](canonizers=list(canonizer))


COMPOSITES = ("epsilon_plus", "epsilon_plus_flat", "epsilon_gamma_box")


# --- guided backpropagation and the deconvolution network ---


@pytest.mark.parametrize("pool", [nn.MaxPool2d, nn.AvgPool2d])
@pytest.mark.parametrize(
    ("method", "theirs", "composite"),
    [
        (GuidedBackprop(), "GuidedBackprop", "GuidedBackprop"),
        (Deconvnet(), "Deconvolution", "DeconvNet"),
    ],
)
def test_guided_backprop_and_deconvnet(method, theirs, composite, pool):
    net, x = Vgg(pool=pool), images()
    found = ours(method, net, x).values
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # captum says that it sets hooks
        assert_equal_within(found, getattr(captum, theirs)(net).attribute(x, target=2), EQUAL)
    assert_equal_within(found, zennits(net, getattr(composites, composite)(), x, 1.0), EQUAL)


@pytest.mark.parametrize(
    ("method", "composite"), [(GuidedBackprop(), "GuidedBackprop"), (Deconvnet(), "DeconvNet")]
)
def test_guided_backprop_and_deconvnet_of_a_resnet_whose_activations_are_in_place_and_reused(
    method, composite
):
    net, x = seeded_resnet18(1), images(16)
    found = ours(method, net, x).values
    assert_equal_within(found, zennits(net, getattr(composites, composite)(), x, 1.0), EQUAL)


def test_captum_and_zennit_leave_functional_and_other_activations_alone():
    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = Vgg(activation=nn.GELU)

        def forward(self, x):
            return self.inner.head(torch.relu(torch.flatten(self.inner.features(x) - 0.1, 1)))

    net, x = Functional().double(), images()
    plain = ours(cp.methods.Gradient(), net, x).values
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert_equal_within(captum.GuidedBackprop(net).attribute(x, target=2), plain, EQUAL)
    assert largest_difference(ours(GuidedBackprop(), net, x).values, plain) > 0.1


# --- DeepLIFT ---


def captums_deep_lift(net, x):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return captum.DeepLift(net).attribute(x, MEAN(x), target=2, return_convergence_delta=True)


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Sigmoid, nn.Tanh, nn.ELU, nn.Softplus, nn.LeakyReLU])
def test_deep_lift_of_a_plain_network(activation):
    net, x = Vgg(pool=nn.AvgPool2d, activation=activation), images()
    theirs, gap = captums_deep_lift(net, x)
    attribution = ours(DeepLIFT(), net, x)
    assert_equal_within(attribution.values, theirs, EQUAL)
    assert max(gap.abs().max(), attribution.error.abs().max()) < 1e-12


def test_deep_lift_of_max_pooling_between_convolutions():
    net, x = nn.Sequential(nn.Conv2d(3, 6, 3), nn.MaxPool2d(2), nn.Conv2d(6, 5, 3)).double(), images()
    with torch.random.fork_rng(devices=[]):
        net.append(nn.Flatten())
    theirs, gap = captums_deep_lift(net, x)
    attribution = ours(DeepLIFT(), net, x)
    assert_equal_within(attribution.values, theirs, EQUAL)
    assert max(gap.abs().max(), attribution.error.abs().max()) < 1e-12


def test_where_two_nonlinear_steps_follow_each_other_captum_is_not_complete_and_we_are():
    # Its hooks for both sit on the one tensor between them, and what either wrote there is not what the other read.
    x = images()
    for net, least in (
        (Vgg(), 1e-3),
        (nn.Sequential(nn.Conv2d(3, 5, 8), nn.Sigmoid(), nn.Tanh(), nn.Flatten()).double(), 1e-8),
    ):
        theirs, gap = captums_deep_lift(net, x)
        attribution = ours(DeepLIFT(), net, x)
        assert gap.abs().min() > least
        assert largest_difference(attribution.values, theirs) > 1e-3
        assert attribution.error.abs().max() < 1e-12


# --- relevance ---


@pytest.mark.parametrize("pool", [nn.MaxPool2d, nn.AvgPool2d])
def test_the_epsilon_rule_of_captum(pool):
    net, x = Vgg(pool=pool), images()
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear | nn.AvgPool2d):
            module.rule = EpsilonRule(1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs, gap = captum.LRP(net).attribute(x, target=2, return_convergence_delta=True)
    attribution = ours(LRP(composite="epsilon", epsilon=1e-6), net, x)
    # It also adds its default epsilon of 1e-9 to what max pooling hands on; ours hands on all of it.
    tolerance = EQUAL if pool is nn.AvgPool2d else 1e-6
    assert_equal_within(attribution.values, theirs, tolerance)
    torch.testing.assert_close(attribution.own_error, gap.detach(), rtol=1e-5, atol=0)


@pytest.mark.parametrize("pool", [nn.MaxPool2d, nn.AvgPool2d])
@pytest.mark.parametrize("name", COMPOSITES)
def test_the_composites_of_zennit_on_a_plain_network(name, pool):
    net, x = Vgg(pool=pool), images()
    assert_equal_within(
        ours(LRP(composite=name), net, x).values, zennits(net, zennit_composite(name, x), x), EQUAL
    )


def test_of_a_contrast_both_logits_are_handed_back():
    net, x = Vgg(), images()
    found = ours(LRP(), net, x, lambda module, c: cp.contrast(module, c, against=0))

    def start(output):
        return output.detach() * torch.tensor([-1.0, 0, 1, 0, 0], dtype=torch.float64)

    with zennit_attribution.Gradient(model=net, composite=composites.EpsilonPlus()) as attributor:
        theirs = attributor(x, start)[1]
    # Ours adds the stabiliser of a sum, 1e-6, to the difference of the logits.
    assert_equal_within(found.values, theirs, 1e-4)


def test_excitation_backprop_of_zennit_without_biases():
    for pool in (nn.MaxPool2d, nn.AvgPool2d):
        net, x = Vgg(pool=pool), images()
        composite = composites.ExcitationBackprop(zero_params=["bias"])
        assert_equal_within(ours(ExcitationBackprop(), net, x).values, zennits(net, composite, x, 1.0), EQUAL)


@pytest.mark.parametrize("name", COMPOSITES)
def test_zennit_folds_batch_norm_but_keeps_the_norms_own_epsilon(name):
    net, x = Vgg(norm=True), images()
    found = ours(LRP(composite=name), net, x).values
    theirs = zennits(net, zennit_composite(name, x, [canonizers.SequentialMergeBatchNorm()]), x)
    # The emptied norm still divides by the root of 1 + 1e-5: its network is not quite the one that it was given.
    assert 1e-7 < largest_difference(found, theirs) < 1e-4
    folded = Vgg(norm=True)
    folded.features[0] = fuse_conv_bn_eval(folded.features[0], folded.features[1])
    folded.features[1] = nn.Identity()
    assert_equal_within(found, zennits(folded, zennit_composite(name, x), x), EQUAL)


def folded_resnet():
    """The ResNet with its norms folded exactly."""
    net = seeded_resnet18(1)
    for parent in list(net.modules()):
        for conv, norm in (("conv1", "bn1"), ("conv2", "bn2"), ("0", "1")):
            if isinstance(getattr(parent, norm, None), nn.BatchNorm2d):
                setattr(parent, conv, fuse_conv_bn_eval(getattr(parent, conv), getattr(parent, norm)))
                setattr(parent, norm, nn.Identity())
    return net


@pytest.mark.parametrize("name", COMPOSITES)
def test_the_composites_of_zennit_on_a_resnet_with_its_sums_divided_in_proportion(name):
    x = images(16)
    found = ours(LRP(composite=name), seeded_resnet18(1), x).values
    theirs = zennits(folded_resnet(), zennit_composite(name, x, [ResNetCanonizer()]), x)
    assert_equal_within(found, theirs, EQUAL)


def test_in_a_resnet_zennits_excitation_goes_through_negative_summands_and_ours_does_not():
    net, x = folded_resnet(), images(16)
    found = ours(ExcitationBackprop(), seeded_resnet18(1), x).values
    composite = composites.ExcitationBackprop(zero_params=["bias"], canonizers=[ResNetCanonizer()])
    theirs = zennits(net, composite, x, 1.0)
    assert largest_difference(found, theirs) > 0.1
    # A summand of the wrong sign gets a negative probability there, and the other one more than 1. With sums divided like that:
    rules = Rules(convolution="plus", linear="plus", bias=False, excitation=False)
    comparison = cp.compare(cp.logit(net, 2), x, baseline=MEAN)
    assert_equal_within(comparison.gradients(x, under=lambda image: Propagation(rules)), theirs, EQUAL)
