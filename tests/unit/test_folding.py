"""An equal, faster copy of a model."""

import gc
import weakref

import pytest
import torch
import torchvision
from torch import nn

from counterpoint.cut import open_cut
from counterpoint.errors import UnknownNameError
from counterpoint.folding import fold
from counterpoint.layers import layer_names, output_shapes


class Net(nn.Module):
    """Convolutions with norms behind them: one plain, one whose output is read twice, one before an activation, and a linear one."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU())
        self.twice = nn.Conv2d(4, 4, 1)
        self.norm = nn.BatchNorm2d(4)
        self.late = nn.Conv2d(4, 4, 1)
        self.relu = nn.ReLU()
        self.after = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 5)
        self.last = nn.BatchNorm1d(5)

    def forward(self, inputs):
        read = self.twice(self.stem(inputs))
        features = self.after(self.relu(self.late(self.norm(read) + read)))
        return self.last(self.fc(features.mean((2, 3))))


def randomised(module: nn.Module) -> nn.Module:
    """The module in eval mode, its norms with statistics and weights that are not those of a new one."""
    generator = torch.Generator().manual_seed(0)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            part.running_mean.normal_(generator=generator)
            part.running_var.uniform_(0.5, 2.0, generator=generator)
            if part.affine:
                nn.init.uniform_(part.weight, 0.5, 2.0, generator=generator)
                nn.init.normal_(part.bias, generator=generator)
    return module.eval()


@pytest.fixture
def net():
    torch.manual_seed(0)
    return randomised(Net())


@pytest.fixture
def images():
    return torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def kinds(module: nn.Module) -> dict[str, str]:
    return {name: type(part).__name__ for name, part in module.named_modules()}


@pytest.mark.parametrize("channels_last", [False, True])
def test_a_folded_copy_gives_the_same_values_and_gradients(net, images, channels_last):
    folding = fold(net, images, channels_last=channels_last)
    assert folding.folded, folding.reason
    assert "2 batch norms" in folding.reason
    assert ("channels-last" in folding.reason) == channels_last
    torch.testing.assert_close(folding.module(images), net(images), rtol=1e-5, atol=1e-5)
    points = [images.clone().requires_grad_() for _ in range(2)]
    gradients = [
        torch.autograd.grad(module(point)[:, 1].sum(), point)[0]
        for module, point in zip((net, folding.module), points, strict=True)
    ]
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-6)


def test_only_norms_that_alone_read_a_convolution_or_linear_layer_are_folded(net, images):
    folded = kinds(fold(net, images).module)
    assert folded["stem.1"] == folded["last"] == "Identity"
    assert folded["norm"] == folded["after"] == "BatchNorm2d"


def test_every_layer_keeps_its_name_and_shape(net, images):
    folded = fold(net, images).module
    assert layer_names(folded) == layer_names(net)
    assert output_shapes(folded, images) == output_shapes(net, images)


def test_the_original_is_not_changed(net, images):
    before, weights = kinds(net), {name: value.clone() for name, value in net.state_dict().items()}
    folding = fold(net, images)
    assert folding.module is not net
    assert kinds(net) == before
    for name, value in net.state_dict(keep_vars=True).items():
        torch.testing.assert_close(value.detach(), weights[name], rtol=0, atol=0)
        assert isinstance(value, nn.Parameter) == value.requires_grad
        assert value.grad is None
    assert not any(parameter.requires_grad for parameter in folding.module.parameters())


def test_a_layer_to_keep_returns_what_it_did(net, images):
    def output_of(module, name):
        kept = []
        handle = module.get_submodule(name).register_forward_hook(lambda m, a, o: kept.append(o))
        module(images)
        handle.remove()
        return kept[0]

    unlike = fold(net, images).module
    assert not torch.allclose(output_of(unlike, "stem.0"), output_of(net, "stem.0"), atol=1e-2)
    kept = fold(net, images, keep=["stem.0"])
    assert kept.folded
    torch.testing.assert_close(output_of(kept.module, "stem.0"), output_of(net, "stem.0"))
    for name in ("stem.1", "stem", "relu", "last"):  # all others do so anyway
        torch.testing.assert_close(output_of(unlike, name), output_of(net, name), rtol=1e-5, atol=1e-5)


def test_an_enclosing_layer_that_ends_in_the_convolution_is_kept_too(images):
    module = randomised(
        nn.Sequential(nn.Sequential(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 4, 1)), nn.BatchNorm2d(4))
    )
    assert isinstance(fold(module, images).module[1], nn.Identity)
    kept = fold(module, images, keep=["0"])
    assert isinstance(kept.module[1], nn.BatchNorm2d)
    torch.testing.assert_close(kept.module[0](images), module[0](images))


def test_a_name_to_keep_must_exist(net, images):
    with pytest.raises(UnknownNameError, match="did you mean 'stem"):
        fold(net, images, keep=["stemm"])


def test_shared_weights_are_not_folded(images):
    conv = nn.Conv2d(3, 3, 1)
    module = randomised(nn.Sequential(conv, nn.BatchNorm2d(3), conv, nn.BatchNorm2d(3)))
    assert not fold(module, images, channels_last=False).folded
    other = nn.Conv2d(3, 3, 1)
    other.weight = conv.weight
    tied = randomised(nn.Sequential(conv, nn.BatchNorm2d(3), other))
    assert not fold(tied, images, channels_last=False).folded


def test_norms_without_weights_are_folded_and_those_without_statistics_are_not(images):
    plain = randomised(nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, affine=False)))
    assert isinstance(fold(plain, images).module[1], nn.Identity)
    batch = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, track_running_stats=False)).eval()
    assert isinstance(fold(batch, images).module[1], nn.BatchNorm2d)


def test_training_mode_and_hooks_are_reasons_not_to_fold(net, images):
    handle = net.late.register_forward_hook(lambda m, a, o: None)
    folding = fold(net, images)
    assert (folding.module, folding.folded) == (net, False)
    assert "hooks" in folding.reason
    handle.remove()
    net.train()
    folding = fold(net, images)
    assert (folding.module, folding.folded) == (net, False)
    assert "training mode" in folding.reason


def test_what_cannot_be_followed_has_no_norm_folded(net, images):
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, inputs):
            return self.net(inputs if inputs.mean() < 1e9 else inputs + 1)

    folding = fold(Branching().eval(), images, channels_last=False)
    assert not folding.folded
    assert "cannot be followed" in folding.reason
    layout = fold(Branching().eval(), images)
    assert layout.folded
    assert layout.reason.startswith("0 batch norms")


def test_a_copy_that_computes_something_else_is_not_handed_out(images):
    class Reads(nn.Module):
        """Reads the convolution's weights beside running it, which the graph shows as another reader of a weight only."""

        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

        def forward(self, inputs):
            return self.norm(self.conv(inputs)) + self.conv.weight.sum()

    module = randomised(Reads())
    folding = fold(module, images)
    assert (folding.module, folding.folded) == (module, False)
    assert "differ by" in folding.reason


def test_a_cut_can_be_opened_on_the_copy(net, images):
    folded = fold(net, images).module
    cut = open_cut(folded, "stem.1", images)
    assert cut.kind == "split"
    torch.testing.assert_close(cut.features(images), net.stem[:2](images), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(cut.head(cut.features(images), images), net(images), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "norms"), [("resnet18", 20), ("mobilenet_v2", 52), ("densenet121", 59), ("googlenet", 57)]
)
def test_networks_that_people_use_are_folded(name, norms):
    torch.manual_seed(0)
    options = {"init_weights": False} if name == "googlenet" else {}
    module = getattr(torchvision.models, name)(weights=None, **options).eval()
    images = torch.rand(2, 3, 64, 64)
    folding = fold(module, images)
    assert folding.folded, folding.reason
    assert folding.reason.startswith(f"{norms} batch norms")


def test_asked_again_the_same_copy_is_given_until_the_weights_change(net, images):
    once = fold(net, images)
    assert fold(net, images).module is once.module
    assert fold(net, images, channels_last=False).module is not once.module
    assert fold(net, images).module is once.module
    with torch.no_grad():
        next(net.parameters()).mul_(1.5)
    again = fold(net, images)
    assert again.module is not once.module
    torch.testing.assert_close(again.module(images), net(images), rtol=1e-5, atol=1e-5)


def test_a_copy_is_not_given_again_where_the_model_computes_otherwise_now(images):
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.LeakyReLU(0.1), nn.Flatten(), nn.LazyLinear(3)
    ).eval()
    net(images)
    once = fold(net, images)
    assert once.folded
    net[2].negative_slope = 0.9  # no weight, so that no hash sees it
    torch.testing.assert_close(fold(net, images).module(images), net(images), rtol=1e-5, atol=1e-5)


def test_a_model_that_is_gone_takes_its_copies_along(images):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()
    copy = weakref.ref(fold(net, images).module)
    del net
    gc.collect()
    assert copy() is None
