"""What every registered baseline promises; a new line in BASELINES is tested here without being named."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from counterpoint.baselines import BASELINES
from networks import random_images

seeds = st.integers(0, 2**16)
names = st.sampled_from(list(BASELINES))


@given(seed=seeds, name=names, batch=st.integers(1, 3), size=st.integers(1, 9))
def test_shape_type_and_finite_numbers(seed, name, batch, size):
    inputs = random_images(seed, batch, 3, size)
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        baseline = BASELINES[name]()(inputs.to(dtype))
        assert baseline.shape == inputs.shape
        assert baseline.dtype == dtype
        assert baseline.isfinite().all()


@given(seed=seeds, name=names)
def test_the_same_alone_and_in_company(seed, name):
    inputs = random_images(seed, 4, 3)
    together = BASELINES[name]()(inputs)
    for i in range(4):
        torch.testing.assert_close(
            BASELINES[name]()(inputs[i : i + 1])[0], together[i], rtol=1e-12, atol=1e-12
        )


@given(seed=seeds, name=names)
def test_deterministic_and_without_touching_the_inputs_or_the_global_generator(seed, name):
    inputs = random_images(seed, 2, 3)
    kept, state = inputs.clone(), torch.random.get_rng_state()
    one, two = BASELINES[name]()(inputs), BASELINES[name]()(inputs)
    torch.testing.assert_close(one, two, rtol=0, atol=0)
    torch.testing.assert_close(inputs, kept, rtol=0, atol=0)
    assert torch.equal(torch.random.get_rng_state(), state)


@given(seed=seeds, name=names)
def test_images_in_the_unit_interval_keep_to_it(seed, name):
    baseline = BASELINES[name]()(random_images(seed, 2, 3))
    assert baseline.min() >= -1e-12
    assert baseline.max() <= 1 + 1e-12


@given(seed=seeds, name=names)
def test_fill_changes_removed_pixels_only(seed, name):
    inputs = random_images(seed, 2, 3)
    removed = torch.rand(2, 6, 6, generator=torch.Generator().manual_seed(seed)) < 0.5
    filled = BASELINES[name]().fill(inputs, removed)
    kept = ~removed.unsqueeze(1).expand_as(inputs)
    torch.testing.assert_close(filled[kept], inputs[kept], rtol=0, atol=0)
    torch.testing.assert_close(filled[~kept], BASELINES[name]()(inputs)[~kept])


@pytest.mark.parametrize("name", BASELINES)
def test_the_docstring_has_a_first_line_and_a_reference(name):
    text = BASELINES[name].__doc__
    assert text.splitlines()[0].endswith(".") or "." in text.splitlines()[0]
    assert "Reference:" in text


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_is_a_value(name):
    assert BASELINES[name]() == BASELINES[name]()
    assert hash(BASELINES[name]()) == hash(BASELINES[name]())
