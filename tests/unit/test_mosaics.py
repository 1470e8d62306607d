"""Mosaics of cut-outs: the masks are exact, and an image is the same in any company."""

import numpy as np
import pytest
import torch
from PIL import Image

from counterpoint.data.mosaics import OBJECTS, compose, read_cutouts
from counterpoint.errors import ImageError, InputError

COLOURS = {
    "1_red ball": (255, 0, 0),
    "22_green": (0, 255, 0),
    "blue_box": (0, 0, 255),
    "4_": (255, 255, 0),
    "5_e": (0, 255, 255),
}


@pytest.fixture
def folder(tmp_path):
    """Five discs of one colour each, off the middle of a transparent ground of another colour."""
    y, x = np.mgrid[:40, :60]
    for name, colour in COLOURS.items():
        pixels = np.full((40, 60, 4), (9, 9, 9, 0), dtype=np.uint8)
        pixels[np.hypot(y - 15, x - 20) <= 12] = (*colour, 255)
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    (tmp_path / "README.md").write_text("no picture")
    return tmp_path


@pytest.mark.parametrize("background", ["plain", "cloudy"])
@pytest.mark.parametrize("size", [64, 65])
def test_a_mask_holds_the_object_and_nothing_else(folder, background, size):
    batch = compose(folder, 4, seed=0, size=size, background=background)
    colours = {
        name.split("_", 1)[-1].replace("_", " ") if name[0].isdigit() else name.replace("_", " "): c
        for name, c in COLOURS.items()
    }
    for image, masks, names in zip(batch.images, batch.masks, batch.names, strict=True):
        for mask, name in zip(masks, names, strict=True):
            colour = torch.tensor(colours[name]) / 255
            # Resizing rings a little at the edge of a disc, but never reaches another object's colour.
            inside = image[:, mask]
            assert (inside - colour[:, None]).abs().max() < 0.15
            elsewhere = image[:, ~mask]
            assert (elsewhere - colour[:, None]).abs().amax(0).min() > 0.25


def test_objects_lie_in_their_cells_and_share_no_pixel(folder):
    masks = compose(folder, 6, seed=3, size=64).masks
    cells = torch.zeros(OBJECTS, 64, 64, dtype=torch.bool)
    for k in range(OBJECTS):
        cells[k, 32 * (k // 2) : 32 * (k // 2) + 32, 32 * (k % 2) : 32 * (k % 2) + 32] = True
    assert not (masks & ~cells).any()
    assert (masks.sum(1) <= 1).all()


def test_an_object_fills_most_of_its_cell(folder):
    sides = compose(folder, 6, seed=3, size=128).masks.any(2).sum(2)  # the cropped disc is as wide as high
    assert ((sides >= 0.75 * 64 - 2) & (sides <= 0.95 * 64 + 1)).all()


def test_the_four_objects_differ_and_carry_name_and_number(folder):
    batch = compose(folder, 8, seed=1, size=32)
    numbers = {"red ball": 1, "green": 22, "blue box": None, "": 4, "e": 5}
    for names, classes in zip(batch.names, batch.classes, strict=True):
        assert len(set(names)) == OBJECTS
        assert classes == tuple(numbers[name] for name in names)
    assert {name for names in batch.names for name in names} == set(numbers)


def test_an_image_is_the_same_however_many_are_asked_for(folder):
    few, many = compose(folder, 2, seed=5, size=48), compose(folder, 5, seed=5, size=48)
    torch.testing.assert_close(few.images, many.images[:2], rtol=0, atol=0)
    assert torch.equal(few.masks, many.masks[:2])
    assert few.names == many.names[:2]
    assert not torch.equal(few.images, compose(folder, 2, seed=6, size=48).images)


def test_the_plain_background_is_one_grey_and_the_cloudy_one_is_not(folder):
    plain = compose(folder, 1, seed=0, size=64)
    cloudy = compose(folder, 1, seed=0, size=64, background="cloudy")
    assert len(plain.images[0][:, ~plain.masks[0].any(0)].unique()) == 1
    assert len(cloudy.images[0][:, ~cloudy.masks[0].any(0)].unique()) > 20


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": 0}, "count must be at least 1, got 0"),
        ({"count": 2.0}, r"count must be a whole number, got 2\.0"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"size": 31}, "size must be at least 32, got 31"),
        ({"background": "grey"}, "background must be 'plain' or 'cloudy', got 'grey'"),
    ],
)
def test_arguments_out_of_range_are_refused(folder, arguments, message):
    with pytest.raises(InputError, match=message):
        compose(folder, **{"count": 1, "seed": 0, **arguments})


def test_a_folder_that_is_missing_or_holds_too_few_is_refused(folder, tmp_path):
    with pytest.raises(InputError, match=r"there is none at '.*nowhere'"):
        compose(tmp_path / "nowhere", 1, seed=0)
    for name in list(COLOURS)[:2]:
        (folder / f"{name}.png").unlink()
    with pytest.raises(InputError, match=r"at least 4 cut-outs \(\.png, \.webp\), but .* holds 3"):
        compose(folder, 1, seed=0)


def test_a_picture_without_a_mask_is_refused(folder):
    Image.new("RGB", (8, 8)).save(folder / "opaque.png")
    with pytest.raises(ImageError, match=r"opaque\.png' has no alpha channel"):
        compose(folder, 1, seed=0)
    Image.new("RGBA", (8, 8)).save(folder / "opaque.png")
    with pytest.raises(ImageError, match=r"opaque\.png' is transparent everywhere"):
        compose(folder, 1, seed=0)
    (folder / "opaque.png").write_bytes(b"no picture")
    with pytest.raises(ImageError, match=r"opaque\.png' cannot be read"):
        compose(folder, 1, seed=0)


def test_real_cutouts_keep_their_share_of_alpha(cutouts):
    batch = compose(cutouts, 3, seed=0)
    assert batch.images.shape == (3, 3, 224, 224)
    by_name = {cutout.name: cutout for cutout in read_cutouts(cutouts)}
    for masks, names in zip(batch.masks, batch.names, strict=True):
        for mask, name in zip(masks, names, strict=True):
            alpha = np.asarray(by_name[name].picture.getchannel("A")) >= 128
            rows, columns = mask.any(1).sum().item(), mask.any(0).sum().item()
            assert mask.sum().item() / (rows * columns) == pytest.approx(alpha.mean(), abs=0.05)
