"""The card holds what is needed to make the explanation again, as strict JSON."""

import hashlib
import json
import math
from dataclasses import replace

import pytest
import torch

import counterpoint as cp
from counterpoint.errors import InputError
from counterpoint.report import card, describe_result


@pytest.fixture
def attribution():
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 5))
    module.labels = list("abcde")
    return cp.compare(
        cp.logit(module, target=["b", "d"]), images, baseline=cp.baselines.Uniform(seed=7)
    ).explain(cp.methods.IntegratedGradients(rule=cp.quadrature.Midpoint(3)))


def test_it_says_how_the_explanation_was_made(attribution, tmp_path):
    file = tmp_path / "cat.jpg"
    file.write_bytes(b"pixels")
    facts = card(
        [attribution],
        model={"name": "m", "weights_sha256": "0"},
        photograph=file,
        device=torch.device("cpu"),
        image=1,
    )
    assert facts["photograph"] == {"file": "cat.jpg", "sha256": hashlib.sha256(b"pixels").hexdigest()}
    assert facts["score"]["kind"] == "logit"
    assert (facts["score"]["class_target"], facts["score"]["label"]) == (3, "d")
    (explanation,) = facts["explanations"]
    assert explanation["baseline"]["parameters"] == {"low": 0.0, "high": 1.0, "seed": 7, "draws": 1}
    assert explanation["method"]["parameters"]["rule"]["parameters"] == {"n": 3}
    assert explanation["cost"] == {"gradients": 3, "forwards": 0, "prefix_runs": 0}
    assert set(facts["versions"]) == {"counterpoint", "torch", "python"}
    assert facts["device"] == "cpu"
    assert explanation["attribution_target"] == pytest.approx(float(attribution.target[1]), rel=1e-7)
    assert explanation["error"] == pytest.approx(float(attribution.error[1]), rel=1e-6)
    json.dumps(facts, allow_nan=False)


def test_what_is_not_defined_is_null_with_its_reason(attribution):
    tiny = describe_result(replace(attribution, floor=attribution.target.abs() + 1))
    assert tiny["relative_error"] is None
    assert "target too small" in tiny["relative_error_undefined"]
    rate = describe_result(replace(attribution, claim="rate"))
    assert (rate["error"], rate["relative_error"], rate["cancellation"]) == (None, None, None)
    assert "rates" in rate["relative_error_undefined"]
    fine = describe_result(attribution)
    assert fine["relative_error_undefined"] is None
    assert (fine["value_error"], fine["path_error"], fine["converged"]) == (None, None, None)
    json.dumps(describe_result(replace(attribution, result=attribution.result * math.inf)), allow_nan=False)


def test_no_explanations_are_refused():
    with pytest.raises(InputError, match="at least one"):
        card([], model={})
