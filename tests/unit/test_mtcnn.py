"""MTCNN: windows in closed form, its three networks, and with its trained weights a face in a photograph."""

import io

import pytest
import torch
from torch import nn

import counterpoint as cp
from counterpoint.data.photographs import find_photographs
from counterpoint.detectors import Detection, Detector, box_masks, energy_in_box, pointing_in_box
from counterpoint.detectors.crops import crops, map_in_region
from counterpoint.errors import FetchError, InputError, LayerError
from counterpoint.models.cache import cached_weights
from counterpoint.models.mtcnn import face_detector, published_state
from counterpoint.models.mtcnn_networks import FaceNets
from counterpoint.models.published import PUBLISHED

BLUR = cp.baselines.Blur(sigma=10)


def corners(*regions):
    return torch.tensor(regions, dtype=torch.float64)


# windows


def test_a_window_is_the_mean_over_its_cells():
    image = torch.arange(3 * 8 * 8, dtype=torch.float64).view(3, 8, 8)
    (window,) = crops(image, corners((2, 2, 6, 6)), 2)
    torch.testing.assert_close(window, image[:, 2:6, 2:6].unfold(1, 2, 2).unfold(2, 2, 2).mean((3, 4)))


def test_a_window_is_black_outside_of_the_image():
    image = torch.ones(3, 8, 8, dtype=torch.float64)
    left, far = crops(image, corners((-4, 0, 4, 8), (20, 20, 24, 24)), 2)
    assert left[0].tolist() == [[0, 1], [0, 1]]
    assert not far.any()


def test_a_map_of_a_window_lies_in_its_place_and_keeps_its_sum():
    comparison = cp.compare(
        lambda x: x.flatten(1).sum(1), torch.ones(1, 1, 2, 2), baseline=cp.baselines.Black()
    )
    attribution = comparison.explain(cp.methods.Taylor())

    def at(*region):
        return [
            Detection(
                box=region,
                label=0,
                name=None,
                score=1.0,
                candidate=0,
                layer="x",
                reported=True,
                region=region,
            )
        ]

    (heat,) = map_in_region(attribution, at(4, 6, 8, 12), (16, 16))
    assert heat.sum().item() == pytest.approx(4.0)
    assert heat[6:12, 4:8].sum().item() == pytest.approx(4.0)
    # What lies beyond the edge of the image is lost.
    (half,) = map_in_region(attribution, at(-4, 0, 4, 8), (16, 16))
    assert half.sum().item() == pytest.approx(2.0)
    nowhere = Detection(
        box=(0, 0, 1, 1), label=0, name=None, score=1.0, candidate=0, layer="x", reported=True
    )
    with pytest.raises(InputError, match="that have a region"):
        map_in_region(attribution, [nowhere], (16, 16))


# the networks


@pytest.fixture(scope="module")
def untrained() -> Detector:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return face_detector(FaceNets(), weights="random")


def test_the_networks_have_the_size_of_the_paper():
    networks = FaceNets()
    assert sum(parameter.numel() for parameter in networks.parameters()) == 493_280
    assert networks.pnet(torch.zeros(1, 3, 12, 12))[0].shape == (1, 2, 1, 1)
    assert networks.rnet(torch.zeros(5, 3, 24, 24))[1].shape == (5, 4)
    assert networks.onet.features(torch.zeros(5, 3, 48, 48)).shape == (5, 128, 3, 3)


def test_a_cascade_without_a_face_has_candidates_still(untrained):
    picture = torch.rand(2, 3, 40, 50, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = untrained.module(picture)
    assert 0 < found.boxes.shape[1] <= 50
    assert found.scores.shape[2] == 1
    torch.testing.assert_close(found.scores, found.logits.sigmoid() * (found.scores > 0))
    assert untrained.detections(torch.zeros(1, 3, 40, 50)) is not None


def test_gradients_flow_into_the_pixels_of_the_window_and_no_others(untrained):
    picture = torch.rand(1, 3, 40, 50, generator=torch.Generator().manual_seed(0))
    (best,) = untrained.best_candidates(picture, 1)[0]
    comparison = cp.compare(
        cp.detection(untrained, best, of="logit", follow="candidate"), picture, baseline=cp.baselines.Black()
    )
    gradient = comparison.explain(cp.methods.Gradient()).values
    x0, y0, x1, y1 = (round(side) for side in best.region)
    inside = torch.zeros(40, 50, dtype=torch.bool)
    inside[max(y0, 0) : y1, max(x0, 0) : x1] = True
    assert gradient[0, :, inside].any()
    assert not gradient[0, :, ~inside].any()


def test_layers_of_a_later_network_need_a_held_window(untrained):
    picture = torch.rand(1, 3, 40, 50, generator=torch.Generator().manual_seed(0))
    (best,) = untrained.best_candidates(picture, 1)[0]
    comparison = cp.compare(cp.detection(untrained, best), picture, baseline=cp.baselines.Black())
    with pytest.raises(LayerError):
        comparison.at("onet.features.prelu4")


# the file


def saved(state) -> bytes:
    stream = io.BytesIO()
    torch.save(state, stream)
    return stream.getvalue()


def theirs() -> dict[str, dict[str, torch.Tensor]]:
    """Files as the package has them, of random numbers."""
    shapes = {
        "pnet": [("conv1", (10, 3, 3, 3)), ("conv2", (16, 10, 3, 3)), ("conv3", (32, 16, 3, 3))],
        "rnet": [
            ("conv1", (28, 3, 3, 3)),
            ("conv2", (48, 28, 3, 3)),
            ("conv3", (64, 48, 2, 2)),
            ("dense4", (128, 576)),
        ],
        "onet": [
            *(("conv1", (32, 3, 3, 3)), ("conv2", (64, 32, 3, 3)), ("conv3", (64, 64, 3, 3))),
            *(("conv4", (128, 64, 2, 2)), ("dense5", (256, 1152))),
        ],
    }
    last = {"pnet": ("conv4", 32, (1, 1)), "rnet": ("dense5", 128, ()), "onet": ("dense6", 256, ())}
    generator, files = torch.Generator().manual_seed(0), {}
    for net, layers in shapes.items():
        state = {}
        for k, (name, shape) in enumerate(layers, start=1):
            state[f"{name}.weight"] = torch.randn(shape, generator=generator)
            state[f"{name}.bias"] = torch.randn(shape[0], generator=generator)
            state[f"prelu{k}.weight"] = torch.rand(shape[0], generator=generator)
        stem, inputs, rest = last[net]
        for part, outputs in (("1", 2), ("2", 4)):
            state[f"{stem}_{part}.weight"] = torch.randn(outputs, inputs, *rest, generator=generator)
            state[f"{stem}_{part}.bias"] = torch.randn(outputs, generator=generator)
        files[net] = state
    return files


def test_the_published_files_fit_and_their_dense_layer_is_put_in_order():
    files = theirs()
    state = published_state({f"facenet_pytorch/data/{net}.pt": saved(each) for net, each in files.items()})
    networks = FaceNets()
    networks.load_state_dict(state)
    # Theirs flattens (width, height, channels), ours (channels, height, width): the same numbers come out.
    # In float64: another order of the sums is another rounding.
    features = torch.randn(2, 64, 3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    weight, bias = (files["rnet"][f"dense4.{part}"].double() for part in ("weight", "bias"))
    expected = features.permute(0, 3, 2, 1).flatten(1) @ weight.T + bias
    rnet = networks.rnet.double()
    torch.testing.assert_close(rnet.dense(rnet.flatten(features)), expected)


def test_a_file_that_holds_anything_but_tensors_is_refused():
    with pytest.raises(FetchError, match="holds no plain tensors"):
        published_state({"data/pnet.pt": saved(nn.Linear(1, 1))})
    with pytest.raises(FetchError, match="holds no plain tensors"):
        published_state({"data/pnet.pt": b"nothing"})


# with its weights


@pytest.fixture(scope="module")
def detector() -> Detector:
    if not cached_weights("mtcnn").is_file():
        pytest.skip("run `counterpoint models fetch mtcnn` to run this test")
    return cp.load_model("mtcnn")


@pytest.fixture(scope="module")
def astronaut(detector) -> torch.Tensor:
    return detector.preprocess(find_photographs(["sample:astronaut"]))


@pytest.mark.weights
def test_the_weights_are_those_that_were_checked(detector):
    assert detector.weights_hash == PUBLISHED["mtcnn"].weights_sha256
    assert detector.card()["random_weights"] is False


@pytest.mark.weights
def test_the_astronauts_face_is_found_and_nothing_else(detector, astronaut):
    (found,) = detector.detections(astronaut)
    (face,) = found
    assert face.score > 0.99
    # In pixels of the photograph, 512 x 512, of which 320 x 320 go in; read off the photograph.
    assert [side * 512 / 320 for side in face.box] == pytest.approx([176, 61, 267, 174], abs=12)


@pytest.mark.weights
@pytest.mark.parametrize(("name", "faces"), [("camera", 1), ("chelsea", 0), ("coffee", 0), ("rocket", 0)])
def test_other_photographs_have_as_many_faces_as_they_show(detector, name, faces):
    inputs = detector.preprocess(find_photographs([f"sample:{name}"]))
    assert len(detector.detections(inputs)[0]) == faces


@pytest.mark.weights
def test_odam_explains_the_face_through_the_last_network(detector, astronaut):
    score = cp.detection(detector, of="logit", follow="candidate")
    comparison = cp.compare(score, astronaut, baseline=BLUR)
    (face,) = comparison.bound.detections
    attribution = comparison.at(face.layer).explain(cp.methods.ODAM())
    assert attribution.cut == "replaced"  # with the window held, everything goes through this layer
    heat = map_in_region(attribution, [face], (320, 320))
    assert heat.sum().item() == pytest.approx(attribution.result.item(), rel=1e-4)
    assert energy_in_box(heat, [face]).item() > 0.9
    assert pointing_in_box(heat, [face]).item() == 1.0
    # One step, but nearly linear from here on: measured 8 % of what zero features change.
    assert abs(attribution.own_error.item() / attribution.own_target.item()) < 0.15


@pytest.mark.weights
def test_of_a_saturated_score_odam_explains_next_to_nothing(detector, astronaut):
    comparison = cp.compare(cp.detection(detector, follow="candidate"), astronaut, baseline=BLUR)
    attribution = comparison.at("onet.features.prelu4").explain(cp.methods.ODAM())
    assert attribution.own_target.item() > 0.5
    assert attribution.result.item() < 0.001


@pytest.mark.weights
def test_integrated_gradients_of_the_held_window_reach_their_tolerance(detector, astronaut):
    score = cp.detection(detector, of="logit", follow="candidate")
    attribution = cp.compare(score, astronaut, baseline=BLUR).explain(
        cp.methods.IntegratedGradients(tolerance=0.01)
    )
    assert attribution.relative_error.item() < 0.01
    assert energy_in_box(attribution, detector.detections(astronaut)[0]).item() > 0.9


@pytest.fixture(scope="module")
def around_the_face(astronaut) -> torch.Tensor:
    """128 x 128 of the 320 x 320 pixels: a sixth of the work."""
    return astronaut[:, :, 10:138, 75:203].contiguous()


@pytest.mark.weights
@pytest.mark.slow
def test_the_face_is_lost_when_its_box_goes_and_found_when_it_comes(detector, around_the_face):
    score = cp.detection(detector)
    bound = score.bind(around_the_face)
    inside = box_masks(bound.detections, (128, 128)).float()
    share = inside.mean().item()
    curves = {
        kind: curve(score, around_the_face, inside, baseline=BLUR, steps=10).scores[0]
        for kind, curve in (("gone", cp.metrics.deletion_curve), ("come", cp.metrics.insertion_curve))
    }
    first = 1 + int(10 * share)  # from here on the whole box is replaced
    assert curves["gone"][0] > 0.99
    # What is left around the hole, hair and neck, still looks a little like a face: 0.6 at most, below the detector's own threshold.
    assert curves["gone"][first:].max() < 0.7
    assert curves["come"][0] < 0.7
    assert curves["come"][first:].min() > 0.9


@pytest.mark.weights
@pytest.mark.slow
def test_occlusion_finds_the_face_with_the_whole_cascade(detector, around_the_face):
    comparison = cp.compare(cp.detection(detector), around_the_face, baseline=BLUR)
    attribution = comparison.explain(cp.methods.Occlusion(size=32, stride=16))
    assert pointing_in_box(attribution, comparison.bound.detections).item() == 1.0
    assert energy_in_box(attribution, comparison.bound.detections).item() > 0.5
