"""Masks found by optimisation: closed forms, known patches, and what is refused.

The authors' packages do not install beside this one, so there is no golden comparison: masks, losses and steps are held against direct
computations instead.
"""

import math

import pytest
import torch

import counterpoint as cp
from counterpoint.errors import Cancelled, InputError, ShapeError
from counterpoint.methods.masks.blending import Blend, Look
from counterpoint.methods.masks.extremal import area_misfit
from counterpoint.methods.masks.grids import (
    Enlargement,
    bilateral_total_variation,
    edge_weights,
    total_variation,
    value_and_slope,
)
from counterpoint.methods.masks.line_search import backtracked
from counterpoint.methods.masks.smooth_maximum import SmoothMaximum
from counterpoint.methods.masks.starting import start_map
from counterpoint.methods.measured import Judge
from counterpoint.progress import listening
from networks import SmallNet, random_images

ROWS, COLUMNS = slice(8, 16), slice(16, 24)
PATCH = 64

M = cp.methods
SHORT = (
    M.MeaningfulPerturbation(steps=3, cells=4, jitter=1),
    M.ExtremalPerturbation(steps=3, step=2, sigma=2.0, areas=(0.1, 0.3)),
    M.ExtremalPerturbation(steps=3, step=2, sigma=2.0, areas=(0.2,), variant="dual"),
    M.IGOS(steps=2, points=2, cells=4, area=0.01),
    M.IGOSPP(steps=2, points=2, cells=4, area=0.01),
    M.FGVis(steps=3),
    M.FGVis(steps=3, game="preserve", rule="directional"),
)
short = pytest.mark.parametrize("method", SHORT, ids=lambda m: type(m).__name__)


def patch_score(points):
    """Reads one patch and nothing else."""
    return 20 * torch.relu(points[:, :, ROWS, COLUMNS] + 0.1).mean((1, 2, 3))


def patch_question(baseline=None, **options):
    generator = torch.Generator().manual_seed(1)
    images = 0.5 + 0.4 * torch.rand(2, 3, 32, 32, generator=generator)
    return cp.compare(patch_score, images, baseline=baseline or cp.baselines.Black(), **options)


def small_question(batch=2, baseline=None, kind="plain"):
    return cp.compare(
        cp.logit(SmallNet(3, kind), 0),
        random_images(5, batch, size=8),
        baseline=baseline or cp.baselines.Black(),
    )


def share_in_patch(attribution):
    """Of the highest pixels, as many as the patch has, the share that lies in it."""
    heat = attribution.heatmap()
    inside = torch.zeros(heat.shape[1:], dtype=torch.bool)
    inside[ROWS, COLUMNS] = True
    top = heat.flatten(1).topk(PATCH, dim=1).indices
    return inside.flatten()[top].double().mean(1)


# Discs and enlarged cells cannot fill the corners of a square: those miss a few pixels of it.
@pytest.mark.parametrize(
    ("method", "least"),
    [
        (M.MeaningfulPerturbation(cells=16, jitter=0, steps=60, area=0.4), 0.9),
        (M.MeaningfulPerturbation(cells=16, jitter=0, steps=60, area=0.4, game="preserve"), 0.9),
        (
            M.ExtremalPerturbation(step=4, sigma=6.0, areas=(0.0625,), steps=200, smooth=0.0, mirrored=False),
            0.85,
        ),
        (
            M.ExtremalPerturbation(
                step=4, sigma=6.0, areas=(0.0625,), steps=200, smooth=0.0, mirrored=False, variant="delete"
            ),
            0.85,
        ),
        (M.IGOS(cells=16, points=5, steps=10, area=10.0), 0.9),
        (M.IGOSPP(cells=16, points=5, steps=10, area=30.0), 0.8),
        (M.FGVis(steps=30), 1.0),
        (M.FGVis(steps=120, game="preserve"), 1.0),
    ],
    ids=lambda value: type(value).__name__ if hasattr(value, "claim") else str(value),
)
def test_the_one_decisive_patch_is_found(method, least):
    assert (share_in_patch(patch_question().explain(method)) >= least).all()


def test_masks_keep_to_their_areas_and_the_constraint_does_it():
    question, settings = patch_question(), {"step": 4, "sigma": 4.0, "areas": (0.1, 0.3), "mirrored": False}
    shares = question.explain(M.ExtremalPerturbation(steps=400, **settings)).extras["shares"]
    torch.testing.assert_close(shares, torch.tensor([[0.1, 0.3]]).expand(2, -1), rtol=0, atol=0.06)
    free = question.explain(M.ExtremalPerturbation(steps=20, constraint=0.0, **settings)).extras["shares"]
    assert (free > 0.9).all()


def direct_mask(cells, size, step, sigma, radius):
    """The smooth maximum, pixel by pixel."""
    pixels = []
    for u in range(size[0]):
        for v in range(size[1]):
            painted = []
            for i in range(u // step - radius, u // step + radius + 1):
                for j in range(v // step - radius, v // step + radius + 1):
                    inside = 0 <= i < cells.shape[1] and 0 <= j < cells.shape[2]
                    distance = math.hypot(u - step * i, v - step * j) / sigma
                    weight = math.exp(-2 * max(0.0, distance - 0.5) ** 2)
                    painted.append((cells[:, i, j] if inside else 0 * cells[:, 0, 0]) * weight)
            stack = torch.stack(painted)
            pixels.append((stack * torch.softmax(20 * stack, 0)).sum(0))
    return torch.stack(pixels, 1).view(-1, *size)


def test_the_smooth_maximum_and_its_gradient_equal_a_direct_computation():
    generator = torch.Generator().manual_seed(0)
    paint = SmoothMaximum(size=(9, 7), step=3, sigma=4.0)
    assert (paint.cells, paint.radius, paint.canvas) == ((3, 3), 3, (21, 19))
    cells = torch.rand(2, 3, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    direct = direct_mask(cells, (9, 7), 3, 4.0, paint.radius)
    canvas = paint(cells.detach())
    torch.testing.assert_close(paint.image(canvas), direct.detach())
    upstream = torch.randn(direct.shape, generator=generator, dtype=torch.float64)
    (slope,) = torch.autograd.grad((direct * upstream).sum(), cells)
    torch.testing.assert_close(paint.pull(cells.detach(), canvas, paint.on_canvas(upstream)), slope)


def test_published_smooth_masks_have_32_by_32_cells():
    assert SmoothMaximum(size=(224, 224), step=7, sigma=21.0).cells == (32, 32)
    assert SmoothMaximum(size=(224, 224), step=7, sigma=21.0).radius == 4


def test_the_area_misfit_by_hand():
    masks = torch.tensor([[[0.2, 0.9], [0.5, 0.7]]], dtype=torch.float64)
    target = torch.tensor([[0.0, 0.0, 0.0, 1.0]], dtype=torch.float64)
    misfit, slope = area_misfit(masks, target)
    assert misfit.item() == pytest.approx((0.2**2 + 0.5**2 + 0.7**2 + 0.1**2) / 4)
    torch.testing.assert_close(slope, torch.tensor([[[0.1, -0.05], [0.25, 0.35]]], dtype=torch.float64))


def test_equal_pixels_are_treated_alike_by_the_area():
    target = torch.tensor([[0.0, 0.0, 0.0, 1.0]])
    _, slope = area_misfit(torch.ones(1, 2, 2), target)
    torch.testing.assert_close(slope, torch.full((1, 2, 2), 2 * 0.75 / 4))


def test_total_variation_by_hand():
    mask = torch.tensor([[[0.0, 1.0], [0.5, 0.5]]], dtype=torch.float64)
    # Down 0.5 and 0.5, across 1 and 0.
    assert total_variation(mask, power=1).item() == pytest.approx(2.0)
    assert total_variation(mask, power=3).item() == pytest.approx(1 + 2 * 0.125)
    image = torch.tensor([[[[0.0, 0.0], [0.2, 0.0]]]], dtype=torch.float64)
    weights = edge_weights(image, sigma=0.04)
    edge = math.exp(-1)  # 0.2 ** 2 / 0.04
    expected = 0.25 * (edge + 1) + 1.0 * 1 + 0.0 * edge
    assert bilateral_total_variation(mask, weights, power=2).item() == pytest.approx(expected)
    _, slope = value_and_slope(lambda m: total_variation(m, power=2), mask)
    # Of the top left pixel: 2 (0 - 0.5) + 2 (0 - 1).
    assert slope[0, 0, 0].item() == pytest.approx(-3.0)


def test_enlargement_is_bilinear_between_the_outermost_pixels_and_pull_is_its_transpose():
    grid = torch.rand(2, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    enlarge = Enlargement.to((11, 7), 4, grid)
    whole = torch.nn.functional.interpolate(grid[:, None], (11, 7), mode="bilinear", align_corners=True)[:, 0]
    torch.testing.assert_close(enlarge(grid), whole)
    pixels = torch.rand(2, 11, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    torch.testing.assert_close((enlarge(grid) * pixels).sum(), (grid * enlarge.pull(pixels)).sum())
    assert Enlargement.to((3, 5), 28, grid).cells == (3, 5)
    torch.testing.assert_close(
        Enlargement.to((3, 5), 1, grid)(torch.ones(1, 1, 1).double()), torch.ones(1, 3, 5).double()
    )


def test_the_line_search_takes_the_first_length_that_lowers_the_loss_enough():
    # Loss (m - 1/2)^2 / 2 from m = 1: gradient 1/2, and any length below about 2 (1 - enough) is good.
    masks = torch.tensor([[1.0], [1.0], [1.0]], dtype=torch.float64)
    slopes = torch.tensor([[0.5], [0.5], [0.0]], dtype=torch.float64)
    tried = []

    def losses(tried_masks, image):
        tried.append(image.tolist())
        rough = (tried_masks[:, 0] - 0.5).square() / 2
        return rough.where(image != 1, 9.0)  # the second image never gets better

    here = torch.tensor([0.125, 0.125, 0.125], dtype=torch.float64)
    found, lengths = backtracked(losses, masks, slopes, here, first=8.0, decay=0.2, least=0.05)
    # 8 leads to 0 (cut): as bad as before; 1.6 leads to 0.2.
    torch.testing.assert_close(lengths, torch.tensor([1.6, 0.0, 0.0], dtype=torch.float64))
    torch.testing.assert_close(found, torch.tensor([[0.2], [1.0], [1.0]], dtype=torch.float64))
    assert tried == [[0, 1], [0, 1], [1], [1]]


@pytest.mark.parametrize("fill", ["baseline", "published"])
@pytest.mark.parametrize(
    "look", [Look(), Look(down=1, right=-2), Look(flipped=True)], ids=["plain", "moved", "flipped"]
)
def test_the_gradient_of_a_blend_equals_finite_differences(fill, look):
    question = small_question(batch=2, baseline=cp.baselines.Mean(), kind="smooth")
    pyramid = lambda images: torch.stack([0 * images, 0.3 * images, images])  # noqa: E731
    blend = Blend.of(question, fill, pyramid, "darker")
    shown = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    shown = 0.1 + 0.3 * shown  # away from the bend between two levels
    image = torch.tensor([1, 0])
    scores, slope = blend.scores_and_gradients(shown, image, look=look)
    torch.testing.assert_close(blend.scores(shown, image, look=look), scores)
    for place in ((0, 0, 3, 5), (1, 0, 7, 0)):
        step = torch.zeros_like(shown)
        step[place] = 1e-5
        ahead, behind = (blend.scores(shown + s * step, image, look=look) for s in (1, -1))
        assert (ahead - behind)[place[0]].item() / 2e-5 == pytest.approx(
            slope[place].item(), rel=1e-5, abs=1e-9
        )


def test_a_mask_of_ones_shows_the_image_and_of_zeros_the_fill_in():
    question = small_question(baseline=cp.baselines.Mean())
    blend = Blend.of(question, "baseline", torch.zeros_like, "")
    for shown, expected in ((1.0, question.score), (0.0, question.baseline_score)):
        full = torch.full((2, 1, 8, 8), shown, dtype=torch.float64)
        torch.testing.assert_close(blend.scores(full, torch.arange(2)), expected)


def test_a_moved_look_shows_the_image_moved_with_its_edges_repeated():
    question = small_question(batch=1)
    blend = Blend.of(question, "baseline", torch.zeros_like, "")
    full = torch.ones(1, 1, 8, 8, dtype=torch.float64)
    image = question.inputs
    down, left = (
        torch.cat([image[:, :, :1], image[:, :, :-1]], 2),
        torch.cat([image[..., 1:], image[..., -1:]], 3),
    )
    for look, moved in ((Look(down=1), down), (Look(right=-1), left), (Look(flipped=True), image.flip(3))):
        torch.testing.assert_close(blend.scores(full, torch.arange(1), look=look), question.scores(moved))


def test_the_first_step_of_igos_pp_follows_the_gradient_of_the_published_loss():
    """Every term written out, at two masks that are not 1, with one line search that takes its first length."""
    question = small_question(batch=1, kind="smooth")
    start = M.CentredBlob()
    length, method = 1e-3, M.IGOSPP(steps=1, points=3, cells=4, noise=0.0, first=1e-3, start=M.CentredBlob())
    image, black = question.inputs, question.baseline_inputs
    enlarge = Enlargement.to((8, 8), 4, image)
    begin = (1 - enlarge.shrink(start_map(question, start, None))).sqrt()
    masks = [begin.clone().requires_grad_() for _ in range(2)]
    score = lambda points: question.bound(points, torch.zeros(len(points), dtype=torch.int64))  # noqa: E731
    deleted, inserted = (enlarge(mask).unsqueeze(1) for mask in masks)
    data = 0
    for k in (1 / 3, 2 / 3, 1):
        for mask in (deleted, deleted * inserted):
            data = data + score(black + k * mask * (image - black)) / 3
        for mask in (inserted, deleted * inserted):
            data = data - score(image + k * mask * (black - image)) / 3
    whole = masks[0] * masks[1]
    weights = edge_weights(image, sigma=5e-4)
    rough = total_variation(whole, power=2) / 16
    edges = bilateral_total_variation(enlarge(whole), weights, power=2) / 64
    loss = data / 2 + (1 - whole).mean() + 20 * (rough + edges) / 2
    slopes = torch.autograd.grad(loss.sum(), masks)
    there = [(mask - length * slope).clamp(0, 1) for mask, slope in zip(masks, slopes, strict=True)]
    found = question.explain(method)
    torch.testing.assert_close(found.extras["loss"][0, 0], loss[0].detach().to(found.extras["loss"]))
    assert found.extras["lengths"].tolist() == [[length]]
    torch.testing.assert_close(found.heatmap(), (1 - enlarge(there[0]) * enlarge(there[1])).detach())


def test_the_first_step_of_fgvis_is_the_gradient_over_its_largest_value():
    question = small_question()
    found = question.explain(M.FGVis(steps=1, noise=0.0, rate=0.1))
    # At the image itself nothing is clipped.
    way = question.gradients(question.inputs) * (question.inputs - question.baseline_inputs)
    expected = (0.1 * way / way.abs().flatten(1).amax(1).view(-1, 1, 1, 1)).clamp(min=0)
    torch.testing.assert_close(found.values, expected, rtol=0, atol=1e-9)


def test_fgvis_stops_where_it_is_told_to_and_counts_no_gradients_after():
    question = patch_question()
    free, stopped = (question.explain(M.FGVis(steps=20, stop=stop)) for stop in (None, 8.0))
    assert free.extras["loss"][:, -1].max() < 2.2  # 2 with nothing of the patch left
    assert (stopped.extras["steps_taken"] < 20).all()
    assert torch.equal(stopped.gradient_evaluations, stopped.extras["steps_taken"])
    last = [row[~row.isnan()][-1] for row in stopped.extras["loss"]]
    assert all(4.0 < score <= 8.0 for score in last)


@pytest.mark.parametrize("rule", ["none", "fgvis"])
def test_clipping_keeps_fgvis_from_evidence_that_is_not_in_the_image(rule):
    """Once the two rows that matter get darker, a silent unit wakes up that counts against the score, and more so without the others."""

    def rival(points):
        top, rest = points[:, :, :2].mean((1, 2, 3)), points[:, :, 2:].mean((1, 2, 3))
        return torch.relu(top) - 5 * torch.relu(0.9 - top - 0.2 * rest)

    images = torch.full((1, 3, 8, 8), 0.95, dtype=torch.float64)
    question = cp.compare(rival, images, baseline=cp.baselines.Black())
    heat = question.explain(M.FGVis(steps=8, rule=rule, noise=0.0)).heatmap()[0]
    assert heat[:2].min() > 0.5
    assert (heat[2:].max() > 0.05) == (rule == "none")


@short
def test_one_seed_is_one_map_and_another_seed_another(method):
    first, again = (small_question().explain(method).values for _ in range(2))
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    if hasattr(method, "seed"):
        other = small_question().explain(type(method)(**{**vars(method), "seed": 7})).values
        assert not torch.equal(first, other)


@short
def test_an_image_is_searched_the_same_alone_and_in_company(method):
    method = type(method)(**{**vars(method), "start": M.EdgeMap(), "keep_best": 2})
    together = small_question(batch=3)
    found = together.explain(method)
    alone = cp.compare(cp.logit(SmallNet(3), 0), together.inputs[1:2], baseline=cp.baselines.Black())
    single = alone.explain(method)
    torch.testing.assert_close(single.values[0], found.values[1], rtol=1e-9, atol=1e-12)
    assert single.gradient_evaluations[0] == found.gradient_evaluations[1]
    assert single.forward_evaluations[0] == found.forward_evaluations[1]


@short
def test_small_micro_batches_change_nothing(method):
    net = SmallNet(3)
    one, all_at_once = (
        cp.compare(
            cp.logit(net, 0), random_images(5, 2, size=8), baseline=cp.baselines.Black(), micro_batch=rows
        ).explain(method)
        for rows in (1, 64)
    )
    torch.testing.assert_close(one.values, all_at_once.values, rtol=1e-9, atol=1e-12)


def test_gradients_are_counted_as_documented():
    question = small_question()
    counts = {
        M.MeaningfulPerturbation(steps=3): 3,
        M.ExtremalPerturbation(steps=3, step=4, areas=(0.1, 0.2)): 6,
        M.ExtremalPerturbation(steps=3, step=4, areas=(0.1, 0.2), variant="dual"): 12,
        M.IGOS(steps=2, points=5): 10,
        M.IGOSPP(steps=2, points=5): 40,
        M.FGVis(steps=3): 3,
    }
    for method, expected in counts.items():
        assert question.explain(method).gradient_evaluations.tolist() == [expected] * 2, method


@short
def test_the_best_measured_map_is_kept_and_is_never_worse_than_the_start(method):
    question = small_question()
    method = type(method)(**{**vars(method), "start": M.IntegratedGradients(), "keep_best": 2})
    found = question.explain(method)
    measured = found.extras["measured"]
    assert measured.shape == (2, 3)  # the start and two on the way
    area = Judge.of(question).curves(found.heatmap()).area
    torch.testing.assert_close(area, measured.amax(1))
    assert (area >= measured[:, 0]).all()


def test_a_search_starts_at_the_map_it_is_given():
    question = small_question()
    start = start_map(question, M.EdgeMap(), None)
    assert start.amin() >= 0
    assert start.amax() == 1
    slow = {"start": M.EdgeMap(), "steps": 1, "rate": 1e-12}
    torch.testing.assert_close(
        question.explain(M.FGVis(**slow)).heatmap() / 2, start, rtol=0, atol=1e-9
    )  # two channels
    found = question.explain(M.MeaningfulPerturbation(cells=8, **slow)).heatmap()
    torch.testing.assert_close(found, start, rtol=0, atol=1e-9)


def test_a_method_of_layers_starts_at_the_last_layer_with_maps_and_is_counted():
    question = cp.compare(
        cp.logit(SmallNet(3), 2), random_images(5, 2, size=8), baseline=cp.baselines.Black()
    )
    heat = question.at("last").explain(M.GradCAM()).heatmap().clamp(min=0)
    high = torch.quantile(heat.flatten(1), 0.99, dim=1).view(-1, 1, 1)
    assert high.min() > 0
    torch.testing.assert_close(start_map(question, M.GradCAM(), None), (heat / high).clamp(max=1))
    torch.testing.assert_close(
        start_map(question, M.GradCAM(), "last"), start_map(question, M.GradCAM(), None)
    )
    method = M.FGVis(steps=3, start=M.GradCAM(), rule="none")
    assert question.explain(method).gradient_evaluations.tolist() == [4, 4]
    with pytest.raises(InputError, match="needs a score that knows its module"):
        patch_question().explain(method)
    with pytest.raises(InputError, match="start must be a method"):
        question.explain(M.FGVis(steps=3, start="grad_cam"))


@short
def test_a_score_without_a_slope_gives_zeros_and_says_so(method):
    flat = cp.compare(
        lambda points: 0 * torch.relu(points).flatten(1).sum(1) + 1,
        random_images(0, 2, 3, 8),
        baseline=cp.baselines.Black(),
    )
    found = flat.explain(method)
    assert (found.values == 0).all()
    assert (found.extras["largest_gradient"] == 0).all()


@short
def test_the_model_is_untouched_after_cancelling_in_the_middle(method):
    net = SmallNet(3)
    net.train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    question = cp.compare(cp.logit(net, 0), random_images(5, size=8), baseline=cp.baselines.Black())
    calls = []

    def cancel(done, total, what):
        calls.append(done)
        if done >= 2:
            raise Cancelled

    with listening(cancel), pytest.raises(Cancelled):
        question.explain(type(method)(**{**vars(method), "steps": 9}))
    assert 0 < max(calls) < 9
    assert net.training
    assert all(p.grad is None and p.requires_grad for p in net.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in net.modules())
    for name, value in net.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


@short
def test_it_works_under_the_callers_inference_mode(method):
    score, images = cp.logit(SmallNet(3), 0), random_images(5, size=8)
    expected = cp.compare(score, images, baseline=cp.baselines.Mean()).explain(method).values
    with torch.inference_mode():
        found = cp.compare(score, images, baseline=cp.baselines.Mean()).explain(method).values
    torch.testing.assert_close(found, expected)


@short
def test_only_images_are_searched(method, unchecked):
    rows = torch.rand(2, 5, generator=torch.Generator().manual_seed(0))
    question = cp.compare(lambda x: torch.relu(x).sum(1), rows, baseline=cp.baselines.Zero())
    with pytest.raises(ShapeError, match="inputs must be images"):
        question.explain(method)


@short
def test_baselines_without_one_image_need_the_published_fill_in(method):
    published = type(method)(**{**vars(method), "fill": "published"})
    for baseline, reason in (
        (cp.baselines.ROAD(), "only fills removed pixels"),
        (cp.baselines.Uniform(draws=3), "has 3 draws"),
    ):
        question = small_question(baseline=baseline)
        with pytest.raises(InputError, match=reason):
            question.explain(method)
        assert question.explain(published).values.isfinite().all()


@short
def test_the_published_fill_in_is_named_and_the_target_is_its_own(method):
    question = small_question(baseline=cp.baselines.White())
    own = question.explain(method)
    assert own.reference == "comparison"
    published = question.explain(type(method)(**{**vars(method), "fill": "published"}))
    assert "black" in published.reference or "blurred by" in published.reference
    assert own.own_target is None
    assert (published.own_target - question.score + question.baseline_score).abs().min() > 1e-3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: M.MeaningfulPerturbation(game="win"), "game must be 'delete' or 'preserve'"),
        (lambda: M.MeaningfulPerturbation(steps=0), "steps must be at least 1"),
        (lambda: M.MeaningfulPerturbation(power=0.5), "power must be at least 1"),
        (lambda: M.ExtremalPerturbation(areas=()), "areas must be shares"),
        (lambda: M.ExtremalPerturbation(areas=(0.1, 1.0)), "areas must be shares"),
        (lambda: M.ExtremalPerturbation(variant="both"), "variant must be"),
        (lambda: M.IGOSPP(fill="pyramid"), "fill must be 'baseline' or 'published'"),
        (lambda: M.IGOS(points=0), "points must be at least 1"),
        (lambda: M.IGOSPP(steps=5, keep_best=6), "keep_best must be at least 0 and at most 5"),
        (lambda: M.FGVis(rule="hard"), "rule must be one of"),
        (lambda: M.FGVis(game="preserve", stop=0.0), "stop is for game 'delete'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_fgvis_needs_activations_to_clip_at():
    question = cp.compare(lambda x: x.flatten(1).sum(1), random_images(0), baseline=cp.baselines.Black())
    with pytest.raises(InputError, match="no activations"):
        question.explain(M.FGVis(steps=2))
    assert question.explain(M.FGVis(steps=2, rule="none")).values.amax() > 0
