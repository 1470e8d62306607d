"""Layers by name."""

import pytest
import torch
import torchvision
from torch import nn

import counterpoint as cp
from counterpoint import layers
from counterpoint.errors import InputError, LayerError, UnknownNameError
from networks import SmallNet, random_images


class Wrapper(nn.Module):
    """A wrapper as `classifier.Normalised` is one."""

    wraps = "model"

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.normalise = nn.Identity()
        self.model = model

    def forward(self, inputs):
        return self.model(self.normalise(inputs))


class Tokens(nn.Module):
    """Patches, then tokens, then a class from the first token."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 4, 4, stride=4)
        self.mix = nn.Linear(4, 4)
        self.fc = nn.Linear(4, 2)

    def forward(self, inputs):
        tokens = self.patches(inputs).flatten(2).transpose(1, 2)  # (batch, tokens, channels)
        return self.fc(self.mix(tokens)[:, 0])


def small() -> nn.Sequential:
    body = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(inplace=True))
    return nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))


@pytest.fixture
def images():
    return torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def hooks(module: nn.Module) -> int:
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in module.modules())


def test_names_leave_out_the_prefix_of_every_wrapper():
    expected = ["0", "0.0", "0.1", "1", "2", "3"]
    assert layers.layer_names(small()) == expected
    assert layers.layer_names(Wrapper(small())) == expected
    assert layers.layer_names(Wrapper(Wrapper(small()))) == expected
    assert layers.layer_names(torch.compile(Wrapper(small()))) == expected
    assert layers.layer_names(nn.DataParallel(Wrapper(small()))) == expected


def test_a_layer_is_found_by_its_own_and_by_its_full_name():
    wrapper = Wrapper(small())
    layer = wrapper.model[0][1]
    assert layers.find_layer(wrapper, "0.1") is layer
    assert layers.find_layer(wrapper, "model.0.1") is layer
    assert layers.find_layer(wrapper, "normalise") is wrapper.normalise
    assert layers.own_name(wrapper, layer) == "0.1"


def test_a_shared_layer_answers_to_all_its_names():
    act = nn.ReLU()
    module = nn.Sequential(act, nn.Linear(2, 2), act)
    assert layers.find_layer(module, "2") is act
    assert layers.own_name(module, act) == "0"


@pytest.mark.parametrize("name", ["", "model", "blocks.9", "layer5"])
def test_an_unknown_layer_is_an_error_that_names_the_nearest(name):
    with pytest.raises(UnknownNameError, match="unknown layer") as caught:
        layers.find_layer(Wrapper(torchvision.models.resnet18()), name)
    if name == "layer5":
        assert "did you mean 'layer" in str(caught.value)


def test_every_output_has_its_shape_and_no_hook_is_left(images):
    module = small()
    assert layers.output_shapes(module, images) == {
        "0.0": (2, 4, 8, 8),
        "0.1": (2, 4, 8, 8),
        "0": (2, 4, 8, 8),
        "1": (2, 4, 1, 1),
        "2": (2, 4),
        "3": (2, 2),
    }
    assert hooks(module) == 0


def test_no_hook_is_left_after_an_exception(images):
    module = small()
    with pytest.raises(RuntimeError):
        layers.output_shapes(module, images[:, :2])
    assert hooks(module) == 0


def test_the_penultimate_layer_is_what_the_last_linear_layer_reads(images):
    assert layers.penultimate_layer(small(), images) == "2"
    resnet = torchvision.models.resnet18().eval()
    assert layers.penultimate_layer(resnet, torch.rand(1, 3, 64, 64)) == "avgpool"
    assert layers.penultimate_layer(Tokens(), images) == "mix"  # it reads one token of this layer


def test_the_last_linear_layer_comes_with_its_input(images):
    module = small()
    name, read = layers.last_linear(module, images)
    assert name == "3"
    torch.testing.assert_close(read, module[:3](images))


def test_there_is_no_penultimate_layer_where_nothing_linear_runs_or_no_layer_made_its_input(images):
    with pytest.raises(LayerError, match=r"no nn\.Linear runs"):
        layers.penultimate_layer(nn.Sequential(nn.Conv2d(3, 2, 1), nn.Flatten()), images)

    class Mean(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 2)

        def forward(self, inputs):
            return self.fc(inputs.mean((2, 3)))

    with pytest.raises(LayerError, match="what 'fc' reads is computed outside"):
        layers.penultimate_layer(Mean(), images)


@pytest.mark.parametrize(
    ("tokens", "size", "grid"),
    [
        (197, (224, 224), (1, 14, 14)),
        (198, (224, 224), (2, 14, 14)),
        (201, (224, 224), (5, 14, 14)),
        (196, (224, 224), (0, 14, 14)),
        (257, (224, 224), (1, 16, 16)),
        (50, (224, 224), (1, 7, 7)),
        (1 + 14 * 28, (224, 448), (1, 14, 28)),
        (6, (8, 12), (0, 2, 3)),
        (40, (7, 11), None),
    ],
)
def test_tokens_are_laid_on_the_patches_that_tile_the_image(tokens, size, grid):
    assert layers.token_grid(tokens, size) == grid


@pytest.mark.parametrize("layer", [nn.Conv2d(1, 1, 1), ["stem", "body"], 3])
def test_a_layer_that_is_no_name_says_what_came(layer):
    with pytest.raises(InputError, match=r"layer must be a dotted name, such as 'layer4'"):
        cp.compare(cp.logit(SmallNet(0), 0), random_images(0), baseline=cp.baselines.Black(), layer=layer)
