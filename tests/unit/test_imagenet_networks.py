"""ResNet-50 and SqueezeNet 1.1 as networks, and how published weights become theirs."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from counterpoint.default_layers import default_map_layer
from counterpoint.layers import penultimate_layer
from counterpoint.models import resnet50, squeezenet
from counterpoint.models.operations import Add, Concatenate
from counterpoint.models.resnet50 import ResNet50
from counterpoint.models.squeezenet import SqueezeNet


@pytest.fixture(scope="module", params=[ResNet50, SqueezeNet])
def network(request) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return request.param().eval()


PARAMETERS = {ResNet50: 25_557_032, SqueezeNet: 1_235_496}
JOINS = {ResNet50: (Add, 16), SqueezeNet: (Concatenate, 8)}
RECTIFIERS = {ResNet50: 49, SqueezeNet: 25}
LAYERS = {ResNet50: ("layer4", "flatten"), SqueezeNet: ("features", "flatten")}


def test_the_network_has_the_published_number_of_parameters(network):
    assert sum(parameter.numel() for parameter in network.parameters()) == PARAMETERS[type(network)]


def test_every_activation_and_every_join_is_a_module_of_its_own(network):
    kind, number = JOINS[type(network)]
    assert sum(isinstance(module, kind) for module in network.modules()) == number
    assert sum(isinstance(module, nn.ReLU) for module in network.modules()) == RECTIFIERS[type(network)]


def test_every_module_runs_exactly_once_and_nothing_works_in_place(network):
    calls = {name: 0 for name, module in network.named_modules() if not list(module.children())}

    def count(name):
        def hook(module, arguments, output):
            calls[name] += 1

        return hook

    handles = [network.get_submodule(name).register_forward_hook(count(name)) for name in calls]
    network(torch.zeros(1, 3, 64, 64))
    for handle in handles:
        handle.remove()
    assert set(calls.values()) == {1}
    assert not any(getattr(module, "inplace", False) for module in network.modules())


def test_a_symbolic_trace_computes_the_same(network):
    traced = torch.fx.symbolic_trace(network)
    pixels = torch.rand(2, 3, 65, 48, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(traced(pixels), network(pixels), rtol=0, atol=0)


def test_the_usual_layers_are_found(network):
    example = torch.zeros(1, 3, 64, 64)
    found = default_map_layer(network, example), penultimate_layer(network, example)
    assert found == LAYERS[type(network)]


# the weights of Keras


def drawn(generator, *shape):
    return generator.normal(size=shape).astype(np.float32)


def keras_block(arrays, generator, conv, norm, kernel, inputs, outputs):
    arrays[f"{conv}/kernel"] = drawn(generator, kernel, kernel, inputs, outputs)
    arrays[f"{conv}/bias"] = drawn(generator, outputs)
    for name in ("gamma", "beta", "moving_mean"):
        arrays[f"{norm}/{name}"] = drawn(generator, outputs)
    # Small, so that the epsilon decides: the usual 1e-5 of torch would show.
    arrays[f"{norm}/moving_variance"] = np.abs(drawn(generator, outputs)) / 100


def keras_unit(arrays, image, conv, norm, stride, padding):
    """A convolution with bias and the batch norm after it, as Keras computes them, in float64."""
    of = {
        name: torch.from_numpy(array).double()
        for name, array in arrays.items()
        if name.startswith((conv, norm))
    }
    image = F.conv2d(image, of[f"{conv}/kernel"].permute(3, 2, 0, 1), of[f"{conv}/bias"], stride, padding)
    means, variances = of[f"{norm}/moving_mean"], of[f"{norm}/moving_variance"]
    return F.batch_norm(image, means, variances, of[f"{norm}/gamma"], of[f"{norm}/beta"], eps=1e-3)


def test_a_network_with_kerass_weights_computes_what_kerass_does(monkeypatch):
    stages = (resnet50.Stage(2, 2, stride=1), resnet50.Stage(1, 3, stride=2))
    monkeypatch.setattr(resnet50, "STAGES", stages)
    monkeypatch.setattr(resnet50, "STEM_CHANNELS", 4)
    monkeypatch.setattr(ResNet50, "forward", lambda self, x: forward(self, x))

    def forward(self, image):
        features = self.maxpool(self.relu(self.bn1(self.conv1(image))))
        return self.fc(self.flatten(self.avgpool(self.layer2(self.layer1(features)))))

    monkeypatch.setattr(
        resnet50, "_stages", lambda original=resnet50._stages: (*original(), nn.Identity(), nn.Identity())
    )
    generator, arrays = np.random.default_rng(0), {}
    keras_block(arrays, generator, "conv1", "bn_conv1", 7, 3, 4)
    inputs = 4
    for tag, width, strided in (("2a", 2, True), ("2b", 2, False), ("3a", 3, True)):
        name = f"{tag}_branch"
        keras_block(arrays, generator, f"res{name}2a", f"bn{name}2a", 1, inputs, width)
        keras_block(arrays, generator, f"res{name}2b", f"bn{name}2b", 3, width, width)
        keras_block(arrays, generator, f"res{name}2c", f"bn{name}2c", 1, width, 4 * width)
        if strided:
            keras_block(arrays, generator, f"res{name}1", f"bn{name}1", 1, inputs, 4 * width)
        inputs = 4 * width
    arrays["fc1000/kernel"], arrays["fc1000/bias"] = drawn(generator, 12, 5), drawn(generator, 5)

    rgb = torch.from_numpy(generator.normal(size=(2, 3, 33, 40)))
    maps = F.relu(keras_unit(arrays, rgb.flip(1), "conv1", "bn_conv1", 2, 3))
    maps = F.max_pool2d(F.pad(maps, (1, 1, 1, 1)), 3, 2)
    for tag, stride, strided in (("2a", 1, True), ("2b", 1, False), ("3a", 2, True)):
        name = f"{tag}_branch"
        inner = F.relu(keras_unit(arrays, maps, f"res{name}2a", f"bn{name}2a", stride, 0))
        inner = F.relu(keras_unit(arrays, inner, f"res{name}2b", f"bn{name}2b", 1, 1))
        inner = keras_unit(arrays, inner, f"res{name}2c", f"bn{name}2c", 1, 0)
        if strided:
            maps = keras_unit(arrays, maps, f"res{name}1", f"bn{name}1", stride, 0)
        maps = F.relu(inner + maps)
    expected = maps.mean((2, 3)) @ torch.from_numpy(arrays["fc1000/kernel"]).double()
    expected = expected + torch.from_numpy(arrays["fc1000/bias"])

    network = ResNet50(classes=5).eval()
    network.load_state_dict(resnet50.state_from_keras(arrays))
    # Single precision in one place: mean and bias are subtracted as the numbers of the file are.
    torch.testing.assert_close(network.double()(rgb), expected, rtol=1e-5, atol=1e-5)


def test_the_shards_are_told_from_the_manifest_by_their_names(monkeypatch):
    seen = {}
    monkeypatch.setattr(
        resnet50, "arrays_of_tensorflow_js", lambda manifest, shards: seen.update(m=manifest, s=shards) or {}
    )
    with pytest.raises(KeyError, match="conv1/kernel"):
        resnet50.published_state({"a/model.json": b"{}", "a/1.bin": b"1", "a/2.bin": b"2"})
    assert seen == {"m": b"{}", "s": {"1.bin": b"1", "2.bin": b"2"}}


# the weights of Caffe


def caffe_arrays():
    """Random weights for SqueezeNet 1.1 under Caffe's names, of a size that keeps the activations near 1."""
    generator = np.random.default_rng(0)

    def conv(kernel, inputs, outputs):
        weight = drawn(generator, kernel, kernel, inputs, outputs) * np.float32(
            (2 / (kernel**2 * inputs)) ** 0.5
        )
        return [weight, drawn(generator, outputs)]

    arrays, inputs = {"conv1": conv(3, 3, 64)}, 64
    for number, squeezed in squeezenet.SQUEEZED.items():
        arrays[f"fire{number}/squeeze1x1"] = conv(1, inputs, squeezed)
        arrays[f"fire{number}/expand1x1"] = conv(1, squeezed, 4 * squeezed)
        arrays[f"fire{number}/expand3x3"] = conv(3, squeezed, 4 * squeezed)
        inputs = 8 * squeezed
    return {**arrays, "conv10": conv(1, inputs, 1000)}


def caffe_scores(arrays, rgb):
    """The published network as its package computes it: zeros of "SAME", and class maps averaged, in float64."""

    def conv(name, image, **options):
        kernel, bias = (torch.from_numpy(array).double() for array in arrays[name])
        return F.conv2d(image, kernel.permute(3, 2, 0, 1), bias, **options)

    image = F.pad(rgb.flip(1), (0, 1, 0, 1))  # 224 is even: "SAME" puts its one row and column of zeros last
    maps = F.relu(conv("conv1", image, stride=2))
    for number in range(2, 10):
        if number in (2, 4, 6):
            maps = F.max_pool2d(maps, 3, 2)
        few = F.relu(conv(f"fire{number}/squeeze1x1", maps))
        one, three = conv(f"fire{number}/expand1x1", few), conv(f"fire{number}/expand3x3", few, padding=1)
        maps = F.relu(torch.cat([one, three], 1))
    return conv("conv10", maps).mean((2, 3))


def test_a_network_with_caffes_weights_computes_what_the_package_does_at_224():
    arrays = caffe_arrays()
    rgb = torch.from_numpy(np.random.default_rng(1).normal(size=(1, 3, 224, 224)))
    network = SqueezeNet().eval()
    network.load_state_dict(squeezenet.state_from_caffe(arrays))
    with torch.no_grad():
        torch.testing.assert_close(network.double()(rgb), caffe_scores(arrays, rgb), rtol=1e-9, atol=1e-9)


def test_the_smallest_image_of_squeezenet_is_17_pixels_wide(network):
    if isinstance(network, ResNet50):
        assert network(torch.zeros(1, 3, 1, 1)).shape == (1, 1000)
        return
    assert network(torch.zeros(1, 3, 17, 17)).shape == (1, 1000)
    with pytest.raises(RuntimeError, match="too small"):
        network(torch.zeros(1, 3, 16, 17))
