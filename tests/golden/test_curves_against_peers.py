"""Curves against torch-cam and pytorch-grad-cam: equal at equal points, and what steps, ties and scaling do where they differ."""

from functools import partial

import numpy as np
import pytest
import torch

import counterpoint as cp
from networks import SmallNet, random_images, seeded_resnet18

torch_cam = pytest.importorskip("torchcam.metrics")
extractors = pytest.importorskip("torchcam.methods")
grad_cam = pytest.importorskip("pytorch_grad_cam.metrics.cam_mult_image")
perturbation = pytest.importorskip("pytorch_grad_cam.metrics.perturbation_confidence")
pytestmark = pytest.mark.golden

TARGET = 2
BLACK, MEAN = cp.baselines.Black(), cp.baselines.Mean()
softmax = partial(torch.softmax, dim=-1)


class Given:
    """Stands in for an extractor of torch-cam: the maps are given."""

    def __init__(self, model, saliency):
        self.model, self.saliency = model, saliency

    def __call__(self, class_idx=None, scores=None, **_):
        return [self.saliency]

    def fuse_cams(self, cams):
        return cams[0]

    def _hooks_off(self):
        return torch.no_grad()


def their_areas(net, saliency, images, *, steps, baseline, logits_fn=softmax):
    """(2, batch): deletion and insertion, one image at a time, since torch-cam keeps the mean only."""
    found = []
    for i in range(len(images)):
        metric = torch_cam.DeletionInsertionMetric(
            Given(net, saliency[i : i + 1]), logits_fn, steps=steps, baseline=baseline
        )
        metric.update(images[i : i + 1], TARGET)
        found.append([metric.summary()[f"{kind}_auc"] for kind in ("deletion", "insertion")])
    return torch.tensor(found, dtype=images.dtype).T


def our_areas(net, saliency, images, *, steps, baseline, score=cp.probability):
    arguments = (score(net, TARGET), images, {"map": saliency}, [baseline])
    table = cp.metrics.curves(*arguments, steps=steps)
    return torch.stack([table.areas(kind)[0, 0] for kind in ("deletion", "insertion")])


def random_map(images, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(len(images), *images.shape[2:], generator=generator).to(images)


@pytest.mark.parametrize("steps", [1, 2, 4, 9, 12, 36])
@pytest.mark.parametrize("baseline", [BLACK, MEAN], ids=lambda each: type(each).__name__)
@pytest.mark.parametrize(("logits_fn", "score"), [(None, cp.logit), (softmax, cp.probability)])
def test_areas_are_torch_cams_where_the_steps_divide_the_pixels(steps, baseline, logits_fn, score):
    net, images = SmallNet(5), random_images(6, batch=3)
    saliency = random_map(images)
    ours = our_areas(net, saliency, images, steps=steps, baseline=baseline, score=score)
    theirs = their_areas(net, saliency, images, steps=steps, baseline=baseline, logits_fn=logits_fn)
    # Their fractions are float32, whatever the scores are.
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


def test_the_points_of_the_curves_are_torch_cams_too():
    net, images = SmallNet(5), random_images(6, batch=3)
    saliency = random_map(images)
    metric = torch_cam.DeletionInsertionMetric(Given(net, saliency), None, steps=9)
    rank = saliency.flatten(1).argsort(1, descending=True).argsort(1)
    fractions, deletion, insertion = metric._compute_curves(
        images, torch.zeros_like(images), rank, torch.full((3,), TARGET), net(images)[:, TARGET].detach()
    )
    table = cp.metrics.curves(cp.logit(net, TARGET), images, {"map": saliency}, [BLACK], steps=9)
    torch.testing.assert_close(table.curve("deletion").scores, deletion, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(table.curve("insertion").scores, insertion, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(table.fractions.float(), fractions)


@pytest.mark.slow
def test_areas_are_torch_cams_on_a_folded_resnet_in_float32():
    net = seeded_resnet18(7).float()
    images = random_images(8, batch=5, channels=3, size=64).float()
    saliency = random_map(images)
    table = cp.metrics.curves(cp.probability(net, TARGET), images, {"map": saliency}, [BLACK, MEAN], steps=16)
    assert table.folded
    for b, baseline in enumerate((BLACK, MEAN)):
        ours = torch.stack([table.areas(kind)[b, 0] for kind in ("deletion", "insertion")])
        theirs = their_areas(net, saliency, images, steps=16, baseline=baseline)
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_torch_cam_makes_fewer_steps_than_asked_for_where_these_do_not_divide_the_pixels():
    # A mean over pixels falls by what is removed: the curve shows where the points lie.
    images = torch.ones(1, 1, 6, 6).double()
    mean = lambda x: x.flatten(1).mean(1)  # noqa: E731
    saliency = random_map(images)
    metric = torch_cam.DeletionInsertionMetric(Given(lambda x: mean(x)[:, None], saliency), None, steps=10)
    rank = saliency.flatten(1).argsort(1, descending=True).argsort(1)
    theirs, *_ = metric._compute_curves(
        images, torch.zeros_like(images), rank, torch.zeros(1, dtype=torch.long), mean(images)
    )
    ours = cp.metrics.deletion_curve(mean, images, saliency, baseline=BLACK, steps=10).fractions
    # 36 / 10 rounded up is 4 pixels a step: nine steps. Ours takes 4 or 3, ten times.
    assert (theirs * 36).round().long().tolist() == [0, 4, 8, 12, 16, 20, 24, 28, 32, 36]
    assert (ours * 36).round().long().tolist() == [0, 4, 7, 11, 14, 18, 22, 25, 29, 32, 36]


def test_torch_cam_breaks_ties_in_memory_order_and_ours_by_a_seed():
    class Upper(torch.nn.Module):
        """How bright the upper half is."""

        def forward(self, x):
            return x[:, :, :3].flatten(1).mean(1, keepdim=True).expand(-1, 3)

    images, constant = torch.ones(1, 1, 6, 6).double(), torch.zeros(1, 6, 6).double()
    options = {"steps": 2, "baseline": BLACK}
    theirs = their_areas(Upper(), constant, images, **options, logits_fn=None)
    # A map that says nothing looks perfect in deletion: (1/2 + 0 + 0) / 2, where chance is 1/2.
    assert theirs[:, 0].tolist() == [0.25, 0.75]
    score = cp.logit(Upper().eval(), TARGET)
    ours = [
        cp.metrics.deletion_curve(score, images, constant, baseline=BLACK, steps=2, seed=seed)
        for seed in range(40)
    ]
    assert torch.cat([curve.area for curve in ours]).mean().item() == pytest.approx(0.5, abs=0.03)
    assert ours[0].tied.item() == 1


def test_average_drop_and_increase_are_torch_cams_for_maps_of_the_size_of_the_image():
    net, images = SmallNet(5), random_images(6, batch=4)
    with extractors.LayerCAM(net, "stem") as extractor:
        # What they explain is what they score: the probability.
        (saliency,) = extractor(TARGET, softmax(net(images)), normalized=False)
    with extractors.LayerCAM(net, "stem") as extractor:
        metric = torch_cam.ClassificationMetric(extractor, softmax)
        metric.update(images, TARGET)
    drop = cp.metrics.average_drop(cp.probability(net, TARGET), images, saliency, baseline=BLACK)
    increase = cp.metrics.average_increase(cp.probability(net, TARGET), images, saliency, baseline=BLACK)
    # They add 1e-7 to the divisor, and 1e-8 where they scale the map.
    assert 0 < drop.mean().item() < 1
    assert drop.mean().item() == pytest.approx(metric.summary()["avg_drop"], abs=1e-6)
    assert increase.mean().item() == metric.summary()["conf_increase"]


def test_torch_cam_scales_before_it_resizes_so_that_its_mask_of_a_coarse_map_is_not_ours():
    net, images = seeded_resnet18(7), random_images(8, batch=4, channels=3, size=64)
    with extractors.LayerCAM(net, "layer3") as extractor:
        (coarse,) = extractor(TARGET, softmax(net(images)), normalized=True)
    with extractors.LayerCAM(net, "layer3") as extractor:
        metric = torch_cam.ClassificationMetric(extractor, softmax)
        metric.update(images, TARGET)
    mask = torch_cam._resize_cam(coarse, (64, 64))
    drop = cp.metrics.average_drop(cp.probability(net, TARGET), images, mask, baseline=BLACK).mean().item()
    # Scaled at 4 x 4 cells and then resized, their mask comes to 0.95 to 0.97 at its brightest; ours is scaled at the size of the image.
    assert 0.94 < mask.amax((1, 2)).min() < mask.amax((1, 2)).max() < 0.98
    assert metric.summary()["avg_drop"] == pytest.approx(0.2157, abs=1e-3)
    assert drop == pytest.approx(0.1992, abs=1e-3)
    # The mask is the whole difference.
    with torch.no_grad():
        clean, masked = (softmax(net(each))[:, TARGET] for each in (images, images * mask.unsqueeze(1)))
    by_hand = ((clean - masked).clamp(min=0) / clean).mean().item()
    assert metric.summary()["avg_drop"] == pytest.approx(by_hand, abs=1e-6)


def test_pytorch_grad_cams_drop_is_ours_times_the_score_and_its_increase_is_ours():
    net, images = torch.nn.Sequential(SmallNet(5), torch.nn.Softmax(1)), random_images(6, batch=4)
    saliency = random_map(images)
    saliency = saliency - saliency.amin((1, 2), keepdim=True)
    saliency = saliency / saliency.amax((1, 2), keepdim=True)
    score = cp.logit(net, TARGET)
    targets = [lambda output: output[TARGET]] * 4
    clean = score.bind(images).at_inputs
    theirs = torch.from_numpy(grad_cam.DropInConfidence()(images, saliency.numpy(), targets, net))
    ours = cp.metrics.average_drop(score, images, saliency, baseline=BLACK)
    assert theirs.max() > 0
    torch.testing.assert_close((ours * clean).float(), theirs)
    theirs = torch.from_numpy(grad_cam.IncreaseInConfidence()(images, saliency.numpy(), targets, net))
    ours = cp.metrics.average_increase(score, images, saliency, baseline=BLACK)
    torch.testing.assert_close(ours.float(), theirs)


@pytest.mark.parametrize(("percentile", "count"), [(75, 9), (50, 18), (25, 27)])
def test_pytorch_grad_cams_removal_at_a_percentile_is_a_point_of_the_curve(percentile, count):
    net, images = SmallNet(5), random_images(6, batch=3)
    saliency = random_map(images)
    remove = perturbation.RemoveMostRelevantFirst(percentile, lambda image, kept: image * kept)
    metric = perturbation.PerturbationConfidenceMetric(remove)
    targets = [lambda output: output[TARGET]] * 3
    theirs = metric(images, saliency.numpy().astype(np.float64), targets, net, return_diff=False)
    curve = cp.metrics.deletion_curve(cp.logit(net, TARGET), images, saliency, baseline=BLACK, steps=36)
    torch.testing.assert_close(curve.scores[:, count].float(), torch.from_numpy(theirs))
