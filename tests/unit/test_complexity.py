"""Closed forms of how spread out a map is."""

import math

import pytest
import torch

import counterpoint as cp
from counterpoint import metrics
from counterpoint.errors import InputError, NotFiniteError, ShapeError
from networks import SmallNet, random_images

ALL = (metrics.sparseness, metrics.complexity, metrics.effective_complexity)


def maps(*rows, dtype=torch.float64):
    return torch.tensor(rows, dtype=dtype).view(len(rows), 2, 2)


# A single pixel, a constant map, a half of one, a mixed sign.
EXAMPLES = maps([0, 0, 5, 0], [3, 3, 3, 3], [1, 1, 0, 0], [0, -1, 2, 1])


def test_sparseness_is_ginis_index_by_hand():
    # (2 k - 5) |a|_(k) / (4 sum |a|): for 0, 1, 1, 2: (-1 + 1 + 6) / 16.
    expected = torch.tensor([3 / 4, 0, 1 / 2, 6 / 16], dtype=torch.float64)
    torch.testing.assert_close(metrics.sparseness(EXAMPLES), expected)


def test_sparseness_is_half_the_mean_difference_over_the_mean():
    saliency = torch.randn(3, 5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    flat = saliency.flatten(1).abs()
    expected = (flat[:, None] - flat[:, :, None]).abs().mean((1, 2)) / (2 * flat.mean(1))
    torch.testing.assert_close(metrics.sparseness(saliency), expected)


def test_complexity_is_the_entropy_by_hand():
    expected = [0, math.log(4), math.log(2), 1.5 * math.log(2)]
    torch.testing.assert_close(metrics.complexity(EXAMPLES), torch.tensor(expected, dtype=torch.float64))


def test_effective_complexity_counts_pixels_by_their_share_of_the_maps_own_largest():
    assert metrics.effective_complexity(EXAMPLES).tolist() == [1, 4, 2, 3]
    assert metrics.effective_complexity(EXAMPLES, threshold=0.5).tolist() == [1, 4, 2, 1]
    assert metrics.effective_complexity(1e6 * EXAMPLES, threshold=0.5).tolist() == [1, 4, 2, 1]


@pytest.mark.parametrize("measure", ALL)
def test_neither_scale_nor_sign_nor_company_matters(measure):
    torch.testing.assert_close(measure(-7 * EXAMPLES), measure(EXAMPLES))
    alone = torch.cat([measure(each[None]) for each in EXAMPLES])
    torch.testing.assert_close(alone, measure(EXAMPLES))


def test_more_spread_is_less_sparse_and_more_complex():
    place = torch.arange(15.0, dtype=torch.float64) - 7
    blobs = torch.stack([torch.exp(-(place[:, None] ** 2 + place**2) / (2 * s * s)) for s in (1, 2, 4)])
    assert (metrics.sparseness(blobs).diff() < 0).all()
    assert (metrics.complexity(blobs).diff() > 0).all()
    assert (metrics.effective_complexity(blobs).diff() > 0).all()


def test_a_map_of_zeros_has_no_spread_and_no_pixels_that_matter():
    zero = torch.zeros(1, 2, 2)
    assert metrics.sparseness(zero).isnan().all()
    assert metrics.complexity(zero).isnan().all()
    assert metrics.effective_complexity(zero).tolist() == [0]


def test_numbers_are_float32_at_least():
    for dtype, expected in (
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ):
        for measure in (metrics.sparseness, metrics.complexity):
            assert measure(EXAMPLES.to(dtype)).dtype == expected
    torch.testing.assert_close(metrics.complexity(EXAMPLES > 0)[1], torch.tensor(math.log(4)))


@pytest.mark.parametrize("measure", ALL)
def test_an_attribution_is_taken_by_its_heat_map(measure):
    question = cp.compare(cp.logit(SmallNet(0), 1), random_images(1), baseline=cp.baselines.Grey())
    attribution = question.explain(cp.methods.Taylor())
    torch.testing.assert_close(measure(attribution), measure(attribution.heatmap()))


@pytest.mark.parametrize("measure", ALL)
def test_wrong_maps_are_named(measure, unchecked):
    with pytest.raises(
        ShapeError, match=r"must be \(batch, height, width\), but is \(2, 3, 4, 4\); sum its channels"
    ):
        measure(torch.ones(2, 3, 4, 4))
    with pytest.raises(ShapeError, match=r"but is \(0, 4, 4\)"):
        measure(torch.ones(0, 4, 4))
    with pytest.raises(NotFiniteError, match="saliency must be finite, but 1 of 4"):
        measure(torch.tensor([[[1.0, torch.nan], [0, 0]]]))
    with pytest.raises(InputError, match="got list"):
        measure([[1.0]])
    with pytest.raises(InputError, match="threshold must be at least 0 and at most 1"):
        metrics.effective_complexity(EXAMPLES, threshold=2.0)
