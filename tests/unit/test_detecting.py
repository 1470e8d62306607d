"""Photographs in; figures, cards and values of detections out."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import counterpoint as cp
from counterpoint import progress
from counterpoint.detecting import explain_detections
from counterpoint.detectors import Detector, Sizing
from counterpoint.errors import InputError, UnknownNameError
from counterpoint.explain import Explained
from counterpoint.one_by_one import Failed
from counterpoint.report.detection_sheet import detection_sheet, with_boxes
from counterpoint.report.detection_table import detection_rows
from patches import Patches, patches, scene


def save(path, pixels):
    path.parent.mkdir(exist_ok=True)
    array = (255 * pixels[0].permute(1, 2, 0)).round().to(torch.uint8).numpy()
    Image.fromarray(np.ascontiguousarray(array)).save(path)
    return path


@pytest.fixture
def photograph(tmp_path):
    return save(tmp_path / "photos" / "two.png", scene())


def run(photographs, out, detector=None, **options):
    options = {"baselines": [cp.baselines.Black()], "methods": [cp.methods.ODAM()], "steps": 4, **options}
    return explain_detections(detector or patches(), photographs, out=out, **options)


def test_each_detection_has_a_map_and_a_photograph_one_figure(photograph, tmp_path):
    (result,) = run([photograph], tmp_path / "out")
    assert isinstance(result, Explained)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "two.1.black.odam.maps.safetensors",
        "two.2.black.odam.maps.safetensors",
        "two.json",
        "two.png",
    ]
    card = json.loads(result.card.read_text())
    assert card == json.loads(json.dumps(result.facts))
    assert (card["reported"], [each["name"] for each in card["detections"]]) == (2, ["red", "green"])
    for each in card["detections"]:
        (told,) = each["explanations"]
        assert (told["energy_in_box"], told["pointing_in_box"]) == (1.0, 1.0)
        assert told["box_area"] == 0.25
        assert told["layer"] == "maps"
        # The quarter that is the box goes first, and comes first.
        assert told["deletion"] < 0.2
        assert told["insertion"] > 0.75
        saved = cp.load_attribution(tmp_path / "out" / told["values_file"])
        assert float(saved.result[0]) == pytest.approx(told["result"], rel=1e-6)


def test_only_the_best_and_only_those_of_a_class(photograph, tmp_path):
    (best,) = run([photograph], tmp_path / "out", detections=1)
    assert [each["name"] for each in best.facts["detections"]] == ["red"]
    (green,) = run([photograph], tmp_path / "out", label="green")
    assert [each["name"] for each in green.facts["detections"]] == ["green"]


def test_where_nothing_is_reported_the_best_candidates_are_explained_and_it_is_said(tmp_path):
    weak = save(tmp_path / "photos" / "weak.png", scene(0.3, 0.2))
    (result,) = run([weak], tmp_path / "out", detections=2)
    assert result.facts["reported"] == 0
    assert "reports nothing here" in result.facts["note"]
    assert [each["reported"] for each in result.facts["detections"]] == [False, False]


def test_methods_that_remove_find_the_object_again_and_gradients_follow_the_candidate(photograph, tmp_path):
    methods = [cp.methods.Occlusion(size=4, stride=4), cp.methods.Taylor()]
    (result,) = run([photograph], tmp_path / "out", methods=methods, detections=1)
    told = result.facts["detections"][0]["explanations"]
    assert [(each["method"]["name"], each["follow"]) for each in told] == [
        ("occlusion", "object"),
        ("taylor", "candidate"),
    ]


def test_several_baselines_layers_and_a_side_of_the_box(photograph, tmp_path):
    (result,) = run(
        [photograph],
        tmp_path / "out",
        baselines=[cp.baselines.Black(), cp.baselines.White()],
        methods=[cp.methods.Taylor()],
        layers=["input", "maps"],
        of="x0",
        detections=1,
    )
    told = result.facts["detections"][0]["explanations"]
    assert [(each["baseline"]["name"], each["layer"]) for each in told] == [
        ("black", "input"),
        ("black", "maps"),
        ("white", "input"),
        ("white", "maps"),
    ]
    assert result.facts["score"] == {"kind": "detection_x0"}
    assert told[2]["attribution_target"] == pytest.approx(
        -2.0
    )  # white is full of blue, which shifts the box by 2 px


def test_a_baseline_of_several_draws_has_no_curve(photograph, tmp_path):
    (result,) = run(
        [photograph],
        tmp_path / "out",
        baselines=[cp.baselines.Samples(images=torch.rand(3, 3, 16, 16), draws=3)],
        methods=[cp.methods.ExpectedGradients()],
        detections=1,
    )
    (told,) = result.facts["detections"][0]["explanations"]
    assert (told["deletion"], told["insertion"]) == (None, None)


def test_progress_rises_and_names_the_detection(photograph, tmp_path):
    seen = []
    with progress.listening(lambda done, total, what: seen.append((done / total, what))):
        run([photograph], tmp_path / "out")
    shares = [share for share, _ in seen]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert any("two.png: red 0.96: odam" in what for _, what in seen)


def test_a_broken_photograph_is_recorded_and_the_rest_goes_on(photograph, tmp_path):
    broken = photograph.with_name("broken.png")
    broken.write_bytes(photograph.read_bytes()[:50])
    results = run([broken, photograph], tmp_path / "out")
    assert [type(each) for each in results] == [Failed, Explained]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"detections": 0}, InputError, "detections must be at least 1"),
        ({"label": "blue"}, UnknownNameError, "unknown label 'blue'"),
        ({"layers": ["mapps"]}, UnknownNameError, "did you mean 'maps'"),
        ({"layers": ["input"]}, InputError, "the only layer is the input"),
        ({"methods": []}, InputError, "one photograph, one baseline and one method"),
    ],
)
def test_a_wrong_question_ends_before_anything_is_written(photograph, tmp_path, options, error, message):
    with pytest.raises(error, match=message):
        run([photograph], tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_a_figure_never_takes_the_place_of_a_photograph(photograph):
    with pytest.raises(InputError, match="would overwrite the photograph"):
        run([photograph], photograph.parent)


# figure and table


def test_boxes_are_framed_within_the_picture_and_reported_ones_in_another_colour():
    picture = torch.ones(16, 16, 3)
    reported = patches().detections(scene())[0]
    weak = patches().best_candidates(scene(0.3, 0.2), 1)[0]
    one, other = with_boxes(picture, reported[:1]), with_boxes(picture, weak)
    assert torch.equal(one[9:], picture[9:])
    assert not torch.equal(one[0, :8], picture[0, :8])
    assert not torch.equal(one[0, 0], other[0, 0])
    assert torch.equal(picture, torch.ones(16, 16, 3))


def test_the_sheet_has_a_column_for_each_detection_and_a_row_for_each_way(photograph, tmp_path):
    (result,) = run([photograph], tmp_path / "out", methods=[cp.methods.ODAM(), cp.methods.Taylor()])
    headings, rows = detection_rows([result.facts])
    assert len(rows) == 4
    assert rows[0][:3] == ["two.png", "red 0.96", "odam at maps against black"]
    assert rows[1][:2] == ["", ""]
    assert rows[0][headings.index("in box")] == "100 %"


def test_an_empty_map_is_drawn_as_such():
    from counterpoint.report.detection_sheet import DetectionMap

    inputs, (found, _) = scene().float(), patches().detections(scene())[0]
    attribution = cp.compare(cp.detection(patches()), inputs, baseline=cp.baselines.Black()).explain(
        cp.methods.Taylor()
    )
    facts = {
        **cp.report.describe_result(attribution),
        **{"follow": "object", "box_area": 0.25, "energy_in_box": None, "pointing_in_box": None},
        **{"deletion": None, "insertion": None},
    }
    sheet = detection_sheet(
        inputs,
        [found],
        [[DetectionMap(heat=torch.zeros(16, 16), facts=facts)]],
        score="score",
        caption="x",
        note="",
    )
    assert sheet.rows[0].limit == 0.0
    assert sheet.rows[0].remarks == ("All values are zero.",)


class InRegion(Patches):
    """Its layer sees only the region of the detection."""

    maps_in_regions = True

    def forward(self, pixels):
        found = super().forward(pixels)
        object.__setattr__(found, "regions", found.boxes[:, :, 0].detach())
        return found


def test_the_map_of_a_layer_that_saw_a_region_is_put_into_it(photograph, tmp_path):
    detector = Detector(
        InRegion(),
        sizing=Sizing(shorter=16, longest=16, fixed=(16, 16)),
        labels=["red", "green"],
        name="regions",
    )
    (result,) = run([photograph], tmp_path / "out", detector, detections=1)
    (told,) = result.facts["detections"][0]["explanations"]
    # All of the 16 x 16 cells are put into the 8 x 8 pixels of the box.
    assert told["energy_in_box"] == 1.0
