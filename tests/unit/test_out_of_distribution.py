"""How far images get from real ones: closed forms, the published formula in NumPy, and who does not count as a neighbour."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

import counterpoint as cp
from counterpoint.data.photographs import find_photographs
from counterpoint.errors import (
    InputError,
    LayerError,
    ModelError,
    NotFiniteError,
    ShapeError,
    UnknownNameError,
)
from counterpoint.metrics import Bank, neighbours, out_of_distribution, trade_off
from counterpoint.protocols import Baseline
from networks import SmallNet, random_images

BLACK = cp.baselines.Black()


class MeanColour(nn.Module):
    """Features are the mean of each channel, so that they can be worked out by hand."""

    def __init__(self, channels=2, classes=3):
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flat = nn.Flatten()
        self.head = nn.Linear(channels, classes)
        generator = torch.Generator().manual_seed(3)
        with torch.no_grad():
            self.head.weight.copy_(torch.randn(classes, channels, generator=generator))
            self.head.bias.copy_(torch.randn(classes, generator=generator))
        self.double().eval()

    def forward(self, x):
        return self.head(self.flat(self.pool(x)))


@dataclass(frozen=True)
class Same(Baseline):
    """The image itself: nothing is removed."""

    def __call__(self, inputs):
        return inputs


@dataclass(frozen=True)
class Halved(Baseline):
    """Only fills: removed pixels are half as bright."""

    fill_only: ClassVar[bool] = True

    def fill(self, inputs, removed):
        return (inputs / 2).where(removed.unsqueeze(1), inputs)


def plain(*colours, size=4):
    """Images of one colour each."""
    return torch.tensor(colours, dtype=torch.float64)[:, :, None, None].expand(-1, -1, size, size).clone()


def maps(seed, batch=2, size=6):
    return torch.rand(batch, size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def features_of(net, images):
    """What the last linear layer of a SmallNet reads."""
    seen = []
    handle = net.head.register_forward_hook(lambda layer, arguments, output: seen.append(arguments[0]))
    with torch.no_grad():
        net(images)
    handle.remove()
    return seen[0].numpy()


def forwards_counted(module):
    """A list to which each forward of the module adds its number of rows."""
    rows = []
    module.register_forward_hook(lambda module, arguments, output: rows.append(len(arguments[0])))
    return rows


def deletion_images(image, saliency, baseline, count):
    """The `count` most relevant pixels of one image replaced, in NumPy."""
    removed = np.argsort(-saliency.reshape(-1), kind="stable")[:count]
    perturbed = image.copy().reshape(len(image), -1)
    perturbed[:, removed] = baseline.reshape(len(image), -1)[:, removed]
    return perturbed.reshape(image.shape)


def test_distances_of_plain_colours_are_those_worked_out_by_hand():
    bank = Bank.of(MeanColour(), plain((0.0, 0.0), (0.8, 0.8), (0.0, 1.0)))
    net = cp.logit(MeanColour())
    found = out_of_distribution(
        net, plain((0.6, 0.8)), torch.rand(1, 4, 4), baseline=BLACK, bank=bank, steps=4
    )
    # The features are (1 - p) (0.6, 0.8), of length 1 - p; the nearest is (0.8, 0.8) at first, then black.
    torch.testing.assert_close(found.fractions, torch.tensor([0.0, 0.25, 0.5, 0.75]).double())
    expected = [0.2, np.hypot(0.8 - 0.45, 0.8 - 0.6), 0.5, 0.25]
    torch.testing.assert_close(found.distances, torch.tensor([expected]).double())
    torch.testing.assert_close(found.score, torch.tensor([np.mean(expected)]))
    # Among the bank's own three: black to green 1, the grey to green 0.8246..., green to the grey the same.
    real = [1.0, np.hypot(0.8, 0.2), np.hypot(0.8, 0.2)]
    torch.testing.assert_close(found.real_distances, torch.tensor(real))
    assert found.spread == pytest.approx(np.std(real, ddof=1))
    assert found.limit == pytest.approx(np.quantile(real, 0.95))
    torch.testing.assert_close(found.excess, torch.tensor([(np.mean(expected) - 0.2) / np.std(real, ddof=1)]))
    assert found.beyond.tolist() == [0.0]


@pytest.mark.parametrize("steps", [20, 7])
@pytest.mark.parametrize(("k", "normalise"), [(1, False), (3, True)])
def test_the_published_score_is_that_of_its_formula_in_numpy(steps, k, normalise):
    net, real, inputs, saliency = SmallNet(1), random_images(2, 9), random_images(3, 2), maps(4)
    bank = features_of(net, real)
    baseline = cp.baselines.Mean()(inputs).numpy()
    scale = (lambda f: f / np.linalg.norm(f, axis=-1, keepdims=True)) if normalise else (lambda f: f)
    expected = np.empty((2, steps))
    for point in range(steps):
        for i in range(2):
            count = round(point * 36 / steps)
            image = deletion_images(inputs[i].numpy(), saliency[i].numpy(), baseline[i], count)
            feature = features_of(net, torch.from_numpy(image)[None])
            expected[i, point] = np.sort(np.linalg.norm(scale(feature) - scale(bank), axis=1))[k - 1]
    found = out_of_distribution(
        cp.logit(net),
        inputs,
        saliency,
        baseline=cp.baselines.Mean(),
        bank=Bank.of(net, real),
        steps=steps,
        k=k,
        normalise=normalise,
    )
    torch.testing.assert_close(found.distances, torch.from_numpy(expected))
    torch.testing.assert_close(found.score.mean(), torch.tensor(expected.mean(1).mean()))


def test_excess_and_share_beyond_follow_the_distances_of_real_images_among_themselves():
    net, real = SmallNet(1), random_images(2, 9)
    features = features_of(net, real)
    between = np.linalg.norm(features[:, None] - features[None], axis=2) + np.diag(np.full(9, np.inf))
    own = between.min(1)
    found = out_of_distribution(
        cp.logit(net), random_images(3), maps(4), baseline=BLACK, bank=Bank.of(net, real)
    )
    torch.testing.assert_close(found.real_distances, torch.from_numpy(own))
    torch.testing.assert_close(
        found.excesses, (found.distances - found.distances[:, :1]) / np.std(own, ddof=1)
    )
    beyond = (found.distances.numpy() > np.quantile(own, 0.95)).mean(1)
    torch.testing.assert_close(found.beyond, torch.from_numpy(beyond))
    assert ((0 < found.beyond) & (found.beyond < 1)).any()


def test_an_image_in_the_bank_and_all_its_crops_are_no_neighbours_of_it():
    net, image, others = SmallNet(1), random_images(3, 1), random_images(2, 6)
    without = Bank.of(net, others, crops=2, seed=5)
    # The same others with the same crops, since each image draws its own in turn.
    whole = Bank.of(net, torch.cat([others, image]), crops=2, seed=5)
    torch.testing.assert_close(whole.features[:18], without.features, rtol=0, atol=0)
    expected, found = (
        out_of_distribution(cp.logit(net), image, maps(4, 1), baseline=BLACK, bank=bank)
        for bank in (without, whole)
    )
    torch.testing.assert_close(found.distances, expected.distances)
    distances = torch.cdist(torch.from_numpy(features_of(net, image)), whole.features)
    assert distances.min() < 1e-7  # it would have been its own neighbour
    assert whole.left_out(whole.features[18:19]).nonzero()[:, 1].tolist() == [18, 19, 20]


def test_a_photograph_known_by_name_only_is_left_out_too():
    net, image, others = SmallNet(1), random_images(3, 1), random_images(2, 6)
    near = image + 0.001  # another file of the same photograph
    bank = Bank.of(net, torch.cat([others, near]), groups=[*"abcdef", "mine"])
    expected = out_of_distribution(
        cp.logit(net), image, maps(4, 1), baseline=BLACK, bank=Bank.of(net, others)
    )
    ask = dict(baseline=BLACK, bank=bank)
    unnamed = out_of_distribution(cp.logit(net), image, maps(4, 1), **ask)
    named = out_of_distribution(cp.logit(net), image, maps(4, 1), groups=["mine"], **ask)
    torch.testing.assert_close(named.distances, expected.distances)
    assert (unnamed.clean_distances < named.clean_distances).all()


def test_one_picture_under_two_names_in_the_bank_is_not_its_own_neighbour():
    net, real = SmallNet(1), random_images(2, 6)
    twice = Bank.of(net, torch.cat([real, real[:1]]))
    torch.testing.assert_close(twice.real_distances()[:6], Bank.of(net, real).real_distances())


def test_rounding_does_not_make_a_picture_its_own_neighbour():
    net, inputs = SmallNet(1).float(), random_images(3, 3).float()
    bank = Bank.of(net, torch.cat([inputs, random_images(2, 5).float()]))
    rounded = bank.features[:3] * (1 + 1e-5)
    torch.testing.assert_close(bank.left_out(rounded).nonzero(), torch.arange(3)[:, None].expand(-1, 2))
    found = out_of_distribution(cp.logit(net), inputs, maps(4, 3), baseline=BLACK, bank=bank, micro_batch=1)
    assert found.distances.dtype == torch.float32
    torch.testing.assert_close(found.clean_distances, bank.real_distances()[:3].float(), rtol=1e-4, atol=1e-5)


def test_a_folded_copy_gives_the_same_distances():
    net, inputs = (
        nn.Sequential(
            nn.Conv2d(2, 4, 3),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(4, 3),
        ),
        random_images(3, 15).float(),
    )
    net[1].running_var.fill_(0.3)
    net[1].running_mean.fill_(0.1)
    net.eval()
    bank = Bank.of(net, torch.cat([inputs, random_images(2, 245).float()]))
    plainly = Bank.of(net, torch.cat([inputs, random_images(2, 245).float()]), fold=False)
    torch.testing.assert_close(bank.features, plainly.features)
    for layer in (None, "1"):
        ask = dict(baseline=BLACK, bank=Bank.of(net, random_images(2, 9).float(), layer=layer))
        folded, unfolded = (
            out_of_distribution(cp.logit(net), inputs, maps(4, 15), fold=fold, **ask)
            for fold in (True, False)
        )
        torch.testing.assert_close(folded.distances, unfolded.distances, rtol=1e-4, atol=1e-5)


def test_distances_do_not_depend_on_how_many_entries_are_compared_at_once(monkeypatch):
    net, real = SmallNet(1), random_images(2, 11)
    ask = dict(baseline=BLACK, k=2)
    at_once = out_of_distribution(cp.logit(net), random_images(3), maps(4), bank=Bank.of(net, real), **ask)
    monkeypatch.setattr(neighbours, "_AT_ONCE", 3)
    in_parts = out_of_distribution(cp.logit(net), random_images(3), maps(4), bank=Bank.of(net, real), **ask)
    torch.testing.assert_close(in_parts.distances, at_once.distances)
    torch.testing.assert_close(in_parts.real_distances, at_once.real_distances)


def test_a_baseline_equal_to_the_image_goes_nowhere():
    net = SmallNet(1)
    found = out_of_distribution(
        cp.logit(net), random_images(3), maps(4), baseline=Same(), bank=Bank.of(net, random_images(2, 5))
    )
    torch.testing.assert_close(found.distances, found.clean_distances[:, None].expand(-1, 20))
    torch.testing.assert_close(found.excess, torch.zeros(2).double())


def test_the_last_point_is_looked_at_only_when_asked_for():
    net, inputs = SmallNet(1), random_images(3)
    ask = dict(baseline=BLACK, bank=Bank.of(net, random_images(2, 5)), steps=6)
    without = out_of_distribution(cp.logit(net), inputs, maps(4), **ask)
    found = out_of_distribution(cp.logit(net), inputs, maps(4), include_last=True, **ask)
    torch.testing.assert_close(found.distances[:, :-1], without.distances)
    black = torch.from_numpy(features_of(net, torch.zeros_like(inputs)))
    torch.testing.assert_close(found.distances[:, -1], torch.cdist(black, ask["bank"].features).amin(1))
    assert found.fractions[-1] == 1
    assert without.fractions[-1] < 1


def test_an_insertion_path_is_the_deletion_path_of_the_opposite_map_backwards():
    net, inputs = SmallNet(1), random_images(3)
    ask = dict(baseline=cp.baselines.White(), bank=Bank.of(net, random_images(2, 5)), steps=6)
    inserted = out_of_distribution(cp.logit(net), inputs, maps(4), kind="insertion", include_last=True, **ask)
    deleted = out_of_distribution(cp.logit(net), inputs, -maps(4), include_last=True, **ask)
    torch.testing.assert_close(inserted.distances, deleted.distances.flip(1))
    torch.testing.assert_close(inserted.clean_distances, deleted.distances[:, 0])
    assert out_of_distribution(cp.logit(net), inputs, maps(4), kind="insertion", **ask).fractions[-1] == 5 / 6


def test_a_baseline_that_only_fills_has_no_point_without_the_image():
    net, inputs = SmallNet(1), random_images(3)
    bank = Bank.of(net, random_images(2, 5))
    ask = dict(baseline=Halved(), bank=bank, steps=4, include_last=True)
    deleted = out_of_distribution(cp.logit(net), inputs, maps(4), **ask)
    assert deleted.fractions.tolist() == [0, 0.25, 0.5, 0.75]
    inserted = out_of_distribution(cp.logit(net), inputs, maps(4), kind="insertion", **ask)
    assert inserted.fractions.tolist() == [0.25, 0.5, 0.75, 1]
    removed = maps(4) >= maps(4).flatten(1).sort(1, descending=True).values[:, 17, None, None]
    half = Halved().fill(inputs, removed)
    expected = torch.cdist(torch.from_numpy(features_of(net, half)), bank.features).amin(1)
    torch.testing.assert_close(deleted.distances[:, 2], expected)


def test_perturbed_pixels_are_brought_into_the_images_own_range_where_asked_for():
    colours = plain((0.4, 0.5))
    colours[0, 0, 0, 0], colours[0, 0, 0, 1] = 0.3, 0.5
    bank = Bank.of(MeanColour(), plain((0.0, 0.0), (0.8, 0.8), (0.0, 1.0)))
    score = cp.logit(MeanColour())
    ask = dict(baseline=BLACK, bank=bank, include_last=True, steps=4)
    clipped, free = (
        out_of_distribution(score, colours, torch.rand(1, 4, 4), clip=clip, **ask) for clip in (True, False)
    )
    assert free.distances[0, -1] < 1e-9
    torch.testing.assert_close(clipped.distances[0, -1], torch.tensor(np.hypot(0.3, 0.3)))


def test_the_unperturbed_image_is_run_once_for_all_baselines_and_nothing_is_run_twice():
    net, inputs, steps = SmallNet(1), random_images(3), 5
    bank = Bank.of(net, random_images(2, 5))
    rows = forwards_counted(net)
    score, baselines = cp.logit(net), [BLACK, cp.baselines.White(), cp.baselines.Mean()]
    out_of_distribution(score, inputs, maps(4), baseline=BLACK, bank=bank, steps=steps)
    assert sum(rows) == 2 * (1 + steps)
    rows.clear()
    cp.metrics.information_removed(score, inputs, maps(4), baseline=BLACK, bank=bank, steps=steps)
    assert sum(rows) == 2 * (1 + steps)
    rows.clear()
    trade_off(score, inputs, maps(4), baselines=baselines, bank=bank, steps=steps)
    assert sum(rows) == 2 * (2 + 3 * (steps - 1))
    rows.clear()
    trade_off(score, inputs, maps(4), baselines=baselines, bank=bank, steps=steps, kind="insertion")
    assert sum(rows) == 2 * (2 + 3 * steps)


def test_both_scores_together_are_those_one_by_one():
    net, inputs, saliency = SmallNet(1), random_images(3), maps(4)
    bank = Bank.of(net, random_images(2, 5))
    baselines = [BLACK, cp.baselines.Uniform(), Halved()]
    for baseline, both in zip(
        baselines, trade_off(cp.logit(net), inputs, saliency, baselines=baselines, bank=bank), strict=True
    ):
        assert both.baseline == baseline
        far = out_of_distribution(cp.logit(net), inputs, saliency, baseline=baseline, bank=bank)
        gone = cp.metrics.information_removed(cp.logit(net), inputs, saliency, baseline=baseline, bank=bank)
        torch.testing.assert_close(both.out_of_distribution.distances, far.distances)
        torch.testing.assert_close(both.out_of_distribution.excess, far.excess)
        for name in ("sigmoid_sums", "confidences_lost", "entropies", "negative_divergences"):
            torch.testing.assert_close(getattr(both.information_removed, name), getattr(gone, name))


def test_an_image_alone_gives_the_numbers_that_it_gives_in_company():
    net, inputs, saliency = SmallNet(1), random_images(3, 3), maps(4, 3).round(decimals=1)  # with ties
    ask = dict(baseline=cp.baselines.Uniform(), bank=Bank.of(net, random_images(2, 5)))
    together = out_of_distribution(cp.logit(net), inputs, saliency, micro_batch=4, **ask)
    for i in range(3):
        alone = out_of_distribution(cp.logit(net), inputs[i : i + 1], saliency[i : i + 1], **ask)
        torch.testing.assert_close(alone.distances[0], together.distances[i])


def test_perturbed_images_are_made_a_few_at_a_time():
    net = SmallNet(1)
    bank = Bank.of(net, random_images(2, 5))
    rows = forwards_counted(net)
    inputs = random_images(3, 7)
    ask = dict(baselines=[BLACK, Halved()], bank=bank)
    few = trade_off(cp.logit(net), inputs, maps(4, 7), micro_batch=3, **ask)
    assert max(rows[1:]) == 3  # the first settles the classes
    many = trade_off(cp.logit(net), inputs, maps(4, 7), **ask)
    for one, other in zip(few, many, strict=True):
        torch.testing.assert_close(one.out_of_distribution.distances, other.out_of_distribution.distances)


def test_a_map_without_an_order_is_all_ties_and_the_seed_decides():
    net, flat = SmallNet(1), torch.zeros(2, 6, 6)
    ask = dict(baseline=BLACK, bank=Bank.of(net, random_images(2, 5)))
    one, same, other = (
        out_of_distribution(cp.logit(net), random_images(3), flat, seed=seed, **ask) for seed in (0, 0, 1)
    )
    assert one.tied.tolist() == [1, 1]
    torch.testing.assert_close(one.distances, same.distances)
    assert (one.distances != other.distances).any()


def test_the_model_is_left_as_it_came_also_after_an_exception():
    net = SmallNet(1)
    bank = Bank.of(net, random_images(2, 5))

    @dataclass(frozen=True)
    class Broken(Baseline):
        fill_only: ClassVar[bool] = True

        def fill(self, inputs, removed):
            if removed.sum() > 30:
                raise RuntimeError("no more")
            return inputs

    with pytest.raises(RuntimeError, match="no more"):
        out_of_distribution(cp.logit(net), random_images(3), maps(4), baseline=Broken(), bank=bank)
    assert not any(part._forward_hooks for part in net.modules())
    found = out_of_distribution(cp.logit(net), random_images(3), maps(4), baseline=BLACK, bank=bank)
    assert not found.distances.is_inference()
    assert all(parameter.grad is None and parameter.requires_grad for parameter in net.parameters())


# The bank


def test_a_bank_comes_back_from_its_file_as_it_was(tmp_path):
    net = SmallNet(1)
    bank = Bank.of(net, random_images(2, 4), crops=1, seed=9, groups=["a", "b", 7, "d"])
    path = bank.save(tmp_path / "bank.safetensors")
    again = Bank.load(path)
    assert [each.name for each in tmp_path.iterdir()] == ["bank.safetensors"]
    for name in ("features", "is_crop", "mean_prediction"):
        torch.testing.assert_close(getattr(again, name), getattr(bank, name), rtol=0, atol=0)
    for name in ("groups", "model", "layer", "side", "crops", "seed", "fingerprint"):
        assert getattr(again, name) == getattr(bank, name)
    assert again.groups == ("a", "a", "b", "b", "7", "7", "d", "d")
    assert repr(again).startswith("Bank(8 features of 4 photographs, input of 'head', ")
    out_of_distribution(cp.logit(net), random_images(3), maps(4), baseline=BLACK, bank=again)


def test_a_file_that_is_no_bank_is_refused(tmp_path):
    (tmp_path / "cut.safetensors").write_bytes(b"\0" * 20)
    with pytest.raises(InputError, match=r"cannot read bank .*cut\.safetensors"):
        Bank.load(tmp_path / "cut.safetensors")
    with pytest.raises(InputError, match=r"cannot read bank .*gone"):
        Bank.load(tmp_path / "gone.safetensors")
    from safetensors.torch import save_file

    save_file({"features": torch.zeros(2, 2)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="not a bank: its format must be counterpoint-bank-1, got None"):
        Bank.load(tmp_path / "other.safetensors")


def test_a_bank_of_batches_is_the_bank_of_all_images_at_once():
    net, images = SmallNet(1), random_images(2, 7)
    whole = Bank.of(net, images, crops=2, seed=1)
    parts = Bank.of(net, iter(images.split(3)), crops=2, seed=1)
    torch.testing.assert_close(parts.features, whole.features)
    torch.testing.assert_close(parts.mean_prediction, whole.mean_prediction)
    assert (parts.groups, parts.is_crop.tolist()) == (whole.groups, whole.is_crop.tolist())


def test_the_mean_prediction_is_the_mean_softmax_of_the_whole_images():
    net, images = SmallNet(1), random_images(2, 7)
    expected = net(images).softmax(1).mean(0).detach()
    for crops in (0, 3):
        torch.testing.assert_close(Bank.of(net, images, crops=crops).mean_prediction, expected)


def test_crops_are_parts_of_their_image_at_its_size():
    net = MeanColour(channels=1)
    ramp = torch.linspace(0, 1, 16, dtype=torch.float64).expand(1, 1, 16, 16)
    bank = Bank.of(net, torch.cat([ramp, plain((0.3,), size=16)]), crops=20)
    means = bank.features[bank.is_crop, 0]
    assert bank.is_crop.tolist() == ([False] + [True] * 20) * 2
    torch.testing.assert_close(means[20:], torch.full((20,), 0.3).double())
    # A crop of half the width or more has its mean between 1/4 and 3/4, and they differ.
    assert 0.2 < means[:20].min() < 0.45 < 0.55 < means[:20].max() < 0.8
    assert (Bank.of(net, ramp, crops=3, seed=1).features != bank.features[:4]).any()


def test_the_layer_may_be_named_and_then_its_output_is_taken():
    net, images = SmallNet(1), random_images(2, 5)
    named = Bank.of(net, images, layer="last")
    assert (named.layer, named.side, named.features.shape) == ("last", "output", (5, 4 * 6 * 6))
    pooled = named.features.view(5, 4, 6, 6).mean((2, 3))
    torch.testing.assert_close(pooled, Bank.of(net, images).features)
    inplace = SmallNet(1, "inplace")  # what "stem" returns is changed in place afterwards
    torch.testing.assert_close(
        Bank.of(inplace, images, layer="stem").features, Bank.of(net, images, layer="stem").features
    )
    found = out_of_distribution(cp.logit(net), random_images(3), maps(4), baseline=BLACK, bank=named)
    assert found.distances.isfinite().all()
    with pytest.raises(UnknownNameError, match="unknown layer 'lost'; did you mean 'last'"):
        Bank.of(net, images, layer="lost")
    convolutional = nn.Sequential(nn.Conv2d(2, 3, 6), nn.Flatten()).double().eval()
    with pytest.raises(LayerError, match="name the layer"):
        Bank.of(convolutional, images)
    assert Bank.of(convolutional, images, layer="1").features.shape == (5, 3)


def test_a_wrapped_model_is_the_same_model_and_its_normalisation_counts():
    net, images = SmallNet(1).float(), random_images(2, 5).float()
    ask = dict(std=1.0, size=6)
    one, other = (cp.Classifier(net, mean=(m, m), **{**ask, "std": (1.0, 1.0)}) for m in (0.0, 0.5))
    bank = Bank.of(one, images)
    assert bank.layer == "head"
    bank.check_model(cp.logit(one).module)
    Bank.of(cp.logit(one), images).check_model(one.module)
    with pytest.raises(InputError, match="bank must be of the model that is scored"):
        bank.check_model(other.module)


@pytest.mark.parametrize("other", [SmallNet(2), SmallNet(1, "smooth")], ids=["weights", "structure"])
def test_a_bank_of_another_model_is_refused_before_the_path_is_run(other):
    rows = forwards_counted(other)
    bank = Bank.of(SmallNet(1), random_images(2, 5))
    with pytest.raises(InputError, match="bank must be of the model that is scored"):
        out_of_distribution(cp.logit(other), random_images(3), maps(4), baseline=BLACK, bank=bank)
    assert sum(rows) == 2
    with pytest.raises(InputError, match="bank must be of the model that is scored"):
        cp.metrics.information_removed(cp.logit(other), random_images(3), maps(4), baseline=BLACK, bank=bank)


def test_features_of_another_length_are_refused():
    bank = Bank.of(SmallNet(1), random_images(2, 5))
    with pytest.raises(ShapeError, match="features of length 4, but the image's have 3"):
        bank.left_out(torch.zeros(1, 3))


def test_too_small_banks_are_refused_with_the_reason():
    net, inputs = SmallNet(1), random_images(3)

    def ask(images, **options):
        bank = Bank.of(net, images, **options.pop("of", {}))
        return out_of_distribution(cp.logit(net), inputs, maps(4), baseline=BLACK, bank=bank, **options)

    with pytest.raises(
        InputError, match="at least 3 photographs for their distances to have a spread, got 1"
    ):
        ask(random_images(2, 1), of={"crops": 5})
    with pytest.raises(
        InputError, match=r"k must be at most .* other photographs than the image's own, 4, got 5"
    ):
        ask(random_images(2, 5), k=5)
    with pytest.raises(InputError, match="other photographs than the image's own, 3, got 4"):
        ask(torch.cat([inputs[:1], random_images(2, 3)]), k=4)
    with pytest.raises(InputError, match="k must be a whole number of at least 1, got 0"):
        ask(random_images(2, 5), k=0)
    with pytest.raises(InputError, match="must hold at least one whole image, got 0 entries"):
        Bank(
            features=torch.zeros(0, 4),
            groups=(),
            is_crop=torch.zeros(0, dtype=torch.bool),
            mean_prediction=torch.ones(1),
            model="",
            layer="head",
            side="input",
        )
    with pytest.raises(InputError, match="images must hold at least one image, got none"):
        Bank.of(net, [])


def test_real_images_that_are_all_equally_far_have_no_spread_to_measure_with():
    corners = plain((0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0))
    found = out_of_distribution(
        cp.logit(MeanColour()),
        plain((0.6, 0.8)),
        torch.rand(1, 4, 4),
        baseline=BLACK,
        bank=Bank.of(MeanColour(), corners),
        steps=4,
    )
    assert found.spread == 0
    assert found.excess.isnan().all()
    assert found.score.isfinite().all()


def test_bad_arguments_are_named(unchecked):
    net, inputs, saliency = SmallNet(1), random_images(3), maps(4)
    bank = Bank.of(net, random_images(2, 5))
    good = dict(baseline=BLACK, bank=bank)

    def ask(score=None, x=inputs, s=saliency, **options):
        return out_of_distribution(score or cp.logit(net), x, s, **{**good, **options})

    with pytest.raises(InputError, match=r"score must be of a module .* got a callable"):
        ask(score=lambda x: x.flatten(1).sum(1))
    with pytest.raises(InputError, match=r"bank must be a Bank, made by Bank.of"):
        ask(bank=bank.features)
    with pytest.raises(InputError, match=r"baseline must be one of cp.baselines"):
        ask(baseline="black")
    with pytest.raises(InputError, match="has 3 draws"):
        ask(baseline=cp.baselines.Uniform(draws=3))
    with pytest.raises(NotFiniteError, match="saliency must be finite"):
        ask(s=saliency.masked_fill(saliency > 0.9, torch.nan))
    with pytest.raises(ShapeError, match=r"saliency must have one number for each pixel .* \(2, 6, 6\)"):
        ask(s=saliency[:, :5])
    with pytest.raises(ShapeError, match="inputs must be images"):
        ask(x=inputs[0])
    for steps in (1, 2.5, True, 37):
        with pytest.raises(InputError, match="steps must be a whole number"):
            ask(steps=steps)
    with pytest.raises(UnknownNameError, match="unknown kind of path 'delete'; did you mean 'deletion'"):
        ask(kind="delete")
    with pytest.raises(UnknownNameError, match="order"):
        ask(order="size")
    with pytest.raises(InputError, match="groups must have one name for each of 2 images"):
        ask(groups=["a"])
    with pytest.raises(InputError, match="baselines must be a list"):
        trade_off(cp.logit(net), inputs, saliency, baselines=BLACK, bank=bank)
    for groups in (["a"], list("abcdefgh"), "abcde", 5):
        with pytest.raises(InputError, match="groups must"):
            Bank.of(net, random_images(2, 5), groups=groups)
    with pytest.raises(InputError, match="classifier must be a Classifier, a module or a score"):
        Bank.of("net", inputs)
    with pytest.raises(ShapeError, match="images must be"):
        Bank.of(net, inputs[:, 0])
    with pytest.raises(ModelError, match=r"must return class scores \(2, classes\)"):
        Bank.of(nn.Sequential(MeanColour(), nn.Flatten(0)), inputs)


@pytest.mark.slow
def test_on_real_weights_a_photograph_and_its_crops_are_no_neighbours_and_its_class_is_lost():
    classifier = cp.load_model("efficientnet_lite0")
    names = ("astronaut", "camera", "chelsea", "clock", "coffee", "coins", "rocket")
    images = classifier.preprocess(find_photographs([f"sample:{name}" for name in names]))
    bank = Bank.of(classifier, images, crops=2)
    assert (bank.layer, bank.side, bank.features.shape) == ("fc", "input", (21, 1280))
    assert bank.mean_prediction.sum().item() == pytest.approx(1)
    chelsea, score = images[2:3], cp.logit(classifier)
    comparison = cp.compare(score, chelsea, baseline=cp.baselines.Zero(), layer="head")
    saliency = comparison.explain(cp.methods.GradCAM())
    baselines = [cp.baselines.Blur(sigma=10), cp.baselines.Uniform()]
    blur, noise = trade_off(score, chelsea, saliency, baselines=baselines, bank=bank, steps=5)
    # Rows 6, 7 and 8 are chelsea and two crops of it.
    others = torch.cat([bank.features[:6], bank.features[9:]]).double()
    expected = (others - bank.features[6].double()).norm(dim=1).min()
    for both in (blur, noise):
        near = both.out_of_distribution.clean_distances[0].double()
        torch.testing.assert_close(near, expected, rtol=1e-5, atol=0)
        assert both.information_removed.confidences_lost[0, -1] > 0.5
        assert 15 < both.information_removed.score < 30
    torch.testing.assert_close(
        blur.out_of_distribution.distances[:, 0], noise.out_of_distribution.distances[:, 0]
    )
