"""ResNet-50 and SqueezeNet 1.1 against torchvision's, and with their real weights on labelled photographs."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import nn

import counterpoint as cp
from counterpoint.models.cache import cached_weights
from counterpoint.models.published import PUBLISHED
from counterpoint.models.resnet50 import EPSILON, ResNet50
from counterpoint.models.squeezenet import SqueezeNet

pytestmark = pytest.mark.golden


# against torchvision's networks


def ours(kind: type[nn.Module]) -> nn.Module:
    """Our network with random weights and, in its batch norms, random statistics."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = kind().eval()
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
        return network


def test_resnet50_is_torchvisions_with_the_stride_in_the_first_convolution_and_kerass_epsilon():
    models = pytest.importorskip("torchvision.models")
    network, theirs = ours(ResNet50), models.resnet50().eval()
    theirs.load_state_dict(network.state_dict())  # the names are the same
    for stage in (theirs.layer2, theirs.layer3, theirs.layer4):
        stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = EPSILON
    images = torch.randn(2, 3, 65, 80, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(network(images), theirs(images), rtol=0, atol=0)


@pytest.mark.parametrize("size", [(65, 80), (227, 224)])
def test_squeezenet_is_torchvisions_but_for_the_last_rectifier(size):
    models = pytest.importorskip("torchvision.models")
    network, theirs = ours(SqueezeNet), models.squeezenet1_1().eval()
    state = network.state_dict()
    state["fc.weight"] = state["fc.weight"][:, :, None, None]
    theirs.load_state_dict(dict(zip(theirs.state_dict(), state.values(), strict=True)))
    images = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(network.features(images), theirs.features(images), rtol=0, atol=0)
        assert float(theirs(images).min()) == 0  # theirs rectifies the class maps before it averages them
        theirs.classifier[2] = nn.Identity()
        torch.testing.assert_close(network(images), theirs(images), rtol=1e-5, atol=1e-5)


# with their weights


@pytest.fixture(params=["resnet50", "squeezenet1_1"])
def classifier(request) -> cp.Classifier:
    if not cached_weights(request.param).is_file():
        pytest.skip(f"run `counterpoint models fetch {request.param}` to run this test")
    return cp.load_model(request.param)


@pytest.fixture
def twenty() -> tuple[list[Path], torch.Tensor]:
    """The photographs of ImageNet in the package foolbox, and their classes."""
    spec = find_spec("foolbox")
    if spec is None or spec.origin is None:
        pytest.skip("pip install --no-deps foolbox to run this test on its photographs")
    files = sorted((Path(spec.origin).parent / "data").glob("imagenet_*.jpg"))
    assert len(files) == 20
    return files, torch.tensor([int(re.search(r"_(\d+)\.jpg$", file.name).group(1)) for file in files])


def probabilities(classifier: cp.Classifier, files: list[Path]) -> torch.Tensor:
    with torch.no_grad():
        rows = [classifier.preprocess(files[start : start + 10]) for start in range(0, len(files), 10)]
        return torch.cat([classifier.module(each).softmax(1) for each in rows])


def rates(classifier: cp.Classifier, files: list[Path], truth: torch.Tensor) -> tuple[int, int, float]:
    """How many are named rightly, how many in five guesses, and the mean probability of the true class."""
    found = probabilities(classifier, files)
    hits = found.topk(5).indices == truth[:, None]
    return int(hits[:, 0].sum()), int(hits.any(1).sum()), float(found.gather(1, truth[:, None]).mean())


TWENTY = {"resnet50": (19, 20, 0.874), "squeezenet1_1": (15, 17, 0.594)}
TWO_HUNDRED = {"resnet50": (181, 199, 0.830), "squeezenet1_1": (126, 172, 0.527)}


@pytest.mark.weights
@pytest.mark.slow
def test_foolboxs_photographs_are_named_as_often_as_was_measured(classifier, twenty):
    once, in_five, probability = rates(classifier, *twenty)
    expected = TWENTY[classifier.name]
    assert (once, in_five) >= expected[:2]
    # Top-1 hardly notices a wrong scaling; this does.
    assert probability == pytest.approx(expected[2], abs=0.005)


@pytest.mark.weights
@pytest.mark.slow
def test_two_hundred_photographs_are_named_as_often_as_was_measured(classifier, photos: Path):
    files = sorted(photos.glob("[0-9][0-9][0-9]_*.jpg"))
    assert len(files) == 200
    once, in_five, probability = rates(
        classifier, files, torch.tensor([int(file.name[:3]) for file in files])
    )
    expected = TWO_HUNDRED[classifier.name]
    assert abs(once - expected[0]) <= 2
    assert abs(in_five - expected[1]) <= 2
    assert probability == pytest.approx(expected[2], abs=0.005)


@pytest.mark.weights
def test_the_loaded_model_is_the_one_that_was_checked(classifier):
    assert not any(module.training for module in classifier.module.modules())
    assert all(parameter.requires_grad for parameter in classifier.module.parameters())
    assert not any(tensor.is_meta for tensor in classifier.module.state_dict().values())
    assert classifier.weights_hash == PUBLISHED[classifier.name].weights_sha256
    assert classifier.card()["random_weights"] is False


@pytest.mark.weights
def test_the_normalisation_leaves_0_to_255_less_the_mean_of_the_file(classifier):
    # Blue, green, red, as their documentation has them; the networks here take red first.
    mean = {"resnet50": (103.939, 116.779, 123.68), "squeezenet1_1": (104.006, 116.669, 122.679)}
    pixels = torch.rand(1, 3, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = 255 * pixels - torch.tensor(mean[classifier.name], dtype=torch.float64).flip(0)[:, None, None]
    torch.testing.assert_close(classifier.module.normalise(pixels), expected, rtol=0, atol=1e-10)


@pytest.mark.weights
@pytest.mark.slow
def test_the_model_can_be_cut_at_its_last_maps_and_refuses_a_layer_that_is_passed_by(classifier):
    from counterpoint.data.photographs import find_photographs
    from counterpoint.errors import LayerError
    from counterpoint.layers import penultimate_layer
    from counterpoint.places import default_map_layer

    images = classifier.preprocess(find_photographs(["sample:chelsea"]))
    score = cp.logit(classifier, "Egyptian cat")
    layer = default_map_layer(classifier.module, images)
    assert layer == {"resnet50": "layer4", "squeezenet1_1": "features"}[classifier.name]
    assert penultimate_layer(classifier.module, images) == "flatten"
    for place in (layer, {"resnet50": "layer3", "squeezenet1_1": "features.fire8"}[classifier.name]):
        comparison = cp.compare(score, images, baseline=cp.baselines.Black(), layer=place)
        values = comparison.explain(cp.methods.GradCAM()).values
        assert values.isfinite().all()
        assert values.abs().sum() > 0
    passed = {"resnet50": "layer4.2.conv3", "squeezenet1_1": "features.fire9.expand3x3"}[classifier.name]
    with pytest.raises(LayerError, match="passed by"):
        cp.compare(score, images, baseline=cp.baselines.Black(), layer=passed).explain(cp.methods.GradCAM())
