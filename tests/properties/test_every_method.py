"""What every registered method promises; a new line in METHODS is tested here without being named."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import counterpoint as cp
from counterpoint.errors import Cancelled
from counterpoint.methods import METHODS
from counterpoint.progress import listening
from counterpoint.protocols import Claim, Level
from networks import SmallNet, TinyViT, linear_score, random_images

seeds = st.integers(0, 2**16)
names = st.sampled_from(list(METHODS))
kinds = st.sampled_from(SmallNet.KINDS)
baselines = st.sampled_from([cp.baselines.Black(), cp.baselines.Mean(), cp.baselines.Uniform(seed=3)])

# Shares that are exact where the score is linear, whatever the baseline; the others have a reference of their own.
EXACT_FOR_LINEAR = ("taylor", "integrated_gradients")
# Searches for masks take hundreds of steps by default; what is promised here holds for a few.
SMALL = {
    "meaningful_perturbation": {"steps": 4, "cells": 3, "jitter": 1},
    "extremal_perturbation": {"steps": 4, "step": 2, "sigma": 2.0, "areas": (0.1, 0.3)},
    "igos": {"steps": 2, "points": 2, "cells": 3},
    "igos_pp": {"steps": 2, "points": 2, "cells": 3},
    "fgvis": {"steps": 4},
    "fei": {"steps": 6, "quantiles": 3, "every": 2, "measure": 4},
}
# Maps of attention, which need a network that has some; the kinds of SmallNet stand for nothing there.
OF_ATTENTION = ("attention_rollout", "gae")
# Maps that know nothing of the model, and never run it.
CONTROLS = ("random_map", "edge_map", "centred_blob")


def made(name):
    return METHODS[name](**SMALL.get(name, {}))


def network(seed, kind, name):
    """A small network that the method of this name can explain."""
    if name not in OF_ATTENTION:
        return SmallNet(seed, kind)
    return TinyViT(seed, TinyViT.ATTENTION[seed % 3], class_token=kind != "plain")


def question(seed, kind, baseline, name, *, batch=2):
    layer = "input" if made(name).level in ("input", "any") else "last"
    return cp.compare(
        cp.logit(network(seed, kind, name)), random_images(seed, batch), baseline=baseline, layer=layer
    )


@given(seed=seeds, kind=kinds, baseline=baselines, name=names)
def test_values_have_the_shape_of_the_features_and_the_numbers_are_consistent(seed, kind, baseline, name):
    method = made(name)
    comparison = question(seed, kind, baseline, name)
    attribution = comparison.explain(method)
    assert attribution.values.shape == comparison.end.shape
    assert attribution.values.dtype == torch.float64
    assert attribution.values.isfinite().all()
    torch.testing.assert_close(attribution.target, comparison.score - comparison.baseline_score)
    torch.testing.assert_close(attribution.result, attribution.values.flatten(1).sum(1))
    runs = attribution.gradient_evaluations + attribution.forward_evaluations
    assert (runs == 0).all() if name in (*CONTROLS, "eigen_cam") else (runs > 0).all()
    if method.claim == "shares":
        torch.testing.assert_close(attribution.error, attribution.target - attribution.result)
    else:
        assert attribution.error.isnan().all()
    assert attribution.heatmap().shape == (2, 6, 6)


@given(seed=seeds, kind=kinds, baseline=baselines, name=names)
def test_the_same_question_has_the_same_answer(seed, kind, baseline, name):
    one, two = (question(seed, kind, baseline, name).explain(made(name)) for _ in range(2))
    torch.testing.assert_close(one.values, two.values, rtol=0, atol=0)


@given(seed=seeds, kind=kinds, baseline=baselines, name=names)
def test_an_image_is_explained_the_same_alone_and_in_company(seed, kind, baseline, name):
    method = made(name)
    together = question(seed, kind, baseline, name, batch=3)
    attribution = together.explain(method)
    for i in range(3):
        alone = cp.compare(
            cp.logit(network(seed, kind, name)),
            together.inputs[i : i + 1],
            baseline=baseline,
            layer=together.layer,
        ).explain(method)
        torch.testing.assert_close(alone.values[0], attribution.values[i], rtol=1e-9, atol=1e-12)
        assert alone.gradient_evaluations[0] == attribution.gradient_evaluations[i]


@given(seed=seeds, baseline=baselines)
@pytest.mark.parametrize("name", EXACT_FOR_LINEAR)
def test_shares_of_a_linear_score_are_exact(name, seed, baseline):
    score, weight = linear_score(seed, (2, 6, 6))
    inputs = random_images(seed)
    attribution = cp.compare(score, inputs, baseline=baseline).explain(made(name))
    torch.testing.assert_close(
        attribution.values, (inputs - baseline(inputs)) * weight, rtol=1e-10, atol=1e-12
    )
    assert attribution.error.abs().max() < 1e-10


@given(seed=seeds, name=names, kind=kinds)
def test_model_and_inputs_leave_as_they_came_even_when_cancelled(seed, name, kind):
    net, inputs = network(seed, kind, name), random_images(seed)
    net.train(seed % 2 == 0)
    weights, pixels = {k: v.clone() for k, v in net.state_dict().items()}, inputs.clone()
    method = made(name)
    layer = "input" if method.level in ("input", "any") else "last"
    comparison = cp.compare(cp.logit(net, 0), inputs, baseline=cp.baselines.Black(), layer=layer)

    def cancel(done, total, what):
        raise Cancelled

    for listener in (None, cancel):
        with listening(listener):
            try:
                comparison.explain(method)
            except Cancelled:
                assert listener is cancel
    assert net.training == (seed % 2 == 0)
    assert all(p.grad is None and p.requires_grad for p in net.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in net.modules())
    for key, value in net.state_dict().items():
        torch.testing.assert_close(value, weights[key], rtol=0, atol=0)
    torch.testing.assert_close(inputs, pixels, rtol=0, atol=0)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_values_have_the_type_of_the_inputs(name, dtype):
    method = made(name)
    net, inputs = network(0, "plain", name).to(dtype), random_images(0).to(dtype)
    layer = "input" if method.level in ("input", "any") else "last"
    attribution = cp.compare(cp.logit(net, 0), inputs, baseline=cp.baselines.Mean(), layer=layer).explain(
        method
    )
    assert attribution.values.dtype == dtype
    assert attribution.result.dtype == torch.float32


@pytest.mark.parametrize("name", METHODS)
def test_the_docstring_names_formula_values_and_reference(name):
    make = METHODS[name]
    text = make.__doc__
    assert text.splitlines()[0].endswith((".", ":"))
    for part in ("Formula:", "Values:", "Reference:"):
        assert part in text, part
    method = make()
    assert method.claim in Claim.__args__
    assert method.level in Level.__args__
    assert method.version >= 1


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_a_value(name):
    method = METHODS[name]()
    assert method == METHODS[name]()
    assert hash(method) == hash(METHODS[name]())
