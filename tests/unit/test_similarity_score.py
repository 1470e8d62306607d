"""Likeness to a reference: what is held against what, and what is refused."""

import pytest
import torch
from torch import nn

import counterpoint as cp
from counterpoint.errors import InputError, NotFiniteError, ShapeError
from networks import random_images

BLACK = cp.baselines.Black()


def embedder(seed=0, size=5):
    generator = torch.Generator().manual_seed(seed)
    net = nn.Sequential(nn.Flatten(), nn.Linear(72, size)).double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return net


def test_images_are_embedded_once_and_held_against_by_cosine_or_product():
    net, images, reference = embedder(), random_images(0), random_images(1)
    one, other = net(images).detach(), net(reference).detach()
    lengths = one.norm(dim=1) * other.norm(dim=1)
    torch.testing.assert_close(
        cp.similarity(net, reference).bind(images).at_inputs, (one * other).sum(1) / lengths
    )
    bound = cp.similarity(net, reference, kind="dot").bind(images)
    torch.testing.assert_close(bound.at_inputs, (one * other).sum(1))
    torch.testing.assert_close(bound(images[:1], torch.tensor([1]))[0], one[0] @ other[1])
    assert bound.kind == "dot_similarity"


def test_one_reference_serves_all_and_an_embedding_is_one_as_it_is():
    net, images = embedder(), random_images(0)
    reference = random_images(1, batch=1)
    expected = cp.similarity(net, reference).bind(images).at_inputs
    embedding = net(reference).detach()
    for given in (embedding, embedding[0], embedding.expand(2, -1)):
        torch.testing.assert_close(cp.similarity(net, given).bind(images).at_inputs, expected)


def test_a_dot_product_of_linear_embeddings_is_explained_exactly_in_both_directions():
    net, images, reference = embedder(), random_images(0, 1), random_images(1, 1)
    ask = cp.methods.IntegratedGradients()
    there = cp.compare(cp.similarity(net, reference, kind="dot"), images, baseline=BLACK).explain(ask)
    back = cp.compare(cp.similarity(net, images, kind="dot"), reference, baseline=BLACK).explain(ask)
    weight = net[1].weight.detach()
    expected = (images.flatten(1) * (net(reference).detach() @ weight)).view_as(images)
    torch.testing.assert_close(there.values, expected)
    # One likeness, explained once on each side.
    torch.testing.assert_close(there.score, back.score)
    assert (there.values - back.values).abs().max() > 0.1


def test_the_gradient_of_the_cosine_is_that_of_its_formula():
    net, images, reference = embedder(), random_images(0, 1), random_images(1, 1)
    comparison = cp.compare(cp.similarity(net, reference), images, baseline=BLACK)
    point = images.clone().requires_grad_()
    one, other = net(point), net(reference).detach()
    (expected,) = torch.autograd.grad((one @ other.T / one.norm() / other.norm()).sum(), point)
    torch.testing.assert_close(comparison.gradients(images), expected)


@pytest.mark.parametrize(
    ("reference", "error", "words"),
    [
        (torch.rand(3, 2, 6, 6).double(), ShapeError, "one for each of 2 inputs, got 3"),
        (
            torch.rand(1, 3, 6, 6).double(),
            ShapeError,
            r"images \(references, 2, 6, 6\) like the inputs, or embeddings",
        ),
        (torch.rand(2, 4), ShapeError, r"embeddings \(references, 5\), got \(2, 4\)"),
        (torch.zeros(5), NotFiniteError, r"those of reference \[0\] are 0; use kind='dot'"),
        (torch.ones(5).int(), InputError, "reference must be real floating-point numbers"),
        (torch.full((5,), torch.nan), NotFiniteError, "reference must be finite"),
        ("cat.jpg", InputError, "reference must be a torch.Tensor, got str"),
    ],
)
def test_a_wrong_reference_is_named(reference, error, words, unchecked):
    with pytest.raises(error, match=words):
        cp.similarity(embedder(), reference).bind(random_images(0))


def test_an_unknown_kind_is_named():
    with pytest.raises(InputError, match="kind must be 'cosine' or 'dot', got 'l2'"):
        cp.similarity(embedder(), torch.ones(5), kind="l2")
