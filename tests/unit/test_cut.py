"""The model before and after a layer."""

import gc
import weakref
from collections import Counter
from contextlib import contextmanager

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from counterpoint.cut import open_cut
from counterpoint.errors import InputError, LayerError, ModelError, UnknownNameError
from counterpoint.layers import layer_names


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, inputs):
        return inputs + self.relu(self.norm(self.conv(inputs)))


class Net(nn.Module):
    """A stem, two residual blocks, one activation used twice, and functional code."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.blocks = nn.Sequential(Residual(4), Residual(4))
        self.last = nn.Conv2d(4, 5, 1)
        self.drop = nn.Dropout(0.5)
        self.fc = nn.Linear(5, 3)
        self.unused = nn.Linear(2, 2)

    def forward(self, inputs, scale=None):
        features = self.blocks(self.relu(self.stem(inputs)))
        features = self.relu(self.last(features))
        pooled = torch.flatten(F.adaptive_avg_pool2d(features, 1), 1)
        return self.fc(self.drop(pooled if scale is None else pooled * scale))


class Branching(nn.Module):
    """Control flow that depends on numbers: its graph cannot be followed."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, inputs):
        return self.net(inputs if inputs.mean() < 1e9 else inputs + 1)


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net().eval().double()


@pytest.fixture
def images():
    return torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@contextmanager
def counting(module):
    """How often each part runs within the block."""
    runs = Counter()
    handles = [
        part.register_forward_hook(lambda m, a, o, name=name: runs.update([name]))
        for name, part in module.named_modules()
        if not list(part.children())
    ]
    try:
        yield runs
    finally:
        for handle in handles:
            handle.remove()


def state_of(module):
    return [
        (name, part.training, len(part._forward_hooks), sorted(vars(part)))
        for name, part in module.named_modules()
    ] + [
        (name, p.requires_grad, p.grad, p.clone().tolist())
        for name, p in module.state_dict(keep_vars=True).items()
    ]


@pytest.mark.parametrize("layer", ["stem", "blocks.0", "blocks.0.conv", "blocks", "last", "drop", "fc"])
@pytest.mark.parametrize("wrap", [lambda net: net, Branching], ids=["split", "replaced"])
def test_the_head_of_the_features_is_the_model(net, images, layer, wrap):
    module = wrap(net)
    name = layer if module is net else f"net.{layer}"
    if layer == "blocks.0.conv":
        with pytest.raises(LayerError):
            open_cut(module, name, images)
        return
    cut = open_cut(module, name, images)
    assert cut.kind == ("split" if module is net else "replaced")
    assert cut.layer == name
    torch.testing.assert_close(cut.head(cut.features(images), images), module(images))


def test_a_split_head_runs_nothing_before_the_layer_and_features_nothing_after(net, images):
    cut = open_cut(net, "blocks.0", images)
    with counting(net) as runs:
        z = cut.features(images)
    assert runs == {"stem": 1, "relu": 1, "blocks.0.conv": 1, "blocks.0.norm": 1, "blocks.0.relu": 1}
    with counting(net) as runs:
        cut.head(z, images)
    assert runs == {
        "blocks.1.conv": 1, "blocks.1.norm": 1, "blocks.1.relu": 1, "last": 1, "relu": 1, "drop": 1, "fc": 1,
    }  # fmt: skip


def test_a_cut_is_checked_once_for_each_module_and_layer(net, images):
    open_cut(net, "last", images)
    with counting(net) as runs:
        open_cut(net, "last", images)
        open_cut(net, "last", images * 0.5)
    assert not runs
    other = Net().eval().double()
    with counting(other) as runs:
        open_cut(other, "last", images)
    assert runs


def test_a_refusal_is_kept_too(net, images):
    for _ in range(2):
        with counting(net) as runs, pytest.raises(LayerError):
            open_cut(net, "blocks.1.norm", images)
    assert not runs


@pytest.mark.parametrize("branching", [False, True])
def test_a_layer_that_is_passed_by_is_refused_with_the_nearest_real_cut(net, images, branching):
    module, prefix = (Branching(net), "net.") if branching else (net, "")
    with pytest.raises(
        LayerError, match=rf"passed by.*nearest layer that is a real cut is '{prefix}blocks\.0'"
    ):
        open_cut(module, f"{prefix}blocks.0.norm", images)


def test_a_bypass_can_be_accepted_as_an_intervention(net, images):
    cut = open_cut(net, "blocks.0.norm", images, bypass="intervene")
    assert cut.kind == "partial"
    z = cut.features(images)
    torch.testing.assert_close(cut.head(z, images), net(images))
    before = net.relu(net.stem(images))
    after = net.blocks[1](before + torch.relu(z + 1))
    expected = net.fc(net.relu(net.last(after)).mean((2, 3)))
    torch.testing.assert_close(cut.head(z + 1, images), expected)


def test_a_bypass_that_was_accepted_looks_for_no_other_layer_until_it_is_refused(net, images):
    module, layer = Branching(net), "net.blocks.0.norm"
    with counting(module) as runs:
        open_cut(module, layer, images, bypass="intervene")
        accepted = runs["net.stem"]
        with pytest.raises(LayerError, match=r"nearest layer that is a real cut is 'net\.blocks\.0'"):
            open_cut(module, layer, images)
    assert runs["net.stem"] - accepted > accepted
    assert open_cut(module, layer, images, bypass="intervene").kind == "partial"


def test_a_real_cut_stays_one_where_bypasses_are_accepted(net, images):
    assert open_cut(net, "blocks.0", images, bypass="intervene").kind == "split"


def test_a_layer_that_runs_twice_is_refused_with_the_count(net, images):
    with pytest.raises(LayerError, match=r"'relu' runs 2 times.*nearest layer that is a real cut"):
        open_cut(net, "relu", images)


def test_a_layer_that_does_not_run_is_refused(net, images):
    with pytest.raises(LayerError, match="'unused' does not run"):
        open_cut(net, "unused", images, bypass="intervene")


def test_a_layer_that_returns_a_tuple_is_refused_with_what_came(images):
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
            self.fc = nn.Linear(6, 2)

        def forward(self, tokens):
            return self.fc(self.attention(tokens, tokens, tokens)[0])

    module = Attention().eval()
    with pytest.raises(LayerError, match=r"'attention' returns a tuple of 2.*real cut is 'fc'"):
        open_cut(module, "attention", torch.rand(2, 5, 6))
    with pytest.raises(LayerError, match=r"'attention\.out_proj' does not run"):
        open_cut(module, "attention.out_proj", torch.rand(2, 5, 6))


def test_unknown_names_and_choices_are_errors(net, images):
    with pytest.raises(UnknownNameError, match="did you mean 'blocks'"):
        open_cut(net, "block", images)
    with pytest.raises(InputError, match="bypass must be"):
        open_cut(net, "last", images, bypass="allow")


@pytest.mark.parametrize("layer", ["stem", "blocks", "last"])
@pytest.mark.parametrize("wrap", [lambda net: net, Branching], ids=["split", "replaced"])
def test_gradients_by_the_cut_are_those_of_the_model(net, images, layer, wrap):
    module = wrap(net)
    cut = open_cut(module, layer if module is net else f"net.{layer}", images)
    point = images.clone().requires_grad_()
    kept = []
    handle = getattr(net, layer).register_forward_hook(lambda m, a, o: kept.append(o) or o.clone())
    output = module(point)[:, 1].sum()
    handle.remove()
    at_input, at_layer = torch.autograd.grad(output, [point, kept[0]])
    z = cut.features(images).detach().requires_grad_()
    (by_head,) = torch.autograd.grad(cut.head(z, images)[:, 1].sum(), z)
    torch.testing.assert_close(by_head, at_layer)
    (through,) = torch.autograd.grad(cut.features(point), point, at_layer)
    torch.testing.assert_close(through, at_input)


def test_an_in_place_activation_after_or_in_the_layer_spares_features_and_inputs():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(inplace=True), nn.AvgPool2d(2), nn.Flatten())
    images = torch.randn(2, 3, 4, 4)
    for layer in ("0", "1"):
        for each in (module, Branching(module)):
            cut = open_cut(each, layer if each is module else f"net.{layer}", images)
            z = cut.features(images).detach()
            assert (z < 0).any() == (layer == "0")
            kept = z.clone()
            cut.head(z, images)
            torch.testing.assert_close(z, kept, rtol=0, atol=0)
            cut.head(z.requires_grad_(), images).sum().backward()  # a leaf, which must not be written to


def test_the_model_is_left_as_it_came_also_after_an_exception(net, images):
    before = state_of(net)
    cut = open_cut(net, "last", images)
    cut.head(cut.features(images), images)
    with pytest.raises(LayerError):
        open_cut(net, "blocks.0.norm", images)
    with pytest.raises(RuntimeError):
        open_cut(Branching(net), "net.last", images[:, :2])
    partial = open_cut(net, "blocks.0.norm", images, bypass="intervene")
    with pytest.raises(RuntimeError):
        partial.head(partial.features(images)[:, :2], images)
    assert state_of(net) == before


def test_what_a_forward_keeps_on_the_model_is_no_stand_in_afterwards(images):
    class Keeps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 1).double()
            self.seen = None

        def forward(self, inputs):
            self.seen = self.conv(inputs)
            return self.seen.mean((2, 3))

    module = Keeps().eval()
    assert open_cut(module, "conv", images).kind == "split"
    assert module.seen is None


def test_batch_norm_in_training_mode_keeps_its_statistics_and_the_random_numbers_go_on():
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Flatten())
    before = state_of(module)
    torch.manual_seed(3)
    open_cut(module, "0", torch.rand(4, 3, 5, 5))
    assert state_of(module) == before
    drawn = torch.rand(2)
    torch.manual_seed(3)
    torch.rand(4, 3, 5, 5)
    torch.testing.assert_close(drawn, torch.rand(2))


def test_a_model_with_two_answers_is_refused(images):
    module = nn.Sequential(nn.Linear(6, 64), nn.Dropout(0.5), nn.Linear(64, 2)).double()
    with pytest.raises(ModelError, match="two different outputs"):
        open_cut(module, "0", images)


def test_the_cut_uses_the_weights_of_now(net, images):
    cut = open_cut(net, "last", images)
    z = cut.features(images)
    with torch.no_grad():
        net.fc.weight.mul_(2)
    net.fc.bias = nn.Parameter(torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(cut.head(z, images), net(images))
    net.float()
    torch.testing.assert_close(cut.head(z.float(), images.float()), net(images.float()), rtol=1e-4, atol=1e-5)


def test_a_change_of_mode_or_a_hook_after_opening_is_noticed(net, images):
    cut = open_cut(net, "last", images)
    z = cut.features(images)
    net.drop.train()
    with pytest.raises(LayerError, match="open it again"):
        cut.head(z, images)
    net.drop.eval()
    handle = net.blocks.register_forward_hook(lambda m, a, o: o * 2)
    with pytest.raises(LayerError, match="open it again"):
        cut.head(z, images)
    again = open_cut(net, "last", images)
    assert again.kind == "replaced"
    torch.testing.assert_close(again.head(again.features(images), images), net(images))
    handle.remove()
    cut.head(z, images)


def test_hooks_on_single_steps_run_in_both_parts(net, images):
    handles = [
        net.stem.register_forward_hook(lambda m, a, o: o * 2),
        net.fc.register_forward_hook(lambda m, a, o: o + 1),
    ]
    cut = open_cut(net, "last", images)
    assert cut.kind == "split"
    torch.testing.assert_close(cut.head(cut.features(images), images), net(images))
    for handle in handles:
        handle.remove()


def test_the_kept_verdicts_do_not_keep_the_model_alive(images):
    module = Net().eval().double()
    open_cut(module, "last", images)
    gone = weakref.ref(module)
    del module
    gc.collect()
    assert gone() is None


def test_code_without_gradients_is_not_given_any_by_the_cut():
    class Frozen(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.middle, self.fc = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, inputs):
            with torch.no_grad():
                features = self.middle(self.body(inputs))
            return self.fc(features)

    inputs = torch.rand(2, 4)
    cut = open_cut(Frozen().eval(), "body", inputs)
    assert cut.kind == "replaced"
    z = cut.features(inputs).detach().requires_grad_()
    assert torch.autograd.grad(cut.head(z, inputs).sum(), z, allow_unused=True) == (None,)
    assert open_cut(Frozen().eval(), "middle", inputs).kind == "replaced"


def test_outputs_keep_their_structure():
    class Structured(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.fc = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, inputs):
            features = self.body(inputs)
            return {"logits": self.fc(features), "parts": [features, (features.sum(1), features.shape[0])]}

    module, inputs = Structured().eval(), torch.rand(3, 4)
    cut = open_cut(module, "body", inputs)
    assert cut.kind == "split"
    output, expected = cut.head(cut.features(inputs), inputs), module(inputs)
    assert type(output) is dict
    assert type(output["parts"]) is list
    assert type(output["parts"][1]) is tuple
    assert output["parts"][1][1] == 3
    torch.testing.assert_close(output["logits"], expected["logits"])
    torch.testing.assert_close(output["parts"][0], expected["parts"][0])


def test_the_shape_of_the_input_may_pass_by_the_layer():
    class Reshaped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 2, 1), nn.Linear(8, 2)

        def forward(self, inputs):
            rows, height = inputs.shape[0], inputs.size(2)
            return self.fc(self.conv(inputs).reshape(rows, 2 * height * height))

    module, inputs = Reshaped().eval(), torch.rand(2, 3, 2, 2)
    cut = open_cut(module, "conv", inputs)
    assert cut.kind == "split"
    more = torch.rand(5, 3, 2, 2)
    torch.testing.assert_close(cut.head(cut.features(more), more), module(more))


def test_an_effect_in_place_that_the_graph_does_not_show_is_noticed():
    class Hidden(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, inputs):
            skip = self.one(inputs)
            features = self.two(skip)
            features.add_(skip)  # nobody reads what this returns
            return features * 2

    module, inputs = Hidden().eval(), torch.rand(2, 4)
    with pytest.raises(LayerError, match="passed by"):
        open_cut(module, "two", inputs)
    cut = open_cut(module, "one", inputs)
    torch.testing.assert_close(cut.head(cut.features(inputs), inputs), module(inputs))


def test_wrappers_are_part_of_the_cut_and_no_part_of_the_names(net, images):
    class Wrapper(nn.Module):
        wraps = "model"

        def __init__(self, model):
            super().__init__()
            self.model = model
            self.register_buffer("mean", torch.tensor(0.5, dtype=torch.float64))

        def forward(self, inputs):
            return self.model((inputs - self.mean) / 0.25)

    for module in (Wrapper(net), torch.compile(Wrapper(net), backend="eager"), nn.DataParallel(Wrapper(net))):
        for name in ("blocks.0", "model.blocks.0"):
            cut = open_cut(module, name, images)
            assert (cut.kind, cut.layer) == ("split", "blocks.0")
        torch.testing.assert_close(cut.head(cut.features(images), images), module(images))
        with pytest.raises(LayerError, match=r"is 'blocks\.0'"):
            open_cut(module, "blocks.0.conv", images)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_types_and_layouts_are_those_of_the_model(net, images, dtype, layout):
    module = net.to(dtype).to(memory_format=layout)
    inputs = images.to(dtype).contiguous(memory_format=layout)
    cut = open_cut(module, "blocks.0", inputs)
    assert cut.kind == "split"
    z = cut.features(inputs)
    assert z.dtype is dtype
    assert z.is_contiguous(memory_format=layout)
    torch.testing.assert_close(cut.head(z, inputs), module(inputs))


def test_a_cut_opens_under_no_grad_and_in_inference_mode(images):
    for mode in (torch.no_grad, torch.inference_mode):
        module = Net().eval()
        with mode():
            cut = open_cut(module, "blocks", images.float())
            cut.head(cut.features(images.float()), images.float())
        assert cut.kind == "split"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options", "size", "real", "passed_by"),
    [
        ("resnet18", {}, 64, ["conv1", "layer2", "layer4", "avgpool"], {"layer3.0.conv1": "layer3.0"}),
        ("mobilenet_v2", {}, 64, ["features.2.conv.1", "features.10", "features"], {"features.5.conv.2": "features.5"}),
        ("vit_b_16", {"image_size": 32}, 32, ["conv_proj", "encoder.layers.encoder_layer_5", "encoder.ln"],
         {"encoder.layers.encoder_layer_5.ln_1": "encoder.layers.encoder_layer_5"}),
        ("densenet121", {}, 64, ["features.transition1", "features"],
         {"features.denseblock2.denselayer3": "features.denseblock2"}),
        ("googlenet", {"init_weights": False}, 64, ["inception4c", "conv3.bn"], {"inception4c.branch2": "inception4c"}),
    ],
)  # fmt: skip
def test_networks_that_people_use_are_split(name, options, size, real, passed_by):
    torch.manual_seed(0)
    module = getattr(torchvision.models, name)(weights=None, **options).eval()
    inputs = torch.rand(2, 3, size, size)
    expected = module(inputs)
    for layer in real:
        cut = open_cut(module, layer, inputs)
        assert (layer, cut.kind) == (layer, "split")
        torch.testing.assert_close(cut.head(cut.features(inputs), inputs), expected)
    for layer, nearest in passed_by.items():
        assert layer in layer_names(module)
        with pytest.raises(LayerError, match=f"real cut is '{nearest}'"):
            open_cut(module, layer, inputs)
