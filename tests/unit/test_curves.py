"""Insertion and deletion curves: closed forms, true fractions, ties, what is run and how often, and what is refused."""

import copy
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

import counterpoint as cp
from counterpoint.errors import (
    Cancelled,
    InputError,
    ModelError,
    NotFiniteError,
    ShapeError,
    UnknownNameError,
)
from counterpoint.metrics import curves as engine
from counterpoint.metrics.half_precision import agreement
from counterpoint.protocols import Baseline
from networks import SmallNet, linear_score, random_images

BLACK, MEAN, WHITE = cp.baselines.Black(), cp.baselines.Mean(), cp.baselines.White()
SINGLE = (
    cp.metrics.deletion_curve,
    cp.metrics.insertion_curve,
    cp.metrics.morf_curve,
    cp.metrics.lerf_curve,
    cp.metrics.relevance_gain,
    cp.metrics.aopc,
    cp.metrics.average_drop,
    cp.metrics.average_increase,
)


@dataclass(frozen=True)
class FillsGrey(Baseline):
    """Fills removed pixels with grey, and refuses to fill where nothing of the image is left."""

    fill_only: ClassVar[bool] = True

    def fill(self, inputs, removed):
        assert not removed.flatten(1).all(1).any()
        return inputs.masked_fill(removed.unsqueeze(1), 0.5)


@dataclass(frozen=True)
class Settled(Baseline):
    """A picture for each of the inputs that it was settled for, and for no others."""

    level: float = 0.0
    batch: int = 0

    def prepare(self, bound, inputs):
        return Settled(level=0.25, batch=len(inputs))

    def __call__(self, inputs):
        assert len(inputs) == self.batch
        return torch.full_like(inputs, self.level) + torch.arange(self.batch)[:, None, None, None] / 10


class Counting(nn.Module):
    """A small network that counts the rows that reach it, its copies among them."""

    rows = 0

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.net = SmallNet(seed)
        self.norm = nn.BatchNorm2d(2)
        self.double().eval()

    def forward(self, x):
        Counting.rows += len(x)
        return self.net(self.norm(x))


def maps_for(inputs, count=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (count, len(inputs), *inputs.shape[2:])
    return {f"map {i}": each for i, each in enumerate(torch.rand(shape, generator=generator).double())}


def brightness(x):
    return x.flatten(1).mean(1)


# What a curve is


def test_removing_n_of_the_pixels_of_a_white_image_leaves_the_rest():
    white = torch.ones(2, 3, 4, 5, dtype=torch.float64)
    (saliency,) = maps_for(white).values()
    for steps in (1, 3, 7, 20):
        counts = torch.tensor([round(k * 20 / steps) for k in range(steps + 1)]).double()
        removed = cp.metrics.deletion_curve(brightness, white, saliency, baseline=BLACK, steps=steps)
        restored = cp.metrics.insertion_curve(brightness, white, saliency, baseline=BLACK, steps=steps)
        torch.testing.assert_close(removed.fractions, counts / 20)
        torch.testing.assert_close(removed.scores, (1 - counts / 20).expand(2, -1))
        torch.testing.assert_close(restored.scores, (counts / 20).expand(2, -1))
        # A straight line: any steps have the same area.
        torch.testing.assert_close(removed.area, torch.full((2,), 0.5).double())


def test_the_most_relevant_pixels_go_first_and_return_first():
    image = torch.tensor([[[[8.0, 4.0], [2.0, 1.0]]]]).double()
    saliency = torch.tensor([[[1.0, 4.0], [-9.0, 2.0]]])
    total = lambda x: x.flatten(1).sum(1)  # noqa: E731
    removed = cp.metrics.deletion_curve(total, image, saliency, baseline=BLACK, steps=4)
    restored = cp.metrics.insertion_curve(total, image, saliency, baseline=BLACK, steps=4)
    assert removed.scores.tolist() == [[15, 11, 10, 2, 0]]
    assert restored.scores.tolist() == [[0, 4, 5, 13, 15]]
    by_size = cp.metrics.deletion_curve(total, image, saliency, baseline=BLACK, steps=4, order="absolute")
    assert by_size.scores.tolist() == [[15, 13, 9, 8, 0]]


def test_the_area_of_a_known_order_is_its_closed_form():
    score, weight = linear_score(1, (2, 5, 4))
    inputs = random_images(2)[:, :, :5, :4]
    baseline = cp.baselines.Constant((0.2, 0.7))
    shares = (weight * (inputs - baseline(inputs))).sum(1)
    curve = cp.metrics.deletion_curve(score, inputs, shares, baseline=baseline, steps=20)
    # One pixel a step: f falls by the sorted shares, largest first; by trapezoids pixel j of n counts for (n - j + 1/2) / n of the span.
    ordered = shares.flatten(1).sort(1, descending=True).values
    missing = (20 - torch.arange(1, 21).double() + 0.5) / 20
    torch.testing.assert_close(curve.area, score(inputs) - (ordered * missing).sum(1))


def test_the_least_relevant_first_is_the_order_turned_round():
    score, inputs = SmallNet(3).double(), random_images(4)
    bound = lambda x: score(x)[:, 0]  # noqa: E731
    (saliency,) = maps_for(inputs).values()
    turned = cp.metrics.deletion_curve(bound, inputs, -saliency, baseline=MEAN, steps=9)
    least = cp.metrics.lerf_curve(bound, inputs, saliency, baseline=MEAN, steps=9)
    torch.testing.assert_close(least.fractions, turned.fractions)
    torch.testing.assert_close(least.scores, turned.scores)
    assert least.kind == "lerf"
    most = cp.metrics.morf_curve(bound, inputs, saliency, baseline=MEAN, steps=9)
    torch.testing.assert_close(
        most.scores, cp.metrics.deletion_curve(bound, inputs, saliency, baseline=MEAN, steps=9).scores
    )


def test_gain_and_aopc_are_read_off_the_curves():
    net, inputs = SmallNet(3), random_images(4)
    score, (saliency,) = cp.logit(net, 1), maps_for(inputs).values()
    removed = cp.metrics.deletion_curve(score, inputs, saliency, baseline=MEAN, steps=6)
    restored = cp.metrics.insertion_curve(score, inputs, saliency, baseline=MEAN, steps=6)
    least = cp.metrics.lerf_curve(score, inputs, saliency, baseline=MEAN, steps=6)
    gain = cp.metrics.relevance_gain(score, inputs, saliency, baseline=MEAN, steps=6)
    torch.testing.assert_close(gain, restored.area - removed.area)
    torch.testing.assert_close(gain, least.area - removed.area)
    drops = torch.stack([removed.scores[:, 0] - removed.scores[:, k] for k in range(7)])
    torch.testing.assert_close(
        cp.metrics.aopc(score, inputs, saliency, baseline=MEAN, steps=6), drops.sum(0) / 7
    )


def test_true_fractions_are_counts_of_pixels_for_any_number_of_steps():
    image = random_images(0, batch=1, size=6)
    (saliency,) = maps_for(image).values()
    for steps in range(1, 37):
        fractions = cp.metrics.deletion_curve(
            brightness, image, saliency, baseline=BLACK, steps=steps
        ).fractions
        counts = fractions * 36
        torch.testing.assert_close(counts, counts.round())
        assert len(fractions) == steps + 1
        assert (fractions.diff() > 0).all()
        assert fractions[0] == 0
        assert fractions[-1] == 1


def test_the_area_error_is_the_gap_between_all_points_and_every_second():
    # f = (share that is left)^2: smooth, so that the error of the area is a third of the gap.
    white = torch.ones(1, 1, 12, 12, dtype=torch.float64)
    (saliency,) = maps_for(white).values()
    square = lambda x: brightness(x) ** 2  # noqa: E731
    curve = cp.metrics.deletion_curve(square, white, saliency, baseline=BLACK, steps=12)
    torch.testing.assert_close(3 * (curve.area - 1 / 3), curve.area_error)
    # A jump within the first step: the gap is as large as the area that the step can hide.
    jump = lambda x: (brightness(x) > 0.99).double()  # noqa: E731
    curve = cp.metrics.deletion_curve(jump, white, saliency, baseline=BLACK, steps=12)
    assert curve.area_error.item() == pytest.approx(1 / 24)
    assert curve.area.item() == pytest.approx(1 / 24)
    line = cp.metrics.deletion_curve(brightness, white, saliency, baseline=BLACK, steps=5)
    assert line.area_error.item() == pytest.approx(0, abs=1e-12)
    single = cp.metrics.deletion_curve(square, white, saliency, baseline=BLACK, steps=1)
    assert single.area_error.isnan().all()


def test_a_baseline_equal_to_the_image_gives_a_flat_curve():
    grey = torch.full((1, 2, 6, 6), 0.5).double()
    score, (saliency,) = cp.logit(SmallNet(1), 0), maps_for(grey).values()
    table = cp.metrics.curves(score, grey, {"map": saliency}, [cp.baselines.Zero()], steps=5)
    flat = score.bind(grey).at_inputs
    torch.testing.assert_close(table.scores, flat.expand(2, 1, 1, 1, 6))
    torch.testing.assert_close(table.gains(), torch.zeros(1, 1, 1).double(), atol=1e-12, rtol=0)


# Ties


def test_the_share_of_tied_pixels_is_reported_for_each_image_and_map():
    inputs = random_images(0, batch=3, size=4)
    saliency = torch.arange(16.0).view(1, 4, 4).repeat(3, 1, 1)
    saliency[1, 0, :3] = 3.0  # with the pixel that has 3 already: four tied
    saliency[2] = 7.0
    table = cp.metrics.curves(brightness, inputs, {"a": saliency, "b": -saliency}, [BLACK], steps=4)
    assert table.tied.tolist() == [[0, 0.25, 1], [0, 0.25, 1]]
    signs = torch.tensor([[-1.0, 1.0], [2.0, 3.0]])[None].expand(3, 2, 2)
    absolute = cp.metrics.curves(
        brightness, inputs[..., :2, :2], {"a": signs}, [BLACK], steps=2, order="absolute"
    )
    assert absolute.tied.tolist() == [[0.5, 0.5, 0.5]]


def test_ties_go_in_a_seeded_random_order_and_never_in_memory_order():
    image = torch.zeros(1, 1, 30, 30)
    image[..., :15, :] = 1.0  # the upper half: first in memory
    constant = torch.zeros(1, 30, 30)
    scores = [
        cp.metrics.deletion_curve(brightness, image, constant, baseline=BLACK, steps=2, seed=seed).scores
        for seed in range(8)
    ]
    halves = torch.cat(scores)[:, 1]
    # Half of the pixels removed at random leave a quarter; memory order would leave none.
    torch.testing.assert_close(halves, torch.full((8,), 0.25), atol=0.04, rtol=0)
    assert len(set(halves.tolist())) > 1
    again = cp.metrics.deletion_curve(brightness, image, constant, baseline=BLACK, steps=2, seed=3)
    assert again.scores.tolist() == scores[3].tolist()


def test_a_mask_of_whole_numbers_or_truth_values_is_a_map_with_ties():
    image = random_images(0, batch=1)
    mask = torch.zeros(1, 6, 6, dtype=torch.bool)
    mask[0, 2:4, 2:4] = True
    total = lambda x: x[:, :, 2:4, 2:4].flatten(1).sum(1)  # noqa: E731
    for saliency in (mask, mask.long()):
        curve = cp.metrics.deletion_curve(total, image, saliency, baseline=BLACK, steps=9)
        assert curve.scores[0, 0] > 0
        assert curve.scores[0, 1:].tolist() == [0.0] * 9
        assert curve.tied.item() == 1


# What is run


@pytest.mark.parametrize(("steps", "kinds"), [(1, 2), (2, 2), (5, 2), (5, 1)])
def test_the_model_sees_1_plus_b_plus_2bms_rows_for_each_image(steps, kinds):
    inputs, baselines = random_images(0, batch=3), [BLACK, MEAN, WHITE]
    seen = 0

    def score(x):
        nonlocal seen
        seen += len(x)
        return brightness(x)

    chosen = ("deletion", "insertion")[:kinds]
    table = cp.metrics.curves(score, inputs, maps_for(inputs, 4), baselines, steps=steps, kinds=chosen)
    expected = 1 + 3 + kinds * 3 * 4 * (steps - 1)
    assert seen == 3 * expected
    assert table.forward_evaluations.tolist() == [expected] * 3


def test_a_class_score_pays_for_the_image_only_once():
    inputs = random_images(0, batch=3)
    Counting.rows = 0
    table = cp.metrics.curves(
        cp.logit(Counting()), inputs, maps_for(inputs, 2), [BLACK, MEAN], steps=4, fold=False
    )
    assert Counting.rows == 3 * (1 + 2 + 2 * 2 * 2 * 3)
    assert not table.folded


def test_a_folded_copy_is_run_where_that_pays_and_changes_no_curve():
    inputs = random_images(0, batch=12)
    arguments = (cp.logit(Counting()), inputs, maps_for(inputs, 2), [BLACK, MEAN])
    Counting.rows = 0
    folded = cp.metrics.curves(*arguments, steps=4)
    assert folded.folded
    # Beside the curves themselves: two images through model and copy, in the model's own type and in float64.
    assert Counting.rows <= 12 * (1 + 2 + 2 * 2 * 2 * 3) + 8
    plain = cp.metrics.curves(*arguments, steps=4, fold=False)
    assert not plain.folded
    torch.testing.assert_close(folded.scores, plain.scores)
    assert not cp.metrics.curves(*arguments, steps=1).folded


def test_many_maps_and_baselines_are_the_same_as_one_by_one():
    inputs, baselines = random_images(0, batch=3), [FillsGrey(), BLACK, MEAN]
    score, maps = cp.logit(SmallNet(1)), maps_for(inputs, 3)
    table = cp.metrics.curves(score, inputs, maps, baselines, steps=5, micro_batch=4)
    for baseline in baselines:
        for name, saliency in maps.items():
            for kind, single in (
                ("deletion", cp.metrics.deletion_curve),
                ("insertion", cp.metrics.insertion_curve),
            ):
                alone = single(score, inputs, saliency, baseline=baseline, steps=5)
                curve = table.curve(kind, baseline=baseline, saliency=name)
                torch.testing.assert_close(curve.scores, alone.scores)
                torch.testing.assert_close(curve.fractions, alone.fractions)
                assert curve.kind == kind
                assert curve.baseline == baseline


@pytest.mark.parametrize("micro_batch", [1, 5, 100])
def test_every_image_keeps_its_own_class_however_images_are_grouped(micro_batch):
    net, inputs = SmallNet(1), random_images(0, batch=3)
    (saliency,) = maps_for(inputs).values()
    # 37 forwards an image and 32 micro-batches at a time: one image, several, or all in a group.
    table = cp.metrics.curves(
        cp.logit(net, [2, 0, 1]), inputs, {"map": saliency}, [BLACK], steps=18, micro_batch=micro_batch
    )
    for i, target in enumerate((2, 0, 1)):
        one = slice(i, i + 1)
        alone = cp.metrics.deletion_curve(
            cp.logit(net, target), inputs[one], saliency[one], baseline=BLACK, steps=18
        )
        torch.testing.assert_close(table.curve("deletion").scores[one], alone.scores)


def test_a_point_is_the_image_with_the_baseline_pasted_in():
    inputs = random_images(0, batch=2)
    (saliency,) = maps_for(inputs).values()
    seen = []

    def score(x):
        seen.append(x.clone())
        return brightness(x)

    cp.metrics.deletion_curve(score, inputs, saliency, baseline=MEAN, steps=3)
    points = torch.cat(seen)
    rank = (-saliency).flatten(1).argsort(1).argsort(1).view_as(saliency)
    expected = MEAN(inputs).where((rank < 12).unsqueeze(1), inputs)
    for each in expected:
        assert any(torch.equal(each, point) for point in points)


def test_no_more_images_than_a_micro_batch_go_through_the_model_and_memory_may_run_out():
    inputs = random_images(0, batch=2)
    sizes = []

    def score(x):
        sizes.append(len(x))
        if len(x) > 3:
            raise MemoryError
        return brightness(x)

    arguments = (inputs, maps_for(inputs, 2), [BLACK])
    table = cp.metrics.curves(score, *arguments, steps=6, micro_batch=7)
    plain = cp.metrics.curves(brightness, *arguments, steps=6)
    torch.testing.assert_close(table.scores, plain.scores)
    assert max(sizes) == 7
    assert sum(size for size in sizes if size <= 3) == 2 * (1 + 1 + 2 * 2 * 5)


def test_forwards_run_in_inference_mode_and_results_can_be_used_freely():
    inputs, modes = random_images(0), []

    def score(x):
        modes.append(torch.is_inference_mode_enabled())
        return brightness(x)

    curve = cp.metrics.deletion_curve(score, inputs, maps_for(inputs)["map 0"], baseline=BLACK, steps=3)
    assert modes[1:] == [True] * (len(modes) - 1)
    weight = torch.ones(1, requires_grad=True)
    (curve.scores * weight).sum().backward()
    curve.scores.add_(1.0)


def test_a_baseline_settled_for_the_inputs_is_asked_for_all_of_them_at_once():
    inputs = random_images(0, batch=3)
    table = cp.metrics.curves(
        brightness, inputs, maps_for(inputs), [Settled(), BLACK], steps=2, micro_batch=1
    )
    curve = table.curve("deletion", baseline=table.baselines[0])
    assert curve.baseline == Settled(level=0.25, batch=3)
    torch.testing.assert_close(curve.scores[:, -1], torch.tensor([0.25, 0.35, 0.45]).double())


def test_an_attribution_stands_for_its_heat_map():
    net, inputs = SmallNet(1), random_images(0)
    score = cp.logit(net)
    attribution = cp.compare(score, inputs, baseline=MEAN, layer="last").explain(cp.methods.GradCAM())
    one = cp.metrics.deletion_curve(score, inputs, attribution, baseline=MEAN, steps=5)
    two = cp.metrics.deletion_curve(score, inputs, attribution.heatmap(), baseline=MEAN, steps=5)
    torch.testing.assert_close(one.scores, two.scores)


def test_the_model_and_the_inputs_are_left_as_they_were():
    net, inputs = Counting(), random_images(0)
    before, pixels, state = copy.deepcopy(net.state_dict()), inputs.clone(), torch.random.get_rng_state()
    cp.metrics.curves(cp.logit(net), inputs, maps_for(inputs), [BLACK, cp.baselines.Uniform()], steps=3)
    torch.testing.assert_close(net.state_dict(), before, rtol=0, atol=0)
    assert all(parameter.requires_grad and parameter.grad is None for parameter in net.parameters())
    assert torch.equal(inputs, pixels)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_progress_counts_forwards_and_cancelling_stops_the_work():
    inputs, seen = random_images(0), []
    arguments = (brightness, inputs, maps_for(inputs, 2), [BLACK])
    with cp.progress.listening(lambda *report: seen.append(report)):
        cp.metrics.curves(*arguments, steps=6, micro_batch=4)
    done = [each[0] for each in seen]
    assert done == sorted(done)
    assert len(done) == 11  # 42 rows, 4 at a time
    assert seen[-1] == (42, 42, "curves")

    def stop(done, total, what):
        if done > 8:
            raise Cancelled

    with pytest.raises(Cancelled), cp.progress.listening(stop):
        cp.metrics.curves(*arguments, steps=6, micro_batch=4)


# Kinds that only fill


def test_a_curve_under_a_baseline_that_only_fills_ends_before_nothing_is_left():
    inputs, (saliency,) = random_images(0), maps_for(random_images(0)).values()
    pasted, filled = (
        cp.metrics.curves(brightness, inputs, {"map": saliency}, [baseline], steps=6)
        for baseline in (cp.baselines.Zero(), FillsGrey())
    )
    whole, part = pasted.curve("deletion"), filled.curve("deletion")
    torch.testing.assert_close(part.fractions, torch.arange(6).double() / 6)
    torch.testing.assert_close(part.scores, whole.scores[:, :-1])
    torch.testing.assert_close(part.area, torch.trapezoid(part.scores, part.fractions) / (5 / 6))
    whole, part = pasted.curve("insertion"), filled.curve("insertion")
    torch.testing.assert_close(part.fractions, torch.arange(1, 7).double() / 6)
    torch.testing.assert_close(part.scores, whole.scores[:, 1:])
    torch.testing.assert_close(filled.areas("insertion")[0, 0], part.area)
    assert filled.scores.isnan().sum() == 4  # two images, two kinds
    assert filled.forward_evaluations.tolist() == [1 + 2 * 5] * 2
    least = cp.metrics.lerf_curve(brightness, inputs, saliency, baseline=FillsGrey(), steps=6)
    torch.testing.assert_close(least.fractions, torch.arange(6).double() / 6)


def test_a_line_has_the_same_mean_height_whether_or_not_its_end_is_there():
    white = torch.ones(1, 1, 6, 6).double()
    (saliency,) = maps_for(white).values()
    # From 1 to 1/2 at the last point; from 1 to 7/12 one step of six before.
    curve = cp.metrics.deletion_curve(brightness, white, saliency, baseline=FillsGrey(), steps=6)
    assert curve.area.item() == pytest.approx((1 + 7 / 12) / 2)


# Tables


def test_records_hold_every_image_kind_baseline_and_map():
    inputs = random_images(0, batch=2)
    table = cp.metrics.curves(brightness, inputs, maps_for(inputs, 3), [BLACK, FillsGrey()], steps=4)
    records = table.to_records()
    assert len(records) == 2 * 2 * 2 * 3
    names = {tuple(record[key] for key in ("image", "kind", "baseline", "saliency")) for record in records}
    assert len(names) == len(records)
    for record in records:
        curve = table.curve(record["kind"], baseline=record["baseline"], saliency=record["saliency"])
        assert record["area"] == curve.area[record["image"]].item()
        assert record["last_score"] == curve.scores[record["image"], -1].item()
        assert all(isinstance(value, str | int | float) and value == value for value in record.values())


def test_areas_have_the_axes_baseline_map_image():
    inputs = random_images(0, batch=4)
    table = cp.metrics.curves(brightness, inputs, maps_for(inputs, 3), [BLACK, MEAN], steps=4)
    for kind in table.kinds:
        assert table.areas(kind).shape == table.area_errors(kind).shape == (2, 3, 4)
        torch.testing.assert_close(
            table.areas(kind)[1, 2], table.curve(kind, baseline="mean", saliency="map 2").area
        )
    torch.testing.assert_close(table.gains(), table.areas("insertion") - table.areas("deletion"))
    assert (table.steps, table.precision, table.baseline_names) == (4, "float32", ("black", "mean"))


def test_a_table_says_what_it_does_not_hold():
    inputs = random_images(0)
    table = cp.metrics.curves(
        brightness, inputs, maps_for(inputs, 2), [BLACK, MEAN], steps=4, kinds=["deletion"]
    )
    with pytest.raises(UnknownNameError, match="kind of curve 'insertion'"):
        table.gains()
    with pytest.raises(UnknownNameError, match="did you mean 'black'"):
        table.curve("deletion", baseline="blak", saliency="map 0")
    with pytest.raises(UnknownNameError, match="unknown baseline"):
        table.curve("deletion", baseline=WHITE, saliency="map 0")
    with pytest.raises(InputError, match="name the baseline, since this table has 2: black, mean"):
        table.curve("deletion", saliency="map 0")
    with pytest.raises(InputError, match="name the saliency"):
        table.curve("deletion", baseline="mean")


# Masks


def test_average_drop_is_the_share_of_the_score_that_a_soft_mask_loses():
    white = torch.ones(3, 1, 2, 2).double()
    saliency = torch.tensor([[[0.0, 1.0], [2.0, 4.0]], [[-1.0, 3.0], [3.0, 3.0]], [[5.0, 5.0], [5.0, 5.0]]])
    drop = cp.metrics.average_drop(brightness, white, saliency, baseline=BLACK)
    torch.testing.assert_close(drop[:2], torch.tensor([1 - 7 / 16, 1 / 4]).double())
    assert drop[2].isnan()  # a constant map has no scale
    towards = cp.metrics.average_drop(brightness, white, saliency, baseline=cp.baselines.Zero())
    torch.testing.assert_close(towards[:2], drop[:2] / 2)
    rises = cp.metrics.average_drop(lambda x: 2 - brightness(x), white, saliency, baseline=BLACK)
    assert rises[:2].tolist() == [0, 0]
    below = cp.metrics.average_drop(lambda x: -brightness(x), white, saliency, baseline=BLACK)
    assert below.isnan().all()


def test_average_increase_is_1_where_the_mask_raises_the_score():
    image = torch.tensor([[[[0.2, 0.8]]], [[[0.8, 0.2]]], [[[0.8, 0.8]]]]).double()
    contrast = lambda x: x[:, 0, 0, 1] - x[:, 0, 0, 0]  # noqa: E731
    saliency = torch.tensor([[[0.0, 1.0]], [[1.0, 0.0]], [[3.0, 3.0]]])
    increase = cp.metrics.average_increase(contrast, image, saliency, baseline=BLACK)
    assert increase[:2].tolist() == [1, 0]
    assert increase[2].isnan()


@pytest.mark.parametrize("baseline", [FillsGrey(), cp.baselines.Uniform(draws=2)])
def test_a_soft_mask_needs_one_image_to_mix_with(baseline):
    inputs = random_images(0)
    with pytest.raises(InputError, match="a soft mask mixes the image with one other"):
        cp.metrics.average_drop(brightness, inputs, maps_for(inputs)["map 0"], baseline=baseline)


# bfloat16


def smooth_score(seed=0):
    """A network whose scores differ from image to image by far more than bfloat16 rounds away."""
    net = SmallNet(seed, channels=3).float()
    return cp.logit(net, 0), random_images(1, batch=10, channels=3, size=8).float() * torch.linspace(
        0.2, 2.0, 10
    ).view(-1, 1, 1, 1)


def test_bfloat16_is_checked_and_says_how_well_it_agrees():
    score, inputs = smooth_score()
    maps = maps_for(inputs, 5)
    half = cp.metrics.curves(score, inputs, maps, [BLACK, MEAN], steps=4, precision="bfloat16")
    full = cp.metrics.curves(score, inputs, maps, [BLACK, MEAN], steps=4)
    assert (half.precision, full.precision) == ("bfloat16", "float32")
    assert full.precision_check is None
    check = half.precision_check
    assert (check.images, check.maps, check.controls) == (8, 4, 0)
    assert 0.98 <= check.spearman <= 1
    assert half.scores.dtype == torch.float32
    assert 0 < (half.scores - full.scores).abs().max() < 0.1
    for kind in half.kinds:
        for one, two in zip(half.areas(kind), full.areas(kind), strict=True):
            assert spearmanr(one.flatten(), two.flatten()).statistic > 0.98


def test_bfloat16_adds_random_maps_where_fewer_than_four_are_given():
    score, inputs = smooth_score()
    table = cp.metrics.curves(score, inputs, maps_for(inputs), [BLACK], steps=4, precision="bfloat16")
    assert (table.precision_check.maps, table.precision_check.controls) == (4, 3)
    assert table.maps == ("map 0",)
    assert table.forward_evaluations.tolist() == [1 + 1 + 1 + 2 * 3] * 10


class Offset(nn.Module):
    """Adds so much that bfloat16 rounds the rest away."""

    def forward(self, x):
        return x.flatten(1).mean(1, keepdim=True) + 1000


class Stubborn(nn.Module):
    """Works in its own type only."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Linear(3 * 64, 2)

    def forward(self, x):
        return self.weight(x.flatten(1).float())


def test_bfloat16_is_refused_where_it_changes_the_order_of_the_areas():
    _, inputs = smooth_score()
    with pytest.raises(
        InputError, match=r"must be at least 0.98, but is (0\.\d+|nan); use precision='float32'"
    ):
        cp.metrics.curves(
            cp.logit(Offset().eval(), 0), inputs, maps_for(inputs, 4), [BLACK], steps=4, precision="bfloat16"
        )


def test_bfloat16_is_refused_where_it_cannot_be_checked_or_does_not_run():
    score, inputs = smooth_score()
    refused = lambda score, inputs, words: pytest.raises(InputError, match=words)  # noqa: E731
    few = inputs[:7]
    with refused(score, few, "is checked on 8 images, but there are 7"):
        cp.metrics.curves(score, few, maps_for(few), [BLACK], precision="bfloat16")
    with refused(score, inputs, "needs a score that knows its module"):
        cp.metrics.curves(brightness, inputs, maps_for(inputs), [BLACK], precision="bfloat16")
    with refused(score, inputs, "the model does not run in that type"):
        cp.metrics.curves(
            cp.logit(Stubborn().eval(), 0), inputs, maps_for(inputs), [BLACK], precision="bfloat16"
        )
    with pytest.raises(UnknownNameError, match="unknown precision 'float16'"):
        cp.metrics.curves(score, inputs, maps_for(inputs), [BLACK], precision="float16")


def test_agreement_takes_the_worst_of_the_curves_and_looks_within_images_too():
    full = torch.tensor([[[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]]]).repeat(2, 1, 1)
    half = full.clone()
    half[1, :, 0] = torch.tensor([2.0, 1.0, 3.0])
    check = agreement(half, full, controls=1)
    pooled = spearmanr(half[1].flatten(), full[1].flatten()).statistic
    assert check.spearman == pytest.approx(pooled)
    centred = [each - each.mean(0) for each in (half[1], full[1])]
    assert check.within_images == pytest.approx(spearmanr(*(each.flatten() for each in centred)).statistic)
    assert check.largest_difference == 1
    assert math.isnan(agreement(torch.ones(1, 3, 2), full[:1], controls=0).spearman)


# Does a ranking survive another baseline?


def test_rankings_that_are_the_same_agree_fully():
    table = torch.tensor([[1.0, 10.0, -3.0], [2.0, 30.0, -2.0], [5.0, 40.0, -1.0], [7.0, 90.0, 0.0]])
    found = cp.metrics.rank_stability(table)
    assert found.mean_tau == pytest.approx(1)
    assert found.concordance == pytest.approx(1)
    assert found.null == pytest.approx(1 / 3)
    # W = 1 needs the two other columns to fall in the order of the first: 1 in 24^2.
    assert found.p_value == pytest.approx(1 / 576, abs=1.5e-3)


def test_opposite_rankings_have_tau_minus_1_and_no_concordance():
    table = torch.tensor([[1.0, 3.0], [2.0, 2.0], [3.0, 1.0]])
    found = cp.metrics.rank_stability(table)
    torch.testing.assert_close(found.taus, torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).double())
    assert found.mean_tau == -1
    assert found.concordance == 0
    assert found.p_value == 1


def test_concordance_and_tau_correct_for_ties():
    # Ranks (1, 2.5, 2.5, 4), (1, 2, 3, 4): sums 2, 4.5, 5.5, 8 around 5: S = 18.5; W = 12 S / (4 * 60 - 2 * 6).
    table = torch.tensor([[1.0, 1.0], [2.0, 2.0], [2.0, 3.0], [4.0, 4.0]])
    found = cp.metrics.rank_stability(table)
    assert found.concordance == pytest.approx(12 * 18.5 / 228)
    # Five concordant pairs, one tied in the first: 5 / sqrt(5 * 6).
    assert found.mean_tau == pytest.approx(5 / math.sqrt(30))
    constant = cp.metrics.rank_stability(torch.tensor([[1.0, 1.0], [1.0, 2.0]]))
    assert math.isnan(constant.mean_tau)
    nothing = cp.metrics.rank_stability(torch.ones(3, 2))
    assert math.isnan(nothing.concordance)
    assert math.isnan(nothing.p_value)


def test_unrelated_rankings_have_concordance_1_over_m_on_average():
    generator = torch.Generator().manual_seed(0)
    found = [
        cp.metrics.rank_stability(torch.rand(6, 4, generator=generator), permutations=50, seed=i)
        for i in range(150)
    ]
    assert sum(each.concordance for each in found) / 150 == pytest.approx(found[0].null, abs=0.03)
    assert sum(each.p_value < 0.1 for each in found) / 150 == pytest.approx(0.1, abs=0.06)


def test_a_table_that_cannot_be_ranked_is_refused(unchecked):
    with pytest.raises(ShapeError, match=r"at least two of each, got \(1, 4\)"):
        cp.metrics.rank_stability(torch.rand(1, 4))
    with pytest.raises(ShapeError, match=r"got \(4,\)"):
        cp.metrics.rank_stability(torch.rand(4))
    with pytest.raises(NotFiniteError, match="table must be finite"):
        cp.metrics.rank_stability(torch.tensor([[1.0, math.nan], [1.0, 2.0]]))
    with pytest.raises(InputError, match="table must be a tensor"):
        cp.metrics.rank_stability([[1, 2], [3, 4]])
    with pytest.raises(InputError, match="permutations must be at least 1"):
        cp.metrics.rank_stability(torch.rand(3, 3), permutations=0)


# What is refused


@pytest.mark.parametrize("function", SINGLE, ids=lambda function: function.__name__)
def test_every_function_refuses_maps_that_are_none(function, unchecked):
    inputs = random_images(0)
    for saliency, error, words in (
        (torch.full((2, 6, 6), math.nan), NotFiniteError, "must be finite, but 72 of 72"),
        (torch.rand(2, 5, 6), ShapeError, r"each pixel of inputs, \(2, 6, 6\), but is \(2, 5, 6\)"),
        (torch.rand(6, 6), ShapeError, r"but is \(6, 6\)"),
        (torch.rand(2, 3, 6, 6), ShapeError, "sum its channels"),
        ([[1.0]], InputError, "or an Attribution, got list"),
        (torch.rand(2, 6, 6, dtype=torch.complex64), InputError, "got torch.complex64"),
    ):
        with pytest.raises(error, match=words):
            function(brightness, inputs, saliency, baseline=BLACK)


def test_one_clear_message_for_each_bad_argument(unchecked):
    inputs = random_images(0)
    maps = maps_for(inputs)

    def refuses(error, words, *, score=brightness, inputs=inputs, maps=maps, baselines=(BLACK,), **options):
        with pytest.raises(error, match=words):
            cp.metrics.curves(score, inputs, maps, baselines, **options)

    refuses(InputError, "at least one map, got an empty dictionary", maps={})
    refuses(InputError, "must be a dictionary, name -> map, got Tensor", maps=maps["map 0"])
    refuses(InputError, "must have text for names, got 3", maps={3: maps["map 0"]})
    refuses(NotFiniteError, "saliency 'bad' must be finite", maps={**maps, "bad": maps["map 0"] / 0})
    for steps in (0, 37, -1, 2.5, True):
        refuses(InputError, f"steps must be a whole number from 1 to 36, .*got {steps}", steps=steps)
    refuses(UnknownNameError, "unknown order 'absolut'; did you mean 'absolute'", order="absolut")
    refuses(UnknownNameError, "unknown kind of curve 'delete'", kinds=["delete"])
    refuses(InputError, "kinds must be a list", kinds="deletion")
    refuses(InputError, "kinds must be a list", kinds=[])
    refuses(InputError, "seed must be a whole number", seed=-1)
    refuses(InputError, "micro_batch must be at least 1", micro_batch=0)
    refuses(InputError, "at least one baseline", baselines=[])
    refuses(InputError, r"baselines must be a list, such as \[cp.baselines.Mean\(\)\]", baselines=BLACK)
    refuses(InputError, "objects of cp.baselines", baselines=["black"])
    refuses(InputError, "objects of cp.baselines", baselines=[cp.baselines.Black])
    refuses(InputError, "baselines must differ, but black comes more than once", baselines=[BLACK, BLACK])
    refuses(InputError, "has 3 draws; give several baselines", baselines=[cp.baselines.Uniform(draws=3)])
    refuses(
        InputError,
        "steps must be at least 2 under a baseline that only fills",
        baselines=[FillsGrey()],
        steps=1,
    )
    refuses(
        ShapeError,
        r"must have channels and places, \(batch, channel, height, width\)",
        inputs=torch.rand(2, 6),
    )
    refuses(NotFiniteError, "inputs must be finite", inputs=inputs / 0)
    refuses(NotFiniteError, "baseline Infinite must be finite", baselines=[Infinite()])
    refuses(ShapeError, "baseline Small is", baselines=[Small()])
    refuses(NotFiniteError, "score of the inputs must be finite", score=lambda x: brightness(x) / 0)
    refuses(ModelError, "score must return one number per row", score=lambda x: x)
    refuses(InputError, "score must be a score such as", score=3)


class Infinite(cp.baselines.Constant):
    def __call__(self, inputs):
        return torch.full_like(inputs, math.inf)


class Small(Baseline):
    def __call__(self, inputs):
        return inputs[..., :1]


def test_bad_arguments_are_refused_before_the_model_runs(unchecked):
    inputs = random_images(0)

    def never(x):
        raise AssertionError

    for options in ({"steps": 0}, {"order": "no"}, {"precision": "half"}, {"kinds": ()}):
        with pytest.raises(InputError):
            cp.metrics.curves(never, inputs, maps_for(inputs), [BLACK], **options)
    with pytest.raises(InputError):
        cp.metrics.curves(never, inputs, {"bad": inputs}, [BLACK])


def test_a_score_that_becomes_nan_stays_nan_in_its_own_curve_only():
    inputs = torch.tensor([0.9, 0.2]).double().view(2, 1, 1, 1).expand(2, 1, 6, 6)
    fragile = lambda x: torch.where((brightness(x) - 0.35).abs() < 0.1, torch.nan, brightness(x))  # noqa: E731
    table = cp.metrics.curves(fragile, inputs, maps_for(inputs), [cp.baselines.Zero()], steps=6)
    for kind in table.kinds:
        assert table.areas(kind).isnan().flatten().tolist() == [False, True]
    assert table.scores[..., 1, :].isfinite().any()


def test_the_engine_is_a_function_of_the_package():
    assert callable(engine)
    assert set(cp.metrics.__all__) >= {"curves", "deletion_curve", "insertion_curve", "rank_stability"}


@pytest.mark.slow
def test_the_example_in_the_docs_runs():
    page = (Path(__file__).parents[2] / "docs" / "curves.md").read_text()
    names = {}
    exec(re.search(r"```python\n(.*?)```", page, re.DOTALL).group(1), names)
    assert names["table"].areas("insertion").shape == (2, 2, 2)
    assert names["curve"].scores.shape == (2, 8)
    assert len(names["table"].to_records()) == 2 * 2 * 2 * 2
