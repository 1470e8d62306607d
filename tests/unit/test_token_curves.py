"""Patches taken out of the sequence: where, against the same network run by hand on fewer tokens, and what is refused."""

import pytest
import torch
from torch import nn

import counterpoint as cp
from counterpoint.data.shapes import generate, load_network
from counterpoint.errors import InputError, LayerError, NotFiniteError, ShapeError, UnknownNameError
from counterpoint.metrics import token_deletion_curve, token_insertion_curve
from counterpoint.metrics.token_dropping import find_token_place
from networks import SmallNet, TinyViT, random_images

every_form = pytest.mark.parametrize("attention", TinyViT.ATTENTION)


def by_hand(net, image, kept):
    """Class 1 of a TinyViT that has these patches alone, from its parts."""
    with torch.no_grad():
        tokens = net.patches(image[None]).flatten(2).transpose(1, 2)
        if net.class_token is not None:
            tokens = torch.cat([net.class_token, tokens], 1)
        tokens = tokens + net.position
        first = int(net.class_token is not None)
        tokens = tokens[:, [*range(first), *(first + k for k in sorted(kept))]]
        tokens = net.norm(net.blocks(tokens))
        return net.head(tokens.mean(1) if net.class_token is None else tokens[:, 0])[0, 1]


def random_map(seed, *shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@every_form
@pytest.mark.parametrize("class_token", [True, False], ids=["class token", "mean"])
def test_scores_are_those_of_the_network_on_fewer_tokens(attention, class_token):
    net, x, saliency = (
        TinyViT(3, attention, class_token=class_token),
        random_images(1),
        random_map(2, 2, 3, 3),
    )
    deleted = token_deletion_curve(cp.logit(net, 1), x, saliency)
    inserted = token_insertion_curve(cp.logit(net, 1), x, saliency)
    # Without a class token there is no score for no patch at all: it would be the mean over nothing.
    counts = list(range(10 if class_token else 9))
    torch.testing.assert_close(deleted.fractions, torch.tensor(counts).double() / 9)
    torch.testing.assert_close(inserted.fractions, 1 - deleted.fractions.flip(0))
    for i in range(2):
        order = saliency[i].flatten().argsort(descending=True).tolist()
        for k, count in enumerate(counts):
            torch.testing.assert_close(deleted.scores[i, k], by_hand(net, x[i], order[count:]))
            torch.testing.assert_close(inserted.scores[i, -1 - k], by_hand(net, x[i], order[: 9 - count]))
    assert deleted.baseline is None
    assert deleted.tied.tolist() == [0, 0]
    torch.testing.assert_close(deleted.scores[:, 0], net(x)[:, 1].detach())
    assert deleted.area.shape == (2,)


def test_pixels_are_summed_over_their_patch_and_fewer_steps_are_taken_as_asked():
    net, x, pixels = TinyViT(3), random_images(1), random_map(2, 2, 6, 6)
    sums = pixels.unflatten(2, (3, 2)).unflatten(1, (3, 2)).sum((2, 4))
    score = cp.logit(net, 1)
    coarse, whole = token_deletion_curve(score, x, pixels, steps=4), token_deletion_curve(score, x, sums)
    counts = [0, 2, 4, 7, 9]
    torch.testing.assert_close(coarse.fractions, torch.tensor(counts).double() / 9)
    torch.testing.assert_close(coarse.scores, whole.scores[:, counts])


def test_maps_of_rollout_and_of_token_layers_are_taken_as_they_are():
    net, x = TinyViT(3), random_images(1)
    comparison = cp.compare(cp.logit(net, 1), x, baseline=cp.baselines.Mean())
    rollout = comparison.explain(cp.methods.AttentionRollout())
    score = cp.logit(net, 1)
    torch.testing.assert_close(
        token_deletion_curve(score, x, rollout).scores,
        token_deletion_curve(score, x, rollout.extras["tokens"]).scores,
    )
    at_tokens = comparison.at("blocks.0").explain(cp.methods.Taylor())
    torch.testing.assert_close(
        token_deletion_curve(score, x, at_tokens).scores,
        token_deletion_curve(score, x, at_tokens.values[:, 1:].sum(2).view(2, 3, 3)).scores,
    )


def test_ties_are_broken_by_the_seed_and_the_order_may_be_by_size():
    net, x = TinyViT(3), random_images(1)
    score, flat = cp.logit(net, 1), torch.zeros(2, 3, 3)
    one, same, other = (token_deletion_curve(score, x, flat, seed=seed) for seed in (0, 0, 1))
    assert one.tied.tolist() == [1, 1]
    assert torch.equal(one.scores, same.scores)
    assert not torch.equal(one.scores, other.scores)
    signed = random_map(1, 2, 3, 3) - 0.5
    torch.testing.assert_close(
        token_deletion_curve(score, x, signed, order="absolute").scores,
        token_deletion_curve(score, x, signed.abs()).scores,
    )


def test_images_go_through_in_micro_batches():
    net, x, saliency = TinyViT(3), random_images(1, batch=3), random_map(2, 3, 3, 3)
    score = cp.logit(net, 1)
    torch.testing.assert_close(
        token_deletion_curve(score, x, saliency, micro_batch=1).scores,
        token_deletion_curve(score, x, saliency).scores,
    )


@every_form
def test_the_place_is_the_first_after_the_positions_and_exchanging_patches_there_changes_nothing(attention):
    net, x = TinyViT(5, attention), random_images(2)
    bound = cp.logit(net, 0).bind(x)
    place = find_token_place(bound, x)
    assert (place.name, place.at, place.grid.before, place.tokens) == ("blocks", "input", 1, 9)
    exchanged = torch.stack([torch.randperm(9, generator=torch.Generator().manual_seed(i)) for i in range(2)])
    with torch.no_grad(), place.keeping(exchanged):
        torch.testing.assert_close(bound(x, torch.arange(2)), bound.at_inputs)


def test_the_place_in_the_network_of_shapes():
    classifier = load_network("vit")
    images = generate(2, seed=5).images
    place = find_token_place(cp.logit(classifier).bind(images), images)
    assert (place.name, place.at, place.grid.before, place.grid.rows) == ("embedding", "output", 1, 8)


def test_the_object_is_what_the_network_of_shapes_misses():
    classifier, batch = load_network("vit"), generate(8, seed=5)
    score = cp.probability(classifier, batch.labels)
    evidence = batch.evidence.float()
    for curve, better in ((token_insertion_curve, 1), (token_deletion_curve, -1)):
        gain = better * (
            curve(score, batch.images, evidence, steps=8).area
            - curve(score, batch.images, -evidence, steps=8).area
        )
        assert gain.mean() > 0.2


class Counting(nn.Module):
    """A TinyViT whose part does not take just any sequence."""

    def __init__(self, between):
        super().__init__()
        self.net, self.between = TinyViT(3), between
        self.net.blocks[1] = nn.Sequential(between, self.net.blocks[1])

    def forward(self, x):
        return self.net(x)


class Lambda(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def knows_places(tokens):
    numbers = torch.arange(tokens.shape[1] * tokens.shape[2]).view(1, *tokens.shape[1:])
    return tokens + numbers.double().sin()


def takes_ten(tokens):
    if tokens.shape[1] != 10:
        raise ValueError("made for 10 tokens\nand no others")
    return tokens


REFUSED = {
    r"at the input of 'net.blocks', the input of 'net.blocks.0' and \d more places the answer changes when they": knows_places,
    r"the model does not take fewer of them \(made for 10 tokens\)": takes_ten,
    "fewer of them make the score infinite": lambda tokens: tokens / (tokens.shape[1] == 10),
}


@pytest.mark.parametrize("message", REFUSED)
def test_networks_that_know_places_or_counts_are_refused_and_left_as_they_came(message):
    net = Counting(Lambda(REFUSED[message]))
    with pytest.raises(LayerError, match=f"patches cannot be taken out: .*{message}.*remove pixels instead"):
        token_deletion_curve(cp.logit(net, 0), random_images(0), torch.rand(2, 6, 6))
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in net.modules())


class InWindows(nn.Module):
    """Attention in windows of 3 x 3 of 6 x 6 pixels, channels last, as in a Swin."""

    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Conv2d(2, 4, 1).double(), nn.Linear(4, 3).double()

    def forward(self, x):
        windows = (
            self.stem(x).unflatten(3, (2, 3)).unflatten(2, (2, 3)).permute(0, 2, 4, 3, 5, 1).flatten(3, 4)
        )
        mixed = (windows @ windows.transpose(-1, -2)).softmax(-1) @ windows
        return self.head(mixed.mean((1, 2, 3)))


def test_networks_without_attention_or_without_a_sequence_are_refused():
    x, saliency = random_images(0), torch.rand(2, 6, 6)
    with pytest.raises(LayerError, match="the model has no attention"):
        token_deletion_curve(cp.logit(SmallNet(0), 0), x, saliency)
    with pytest.raises(LayerError, match="no layer is handed, or returns, tokens"):
        token_deletion_curve(cp.logit(InWindows(), 0), x, saliency)
    with pytest.raises(InputError, match="score must know its module"):
        token_deletion_curve(lambda x: x.flatten(1).sum(1), x, saliency)


def test_a_layer_that_runs_again_is_passed_over():
    class Twice(TinyViT):
        """The same module before and after its blocks."""

        def __init__(self):
            super().__init__(3)
            self.same = nn.Identity()

        def forward(self, x):
            tokens = torch.cat(
                [self.class_token.expand(len(x), -1, -1), self.patches(x).flatten(2).transpose(1, 2)], 1
            )
            return self.head(self.norm(self.same(self.blocks(self.same(tokens + self.position))))[:, 0])

    x = random_images(0)
    place = find_token_place(cp.logit(Twice(), 0).bind(x), x)
    assert (place.name, place.at) == ("blocks", "input")


def test_nothing_is_left_on_the_model_also_after_an_exception():
    net, x = TinyViT(0), random_images(0)
    place = find_token_place(cp.logit(net, 0).bind(x), x)
    with pytest.raises(KeyError), place.keeping(torch.zeros(2, 1, dtype=torch.int64)):
        raise KeyError
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in net.modules())


def test_arguments_are_checked(unchecked):
    score, x = cp.logit(TinyViT(0), 0), random_images(0)
    with pytest.raises(
        ShapeError, match=r"saliency must have one number for each pixel of inputs, \(2, 6, 6\)"
    ):
        token_deletion_curve(score, x, torch.rand(2, 4, 4))
    with pytest.raises(NotFiniteError, match="saliency must be finite"):
        token_deletion_curve(score, x, torch.full((2, 3, 3), torch.nan))
    with pytest.raises(InputError, match="steps must be a whole number of at least 1, got 0"):
        token_deletion_curve(score, x, torch.rand(2, 6, 6), steps=0)
    with pytest.raises(UnknownNameError, match="unknown order"):
        token_insertion_curve(score, x, torch.rand(2, 6, 6), order="up")
