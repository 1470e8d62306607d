"""Every layer of a random network is either a real cut, or refused because something passes it by."""

from collections import Counter

import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from counterpoint.cut import open_cut
from counterpoint.errors import LayerError
from counterpoint.layers import layer_names

STEPS = (
    "conv", "norm", "relu_inplace", "tanh", "shared", "functional", "functional_inplace", "save", "add", "add_inplace", "cat",
    "drop", "identity", "block", "dead",
)  # fmt: skip


class Steps(nn.Module):
    """Runs its steps one after the other on four channels; "block" holds steps of its own."""

    def __init__(self, steps, shared: nn.Module) -> None:
        super().__init__()
        self.steps, self.shared = steps, shared
        for k, step in enumerate(steps):
            if isinstance(step, tuple):
                self.add_module(f"block{k}", Steps(step, shared))
            elif step == "conv":
                self.add_module(f"conv{k}", nn.Conv2d(4, 4, 3, padding=1))
            elif step == "cat":
                self.add_module(f"merge{k}", nn.Conv2d(8, 4, 1))
            elif step == "norm":
                self.add_module(f"norm{k}", nn.BatchNorm2d(4))
            elif step in ("relu_inplace", "tanh", "drop", "identity", "dead"):
                made = {"relu_inplace": nn.LeakyReLU(0.2, inplace=True), "tanh": nn.Tanh(), "drop": nn.Dropout(),
                        "identity": nn.Identity(), "dead": nn.Conv2d(4, 2, 1)}[step]  # fmt: skip
                self.add_module(f"{step}{k}", made)

    def forward(self, h):
        saved = h
        for k, step in enumerate(self.steps):
            if isinstance(step, tuple):
                h = getattr(self, f"block{k}")(h)
            elif step == "shared":
                h = self.shared(h)
            elif step == "functional":
                h = F.leaky_relu(h, 0.2)
            elif step == "functional_inplace":
                h = F.leaky_relu(h, 0.2, inplace=True)
            elif step == "save":
                saved = h
            elif step == "add":
                h = h + saved
            elif step == "add_inplace":
                h += saved
            elif step == "cat":
                h = getattr(self, f"merge{k}")(torch.cat([h, saved], 1))
            elif step == "dead":
                getattr(self, f"dead{k}")(h)
            else:
                name = {"relu_inplace": f"relu_inplace{k}"}.get(step, f"{step}{k}")
                h = getattr(self, name)(h)
        return h


class Network(nn.Module):
    def __init__(self, steps, *, branching: bool) -> None:
        super().__init__()
        self.branching = branching
        self.body = Steps(("conv", *steps), nn.Sigmoid())
        self.fc = nn.Linear(4, 3)

    def forward(self, inputs):
        h = self.body(inputs)
        if self.branching and h.sum() > 1e9:  # never taken, and enough to stop torch.fx
            h = h * 2
        return self.fc(torch.flatten(F.adaptive_avg_pool2d(h, 2).mean(3), 2).mean(2))


simple = st.sampled_from([step for step in STEPS if step != "block"])
blocks = st.lists(simple, min_size=1, max_size=4).map(tuple)
networks = st.lists(simple | blocks, min_size=1, max_size=6)


def made(steps, *, branching: bool):
    """The network and inputs, unless it cannot be differentiated at all, in-place steps being where they are."""
    torch.manual_seed(0)
    module = Network(steps, branching=branching).double().eval()
    inputs = torch.randn(2, 4, 4, 4, dtype=torch.float64)
    point = inputs.clone().requires_grad_()
    try:
        torch.autograd.grad(module(point).sum(), point)
    except RuntimeError:
        assume(False)
    return module, inputs


def with_output_replaced(module, layer, z, inputs):
    handle = module.get_submodule(layer).register_forward_hook(lambda m, a, o: z.clone())
    try:
        return module(inputs)
    finally:
        handle.remove()


def runs_of(module, work):
    """How often each part of the module runs while `work` does."""
    runs = Counter()
    leaves = [(name, part) for name, part in module.named_modules() if not list(part.children())]
    handles = [
        part.register_forward_hook(lambda m, a, o, name=name: runs.update([name])) for name, part in leaves
    ]
    with torch.no_grad():
        work()
    for handle in handles:
        handle.remove()
    return runs


def check_accepted(module, layer, inputs, cut):
    torch.testing.assert_close(cut.head(cut.features(inputs), inputs), module(inputs))
    kept = []
    handle = module.get_submodule(layer).register_forward_hook(
        lambda m, a, o: kept.append(o.clone()) or kept[0].clone()
    )
    loss = module(inputs)[:, 1].sum()
    handle.remove()
    (expected,) = torch.autograd.grad(loss, kept[0])
    z = kept[0].detach().requires_grad_()
    (gradient,) = torch.autograd.grad(cut.head(z, inputs)[:, 1].sum(), z)
    torch.testing.assert_close(gradient, expected)
    other = torch.randn(inputs.shape, dtype=inputs.dtype, generator=torch.Generator().manual_seed(5))
    torch.testing.assert_close(with_output_replaced(module, layer, z, other), module(inputs))


def check_refused(module, layer, inputs, refusal):
    count = runs_of(module, lambda: module(inputs))[layer]
    if count != 1 and not list(module.get_submodule(layer).children()):
        assert ("does not run" if count == 0 else f"runs {count} times") in refusal
        return
    if "back in its place" in refusal:
        # A drop-out at rest hands on its input itself: what overwrites that afterwards also overwrites what passes by.
        handle = module.get_submodule(layer).register_forward_hook(lambda m, a, o: o.clone())
        copied = module(inputs)
        handle.remove()
        assert not torch.equal(copied, module(inputs))
        return
    assert "passed by" in refusal
    cut = open_cut(module, layer, inputs, bypass="intervene")
    assert cut.kind == "partial"
    torch.testing.assert_close(cut.head(cut.features(inputs), inputs), module(inputs))
    z = cut.features(inputs).detach()
    generator = torch.Generator().manual_seed(5)
    others = [torch.randn(inputs.shape, dtype=inputs.dtype, generator=generator) for _ in range(3)]
    changes = [
        float((with_output_replaced(module, layer, z, other) - module(inputs)).detach().abs().max())
        for other in others
    ]
    point = inputs.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(
        with_output_replaced(module, layer, z, point).square().sum(), point, allow_unused=True
    )
    assert max(changes) > 0 or (gradient is not None and bool(gradient.any()))


@pytest.mark.parametrize("branching", [False, True], ids=["followed", "not_followed"])
@given(steps=networks)
@example(steps=[("drop", "relu_inplace", "add")])
@settings(max_examples=25)
def test_a_layer_is_accepted_exactly_if_its_output_decides_the_models(branching, steps):
    module, inputs = made(tuple(steps), branching=branching)
    for layer in layer_names(module):
        try:
            cut = open_cut(module, layer, inputs)
        except LayerError as error:
            check_refused(module, layer, inputs, str(error))
        else:
            assert cut.kind == "replaced" if branching else cut.kind in ("split", "replaced")
            check_accepted(module, layer, inputs, cut)


@given(steps=networks)
@settings(max_examples=25)
def test_the_head_of_a_split_runs_no_step_of_the_features(steps):
    module, inputs = made(tuple(steps), branching=False)
    total = runs_of(module, lambda: module(inputs))
    for layer in layer_names(module):
        try:
            cut = open_cut(module, layer, inputs)
        except LayerError:
            continue
        if cut.kind == "split":
            z = cut.features(inputs)
            before = runs_of(module, lambda cut=cut: cut.features(inputs))
            after = runs_of(module, lambda cut=cut, z=z: cut.head(z, inputs))
            leaves = [name for name, part in module.named_modules() if not list(part.children())]
            assert all(before[name] + after[name] == total[name] for name in leaves)
            assert before["body.conv0"] == 1


@given(steps=networks)
@settings(max_examples=15)
def test_the_nearest_real_cut_that_a_refusal_names_is_one(steps):
    module, inputs = made(tuple(steps), branching=False)
    for layer in layer_names(module):
        try:
            open_cut(module, layer, inputs)
        except LayerError as error:
            if "real cut is '" in str(error):
                nearest = str(error).split("real cut is '")[1].split("'")[0]
                assert open_cut(module, nearest, inputs).kind in ("split", "replaced")
