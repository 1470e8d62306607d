"""Data sets of every layout, on small trees: what is read, what is chosen, what is named as missing, and where evidence lands."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.io import savemat
from scipy.ndimage import binary_dilation, binary_erosion

from counterpoint.data import shapes
from counterpoint.data.datasets import KINDS, Item, open_data_set
from counterpoint.data.datasets.evidence import item_evidence
from counterpoint.data.datasets.item import Note
from counterpoint.data.datasets.items import Items
from counterpoint.data.datasets.segments import Polygons, decompressed, runs
from counterpoint.data.datasets.selection import of_classes, stratified
from counterpoint.data.datasets.synsets import read_synsets
from counterpoint.errors import ImageError, InputError, UnknownNameError
from counterpoint.models.imagenet import imagenet_labels
from counterpoint.preprocessing import Preprocessing

SMALL = Preprocessing((24, 32), (0.5,) * 3, (0.5,) * 3, crop=0.875)


def touch(root, *names):
    """Empty files: whoever opened them would fail."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


def white_box(path, size, box, **options):
    """A black picture with a white rectangle; `box` in pixels as stored."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    pixels[box[1] : box[3], box[0] : box[2]] = 255
    Image.fromarray(pixels).save(path, **options)


def names(data):
    return [item.name for item in data.items]


def labels(data):
    return [item.label for item in data.items]


def bright(data, item, preprocessing=SMALL):
    """Where the model sees the white object."""
    return preprocessing(data.picture(item)).mean(0) > 0.5


def assert_same_but_for_the_rim(evidence, seen):
    """Bicubic resizing blurs edges: a pixel on either side of them may differ."""
    assert seen.any()
    assert not (binary_erosion(seen) & ~evidence.numpy()).any()
    assert not (evidence.numpy() & ~binary_dilation(seen)).any()


# any kind


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "exactly one of folder, list, .* got none of them"),
        ({"seed": 1}, "got none of them"),
        ({"folder": "a", "cub": "b"}, "got folder and cub"),
        ({"folder": "nowhere"}, "folder must be a folder of photographs, but there is no folder 'nowhere'"),
        ({"folder": ""}, "folder must be a path, got ''"),
        ({"folder": 3}, "folder must be a path, got 3"),
        ({"folder": "a\0"}, "cannot be read|there is no folder"),
        ({"shapes": 0}, "shapes must be a whole number, 1 or more, got 0"),
        ({"shapes": True}, "shapes must be a whole number"),
        ({"shapes": 3, "seed": -1}, "seed must be a whole number, 0 or more, got -1"),
        ({"shapes": 3, "size": 8}, "size must be a whole number, 48 or more"),
        ({"shapes": 3, "limit": 0}, "limit must be a whole number, 1 or more"),
        ({"shapes": 3, "sample": 4}, "sample must be at most the number of images, 3, got 4"),
        ({"shapes": 3, "sample": 2.0}, r"sample must be a whole number, 1 or more, got 2\.0"),
        ({"shapes": 3, "classes": "disc"}, "classes must be a list that is not empty, got 'disc'"),
        ({"shapes": 3, "classes": []}, r"classes must be a list that is not empty, got \[\]"),
        ({"shapes": 3, "classes": [1.0]}, r"classes must be a list of names or whole numbers, got \[1\.0\]"),
        ({"shapes": 3, "classes": [8]}, "classes must be numbers from 0 to 7, got 8"),
        ({"list": "a.jpg"}, "list must be a list that is not empty, got 'a.jpg'"),
        ({"list": [1]}, r"list must be a list of texts, got \[1\]"),
        ([], "must be a mapping"),
    ],
)
def test_wrong_settings_are_named(settings, words):
    with pytest.raises(InputError, match=words):
        open_data_set(settings)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"shapes": 3, "splitt": 1}, "unknown option of the data set 'shapes' 'splitt'"),
        ({"shapes": 3, "masks": "x"}, "unknown option of the data set 'shapes' 'masks'"),
        ({"shapes": 30, "classes": ["disk"]}, "unknown class 'disk'; did you mean 'disc'"),
        ({"list": ["sample:cofee"]}, "did you mean 'coffee'"),
    ],
)
def test_unknown_names_come_with_the_nearest(settings, words):
    with pytest.raises(UnknownNameError, match=words):
        open_data_set(settings)


def test_cards_are_plain_data_that_count_what_was_left_out(tmp_path):
    touch(tmp_path, "cat/1.jpg", "cat/2.jpg", "cat/3.jpg", "dog/1.jpg", "owl/1.jpg", "loose.jpg")
    given = {"labelled": tmp_path, "classes": ["cat", "dog"], "sample": 3, "limit": 2, "seed": 4}
    data = open_data_set(given)
    card = json.loads(json.dumps(data.card(), allow_nan=False))
    assert (card["kind"], card["images"]) == ("labelled", 2)
    assert [(reason["images"], reason["why"]) for reason in card["left_out"]] == [
        (1, "in no folder of a class"),
        (1, "of other classes"),
        (1, "not in the stratified sample of 3, seed 4"),
        (1, "after the first 2"),
    ]
    assert card["settings"] == {**given, "labelled": tmp_path.as_posix()}
    assert {"of", "classes", "evidence", "licence_note"} <= card.keys()


def test_data_sets_travel_to_other_processes(tmp_path):
    touch(tmp_path, "a/1.jpg", "b/1.jpg")
    for settings in ({"labelled": tmp_path}, {"shapes": 4}):
        data = open_data_set(settings)
        again = pickle.loads(pickle.dumps(data))
        assert list(again.items) == list(data.items)
        assert again.card() == data.card()


def test_items_are_a_sequence(tmp_path):
    touch(tmp_path, "a/1.jpg", "a/2.jpg", "b/1.jpg")
    items = open_data_set({"labelled": tmp_path}).items
    assert items[-1] == items[2] == Item(name="b/1.jpg", path=tmp_path / "b/1.jpg", label="b")
    assert list(items[1:]) == [items[1], items[2]]
    with pytest.raises(IndexError):
        items[3]


def test_a_damaged_image_is_named_when_it_is_asked_for(tmp_path):
    touch(tmp_path, "a.jpg")
    data = open_data_set({"folder": tmp_path})
    with pytest.raises(ImageError, match=r"a\.jpg' is empty"):
        data.picture(data.items[0])


# folder and list


def test_names_are_relative_to_the_folder(tmp_path):
    touch(tmp_path, "b.jpg", "in/a.png", "notes.txt", ".hidden/c.jpg")
    data = open_data_set({"folder": str(tmp_path)})
    assert names(data) == ["b.jpg", "in/a.png"]
    assert data.items[1].path == tmp_path / "in" / "a.png"
    assert data.items[1].label is None
    assert data.evidence(data.items[1], SMALL) is None
    assert data.card()["classes"] is None


def test_a_list_keeps_its_order_and_what_was_written(tmp_path, monkeypatch):
    touch(tmp_path, "b.jpg", "in/a.png", "in/deep/c.png", "other/in/a.png")
    monkeypatch.chdir(tmp_path)
    data = open_data_set(
        {"list": ["b.jpg", "in", "sample:coffee", str(tmp_path / "other" / "in"), "./in/a.png"]}
    )
    assert names(data) == ["b.jpg", "in/a.png", "in/deep/c.png", "sample:coffee", "in/a-2.png"]
    assert [item.path.is_file() for item in data.items] == [True] * 5
    assert data.picture(data.items[3]).size == (600, 400)
    assert "Rachel Michetti" in data.card()["licence_note"]


def test_the_home_folder_may_be_written_short(tmp_path, monkeypatch):
    touch(tmp_path, "photos/a.jpg")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert names(open_data_set({"folder": "~/photos"})) == ["a.jpg"]
    assert names(open_data_set({"list": ["~/photos"]})) == ["photos/a.jpg"]


def test_masks_belong_to_photographs_by_path_or_by_name(tmp_path):
    touch(tmp_path, "b.jpg", "in/a.png", "masks/b.png", "masks/in/a.png", "masks/a.png")
    data = open_data_set({"folder": tmp_path, "masks": tmp_path / "masks"})
    assert names(data) == ["b.jpg", "in/a.png"]  # masks among photographs are none
    assert [item.mask for item in data.items] == [tmp_path / "masks/b.png", tmp_path / "masks/in/a.png"]
    shutil.rmtree(tmp_path / "masks" / "in")
    data = open_data_set({"folder": tmp_path, "masks": tmp_path / "masks"})
    assert data.items[1].mask == tmp_path / "masks/a.png"
    assert data.card()["evidence"] == "masks"


def test_missing_and_ambiguous_masks_are_named(tmp_path):
    touch(tmp_path, *(f"p/{k}.jpg" for k in range(5)), "p/in/4.jpg", "m/4.png")
    given = {"folder": tmp_path / "p", "masks": tmp_path / "m"}
    with pytest.raises(InputError, match=r"has none for 4 of 6: 0\.jpg, 1\.jpg, 2\.jpg and 1 more"):
        open_data_set(given)
    touch(tmp_path, *(f"m/{k}.png" for k in range(4)))
    with pytest.raises(InputError, match=r"'4.png' would be for '4.jpg' and 'in/4.jpg'"):
        open_data_set(given)
    touch(tmp_path, "m/in/4.png", "m/1.gif")
    with pytest.raises(InputError, match=r"one image for '1.jpg', but has 1.gif, 1.png"):
        open_data_set(given)
    with pytest.raises(InputError, match="masks must be a folder of masks, but there is no folder"):
        open_data_set({**given, "masks": tmp_path / "none"})


# labelled


def test_the_folder_of_an_image_is_its_label(tmp_path):
    touch(tmp_path, "owl/2.jpg", "cat/b.jpg", "cat/a/z.jpg", "owl/1.webp", "loose.jpg")
    (tmp_path / "empty").mkdir()
    data = open_data_set({"labelled": tmp_path})
    assert names(data) == ["cat/a/z.jpg", "cat/b.jpg", "owl/1.webp", "owl/2.jpg"]
    assert labels(data) == ["cat", "cat", "owl", "owl"]
    assert [r["why"] for r in data.card()["left_out"]] == [
        "in no folder of a class",
        "folders without images: empty",
    ]
    assert labels(open_data_set({"labelled": tmp_path, "classes": [1]})) == ["owl", "owl"]


def test_a_flat_folder_is_not_labelled(tmp_path):
    touch(tmp_path, "a.jpg")
    with pytest.raises(InputError, match="has no images in folders"):
        open_data_set({"labelled": tmp_path})


def test_labelled_photographs_may_have_masks(tmp_path):
    touch(tmp_path, "cat/1.jpg", "dog/1.jpg", "masks/cat/1.png", "masks/dog/1.png")
    data = open_data_set({"labelled": tmp_path, "masks": tmp_path / "masks"})
    assert labels(data) == ["cat", "dog"]
    assert data.items[1].mask == tmp_path / "masks/dog/1.png"


# ImageNet

IDS = [f"n{10_000_000 + 37 * k}" for k in range(1000)]
# The challenge numbers its classes in an order of its own.
NUMBERS = {name: (k * 7 + 3) % 1000 + 1 for k, name in enumerate(IDS)}


@pytest.fixture(scope="module")
def in_folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("val")
    touch(root, *(f"{name}/{name}_{k}.JPEG" for name in IDS for k in range(2)))
    return root


@pytest.fixture
def flat(tmp_path):
    touch(tmp_path, *(f"val/ILSVRC2012_val_{k:08d}.JPEG" for k in range(1, 5)))
    (tmp_path / "synsets.txt").write_text("".join(f"{name} a thing, 2 things\n" for name in IDS))
    numbered = "".join(f"{name} {NUMBERS[name]} thing\n" for name in IDS)
    (tmp_path / "map_clsloc.txt").write_text(numbered)
    return tmp_path


def test_the_rank_of_a_folder_among_all_1000_is_the_index_of_its_class(in_folders):
    data = open_data_set({"imagenet": in_folders, "limit": 5})
    assert labels(data) == [0, 0, 1, 1, 2]
    assert names(data)[2] == f"{IDS[1]}/{IDS[1]}_0.JPEG"
    assert data.items[0].path.is_file()
    chosen = open_data_set({"imagenet": in_folders, "classes": ["goldfish", 0, IDS[999]]})
    assert sorted(set(labels(chosen))) == [0, imagenet_labels().index("goldfish"), 999]
    assert "ImageNet" in data.card()["licence_note"]


def test_fewer_folders_need_the_file_of_all_ids(tmp_path, flat):
    touch(tmp_path / "few", f"{IDS[5]}/a.JPEG", f"{IDS[3]}/b.JPEG", "other/c.JPEG")
    with pytest.raises(InputError, match=r"folders of 2 WordNet ids, and only all 1000 .* synsets = "):
        open_data_set({"imagenet": tmp_path / "few"})
    data = open_data_set({"imagenet": tmp_path / "few", "synsets": flat / "synsets.txt"})
    assert labels(data) == [3, 5]
    assert data.card()["left_out"] == [{"images": 1, "why": "in no folder named by WordNet id"}]
    touch(tmp_path / "few", "n99999999/d.JPEG")
    with pytest.raises(InputError, match="has the folder n99999999, which synsets lacks"):
        open_data_set({"imagenet": tmp_path / "few", "synsets": flat / "synsets.txt"})


def test_flat_images_need_labels(flat):
    with pytest.raises(InputError, match=r"holds 4 images but no folders .* labels = \"val.txt\""):
        open_data_set({"imagenet": flat / "val"})
    with pytest.raises(InputError, match="labels must be a file of labels, but there is no file 'nowhere'"):
        open_data_set({"imagenet": flat / "val", "labels": "nowhere"})


def test_names_with_indices(flat):
    (flat / "val.txt").write_text("".join(f"ILSVRC2012_val_{k:08d}.JPEG {k * 100}\n" for k in (3, 1, 2)))
    data = open_data_set({"imagenet": flat / "val", "labels": flat / "val.txt"})
    assert names(data) == [f"ILSVRC2012_val_{k:08d}.JPEG" for k in (1, 2, 3)]
    assert labels(data) == [100, 200, 300]
    (left,) = data.card()["left_out"]
    assert (left["images"], "without a label" in left["why"]) == (1, True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a.JPEG 0\nb.JPEG 1 2\n", r"line 2 of '.*' must be 'name label', got 'b.JPEG 1 2'"),
        ("a.JPEG 0\na.JPEG 1\n", "line 2 of .* each name once"),
        ("a.JPEG 1000\n", "class indices from 0 to 999, got 1000 for 'a.JPEG'"),
        ("a.JPEG cat\n", "all class indices or all WordNet ids .* got 'cat' for 'a.JPEG'"),
        (f"a.JPEG {IDS[0]}\n", "has 1 WordNet ids, and only all 1000"),
        ("", "is empty"),
        ("490\n361\n", r"challenge's own numbers, .* synsets = \"meta.mat\""),
        ("ImageId,PredictionString\n", "has no images"),
        (f"ImageId,PredictionString\na,{IDS[0]} 1 2 3\n", "line 2 of"),
        (f"ImageId,PredictionString\na,{IDS[0]} 1 2 3 x\n", "line 2 of .* four numbers"),
    ],
)
def test_labels_that_cannot_be_read_are_named(flat, text, words):
    (flat / "labels.txt").write_text(text)
    with pytest.raises(InputError, match=words):
        open_data_set({"imagenet": flat / "val", "labels": flat / "labels.txt"})


def test_images_that_are_listed_and_not_there_are_counted(flat):
    (flat / "val.txt").write_text("".join(f"ILSVRC2012_val_{k:08d}.JPEG {k}\n" for k in range(1, 11)))
    given = {"imagenet": flat / "val", "labels": flat / "val.txt"}
    with pytest.raises(
        InputError,
        match=r"6 of the 10 images that '.*val.txt' asks for are not in '.*': "
        r"ILSVRC2012_val_00000005.JPEG, \S+6.JPEG, \S+7.JPEG and 3 more",
    ):
        open_data_set({**given, "sample": 1, "limit": 1})
    assert labels(open_data_set({**given, "classes": [2, 4]})) == [2, 4]


@pytest.mark.parametrize("form", ["map_clsloc.txt", "turned.txt", "meta.mat"])
def test_the_development_kits_numbers_are_translated(flat, form):
    wanted = [IDS[k] for k in (7, 999, 0, 7)]
    (flat / "truth.txt").write_text("".join(f"{NUMBERS[name]}\n" for name in wanted))
    (flat / "turned.txt").write_text("".join(f"{NUMBERS[name]} {name}\n" for name in IDS))
    rows = [(NUMBERS[name], name, "thing") for name in IDS] + [(1001, "n00001740", "a group of classes")]
    table = np.array(rows, dtype=[("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O")])
    savemat(flat / "meta.mat", {"synsets": table.reshape(-1, 1)})
    given = {"imagenet": flat / "val", "labels": flat / "truth.txt"}
    assert labels(open_data_set({**given, "synsets": flat / form})) == [7, 999, 0, 7]
    # Ids alone, in whatever order, do not say which number is whose.
    with pytest.raises(InputError, match="challenge's own numbers"):
        open_data_set({**given, "synsets": flat / "synsets.txt"})
    (flat / "truth.txt").write_text("1\n2\n1001\n4\n")
    with pytest.raises(InputError, match=r"line 3 of '.*' must be 'a number from 1 to 1000', got '1001'"):
        open_data_set({**given, "synsets": flat / form})


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("s.txt", "n01440764\nkit fox\n", "must have a WordNet id .* in each line, got 'kit fox'"),
        ("s.txt", "", "got 'nothing'"),
        ("s.txt", "n01440764\n", "holds 1 WordNet ids"),
        ("s.mat", "no matlab", "must be meta.mat"),
    ],
)
def test_files_of_ids_that_cannot_be_read_are_named(tmp_path, name, content, words):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=words):
        read_synsets(tmp_path / name)


def test_numbers_that_are_not_1_to_1000_are_refused(tmp_path):
    (tmp_path / "s.txt").write_text("".join(f"{name} {k}\n" for k, name in enumerate(IDS)))
    with pytest.raises(InputError, match="must number its WordNet ids from 1 to 1000"):
        read_synsets(tmp_path / "s.txt")


def test_kaggles_labels_come_with_boxes(flat):
    rows = [
        f"ILSVRC2012_val_00000001,{IDS[5]} 85 1 499 272 ",
        f"ILSVRC2012_val_00000002,{IDS[1]} 0 0 9 19 {IDS[1]} 30 0 39 9 {IDS[2]} 0 0 1 1",
    ]
    (flat / "LOC_val_solution.csv").write_text("ImageId,PredictionString\n" + "\n".join(rows) + "\n")
    given = {"imagenet": flat / "val", "labels": flat / "LOC_val_solution.csv"}
    data = open_data_set({**given, "synsets": flat / "synsets.txt"})
    assert labels(data) == [5, 1]
    assert data.items[0].boxes == ((85, 1, 500, 273),)
    assert data.items[1].boxes == ((0, 0, 10, 20), (30, 0, 40, 10))
    assert data.card()["evidence"] == "boxes"
    with pytest.raises(InputError, match=r"labels '.*' has 2 WordNet ids, and only all 1000"):
        open_data_set(given)


def annotation(*boxes):
    edges = ("xmin", "ymin", "xmax", "ymax")
    objects = "".join(
        "<object><name>n1</name><bndbox>"
        + "".join(f"<{e}>{v}</{e}>" for e, v in zip(edges, box, strict=True))
        + "</bndbox></object>"
        for box in boxes
    )
    return f"<annotation><size><width>96</width></size>{objects}</annotation>"


def test_xml_boxes_land_where_the_object_is_seen(flat):
    (flat / "val.txt").write_text("ILSVRC2012_val_00000001.JPEG 4\n")
    white_box(flat / "val" / "ILSVRC2012_val_00000001.JPEG", (96, 60), (20, 10, 50, 44))
    (flat / "boxes" / "val").mkdir(parents=True)
    xml = flat / "boxes" / "val" / "ILSVRC2012_val_00000001.xml"
    xml.write_text(annotation((20, 10, 49, 43)))
    given = {"imagenet": flat / "val", "labels": flat / "val.txt", "boxes": flat / "boxes"}
    data = open_data_set(given)
    (item,) = data.items
    assert_same_but_for_the_rim(data.evidence(item, SMALL), bright(data, item))
    for text in ("<annotation>", annotation((1, 2, 3, "x")), annotation((1, 2, 3, ""))):
        xml.write_text(text)
        with pytest.raises(InputError, match=r"00000001.xml' must be an annotation"):
            open_data_set(given)
    xml.unlink()
    with pytest.raises(InputError, match=r"has none for 1 of 1: ILSVRC2012_val_00000001.JPEG"):
        open_data_set(given)


# CUB


@pytest.fixture
def cub(tmp_path):
    """Six birds of three species; the third and the sixth are for testing, and lie at different places."""
    root = tmp_path / "CUB_200_2011"
    images = [f"{c:03d}.Bird_{c}/Bird_{c}_{k:04d}.jpg" for c in (1, 2, 3) for k in (1, 2)]
    for k, name in enumerate(images):
        white_box(root / "images" / name, (90, 70), (10 + 5 * k, 8, 40 + 5 * k, 50), quality=95)
    tables = {
        "images.txt": images,
        "image_class_labels.txt": [1, 1, 2, 2, 3, 3],
        "train_test_split.txt": [1, 1, 0, 1, 1, 0],
        "bounding_boxes.txt": [f"{10.0 + 5 * k} 8.0 30.0 42.0" for k in range(6)],
        "classes.txt": [f"{c:03d}.Bird_{c}" for c in (1, 2, 3)],
    }
    for name, column in tables.items():
        (root / name).write_text("".join(f"{k} {entry}\n" for k, entry in enumerate(column, 1)))
    return root


def segment(root, cub):
    """Segmentations as they come: grey by how many people drew a pixel."""
    for k, line in enumerate((cub / "images.txt").read_text().split()[1::2]):
        pixels = np.zeros((70, 90), np.uint8)
        pixels[4:54, 5 + 5 * k : 45 + 5 * k] = 102  # two of five
        pixels[8:50, 10 + 5 * k : 40 + 5 * k] = 204
        path = (root / "segmentations" / line).with_suffix(".png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)


def test_birds_of_a_split_with_boxes(cub):
    data = open_data_set({"cub": cub})
    assert names(data) == ["002.Bird_2/Bird_2_0001.jpg", "003.Bird_3/Bird_3_0002.jpg"]
    assert labels(data) == [1, 2]
    assert data.items[0].boxes == ((20.0, 8.0, 50.0, 50.0),)
    assert data.card()["evidence"] == "boxes"
    assert data.card()["left_out"] == [{"images": 4, "why": "not in the test split"}]
    for item in data.items:
        assert_same_but_for_the_rim(data.evidence(item, SMALL), bright(data, item))
    assert labels(open_data_set({"cub": cub, "split": "train"})) == [0, 0, 1, 2]
    assert len(open_data_set({"cub": cub, "split": "all"}).items) == 6
    assert labels(open_data_set({"cub": cub, "split": "all", "classes": ["002.Bird_2"]})) == [1, 1]
    assert len(open_data_set({"cub": cub, "limit": 1}).items.notes) == 1  # no others travel to workers
    with pytest.raises(UnknownNameError, match="unknown split 'tests'; did you mean 'test'"):
        open_data_set({"cub": cub, "split": "tests"})


@pytest.mark.parametrize("beside", [False, True])
def test_birds_with_segmentations_in_the_folder_or_beside_it(cub, beside, monkeypatch):
    segment(cub.parent if beside else cub, cub)
    data = open_data_set({"cub": cub})
    assert data.card()["evidence"] == "segmentations"
    for item in data.items:
        assert_same_but_for_the_rim(data.evidence(item, SMALL), bright(data, item))
    data.items[1].mask.unlink()
    with pytest.raises(InputError, match=r"1 of the 2 segmentations .* 003.Bird_3/Bird_3_0002.png"):
        open_data_set({"cub": cub})
    monkeypatch.chdir(cub)
    assert open_data_set({"cub": ".", "limit": 1}).items[0].mask.is_file()


def test_what_is_missing_from_the_birds_is_named(cub):
    (cub / "images" / "002.Bird_2" / "Bird_2_0001.jpg").unlink()
    with pytest.raises(InputError, match=r"1 of the 2 images that '.*images.txt' asks for .* 002.Bird_2"):
        open_data_set({"cub": cub})
    shutil.rmtree(cub / "images")
    (cub / "classes.txt").unlink()
    with pytest.raises(InputError, match=r"CUB_200_2011' lacks classes\.txt, images/"):
        open_data_set({"cub": cub})


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        ("images.txt", "2 001", "1 001", "line 2 of .* each image_id once"),
        ("images.txt", "2 001", "001", "line 2 of .* must be 'image_id path'"),
        ("bounding_boxes.txt", "3 20.0", "3 x", "must have four numbers for image 3, got 'x 8.0"),
        ("bounding_boxes.txt", "3 20.0", "9 20.0", "lacks 1, the first for image 3"),
        ("image_class_labels.txt", "6 3", "6 4", "has the class 4, which classes.txt lacks"),
    ],
)
def test_lines_that_do_not_fit_are_named(cub, file, old, new, words):
    text = (cub / file).read_text()
    assert old in text
    (cub / file).write_text(text.replace(old, new))
    with pytest.raises(InputError, match=words):
        open_data_set({"cub": cub})


# COCO


@pytest.fixture
def coco(tmp_path):
    """Four photographs: an outlined cat beside a dog, a cat of runs, one box, and one without objects."""
    white_box(tmp_path / "images" / "b.png", (80, 60), (20, 10, 60, 40))
    white_box(tmp_path / "images" / "a.png", (60, 80), (8, 12, 44, 60))
    white_box(tmp_path / "images" / "c.png", (50, 50), (10, 10, 30, 45))
    touch(tmp_path, "images/nothing.png")
    outline = [20, 10, 60, 10, 60, 40, 20, 40]
    cat_runs = [8 * 80 + 12, *([48, 32] * 36)]
    cat_runs[-1] = 60 * 80 - sum(cat_runs[:-1])
    content = {
        "images": [
            {"id": 1, "file_name": "b.png", "width": 80, "height": 60},
            {"id": 2, "file_name": "a.png", "width": 60, "height": 80},
            {"id": 3, "file_name": "c.png"},
            {"id": 4, "file_name": "nothing.png", "width": 9, "height": 9},
        ],
        "categories": [{"id": 17, "name": "cat"}, {"id": 5, "name": "dog"}],
        "annotations": [
            {"image_id": 1, "category_id": 5, "bbox": [0, 0, 9, 9], "area": 81.0, "iscrowd": 0},
            {
                "image_id": 1,
                "category_id": 17,
                "bbox": [20, 10, 40, 30],
                "area": 1200,
                "segmentation": [outline],
            },
            # The largest of all, but a crowd.
            {"image_id": 1, "category_id": 5, "bbox": [0, 0, 80, 60], "area": 4800.0, "iscrowd": 1},
            {
                "image_id": 2,
                "category_id": 17,
                "bbox": [8, 12, 36, 48],
                "segmentation": {"size": [80, 60], "counts": cat_runs},
            },
            {"image_id": 3, "category_id": 5, "bbox": [10, 10, 20, 35]},
        ],
    }
    (tmp_path / "instances.json").write_text(json.dumps(content))
    return tmp_path, content


def opened(root, content=None, **more):
    if content is not None:
        (root / "instances.json").write_text(json.dumps(content))
    return open_data_set({"coco": root / "images", "annotations": root / "instances.json", **more})


def test_the_largest_object_names_the_image_and_its_category_is_the_evidence(coco):
    data = opened(coco[0])
    assert names(data) == ["a.png", "b.png", "c.png"]
    assert labels(data) == ["cat", "cat", "dog"]
    assert data.items[1].boxes == ((20, 10, 60, 40),)
    assert data.card()["left_out"] == [{"images": 1, "why": "without objects"}]
    for item in data.items:
        assert_same_but_for_the_rim(data.evidence(item, SMALL), bright(data, item))
    assert names(opened(coco[0], classes=["dog"])) == ["c.png"]


def test_all_objects_of_the_category_are_evidence(coco):
    root, content = coco
    more = {"image_id": 1, "category_id": 17, "bbox": [0, 50, 80, 10], "area": 800, "iscrowd": 1}
    content["annotations"].append(more)
    data = opened(root, content)
    item = data.items[1]
    assert len(item.boxes) == 2
    whole = Preprocessing((60, 80), (0.5,) * 3, (0.5,) * 3)
    assert int(data.evidence(item, whole).sum()) == 40 * 30 + 80 * 10


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.pop("images"), "must have a list 'images' that is not empty"),
        (lambda c: c.update(annotations=[]), "must have a list 'annotations' that is not empty"),
        (lambda c: c["images"][1].pop("file_name"), "entry 1 of 'images' in .* lacks file_name"),
        (lambda c: c["annotations"].append(3), "entry 5 of 'annotations' in .* lacks image_id"),
        (lambda c: c["annotations"][0].update(category_id=9), "annotation of category 9"),
        (lambda c: c["annotations"][0].update(bbox=[1, 2]), "image 1 must have four numbers in bbox"),
        (
            lambda c: c["annotations"][1].update(segmentation=[[1, 2, 3]]),
            "annotation of 'b.png' .* at least 3 corners",
        ),
        (
            lambda c: c["annotations"][1].update(segmentation={"size": [2, 2], "counts": [1, 2]}),
            "annotation of 'b.png' .* sum to 2 x 2 = 4, but they sum to 3",
        ),
        (
            lambda c: c["annotations"][1].update(segmentation={"size": [2, 2], "counts": None}),
            "annotation of 'b.png'",
        ),
        (lambda c: c["annotations"][1].update(segmentation={"counts": [4]}), "annotation of 'b.png'"),
        (
            lambda c: [e.update(image_id=77) for e in c["annotations"]],
            "annotations of at least one of its images",
        ),
        (lambda c: c["images"][0].update(file_name="z.png"), "1 of the 3 images .* z.png"),
    ],
)
def test_annotations_that_do_not_fit_are_named(coco, change, words):
    root, content = coco
    change(content)
    with pytest.raises(InputError, match=words):
        opened(root, content)


def test_annotations_must_be_a_json_file(coco):
    root, _ = coco
    (root / "instances.json").write_text("{")
    with pytest.raises(InputError, match="annotations must be JSON"):
        opened(root)
    (root / "instances.json").write_text("[]")
    with pytest.raises(InputError, match="must have a list 'images'"):
        opened(root)
    (root / "instances.json").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(InputError, match="cannot be read as text"):
        opened(root)
    with pytest.raises(InputError, match="coco needs annotations as well"):
        open_data_set({"coco": root / "images"})


def test_annotations_for_another_size_are_refused_when_they_are_used(coco):
    root, content = coco
    content["images"][0].update(width=160, height=120)
    data = opened(root, content)
    with pytest.raises(InputError, match=r"'b\.png' must be for its 80 x 60 pixels, but is for 160 x 120"):
        data.evidence(data.items[1], SMALL)


# What pycocotools 2.0 writes for a small mask with a hole, for an ellipse with a slot, and for numbers that need three characters.
SMALL_MASK = np.zeros((7, 9), bool)
SMALL_MASK[1:5, 2:8] = True
SMALL_MASK[3, 4] = False
SMALL_MASK[0, 0] = True
SMALL_TEXT = "01>3E00NNO2300006"
y, x = np.mgrid[:60, :80]
ELLIPSE = ((x - 40) / 30) ** 2 + ((y - 28) / 18) ** 2 < 1
ELLIPSE[26:30, 38:48] = False
ELLIPSE_TEXT = (
    r"\e09a14M2N2N2N2N2N2O0O2O0O2O0O2O000O2O00000O2O000000000000\O[O1e0O[O1e0O[O1e0O[O1e0O[O1e0O[O1e0O[O1e0O[O1e0O[O1e0O[O1e0c0"
    "001N1000001N10001N101N101N101N2N2N2N2N2N3LRb0"
)
TALL = np.zeros((5000, 4), bool)
TALL[100:4800, 1] = True
TALL[7, 3] = True
TALL_TEXT = r"\o4lb4gR5U]KYI"


@pytest.mark.parametrize(
    ("mask", "text"),
    [(SMALL_MASK, SMALL_TEXT), (ELLIPSE, ELLIPSE_TEXT), (TALL, TALL_TEXT)],
    ids=["small", "ellipse", "tall"],
)
def test_compressed_runs_are_those_of_pycocotools(mask, text):
    size = (mask.shape[1], mask.shape[0])
    np.testing.assert_array_equal(runs(text, size).mask(size), mask)
    with pytest.raises(InputError, match="sum to"):
        runs(text, (size[0] + 1, size[1]))


@pytest.mark.parametrize(("text", "words"), [("0p", "'p'"), ("0 ", "' '"), ("0Q", "end within a number")])
def test_text_that_is_no_runs_is_refused(text, words):
    with pytest.raises(InputError, match=words):
        decompressed(text)


def test_runs_are_for_one_size_only():
    with pytest.raises(InputError, match="runs of pixels are for 2 x 3, but the picture is 3 x 2"):
        runs([6], (2, 3)).mask((3, 2))


def test_a_polygon_holds_the_pixels_whose_centre_it_holds():
    square = Polygons((np.array([2, 1, 5, 1, 5, 4, 2, 4], np.float32),)).mask((7, 6))
    assert (square[1:4, 2:5]).all()
    assert square.sum() == 9
    # Two that overlap are one object; corners may lie outside the picture.
    both = Polygons(
        (np.array([2, 1, 5, 1, 5, 4, 2, 4], np.float32), np.array([4, 3, 9, 3, 9, 9, 4, 9], np.float32))
    ).mask((7, 6))
    assert both.sum() == 9 + 9 - 1


@given(seed=st.integers(0, 2**16), corners=st.integers(3, 12))
def test_polygons_are_filled_as_matplotlib_says(seed, corners):
    from matplotlib.path import Path as Outline

    rng = np.random.default_rng(seed)
    angles = np.sort(
        rng.uniform(0, 2 * np.pi, corners)
    )  # no outline crosses itself: matplotlib would count windings
    radius = rng.uniform(2, 14, corners)
    points = np.stack([12.3 + radius * np.cos(angles), 9.7 + radius * np.sin(angles)], axis=1)
    ring = points.astype(np.float32)
    centres = np.stack(np.meshgrid(np.arange(25) + 0.5, np.arange(19) + 0.5), axis=2).reshape(-1, 2)
    expected = Outline(np.vstack([ring, ring[:1]]), closed=True).contains_points(centres).reshape(19, 25)
    np.testing.assert_array_equal(Polygons((ring.ravel(),)).mask((25, 19)), expected)


# shapes


def test_shapes_are_those_of_the_generator_with_exact_evidence():
    data = open_data_set({"shapes": 12, "seed": 3})
    batch = shapes.generate(12, seed=3)
    same = Preprocessing((64, 64), (0.5,) * 3, (0.25,) * 3)
    for k, item in enumerate(data.items):
        torch.testing.assert_close(same(data.picture(item)), batch.images[k], rtol=0, atol=0)
        assert torch.equal(data.evidence(item, same), batch.evidence[k])
        assert (item.label, item.number, item.path) == (batch.names[k], k, None)
    some = open_data_set({"shapes": 12, "seed": 3, "classes": [batch.names[5]]})
    for item in some.items:
        np.testing.assert_array_equal(some.picture(item), batch.picture(item.number))


def test_items_of_another_data_set_are_refused(tmp_path):
    touch(tmp_path, "a.jpg")
    photographs, generated = open_data_set({"folder": tmp_path}), open_data_set({"shapes": 1})
    with pytest.raises(InputError, match="item must be of this data set"):
        photographs.picture(generated.items[0])
    with pytest.raises(InputError, match="item must be of this data set"):
        generated.picture(photographs.items[0])


# selection

CODES = st.lists(st.integers(0, 6), min_size=1, max_size=120).map(lambda codes: np.array(codes, np.int32))


@given(codes=CODES, share=st.floats(0, 1), seed=st.integers(0, 2**16))
def test_a_stratified_sample_has_the_share_of_every_class_within_one(codes, share, seed):
    count = max(1, round(share * len(codes)))
    chosen = stratified(codes, count, seed)
    assert len(chosen) == len(set(chosen.tolist())) == count
    assert (np.diff(chosen) > 0).all()
    for label in np.unique(codes):
        exact = count * (codes == label).sum() / len(codes)
        assert abs((codes[chosen] == label).sum() - exact) < 1
    np.testing.assert_array_equal(stratified(codes, count, seed), chosen)


def test_what_is_left_goes_to_the_largest_remainders():
    codes = np.repeat(np.array([4, 2, 0], np.int32), [88, 9, 3])
    for seed in range(5):
        chosen = codes[stratified(codes, 10, seed)]
        assert [(chosen == label).sum() for label in (4, 2, 0)] == [9, 1, 0]


def test_other_seeds_choose_others_and_larger_samples_hold_smaller_ones():
    codes = np.repeat(np.arange(10, dtype=np.int32), 50)
    samples = [stratified(codes, count, 1).tolist() for count in (7, 25, 101)]
    assert set(samples[0]) < set(samples[1]) < set(samples[2])
    assert stratified(codes, 25, 2).tolist() != samples[1]
    # Every image has its chance: none of a class is left out by all of many seeds.
    drawn = {k for seed in range(200) for k in stratified(codes, 20, seed).tolist()}
    assert len(drawn) > 0.9 * len(codes)


def test_samples_without_labels_are_plain_random_ones(tmp_path):
    touch(tmp_path, *(f"{k:02d}.jpg" for k in range(30)))
    first, again, other = (
        names(open_data_set({"folder": tmp_path, "sample": 10, "seed": seed})) for seed in (1, 1, 2)
    )
    assert first == again == sorted(first)
    assert first != other
    with pytest.raises(InputError, match="this one has none"):
        open_data_set({"folder": tmp_path, "classes": ["a"]})


def test_classes_without_images_are_named(tmp_path):
    items = Items(names=("a",), codes=np.zeros(1, np.int32), classes=("cat", "dog"))
    with pytest.raises(InputError, match="classes has 'dog', of which the data set has no images"):
        of_classes(items, ["cat", "dog"])


# evidence


@st.composite
def scenes(draw):
    width, height = draw(st.integers(20, 90)), draw(st.integers(20, 90))
    left, top = draw(st.integers(0, width - 2)), draw(st.integers(0, height - 2))
    box = (left, top, draw(st.integers(left + 1, width)), draw(st.integers(top + 1, height)))
    size = (draw(st.integers(4, 40)), draw(st.integers(4, 40)))
    return (width, height), box, size, draw(st.floats(0.3, 1)), draw(st.sampled_from([1, 3, 6, 8]))


@given(scene=scenes())
def test_boxes_are_cut_and_resized_as_photographs_are(tmp_path_factory, scene):
    (width, height), box, size, crop, orientation = scene
    path = tmp_path_factory.mktemp("scene") / "a.png"
    exif = Image.Exif()
    exif[0x0112] = orientation
    white_box(path, (width, height), box, exif=exif)
    preprocessing = Preprocessing(size, (0.5,) * 3, (0.5,) * 3, crop=crop, interpolation="nearest")
    seen = preprocessing(Image.open(path))[0] > 0.5
    evidence = item_evidence(Item(name="a", path=path, note=Note(boxes=(box,))), preprocessing)
    assert torch.equal(evidence, seen)


def test_boxes_of_fractions_hold_the_pixels_whose_centre_they_hold(tmp_path):
    white_box(tmp_path / "a.png", (10, 8), (0, 0, 1, 1))
    note = Note(boxes=((1.4, 2.6, 4.6, 5.5), (-5.0, -5.0, 0.6, 0.4), (9.5, 7.4, 99.0, 99.0)))
    whole = Preprocessing((8, 10), (0.5,) * 3, (0.5,) * 3)
    found = item_evidence(Item(name="a", path=tmp_path / "a.png", note=note), whole)
    expected = torch.zeros(8, 10, dtype=torch.bool)
    expected[3:5, 1:5] = True
    expected[7, 9] = True
    assert torch.equal(found, expected)


@pytest.mark.parametrize(
    ("orientation", "turn"),
    [(6, Image.Transpose.ROTATE_270), (6, None), (3, Image.Transpose.ROTATE_180)],
    ids=["on its side", "on its side, mask as stored", "upside down"],
)
def test_masks_of_turned_photographs_are_upright_or_else_as_stored(tmp_path, orientation, turn):
    exif = Image.Exif()
    exif[0x0112] = orientation
    white_box(tmp_path / "p" / "a.jpg", (90, 60), (10, 5, 50, 25), exif=exif, quality=95)
    white_box(tmp_path / "m" / "a.png", (90, 60), (10, 5, 50, 25))
    if turn is not None:
        Image.open(tmp_path / "m" / "a.png").transpose(turn).save(tmp_path / "m" / "a.png")
    data = open_data_set({"folder": tmp_path / "p", "masks": tmp_path / "m"})
    assert_same_but_for_the_rim(data.evidence(data.items[0], SMALL), bright(data, data.items[0]))


def test_masks_of_another_size_are_refused(tmp_path):
    white_box(tmp_path / "p" / "a.png", (90, 60), (10, 5, 50, 25))
    white_box(tmp_path / "m" / "a.png", (45, 30), (5, 2, 25, 12))
    data = open_data_set({"folder": tmp_path / "p", "masks": tmp_path / "m"})
    with pytest.raises(InputError, match=r"a\.png' of 'a.png' must be for its 90 x 60 pixels, but is for 45"):
        data.evidence(data.items[0], SMALL)


def test_an_object_outside_the_crop_leaves_an_empty_mask(tmp_path):
    white_box(tmp_path / "a.png", (90, 30), (0, 0, 5, 5))
    item = Item(name="a", path=tmp_path / "a.png", note=Note(boxes=((0, 0, 5, 5),)))
    assert not item_evidence(item, Preprocessing((16, 16), (0.5,) * 3, (0.5,) * 3)).any()


def test_a_photograph_without_a_header_has_no_evidence(tmp_path):
    touch(tmp_path, "a.png")
    item = Item(name="a", path=tmp_path / "a.png", note=Note(boxes=((0, 0, 5, 5),)))
    with pytest.raises(ImageError, match=r"size of '.*' cannot be read"):
        item_evidence(item, SMALL)


def test_every_kind_is_in_the_docs():
    page = (Path(__file__).parents[2] / "docs" / "datasets.md").read_text()
    for name, kind in KINDS.items():
        assert f"`{name}`" in page
        for option in kind.options:
            assert f"`{option}`" in page
