"""Maps that do and do not depend on weights and classes, what happens to the model, and closed forms of similarity."""

import numpy as np
import pytest
import torch
from scipy.stats import entropy, spearmanr
from skimage.metrics import structural_similarity
from torch import nn

import counterpoint as cp
from counterpoint import metrics
from counterpoint.errors import InputError, NotFiniteError, ShapeError, UnknownNameError
from networks import SmallNet, random_images

GREY = cp.baselines.Grey()


def gradient(module, images):
    """Signed, and of a class that does not change with the weights."""
    attribution = cp.compare(cp.logit(module, 1), images, baseline=GREY).explain(cp.methods.Gradient())
    return attribution.heatmap()


def edges(module, images):
    return images.sum(1).diff(dim=2, append=images.sum(1)[:, :, :1])


def images(size=9):
    return random_images(4, size=size)


@pytest.mark.parametrize("cascade", ["top_down", "bottom_up", "independent"])
@pytest.mark.parametrize("how", ["initialise", "shuffle"])
def test_a_map_of_the_image_alone_stays_and_a_gradient_does_not(cascade, how):
    for explain, stays in ((edges, True), (gradient, False)):
        found = metrics.randomised_weights(SmallNet(0, "smooth"), explain, images(), cascade=cascade, how=how)
        for numbers in (found.similarity.spearman, found.similarity.ssim):
            assert numbers.shape == (3, 2)
            if stays:
                torch.testing.assert_close(numbers, torch.ones_like(numbers))
            else:
                assert numbers[-1].max() < 0.9


def test_layers_go_from_the_last_that_runs_to_the_first_and_back():
    class Backwards(nn.Module):
        """Registered in another order than it runs in."""

        def __init__(self):
            super().__init__()
            self.last, self.first = nn.Linear(8, 3), nn.Conv2d(2, 8, 3)
            self.double().eval()

        def forward(self, x):
            return self.last(self.first(x).mean((2, 3)))

    net = Backwards()
    run = lambda **options: metrics.randomised_weights(net, gradient, images(), **options)  # noqa: E731
    assert run().layers == ("last", "first")
    assert run(cascade="bottom_up").layers == ("first", "last")
    assert run(cascade="independent").layers == ("last", "first")
    assert run(layers=["first"]).layers == ("first",)
    assert metrics.randomised_weights(SmallNet(0), gradient, images()).layers == ("head", "body", "stem")


def test_fewer_looks_see_what_all_of_them_see_there():
    run = lambda **options: metrics.randomised_weights(SmallNet(0), gradient, images(), **options)  # noqa: E731
    every, some = run(), run(steps=2)
    assert every.points == (1, 2, 3)
    assert some.points == (2, 3)
    assert some.layers == every.layers
    torch.testing.assert_close(some.similarity.spearman, every.similarity.spearman[1:])
    torch.testing.assert_close(some.entropy, every.entropy[[0, 2, 3]])
    assert run(steps=99).points == every.points
    assert run(cascade="together").points == (3,)
    with pytest.raises(InputError, match="steps"):
        run(steps=0)


def test_a_cascade_keeps_layers_random_and_independent_does_not():
    seen = []

    def explain(module, images):
        seen.append({name: p.clone() for name, p in module.named_parameters()})
        return gradient(module, images)

    def changed(before, after):
        return {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}

    metrics.randomised_weights(SmallNet(0), explain, images())
    first = seen[0]
    assert [changed(first, each) for each in seen] == [
        set(),
        {"head"},
        {"head", "body"},
        {"head", "body", "stem"},
    ]
    seen.clear()
    metrics.randomised_weights(SmallNet(0), explain, images(), cascade="independent")
    assert [changed(first, each) for each in seen] == [set(), {"head"}, {"body"}, {"stem"}]
    seen.clear()
    metrics.randomised_weights(SmallNet(0), explain, images(), how="shuffle")
    for name, weights in seen[-1].items():
        torch.testing.assert_close(weights.flatten().sort().values, first[name].flatten().sort().values)
    assert changed(first, seen[-1]) == {"head", "body", "stem"}


def test_layers_of_one_shape_get_different_weights():
    net = nn.Sequential(*[nn.Conv2d(2, 2, 3, padding=1) for _ in range(2)], nn.Flatten(), nn.Linear(162, 3))
    seen = []

    def explain(module, images):
        seen[:] = [module[0].weight.clone(), module[1].weight.clone()]
        return gradient(module, images)

    metrics.randomised_weights(net.double().eval(), explain, images())
    assert not torch.isclose(*seen).any()


def test_the_model_and_the_global_generator_stay_as_they_were():
    net, state = SmallNet(0), torch.get_rng_state()
    before = {name: p.clone() for name, p in net.state_dict().items()}

    def broken(module, images):
        assert module is not net
        if not torch.equal(module.head.weight, before["head.weight"]):
            raise RuntimeError("on the way")
        return gradient(module, images)

    for how in ("initialise", "shuffle"):
        with pytest.raises(RuntimeError, match="on the way"):
            metrics.randomised_weights(net, broken, images(), how=how)
        metrics.randomised_weights(net, gradient, images(), how=how)
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name])
    assert all(p.requires_grad and p.grad is None for p in net.parameters())
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("how", ["initialise", "shuffle"])
def test_a_seed_means_one_result_and_another_seed_another(how):
    first, again, other = (
        metrics.randomised_weights(SmallNet(0), gradient, images(), how=how, seed=seed).similarity
        for seed in (3, 3, 4)
    )
    torch.testing.assert_close(first.spearman, again.spearman, rtol=0, atol=0)
    assert not torch.isclose(first.spearman, other.spearman).any()


def test_parameters_that_nobody_can_draw_anew_are_named():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.rand(2, 1, 1))

        def forward(self, x):
            return x * self.scale

    net = nn.Sequential(Scaled(), nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(147, 3)).double().eval()
    found = metrics.randomised_weights(net, gradient, images())
    assert (found.layers, found.untouched) == (("3", "1"), ("0.scale",))
    found = metrics.randomised_weights(net, gradient, images(), how="shuffle")
    assert (found.layers, found.untouched) == (("3", "1", "0"), ())
    with pytest.raises(
        InputError, match="layer '0' has no weights of its own, or cannot be drawn anew; how='shuffle'"
    ):
        metrics.randomised_weights(net, gradient, images(), layers=["0"])


def test_a_classifier_is_taken_by_its_module_and_layers_have_the_users_names():
    classifier = cp.Classifier(SmallNet(0, channels=3), mean=0.5, std=0.5, size=9)
    given = random_images(4, channels=3, size=9)
    found = metrics.randomised_weights(classifier, gradient, given)
    assert found.layers == ("head", "body", "stem")
    torch.testing.assert_close(
        metrics.randomised_weights(classifier.module, gradient, given).similarity.ssim, found.similarity.ssim
    )


def test_the_entropy_is_that_of_a_histogram_and_rises_from_a_simple_map():
    net = SmallNet(0, "smooth")

    def explain(module, images):
        if torch.equal(module.head.weight, net.head.weight):
            return torch.eye(9, dtype=torch.float64).expand(2, 9, 9)
        return gradient(module, images)

    found = metrics.randomised_weights(net, explain, images())
    eye = entropy([72, 9])
    torch.testing.assert_close(found.entropy[0], torch.full((2,), eye, dtype=torch.float64))
    torch.testing.assert_close(found.entropy_rise, found.entropy[-1] / eye - 1)
    assert (found.entropy_rise > 1).all()
    alone = metrics.randomised_weights(net, explain, images(), cascade="independent")
    assert alone.entropy_rise.isnan().all()


def test_a_map_that_becomes_constant_has_no_correlation():
    def explain(module, images):
        dead = module.head.weight.abs().max() < 0.55  # PyTorch's own are at most 1 / sqrt(4)
        return images.sum(1) * (0.0 if dead else 1.0)

    found = metrics.randomised_weights(SmallNet(0), explain, images()).similarity
    assert found.spearman.isnan().all()
    assert found.ssim.isfinite().all()


def test_a_map_of_one_class_for_all_is_found_out():
    net = SmallNet(0, "smooth")

    def of_class(images, classes):
        question = cp.compare(cp.logit(net, classes), images, baseline=GREY)
        return question.explain(cp.methods.Gradient())

    target = torch.tensor([0, 2])
    found = metrics.random_logit(of_class, images(), target, classes=3, seed=1)
    step = (found.other - target) % 3
    assert step[0] == step[1] != 0
    expected = metrics.map_similarity(of_class(images(), target), of_class(images(), found.other))
    torch.testing.assert_close(found.similarity.spearman, expected.spearman)
    assert found.similarity.spearman.max() < 0.99
    same = metrics.random_logit(lambda x, classes: edges(None, x), images(), 1, classes=3)
    torch.testing.assert_close(same.similarity.spearman, torch.ones(2, dtype=torch.float64))


def test_every_other_class_is_reached_and_never_the_target():
    others = {
        tuple(
            metrics.random_logit(lambda x, c: edges(None, x), images(), 1, classes=4, seed=s).other.tolist()
        )
        for s in range(40)
    }
    assert others == {(0, 0), (2, 2), (3, 3)}


def test_similarities_are_scipys_and_skimages():
    generator = torch.Generator().manual_seed(0)
    one, other = torch.randn(2, 3, 12, 15, generator=generator, dtype=torch.float64)
    other = 0.5 * one + other
    one[0] = one[0].round()  # ties
    found = metrics.map_similarity(one, other)
    for i in range(3):
        a, b = one[i].numpy(), other[i].numpy()
        assert found.spearman[i].item() == pytest.approx(spearmanr(a.ravel(), b.ravel()).statistic, abs=1e-12)
        absolute = spearmanr(np.abs(a).ravel(), np.abs(b).ravel()).statistic
        assert found.absolute_spearman[i].item() == pytest.approx(absolute, abs=1e-12)
        a, b = a / np.abs(a).max(), b / np.abs(b).max()
        span = max(a.max(), b.max()) - min(a.min(), b.min())
        assert found.ssim[i].item() == pytest.approx(structural_similarity(a, b, data_range=span), abs=1e-12)


def test_similarity_knows_no_scale_but_a_sign():
    saliency = random_images(0, size=9)[:, 0] - 0.3
    for scale in (1e-200, 5.0):
        found = metrics.map_similarity(saliency, scale * saliency)
        for numbers in (found.spearman, found.absolute_spearman, found.ssim):
            torch.testing.assert_close(numbers, torch.ones(2, dtype=torch.float64))
    found = metrics.map_similarity(saliency, -saliency)
    torch.testing.assert_close(found.spearman, -torch.ones(2, dtype=torch.float64))
    torch.testing.assert_close(found.absolute_spearman, torch.ones(2, dtype=torch.float64))
    assert metrics.map_similarity(saliency[:, :, :6], saliency[:, :, :6]).ssim.isnan().all()  # under 7 pixels


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"model": "net"}, InputError, "model must be a torch.nn.Module or a Classifier, got str"),
        ({"model": nn.Flatten()}, InputError, "this Flatten has no layer whose weights"),
        ({"explain": 3}, InputError, "explain must be a function"),
        ({"cascade": "sideways"}, UnknownNameError, "unknown cascade 'sideways'"),
        ({"how": "zero"}, UnknownNameError, "unknown way to randomise 'zero'"),
        ({"layers": ["heads"]}, UnknownNameError, "did you mean 'head'"),
        ({"layers": ["activation"]}, InputError, "'activation' has no weights of its own"),
        ({"layers": []}, InputError, "layers must be a list"),
        ({"layers": "head"}, InputError, "layers must be a list"),
        ({"seed": -1}, InputError, "seed must be"),
        ({"explain": lambda net, x: x}, ShapeError, "the map that explain returned must be"),
        ({"explain": lambda net, x: x[:1, 0]}, ShapeError, "one map for each of 2 images, but returned 1"),
        ({"explain": lambda net, x: x[:, 0] / 0}, NotFiniteError, "must be finite"),
    ],
)
def test_wrong_arguments_are_named(change, error, words, unchecked):
    given = dict(model=SmallNet(0), explain=gradient, inputs=images()) | change
    with pytest.raises(error, match=words):
        metrics.randomised_weights(**given)


def test_wrong_arguments_of_random_logit_are_named(unchecked):
    explain = lambda x, classes: edges(None, x)  # noqa: E731
    for target, classes, words in (
        (3, 3, "target must be classes from 0 to 2"),
        (torch.tensor([0]), 3, r"whole numbers \(2,\)"),
        (torch.tensor([0.0, 1.0]), 3, r"whole numbers \(2,\)"),
        (0, 1, "classes must be a whole number of at least 2"),
    ):
        with pytest.raises(InputError, match=words):
            metrics.random_logit(explain, images(), target, classes=classes)
