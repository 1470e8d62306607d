"""Regions: what the labels are, what is refused, and how the command line names them."""

import sys

import pytest
import torch

import counterpoint as cp
from counterpoint import spec
from counterpoint.errors import InputError, MissingPackageError, ShapeError, UnknownNameError
from counterpoint.methods.regions import REGIONS, labels_of
from networks import random_images

Grid, Patches, Superpixels = cp.methods.Grid, cp.methods.Patches, cp.methods.Superpixels


def test_a_grid_is_as_even_as_can_be_and_numbered_row_by_row():
    labels = Grid(3)(torch.zeros(2, 1, 7, 8))
    assert labels.shape == (2, 7, 8)
    assert torch.equal(labels[0], labels[1])
    counts = labels[0].flatten().bincount()
    assert counts.tolist() == [9, 9, 6, 6, 6, 4, 6, 6, 4]  # rows 3, 2, 2; columns 3, 3, 2
    assert labels[0, 0].tolist() == [0, 0, 0, 1, 1, 1, 2, 2]
    assert labels[0, :, 0].tolist() == [0, 0, 0, 3, 3, 6, 6]


def test_along_a_side_with_fewer_pixels_than_cells_each_pixel_is_a_cell():
    labels = Grid(7)(torch.zeros(1, 3, 2, 20))
    assert labels.max() == 2 * 7 - 1
    assert labels_of(Grid(7), torch.zeros(1, 3, 2, 20)).unique().numel() == 14


def test_patches_have_their_size_and_what_is_left_over_is_smaller():
    labels = Patches(4)(torch.zeros(1, 3, 8, 10))[0]
    assert labels.flatten().bincount().tolist() == [16, 16, 8, 16, 16, 8]


def two_colours(batch=1):
    """Dark on the left, light on the right, the edge at another column in each image."""
    images = torch.full((batch, 3, 32, 32), 0.1)
    for i in range(batch):
        images[i, :, :, 11 + 5 * i :] = 0.9
    return images


def test_superpixels_keep_to_colours():
    images = two_colours(2)
    labels = labels_of(Superpixels(count=9, sigma=0.0), images)
    for i, edge in enumerate((11, 16)):
        left, right = (set(part.flatten().tolist()) for part in (labels[i, :, :edge], labels[i, :, edge:]))
        assert len(left) > 1
        assert not left & right


def test_superpixels_are_the_same_each_time_and_in_company():
    images = torch.cat([two_colours(2), random_images(0, 1, 3, 32).float()])
    together = Superpixels(count=12)(images)
    assert torch.equal(together, Superpixels(count=12)(images))
    for i in range(3):
        assert torch.equal(Superpixels(count=12)(images[i : i + 1])[0], together[i])
        assert torch.equal(together[i].unique(), torch.arange(int(together[i].max()) + 1))


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_superpixels_take_any_channels_and_type(channels, dtype):
    labels = labels_of(Superpixels(count=4), random_images(1, 2, channels, 16).to(dtype))
    assert labels.shape == (2, 16, 16)


def test_superpixels_without_scikit_image_say_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(
        MissingPackageError, match=r"superpixels needs scikit-image: pip install \"counterpoint\[segments\]\""
    ):
        Superpixels()(two_colours())


@pytest.mark.parametrize(
    ("made", "error", "words"),
    [
        (lambda x: torch.zeros(2, 6, 6), InputError, "whole numbers, got torch.float32"),
        (lambda x: torch.zeros(2, 6, 6, dtype=torch.bool), InputError, "whole numbers, got torch.bool"),
        (lambda x: 3, InputError, "whole numbers, got 3"),
        (lambda x: torch.zeros(6, 6, dtype=torch.int64), ShapeError, r"\(2, 6, 6\), got \(6, 6\)"),
        (lambda x: torch.full((2, 6, 6), 1), InputError, "from 0 without gaps"),
        (
            lambda x: torch.arange(72).view(2, 6, 6),
            InputError,
            "without gaps, got 36 from 36 to 71 in image 1",
        ),
        (Grid, InputError, "cp.methods.Grid"),
        ("grid", InputError, "got 'grid'"),
    ],
)
def test_what_gives_no_labels_is_refused(made, error, words, unchecked):
    with pytest.raises(error, match=words):
        labels_of(made, random_images(0))


def test_ones_own_function_may_stand_in_their_place():
    halves = (torch.arange(36) >= 12).long().view(1, 6, 6).expand(2, -1, -1)
    method = cp.methods.FeatureAblation(regions=lambda inputs: halves)
    images = random_images(3)
    comparison = cp.compare(lambda x: x.flatten(1).sum(1), images, baseline=cp.baselines.Black())
    attribution = comparison.explain(method)
    torch.testing.assert_close(attribution.values[:, :, :2].sum((1, 2, 3)), images[:, :, :2].sum((1, 2, 3)))
    assert attribution.error.abs().max() < 1e-12


@pytest.mark.parametrize("name", REGIONS)
def test_regions_need_places(name, unchecked):
    with pytest.raises(ShapeError, match=r"inputs must (be images|have channels and places)"):
        REGIONS[name]()(torch.zeros(2, 6))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Grid(0), "cells must be at least 1"),
        (lambda: Patches(0), "size must be at least 1"),
        (lambda: Superpixels(0), "count must be at least 1"),
        (lambda: Superpixels(compactness=0.0), "compactness must be above 0"),
        (lambda: Superpixels(sigma=-1.0), "sigma must be at least 0"),
    ],
)
def test_parameters_out_of_range_are_refused(make, words):
    with pytest.raises(InputError, match=words):
        make()


@pytest.mark.parametrize(
    ("text", "built"),
    [
        ("kernel_shap:regions=superpixels(50)", cp.methods.KernelSHAP(regions=Superpixels(50))),
        ("lime:regions=patches(size=8),seed=3", cp.methods.LIME(regions=Patches(8), seed=3)),
        (
            "feature_ablation:regions=superpixels(count=30,sigma=2)",
            cp.methods.FeatureAblation(regions=Superpixels(30, sigma=2.0)),
        ),
        ("feature_ablation:regions=grid", cp.methods.FeatureAblation(regions=Grid())),
    ],
)
def test_the_command_line_names_regions_in_call_form(text, built):
    method = spec.build("method", text)
    assert method == built
    description = spec.describe(method)
    assert spec.build("method", description.text) == method
    assert spec.build("method", description.as_dict()) == method


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("kernel_shap:regions=superpixel(50)", "unknown regions 'superpixel'; did you mean 'superpixels'"),
        ("kernel_shap:regions=gauss_legendre(5)", "unknown regions 'gauss_legendre'"),
        ("integrated_gradients:rule=grid(5)", "unknown rule 'grid'"),
        ("lime:regions=grid(cels=5)", "did you mean 'cells'"),
    ],
)
def test_a_wrong_name_is_looked_for_among_regions_only(text, words):
    with pytest.raises(UnknownNameError, match=words):
        spec.build("method", text)
    with pytest.raises(InputError, match="must be a Grid or a Patches or a Superpixels, got 7"):
        spec.build("method", "lime:regions=7")
