"""Fills: against SciPy's direct solution of the system, and against every pixel looked at one by one."""

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import scipy.sparse
import torch
from scipy.ndimage import gaussian_filter

import counterpoint as cp
from counterpoint import baselines, spec
from counterpoint.errors import InputError, ShapeError
from networks import linear_score, random_images

WEIGHTS = {
    (dy, dx): (1 / 6 if dy * dx == 0 else 1 / 12) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx
}


def solved_directly(image, removed, share=1.0):
    """Each removed pixel the mean of its neighbours in the image, weights renormalised; one row of equations for each."""
    height, width = removed.shape
    y, x = np.nonzero(removed)
    number = np.full(removed.shape, -1)
    number[y, x] = np.arange(len(y))
    left = sum(
        weight * ((y + dy >= 0) & (y + dy < height) & (x + dx >= 0) & (x + dx < width))
        for (dy, dx), weight in WEIGHTS.items()
    )
    rows, columns, entries = [np.arange(len(y))], [np.arange(len(y))], [np.ones(len(y))]
    right = np.zeros((len(y), len(image)))
    for (dy, dx), weight in WEIGHTS.items():
        inside = np.nonzero((y + dy >= 0) & (y + dy < height) & (x + dx >= 0) & (x + dx < width))[0]
        part, ny, nx = share * weight / left[inside], y[inside] + dy, x[inside] + dx
        unknown = removed[ny, nx]
        rows.append(inside[unknown])
        columns.append(number[ny, nx][unknown])
        entries.append(-part[unknown])
        right[inside[~unknown]] += (part * image[:, ny, nx]).T[~unknown]
    matrix = scipy.sparse.csc_matrix(
        (np.concatenate(entries), (np.concatenate(rows), np.concatenate(columns)))
    )
    filled = image.copy()
    filled[:, removed] = scipy.sparse.linalg.spsolve(matrix, right).reshape(len(y), -1).T
    return filled


def mask(kind, height, width, seed=0):
    draw = np.random.default_rng(seed)
    removed = np.ones((height, width), bool)
    if kind == "half":
        removed[:, width // 2 :] = False
    elif kind == "one known":
        removed[height // 3, width // 4] = False
    elif kind == "two known":
        removed[0, 0] = removed[-1, width // 2] = False
    elif kind == "one removed":
        removed = ~removed
        removed[0, -1] = True
    elif kind == "two halves":
        removed[:, width // 2] = False
    elif kind == "blobs":
        smooth = gaussian_filter(draw.random((height, width)), 6)
        removed = smooth < np.quantile(smooth, 0.9)
    else:
        removed = draw.random((height, width)) < float(kind)
        removed[height // 2, 1] = False
    return removed


KINDS = ("half", "one known", "two known", "one removed", "two halves", "blobs", "0.5", "0.9", "0.999")


def smooth_image(height, width, seed=0):
    image = gaussian_filter(np.random.default_rng(seed).random((3, height, width)), (0, 1, 1))
    return (image - image.min()) / (image.max() - image.min())


@pytest.mark.parametrize("size", [(96, 67), (33, 64)])
@pytest.mark.parametrize("kind", KINDS)
def test_road_is_scipys_direct_solution(kind, size):
    image, removed = smooth_image(*size), mask(kind, *size)
    expected = torch.tensor(solved_directly(image, removed))
    for dtype, tolerance in ((torch.float64, 1e-8), (torch.float32, 3e-6)):
        filled = baselines.ROAD(noise=0).fill(
            torch.tensor(image, dtype=dtype)[None], torch.tensor(removed)[None]
        )
        torch.testing.assert_close(filled[0].double(), expected, rtol=0, atol=tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["blobs", "two known", "0.9", "0.9999"])
def test_road_is_scipys_direct_solution_at_224_pixels(kind):
    image, removed = smooth_image(224, 224), mask(kind, 224, 224)
    expected = torch.tensor(solved_directly(image, removed))
    for dtype, tolerance in ((torch.float64, 1e-8), (torch.float32, 3e-6)):
        filled = baselines.ROAD(noise=0).fill(
            torch.tensor(image, dtype=dtype)[None], torch.tensor(removed)[None]
        )
        torch.testing.assert_close(filled[0].double(), expected, rtol=0, atol=tolerance)


def test_road_solves_different_masks_in_one_batch_and_reads_no_removed_pixel():
    removed = np.stack([mask(kind, 40, 40) for kind in KINDS])
    images = np.stack([smooth_image(40, 40, seed) for seed in range(len(KINDS))])
    hidden = torch.tensor(images).masked_fill(torch.tensor(removed)[:, None], torch.nan)
    filled = baselines.ROAD(noise=0).fill(hidden, torch.tensor(removed))
    expected = np.stack([solved_directly(*pair) for pair in zip(images, removed, strict=True)])
    torch.testing.assert_close(filled, torch.tensor(expected), rtol=0, atol=1e-8)


@pytest.mark.parametrize("size", [(1, 9), (2, 30), (3, 2), (1, 2), (200, 3)])
def test_road_fills_thin_images(size):
    image, removed = smooth_image(*size), mask("0.7", *size)
    removed[0, 0], removed[-1, -1] = False, True
    filled = baselines.ROAD(noise=0).fill(torch.tensor(image)[None], torch.tensor(removed)[None])
    torch.testing.assert_close(filled[0], torch.tensor(solved_directly(image, removed)), rtol=0, atol=1e-8)


def test_roads_noise_is_seeded_the_same_for_all_images_and_on_removed_pixels_only():
    inputs, removed = random_images(0, 3, 3, 60), torch.ones(3, 60, 60, dtype=torch.bool)
    removed[:, :5] = False
    plain = baselines.ROAD(noise=0).fill(inputs, removed)
    noise = baselines.ROAD(noise=0.02, seed=4).fill(inputs, removed) - plain
    assert (noise[:, :, :5] == 0).all()
    assert noise[:, :, 5:].std() == pytest.approx(0.02, rel=0.03)
    torch.testing.assert_close(noise[0], noise[2], rtol=0, atol=1e-12)
    torch.testing.assert_close(noise, baselines.ROAD(noise=0.02, seed=4).fill(inputs, removed) - plain)
    assert not torch.equal(noise, baselines.ROAD(noise=0.02, seed=5).fill(inputs, removed) - plain)


@pytest.mark.golden
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # theirs hands tensors to NumPy
def test_road_is_pytorch_grad_cams_imputer():
    # The same equations. Theirs fills in float32 and keeps what its mask holds as 1; ours is told what is removed.
    road = pytest.importorskip("pytorch_grad_cam.metrics.road")
    image, removed = smooth_image(32, 27), mask("0.8", 32, 27)
    theirs = road.NoisyLinearImputer(noise=0.0)(
        torch.tensor(image, dtype=torch.float32), torch.tensor(~removed, dtype=torch.float32)
    )
    ours = baselines.ROAD(noise=0).fill(torch.tensor(image)[None], torch.tensor(removed)[None])[0]
    torch.testing.assert_close(ours.float(), theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["half", "one known", "two known", "one removed", "blobs", "0.9"])
@pytest.mark.parametrize("size", [(17, 12), (1, 7)])
def test_neighbour_mean_is_the_mean_over_the_smallest_square_that_holds_a_known_pixel(kind, size):
    image, removed = smooth_image(*size), mask(kind, *size)
    expected = image.copy()
    for y, x in zip(*np.nonzero(removed), strict=True):
        for reach in range(1, 20):
            square = np.s_[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1]
            if not removed[square].all():
                expected[:, y, x] = image[:, square[0], square[1]][:, ~removed[square]].mean(1)
                break
    filled = baselines.NeighbourMean().fill(torch.tensor(image)[None], torch.tensor(removed)[None])
    torch.testing.assert_close(filled[0], torch.tensor(expected))


def test_neighbour_mean_reads_no_removed_pixel_and_turns_with_the_image():
    image, removed = torch.tensor(smooth_image(20, 20))[None], torch.tensor(mask("blobs", 20, 20))[None]
    hidden = image.masked_fill(removed[:, None], torch.nan)
    filled = baselines.NeighbourMean().fill(hidden, removed)
    turned = baselines.NeighbourMean().fill(hidden.rot90(1, (2, 3)), removed.rot90(1, (1, 2)))
    torch.testing.assert_close(turned.rot90(-1, (2, 3)), filled)


@pytest.mark.parametrize("baseline", [baselines.ROAD(), baselines.NeighbourMean()])
def test_a_comparison_fills_with_them_and_path_methods_refuse_them(baseline):
    inputs, (score, _) = random_images(0, 2, 3), linear_score(0, (3, 6, 6))
    comparison = cp.compare(score, inputs, baseline=baseline)
    assert comparison.baseline_inputs.isnan().all()
    removed, image = torch.zeros(3, 6, 6, dtype=torch.bool), torch.tensor([1, 0, 1])
    removed[:, 2:5] = True
    torch.testing.assert_close(comparison.filled(removed, image), baseline.fill(inputs[image], removed))
    with pytest.raises(InputError, match="only fills removed pixels; use it with a perturbation method"):
        comparison.explain(cp.methods.Taylor())


def test_wrong_arguments_are_named(unchecked):
    inputs = random_images(0, 2, 3)
    for baseline in (baselines.ROAD(), baselines.NeighbourMean()):
        for removed in (torch.ones(2, 5, 6, dtype=torch.bool), torch.zeros(2, 6, 6)):
            with pytest.raises(ShapeError, match=r"removed must be bool \(batch, height, width\)"):
                baseline.fill(inputs, removed)
        with pytest.raises(ShapeError, match="must be images"):
            baseline.fill(inputs[0], torch.zeros(3, 6, dtype=torch.bool))
    with pytest.raises(InputError, match="noise must be at least 0, got -1"):
        baselines.ROAD(noise=-1.0)


@dataclass(frozen=True, eq=False)
class Given(baselines.Baseline):
    """The pictures that it was given."""

    pictures: torch.Tensor = field(repr=False)

    def __call__(self, inputs):
        return self.pictures


@dataclass(frozen=True)
class Prepared(baselines.Baseline):
    """Black, once the score is known."""

    ready: bool = False

    def prepare(self, bound, inputs):
        return replace(self, ready=True)

    def __call__(self, inputs):
        assert self.ready
        return torch.zeros_like(inputs)


@pytest.mark.parametrize("reach", [None, 1.0, 0.05, 1e-5])
@pytest.mark.parametrize("kind", ["half", "one known", "blobs", "0.9"])
def test_seamless_is_its_picture_and_scipys_direct_solution_for_the_difference(kind, reach):
    image, removed = smooth_image(24, 17), mask(kind, 24, 17)
    picture = smooth_image(24, 17, seed=1)
    filled = baselines.Seamless(Given(torch.tensor(picture)[None]), reach=reach).fill(
        torch.tensor(image)[None], torch.tensor(removed)[None]
    )[0]
    share = 1.0 if reach is None else 3 / (1 + 2 * np.cosh(min(30.0, 1 / (17 * reach))))
    shift = solved_directly(image - picture, removed, share)
    np.testing.assert_allclose(filled.numpy(), picture + shift, atol=1e-7)
    np.testing.assert_array_equal(filled.numpy()[:, ~removed], image[:, ~removed])


def test_the_shift_falls_by_a_factor_e_within_the_reach():
    """Far from the borders of the image, beside a straight edge."""
    image, removed = torch.ones(1, 1, 100, 40, dtype=torch.float64), torch.zeros(1, 100, 40, dtype=torch.bool)
    removed[..., 1:] = True
    middle = baselines.Seamless(baselines.Black(), reach=4 / 40).fill(image, removed)[0, 0, 50, :20]
    torch.testing.assert_close(middle, (-torch.arange(20, dtype=torch.float64) / 4).exp(), rtol=1e-3, atol=0)


def test_a_short_reach_is_the_picture_pasted_in():
    image, removed = torch.tensor(smooth_image(20, 20))[None], torch.tensor(mask("blobs", 20, 20))[None]
    pasted = baselines.Seamless(baselines.Blur(sigma=3), reach=1e-9).fill(image, removed)
    torch.testing.assert_close(pasted, baselines.Blur(sigma=3).fill(image, removed))


def test_without_a_reach_seamless_takes_no_colour_from_its_picture():
    """A picture that is brighter all over fills alike; a plain one leaves ROAD's values."""
    image, removed = torch.tensor(smooth_image(20, 20))[None], torch.tensor(mask("blobs", 20, 20))[None]
    picture = torch.tensor(smooth_image(20, 20, seed=1))[None]
    shifted = picture + torch.tensor([0.3, -0.2, 0.1])[:, None, None]
    one, other = (
        baselines.Seamless(Given(each), reach=None).fill(image, removed) for each in (picture, shifted)
    )
    torch.testing.assert_close(one, other)
    plain = baselines.Seamless(baselines.Black(), reach=None).fill(image, removed)
    torch.testing.assert_close(plain, baselines.ROAD(noise=0).fill(image, removed))


def test_the_picture_itself_is_left_where_it_already_joins():
    image, removed = torch.tensor(smooth_image(20, 20))[None], torch.tensor(mask("half", 20, 20))[None]
    torch.testing.assert_close(baselines.Seamless(Given(image)).fill(image, removed), image)


def test_seamless_prepares_its_picture_and_keeps_its_text():
    inputs, (score, _) = random_images(0, 2, 3), linear_score(0, (3, 6, 6))
    seamless = baselines.Seamless(Prepared(), reach=None)
    found = cp.compare(score, inputs, baseline=seamless)
    removed, image = torch.zeros(2, 6, 6, dtype=torch.bool), torch.tensor([1, 0])
    removed[:, 2:5] = True
    filled = found.filled(removed, image)
    torch.testing.assert_close(filled, baselines.ROAD(noise=0).fill(inputs[image], removed))
    text = spec.describe(baselines.Seamless(baselines.Blur(sigma=3))).text
    assert spec.build("baseline", text) == baselines.Seamless(baselines.Blur(sigma=3))
    assert spec.build("baseline", "seamless:mean") == baselines.Seamless(baselines.Mean())


def test_seamless_wants_a_picture():
    with pytest.raises(InputError, match="needs picture"):
        spec.build("baseline", "seamless")
    with pytest.raises(InputError, match=r"one image, got ROAD.*it only fills"):
        baselines.Seamless(baselines.ROAD())
    with pytest.raises(InputError, match="reach must be above 0"):
        baselines.Seamless(baselines.Blur(), reach=0.0)
    with pytest.raises(InputError, match="it has 3"):
        baselines.Seamless(baselines.Uniform(draws=3))
