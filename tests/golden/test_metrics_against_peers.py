"""Against Quantus and captum.metrics: equal where definitions agree, and how they differ, by how much, where they do not."""

import warnings
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import nn

import counterpoint as cp
from closeness import assert_equal_within
from counterpoint import metrics
from networks import SmallNet, random_images

captum = pytest.importorskip("captum.metrics")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    quantus = pytest.importorskip("quantus")
pytestmark = pytest.mark.golden

BLACK, TARGET, SIZE = cp.baselines.Black(), 1, 8
# Quantus runs the model on float32: so far may its float64 numbers be from ours.
FLOAT32 = 1e-6


@contextmanager
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def theirs(metric, *, maps, images=None, masks=None, net=None, explain=None, softmax=False, **settings):
    """One of Quantus' metrics, nothing normalised and no absolute values unless asked for; (batch,)."""
    options = {"abs": False, "normalise": False, "return_aggregate": False, "disable_warnings": True}
    given = maps if images is None else images
    with quiet():
        found = getattr(quantus, metric)(**(options | settings))(
            model=net,
            x_batch=(given if images is not None else maps[:, None]).numpy().copy(),
            y_batch=np.full(len(maps), TARGET),
            a_batch=maps[:, None].numpy().copy() if maps.ndim == 3 else maps.numpy().copy(),
            s_batch=None if masks is None else masks[:, None].numpy().copy(),
            explain_func=explain,
            channel_first=True,
            softmax=softmax,
        )
    return found if isinstance(found, dict) else torch.as_tensor(np.array(found), dtype=torch.float64)


def some_maps(seed=0, batch=3, size=SIZE):
    return torch.randn(batch, size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def some_masks(seed=1, batch=3, size=SIZE):
    return torch.rand(batch, size, size, generator=torch.Generator().manual_seed(seed)) < 0.3


def question(*, kind="smooth", channels=1, batch=2):
    """A network in float32, as Quantus runs it, and images whose smallest value is 0: what Quantus calls black."""
    net = SmallNet(5, kind, channels=channels).float()
    images = random_images(6, batch, channels, SIZE).float()
    images[:, :, 0, 0] = 0.0
    return net, images


# What is read off a map alone


def test_sparseness_is_equal_but_for_their_epsilon():
    maps = some_maps().abs()
    assert_equal_within(metrics.sparseness(maps), theirs("Sparseness", maps=maps), 1e-6)
    # They add 1e-7 to each value, which decides where a map is that small, as attributions in units of a probability are.
    small = 1e-7 * maps
    ratio = theirs("Sparseness", maps=small) / metrics.sparseness(small)
    assert ratio.max() < 0.5


def test_their_default_scale_is_that_of_the_whole_batch():
    maps = some_maps() * torch.tensor([1.0, 1e-3, 1e-6], dtype=torch.float64)[:, None, None]
    defaults = {"abs": True, "normalise": True}
    together = theirs("EffectiveComplexity", maps=maps, **defaults)
    alone = torch.cat([theirs("EffectiveComplexity", maps=each[None], **defaults) for each in maps])
    # A map counts fewer pixels in the company of one with larger values: 0 of 64 here.
    assert together.tolist()[2] == 0
    assert alone.tolist()[2] == SIZE**2
    ours = metrics.effective_complexity(maps, threshold=1e-5)
    torch.testing.assert_close(ours.double(), alone)


def test_complexity_is_equal_but_for_their_epsilon():
    maps = some_maps().abs()
    assert_equal_within(metrics.complexity(maps), theirs("Complexity", maps=maps), 1e-10)


def test_effective_complexity_is_equal_where_the_threshold_means_the_same():
    maps = some_maps(batch=1).abs()
    maps = maps / maps.max()
    for threshold in (1e-5, 0.1, 0.5):
        found = theirs("EffectiveComplexity", maps=maps, eps=threshold)
        torch.testing.assert_close(metrics.effective_complexity(maps, threshold=threshold).double(), found)


# Masks


@pytest.mark.parametrize(
    ("name", "ours", "settings"),
    [
        ("PointingGame", metrics.pointing_game, {}),
        ("RelevanceRankAccuracy", metrics.rank_in_mask, {}),
        ("AUC", metrics.auc_in_mask, {}),
        ("TopKIntersection", lambda maps, masks: metrics.top_k_intersection(maps, masks, k=9), {"k": 9}),
    ],
)
def test_ranks_in_masks_are_equal_without_ties(name, ours, settings):
    maps, masks = some_maps(batch=12), some_masks(batch=12)
    assert_equal_within(ours(maps, masks), theirs(name, maps=maps, masks=masks, **settings), 1e-14)


def test_the_area_in_a_mask_is_equal_with_ties_too():
    maps, masks = some_maps().round(), some_masks()
    assert_equal_within(metrics.auc_in_mask(maps, masks), theirs("AUC", maps=maps, masks=masks), 1e-14)


def test_the_mass_in_a_mask_is_equal_for_maps_without_negative_values():
    maps, masks = some_maps().relu(), some_masks()
    expected = theirs("RelevanceMassAccuracy", maps=maps, masks=masks)
    assert_equal_within(metrics.mass_in_mask(maps, masks), expected, 1e-14)
    signed = some_maps()
    absolute = theirs("RelevanceMassAccuracy", maps=signed, masks=masks, abs=True)
    assert_equal_within(metrics.mass_in_mask(signed, masks, part="absolute"), absolute, 1e-14)
    # Without absolute values, their default, what should be a share of the whole is none.
    shares = theirs("RelevanceMassAccuracy", maps=some_maps(batch=12), masks=some_masks(batch=12))
    assert ((shares < 0) | (shares > 1)).sum() == 5
    assert shares.min() < -5


def test_attribution_localisation_and_focus_are_the_mass_in_a_mask():
    maps, masks = some_maps(), some_masks()
    found = theirs("AttributionLocalisation", maps=maps, masks=masks, abs=True)
    assert_equal_within(metrics.mass_in_mask(maps, masks, part="absolute"), found, 1e-9)  # an epsilon of 1e-9
    with quiet():
        focus = quantus.Focus(normalise=False, disable_warnings=True, return_aggregate=False)(
            model=nn.Identity(),
            x_batch=maps[:, None].numpy(),
            y_batch=np.zeros(3, dtype=int),
            a_batch=maps[:, None].numpy().copy(),
            custom_batch=[(1, 0, 0, 1)] * 3,
            channel_first=True,
        )
    quadrants = torch.eye(2, dtype=torch.bool).repeat_interleave(SIZE // 2, 0).repeat_interleave(SIZE // 2, 1)
    ours = metrics.mass_in_mask(maps, quadrants.expand(3, -1, -1))
    assert_equal_within(ours, torch.tensor(np.array(focus)), 1e-9)


def test_with_ties_theirs_goes_by_memory_or_counts_any_hit():
    # All equal but for one pixel: a map that is constant throughout they refuse.
    flat = torch.ones(1, SIZE, SIZE, dtype=torch.float64)
    flat[:, 4, 4] = 0.0
    top = torch.zeros(1, SIZE, SIZE, dtype=torch.bool)
    top[:, :2] = True
    for name, settings in (("RelevanceRankAccuracy", {}), ("TopKIntersection", {"k": 16})):
        above, below = (
            theirs(name, maps=flat, masks=masks, **settings).item() for masks in (top, top.flip(1))
        )
        assert abs(above - below) > 0.1
    for masks in (top, top.flip(1)):
        assert theirs("PointingGame", maps=flat, masks=masks).item() == 1.0
        for ours in (metrics.rank_in_mask, metrics.pointing_game):
            assert ours(flat, masks).item() == pytest.approx(16 / 63)


def test_an_empty_mask_is_a_hit_in_their_pointing_game():
    masks = some_masks()
    masks[0] = False
    assert theirs("PointingGame", maps=some_maps(), masks=masks)[0].item() == 1.0
    assert metrics.pointing_game(some_maps(), masks).isnan().tolist() == [True, False, False]


# Removal


def test_faithfulness_correlation_is_equal_on_equal_sets(monkeypatch):
    net, images = question()
    maps = some_maps(batch=2).float()
    sets = metrics.RandomPixels(20, samples=30, seed=2)
    chosen = iter([each.flatten().nonzero()[:, 0].numpy() for each in sets(SIZE, SIZE) for _ in range(2)])
    monkeypatch.setattr(np.random, "choice", lambda *_, **__: next(chosen))
    found = theirs("FaithfulnessCorrelation", maps=maps, images=images, net=net, nr_runs=30, subset_size=20)
    ours = metrics.faithfulness_correlation(
        cp.logit(net, TARGET), images, maps, baseline=BLACK, count=20, samples=30, seed=2, fold=False
    )
    assert_equal_within(ours.double(), found, FLOAT32)


def test_their_black_is_the_smallest_value_of_the_image(monkeypatch):
    net, images = question()
    images = 0.4 + 0.6 * images
    maps = some_maps(batch=2).float()
    sets = metrics.RandomPixels(20, samples=30, seed=2)
    chosen = iter([each.flatten().nonzero()[:, 0].numpy() for each in sets(SIZE, SIZE) for _ in range(2)])
    monkeypatch.setattr(np.random, "choice", lambda *_, **__: next(chosen))
    found = theirs("FaithfulnessCorrelation", maps=maps, images=images, net=net, nr_runs=30, subset_size=20)
    darkest, black = (
        metrics.removals(cp.logit(net, TARGET), images, baseline=baseline, sets=sets).pearson(maps).double()
        for baseline in (cp.baselines.Constant(0.4), BLACK)
    )
    assert_equal_within(darkest, found, 10 * FLOAT32)  # drops of a darker part of the image are smaller
    assert (black - found).abs().max() > 0.05


def test_their_faithfulness_correlation_takes_the_channels_of_a_pixel_apart(monkeypatch):
    net, images = question(channels=2)
    maps = some_maps(batch=2).float()
    numbers = 2 * SIZE**2
    drawn = []

    def choice(count, size, replace):
        assert (count, replace) == (numbers, False)
        drawn.append(size)
        return np.arange(size)

    monkeypatch.setattr(np.random, "choice", choice)
    theirs("FaithfulnessCorrelation", maps=maps, images=images, net=net, nr_runs=3, subset_size=20)
    assert set(drawn) == {20}  # of 128 numbers, the map repeated for each channel


def test_their_sensitivity_n_is_a_correlation_over_images_along_one_deletion_path():
    net, images = question(batch=6)
    maps = some_maps(batch=6).float()
    found = theirs("SensitivityN", maps=maps, images=images, net=net, features_in_step=4)
    assert found.shape == (12,)  # one for each of 12 steps, none for an image
    # Put together from ours: at step k the pixels of ranks 4 k to 4 k + 3 are summed, but all up to 4 k + 3 are removed.
    order = maps.flatten(1).argsort(dim=1, descending=True)
    for k in range(12):
        sums = maps.flatten(1).gather(1, order[:, 4 * k : 4 * k + 4]).sum(1)
        kept = torch.ones(6, SIZE**2).scatter(1, order[:, : 4 * k + 4], 0.0).view(6, 1, SIZE, SIZE)
        with torch.no_grad():
            drops = (net(images) - net(images * kept))[:, TARGET]
        assert torch.corrcoef(torch.stack([sums, drops]))[0, 1].item() == pytest.approx(
            found[k].item(), abs=1e-4
        )
    ours = metrics.sensitivity_n(cp.logit(net, TARGET), images, maps, baseline=BLACK, counts=(4, 8))
    assert ours.correlation.shape == (6, 2)


def patches_in_raster_order(side):
    """Theirs removes one patch after another and puts none back."""
    removed = torch.zeros((SIZE // side) ** 2, SIZE, SIZE, dtype=torch.bool)
    places = [(i, j) for i in range(0, SIZE, side) for j in range(0, SIZE, side)]
    for k, (i, j) in enumerate(places):
        removed[k:, i : i + side, j : j + side] = True
    return removed


def test_infidelity_is_equal_on_equal_sets_of_removed_patches():
    net, images = question()
    rates = some_maps(batch=2).float()
    found = theirs(
        "Infidelity", maps=rates, images=images, net=net, perturb_patch_sizes=[4], n_perturb_samples=3
    )
    # Theirs multiplies the map with what is removed, x - 0: it takes rates.
    ours = metrics.infidelity(
        cp.logit(net, TARGET),
        images,
        rates * images[:, 0],
        baseline=BLACK,
        sets=metrics.GivenSets(patches_in_raster_order(4)),
    )
    assert_equal_within(ours.double(), found, FLOAT32)
    # Nothing in it is random: further samples are the same patches again.
    once = theirs(
        "Infidelity", maps=rates, images=images, net=net, perturb_patch_sizes=[4], n_perturb_samples=1
    )
    assert_equal_within(once, found, 1e-6)


@pytest.mark.parametrize("normalize", [False, True])
def test_infidelity_under_noise_is_captums(normalize):
    net, images = SmallNet(5, "smooth"), random_images(6)
    rates = torch.randn(images.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    generator = torch.Generator().manual_seed(7)
    noise = [0.1 * torch.randn(images.shape[1:], generator=generator, dtype=torch.float64) for _ in range(20)]

    def perturb(inputs):
        drawn = torch.stack(noise * 2)
        return drawn, inputs - drawn

    found = captum.infidelity(
        net, perturb, images, rates, target=TARGET, n_perturb_samples=20, normalize=normalize
    )
    ours = metrics.noise_infidelity(
        cp.logit(net, TARGET), images, rates, scale=0.1, samples=20, seed=7, rescaled=normalize
    )
    assert_equal_within(ours, found, 1e-12)


@pytest.mark.parametrize("normalize", [False, True])
def test_infidelity_under_removal_is_captums_with_a_binary_perturbation(normalize):
    net, images = SmallNet(5, "smooth"), random_images(6)
    shares = torch.randn(images.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    baseline = cp.baselines.Mean()
    sets = metrics.RandomSquares(3, samples=20, seed=4)
    removed = sets(6, 6).double()[:, None].expand(-1, 2, -1, -1).repeat(2, 1, 1, 1)

    @captum.infidelity_perturb_func_decorator(True)
    def perturb(inputs, baselines):
        return torch.where(removed > 0, baselines, inputs)

    found = captum.infidelity(
        net,
        perturb,
        images,
        shares,
        baselines=baseline(images),
        target=TARGET,
        n_perturb_samples=20,
        normalize=normalize,
    )
    ours = metrics.infidelity(
        cp.logit(net, TARGET), images, shares.sum(1), baseline=baseline, sets=sets, rescaled=normalize
    )
    assert_equal_within(ours, found, 1e-12)


# Disturbance


def gradient(net):
    def explain(images):
        comparison = cp.compare(cp.logit(net, TARGET), images, baseline=BLACK)
        return comparison.explain(cp.methods.Gradient()).values

    return explain


def our_changes(images, samples, radius, seed):
    generator = torch.Generator().manual_seed(seed)
    draws = [torch.rand(images.shape[1:], generator=generator, dtype=torch.float64) for _ in range(samples)]
    return [radius * (2 * draw - 1) for draw in draws]


def test_max_sensitivity_is_captums():
    net, images = SmallNet(5, "smooth"), random_images(6)
    changes = torch.stack(our_changes(images, 5, 0.05, 3) * 2)

    def tuples(explain):
        """A function for captum, which hands over a tuple or a tensor, and takes images for maps unless it gets a tuple back."""
        return lambda x: (explain(x[0]),) if isinstance(x, tuple) else explain(x)

    found = captum.sensitivity_max(
        tuples(gradient(net)), images, perturb_func=lambda x, _: x + changes, n_perturb_samples=5
    )
    ours = metrics.max_sensitivity(gradient(net), images, radius=0.05, samples=5, seed=3)
    assert_equal_within(ours, found, 1e-12)
    # Of a map of zeros captum divides by 1, and calls it perfect.
    assert (captum.sensitivity_max(tuples(torch.zeros_like), images) == 0).all()
    assert metrics.max_sensitivity(torch.zeros_like, images).isnan().all()


def test_max_sensitivity_is_quantus_with_an_explanation_of_its_own_class():
    net, images = question()
    changes = iter([change.float() for change in our_changes(images, 5, 0.05, 3)])

    def explain(model, inputs, targets, **_):
        return gradient(model)(torch.as_tensor(inputs)).numpy()

    def perturb(arr, indices, **_):
        return arr + next(changes).flatten().numpy()

    found = theirs(
        "MaxSensitivity",
        maps=gradient(net)(images),
        images=images,
        net=net,
        explain=explain,
        nr_samples=5,
        perturb_func=perturb,
    )
    ours = metrics.max_sensitivity(gradient(net), images, radius=0.05, samples=5, seed=3)
    assert_equal_within(ours.double(), found, FLOAT32)


# Weights and classes


def heat(model, images):
    return gradient(model)(images).sum(1)


def their_explain(model, inputs, targets, **_):
    return heat(model, torch.as_tensor(inputs))[:, None].numpy()


def their_cascade(net, images, cascade, seed, **settings):
    return theirs(
        "MPRT",
        maps=heat(net, images),
        images=images,
        net=net,
        explain=their_explain,
        layer_order=cascade,
        seed=seed - 1,  # they add 1
        similarity_func=quantus.similarity_func.correlation_spearman,
        **settings,
    )


def test_a_layer_randomised_alone_has_their_weights_and_their_similarity():
    net, images = question()
    found = their_cascade(net, images, "independent", 11)
    # Each layer under the seed itself: theirs begins anew for each.
    for layer in ("stem", "body", "head"):
        ours = metrics.randomised_weights(net, heat, images, layers=[layer], seed=11)
        expected = torch.tensor(found[layer], dtype=torch.float64)
        assert_equal_within(ours.similarity.spearman[0], expected, 1e-12)
    assert found["original"] == pytest.approx([1.0, 1.0])


def test_a_cascade_is_equal_when_theirs_draws_new_numbers_for_each_layer(monkeypatch):
    net, images = question()
    plain, count = torch.manual_seed, iter(range(100))
    monkeypatch.setattr(torch, "manual_seed", lambda seed: plain(seed + next(count)))
    with torch.random.fork_rng():
        found = their_cascade(net, images, "top_down", 11)
    ours = metrics.randomised_weights(net, heat, images, seed=11)
    assert list(found) == ["original", *ours.layers]
    for k, layer in enumerate(ours.layers):
        expected = torch.tensor(found[layer], dtype=torch.float64)
        assert_equal_within(ours.similarity.spearman[k], expected, 1e-12)


def test_their_default_takes_absolute_values():
    net, images = question()
    with torch.random.fork_rng():
        found = their_cascade(net, images, "independent", 11, abs=True)
    ours = metrics.randomised_weights(net, heat, images, layers=["stem"], seed=11).similarity
    expected = torch.tensor(found["stem"], dtype=torch.float64)
    # The map that they are given is abs'd, and so is that after randomisation.
    assert_equal_within(ours.absolute_spearman[0], expected, 1e-12)
    assert (ours.spearman[0] - ours.absolute_spearman[0]).abs().max() > 0.1


def test_their_layers_of_one_shape_get_equal_weights():
    net = nn.Sequential(*[nn.Conv2d(1, 1, 3, padding=1) for _ in range(3)], nn.Flatten(), nn.Linear(64, 3))
    seen = []

    def explain(model, inputs, targets, **_):
        seen.append([model[i].weight.detach().clone() for i in range(3)])
        return their_explain(model, inputs, targets)

    images = question()[1]
    with torch.random.fork_rng():
        theirs("MPRT", maps=heat(net, images), images=images, net=net.eval(), explain=explain)
    torch.testing.assert_close(seen[-1][0], seen[-1][1])
    torch.testing.assert_close(seen[-1][0], seen[-1][2])


def test_the_rise_in_entropy_is_efficient_mprts(monkeypatch):
    net, images = question()
    plain, count = torch.manual_seed, iter(range(100))
    monkeypatch.setattr(torch, "manual_seed", lambda seed: plain(seed + next(count)))
    with torch.random.fork_rng():
        found = theirs(
            "EfficientMPRT",
            maps=heat(net, images),
            images=images,
            net=net,
            explain=their_explain,
            layer_order="bottom_up",
            seed=10,
            softmax=True,  # of the model's own numbers, which the rise does not ask for
        )
    ours = metrics.randomised_weights(net, heat, images, cascade="bottom_up", seed=11)
    assert_equal_within(ours.entropy_rise, found, 1e-12)


def test_random_logit_is_equal_for_equal_classes_with_their_similarity_replaced():
    net, images = question()
    maps = heat(net, images)

    def of_class(images, classes):
        return cp.compare(cp.logit(net, classes), images, baseline=BLACK).explain(cp.methods.Gradient())

    def explain(model, inputs, targets, **_):
        asked = torch.as_tensor(targets)
        return of_class(torch.as_tensor(inputs), asked).values.numpy()

    # Of two classes there is only one other.
    found = theirs(
        "RandomLogit",
        maps=maps,
        images=images,
        net=net,
        explain=explain,
        num_classes=2,
        similarity_func=quantus.similarity_func.correlation_spearman,
    )
    ours = metrics.random_logit(of_class, images, TARGET, classes=2).similarity
    assert_equal_within(ours.spearman, found, 1e-12)
    # Their default is the structural similarity of the pixels in one row, windows of 7 in a line: another number.
    line = theirs("RandomLogit", maps=maps, images=images, net=net, explain=explain, num_classes=2)
    assert (line - ours.ssim).abs().max() > 0.02
