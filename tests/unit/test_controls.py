"""The controls are what they say, and never ask the model."""

import pytest
import torch
from scipy.ndimage import sobel

import counterpoint as cp
from counterpoint.errors import InputError, ShapeError
from counterpoint.methods import CentredBlob, EdgeMap, RandomMap
from networks import random_images

CONTROLS = [RandomMap(), EdgeMap(), CentredBlob()]


def heat(control, images, baseline=None):
    """The map, channels summed."""
    comparison = cp.compare(lambda x: x.sum((1, 2, 3)), images, baseline=baseline or cp.baselines.Black())
    attribution = comparison.explain(control)
    assert attribution.forward_evaluations.sum() == attribution.gradient_evaluations.sum() == 0
    assert attribution.undefined[0] == "values are importances, not shares of the score"
    torch.testing.assert_close(attribution.values[:, 0], attribution.values[:, -1], rtol=0, atol=0)
    return attribution.values.sum(1)


@pytest.mark.parametrize("control", CONTROLS, ids=lambda c: type(c).__name__)
def test_a_control_takes_any_baseline_since_it_asks_none(control):
    images = random_images(0)
    several = heat(control, images, cp.baselines.Uniform(draws=3))
    torch.testing.assert_close(several, heat(control, images), rtol=0, atol=0)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_edge_map_is_the_sobel_magnitude_of_the_mean_channel(channels):
    images = random_images(1, channels=channels, size=9)
    found = heat(EdgeMap(), images)
    for image, each in zip(images, found, strict=True):
        grey = image.mean(0).numpy()
        across, down = (torch.from_numpy(sobel(grey, axis=axis, mode="nearest")) / 8 for axis in (1, 0))
        torch.testing.assert_close(each, (across**2 + down**2).sqrt())


def test_a_ramp_has_its_slope_as_edge_and_a_flat_image_none():
    ramp = (torch.arange(8).double() * 0.05).expand(1, 2, 8, 8)
    assert heat(EdgeMap(), ramp)[0, :, 1:-1].flatten().tolist() == pytest.approx([0.05] * 48)
    assert heat(EdgeMap(), torch.full((1, 2, 8, 8), 0.3)).abs().max() < 1e-7


def test_the_random_map_is_uniform_the_same_for_all_images_and_another_for_another_seed():
    images = random_images(2, size=40)
    one, other = heat(RandomMap(seed=1), images), heat(RandomMap(seed=2), images)
    torch.testing.assert_close(one[0], one[1], rtol=0, atol=0)
    assert 0 <= one.min() < 0.01
    assert 0.99 < one.max() <= 1
    assert abs(float(one.mean()) - 0.5) < 0.03
    assert abs(float(torch.corrcoef(torch.stack([one[0].flatten(), other[0].flatten()]))[0, 1])) < 0.1


def test_the_blob_is_round_and_highest_in_the_middle_of_the_image():
    spot = heat(CentredBlob(width=0.25), torch.rand(2, 3, 9, 13, dtype=torch.float64))[0]
    assert spot[4, 6].item() == pytest.approx(1.0)
    assert spot[4, 6] == spot.max()
    torch.testing.assert_close(spot, spot.flip(0).flip(1))
    # Two pixels away in any direction; s = 0.25 * 9.
    expected = torch.exp(torch.tensor(-0.5 * (2 / 2.25) ** 2))
    assert spot[2, 6].item() == spot[4, 8].item() == pytest.approx(expected.item())


def test_the_blob_of_an_image_with_an_even_side_is_centred_between_pixels():
    spot = heat(CentredBlob(), torch.rand(1, 1, 6, 6, dtype=torch.float64))[0]
    torch.testing.assert_close(spot, spot.flip(0))
    assert spot[2, 2] == spot[3, 3] == spot.max()


def test_controls_need_places(unchecked):
    for control in CONTROLS:
        with pytest.raises(ShapeError, match=r"inputs must (be images|have channels and places)"):
            cp.compare(lambda x: x.sum(1), torch.rand(2, 5), baseline=cp.baselines.Black()).explain(control)


def test_a_blob_without_width_is_refused():
    with pytest.raises(InputError, match="width must be above 0"):
        CentredBlob(width=0.0)
