"""What is read out of a classifier, and what is refused."""

import math
import warnings
from collections import OrderedDict
from dataclasses import dataclass
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

import counterpoint as cp
from counterpoint.errors import InputError, ModelError, NotFiniteError, UnknownNameError
from counterpoint.scores import as_score
from networks import SmallNet, random_images


class Named(NamedTuple):
    first: Tensor
    second: Tensor


@dataclass
class Two:
    logits: Tensor
    hidden: tuple[Tensor, ...] | None = None
    loss: Tensor | None = None


class Returning(nn.Module):
    """Returns what a function makes of its input."""

    def __init__(self, make):
        super().__init__()
        self.make = make

    def forward(self, x):
        return self.make(x)


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
        (lambda x: (x, x), r"a tuple of 2: \(2, 4\) and \(2, 4\); say which with output=0 \(--output 0\)"),
        (
            lambda x: {"out": x, "aux": x[:, :3]},
            r"a dict with 'out' \(2, 4\) and 'aux' \(2, 3\); say which with output='out' \(--output out\)",
        ),
        (lambda x: Two(logits=x, hidden=(x, x)), r"a Two with 'logits' \(2, 4\) and 'hidden' a tuple of 2"),
        (lambda x: Named(x, x), r"a Named with 'first' \(2, 4\) and 'second' \(2, 4\)"),
        (lambda x: [[x, x]], "a list of 1: a list of 2.*wrap it in a module that returns one tensor"),
        (lambda x: {}, "an empty dict"),
        (lambda x: x[0], r"a tensor \(4,\)"),
        (lambda x: x.flatten(), r"a tensor \(8,\)"),
        (lambda x: x[None], r"a tensor \(1, 2, 4\)"),
        (lambda x: None, r"nothing \(None\)"),
        (lambda x: x.sum(1), r"a tensor \(2,\); for one number per image use cp.output_value"),
        (lambda x: x[:, :, None, None], r"a tensor \(2, 4, 1, 1\); for a map of classes use cp.region"),
        (lambda x: x.long(), "real floating-point"),
    ],
)
def test_a_model_that_returns_something_else_is_told_so(logits, output, words):
    with pytest.raises(ModelError, match=words):
        cp.logit(Returning(output)).bind(logits)


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
    with pytest.raises(
        InputError, match=r"must be a torch\.nn\.Module or a Classifier, got function; a function is a"
    ):
        cp.logit(lambda x: x)


def test_labels_must_name_every_class(logits):
    class Short(Table):
        labels = ("cat", "dog")

    with pytest.raises(ModelError, match="labels must name each of the model's 4 classes, but there are 2"):
        cp.logit(Short()).bind(logits)


@pytest.mark.parametrize(
    ("make", "which"),
    [
        (lambda x: {"out": x, "aux": -x}, "out"),
        (lambda x: OrderedDict(out=-x, aux=x), "aux"),
        (lambda x: (x, -x), 0),
        (lambda x: [-x, x], -1),
        (lambda x: Named(-x, x), "second"),
        (lambda x: Named(-x, x), 1),
        (lambda x: Two(x, (x, x)), "logits"),
        (lambda x: {"stages": [-x, x]}, lambda output: output["stages"][1]),
        (lambda x: {"out": -x, "aux": x}, 1),
        # Where there is only one tensor there is no choice.
        (lambda x: {"logits": x}, None),
        (lambda x: Two(x), None),
        (lambda x: (x,), None),
    ],
)
def test_output_picks_the_part_that_is_read(logits, make, which):
    expected = read(cp.probability(Table(), 2), logits)
    score = cp.probability(Returning(make), 2, output=which)
    bound = score.bind(logits)
    torch.testing.assert_close(bound.at_inputs, expected, rtol=0, atol=0)
    torch.testing.assert_close(read(score, logits), expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("make", "which", "words"),
    [
        (
            lambda x: {"out": x, "aux": x},
            "uot",
            r"output='uot' is no part of .* a dict .*; did you mean 'out'\?",
        ),
        (lambda x: (x, x), 2, r"output=2 is no part of what the model returns, a tuple of 2"),
        (lambda x: (x, x), "logits", r"output='logits' is no part of what the model returns, a tuple of 2"),
        (lambda x: Two(x, (x, x)), "loss", r"output='loss' is no part of what the model returns, a Two"),
        (lambda x: x, "logits", r"output='logits' is no part .* a tensor \(2, 4\); leave output out"),
        (lambda x: {"a": {"b": (x, x)}}, "a", r"a dict with 'b' a tuple of 2"),
    ],
)
def test_an_output_that_is_not_there_is_told_what_there_is(logits, make, which, words):
    with pytest.raises(ModelError, match=words):
        cp.logit(Returning(make), output=which).bind(logits)


def test_output_must_be_something_that_picks(logits):
    for wrong in (1.5, True, ("a",)):
        with pytest.raises(InputError, match="output must be a key or field, an index, or a function"):
            cp.logit(Table(), output=wrong)


def test_a_classifier_knows_its_output_and_a_score_may_pick_another(logits):
    net = Returning(lambda x: {"out": x.flatten(1), "aux": -x.flatten(1)})
    pixels = torch.rand(2, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    named = cp.Classifier(net, mean=(0.5,), std=(0.25,), size=2, labels=list("abcd"), output="out")
    normal = ((pixels - 0.5) / 0.25).flatten(1)
    assert named.network is net
    torch.testing.assert_close(cp.logit(named, "c").bind(pixels).at_inputs, normal[:, 2])
    torch.testing.assert_close(cp.logit(named, "c", output="aux").bind(pixels).at_inputs, -normal[:, 2])
    assert named.top(pixels, 1)[0][0].index == int(normal[0].argmax())
    assert named.with_output("aux").top(pixels, 1)[0][0].index == int(normal[0].argmin())
    assert named.with_output(None) is named
    assert named.weights_hash == named.with_output("aux").weights_hash
    with pytest.raises(ModelError, match=r"say which with output='out' \(--output out\)"):
        cp.Classifier(net, mean=(0.5,), std=(0.25,), size=2).top(pixels)
    # Asked again it is the same module, so that what was found out about it is still known.
    assert cp.logit(named, output="aux").module is cp.probability(named, output="aux").module
    assert cp.logit(net, output="aux").module is cp.logit(net, output="aux").module


def test_a_model_with_several_outputs_is_cut_at_its_layers_by_their_own_names():
    class Auxiliary(SmallNet):
        def forward(self, x):
            h = self.activation(self.stem(x))
            return {
                "out": self.head(self.last(self.other(self.body(h))).mean((2, 3))),
                "aux": self.head(h.mean((2, 3))),
            }

    class Plain(Auxiliary):
        def forward(self, x):
            return super().forward(x)["out"]

    images, baseline = random_images(0), cp.baselines.Black()
    ask = cp.methods.IntegratedGradients(rule=cp.quadrature.Midpoint(3))
    picked = cp.compare(cp.logit(Auxiliary(0), 0, output="out"), images, baseline=baseline, layer="body")
    plain = cp.compare(cp.logit(Plain(0), 0), images, baseline=baseline, layer="body")
    # "aux" passes by the layer, "out" does not.
    assert picked.cut.kind == plain.cut.kind == "split"
    torch.testing.assert_close(picked.explain(ask).values, plain.explain(ask).values, rtol=0, atol=0)


def test_a_label_probability_is_the_sigmoid_and_does_not_know_of_other_labels(logits):
    torch.testing.assert_close(read(cp.label_probability(Table(), 2), logits), logits[:, 2].sigmoid())
    bound = cp.label_probability(Table(), ["dog", "cat"]).bind(logits)
    assert bound.labels == ("dog", "cat")
    torch.testing.assert_close(bound.spread, logits.sigmoid().amax(1) - logits.sigmoid().amin(1))


def test_a_score_that_is_told_the_image_takes_what_goes_with_it():
    images, other = random_images(3, batch=3), torch.tensor([1.0, 10.0, 100.0], dtype=torch.float64)
    score = cp.callable_score(lambda rows, image: rows.flatten(1).sum(1) * other[image])
    comparison = cp.compare(score, images, baseline=cp.baselines.Black(), micro_batch=2)
    attribution = comparison.explain(cp.methods.IntegratedGradients(tolerance=1e-3))
    torch.testing.assert_close(attribution.values, images * other[:, None, None, None])
    torch.testing.assert_close(attribution.score, images.flatten(1).sum(1) * other)
    curve = cp.metrics.deletion_curve(score, images, images.sum(1), baseline=cp.baselines.Black(), steps=4)
    torch.testing.assert_close(curve.scores[:, 0], attribution.score)
    with pytest.raises(ModelError, match=r"one number per row, \(3,\), but returned a tensor \(3, 72\)"):
        cp.callable_score(lambda rows, image: rows.flatten(1)).bind(images)(images, torch.arange(3))
    with pytest.raises(InputError, match=r"function must take rows and the image of each.*got str"):
        cp.callable_score("logit")


@pytest.mark.parametrize(
    ("make", "index", "expected"),
    [
        (lambda x: x[:, 1], 0, [3.0, 1.0]),
        (lambda x: x[:, 1:2], 0, [3.0, 1.0]),
        (lambda x: x, 2, [-2.0, 0.0]),
        (lambda x: x.view(2, 2, 2), (1, 0), [-2.0, 0.0]),
    ],
)
def test_an_output_value_is_the_number_as_it_is(logits, make, index, expected):
    score = cp.output_value(Returning(make), index)
    torch.testing.assert_close(read(score, logits), torch.tensor(expected, dtype=torch.float64))
    torch.testing.assert_close(score.bind(logits).at_inputs, torch.tensor(expected, dtype=torch.float64))
    assert score.bind(logits).on(Returning(lambda x: -make(x)))(logits, torch.arange(2)).tolist() == [
        -value for value in expected
    ]


def test_an_output_value_names_an_index_that_is_not_there(logits):
    for wrong in (-1, 1.5, True, (), "age"):
        with pytest.raises(InputError, match="index must be a whole number of at least 0, or a tuple"):
            cp.output_value(Table(), wrong)
    for index in (4, (1, 0)):
        with pytest.raises(
            InputError, match=r"index must lie within \(4,\), the numbers that the model returns"
        ):
            cp.output_value(Table(), index).bind(logits)
    with pytest.raises(InputError, match="index must be 0, as the model returns one number per image"):
        cp.output_value(Returning(lambda x: x.sum(1)), 3).bind(logits)
    with pytest.raises(
        ModelError, match=r"one row of numbers per image, \(2, \.\.\.\), but returned a tensor \(4,\)"
    ):
        cp.output_value(Returning(lambda x: x[0])).bind(logits)


def test_an_output_value_is_explained_in_its_own_units():
    images = random_images(1)
    net = nn.Sequential(nn.Flatten(), nn.Linear(72, 1)).double()
    attribution = cp.compare(cp.output_value(net), images, baseline=cp.baselines.Mean(), layer="0").explain(
        cp.methods.IntegratedGradients()
    )
    assert attribution.question["score"] == "output_value[0]"
    torch.testing.assert_close(attribution.target, attribution.result)
    assert attribution.error.abs().max() < 1e-12


def test_measures_that_read_class_scores_read_them_out_of_a_dictionary_too():
    class Dictionary(SmallNet):
        def forward(self, x):
            return {"logits": super().forward(x), "loss": None}

    images, ask = random_images(0), {"baseline": cp.baselines.Grey(), "samples": 3, "cells": 2}
    ours, plain = (cp.metrics.r_oms(cp.logit(net, 0), images, **ask) for net in (Dictionary(0), SmallNet(0)))
    torch.testing.assert_close(ours.score, plain.score)


@pytest.mark.parametrize("make", [cp.probability, cp.log_probability, cp.log_odds])
def test_a_softmax_of_probabilities_is_warned_of(make):
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 3), nn.Softmax(1)).eval()
    with pytest.warns(UserWarning, match="the model's outputs are probabilities already"):
        make(net, 0).bind(torch.rand(2, 3, 2, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cp.logit(net, 0).bind(torch.rand(2, 3, 2, 2))
        make(net[:2], 0).bind(torch.rand(2, 3, 2, 2))


@pytest.mark.parametrize("make", [cp.probability, cp.log_probability, cp.log_odds])
def test_the_softmax_of_one_number_is_refused_with_what_to_use(make):
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 1)).eval()
    with pytest.raises(ModelError, match=r"always 1: use cp\.label_probability"):
        make(net, 0).bind(torch.rand(2, 3, 2, 2))


@pytest.mark.parametrize(
    ("net", "shape"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), (1, 3, 4, 4)),
        (nn.Sequential(nn.Conv2d(3, 2, 1), nn.Flatten(), nn.Linear(8, 3)), (1, 4, 2, 2)),
    ],
)
def test_inputs_of_a_shape_that_the_model_does_not_take_are_named(net, shape):
    with pytest.raises(
        ModelError, match=r"the model fails on inputs \(1, \d, \d, \d\): .*size and the channels"
    ):
        cp.logit(net.eval(), 0).bind(torch.rand(shape))


def test_what_a_model_raises_of_its_own_keeps_its_traceback():
    class Broken(nn.Module):
        def forward(self, x):
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        cp.logit(Broken(), 0).bind(torch.rand(1, 3, 4, 4))
