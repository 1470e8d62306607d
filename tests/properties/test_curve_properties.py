"""What every curve promises, whatever the score, the map, the baseline and the number of steps."""

import torch
from hypothesis import given
from hypothesis import strategies as st

import counterpoint as cp
from counterpoint.baselines import BASELINES
from counterpoint.metrics.ordering import ordering
from networks import SmallNet, linear_score, random_images

seeds = st.integers(0, 2**16)
steps = st.integers(1, 36)
orders = st.sampled_from(["signed", "absolute"])
# Kinds with an image of their own that need neither other images nor a model.
baselines = st.sampled_from(
    "black white zero constant mean median random_color blur uniform normal permutation local_mean".split()
)


def random_maps(seed, batch=2, size=6, *, levels=None):
    generator = torch.Generator().manual_seed(seed)
    found = torch.randn(batch, size, size, generator=generator, dtype=torch.float64)
    return found if levels is None else (found * levels).round()


@given(seed=seeds, name=baselines, steps=steps)
def test_for_a_linear_score_no_order_beats_the_shares_under_the_same_baseline(seed, name, steps):
    score, weight = linear_score(seed, (3, 6, 6))
    inputs, baseline = random_images(seed + 1, channels=3), BASELINES[name]()
    maps = {"shares": (weight * (inputs - baseline(inputs))).sum(1)}
    maps |= {f"other {i}": random_maps(seed + i) for i in range(3)}
    # An order that differs from the best in a few places only.
    maps["near"] = maps["shares"] + 0.1 * maps["shares"].std() * random_maps(seed)
    table = cp.metrics.curves(score, inputs, maps, [baseline], steps=steps)
    removed, restored = table.scores[0, 0], table.scores[1, 0]
    # At every point, hence in area.
    assert (removed[:1] <= removed + 1e-9).all()
    assert (restored[:1] >= restored - 1e-9).all()
    assert (table.gains()[0, 0] >= table.gains()[0] - 1e-9).all()


@given(seed=seeds, one=baselines, two=baselines)
def test_each_baseline_certifies_its_own_winner(seed, one, two):
    score, weight = linear_score(seed, (3, 6, 6))
    inputs, chosen = random_images(seed + 1, channels=3), [BASELINES[one](), BASELINES[two]()]
    own = [(weight * (inputs - baseline(inputs))).sum(1) for baseline in chosen]
    for baseline, better, worse in ((chosen[0], *own), (chosen[1], *own[::-1])):
        table = cp.metrics.curves(score, inputs, {"own": better, "other": worse}, [baseline], steps=9)
        assert (table.gains()[0, 0] >= table.gains()[0, 1] - 1e-9).all()


@given(seed=seeds, steps=steps, order=orders, name=baselines)
def test_shape_type_and_both_ends(seed, steps, order, name):
    net, inputs, saliency = SmallNet(seed, channels=3), random_images(seed, 3, 3), random_maps(seed, 3)
    baseline = BASELINES[name]()
    for dtype in (torch.float64, torch.float32):
        score, points = cp.logit(net.to(dtype), 1), inputs.to(dtype)
        curve = cp.metrics.deletion_curve(
            score, points, saliency, baseline=baseline, steps=steps, order=order
        )
        assert curve.scores.shape == (3, steps + 1)
        assert curve.fractions.shape == (steps + 1,)
        assert curve.area.shape == curve.area_error.shape == curve.tied.shape == (3,)
        assert curve.scores.dtype == curve.area.dtype == curve.fractions.dtype == dtype
        torch.testing.assert_close(curve.scores[:, 0], net(points)[:, 1].detach())
        torch.testing.assert_close(curve.scores[:, -1], net(baseline(points))[:, 1].detach())
        assert (curve.area >= curve.scores.amin(1) - 1e-5).all()
        assert (curve.area <= curve.scores.amax(1) + 1e-5).all()


@given(seed=seeds, steps=steps, order=orders, name=baselines, levels=st.sampled_from([None, 1.0, 0.0]))
def test_an_images_curve_is_the_same_alone_and_in_company(seed, steps, order, name, levels):
    net, inputs = SmallNet(seed, channels=3), random_images(seed, 3, 3)
    maps = {"map": random_maps(seed, 3, levels=levels), "other": random_maps(seed + 1, 3)}
    options = {"steps": steps, "order": order, "seed": seed}
    chosen = [BASELINES[name](), cp.baselines.Constant(0.3)]
    together = cp.metrics.curves(cp.logit(net, 0), inputs, maps, chosen, **options)
    for i in range(3):
        one = {"map": maps["map"][i : i + 1]}
        alone = cp.metrics.curves(cp.logit(net, 0), inputs[i : i + 1], one, chosen[:1], **options)
        torch.testing.assert_close(alone.scores[:, 0, 0, 0], together.scores[:, 0, 0, i])
        assert alone.tied[0, 0] == together.tied[0, i]


@given(seed=seeds, order=orders, levels=st.sampled_from([None, 1.0]))
def test_only_the_order_counts(seed, order, levels):
    score, inputs = cp.logit(SmallNet(seed), 0), random_images(seed)
    saliency = random_maps(seed, levels=levels)
    maps = {"map": saliency, "scaled": 8.0 * saliency}
    if order == "signed":
        maps |= {"shifted": saliency.exp(), "cubed": saliency**3}
    else:
        maps |= {"turned": -saliency, "size": saliency.abs()}
    table = cp.metrics.curves(score, inputs, maps, [cp.baselines.Black()], steps=7, order=order, seed=seed)
    for m in range(1, 4):
        torch.testing.assert_close(table.scores[:, :, m], table.scores[:, :, 0], rtol=0, atol=0)
        assert torch.equal(table.tied[m], table.tied[0])


@given(seed=seeds, order=orders, levels=st.sampled_from([None, 2.0, 0.3, 0.0]), size=st.integers(1, 9))
def test_an_order_names_each_pixel_once_and_respects_the_map(seed, order, levels, size):
    saliency = random_maps(seed, 3, size, levels=levels)
    found = ordering(saliency, order=order, seed=seed)
    values = (saliency.abs() if order == "absolute" else saliency).flatten(1)
    for i in range(3):
        rank = found.rank[i].flatten().long()
        assert sorted(rank.tolist()) == list(range(size * size))
        assert (values[i][rank.argsort()].diff() <= 0).all()
        equal = (values[i][:, None] == values[i]).sum(1)
        assert found.tied[i].item() == (equal > 1).double().mean().item()


@given(seed=seeds, name=baselines)
def test_the_same_call_gives_the_same_numbers_and_touches_nothing(seed, name):
    score, inputs, saliency = (
        cp.logit(SmallNet(seed, channels=3)),
        random_images(seed, 2, 3),
        random_maps(seed),
    )
    kept, state = (inputs.clone(), saliency.clone()), torch.random.get_rng_state()
    one, two = (
        cp.metrics.curves(score, inputs, {"map": saliency.round()}, [BASELINES[name]()], steps=5).scores
        for _ in range(2)
    )
    torch.testing.assert_close(one, two, rtol=0, atol=0)
    assert torch.equal(inputs, kept[0])
    assert torch.equal(saliency, kept[1])
    assert torch.equal(torch.random.get_rng_state(), state)
