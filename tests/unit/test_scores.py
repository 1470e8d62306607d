"""What is read out of a classifier, and what is refused."""

import math

import pytest
import torch
from torch import nn

import counterpoint as cp
from counterpoint.errors import InputError, ModelError, NotFiniteError, UnknownNameError
from counterpoint.scores import as_score


class Table(nn.Module):
    """Returns its input as logits, so that scores are known."""

    labels = ("cat", "dog", "Crane", "crane")

    def forward(self, x):
        return x


@pytest.fixture
def logits():
    return torch.tensor([[1.0, 3.0, -2.0, 0.5], [2.0, 1.0, 0.0, -1.0]], dtype=torch.float64)


def read(score, logits):
    bound = score.bind(logits)
    return bound(logits, torch.arange(len(logits)))


def test_top1_is_settled_at_the_clean_input(logits):
    bound = cp.logit(Table()).bind(logits)
    assert bound.classes.tolist() == [1, 0]
    assert bound.labels == ("dog", "cat")
    torch.testing.assert_close(bound.at_inputs, torch.tensor([3.0, 2.0], dtype=torch.float64))
    # Another point is read at the class of its image, not at its own best.
    points = torch.tensor([[9.0, 0.0, 0.0, 0.0]] * 3, dtype=torch.float64)
    assert bound(points, torch.tensor([0, 1, 0])).tolist() == [0.0, 9.0, 0.0]


def test_each_score_is_its_formula(logits):
    p = logits.softmax(1)
    torch.testing.assert_close(read(cp.probability(Table(), 2), logits), p[:, 2])
    torch.testing.assert_close(read(cp.log_probability(Table(), 2), logits), p[:, 2].log())
    torch.testing.assert_close(read(cp.log_odds(Table(), 2), logits), (p[:, 2] / (1 - p[:, 2])).log())
    torch.testing.assert_close(read(cp.contrast(Table(), 0, against=3), logits), logits[:, 0] - logits[:, 3])
    torch.testing.assert_close(
        read(cp.contrast(Table()), logits), torch.tensor([2.0, 1.0], dtype=torch.float64)
    )


def test_scores_stay_finite_for_huge_logits():
    logits = torch.tensor([[300.0, 0.0, -300.0]])
    assert read(cp.log_probability(nn.Identity(), 2), logits).item() == pytest.approx(-600.0)
    assert read(cp.log_odds(nn.Identity(), 0), logits).item() == pytest.approx(300.0)
    assert read(cp.probability(nn.Identity(), 2), logits).item() == 0.0


def test_a_log_probability_keeps_the_digits_that_a_difference_of_huge_logits_loses():
    logits = torch.tensor([[300.0, 295.0]])
    expected = -math.log1p(math.exp(-5))
    assert read(cp.log_probability(nn.Identity(), 0), logits).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    "target", [[1, 0], ["dog", "cat"], torch.tensor([1, 0]), ("top1", "CAT"), [1, "cat"]]
)
def test_one_target_for_each_image(logits, target):
    assert cp.logit(Table(), target).bind(logits).classes.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("target", "error", "words"),
    [
        (4, InputError, "target must be a class from 0 to 3, got 4"),
        (-1, InputError, "target must be a class from 0 to 3, got -1"),
        ("dgo", UnknownNameError, "did you mean 'dog'"),
        ("crane", InputError, r"several classes, \[2, 3\]"),
        ([0, 1, 2], InputError, "one for each of 2 images, got 3"),
        (1.5, InputError, "must be a class index, a label or 'top1', got 1.5"),
        (True, InputError, "got True"),
        (torch.ones(2), InputError, "whole numbers"),
    ],
)
def test_a_wrong_target_is_named(logits, target, error, words):
    with pytest.raises(error, match=words):
        cp.logit(Table(), target).bind(logits)


def test_a_label_needs_labels(logits):
    with pytest.raises(UnknownNameError, match="the model has none"):
        cp.logit(nn.Identity(), "cat").bind(logits)


def test_against_must_be_another_class(logits):
    with pytest.raises(InputError, match="another class"):
        cp.contrast(Table(), 1, against=1).bind(logits)


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (lambda x: (x, x), r"a tuple of 2: a tensor \(2, 4\)"),
        (lambda x: {"logits": x}, "a dict with logits"),
        (lambda x: x[0], r"a tensor \(4,\)"),
        (lambda x: x.flatten(), r"a tensor \(8,\)"),
        (lambda x: x[None], r"a tensor \(1, 2, 4\)"),
        (lambda x: None, "a NoneType"),
        (lambda x: x.long(), "real floating-point"),
    ],
)
def test_a_model_that_returns_something_else_is_told_so(logits, output, words):
    class Odd(nn.Module):
        def forward(self, x):
            return output(x)

    with pytest.raises(ModelError, match=words):
        cp.logit(Odd()).bind(logits)


def test_a_model_that_returns_nan_is_told_for_which_images(logits):
    class Root(nn.Module):
        def forward(self, x):
            return x.sqrt()

    with pytest.raises(NotFiniteError, match=r"images \[0, 1\]"):
        cp.logit(Root()).bind(logits)
    with pytest.raises(NotFiniteError, match="inputs must be finite, but 1 of 8"):
        cp.logit(Table()).bind(
            logits.index_fill(1, torch.tensor([0]), 1).masked_fill(logits == 3.0, torch.nan)
        )


def test_bfloat16_outputs_are_read_in_float32(logits):
    assert read(cp.logit(Table()), logits.bfloat16()).dtype == torch.float32


def test_a_callable_is_a_score_and_must_return_one_number_a_row(logits):
    bound = as_score(lambda x: x.sum(1)).bind(logits)
    torch.testing.assert_close(bound(logits, torch.arange(2)), logits.sum(1))
    with pytest.raises(
        ModelError, match=r"one number per row, \(2,\), but returned a tensor \(2, 4\); for a classifier"
    ):
        as_score(Table()).bind(logits)(logits, torch.arange(2))
    with pytest.raises(InputError, match="got str"):
        as_score("logit")
    with pytest.raises(InputError, match=r"must be a torch\.nn\.Module or a Classifier, got function"):
        cp.logit(lambda x: x)


def test_labels_must_name_every_class(logits):
    class Short(Table):
        labels = ("cat", "dog")

    with pytest.raises(ModelError, match="labels must name each of the model's 4 classes, but there are 2"):
        cp.logit(Short()).bind(logits)
