"""Modes that meet a network's operations: which forms they see, what they leave unchanged, and that they end."""

import threading

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import counterpoint as cp
from counterpoint.activations import (
    ELEMENTWISE,
    Operation,
    Recording,
    Rectified,
    Replay,
    name_of,
    with_gradient,
)
from counterpoint.errors import InputError, ModelError
from networks import SmallNet, random_images


def points(seed=0):
    """Numbers on either side of every kink."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(3, 4, 5, generator=generator, dtype=torch.float64) * 4


def gradient_of(function, x, weights):
    point = x.clone().requires_grad_()
    value = function(point * 1)
    (gradient,) = torch.autograd.grad((value * weights).sum(), point)
    return value.detach(), gradient


def in_place(function):
    """Whoever goes on with the tensor that was handed over must see it overwritten."""

    def used(x):
        result = function(x)
        assert result is x
        return x

    return used


RECTIFYING = {
    "F.relu": F.relu,
    "torch.relu": torch.relu,
    "Tensor.relu": lambda x: x.relu(),
    "nn.ReLU": nn.ReLU(),
    "aten": torch.ops.aten.relu,
    "aten overload": torch.ops.aten.relu.default,
    "F.relu in place": in_place(lambda x: F.relu(x, inplace=True)),
    "F.relu in place by position": in_place(lambda x: F.relu(x, True)),
    "F.relu in place by name": in_place(lambda x: F.relu(input=x, inplace=True)),
    "Tensor.relu_": in_place(lambda x: x.relu_()),
    "torch.relu_": in_place(torch.relu_),
    "nn.ReLU in place": in_place(nn.ReLU(inplace=True)),
    "F.relu6": F.relu6,
    "nn.ReLU6": nn.ReLU6(),
    "nn.ReLU6 in place": in_place(nn.ReLU6(inplace=True)),
    "F.leaky_relu": lambda x: F.leaky_relu(x, 0.2),
    "nn.LeakyReLU in place": in_place(nn.LeakyReLU(0.2, inplace=True)),
    "F.leaky_relu_": in_place(lambda x: F.leaky_relu_(x, 0.2)),
    "F.gelu": F.gelu,
    "nn.GELU tanh": nn.GELU(approximate="tanh"),
    "F.silu": F.silu,
    "nn.SiLU in place": in_place(nn.SiLU(inplace=True)),
    "F.hardswish": F.hardswish,
    "nn.Hardswish in place": in_place(nn.Hardswish(inplace=True)),
}


@pytest.mark.parametrize("rule", ["guided", "deconvnet"])
@pytest.mark.parametrize("form", RECTIFYING)
def test_every_form_of_a_rectifying_activation_takes_the_rule_and_keeps_its_value(form, rule):
    x, weights = points(), points(1)
    plain, slope = gradient_of(RECTIFYING[form], x, torch.ones_like(x))
    with Rectified(rule) as mode:
        value, gradient = gradient_of(RECTIFYING[form], x, weights)
    assert torch.equal(value, plain)
    factor = slope if rule == "guided" else 1.0
    torch.testing.assert_close(gradient, weights.relu() * factor, rtol=1e-14, atol=0)
    assert mode.met == 1


@pytest.mark.parametrize(
    "function", [F.elu, torch.tanh, torch.sigmoid, F.softplus, F.hardtanh, lambda x: F.hardtanh(x, -2, 2)]
)
def test_other_activations_keep_their_gradient(function):
    x, weights = points(), points(1)
    expected = gradient_of(function, x, weights)
    with Rectified("guided") as mode:
        found = gradient_of(function, x, weights)
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours, theirs)
    assert mode.met == 0


def test_all_ends_with_the_block_even_after_an_exception_and_other_threads_are_left_alone():
    x, weights = points(), points(1)
    expected = gradient_of(F.relu, x, weights)[1]
    elsewhere = []

    def in_a_thread_and_then_raise():
        thread = threading.Thread(target=lambda: elsewhere.append(gradient_of(F.relu, x, weights)[1]))
        thread.start()
        thread.join()
        raise KeyError

    with pytest.raises(KeyError), Rectified("guided"):
        in_a_thread_and_then_raise()
    assert torch.equal(elsewhere[0], expected)
    assert torch.equal(gradient_of(F.relu, x, weights)[1], expected)
    assert not torch.equal(expected, weights.relu() * (x > 0))


@pytest.mark.parametrize("layer", ["input", "stem"])
def test_a_networks_style_changes_nothing_whole_or_cut(layer):
    found = {}
    for kind in ("plain", "inplace", "reused", "functional"):
        comparison = cp.compare(
            cp.logit(SmallNet(3, kind), 0), random_images(4), baseline=cp.baselines.Black(), layer=layer
        )
        mode = Rectified("guided")
        found[kind] = comparison.gradients(comparison.end, under=lambda image, mode=mode: mode)
        scores = comparison.scores(comparison.end, under=lambda image: Rectified("guided"))
        torch.testing.assert_close(scores, comparison.score, rtol=0, atol=0)
        assert mode.met == 2
    for values in found.values():
        assert torch.equal(values, found["plain"])
    assert not torch.equal(found["plain"], comparison.gradients(comparison.end))


def test_an_unknown_rule_is_refused():
    with pytest.raises(InputError, match="rule must be one of guided, deconvnet, got 'guide'"):
        Rectified("guide")


def test_a_recording_keeps_what_the_network_overwrites():
    x = points()
    with torch.no_grad(), Recording({"relu"}) as recording:
        y = x.clone()
        z = F.relu(y)
        z.mul_(0)
        F.relu_(y).add_(1)
    assert [operation.name for operation in recording.operations] == ["relu", "relu"]
    for operation in recording.operations:
        assert torch.equal(operation.tensors[0], x)


def test_a_replay_hands_each_operation_its_own_twin():
    x, b = points(), points(1)

    def network(x):
        return F.relu(torch.tanh(x) + 0.1).tanh()

    twins = []

    def keep(operation, before):
        twins.append((operation.name, operation.tensors[0].clone(), before[0]))
        return operation.value()

    with Recording({"relu", "tanh"}) as recording:
        network(b)
    with Replay(recording, {"relu": keep, "tanh": keep}):
        network(x)
    assert [name for name, _, _ in twins] == ["tanh", "relu", "tanh"]
    for (_, now, then), start in zip(twins, ("", "tanh", "relu"), strict=True):
        steps = {"": lambda t: t, "tanh": lambda t: t.tanh() + 0.1, "relu": lambda t: F.relu(t.tanh() + 0.1)}
        assert torch.equal(now, steps[start](x))
        assert torch.equal(then, steps[start](b))


@pytest.mark.parametrize(
    ("now", "message"),
    [
        (lambda x: x.tanh(), r"tanh of \(3, 4, 5\) where there was relu of \(3, 4, 5\)"),
        (lambda x: x[:2].relu(), r"relu of \(2, 4, 5\) where there was relu of \(3, 4, 5\)"),
        (lambda x: x.relu().tanh(), r"tanh of \(3, 4, 5\) where there was the end"),
        (lambda x: x, r"its end where there was relu of \(3, 4, 5\)"),
    ],
)
def test_a_run_that_takes_another_way_than_the_recorded_one_is_refused(now, message):
    x = points()
    rules = dict.fromkeys(("relu", "tanh"), lambda operation, before: operation.value())
    with Recording(set(rules)) as recording:
        x.relu()
    with pytest.raises(ModelError, match=message), Replay(recording, rules):
        now(x)


@pytest.mark.parametrize("name", sorted(ELEMENTWISE))
def test_every_elementwise_function_exists_and_its_slope_is_its_derivative(name):
    candidates = [getattr(holder, name, None) for holder in (F, torch.Tensor, torch)]
    candidates += [F.logsigmoid, F.threshold]  # which call themselves otherwise
    function = next(f for f in candidates if f is not None and name_of(f)[0] == name)
    extra = {"clamp": (-0.5, 0.5), "clip": (-0.5, 0.5), "clamp_max": (0.5,), "clamp_min": (0.5,), "pow": (3,)}
    extra |= {"threshold": (0.1, 0.0), "_threshold": (0.1, 0.0), "prelu": (torch.tensor([0.3]).double(),)}
    extra |= {"__rdiv__": (2.0,), "__rpow__": (2.0,)}
    x = torch.tensor([0.2, 0.3, 0.7], dtype=torch.float64)
    operation = Operation.of(function, (x, *extra.get(name, ())), {})
    h = 1e-6
    rest = operation.tensors[1:]
    difference = (operation.run(x + h, *rest) - operation.run(x - h, *rest)) / (2 * h)
    torch.testing.assert_close(operation.slope(), difference, rtol=1e-6, atol=1e-8)


def test_with_gradient_refuses_to_use_what_was_overwritten_meanwhile():
    x = points().requires_grad_()
    y = x * 1
    result = with_gradient(y.detach() * 2, (y,), lambda gradient, kept: (gradient * kept,), (y,))
    y.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        result.sum().backward()
