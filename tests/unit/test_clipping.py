"""Clipped gradients and capped activations: hand-computed cases, equality at the original image, and what is refused."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import counterpoint as cp
from counterpoint.activations import CLIP_RULES, Cap, Clip, Pathway
from counterpoint.errors import InputError, LayerError, ModelError, UnknownNameError
from networks import SmallNet, random_images

FORMS = {
    "relu": nn.ReLU(),
    "relu in place": nn.ReLU(inplace=True),
    "Tensor.relu_": lambda x: x.relu_(),
    "relu6": nn.ReLU6(),
    "F.relu6": F.relu6,
    "relu6 in place": nn.ReLU6(inplace=True),
    "leaky": nn.LeakyReLU(0.2),
    "leaky in place": nn.LeakyReLU(0.2, inplace=True),
    "prelu": nn.PReLU(dtype=torch.float64),
    "elu in place": nn.ELU(inplace=True),
    "selu": F.selu,
    "gelu": nn.GELU(),
    "gelu tanh": nn.GELU(approximate="tanh"),
    "silu": F.silu,
    "silu in place": nn.SiLU(inplace=True),
    "hardswish": F.hardswish,
    "hardswish in place": nn.Hardswish(inplace=True),
    "mish in place": nn.Mish(inplace=True),
}
ONCE = torch.zeros(1, dtype=torch.int64)


def pathway_of(function, originals, reading="unit", **options):
    """The activations of all originals in one run."""

    def run(under):
        with torch.no_grad(), under(torch.arange(len(originals))):
            function(originals * 1)

    return Pathway.recorded(run, reading=reading, **options)


def clipped(function, original, x, weights, rule, aim=None, **options):
    """Value, and the gradient of sum(weights * function(x)), clipped."""
    pathway = pathway_of(function, original)
    point = x.clone().requires_grad_()
    with Clip(pathway, ONCE, rule=rule, aim=aim, **options):
        value = function(point * 1)
    (gradient,) = torch.autograd.grad((value * weights).sum(), point)
    return value.detach(), gradient


def row(*numbers):
    return torch.tensor([numbers], dtype=torch.float64)


WEIGHTS = row(1, -1, 2, -3, 1)
ORIGINAL = row(1, -1, 2, 3, 2)
PERTURBED = row(2, 0.5, 1, 3, -1)
"""Of a ReLU: above, above, inside, equal, switched off."""


@pytest.mark.parametrize(
    ("rule", "aim", "expected"),
    [
        ("none", None, row(1, -1, 2, -3, 0)),
        ("fgvis", None, row(0, 0, 2, -3, 0)),
        ("fgvis", "minimise", row(0, 0, 2, -3, 0)),
        ("directional", "maximise", row(0, -1, 2, -3, 0)),
        ("directional", "minimise", row(1, 0, 2, -3, 0)),
    ],
)
def test_the_gradient_of_a_relu_is_clipped_where_the_unit_is_outside_and_moves_out(rule, aim, expected):
    value, gradient = clipped(F.relu, ORIGINAL, PERTURBED, WEIGHTS, rule, aim)
    assert torch.equal(gradient, expected)
    assert torch.equal(value, PERTURBED.relu())


@pytest.mark.parametrize(
    ("overshoot", "expected"),
    [(0.5, row(0, 0, 2, -3, 0)), (1.0, row(1, 0, 2, -3, 0)), (1e6, row(1, 0, 2, -3, 0))],
)
def test_an_active_unit_may_overshoot_and_a_silent_one_not(overshoot, expected):
    for rule, aim in (("fgvis", None), ("directional", "maximise")):
        # The second unit was silent: against its gradient it is outside and moves back, which "directional" lets pass.
        back = row(0, -1, 0, 0, 0) if rule == "directional" else 0
        value, gradient = clipped(F.relu, ORIGINAL, PERTURBED, WEIGHTS, rule, aim, overshoot=overshoot)
        assert torch.equal(gradient, expected + back)
        assert torch.equal(value, PERTURBED.relu())


@pytest.mark.parametrize(
    ("rule", "aim", "passes"),
    [
        ("fgvis", None, row(0, 0, 1, 1, 0)),
        ("directional", "maximise", row(0, 1, 1, 1, 1)),
        ("directional", "minimise", row(1, 0, 1, 1, 0)),
    ],
)
def test_below_zero_a_leaky_relu_has_the_interval_from_its_value_to_zero(rule, aim, passes):
    # Its output is below the interval, below, inside, inside, above it.
    original, perturbed = row(-1, -1, -1, 2, -1), row(-2, -2, -0.5, 1, 1)
    weights = row(-1, 1, 1, 1, -1)
    _, gradient = clipped(lambda x: F.leaky_relu(x, 0.5), original, perturbed, weights, rule, aim)
    slope = torch.where(perturbed < 0, 0.5, 1.0)
    assert torch.equal(gradient, weights * slope * passes)


@pytest.mark.parametrize("form", ["gelu", "silu", "silu in place"])
def test_where_a_function_falls_the_step_of_what_goes_in_decides(form):
    function = FORMS[form]
    original, perturbed = row(-1, -1, -1, 1), row(-3, -3, -0.5, 2)
    weights = row(1, -1, 1, 1)
    point = perturbed.clone().requires_grad_()
    (plain,) = torch.autograd.grad((function(point * 1) * weights).sum(), point)
    assert plain[0, 0] < 0  # falling: to raise the score the first unit goes down, further out
    for rule, aim, passes in (
        ("fgvis", None, row(0, 0, 1, 0)),
        ("directional", "maximise", row(0, 1, 1, 0)),
        ("directional", "minimise", row(1, 0, 1, 1)),
    ):
        _, gradient = clipped(function, original, perturbed, weights, rule, aim)
        assert torch.equal(gradient, plain * passes)


def test_a_falling_function_clips_nothing_of_what_others_read_of_its_input():
    def network(x):
        return F.gelu(x) + 10 * x

    original, perturbed, weights = row(1.0), row(2.0), row(1.0)
    for rule, aim in (("fgvis", None), ("directional", "maximise")):
        _, gradient = clipped(network, original, perturbed, weights, rule, aim)
        assert torch.equal(gradient, row(10.0))


def test_the_tolerance_is_a_share_of_the_unit_and_of_the_size_of_its_layer():
    original = row(3.0, 0.0, 4.0, 0.0)  # root mean square 2.5
    slack = 1e-4 * (original + 2.5)
    for side, passes in ((0.99, 1.0), (1.01, 0.0)):
        _, gradient = clipped(F.relu, original, original + side * slack, torch.ones(1, 4), "fgvis")
        assert torch.equal(gradient, torch.full((1, 4), passes, dtype=torch.float64))
    _, gradient = clipped(F.relu, original, original + 0.2, torch.ones(1, 4), "fgvis", tolerance=0.1)
    assert torch.equal(gradient, row(1, 1, 1, 1))


@pytest.mark.parametrize("rule", CLIP_RULES)
@pytest.mark.parametrize("form", FORMS)
def test_every_form_keeps_its_value_bit_for_bit_and_is_clipped(form, rule):
    function = FORMS[form]
    generator = torch.Generator().manual_seed(0)
    original, x = torch.randn(2, 1, 40, generator=generator, dtype=torch.float64) * 4
    weights = torch.randn(1, 40, generator=generator, dtype=torch.float64)
    point = x.clone().requires_grad_()
    plain_value = function(point * 1)
    (plain,) = torch.autograd.grad((plain_value * weights).sum(), point)
    value, gradient = clipped(function, original, x, weights, rule, "maximise")
    assert torch.equal(value, plain_value)
    changed = gradient != plain
    assert bool(changed.any()) == (rule != "none")
    assert torch.equal(gradient[changed], torch.zeros_like(gradient[changed]))


def comparison_of(kind="plain", layer=None, batch=2, **options):
    return cp.compare(
        cp.logit(SmallNet(3, kind), 0),
        random_images(4, batch=batch),
        baseline=cp.baselines.Black(),
        layer=layer,
        **options,
    )


def recorded(comparison, **options):
    return Pathway.recorded(
        lambda under: comparison.scores(comparison.end, under=under),
        comparison.evaluation.runner.module,
        **options,
    )


@pytest.mark.parametrize("layer", [None, "stem"])
@pytest.mark.parametrize("kind", SmallNet.KINDS)
def test_at_the_original_image_the_clipped_gradient_is_the_plain_one(kind, layer):
    comparison = comparison_of(kind, layer)
    pathway = recorded(comparison)
    plain = comparison.gradients(comparison.end)
    for rule in CLIP_RULES:
        found = comparison.gradients(
            comparison.end,
            under=lambda image, rule=rule: Clip(pathway, image, rule=rule, aim="maximise"),
        )
        assert torch.equal(found, plain)


def test_rounding_clips_nothing_whatever_the_size_of_the_batch_and_the_layout():
    generator = torch.Generator().manual_seed(0)
    net = SmallNet(0).float()
    inputs = torch.rand(3, 2, 24, 24, generator=generator)
    pathway = pathway_of(net, inputs)
    image = torch.tensor([0, 2, 1, 1, 0, 2, 1])
    points = inputs[image].contiguous(memory_format=torch.channels_last).requires_grad_()
    (plain,) = torch.autograd.grad(net(points)[:, 0].sum(), points)
    with Clip(pathway, image, rule="fgvis"):
        score = net(points)[:, 0].sum()
    (found,) = torch.autograd.grad(score, points)
    assert torch.equal(found, plain)


def test_a_networks_style_changes_nothing():
    found = {}
    for kind in ("plain", "inplace", "reused", "functional"):
        comparison = comparison_of(kind)
        pathway = recorded(comparison)
        points = comparison.end * 0.4 + 0.3
        found[kind] = comparison.gradients(
            points, under=lambda image, p=pathway: Clip(p, image, rule="fgvis")
        )
        score = comparison.scores(points, under=lambda image, p=pathway: Clip(p, image, rule="fgvis"))
        assert torch.equal(score, comparison.scores(points))
        assert len(pathway.names) == 2
    assert not torch.equal(found["plain"], comparison.gradients(points))
    for values in found.values():
        assert torch.equal(values, found["plain"])


def test_rows_of_a_micro_batch_are_held_against_their_own_originals():
    comparison = comparison_of(batch=3, micro_batch=2)
    pathway = recorded(comparison)
    assert pathway.images == 3
    image = torch.tensor([2, 0, 2, 1, 1])
    points = random_images(9, batch=5)
    together = comparison.gradients(
        points, image, under=lambda rows: Clip(pathway, rows, rule="directional", aim="minimise")
    )
    for k, i in enumerate(image.tolist()):
        own = cp.compare(
            cp.logit(SmallNet(3), 0), comparison.inputs[i : i + 1], baseline=cp.baselines.Black()
        )
        alone = recorded(own)
        found = own.gradients(
            points[k : k + 1], under=lambda rows, p=alone: Clip(p, rows, rule="directional", aim="minimise")
        )
        torch.testing.assert_close(together[k : k + 1], found, rtol=1e-12, atol=1e-14)
    other = comparison.gradients(
        points, image.flip(0), under=lambda rows: Clip(pathway, rows, rule="directional", aim="minimise")
    )
    assert not torch.allclose(together, other)


def test_bfloat16_is_held_to_a_hundredth_and_kept():
    original = row(1.0, 4.0, 0.0).to(torch.bfloat16)
    x = (original * (1 + 2**-7)).requires_grad_()  # the next number
    pathway = pathway_of(F.relu, original)
    for tolerance, passes in ((None, row(1, 1, 0)), (1e-4, row(0, 0, 0))):
        with Clip(pathway, ONCE, rule="fgvis", tolerance=tolerance):
            value = F.relu(x)
        (gradient,) = torch.autograd.grad(value.sum(), x)
        assert gradient.dtype == torch.bfloat16
        assert torch.equal(gradient.double(), passes)


class Stages(nn.Module):
    """Names of all kinds: a block with a reused activation, functional code, a shared activation, one that is no layer's."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Linear(3, 3), nn.ReLU6())
        self.block = nn.ModuleDict({"linear": nn.Linear(3, 3), "act": nn.ReLU()})
        self.tail = Tail()
        self.fc = nn.Linear(3, 2)

    def forward(self, x):
        x = self.stem(x)
        x = self.block["act"](self.block["linear"](self.block["act"](x)))
        x = F.gelu(self.tail(x))
        return self.fc(x)


class Tail(nn.Module):
    def forward(self, x):
        return F.silu(x)


STAGES = ["stem.1", "block.act (1)", "block.act (2)", "tail", "gelu"]


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        (None, STAGES),
        (["stem"], STAGES[:1]),
        ({"block.act"}, STAGES[1:3]),
        (["block"], STAGES[1:3]),
        (("block.act (2)", "gelu"), [STAGES[2], "gelu"]),
        (["tail", "stem.1"], ["stem.1", "tail"]),
        (2, STAGES[3:]),
        (5, STAGES),
    ],
)
def test_activations_are_chosen_by_module_by_name_or_from_the_end(layers, expected):
    net, inputs = Stages().double(), torch.rand(2, 3, dtype=torch.float64)
    pathway = pathway_of(net, inputs, module=net, layers=layers)
    assert list(pathway.names) == expected
    assert [each.name for each in pathway.activations] == STAGES
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in net.modules())


@pytest.mark.parametrize(
    ("layers", "error", "message"),
    [
        (["blok"], UnknownNameError, "unknown layer 'blok'; did you mean 'block'"),
        (["block.act (3)"], UnknownNameError, "did you mean 'block.act"),
        (["fc"], LayerError, "no activation runs inside 'fc'"),
        (6, InputError, "last 6 activations, but only 5 run"),
        (0, InputError, "at least 1; got 0"),
        (True, InputError, "got True"),
        ("stem", InputError, "a list of names"),
        ([], InputError, "a list of names"),
        ([1], InputError, "a list of names"),
    ],
)
def test_a_choice_without_activations_is_refused(layers, error, message):
    net, inputs = Stages().double(), torch.rand(2, 3, dtype=torch.float64)
    with pytest.raises(error, match=message.replace("(", r"\(").replace(")", r"\)")):
        pathway_of(net, inputs, module=net, layers=layers)


def test_only_the_chosen_activations_are_clipped():
    def network(x):
        return F.relu(x) + 10 * F.relu6(x)

    original, x = row(1.0, 1.0), row(2.0, 0.5)
    for layers, expected in ((["relu"], row(10, 11)), (["relu6"], row(1, 11)), (1, row(1, 11))):
        pathway = pathway_of(network, original, layers=layers)
        point = x.clone().requires_grad_()
        with Clip(pathway, ONCE, rule="fgvis"):
            value = network(point)
        assert torch.equal(torch.autograd.grad(value.sum(), point)[0], expected)


def test_other_axes_may_be_folded_into_the_first():
    def network(x):  # (rows, 4): each number a row of its own, as windows of an image are
        return F.relu(x.reshape(-1, 1)).reshape(-1, 4)

    originals = torch.cat([row(1, 2, 3, 4), row(4, 3, 2, 1)])
    pathway = pathway_of(network, originals)
    for image in (torch.tensor([1, 0, 1]), torch.tensor([1, 1, 1])):
        point = torch.full((3, 4), 2.5, dtype=torch.float64, requires_grad=True)
        with Clip(pathway, image, rule="fgvis"):
            value = network(point)
        (gradient,) = torch.autograd.grad(value.sum(), point)
        assert torch.equal(gradient, (originals[image] >= 2.5).double())


def test_rows_that_are_not_the_first_axis_are_refused():
    with pytest.raises(ModelError, match=r"'relu' is \(3, 2\) for 2 rows: rows must be the first axis"):
        pathway_of(lambda x: F.relu(x.T), torch.rand(2, 3))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (lambda x: F.silu(F.relu(x)), r"silu of \(1, 2\) where there was gelu of \(1, 2\)"),
        (lambda x: F.relu(x[:, :1]), r"relu of \(1, 1\) where there was relu of \(1, 2\)"),
        (F.relu, r"its end where there was gelu of \(1, 2\)"),
        (lambda x: F.relu(F.gelu(F.relu(x))), r"relu of \(1, 2\) where there was the end"),
    ],
)
def test_a_run_that_takes_another_way_is_refused(other, message):
    pathway = pathway_of(lambda x: F.gelu(F.relu(x)), row(1, 2))
    with pytest.raises(ModelError, match=message), Clip(pathway, ONCE, rule="fgvis"):
        other(row(1, 2))


def test_what_cannot_be_recorded_is_refused():
    with pytest.raises(InputError, match="no activations to look at"):
        pathway_of(torch.tanh, row(1, 2))
    # As torch.compile wraps a module.
    net = nn.Sequential(nn.Linear(2, 2), nn.ModuleDict({"_orig_mod": nn.ReLU()}))
    with pytest.raises(ModelError, match="inside '1' cannot be seen, as it is compiled or scripted"):
        pathway_of(net, row(1, 2), module=net)

    def twice(under):
        for _ in range(2):
            with under(ONCE):
                F.relu(row(1, 2))

    with pytest.raises(InputError, match="each of the original images once"):
        Pathway.recorded(twice)

    def changing(under):
        for image, function in ((0, F.relu), (1, F.silu)):
            with under(torch.tensor([image])):
                function(row(1, 2))

    with pytest.raises(ModelError, match="otherwise for one image than for another"):
        Pathway.recorded(changing)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rule": "fgviz"}, "rule must be one of none, fgvis, directional, got 'fgviz'"),
        (
            {"rule": "directional"},
            "aim must say what the optimiser does to the score, maximise or minimise, got None",
        ),
        ({"rule": "fgvis", "aim": "up"}, "got 'up'"),
    ],
)
def test_rules_and_aims_are_checked(options, message):
    with pytest.raises(InputError, match=message):
        Clip(pathway_of(F.relu, row(1, 2)), ONCE, **options)


def test_a_row_of_no_image_and_a_pathway_of_another_reading_are_refused():
    units, outputs = pathway_of(F.relu, row(1, 2)), pathway_of(F.relu, row(1, 2), reading="output")
    with pytest.raises(
        InputError, match=r"image must be from 0 to 0, the images of the pathway, got \[0, 1\]"
    ):
        Clip(units, torch.tensor([0, 1]), rule="fgvis")
    with pytest.raises(InputError, match="reading='unit'"):
        Clip(outputs, ONCE, rule="fgvis")
    with pytest.raises(InputError, match="reading='output'"):
        Cap(units, ONCE)


@pytest.mark.parametrize("kind", SmallNet.KINDS)
def test_capped_at_the_original_image_nothing_changes(kind):
    comparison = comparison_of(kind)
    pathway = recorded(comparison, reading="output")
    found = comparison.scores(comparison.end, under=lambda image: Cap(pathway, image))
    assert torch.equal(found, comparison.score)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_capped_to_the_range_between_zero_and_the_original(form):
    function = FORMS[form]
    original, x = torch.randn(2, 1, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 4
    with torch.no_grad():
        h, plain = function(original * 1), function(x * 1)
        pathway = pathway_of(function, original, reading="output")
        with Cap(pathway, ONCE):
            point = x * 1
            found = function(point)
    expected = torch.minimum(torch.maximum(plain, h.clamp(max=0)), h.clamp(min=0))
    assert torch.equal(found, expected)
    assert not torch.equal(found, plain)
    if "in place" in form or form.endswith("_"):
        assert torch.equal(point, expected)  # whoever goes on with what was handed over sees it capped


def test_what_comes_after_the_last_activation_is_not_capped():
    def network(x):
        return 10 * F.relu(x) + 5

    pathway = pathway_of(network, row(1.0), reading="output")
    with Cap(pathway, ONCE):
        assert torch.equal(network(row(3.0)), row(15.0))


@pytest.mark.parametrize("form", FORMS)
def test_a_capped_run_can_be_differentiated(form):
    original, x = row(1.0, 1.0), row(0.5, 3.0).requires_grad_()
    pathway = pathway_of(FORMS[form], original, reading="output")
    with Cap(pathway, ONCE):
        value = FORMS[form](x * 1)
    (gradient,) = torch.autograd.grad(value.sum(), x)
    assert gradient[0, 0] != 0
    assert gradient[0, 1] == 0


def test_all_ends_with_the_block_even_after_an_exception():
    pathway = pathway_of(F.relu, ORIGINAL)

    def run():
        point = PERTURBED.clone().requires_grad_()
        return torch.autograd.grad((F.relu(point) * WEIGHTS).sum(), point)[0]

    plain = run()
    with pytest.raises(KeyError), Clip(pathway, ONCE, rule="fgvis"):
        raise KeyError
    assert torch.equal(run(), plain)


def test_a_mask_is_optimised_with_the_clipped_gradients_of_a_comparison():
    comparison = comparison_of(batch=2, micro_batch=4)
    pathway = recorded(comparison)
    image = torch.tensor([0, 0, 0, 1, 1, 1])

    def optimised(rule, steps=5):
        parameters = torch.zeros(6, 6, 6, dtype=torch.float64, requires_grad=True)
        optimiser = torch.optim.Adam([parameters], lr=0.3)
        for _ in range(steps):
            points = comparison.blended(parameters.sigmoid(), image)
            gradients = comparison.gradients(
                points.detach(), image, under=lambda rows: Clip(pathway, rows, rule=rule, aim="maximise")
            )
            optimiser.zero_grad()
            points.backward(-gradients)
            optimiser.step()
        return parameters.detach(), comparison.scores(points.detach(), image)

    start = comparison.scores(comparison.blended(torch.full((6, 6, 6), 0.5), image), image)
    masks = {}
    for rule in CLIP_RULES:
        masks[rule], score = optimised(rule)
        assert (score > start).all()
    assert not torch.equal(masks["none"], masks["directional"])
    assert not torch.equal(masks["fgvis"], masks["directional"])


def test_what_the_network_overwrites_later_is_kept_and_clipped_as_it_was():
    def overwriting(function):
        def network(x):
            h = function(x)
            y = h * 2
            h.mul_(-3)
            return y + h

        return network

    for rule, passes in (("none", row(1, 1, 1, 1, 0)), ("fgvis", row(0, 0, 1, 1, 0))):
        _, gradient = clipped(overwriting(F.relu6), ORIGINAL, PERTURBED, WEIGHTS, rule)
        assert torch.equal(gradient, -WEIGHTS * passes)
    outputs = pathway_of(overwriting(F.relu), ORIGINAL, reading="output")
    assert torch.equal(outputs.values[0][0], ORIGINAL.relu())


def test_originals_may_come_in_any_order_and_in_parts():
    originals = random_images(4, batch=5)

    def run(under):
        for rows in (torch.tensor([3, 1]), torch.tensor([4]), torch.tensor([0, 2])):
            with torch.no_grad(), under(rows):
                F.relu(originals[rows] - 0.5)

    pathway = Pathway.recorded(run)
    assert pathway.images == 5
    assert torch.equal(pathway.values[0][:, 0], (originals - 0.5).relu())
    expected = (originals - 0.5).relu().square().flatten(1).mean(1).sqrt()
    torch.testing.assert_close(pathway.scale[0], expected, rtol=1e-14, atol=0)
