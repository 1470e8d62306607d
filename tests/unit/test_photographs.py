"""Which files some arguments stand for, and what their results are called."""

import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterpoint.data import photographs
from counterpoint.data.photographs import SAMPLES, find_photographs, output_names, sample_path
from counterpoint.errors import InputError, MissingPackageError, UnknownNameError
from counterpoint.images import read_image


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images at two depths, and what is not an image."""
    for name in (
        "b.jpg",
        "a.PNG",
        "notes.txt",
        "._a.png",
        "inner/c.webp",
        ".hidden/d.jpg",
        "inner/deep/e.tiff",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    return tmp_path


def test_a_folder_gives_its_images_at_every_depth_sorted(folder: Path):
    found = [path.relative_to(folder).as_posix() for path in find_photographs([folder])]
    assert found == ["a.PNG", "b.jpg", "inner/c.webp", "inner/deep/e.tiff"]


def test_files_keep_the_order_in_which_they_were_named(folder: Path):
    assert find_photographs([folder / "b.jpg", folder / "a.PNG"]) == [folder / "b.jpg", folder / "a.PNG"]


def test_a_file_named_twice_is_found_once(folder: Path):
    arguments = [folder / "b.jpg", folder / "inner" / ".." / "b.jpg", folder]
    assert [path.name for path in find_photographs(arguments)] == ["b.jpg", "a.PNG", "c.webp", "e.tiff"]


def test_a_file_may_have_any_suffix_when_it_is_named(folder: Path):
    assert find_photographs([str(folder / "notes.txt")]) == [folder / "notes.txt"]


def test_links_in_a_circle_end(folder: Path):
    (folder / "inner" / "up").symlink_to(folder, target_is_directory=True)
    assert len(find_photographs([folder])) == 4


def test_a_folder_without_images_is_named_with_the_suffixes(tmp_path: Path):
    with pytest.raises(InputError, match=r"no images in the folder '.*'; looked for \.jpg, \.jpeg, \.png"):
        find_photographs([tmp_path])


def test_a_folder_that_may_not_be_read_is_named(folder: Path, monkeypatch):
    real = os.scandir

    def scandir(path):  # by permissions it could not be shown to root, who reads everything
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(InputError, match="deep' cannot be read: Permission denied"):
        find_photographs([folder])


@pytest.mark.parametrize("argument", ["gone.jpg", "", "a\0b"])
def test_what_is_not_there_is_named(argument):
    with pytest.raises(InputError, match=f"'{argument}'"):
        find_photographs([argument])


def test_a_sample_without_its_prefix_is_recognised(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="no file or folder 'chelsea'; did you mean 'sample:chelsea'"):
        find_photographs(["chelsea"])


def test_no_arguments_are_an_error():
    with pytest.raises(InputError, match="no photographs given"):
        find_photographs([])


def test_one_string_is_not_a_list_of_files(unchecked):
    with pytest.raises(InputError, match=r"one string, 'cat\.jpg'"):
        find_photographs("cat.jpg")


@pytest.mark.parametrize("name", SAMPLES)
def test_every_sample_is_in_the_package_and_is_a_photograph(name):
    (path,) = find_photographs([f"sample:{name}"])
    assert min(read_image(path).size) >= 300
    assert SAMPLES[name].title
    assert SAMPLES[name].licence


def test_samples_are_found_without_importing_scikit_image(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "skimage"]:
        monkeypatch.delitem(sys.modules, name)
    sample_path("chelsea")
    assert "skimage" not in sys.modules


def test_a_misspelt_sample_is_answered_with_the_nearest():
    with pytest.raises(UnknownNameError, match="unknown sample 'chelsee'; did you mean 'chelsea'"):
        find_photographs(["sample:chelsee"])


def test_without_scikit_image_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setattr(photographs, "find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match=r'not installed: pip install "counterpoint\[demo\]"'):
        find_photographs(["sample:coffee"])


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["a/cat.jpg", "b/cat.png", "cat.jpg"], ["cat", "cat-2", "cat-3"]),
        (["cat.jpg", "CAT.jpg"], ["cat", "CAT-2"]),
        (["cat-2.jpg", "cat.jpg", "x/cat.jpg"], ["cat-2", "cat", "cat-3"]),
        (["my cat: <best>?.jpg"], ["my_cat_best_"]),
        (["../..hidden.jpg", "-rf.jpg"], ["hidden", "rf"]),
        (["v1.2.jpg"], ["v1.2"]),
        (["猫.jpg", "Zoë.jpg"], ["猫", "Zoë"]),
        (["con.jpg", "LPT1.old.jpg", "console.jpg"], ["_con", "_LPT1.old", "console"]),
        (["....jpg", "???.jpg"], ["image", "_"]),
    ],
)
def test_names_for_results_are_safe_and_unique(paths, names):
    assert output_names(paths) == names


@given(st.lists(st.text(min_size=1, max_size=200), max_size=8))
def test_any_names_become_different_single_file_names(stems):
    names = output_names([f"{stem}.jpg" for stem in stems])
    assert len({name.casefold() for name in names}) == len(stems)
    for name in names:
        assert Path(name).name == name
        assert name.strip(". ") == name
        assert 0 < len(name.encode()) <= 130
