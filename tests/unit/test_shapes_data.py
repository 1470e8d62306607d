"""Generated shapes: the evidence decides, and the networks that come with them know it."""

import json
import re
import runpy
from pathlib import Path

import pytest
import torch

import counterpoint as cp
from counterpoint.data import shapes
from counterpoint.data.shapes import loading
from counterpoint.data.shapes.networks import VGG
from counterpoint.data.shapes.scene import RADIUS
from counterpoint.errors import InputError, ModelError, UnknownNameError

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def batch():
    """Held out: no card has this seed."""
    return shapes.generate(200, seed=7)


def accuracy(classifier, images, labels):
    with torch.no_grad():
        answers = torch.cat([classifier.module(rows).argmax(1) for rows in images.split(50)])
    return (answers == labels).float().mean().item()


# images


def test_an_image_is_the_same_however_many_are_asked_for(batch):
    few = shapes.generate(3, seed=7)
    for name in ("images", "backgrounds", "labels", "evidence", "decoys"):
        assert torch.equal(getattr(few, name), getattr(batch, name)[:3]), name
    assert not torch.equal(few.images, shapes.generate(3, seed=8).images)


def test_images_are_whole_bytes_and_a_file_keeps_them(batch, tmp_path):
    assert batch.images.dtype == torch.float32
    assert batch.images.min() >= 0
    assert batch.images.max() <= 1
    batch.picture(5).save(tmp_path / "five.png")
    read = shapes.load_network("resnet").preprocess(tmp_path / "five.png")
    torch.testing.assert_close(read[0], batch.images[5], rtol=0, atol=1e-7)


def test_object_and_decoys_are_all_that_differs_from_the_background(batch):
    assert not (batch.evidence & batch.decoys).any()
    things = batch.evidence | batch.decoys
    differs = (batch.images != batch.backgrounds).any(1)
    assert torch.equal(differs, things)  # colours are far enough apart for no pixel to agree by chance
    assert torch.equal(batch.without(things), batch.backgrounds)


def test_each_image_has_both_and_neither_touches_the_other(batch):
    assert batch.evidence.any(2).any(1).all()
    assert batch.decoys.any(2).any(1).all()
    near = torch.nn.functional.max_pool2d(batch.evidence.float(), 3, 1, 1).bool()
    assert not (near & batch.decoys).any()


def test_the_object_has_the_area_of_its_outline():
    batch = shapes.generate(160, seed=3, size=128)
    share = batch.evidence.float().mean((1, 2))
    smallest, largest = (torch.pi * radius**2 for radius in RADIUS)
    # Share of the circle around it: 1 for a disc, 2/pi for a square, 3 sqrt(3) / 4 pi for a triangle, ...
    for name, part in (
        ("disc", 1.0),
        ("square", 0.637),
        ("triangle", 0.413),
        ("ring", 0.6975),
        ("star", 0.421),
    ):
        areas = share[[k for k, found in enumerate(batch.names) if found == name]]
        assert areas.min() >= 0.97 * part * smallest, name
        assert areas.max() <= 1.03 * part * largest, name
    assert 0.03 < share.min()
    assert share.max() < 0.22


def test_classes_are_balanced_to_one(batch):
    counts = torch.bincount(batch.labels, minlength=len(shapes.CLASSES))
    assert (counts == 200 / 8).all()
    odd = torch.bincount(shapes.generate(21, seed=0).labels, minlength=8)
    assert odd.max() - odd.min() <= 1
    assert batch.names[0] == shapes.CLASSES[batch.labels[0]]


def test_place_size_and_colour_do_not_tell_the_object_from_its_decoys():
    batch = shapes.generate(400, seed=11)
    rows = torch.linspace(0, 1, 64).view(-1, 1)

    def mean_row(masks):
        return ((masks * rows).sum((1, 2)) / masks.sum((1, 2))).mean().item()

    def mean_colour(masks):
        return (batch.images * masks.unsqueeze(1)).sum((0, 2, 3)) / masks.sum()

    assert mean_row(batch.evidence) == pytest.approx(mean_row(batch.decoys), abs=0.04)
    torch.testing.assert_close(mean_colour(batch.evidence), mean_colour(batch.decoys), rtol=0, atol=0.06)


def test_things_grow_with_the_image():
    small, large = shapes.generate(16, seed=2), shapes.generate(16, seed=2, size=128)
    halved = torch.nn.functional.avg_pool2d(large.evidence.float(), 2)
    assert (halved - small.evidence.float()).abs().mean() < 0.01  # but for the edges the same scene


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": 0}, "count must be at least 1, got 0"),
        ({"count": 2.0}, r"count must be a whole number, got 2\.0"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"seed": True}, "seed must be a whole number, got True"),
        ({"size": 47}, "size must be at least 48, got 47"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        shapes.generate(**{"count": 1, "seed": 0, **arguments})


# networks


@pytest.mark.parametrize(("name", "least"), [("resnet", 0.95), ("vgg", 0.93), ("vit", 0.84)])
def test_a_network_knows_images_that_it_has_not_seen(batch, name, least):
    assert accuracy(shapes.load_network(name), batch.images, batch.labels) >= least


@pytest.mark.parametrize("name", shapes.NETWORKS)
def test_the_evidence_decides_and_the_decoys_do_not(batch, name):
    classifier = shapes.load_network(name)
    seen = accuracy(classifier, batch.images, batch.labels)
    # One of eight by chance; two standard deviations of 200 draws are 0.05.
    assert accuracy(classifier, batch.without(batch.evidence), batch.labels) < 0.125 + 0.06
    assert accuracy(classifier, batch.without(batch.decoys), batch.labels) > seen - 0.02


@pytest.mark.parametrize("name", shapes.NETWORKS)
def test_a_card_says_what_the_weights_are(name):
    card, path = shapes.card(name), loading.weights_path(name)
    network = shapes.load_network(name).module.model
    assert path.stat().st_size < 1_000_000
    assert card["parameters"] == sum(parameter.numel() for parameter in network.parameters())
    assert card["classes"] == list(shapes.CLASSES)
    assert 7 not in range(*card["data"]["training_seeds"])
    assert card["accuracy"]["as they are"] >= (0.88 if name == "vit" else 0.95)


@pytest.mark.parametrize("name", shapes.NETWORKS)
def test_networks_come_ready_for_questions(batch, name):
    state = torch.get_rng_state()
    classifier = cp.load_model(f"shapes_{name}")
    assert torch.equal(torch.get_rng_state(), state)
    assert classifier.name == f"shapes_{name}"
    assert classifier.labels == shapes.CLASSES
    assert not any(part.training for part in classifier.module.modules())
    assert classifier.card()["random_weights"] is False
    alone = classifier.module(batch.images[:1])
    torch.testing.assert_close(alone, classifier.module(batch.images[:4])[:1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "layer"), [("resnet", "block2"), ("vgg", "features.pool3"), ("vit", "blocks.0")]
)
def test_every_network_can_be_cut_and_explained_at_a_layer(batch, name, layer):
    classifier = shapes.load_network(name)
    comparison = cp.compare(
        cp.logit(classifier.module, target="top1"),
        batch.images[:1],
        baseline=cp.baselines.Black(),
        layer=layer,
    )
    attribution = comparison.explain(cp.methods.IntegratedGradients(rule=cp.quadrature.Midpoint(64)))
    assert attribution.relative_error.abs().max() < 0.1
    assert attribution.heatmap().shape == (1, 64, 64)


@pytest.mark.parametrize("name", shapes.NETWORKS)
def test_no_module_runs_twice(batch, name):
    from counterpoint.layers import run_once

    runs = [seen.name for seen in run_once(shapes.load_network(name).module, batch.images[:1])]
    assert len(runs) == len(set(runs))


def test_an_unknown_network_is_answered_with_the_nearest():
    with pytest.raises(UnknownNameError, match=r"unknown network of shapes 'resnt'; did you mean 'resnet'\?"):
        shapes.load_network("resnt")


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """The VGG's files in a folder where they may be damaged."""
    card, weights = tmp_path / "vgg.json", tmp_path / "vgg.safetensors"
    card.write_bytes(loading.card_path("vgg").read_bytes())
    weights.write_bytes(loading.weights_path("vgg").read_bytes())
    monkeypatch.setattr(loading, "weights_path", lambda name: weights)
    return weights


def test_a_damaged_file_is_refused(copied):
    content = bytearray(copied.read_bytes())
    content[-1] ^= 1
    copied.write_bytes(content)
    with pytest.raises(
        ModelError, match=r"vgg\.safetensors' is not the one that its card speaks of.*reinstall"
    ):
        shapes.load_network("vgg")
    copied.unlink()
    with pytest.raises(ModelError, match=r"vgg\.safetensors' cannot be read: No such file"):
        shapes.load_network("vgg")
    copied.with_suffix(".json").write_text("{")
    with pytest.raises(ModelError, match=r"the card '.*vgg\.json' cannot be read"):
        shapes.load_network("vgg")


def test_weights_of_another_network_are_refused_even_with_their_own_hash(copied, monkeypatch):
    monkeypatch.setitem(loading.NETWORKS, "vgg", lambda classes: VGG(classes + 1))
    with pytest.raises(ModelError, match=r"(?s)does not fit the network: .*fc2"):
        shapes.load_network("vgg")


# the script, and the page


def test_training_writes_a_network_that_can_be_loaded_and_twice_the_same(tmp_path, monkeypatch, capsys):
    script = runpy.run_path(str(ROOT / "examples" / "train_shapes.py"))
    recipe = script["Recipe"](images=32, epochs=1, learning_rate=1e-3, batch=16)
    state = torch.get_rng_state()
    cards = []
    for folder in (tmp_path / "one", tmp_path / "two"):
        folder.mkdir()
        cards.append(script["write"]("resnet", recipe, folder, held_out=16))
    assert torch.equal(torch.get_rng_state(), state)
    assert cards[0]["weights_sha256"] == cards[1]["weights_sha256"]
    assert cards[0] == {**json.loads((tmp_path / "one" / "resnet.json").read_text())}
    monkeypatch.setattr(loading, "weights_path", lambda name: tmp_path / "two" / f"{name}.safetensors")
    assert shapes.load_network("resnet").weights == "trained on 32 generated shapes"
    assert "epoch 1 of 1" in capsys.readouterr().out


def test_the_page_has_the_numbers_of_the_cards():
    page = (ROOT / "docs" / "shapes.md").read_text()
    cards = {name: shapes.card(name) for name in shapes.NETWORKS}
    for view in cards["resnet"]["accuracy"]:
        row = " | ".join(f"{cards[name]['accuracy'][view]:.1%}".replace("%", " %") for name in cards)
        assert f"| {view} | {row} |" in page
    for name, card in cards.items():
        assert re.search(rf"`shapes_{name}` .*\| {card['parameters']:,} \|", page)
