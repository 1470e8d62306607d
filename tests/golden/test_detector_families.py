"""Detectors of torchvision and Hugging Face with random weights: the same boxes as theirs, levels, and matching."""

import pytest
import torch
from torch import nn

import counterpoint as cp
from counterpoint.detectors import Candidates, Detector, hf_detector, torchvision_detector
from counterpoint.errors import InputError

pytestmark = pytest.mark.golden

KINDS = ("faster_rcnn", "retinanet", "fcos", "ssdlite")


def network(kind: str) -> nn.Module:
    """Small, of random weights that give boxes with an area and scores that differ."""
    models = pytest.importorskip("torchvision.models.detection")
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
    from torchvision.ops.feature_pyramid_network import LastLevelP6P7

    with torch.random.fork_rng():
        torch.manual_seed(0)
        if kind == "ssdlite":
            made = models.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=4)
        elif kind == "faster_rcnn":
            backbone = resnet_fpn_backbone(backbone_name="resnet18", weights=None)
            # Levels start at boxes of 16 px here, so that small pictures use several.
            pool = models.faster_rcnn.MultiScaleRoIAlign(["0", "1", "2", "3"], 7, 2, canonical_scale=32)
            made = models.FasterRCNN(
                backbone, 4, min_size=64, max_size=128, box_roi_pool=pool, rpn_post_nms_top_n_test=30
            )
        else:
            backbone = resnet_fpn_backbone(
                backbone_name="resnet18",
                weights=None,
                returned_layers=[2, 3, 4],
                extra_blocks=LastLevelP6P7(256, 256),
            )
            kinds = {"retinanet": models.RetinaNet, "fcos": models.FCOS}
            made = kinds[kind](backbone, 4, min_size=64, max_size=128)
        for name, parameter in made.named_parameters():
            # Their heads begin so that every score is almost the same.
            if parameter.ndim > 1 and (kind == "fcos" or "cls_logits" in name):
                parameter.data *= 4
    return made.eval()


@pytest.fixture(scope="module", params=KINDS)
def detector(request) -> Detector:
    return torchvision_detector(request.param, network(request.param), None, weights="random")


def picture(seed: int = 0, height: int = 64, width: int = 96) -> torch.Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("height", "width"), [(64, 96), (32, 48), (128, 192)])
def test_what_is_reported_is_what_torchvision_returns(detector, height, width):
    """To the last bit where nothing has to be padded: these sizes are brought to 64 x 96, whole multiples of 32, by both."""
    model = detector.module.model
    if hasattr(model, "score_thresh"):
        model.score_thresh = 0.0
    inputs = picture(0, height, width)
    with torch.no_grad():
        (theirs,) = model([inputs[0]])
        _, (ours,) = detector.module.report(inputs)
    assert len(theirs["boxes"]) > 0
    torch.testing.assert_close(ours.boxes, theirs["boxes"], rtol=1e-6, atol=1e-5)
    torch.testing.assert_close(ours.scores, theirs["scores"], rtol=0, atol=0)
    assert ours.labels.tolist() == theirs["labels"].tolist()


def test_every_reported_box_is_one_of_the_candidates(detector):
    found = detector.detections(picture())[0]
    with torch.no_grad():
        candidates = detector.module(picture())
    for each in found[:20]:
        label = torch.tensor([each.label])
        torch.testing.assert_close(candidates.boxes_of(label)[0, each.candidate], torch.tensor(each.box))
        assert candidates.scores_of(label)[0, each.candidate].item() == pytest.approx(each.score)
        assert each.reported


def test_rows_are_treated_alone(detector):
    both = torch.cat([picture(0), picture(1)])
    with torch.no_grad():
        together = detector.module(both)
        for row in range(2):
            alone = detector.module(both[row : row + 1])
            count = alone.boxes.shape[1]  # filled up where the other row has more
            torch.testing.assert_close(together.boxes[row, :count], alone.boxes[0], rtol=1e-4, atol=1e-3)
            assert not together.scores[row, count:].any()


def test_the_level_of_a_candidate_is_the_one_its_gradient_comes_from(detector):
    inputs, names = picture(), detector.levels(picture())
    maps: dict[str, torch.Tensor] = {}
    layers = dict(detector.module.model.named_modules())

    def keep(name):
        def hook(layer, arguments, output):
            maps[name] = output

        return hook

    handles = [layers[name].register_forward_hook(keep(name)) for name in names]
    candidates: Candidates = detector.module(inputs)
    for handle in handles:
        handle.remove()
    levels = candidates.level[0].unique().tolist()
    assert len(levels) > 1
    for level in levels:
        place = int((candidates.level[0] == level).nonzero()[0])
        gradients = torch.autograd.grad(
            candidates.logits[0, place].sum(),
            [maps[name] for name in names],
            retain_graph=True,
            allow_unused=True,
        )
        reached = {
            n for n, gradient in zip(names, gradients, strict=True) if gradient is not None and gradient.any()
        }
        assert names[level] in reached
        # Coarser levels are made of finer ones in RetinaNet, FCOS and SSD, never the other way round.
        assert reached <= set(names[: level + 1])


def test_odam_at_the_level_of_the_detection_and_at_all_levels_together(detector):
    inputs = picture()
    (best,) = detector.best_candidates(inputs, 1)[0]
    score = cp.detection(detector, best, of="logit", follow="candidate")
    comparison = cp.compare(score, inputs, baseline=cp.baselines.Black())
    one = comparison.at(best.layer, bypass="intervene").explain(cp.methods.ODAM())
    assert torch.isfinite(one.values).all()
    assert one.heatmap().shape == (1, 64, 96)
    names = detector.levels(inputs)
    together = comparison.at(cp.joint(*names), bypass="intervene").explain(cp.methods.ODAM())
    torch.testing.assert_close(
        together.target, comparison.score - comparison.baseline_score, rtol=1e-3, atol=1e-4
    )
    assert together.cut in ("replaced", "partial")


def test_a_score_followed_as_an_object_and_as_a_candidate_agree_at_the_clean_input(detector):
    inputs = picture()
    (best,) = detector.best_candidates(inputs, 1)[0]
    bound = [cp.detection(detector, best, follow=follow).bind(inputs) for follow in ("object", "candidate")]
    assert bound[1].at_inputs.item() == pytest.approx(best.score, rel=1e-4)
    # Another candidate at the same place may have a greater score only if it is a double.
    assert bound[0].at_inputs.item() >= bound[1].at_inputs.item() - 1e-5


def test_nothing_is_left_on_the_network(detector):
    before = {name: value.clone() for name, value in detector.module.state_dict().items()}
    (best,) = detector.best_candidates(picture(), 1)[0]
    cp.compare(cp.detection(detector, best), picture(), baseline=cp.baselines.Black()).explain(
        cp.methods.Gradient()
    )
    assert all(torch.equal(value, before[name]) for name, value in detector.module.state_dict().items())
    assert not any(part._forward_hooks for part in detector.module.modules())
    assert all(parameter.grad is None for parameter in detector.module.parameters())


def test_a_picture_of_another_shape_is_stretched_by_less_than_a_cell():
    detector = torchvision_detector("retinanet", network("retinanet"), None)
    (sizes,) = {detector.sizing.size_of(70, 100)}
    assert sizes == (64, 96)  # torchvision: 64 x 91, padded to 64 x 96
    with torch.no_grad():
        boxes = detector.module(picture(0, 70, 100)).boxes
    assert boxes[..., 2].max() <= 100 + 1e-3
    assert boxes[..., 3].max() <= 70 + 1e-3


def test_the_regions_of_a_two_stage_detector_can_be_held():
    detector = torchvision_detector("faster_rcnn", network("faster_rcnn"), None)
    both = torch.cat([picture(0), picture(1)])
    chosen = [best[0] for best in detector.best_candidates(both, 1)]
    bound = cp.detection(detector, chosen, of="logit", follow="candidate").bind(both)
    with torch.no_grad():
        clean = detector.module(both)
    expected = [clean.logits[row, each.candidate, each.label] for row, each in enumerate(chosen)]
    torch.testing.assert_close(bound.at_inputs, torch.stack(expected), rtol=1e-4, atol=1e-4)
    rows, image = torch.cat([both, both[:1]]), torch.tensor([0, 1, 0])
    torch.testing.assert_close(bound(rows, image), bound.at_inputs[image], rtol=1e-4, atol=1e-4)


def test_a_network_in_training_mode_and_another_network_are_refused():
    with pytest.raises(InputError, match="in training mode"):
        torchvision_detector("x", network("retinanet").train(), None)
    with pytest.raises(InputError, match="must be a Faster R-CNN, RetinaNet, FCOS or SSD"):
        torchvision_detector("x", nn.Linear(1, 1).eval(), None)
    with pytest.raises(InputError, match="such as DetrForObjectDetection"):
        hf_detector(nn.Linear(1, 1).eval(), {})


# Hugging Face


def detr(kind: str = "Detr") -> nn.Module:
    transformers = pytest.importorskip("transformers")
    backbone = transformers.ResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 16, 16, 32],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=["stage4"],
    )
    sizes = dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim", "d_model"), 16)
    ones = dict.fromkeys(("encoder_layers", "decoder_layers"), 1)
    heads = dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 2)
    config = getattr(transformers, f"{kind}Config")(
        use_timm_backbone=False,
        backbone_config=backbone,
        num_queries=9,
        num_labels=3,
        **sizes,
        **ones,
        **heads,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = getattr(transformers, f"{kind}ForObjectDetection")(config)
        for parameter in model.class_labels_classifier.parameters():
            parameter.data = torch.randn(parameter.shape)  # as it comes, every query has the same scores
    return model.eval()


@pytest.mark.parametrize("kind", ["Detr", "ConditionalDetr"])
def test_a_query_is_what_the_librarys_own_last_step_makes_of_it(kind):
    transformers = pytest.importorskip("transformers")
    model, inputs = detr(kind), picture()
    detector = hf_detector(model, {"image_mean": [0.5] * 3, "image_std": [0.25] * 3}, threshold=0.0)
    with torch.no_grad():
        candidates, (reported,) = detector.module.report(inputs)
        output = model(pixel_values=(inputs - 0.5) / 0.25)
    processor = getattr(transformers, f"{kind}ImageProcessor")()
    (theirs,) = processor.post_process_object_detection(output, threshold=0.0, target_sizes=[(64, 96)])
    kept = torch.argsort(theirs["scores"], descending=True)
    if kind == "Detr":  # one class for each query; the other asks for the best pairs of query and class
        torch.testing.assert_close(reported.scores, theirs["scores"][kept])
        torch.testing.assert_close(reported.boxes, theirs["boxes"][kept])
        assert reported.labels.tolist() == theirs["labels"][kept].tolist()
        torch.testing.assert_close(candidates.logits, output.logits[..., :3])
    else:
        assert reported.scores[0].item() == pytest.approx(theirs["scores"].max().item())
        torch.testing.assert_close(candidates.scores, output.logits.sigmoid())


def test_detr_is_explained_at_the_projection_of_its_features():
    detector, inputs = hf_detector(detr(), {}, weights="random"), torch.cat([picture(0), picture(1)])
    assert detector.labels == ("LABEL_0", "LABEL_1", "LABEL_2")
    assert detector.levels(inputs) == ("model.input_projection",)
    chosen = [best[0] for best in detector.best_candidates(inputs, 1)]
    comparison = cp.compare(
        cp.detection(detector, chosen, follow="candidate", of="logit"), inputs, baseline=cp.baselines.Black()
    ).at("model.input_projection")
    attribution = comparison.explain(cp.methods.IntegratedGradients(tolerance=0.01))
    assert attribution.cut == "replaced"
    assert attribution.relative_error.max() < 0.01
    assert attribution.heatmap().shape == (2, 64, 96)


def test_the_size_of_the_pictures_is_that_of_the_processor():
    sizing = hf_detector(detr(), {"size": {"shortest_edge": 480, "longest_edge": 640}}).sizing
    assert (sizing.shorter, sizing.longest, sizing.fixed) == (480, 640, None)
    assert hf_detector(detr(), {"size": {"height": 320, "width": 640}}).sizing.fixed == (320, 640)
    assert hf_detector(detr(), {"size": 400, "max_size": 500}).sizing.longest == 500
