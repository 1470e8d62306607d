"""The tree of layers: shape, how it lies on the image, where the model can be cut, and how much comes after."""

import pytest
import torch
from torch import nn

import counterpoint as cp
from counterpoint.compute import share_after
from counterpoint.cut import open_cut
from counterpoint.errors import InputError, LayerError, ModelError
from counterpoint.everything_through import passed_by
from counterpoint.inspection import inspect_layers
from laid_out import Pyramid, tiny_timm_vit
from networks import SmallNet, random_images


class Counted(nn.Module):
    """Two convolutions and a linear layer whose multiply-adds are easily counted."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 1))
        self.fc, self.idle = nn.Linear(2 * 64, 5), nn.Linear(2, 2)

    def forward(self, x):
        return self.fc(self.body(x).flatten(1))


def test_what_comes_after_a_layer_is_counted_in_multiply_adds():
    first, second, last = 64 * 4 * 3 * 9, 64 * 2 * 4, 128 * 5
    total = first + second + last
    shares = share_after(Counted(), torch.rand(1, 3, 8, 8))
    expected = {"body.0": second + last, "body.1": second + last, "body.2": last, "body": last, "fc": 0}
    assert shares == pytest.approx({name: count / total for name, count in expected.items()})


@pytest.mark.parametrize("gradients", [True, False])
def test_both_products_of_attention_are_counted(gradients):
    class Attends(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.before, self.after = nn.Linear(8, 8), nn.Identity()

        def forward(self, x):
            z = self.before(x)
            return self.after(nn.functional.scaled_dot_product_attention(z, z, z))

    inputs = torch.rand(1, 2, 6, 8)
    net = Attends().requires_grad_(gradients)
    linear, products = 12 * 8 * 8, 2 * (2 * 6 * 6 * 8)
    assert share_after(net, inputs) == pytest.approx({"before": products / (linear + products), "after": 0.0})


def test_a_network_without_products_has_no_shares():
    assert share_after(nn.Sequential(nn.ReLU()), torch.rand(1, 3, 4, 4)) == {}


def test_every_layer_has_its_facts_and_stands_before_those_inside_it():
    classifier = cp.Classifier(Counted().eval(), mean=0.5, std=0.5, size=8)
    found = {layer.name: layer for layer in inspect_layers(classifier)}
    assert list(found) == ["body", "body.0", "body.1", "body.2", "fc", "idle"]
    body = found["body"]
    assert (body.kind, body.shape, body.layout, body.cut) == ("Sequential", (2, 8, 8), "maps 8 x 8", "split")
    assert (body.depth, found["body.2"].depth) == (0, 1)
    assert body.role == "default for class activation maps, penultimate"
    idle = found["idle"]
    assert (idle.shape, idle.layout, idle.cut, idle.reason, idle.share_after) == (
        (),
        "",
        None,
        "does not run",
        None,
    )
    assert idle.cut_text == "no, does not run"
    assert body.as_dict()["layout"] == "maps 8 x 8"
    assert [layer.name for layer in inspect_layers(classifier, depth=0)] == ["body", "fc", "idle"]


def test_a_module_is_inspected_on_inputs_of_its_own():
    net = SmallNet(0)
    found = inspect_layers(net, random_images(0))
    assert [layer.cut for layer in found if layer.name in ("stem", "body")] == ["split", None]
    with pytest.raises(InputError, match="images must be inputs"):
        inspect_layers(net)
    with pytest.raises(InputError, match="model must be a Classifier"):
        inspect_layers(3)
    with pytest.raises(InputError, match="depth must be at least 0, got -1"):
        inspect_layers(net, random_images(0), depth=-1)


@pytest.mark.parametrize("trace", [True, False])
def test_what_is_listed_as_a_cut_is_one(trace):
    class Branching(nn.Module):
        """torch.fx cannot follow it, but autograd's record shows the same."""

        def __init__(self) -> None:
            super().__init__()
            self.net = tiny_timm_vit(depth=2)

        def forward(self, x):
            return self.net(x if trace or x.mean() < 1e9 else x + 1)

    net, images = Branching().eval(), torch.rand(1, 3, 32, 32)
    found = {layer.name: layer for layer in inspect_layers(net, images)}
    assert found["net.blocks.0"].cut in ("split", "replaced")
    assert found["net.blocks.1.norm1"].cut_text == "no, passed by"
    for name in ("net.blocks.0", "net.norm", "net.head", "net.blocks.0.attn", "net.blocks.1.norm2"):
        if found[name].cut is None:
            with pytest.raises(LayerError, match="passed by"):
                open_cut(net, name, images)
        else:
            assert open_cut(net, name, images).kind in ("split", "replaced")


def test_autograds_record_knows_what_passes_by():
    images = torch.rand(1, 2, 6, 8).double()
    assert passed_by(Pyramid(), images) == {
        "c1": False, "c2": True, "p2": True, "p1": True, "head1": True, "head2": True
    }  # fmt: skip
    net = Pyramid()
    with torch.inference_mode():
        assert passed_by(net, images)["c1"] is False

    class Frozen(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(2, 2)

        def forward(self, x):
            with torch.no_grad():
                return self.fc(x)

    assert passed_by(Frozen(), torch.rand(1, 2)) == {}


def test_an_in_place_step_after_a_layer_does_not_hide_it():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(inplace=True), nn.Conv2d(4, 2, 1))
    assert passed_by(net, torch.rand(1, 3, 4, 4)) == {"0": False, "1": False, "2": False}


def test_a_model_that_fails_for_the_size_of_its_inputs_is_answered_in_one_line():
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 4))
    with pytest.raises(ModelError, match=r"the model fails on inputs \(1, 3, 9, 9\): "):
        inspect_layers(model, torch.rand(1, 3, 9, 9))
