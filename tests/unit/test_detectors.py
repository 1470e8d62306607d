"""Scores of detections, in closed form on a detector whose evidence is known."""

import json
import math

import pytest
import torch
from PIL import Image
from torch import nn

import counterpoint as cp
from counterpoint.detectors import Detection, Detector, Sizing, box_masks, energy_in_box, pointing_in_box
from counterpoint.detectors.matching import match
from counterpoint.detectors.overlap import generalised_overlaps, overlaps, without_doubles
from counterpoint.errors import InputError, ModelError, ShapeError, UnknownNameError
from counterpoint.protocols import ModuleScore, Score
from patches import BOXES, OFFSET, SHIFT, SLOPE, Patches, patches, scene

BLACK = cp.baselines.Black()


def sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def boxes_of(*corners):
    return torch.tensor(corners, dtype=torch.float64)


# overlap


def test_overlap_is_the_shared_area_over_that_of_both():
    found = overlaps(
        boxes_of((0, 0, 2, 2), (1, 0, 3, 2), (5, 5, 6, 6), (1, 1, 1, 1), (3, 0, 1, 2)),
        boxes_of((0, 0, 2, 2))[0],
    )
    torch.testing.assert_close(found, torch.tensor([1, 2 / 6, 0, 0, 0], dtype=torch.float64))
    inside = overlaps(boxes_of((0, 0, 4, 4)), boxes_of((1, 1, 2, 2))[0], over="smaller")
    assert inside.tolist() == [1.0]


def test_generalised_overlap_orders_boxes_that_do_not_touch():
    near, far, same = generalised_overlaps(
        boxes_of((2, 0, 3, 1), (8, 0, 9, 1), (0, 0, 1, 1)), boxes_of((0, 0, 1, 1))[0]
    ).tolist()
    assert (near, far, same) == pytest.approx((-1 / 3, -7 / 9, 1.0))


def test_of_doubles_the_best_stays_and_a_box_whose_double_is_gone_stays_too():
    boxes = boxes_of(
        (0, 0, 10, 1), (3, 0, 13, 1), (6, 0, 16, 1)
    )  # neighbours overlap by 7 / 13, the outer two by 4 / 16
    assert without_doubles(boxes, torch.tensor([0.9, 0.8, 0.7]), above=0.5).tolist() == [0, 2]
    assert without_doubles(boxes, torch.tensor([0.8, 0.9, 0.7]), above=0.5).tolist() == [1]
    assert without_doubles(boxes, torch.tensor([0.8, 0.8, 0.8]), above=0.6, most=2).tolist() == [0, 1]
    assert without_doubles(boxes[:0], torch.zeros(0), above=0.5).tolist() == []


def test_suppression_is_torchvisions():
    ops = pytest.importorskip("torchvision.ops")
    generator = torch.Generator().manual_seed(0)
    corner, side = torch.rand(2, 300, 2, generator=generator)
    boxes, scores = torch.cat([corner, corner + side / 3], 1), torch.rand(300, generator=generator)
    expected = ops.nms(boxes, scores, 0.4).tolist()
    assert without_doubles(boxes, scores, above=0.4).tolist() == expected
    torch.testing.assert_close(
        overlaps(boxes, boxes[0]), ops.box_iou(boxes, boxes[:1])[:, 0], rtol=1e-5, atol=1e-6
    )
    torch.testing.assert_close(
        generalised_overlaps(boxes, boxes[0]),
        ops.generalized_box_iou(boxes, boxes[:1])[:, 0],
        rtol=1e-5,
        atol=1e-6,
    )


# finding again


def test_the_match_is_the_best_score_among_those_that_overlap_enough():
    boxes = boxes_of((0, 0, 10, 10), (0, 0, 10, 6), (0, 0, 10, 4), (20, 0, 30, 10))[None]
    scores = torch.tensor([[0.2, 0.7, 0.8, 0.9]])
    box = boxes[:, 0]
    by_score = match(boxes, scores, box, by="score", iou=0.5)
    assert (by_score.place.item(), by_score.found.item()) == (1, True)
    assert match(boxes, scores, box, by="score", iou=0.4).place.item() == 2
    # 0.2 * 1, 0.7 * 0.6, 0.8 * 0.4, 0.9 * 0
    assert match(boxes, scores, box, by="score_times_overlap", iou=0.9).place.item() == 1


def test_what_is_not_found_has_its_nearest_candidate():
    boxes = boxes_of((40, 0, 50, 10), (12, 0, 22, 10))[None]
    for by in ("score", "score_times_overlap"):
        lost = match(boxes, torch.tensor([[0.9, 0.1]]), boxes_of((0, 0, 10, 10)), by=by, iou=0.5)
        assert (lost.place.item(), lost.found.item()) == (1, False)


# the detector


def test_detections_are_what_is_reported_the_best_first():
    red, green = patches().detections(scene())[0]
    assert (red.name, red.box, red.candidate, red.layer, red.reported) == (
        "red",
        (0, 0, 8, 8),
        0,
        "maps",
        True,
    )
    assert red.score == pytest.approx(sigmoid(SLOPE * 0.9 + OFFSET))
    assert (green.name, green.label, green.candidate) == ("green", 1, 2)
    assert red.text == "red 0.96"


def test_the_best_candidates_need_not_be_reported_and_hold_no_doubles():
    detector = patches()
    assert detector.detections(scene(0.3, 0.2)) == [[]]
    best = detector.best_candidates(scene(0.3, 0.2), k=3)[0]
    assert [(each.name, each.candidate) for each in best[:2]] == [("red", 0), ("green", 2)]
    assert not any(each.reported for each in best)
    # The second box holds much red too, but is the first one's double.
    assert all(each.candidate != 1 for each in best if each.name == "red")


class Flat(Patches):
    """The first box has no width."""

    def forward(self, pixels):
        found = super().forward(pixels)
        found.boxes[:, 0, :, 2] = found.boxes[:, 0, :, 0]
        return found


def test_a_box_without_area_is_no_candidate_to_explain_as_nothing_could_find_it_again():
    detector = Detector(Flat(), sizing=Sizing(shorter=16, longest=16))
    assert all(each.candidate != 0 for each in detector.best_candidates(scene(), 8)[0])


def test_an_object_can_be_asked_for_by_its_box_and_its_class():
    (found,) = patches().detection_at(scene(), (1.0, 0.0, 9.0, 8.0), "red")
    assert found.candidate == 0  # as near as the second, and with the greater score
    with pytest.raises(
        InputError, match=r"no candidate of image 0 overlaps the box .* by 0\.5; the most is 0\.23"
    ):
        patches().detection_at(scene(), (4.0, 4.0, 12.0, 12.0), "red")


def test_photographs_keep_their_shape_and_come_in_whole_cells():
    sizing = Sizing(shorter=64, longest=128)
    assert sizing.size_of(100, 150) == (64, 96)
    assert sizing.size_of(100, 400) == (32, 128)  # the longer side decides
    assert sizing.size_of(2000, 2000) == (64, 64)
    assert sizing(Image.new("RGB", (150, 100), (255, 0, 0))).mean((1, 2)).tolist() == [1.0, 0.0, 0.0]
    detector = Detector(patches().module, sizing=sizing, labels=["a", "b"])
    with pytest.raises(InputError, match="preprocess them one by one"):
        detector.preprocess([Image.new("RGB", (150, 100)), Image.new("RGB", (100, 150))])
    assert detector.preprocess(Image.new("RGB", (150, 100))).shape == (1, 3, 64, 96)


def test_the_card_says_what_the_detector_is():
    card = patches().card()
    assert (card["name"], card["classes"], card["random_weights"]) == ("patches", 2, False)
    assert json.dumps(card, allow_nan=False)


# scores


def test_a_detection_is_a_score_with_a_module():
    score = cp.detection(patches())
    assert isinstance(score, Score)
    bound = score.bind(scene())
    assert isinstance(bound, ModuleScore)
    assert (bound.kind, bound.labels, bound.layers) == ("detection_score", ("red",), ("maps",))


@pytest.mark.parametrize(
    ("of", "expected"),
    [("score", sigmoid(SLOPE * 0.9 + OFFSET)), ("logit", SLOPE * 0.9 + OFFSET), ("x0", 0.0), ("y1", 8.0)],
)
def test_what_is_read_of_a_detection_is_its_closed_form(of, expected):
    bound = cp.detection(patches(), of=of).bind(scene())
    assert bound.at_inputs.item() == pytest.approx(expected)
    assert bound(scene(), torch.tensor([0])).item() == pytest.approx(expected)


def test_each_image_has_its_own_detection():
    images = torch.cat([scene(0.9, 0.6), scene(0.6, 0.9)])
    bound = cp.detection(patches(), of="logit").bind(images)
    assert bound.labels == ("red", "green")
    rows = torch.cat([images, images])
    found = bound(rows, torch.tensor([0, 1, 1, 0]))
    torch.testing.assert_close(
        found, SLOPE * torch.tensor([0.9, 0.9, 0.6, 0.6], dtype=torch.float64) + OFFSET
    )
    several = cp.detection(patches(), [0, 1], of="logit").bind(images)
    assert several.labels == ("red", "red")


def test_the_gradient_lies_in_the_box_and_nowhere_else():
    attribution = cp.compare(cp.detection(patches(), of="logit"), scene(), baseline=BLACK).explain(
        cp.methods.Gradient()
    )
    expected = torch.zeros(1, 3, 16, 16, dtype=torch.float64)
    expected[:, 0, :8, :8] = SLOPE / 64
    torch.testing.assert_close(attribution.values, expected)


def test_a_side_of_the_box_is_explained_by_what_shifts_it():
    inputs = scene()
    inputs[:, 2, :8, :8] = 0.5
    attribution = cp.compare(cp.detection(patches(), of="x1"), inputs, baseline=BLACK).explain(
        cp.methods.IntegratedGradients(rule=cp.quadrature.Midpoint(4))
    )
    expected = torch.zeros_like(inputs)
    expected[:, 2, :8, :8] = SHIFT * 0.5 / 64
    torch.testing.assert_close(attribution.values, expected)
    assert attribution.target.item() == pytest.approx(SHIFT * 0.5)
    assert abs(attribution.error.item()) < 1e-12


def test_a_moved_object_is_found_again_and_a_candidate_is_not():
    clean, moved = scene(), torch.zeros(1, 3, 16, 16, dtype=torch.float64)
    moved[:, 0, :8, 2:10] = 0.9  # all of it in the second box, 3 / 4 of it in the first
    image = torch.tensor([0])
    assert cp.detection(patches(), of="logit").bind(clean)(moved, image).item() == pytest.approx(
        SLOPE * 0.9 + OFFSET
    )
    same = cp.detection(patches(), of="logit", follow="candidate").bind(clean)
    assert same(moved, image).item() == pytest.approx(SLOPE * 0.9 * 0.75 + OFFSET)
    strict = cp.detection(patches(), of="logit", iou=0.7).bind(clean)  # the second overlaps by 0.6
    assert strict(moved, image).item() == pytest.approx(SLOPE * 0.9 * 0.75 + OFFSET)


def test_the_score_times_overlap_is_that_of_the_best_product():
    moved = torch.zeros(1, 3, 16, 16, dtype=torch.float64)
    moved[:, 0, :8, 2:10] = 0.9
    bound = cp.detection(patches(), by="score_times_overlap").bind(scene())
    first, second = sigmoid(SLOPE * 0.9 * 0.75 + OFFSET), 0.6 * sigmoid(SLOPE * 0.9 + OFFSET)
    assert bound(moved, torch.tensor([0])).item() == pytest.approx(max(first, second))
    assert bound.at_inputs.item() == pytest.approx(sigmoid(SLOPE * 0.9 + OFFSET))


@pytest.mark.parametrize("by", ["score", "score_times_overlap"])
def test_a_detection_that_is_gone_has_the_score_0_and_its_gradient_is_0(by):
    blue = scene()
    blue[:, 2] = 1.0  # every box moves by 2 px: the first then overlaps its old place by 48 / 80
    bound = cp.detection(patches(), iou=0.61, by="score").bind(scene())
    point = blue.requires_grad_()
    value = bound(point, torch.tensor([0]))
    (gradient,) = torch.autograd.grad(value.sum(), point)
    assert value.item() == 0.0
    assert not gradient.any()
    # What has no value for "not there" is read from the nearest candidate.
    logit = cp.detection(patches(), iou=0.61, of="logit").bind(scene())
    assert logit(blue, torch.tensor([0])).item() == pytest.approx(SLOPE * 0.9 + OFFSET)
    side = cp.detection(patches(), iou=0.61, of="x0").bind(scene())
    assert side(blue, torch.tensor([0])).item() == pytest.approx(2.0)


def test_a_candidates_score_comes_out_of_its_path_without_a_step():
    attribution = cp.compare(
        cp.detection(patches(), follow="candidate"), scene(), baseline=cp.baselines.White()
    ).explain(cp.methods.IntegratedGradients(tolerance=1e-4))
    assert attribution.relative_error.item() < 1e-4
    assert attribution.result.item() == pytest.approx(
        sigmoid(SLOPE * 0.9 + OFFSET) - sigmoid(SLOPE + OFFSET), rel=1e-3
    )


def test_a_layer_can_be_explained_and_odam_is_exact_where_the_rest_is_linear():
    comparison = cp.compare(cp.detection(patches(), of="logit"), scene(), baseline=BLACK)
    attribution = comparison.at("maps").explain(cp.methods.ODAM())
    assert attribution.own_target.item() == pytest.approx(SLOPE * 0.9)
    assert attribution.result.item() == pytest.approx(SLOPE * 0.9)
    (found,) = comparison.bound.detections
    assert energy_in_box(attribution, [found]).item() == 1.0
    assert pointing_in_box(attribution, [found]).item() == 1.0


@pytest.mark.parametrize(
    "method",
    [
        cp.methods.Occlusion(size=4, stride=4),
        cp.methods.RISE(masks=200, cells=4),
        cp.methods.IntegratedGradients(),
    ],
    ids=lambda method: type(method).__name__,
)
def test_methods_that_know_nothing_of_boxes_find_the_evidence(method):
    comparison = cp.compare(cp.detection(patches()), scene(), baseline=BLACK)
    attribution = comparison.explain(method)
    assert energy_in_box(attribution, comparison.bound.detections).item() > 0.7
    assert pointing_in_box(attribution, comparison.bound.detections).item() == 1.0


def test_deletion_and_insertion_are_curves_of_the_detection_found_again():
    inputs, score = scene(), cp.detection(patches())
    saliency = box_masks(cp.detection(patches()).bind(inputs).detections, (16, 16)).double()
    deletion = cp.metrics.deletion_curve(score, inputs, saliency, baseline=BLACK, steps=4)
    # The box is the first quarter of the pixels; once it is black, the score is that of black.
    expected = [sigmoid(SLOPE * 0.9 + OFFSET)] + [sigmoid(OFFSET)] * 4
    torch.testing.assert_close(deletion.scores[0], torch.tensor(expected).double())
    insertion = cp.metrics.insertion_curve(score, inputs, saliency, baseline=BLACK, steps=4)
    torch.testing.assert_close(
        insertion.scores[0], torch.tensor(expected[::-1][:1] + expected[:1] * 4).double()
    )


def test_an_explanation_says_which_detection_it_is_of():
    attribution = cp.compare(cp.detection(patches()), scene(), baseline=BLACK).explain(cp.methods.Taylor())
    assert attribution.question == {"score": "detection_score", "class_target": [0], "label": ("red",)}


# boxes as masks


def test_a_box_covers_the_pixels_whose_centres_lie_in_it():
    one = Detection(
        box=(0.4, 1.0, 2.6, 3.0), label=0, name=None, score=1.0, candidate=0, layer="maps", reported=True
    )
    assert box_masks([one], (4, 4))[0].int().tolist() == [[0] * 4, [1, 1, 1, 0], [1, 1, 1, 0], [0] * 4]
    assert energy_in_box(torch.ones(1, 4, 4), [one]).item() == pytest.approx(6 / 16)
    with pytest.raises(ShapeError, match="one for each of 2 maps, got 1"):
        energy_in_box(torch.ones(2, 4, 4), [one])


# what is refused


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"of": "width"}, UnknownNameError, "unknown of 'width'"),
        ({"by": "iou"}, UnknownNameError, "unknown by 'iou'"),
        ({"follow": "box"}, UnknownNameError, "unknown follow 'box'"),
        ({"iou": 1.5}, InputError, "iou must be at least 0 and at most 1"),
        ({"box": (0, 0, 8, 8)}, InputError, "box and label go together"),
        ({"box": (8, 0, 0, 8), "label": "red"}, InputError, "box must be"),
        ({"box": (0, 0, 8, 8), "label": "rad"}, UnknownNameError, "did you mean 'red'"),
        ({"which": 2}, InputError, "which must be a detection from 0 to 1 of image 0, got 2"),
        ({"which": [0, 1]}, InputError, "one for each of 1 images, got 2"),
        (
            {"which": "red"},
            InputError,
            "which must be a place among the detections or a Detection, got 'red'",
        ),
        ({"which": True}, InputError, "which must be"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        cp.detection(patches(), **arguments).bind(scene())


def test_where_nothing_is_reported_the_way_out_is_named():
    with pytest.raises(
        InputError, match=r"reports nothing in image 0; give one of detector\.best_candidates"
    ):
        cp.detection(patches()).bind(scene(0.1, 0.1))
    weak = patches().best_candidates(scene(0.3, 0.1))[0][0]
    assert cp.detection(patches(), weak, of="logit").bind(scene(0.3, 0.1)).at_inputs.item() == pytest.approx(
        SLOPE * 0.3 + OFFSET
    )


def test_what_is_no_detector_is_refused():
    with pytest.raises(InputError, match=r"detector must be a counterpoint\.Detector, got Linear"):
        cp.detection(nn.Linear(1, 1))
    with pytest.raises(InputError, match="networks, such as OneStage"):
        Detector(nn.Linear(1, 1), sizing=Sizing(shorter=8, longest=8))
    with pytest.raises(InputError, match="in training mode"):
        Detector(patches().module.train(), sizing=Sizing(shorter=8, longest=8))
    with pytest.raises(ModelError, match="2 classes, but there are 1 labels"):
        Detector(patches().module, sizing=Sizing(shorter=8, longest=8), labels=["a"]).detections(scene())


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (255 * torch.ones(1, 3, 16, 16), r"255; 0\.\.255|inputs / 255"),
        (torch.ones(1, 1, 16, 16), r"\(batch, 3, height, width\)"),
        (torch.ones(1, 3), r"\(batch, channel, height, width\)"),
    ],
)
def test_what_is_no_picture_is_refused(inputs, message, unchecked):
    with pytest.raises(InputError, match=message):
        cp.detection(patches()).bind(inputs)


def test_the_boxes_of_the_made_up_detector_overlap_as_it_says():
    first, second = (torch.tensor(box).double() for box in BOXES[:2])
    assert overlaps(first[None], second).item() == pytest.approx(0.6)
