"""Closed forms of pointing, mass and ranks in masks, ties by their expected value, and what is undefined."""

import pytest
import torch
from sklearn.metrics import roc_auc_score

import counterpoint as cp
from counterpoint import metrics
from counterpoint.errors import InputError, NotFiniteError, ShapeError
from networks import SmallNet, random_images

ALL = {
    "pointing_game": metrics.pointing_game,
    "mass_in_mask": metrics.mass_in_mask,
    "rank_in_mask": metrics.rank_in_mask,
    "top_k_intersection": lambda saliency, masks: metrics.top_k_intersection(saliency, masks, k=5),
    "auc_in_mask": metrics.auc_in_mask,
}


def seeded(seed, batch=3, height=6, width=7):
    generator = torch.Generator().manual_seed(seed)
    maps = torch.randn(batch, height, width, generator=generator, dtype=torch.float64)
    return maps, torch.rand(batch, height, width, generator=generator) < 0.3


@pytest.mark.parametrize("name", ALL)
def test_the_mask_itself_is_best_and_its_opposite_worst(name):
    _, masks = seeded(0)
    exact = masks.double()
    torch.testing.assert_close(ALL[name](exact, masks), torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(ALL[name](1 - exact, masks), torch.zeros(3, dtype=torch.float64))


@pytest.mark.parametrize("name", ALL)
def test_a_constant_map_has_what_chance_has(name):
    _, masks = seeded(0)
    covered = masks.double().mean((1, 2))
    expected = torch.full_like(covered, 0.5) if name == "auc_in_mask" else covered
    torch.testing.assert_close(ALL[name](torch.ones(3, 6, 7, dtype=torch.float64), masks), expected)


@pytest.mark.parametrize("name", [name for name in ALL if name != "mass_in_mask"])
def test_ties_count_by_the_mean_over_all_ways_to_break_them(name):
    maps, masks = seeded(1, batch=1, height=5, width=6)
    coarse = (2 * maps).round().clamp(max=1)  # several largest values too
    noise = torch.rand(8000, 5, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    broken = ALL[name](coarse + 1e-6 * noise, masks.expand(8000, -1, -1))
    assert broken.std() > 0
    torch.testing.assert_close(ALL[name](coarse, masks), broken.mean()[None], rtol=0, atol=0.02)


def test_where_a_pixel_lies_in_memory_does_not_matter():
    maps, masks = seeded(1)
    coarse = (2 * maps).round()
    for name, measure in ALL.items():
        flipped = measure(coarse.flip(1, 2), masks.flip(1, 2))
        torch.testing.assert_close(measure(coarse, masks), flipped, msg=name)


def test_pointing_game_by_hand():
    saliency = torch.zeros(1, 5, 5)
    saliency[0, 1, 1] = 2.0
    masks = torch.zeros(1, 5, 5, dtype=torch.bool)
    masks[0, 4, 4] = True
    away = 18**0.5
    for tolerance, hit in ((0, 0), (away - 0.01, 0), (away + 0.01, 1)):
        assert metrics.pointing_game(saliency, masks, tolerance=tolerance).item() == hit
    saliency[0, 4, 4] = 2.0
    assert metrics.pointing_game(saliency, masks).item() == 0.5
    assert metrics.pointing_game(saliency, masks, tolerance=5).item() == 1


def test_mass_in_mask_by_hand():
    saliency = torch.tensor([[[3.0, -2.0], [1.0, -4.0]]])
    masks = torch.tensor([[[True, True], [False, False]]])
    assert metrics.mass_in_mask(saliency, masks).item() == pytest.approx(3 / 4)
    assert metrics.mass_in_mask(saliency, masks, part="absolute").item() == pytest.approx(5 / 10)
    # No positive relevance anywhere: there is nothing whose share could be taken.
    assert metrics.mass_in_mask(-saliency.abs(), masks).isnan().all()


def test_rank_and_top_k_by_hand():
    saliency = torch.tensor([[[9.0, 8.0, 7.0], [6.0, 5.0, 4.0]]])
    masks = torch.tensor([[[True, False, True], [False, False, True]]])
    assert metrics.rank_in_mask(saliency, masks).item() == pytest.approx(2 / 3)
    for k, expected in ((1, 1.0), (2, 0.5), (4, 0.5), (6, 0.5)):
        assert metrics.top_k_intersection(saliency, masks, k=k).item() == pytest.approx(expected)


def test_auc_is_scikit_learns_also_with_ties():
    maps, masks = seeded(3)
    for saliency in (maps, (2 * maps).round()):
        expected = [
            roc_auc_score(m.flatten().numpy(), s.flatten().numpy())
            for s, m in zip(saliency, masks, strict=True)
        ]
        torch.testing.assert_close(
            metrics.auc_in_mask(saliency, masks), torch.tensor(expected, dtype=torch.float64)
        )


@pytest.mark.parametrize("name", ALL)
def test_an_empty_mask_is_undefined_and_leaves_the_other_images_alone(name):
    maps, masks = seeded(4)
    expected = ALL[name](maps, masks)
    masks[1] = False
    found = ALL[name](maps, masks)
    assert found.isnan().tolist() == [False, True, False]
    torch.testing.assert_close(found[[0, 2]], expected[[0, 2]])


def test_with_tolerance_an_empty_mask_stays_undefined():
    maps, masks = seeded(4)
    masks[1] = False
    assert metrics.pointing_game(maps, masks, tolerance=2).isnan().tolist() == [False, True, False]


def test_a_mask_of_the_whole_image_leaves_only_the_area_undefined():
    maps, masks = seeded(4)
    for name, measure in ALL.items():
        found = measure(maps, torch.ones_like(masks))
        assert found.isnan().all() if name == "auc_in_mask" else (found == 1).all()


@pytest.mark.parametrize("name", [name for name in ALL if name != "mass_in_mask"])
def test_only_the_order_matters_and_an_image_is_the_same_alone(name):
    maps, masks = seeded(5)
    torch.testing.assert_close(ALL[name](maps.exp(), masks), ALL[name](maps, masks))
    alone = torch.cat([ALL[name](maps[i : i + 1], masks[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(alone, ALL[name](maps, masks))


@pytest.mark.parametrize("name", ALL)
def test_an_attribution_is_taken_by_its_heat_map(name):
    question = cp.compare(cp.logit(SmallNet(0), 1), random_images(1), baseline=cp.baselines.Grey())
    attribution = question.explain(cp.methods.Taylor())
    masks = seeded(0, batch=2, width=6)[1]
    torch.testing.assert_close(ALL[name](attribution, masks), ALL[name](attribution.heatmap(), masks))


@pytest.mark.parametrize("name", ALL)
def test_wrong_maps_and_masks_are_named(name, unchecked):
    maps, masks = seeded(6)
    with pytest.raises(ShapeError, match=r"masks is \(3, 5, 7\), saliency is \(3, 6, 7\)"):
        ALL[name](maps, masks[:, :5])
    with pytest.raises(ShapeError, match=r"masks is \(1, 6, 7\), saliency is \(3, 6, 7\)"):
        ALL[name](maps, masks[:1])
    with pytest.raises(
        InputError, match=r"masks must be a tensor of booleans, True inside; got torch\.float64"
    ):
        ALL[name](maps, masks.double())
    with pytest.raises(NotFiniteError, match="saliency must be finite"):
        ALL[name](maps / 0, masks)


def test_wrong_settings_are_named(unchecked):
    maps, masks = seeded(6)
    for k in (0, 43, 1.5, True):
        with pytest.raises(InputError, match="k must be a whole number from 1 to 42"):
            metrics.top_k_intersection(maps, masks, k=k)
    with pytest.raises(InputError, match="tolerance must be at least 0"):
        metrics.pointing_game(maps, masks, tolerance=-1)
    with pytest.raises(InputError, match="unknown part 'signed'"):
        metrics.mass_in_mask(maps, masks, part="signed")
