"""Decoding photographs: what comes out, and what is refused."""

import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from counterpoint.errors import ImageError
from counterpoint.images import IMAGE_SUFFIXES, as_rgb, read_image


def gradient(width: int = 40, height: int = 30) -> Image.Image:
    rows, columns = np.mgrid[0:height, 0:width]
    return Image.fromarray(
        np.stack([rows * 8 % 256, columns * 6 % 256, (rows + columns) % 256], axis=-1).astype(np.uint8)
    )


def png_with_header(path: Path, width: int, height: int) -> Path:
    """A PNG that claims a size and holds almost nothing."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(100)))
        + chunk(b"IEND", b"")
    )
    return path


def pixel(image: Image.Image, at: tuple[int, int] = (0, 0)) -> object:
    return image.getpixel(at)


def test_a_lossless_file_comes_back_pixel_by_pixel(tmp_path: Path) -> None:
    gradient().save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert image.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(image), np.asarray(gradient()))


@pytest.mark.parametrize("suffix", [s for s in IMAGE_SUFFIXES if s != ".pgm"])
def test_every_suffix_that_folders_are_searched_for_can_be_read(tmp_path: Path, suffix: str) -> None:
    if suffix not in Image.registered_extensions():
        pytest.skip(f"this Pillow cannot write {suffix}")
    gradient().save(tmp_path / f"a{suffix}")
    assert read_image(tmp_path / f"a{suffix}").size == (40, 30)


def test_a_text_path_serves_as_well_as_a_path_object(tmp_path: Path) -> None:
    gradient().save(tmp_path / "a.png")
    assert read_image(str(tmp_path / "a.png")).size == (40, 30)


def test_the_content_decides_and_not_the_suffix(tmp_path: Path) -> None:
    gradient().save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a.jpg")
    assert read_image(tmp_path / "a.jpg").size == (40, 30)


@pytest.mark.parametrize(("orientation", "corner"), [(1, (0, 0)), (3, (39, 29)), (6, (29, 0)), (8, (0, 39))])
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, corner: tuple[int, int]) -> None:
    image = Image.new("RGB", (40, 30))
    image.putpixel((0, 0), (255, 255, 255))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / "a.png", exif=exif)
    upright = read_image(tmp_path / "a.png")
    assert upright.size == ((40, 30) if orientation in (1, 3) else (30, 40))
    assert pixel(upright, corner) == (255, 255, 255)


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "HSV", "RGB"])
def test_other_modes_become_rgb_of_the_same_colour(mode: str) -> None:
    white = Image.new("RGB", (3, 2), "white").convert(mode)
    image = as_rgb(white)
    assert (image.mode, image.size, pixel(image)) == ("RGB", (3, 2), (255, 255, 255))


def test_sixteen_bit_grey_keeps_its_brightness(tmp_path: Path) -> None:
    values = np.array([[0, 257, 200 * 257, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    assert np.asarray(read_image(tmp_path / "a.png"))[0, :, 0].tolist() == [0, 1, 200, 255]


@pytest.mark.parametrize("name", ["deep.tif", "deep.png"])
def test_sixteen_bit_files_are_recognised_in_every_format(tmp_path: Path, name: str) -> None:
    Image.fromarray(np.full((2, 2), 65535, dtype=np.uint16)).save(tmp_path / name)
    assert pixel(read_image(tmp_path / name)) == (255, 255, 255)


def test_a_sixteen_bit_pgm_keeps_its_brightness(tmp_path: Path) -> None:
    (tmp_path / "a.pgm").write_bytes(b"P5 2 1 65535\n" + struct.pack(">HH", 65535, 128 * 257))
    image = read_image(tmp_path / "a.pgm")
    assert [pixel(image, (x, 0)) for x in (0, 1)] == [(255,) * 3, (128,) * 3]


def test_transparent_pixels_lie_over_white(tmp_path: Path) -> None:
    image = Image.new("RGBA", (2, 1), (255, 0, 0, 255))
    image.putpixel((1, 0), (0, 0, 0, 0))
    image.save(tmp_path / "a.png")
    opened = read_image(tmp_path / "a.png")
    assert [pixel(opened, (x, 0)) for x in (0, 1)] == [(255, 0, 0), (255, 255, 255)]


def test_half_transparent_grey_mixes_with_white() -> None:
    assert pixel(as_rgb(Image.new("LA", (1, 1), (0, 127)))) == (128, 128, 128)


def test_a_palette_with_a_transparent_entry_lies_over_white(tmp_path: Path) -> None:
    image = Image.new("P", (1, 1), 0)
    image.putpalette([10, 20, 30] * 256)
    image.save(tmp_path / "a.png", transparency=0)
    assert pixel(read_image(tmp_path / "a.png")) == (255, 255, 255)


def test_an_animation_gives_its_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert pixel(read_image(tmp_path / "a.gif")) == (255, 0, 0)


def test_the_picture_handed_in_is_left_alone() -> None:
    image = gradient()
    copy = as_rgb(image)
    copy.putpixel((0, 0), (1, 2, 3))
    assert pixel(image) == (0, 0, 0)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".gif", ".webp", ".bmp", ".tif"])
def test_a_file_that_is_cut_short_is_refused_by_name(tmp_path: Path, suffix: str) -> None:
    whole = tmp_path / f"whole{suffix}"
    gradient(200, 150).save(whole)
    cut = tmp_path / f"cut{suffix}"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(ImageError, match=rf"cut{suffix}"):
        read_image(cut)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".gif", ".webp", ".bmp", ".tif", ".ppm", ".jp2", ".avif"])
def test_damaged_bytes_end_in_a_picture_or_an_image_error(
    tmp_path_factory: pytest.TempPathFactory, suffix: str
) -> None:
    if suffix not in Image.registered_extensions():
        pytest.skip(f"this Pillow cannot write {suffix}")
    folder = tmp_path_factory.mktemp("damaged")
    gradient().save(folder / f"a{suffix}")
    whole = (folder / f"a{suffix}").read_bytes()

    @settings(deadline=None, max_examples=40)
    @given(places=st.lists(st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255)), max_size=8))
    def damage(places: list[tuple[int, int]]) -> None:
        content = bytearray(whole)
        for place, value in places:
            content[place] = value
        (folder / f"b{suffix}").write_bytes(content)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow may say more than the error does
            try:
                assert read_image(folder / f"b{suffix}", max_pixels=1_000_000).mode == "RGB"
            except ImageError:
                pass

    damage()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"no image file '.*gone\.jpg'"):
        read_image(tmp_path / "gone.jpg")


def test_a_folder_is_no_image(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="is a folder"):
        read_image(tmp_path)


def test_an_empty_file_is_called_empty(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"")
    with pytest.raises(ImageError, match=r"a\.jpg' is empty"):
        read_image(tmp_path / "a.jpg")


def test_text_is_no_image_and_the_message_lists_what_is(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("not a picture at all")
    with pytest.raises(ImageError, match=r"a\.jpg' is not an image.*JPEG, PNG"):
        read_image(tmp_path / "a.jpg")


def test_a_name_that_no_file_can_have_is_an_image_error() -> None:
    with pytest.raises(ImageError, match="a\0b"):
        read_image("a\0b.png")


def test_postscript_is_never_handed_to_an_interpreter(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text(
        "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n%%EOF\n"
    )
    with pytest.raises(ImageError, match="is not an image"):
        read_image(tmp_path / "a.jpg")


@pytest.mark.parametrize("side", [9_700, 12_000, 20_000, 60_000])
def test_a_huge_header_is_refused_before_decoding(tmp_path: Path, side: int) -> None:
    limit = 50_000_000  # Pillow warns from 89 million on, and raises from 179
    file = png_with_header(tmp_path / "bomb.png", side, side)
    with pytest.raises(ImageError, match=r"bomb\.png' is too large to decode"):
        read_image(file, max_pixels=limit)


def test_an_image_between_pillows_limit_and_ours_is_no_warning_but_decoded(tmp_path: Path) -> None:
    file = png_with_header(tmp_path / "long.png", 95_000_000, 1)
    with pytest.raises(
        ImageError, match="cut short or damaged"
    ):  # the header passes, the pixels are not there
        read_image(file)


def test_the_pixel_limit_is_the_callers(tmp_path: Path) -> None:
    gradient().save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png", max_pixels=1200).size == (40, 30)
    with pytest.raises(ImageError, match="40 x 30 = 1,200 pixels, at most 1,199"):
        read_image(tmp_path / "a.png", max_pixels=1199)


def test_a_picture_without_pixels_is_refused() -> None:
    with pytest.raises(ImageError, match="no pixels: its size is 0 x 5"):
        as_rgb(Image.new("RGB", (0, 5)))


@pytest.mark.parametrize("mode", ["F", "I"])
def test_pixels_without_a_white_are_refused(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (2, 2)).save(tmp_path / "a.tif")
    with pytest.raises(ImageError, match=f"a.tif' has pixels of mode {mode}"):
        read_image(tmp_path / "a.tif")


def test_a_mode_that_pillow_cannot_convert_is_refused() -> None:
    with pytest.raises(ImageError, match="mode La"):
        as_rgb(Image.new("La", (2, 2)))


def test_the_file_can_be_removed_after_an_error_as_it_is_closed(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    gradient().save(file)
    file.write_bytes(file.read_bytes()[:60])
    for _ in range(3):  # an open file would be a ResourceWarning, which the tests make an error
        with pytest.raises(ImageError):
            read_image(file)
    file.unlink()
