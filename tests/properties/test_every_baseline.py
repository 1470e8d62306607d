"""What every registered baseline promises; a new line in BASELINES is tested here without being named."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import counterpoint as cp
from counterpoint import baselines
from counterpoint.baselines import BASELINES
from counterpoint.errors import InputError
from networks import random_images

FILL_ONLY = [name for name, make in BASELINES.items() if getattr(make, "fill_only", False)]
seeds = st.integers(0, 2**16)
# Learned for one image at a time, by a network with a penultimate layer: tests/unit/test_learned.py.
ELSEWHERE = "learned_per_image"
names = st.sampled_from([name for name in BASELINES if name not in (*FILL_ONLY, ELSEWHERE)])
fills = st.sampled_from(FILL_ONLY)


class Balanced(nn.Module):
    """Three linear classes that tie at mid-grey: every image has a decision boundary and an image of highest entropy."""

    def __init__(self, inputs):
        super().__init__()
        weight = torch.randn(
            3, inputs[0].numel(), generator=torch.Generator().manual_seed(0), dtype=torch.float64
        )
        self.weight = nn.Parameter(weight.to(inputs))

    def forward(self, x):
        return (x - 0.5).flatten(1) @ self.weight.T


def unprepared(name, inputs):
    """A baseline of this name; those that choose from images get some of the size of `inputs`, the first input among them."""
    if name in ("nearest", "samples"):
        bank = random_images(1, 9, inputs.shape[1], inputs.shape[2]).to(inputs)
        return BASELINES[name](torch.cat([inputs[:1], bank]))
    if name == "learned":
        return BASELINES[name](
            image=random_images(2, 1, inputs.shape[1], inputs.shape[2])[0].to(inputs), any_model=True
        )
    if name == "seamless":
        return BASELINES[name](baselines.Blur(sigma=2))
    return BASELINES[name]()


def made(name, inputs):
    """One that is ready to be asked for the baselines of `inputs`."""
    score = cp.logit(Balanced(inputs)).bind(inputs)
    return unprepared(name, inputs).prepare(score, inputs)


@given(seed=seeds, name=names, batch=st.integers(1, 3), size=st.integers(1, 9))
def test_shape_type_and_finite_numbers(seed, name, batch, size):
    images = random_images(seed, batch, 3, size)
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        inputs = images.to(dtype)
        one = made(name, inputs)
        baseline = one(inputs)
        assert baseline.shape == (inputs.shape if one.draws == 1 else (one.draws, *inputs.shape))
        assert baseline.dtype == dtype
        assert baseline.isfinite().all()


@given(seed=seeds, name=names)
def test_the_same_alone_and_in_company(seed, name):
    inputs = random_images(seed, 4, 3)
    whole = made(name, inputs)
    together = whole(inputs)
    bank = {"images": whole.images} if hasattr(whole, "images") else {}
    if name == "learned":
        bank = {"image": whole.image, "any_model": True}
    for i in range(4):
        alone = inputs[i : i + 1]
        baseline = BASELINES[name](**bank).prepare(cp.logit(Balanced(alone)).bind(alone), alone)
        torch.testing.assert_close(
            baseline(alone), together.narrow(-4, i, 1), rtol=1e-12, atol=1e-12, msg=f"image {i}"
        )
        torch.testing.assert_close(whole(alone), together.narrow(-4, i, 1), rtol=1e-12, atol=1e-12)


@given(seed=seeds, name=names)
def test_deterministic_and_without_touching_the_inputs_or_the_global_generator(seed, name):
    inputs = random_images(seed, 2, 3)
    kept, state = inputs.clone(), torch.random.get_rng_state()
    one, two = made(name, inputs)(inputs), made(name, inputs)(inputs)
    torch.testing.assert_close(one, two, rtol=0, atol=0)
    torch.testing.assert_close(inputs, kept, rtol=0, atol=0)
    assert torch.equal(torch.random.get_rng_state(), state)


@given(seed=seeds, name=names)
def test_images_in_the_unit_interval_keep_to_it(seed, name):
    inputs = random_images(seed, 2, 3)
    baseline = made(name, inputs)(inputs)
    assert baseline.min() >= -1e-12
    assert baseline.max() <= 1 + 1e-12


@given(seed=seeds, name=names)
def test_fill_changes_removed_pixels_only(seed, name):
    inputs = random_images(seed, 2, 3)
    removed = torch.rand(2, 6, 6, generator=torch.Generator().manual_seed(seed)) < 0.5
    one = made(name, inputs)
    if one.draws > 1:
        one = replace(one, draws=1)
    filled, baseline = one.fill(inputs, removed), one(inputs)
    kept = ~removed.unsqueeze(1).expand_as(inputs)
    torch.testing.assert_close(filled[kept], inputs[kept], rtol=0, atol=0)
    torch.testing.assert_close(filled[~kept], baseline[~kept])


@given(seed=seeds, name=fills, batch=st.integers(1, 3), height=st.integers(1, 9), width=st.integers(2, 9))
def test_a_kind_that_only_fills_changes_removed_pixels_only_alone_or_in_company(
    seed, name, batch, height, width
):
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(batch, 3, height, width, generator=generator, dtype=torch.float64)
    removed = torch.rand(batch, height, width, generator=generator) < 0.7
    removed[:, 0, 0] = False
    state = torch.random.get_rng_state()
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        inputs = images.to(dtype)
        kept = inputs.clone()
        filled = unprepared(name, inputs).fill(inputs, removed)
        assert filled.dtype == dtype
        assert filled.isfinite().all()
        known = ~removed.unsqueeze(1).expand_as(inputs)
        torch.testing.assert_close(filled[known], inputs[known], rtol=0, atol=0)
        torch.testing.assert_close(inputs, kept, rtol=0, atol=0)
    filled = unprepared(name, images).fill(images, removed)
    for i in range(batch):
        alone = unprepared(name, images).fill(images[i : i + 1], removed[i : i + 1])
        torch.testing.assert_close(alone[0], filled[i], rtol=0, atol=1e-8)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("name", FILL_ONLY)
def test_a_kind_that_only_fills_has_no_image_and_needs_a_known_pixel(name):
    inputs = random_images(0, 3, 3)
    with pytest.raises(InputError, match="has no image of its own"):
        unprepared(name, inputs)(inputs)
    removed = torch.zeros(3, 6, 6, dtype=torch.bool)
    removed[1:] = True
    with pytest.raises(InputError, match=r"all pixels of images \[1, 2\] are removed"):
        unprepared(name, inputs).fill(inputs, removed)


@pytest.mark.parametrize("name", BASELINES)
def test_the_docstring_has_a_first_line_and_a_reference(name):
    text = BASELINES[name].__doc__
    assert text.splitlines()[0].endswith(".") or "." in text.splitlines()[0]
    assert "Reference:" in text


@pytest.mark.parametrize("name", [name for name in BASELINES if name != ELSEWHERE])
def test_a_baseline_is_a_value(name):
    inputs = random_images(0, 2, 3)
    one, two = unprepared(name, inputs), unprepared(name, inputs)
    assert one == two
    assert hash(one) == hash(two)
    assert made(name, inputs) == one
    assert baselines.Black() != one or name == "black"
