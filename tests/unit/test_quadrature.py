"""Rules prove their weights, and integrate what their names promise."""

import math

import pytest

from counterpoint.errors import InputError
from counterpoint.quadrature import RULES, GaussLegendre, Left, Midpoint, Nodes, Right, Trapezoid


def integral(rule, function):
    return math.fsum(w * function(t) for t, w in zip(rule.nodes.places, rule.nodes.weights, strict=True))


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("n", [2, 3, 10, 64, 257])
def test_weights_of_every_rule_sum_to_one(name, n):
    assert math.fsum(RULES[name](n).nodes.weights) == pytest.approx(1.0, abs=1e-14)
    assert len(RULES[name](n).nodes.places) == n


@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_gauss_legendre_is_exact_to_degree_2n_minus_1(n):
    for degree in range(2 * n):
        assert integral(GaussLegendre(n), lambda t, d=degree: t**d) == pytest.approx(
            1 / (degree + 1), abs=1e-14
        )
    assert integral(GaussLegendre(n), lambda t: t ** (2 * n)) != pytest.approx(1 / (2 * n + 1), abs=1e-14)


@pytest.mark.parametrize(("rule", "order"), [(Left, 1), (Right, 1), (Midpoint, 2), (Trapezoid, 2)])
def test_uniform_rules_converge_at_their_order(rule, order):
    pieces = (16, 32)
    coarse, fine = (
        abs(integral(rule(n + 1 if rule is Trapezoid else n), math.exp) - (math.e - 1)) for n in pieces
    )
    assert coarse / fine == pytest.approx(2**order, rel=0.05)


def test_left_starts_at_the_baseline_and_right_ends_at_the_input():
    assert Left(4).nodes.places == (0.0, 0.25, 0.5, 0.75)
    assert Right(4).nodes.places == (0.25, 0.5, 0.75, 1.0)


@pytest.mark.parametrize(
    ("places", "weights", "words"),
    [
        ((0.0, 1.0), (0.5, 0.6), "must sum to 1, got 1.1"),
        ((0.0, 1.5), (0.5, 0.5), "must lie in"),
        ((0.0,), (0.5, 0.5), "a weight for each node"),
        ((), (), "a weight for each node"),
        ((0.5,), (math.nan,), "must sum to 1"),
    ],
)
def test_a_rule_that_is_none_cannot_be_built(places, weights, words):
    with pytest.raises(InputError, match=words):
        Nodes(places, weights)


@pytest.mark.parametrize(("name", "least"), [("trapezoid", 2), ("midpoint", 1), ("gauss_legendre", 1)])
def test_too_few_nodes_are_refused(name, least):
    with pytest.raises(InputError, match=f"n must be at least {least}"):
        RULES[name](least - 1)
