"""Learned baselines: what they are learned from, kept in, and refused by."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

import counterpoint as cp
from counterpoint import spec
from counterpoint.baselines import Learned, LearnedPerImage, PublishedRecipe, TradeOffRecipe
from counterpoint.baselines.learned import paper_b
from counterpoint.baselines.learning.network import Network
from counterpoint.baselines.learning.pairs import Pairs, draw_pairs, draw_spared
from counterpoint.baselines.learning.trade_off import Judge, TradeOffLoss, _seams
from counterpoint.data import shapes
from counterpoint.errors import Cancelled, InputError, ShapeError, UnknownNameError

SMALL = TradeOffRecipe(steps=4, rows=4, pairs=12)
RIVALS = [
    ("zero", cp.baselines.Zero()),
    ("mean", cp.baselines.Mean()),
    ("uniform", cp.baselines.Uniform()),
    ("black", cp.baselines.Black()),
]


@pytest.fixture(scope="module")
def classifier():
    return shapes.load_network("vgg")


@pytest.fixture(scope="module")
def images():
    return shapes.generate(24, seed=3).images


@pytest.fixture(scope="module")
def learned(classifier, images):
    return Learned.fit(classifier, images=images, recipe=SMALL, rivals=RIVALS)


# pairs


def test_pairs_come_from_every_image_and_remove_any_share():
    saliency = torch.rand(5, 16, 16, generator=torch.Generator().manual_seed(0))
    pairs = draw_pairs(saliency, 60, torch.Generator().manual_seed(1))
    assert torch.bincount(pairs.image).tolist() == [12] * 5
    shares = pairs.removed.flatten(1).double().mean(1)
    assert shares.min() < 0.1
    assert shares.max() > 0.9
    assert (shares > 0).all()


def test_a_quarter_of_the_pairs_remove_the_most_salient_pixels():
    saliency = torch.arange(64.0).view(1, 8, 8)
    pairs = draw_pairs(saliency, 12, torch.Generator().manual_seed(0))
    for removed in pairs.removed[::4]:
        count = int(removed.sum())
        assert removed.flatten()[64 - count :].all()


def test_a_quarter_of_the_pairs_remove_scattered_pixels():
    pairs = draw_pairs(torch.arange(4096.0).view(1, 64, 64), 12, torch.Generator().manual_seed(0))
    # How often the right neighbour of a removed pixel stays, over how often one does among scattered pixels.
    stays = [
        float((removed[:, :-1] & ~removed[:, 1:]).sum() / removed[:, :-1].sum())
        / float(1 - removed.double().mean())
        for removed in pairs.removed
    ]
    assert min(stays[3::4]) > 0.9
    assert max(stay for k, stay in enumerate(stays) if k % 4 != 3) < 0.7


def test_spared_pairs_take_only_what_matters_least():
    saliency = torch.rand(3, 24, 32, generator=torch.Generator().manual_seed(0))
    pairs = draw_spared(saliency, 24, torch.Generator().manual_seed(1))
    assert torch.bincount(pairs.image).tolist() == [8] * 3
    for image, removed in zip(pairs.image, pairs.removed, strict=True):
        assert removed.any()
        assert saliency[image][removed].max() < saliency[image].flatten().quantile(0.71)
    for image, removed in zip(pairs.image[::2], pairs.removed[::2], strict=True):
        assert saliency[image][removed].max() < saliency[image][~removed].min()
    assert pairs.removed.flatten(1).double().mean(1).max() > 0.5


def test_spared_pairs_of_a_map_without_contrast_take_any_pixels():
    pairs = draw_spared(torch.zeros(1, 16, 16), 4, torch.Generator().manual_seed(0))
    assert pairs.removed.flatten(1).any(1).all()
    assert not pairs.removed.flatten(1).all(1).any()


# the loss


def test_the_distance_is_soft_and_hardens_as_the_temperature_falls(classifier, images):
    network = Network.of(classifier.module, images[:2])
    judge = Judge.of(network, images[:4], images[4:])
    features, logits = network.measured(images[:4])
    rows = torch.arange(4)
    hard = judge.scores(features, logits, rows, 0).distance
    torch.testing.assert_close(hard, torch.cdist(features, judge.bank).amin(1))
    soft = judge.scores(features, logits, rows, 1e-3).distance
    torch.testing.assert_close(soft, hard, rtol=0, atol=1e-2)
    assert (judge.scores(features, logits, rows, 5.0).distance >= hard).all()


def test_removal_scores_are_those_of_the_metrics(classifier, images):
    network = Network.of(classifier.module, images[:2])
    judge = Judge.of(network, images[:4], images[4:])
    pairs = draw_pairs(torch.rand(4, 64, 64), 4, torch.Generator().manual_seed(0))
    scores = judge.of_fills(cp.baselines.Zero(), pairs, 0)
    u = cp.baselines.Zero().fill(images[pairs.image], pairs.removed)
    p = classifier.module(u).softmax(1).detach()
    clean = classifier.module(images[pairs.image]).softmax(1).detach()
    best, classes = clean.max(1)
    torch.testing.assert_close(
        scores.removed[:, 0], 1 - p.gather(1, classes[:, None])[:, 0] / best, atol=1e-4, rtol=1e-4
    )
    entropy = -(p * p.log()).sum(1) / torch.tensor(8.0).log()
    torch.testing.assert_close(scores.removed[:, 1], entropy, atol=1e-4, rtol=1e-4)
    mean = classifier.module(images[4:]).softmax(1).mean(0).detach()
    divergence = (p * (p / mean).log()).sum(1)
    torch.testing.assert_close(scores.removed[:, 2], -divergence, atol=1e-3, rtol=1e-3)


def test_the_loss_of_an_image_is_that_of_its_baseline_and_its_gradient_leads_down(classifier, images):
    network = Network.of(classifier.module, images[:2])
    judge = Judge.of(network, images[:8], images[8:])
    pairs = draw_pairs(torch.rand(8, 64, 64), 12, torch.Generator().manual_seed(0))
    loss = TradeOffLoss.against(
        judge,
        pairs,
        RIVALS,
        temperature=0.3,
        weight=1.0,
        dominance=1.0,
        margin=0.25,
        seams=0.0,
        end_point=0.0,
    )
    image = images[20:21].clone().requires_grad_()
    rows = torch.arange(12)
    found = loss(image, rows)
    assert float(found.detach()) == pytest.approx(
        loss.of_baseline(Learned(image=images[20], any_model=True)), abs=1e-3
    )
    (gradient,) = torch.autograd.grad(found, image)
    step = images[20:21] - 0.01 * gradient / gradient.abs().max()
    assert float(loss(step, rows)) < float(found.detach())


def test_what_dominates_all_rivals_pays_nothing_for_being_dominated(classifier, images):
    judge = Judge.of(Network.of(classifier.module, images[:2]), images[:8], images[8:])
    pairs = draw_pairs(torch.rand(8, 64, 64), 12, torch.Generator().manual_seed(0))
    settings = {"temperature": 0.3, "weight": 0.0, "margin": 0.0, "seams": 0.0, "end_point": 0.0}
    loss = TradeOffLoss.against(judge, pairs, RIVALS, dominance=1.0, **settings)
    rows = torch.arange(12)
    worst = torch.stack([loss.rival_removed.amin(0) - 1, loss.rival_removed.amax(0) + 1])
    far = torch.stack([loss.rival_distance.amax(0) + 1, loss.rival_distance.amin(0) - 1])
    from counterpoint.baselines.learning.trade_off import Scores

    bad, good = (Scores(r, d) for r, d in zip(worst, far, strict=True))
    plain = replace(loss, dominance=0.0)
    assert float(loss.balance(good, rows)) == pytest.approx(float(plain.balance(good, rows)))
    assert float(loss.balance(bad, rows)) > float(plain.balance(bad, rows))
    assert loss.dominated(good).all()
    assert not loss.dominated(bad).any()


def test_seams_count_activity_that_neither_image_has():
    x, b = torch.tensor([[1.0, 0.0, 2.0]]), torch.tensor([[0.0, 1.0, 3.0]])
    u = torch.tensor([[1.5, 1.0, 2.5]])
    assert float(_seams([torch.cat([u, b])], [x])) == pytest.approx(0.5 / 3)


def test_rivals_that_do_not_differ_are_refused(classifier, images):
    judge = Judge.of(Network.of(classifier.module, images[:2]), images[:8], images[8:])
    pairs = Pairs(torch.arange(8), torch.ones(8, 64, 64, dtype=torch.bool))
    same = [(str(k), cp.baselines.Black()) for k in range(3)]
    settings = {"weight": 1.0, "dominance": 1.0, "margin": 0.0, "seams": 0.0, "end_point": 0.0}
    with pytest.raises(InputError, match="must differ"):
        TradeOffLoss.against(judge, pairs, same, temperature=0.3, **settings)


# learning


@pytest.mark.slow
def test_learning_makes_the_loss_fall(classifier):
    images = shapes.generate(60, seed=4).images
    found = Learned.fit(
        classifier, images=images, recipe=TradeOffRecipe(steps=40, pairs=48, photographs=False)
    )
    losses = found.tensors["losses"]
    assert losses[-10:].mean() < losses[:10].mean()
    # What is kept is never worse than the start, on images that took no part.
    chances = found.facts["loss_where_chosen"]
    kept = found.facts["chosen"]
    assert (kept == "start") == (min(chances) == chances[0])


def test_the_same_seed_gives_the_same_image_and_another_seed_another(classifier, images, learned):
    again = Learned.fit(classifier, images=images, recipe=SMALL, rivals=RIVALS)
    assert again == learned
    assert torch.equal(again.image, learned.image)
    assert Learned.fit(classifier, images=images, recipe=SMALL, rivals=RIVALS, seed=1) != learned


@pytest.mark.parametrize("recipe", [SMALL, PublishedRecipe(steps=4, crops=2, size=64)])
def test_a_run_that_was_stopped_gives_the_same_bits(classifier, images, recipe):
    states = []

    def stop(moment):
        states.append(moment.state())
        if moment.step == 2:
            raise Cancelled("enough")

    whole = Learned.fit(classifier, images=images, recipe=recipe, rivals=RIVALS)
    with pytest.raises(Cancelled):
        Learned.fit(classifier, images=images, recipe=recipe, rivals=RIVALS, on_step=stop)
    rest = Learned.fit(classifier, images=images, recipe=recipe, rivals=RIVALS, state=states[-1])
    assert torch.equal(rest.image, whole.image)
    assert torch.equal(rest.tensors["losses"], whole.tensors["losses"])


def test_the_published_recipe_silences_the_layer(classifier, images):
    found = Learned.fit(classifier, images=images, recipe=PublishedRecipe(steps=30, crops=4, size=96))
    losses = found.tensors["losses"]
    assert losses[-5:].mean() < losses[:5].mean()
    assert found.facts["recipe"] == "published"
    assert found.image.shape == (3, 64, 64)


def test_neither_model_nor_global_generator_is_touched(classifier, images):
    before = {name: value.clone() for name, value in classifier.module.state_dict().items()}
    state = torch.get_rng_state()
    Learned.fit(classifier, images=images, recipe=SMALL, rivals=RIVALS)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], value) for name, value in classifier.module.state_dict().items())
    assert not any(part._forward_hooks for part in classifier.module.modules())


def test_without_photographs_the_start_is_none_of_them(classifier, images):
    found = Learned.fit(classifier, images=images, recipe=replace(SMALL, photographs=False), rivals=RIVALS)
    assert "photograph" not in found.facts["start"]


# what it is


def test_it_is_one_image_for_every_input_and_is_resized_for_others(learned, images):
    found = learned(images)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], learned.image)
    larger = learned(torch.rand(2, 3, 96, 96))
    assert larger.shape == (2, 3, 96, 96)
    assert 0 <= larger.min() <= larger.max() <= 1
    with pytest.raises(ShapeError, match="3 channels"):
        learned(torch.rand(2, 1, 64, 64))


def test_a_file_gives_the_same_baseline_with_all_that_is_known_of_it(learned, tmp_path):
    path = learned.with_facts(audit={"words": ["better than all"]}).save(tmp_path / "b.safetensors")
    loaded = Learned.load(path)
    assert loaded == learned
    assert torch.equal(loaded.image, learned.image)
    assert loaded.facts["audit"]["words"] == ["better than all"]
    assert json.dumps(loaded.facts)
    torch.testing.assert_close(loaded.tensors["losses"], learned.tensors["losses"])


def test_text_and_description_lead_back_to_the_file(learned, tmp_path):
    path = learned.save(tmp_path / "b.safetensors")
    built = spec.build("baseline", f"learned:file={path}")
    assert built == learned
    again = spec.build("baseline", spec.describe(built))
    assert again == learned
    assert spec.describe(built).parameters["sha256"] == learned.sha256
    other = replace(learned, image=1 - learned.image, sha256="")
    other.save(path)
    with pytest.raises(InputError, match="another baseline"):
        spec.build("baseline", spec.describe(built))


def test_tables_name_the_file_and_not_what_follows_from_it(learned, tmp_path):
    path = str(learned.save(tmp_path / "learned.safetensors"))
    for baseline, name in (
        (Learned(file=path), f"learned:file={path}"),
        (LearnedPerImage(file=path, steps=3), f"learned_per_image:file={path},steps=3"),
    ):
        full = spec.describe(baseline)
        assert full.parameters["sha256"] == learned.sha256
        assert spec.unusual("baseline", full).text == name


def test_it_serves_explanations_and_curves(classifier, images, learned):
    score = cp.logit(classifier)
    attribution = cp.compare(score, images[:2], baseline=learned).explain(
        cp.methods.IntegratedGradients(rule=cp.quadrature.GaussLegendre(8))
    )
    torch.testing.assert_close(
        attribution.baseline_score, score.bind(images[:2])(learned(images[:2]), torch.arange(2))
    )
    curve = cp.metrics.deletion_curve(
        cp.probability(classifier), images[:2], attribution.heatmap(), baseline=learned, steps=4
    )
    assert curve.scores.shape == (2, 5)


def test_another_model_is_refused_unless_any_will_do(images, learned):
    other = shapes.load_network("resnet")
    with pytest.raises(InputError, match=r"for shapes_vgg .* another model"):
        cp.compare(cp.logit(other), images[:1], baseline=learned)
    with pytest.raises(InputError, match="plain callable"):
        cp.compare(lambda x: x.flatten(1).sum(1), images[:1], baseline=learned)
    cp.compare(cp.logit(other), images[:1], baseline=replace(learned, any_model=True))


# the variant for single images


def test_a_few_steps_for_one_image_better_its_own_loss(classifier, images, learned, tmp_path):
    path = str(learned.save(tmp_path / "b.safetensors"))
    one = LearnedPerImage(file=path, steps=6)
    score = cp.logit(classifier)
    inputs = shapes.generate(3, seed=8).images
    comparison = cp.compare(score, inputs, baseline=one)
    found = comparison.baseline(inputs)
    assert found.shape == inputs.shape
    assert not torch.equal(found[0], found[1])
    alone = cp.compare(score, inputs[1:2], baseline=one)
    torch.testing.assert_close(alone.baseline(inputs[1:2])[0], found[1], atol=1e-3, rtol=1e-3)
    assert spec.describe(one).parameters["file"] == path
    # b does not become x: it says less of the image's class than the image.
    p = classifier.module(found).softmax(1)
    clean = classifier.module(inputs).softmax(1)
    assert (p.gather(1, clean.argmax(1)[:, None]) < clean.amax(1)[:, None]).all()


def test_with_selectivity_the_score_stays_where_nothing_of_importance_goes(
    classifier, images, learned, tmp_path
):
    path = str(learned.save(tmp_path / "b.safetensors"))
    batch = shapes.generate(8, seed=8)
    score = cp.logit(classifier)
    background = ~batch.evidence.bool()
    blocks = torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    gone = background & (torch.nn.functional.interpolate(blocks, batch.images.shape[2:])[:, 0] < 0.5)
    changed = {}
    for selectivity in (0.0, 10.0):
        one = LearnedPerImage(file=path, steps=16, selectivity=selectivity)
        found = one.prepare(score.bind(batch.images), batch.images).fill(batch.images, gone)
        with torch.no_grad():
            p, clean = (classifier.module(x).softmax(1) for x in (found, batch.images))
        classes = clean.argmax(1)[:, None]
        changed[selectivity] = float((1 - p.gather(1, classes) / clean.gather(1, classes)).abs().mean())
    assert changed[10.0] < changed[0.0]


def test_sought_for_its_join_the_network_sees_what_seamless_makes_of_it(
    learned, images, tmp_path, monkeypatch
):
    seen = []
    read = Network.read
    monkeypatch.setattr(Network, "read", lambda self, u: seen.append(u.detach()) or read(self, u))
    path = str(learned.save(tmp_path / "b.safetensors"))
    bound = cp.logit(shapes.load_network("vgg")).bind(images[:1])
    one = LearnedPerImage(
        file=path, start="local_mean", selectivity=8, steps=1, learning_rate=1e-6, joined=0.1
    )
    found = one.prepare(bound, images[:1])
    rows = seen[-1]
    gone = (rows != images[:1]).any(1)
    everything = gone.flatten(1).all(1)
    assert 1 <= int(everything.sum()) < len(rows)
    torch.testing.assert_close(rows[everything][:1], found(images[:1]), atol=1e-4, rtol=0)
    some = ~everything
    used = cp.baselines.Seamless(found, reach=0.1).fill(
        images[:1].expand(int(some.sum()), -1, -1, -1), gone[some]
    )
    torch.testing.assert_close(rows[some], used, atol=1e-4, rtol=0)


def test_the_local_mean_as_a_start_tells_colours_and_not_the_file_s_image(learned, images, tmp_path):
    path = str(learned.save(tmp_path / "b.safetensors"))
    one = LearnedPerImage(file=path, start="local_mean", steps=1, learning_rate=1e-6)
    found = one.prepare(cp.logit(shapes.load_network("vgg")).bind(images[:2]), images[:2])(images[:2])
    coarse = nn.functional.avg_pool2d(images[:2], images.shape[2] // 4)
    assert (
        torch.corrcoef(
            torch.stack([nn.functional.avg_pool2d(found, images.shape[2] // 4), coarse]).flatten(1)
        )[0, 1]
        > 0.9
    )
    assert not torch.allclose(found[0], found[1], atol=0.05)


def test_it_needs_the_bank_of_the_trade_off_recipe(classifier, images, tmp_path):
    published = Learned.fit(classifier, images=images, recipe=PublishedRecipe(steps=2, crops=2, size=64))
    one = LearnedPerImage(file=str(published.save(tmp_path / "p.safetensors")))
    with pytest.raises(InputError, match="trade-off recipe"):
        cp.compare(cp.logit(classifier), images[:1], baseline=one)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"start": "blur"}, "start must be learned or local_mean, got 'blur'"),
        ({"selectivity": -1.0}, "selectivity"),
        ({"joined": 0.0}, "joined must be above 0"),
    ],
)
def test_bad_settings_for_single_images_are_named(learned, tmp_path, change, words):
    path = str(learned.save(tmp_path / "b.safetensors"))
    with pytest.raises(InputError, match=words):
        LearnedPerImage(file=path, **change)


# bad input


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"images": torch.rand(5, 3, 64, 64)}, InputError, "number of images must be at least 16"),
        ({"images": torch.rand(20, 3, 64, 64) * 2}, InputError, r"pixels in \[0, 1\]"),
        ({"images": torch.full((20, 3, 64, 64), torch.nan)}, cp.errors.NotFiniteError, "images"),
        ({"layer": "convs.9"}, UnknownNameError, "convs.9"),
        ({"saliency": torch.rand(2, 64, 64)}, ShapeError, "saliency must be"),
        ({"rivals": RIVALS[:2]}, InputError, "rivals must be at least 3"),
    ],
)
def test_bad_input_is_named(classifier, images, change, error, words):
    given = {"images": images, "recipe": SMALL, "rivals": RIVALS, **change}
    with pytest.raises(error, match=words):
        Learned.fit(classifier, **given)


def test_a_model_without_a_penultimate_layer_is_refused(images):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    classifier = cp.Classifier(net, mean=0.5, std=0.5, size=64)
    with pytest.raises(cp.errors.LayerError):
        Learned.fit(classifier, images=images, recipe=SMALL, rivals=RIVALS)


def test_files_that_are_none_are_refused(tmp_path):
    with pytest.raises(InputError, match="file must be given"):
        Learned()
    with pytest.raises(InputError, match="cannot be read"):
        Learned(file=str(tmp_path / "none.safetensors"))
    (tmp_path / "noise.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(InputError, match="cannot be read"):
        Learned(file=str(tmp_path / "noise.safetensors"))


def test_paper_b_has_eleven_baselines_and_road():
    assert [name for name, _ in paper_b()][-1] == "road"
    assert len(paper_b()) == 12
