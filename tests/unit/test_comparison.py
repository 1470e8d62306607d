"""A comparison is the whole question: target, sharing, counts, and what it refuses."""

import pytest
import torch
from torch import nn

import counterpoint as cp
from counterpoint.errors import (
    InputError,
    LayerError,
    ModelError,
    NotFiniteError,
    ShapeError,
    UnknownNameError,
)
from networks import SmallNet, random_images

BLACK = cp.baselines.Black()


class Net(nn.Module):
    """Convolution, ReLU, pooling, linear; counts its own runs."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.relu = nn.ReLU()
        self.fc = nn.Linear(4, 3)
        self.rows = 0
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)
        self.conv.register_forward_hook(self._count)

    def _count(self, module, args, output):
        self.rows += len(output)

    def forward(self, x):
        return self.fc(self.relu(self.conv(x)).mean((2, 3)))


@pytest.fixture
def net():
    return Net().double().eval()


@pytest.fixture
def images():
    return torch.rand(4, 3, 6, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_the_target_is_the_change_of_score(net, images):
    comparison = cp.compare(cp.logit(net, 1), images, baseline=cp.baselines.Mean())
    expected = net(images)[:, 1] - net(cp.baselines.Mean()(images))[:, 1]
    torch.testing.assert_close(comparison.score - comparison.baseline_score, expected)


def test_scores_of_input_and_baseline_are_computed_once_whatever_the_number_of_methods(net, images):
    comparison = cp.compare(cp.logit(net), images, baseline=BLACK)
    assert net.rows == 8  # f(x), which settles top1 too, and f(x')
    for _ in range(3):
        comparison.explain(cp.methods.Gradient())
    assert net.rows == 8 + 3 * 4


def test_the_target_is_the_same_number_at_every_layer(net, images):
    comparison = cp.compare(cp.logit(net), images, baseline=cp.baselines.Blur(sigma=2))
    for layer in ("input", "conv", "relu", "fc"):
        there = comparison.at(layer)
        assert there.layer == layer
        torch.testing.assert_close(there.scores(there.end), comparison.score)
        torch.testing.assert_close(there.scores(there.start), comparison.baseline_score)
        attribution = there.explain(cp.methods.IntegratedGradients(rule=cp.quadrature.GaussLegendre(40)))
        torch.testing.assert_close(attribution.target, comparison.score - comparison.baseline_score)
        assert attribution.relative_error.max() < 0.05


def test_costs_are_counted_for_each_image(net, images):
    attribution = cp.compare(cp.logit(net), images, baseline=BLACK).explain(
        cp.methods.IntegratedGradients(rule=cp.quadrature.Midpoint(7))
    )
    assert attribution.gradient_evaluations.tolist() == [7] * 4
    assert attribution.forward_evaluations.tolist() == [0] * 4


def test_micro_batches_change_no_value(net, images):
    method = cp.methods.IntegratedGradients(rule=cp.quadrature.Midpoint(7))
    values = [
        cp.compare(cp.logit(net), images, baseline=BLACK, micro_batch=rows).explain(method).values
        for rows in (1, 3, 99)
    ]
    torch.testing.assert_close(values[0], values[1])
    torch.testing.assert_close(values[0], values[2])


@pytest.mark.parametrize("layer", ["input", "relu"])
@pytest.mark.parametrize("breaks", [False, True])
def test_the_model_leaves_as_it_came(net, images, layer, breaks):
    net.train()
    net.conv.weight.requires_grad_(False)
    net.fc.weight.grad = torch.ones_like(net.fc.weight)
    before = {name: p.clone() for name, p in net.state_dict().items()}
    hooks = [
        len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in net.modules()
    ]
    kept = images.clone()

    def score(x):
        raise KeyError("broken")

    if breaks:
        comparison = cp.compare(cp.logit(net), images, baseline=BLACK).at(layer)
        net.fc.forward = score
        with pytest.raises(KeyError):
            comparison.explain(cp.methods.Gradient())
        del net.fc.forward
    else:
        cp.compare(cp.logit(net), images, baseline=BLACK, layer=layer).explain(cp.methods.Gradient())
    assert net.training
    assert [p.requires_grad for p in net.parameters()] == [False, True, True, True]
    torch.testing.assert_close(net.fc.weight.grad, torch.ones_like(net.fc.weight))
    assert net.fc.bias.grad is None
    assert hooks == [
        len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in net.modules()
    ]
    for name, value in net.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    torch.testing.assert_close(images, kept, rtol=0, atol=0)
    assert not images.requires_grad


def test_gradients_are_taken_under_the_callers_no_grad_and_inference_mode(net, images):
    expected = cp.compare(cp.logit(net), images, baseline=BLACK).explain(cp.methods.Gradient()).values
    for mode in (torch.no_grad(), torch.inference_mode()):
        with mode:
            values = (
                cp.compare(cp.logit(net), images.clone(), baseline=BLACK)
                .explain(cp.methods.Gradient())
                .values
            )
        torch.testing.assert_close(values.clone(), expected)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (
            {"inputs": torch.ones(1, 3, 6, 6, dtype=torch.int64)},
            InputError,
            "real floating-point numbers, got torch.int64",
        ),
        ({"inputs": torch.ones(1, 3, 6, 6, dtype=torch.complex64)}, InputError, "got torch.complex64"),
        ({"inputs": torch.full((1, 3, 6, 6), torch.nan)}, NotFiniteError, "inputs must be finite"),
        ({"inputs": torch.ones(0, 3, 6, 6)}, ShapeError, "at least one row"),
        ({"inputs": torch.ones(3)}, ShapeError, r"got \(3,\)"),
        ({"inputs": [[0.0]]}, InputError, "must be a torch.Tensor, got list"),
        ({"baseline": torch.zeros(1, 3, 6, 6)}, InputError, "baseline must be one of cp.baselines"),
        ({"baseline": cp.baselines.Black}, InputError, "baseline must be one of cp.baselines"),
        ({"score": "logit"}, InputError, "score must be a score"),
        ({"score": lambda x: x.sum((1, 2, 3)) / 0.0}, NotFiniteError, "score of the inputs"),
        ({"score": lambda x: x.sum((1, 2, 3)).log()}, NotFiniteError, "score of the baseline"),
        ({"score": lambda x: x}, ModelError, "one number per row"),
        (
            {"score": lambda x: x.sum((1, 2, 3)), "layer": "conv"},
            LayerError,
            "a layer needs a score that knows its module",
        ),
        ({"layer": "covn"}, UnknownNameError, "did you mean 'conv'"),
    ],
)
def test_bad_input_is_named_before_any_work(net, images, change, error, words, unchecked):
    arguments = {"score": cp.logit(net.float(), 0), "inputs": images.float(), "baseline": BLACK, **change}
    with pytest.raises(error, match=words):
        cp.compare(arguments.pop("score"), arguments.pop("inputs"), **arguments)


def test_a_baseline_of_another_shape_is_refused(net, images):
    class Cropped(cp.baselines.Baseline):
        def __call__(self, inputs):
            return inputs[..., :3]

    with pytest.raises(ShapeError, match=r"baseline is \(4, 3, 6, 3\), inputs is \(4, 3, 6, 6\)"):
        cp.compare(cp.logit(net), images, baseline=Cropped())


def test_a_score_without_gradient_says_so(images):
    comparison = cp.compare(lambda x: x.detach().sum((1, 2, 3)), images, baseline=BLACK)
    with pytest.raises(ModelError, match="the score has no gradient"):
        comparison.explain(cp.methods.Gradient())


def test_methods_are_checked_against_the_layer(net, images):
    comparison = cp.compare(cp.logit(net), images, baseline=BLACK)
    with pytest.raises(InputError, match="GradCAM explains the features of a layer"):
        comparison.explain(cp.methods.GradCAM())
    with pytest.raises(InputError, match=r"write Gradient\(\)"):
        comparison.explain(cp.methods.Gradient)
    with pytest.raises(InputError, match=r"method must be one of cp\.methods"):
        comparison.explain("gradient")
    with pytest.raises(LayerError, match="need features"):
        comparison.at("fc").explain(cp.methods.GradCAM())


class Normed(nn.Module):
    """Convolution, batch norm, ReLU, pooling, linear, in eval mode."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 3)
        generator = torch.Generator().manual_seed(3)
        with torch.no_grad():
            for tensor in (*self.parameters(), self.norm.running_mean, self.norm.running_var):
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.1)
        self.double().eval()

    def forward(self, x):
        return self.fc(self.norm(self.conv(x)).relu().mean((2, 3)))


@pytest.mark.parametrize("layer", ["input", "conv", "norm"])
def test_a_folded_copy_gives_the_same_answer_and_says_so(images, layer):
    method = cp.methods.IntegratedGradients(rule=cp.quadrature.Midpoint(9))
    plain, folded = (
        cp.compare(cp.logit(Normed(), 2), images, baseline=BLACK, layer=layer, fold=fold).explain(method)
        for fold in (False, True)
    )
    torch.testing.assert_close(folded.values, plain.values)
    assert folded.folded
    assert not plain.folded


def test_folding_needs_a_module(images):
    with pytest.raises(InputError, match="fold needs a score that knows its module"):
        cp.compare(lambda x: x.sum((1, 2, 3)), images, baseline=BLACK, fold=True)


def test_a_layer_baseline_has_a_target_of_its_own(net, images):
    score = cp.logit(net, 1)
    whole = cp.compare(score, images, baseline=BLACK)
    for given, expected in (
        ("zeros", torch.zeros(4, 4, 6, 6, dtype=torch.float64)),
        ("channel_mean", net.conv(images).mean((2, 3), keepdim=True).expand(4, 4, 6, 6)),
        (torch.ones(4, 6, 6), torch.ones(4, 4, 6, 6, dtype=torch.float64)),
    ):
        there = cp.compare(score, images, baseline=BLACK, layer="conv", layer_baseline=given)
        torch.testing.assert_close(there.start, expected.detach())
        head = net.fc(net.relu(expected).mean((2, 3)))[:, 1]
        torch.testing.assert_close(there.score - there.baseline_score, whole.score - head.detach())
        attribution = there.explain(cp.methods.IntegratedGradients())
        assert attribution.layer_baseline != "features of the baseline"
        assert attribution.relative_error.max() <= 0.01


@pytest.mark.parametrize(
    ("layer", "given", "words"),
    [
        (None, "zeros", "no layer was given"),
        ("conv", torch.ones(3, 3), r"layer_baseline must be \(4, 4, 6, 6\), or one image's"),
        ("conv", "mean", "'features', 'zeros', 'channel_mean' or a tensor, got 'mean'"),
        ("fc", "channel_mean", "features with places"),
    ],
)
def test_a_wrong_layer_baseline_is_named(net, images, layer, given, words):
    with pytest.raises((InputError, ShapeError), match=words):
        cp.compare(cp.logit(net), images, baseline=BLACK, layer=layer, layer_baseline=given)


class Skipped(nn.Module):
    """A block that a skip connection passes by."""

    def __init__(self):
        super().__init__()
        self.block = nn.Conv2d(3, 3, 3, padding=1)
        self.sum = nn.Identity()
        generator = torch.Generator().manual_seed(5)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
        self.double().eval()

    def forward(self, x):
        return self.sum(self.block(x).relu() + x).mean((2, 3))


def test_an_intervention_has_its_own_target_and_is_labelled_partial(images):
    net = Skipped()
    with pytest.raises(LayerError, match=r"nearest layer that is a real cut is 'sum'.*bypass='intervene'"):
        cp.compare(cp.logit(net, 0), images, baseline=BLACK, layer="block")
    comparison = cp.compare(cp.logit(net, 0), images, baseline=BLACK, layer="block", bypass="intervene")
    put_in = (net.block(torch.zeros_like(images)).relu() + images).mean((2, 3))[:, 0]
    torch.testing.assert_close(comparison.baseline_score, put_in.detach())
    attribution = comparison.explain(cp.methods.IntegratedGradients())
    assert attribution.cut == "partial"
    assert attribution.relative_error.max() <= 0.01


def test_layers_of_one_question_share_the_scores_and_the_target(net, images):
    comparisons = cp.compare_layers(
        cp.logit(net), images, ["input", "conv", "relu"], baseline=cp.baselines.White()
    )
    assert [c.layer for c in comparisons] == ["input", "conv", "relu"]
    # f(x) and f(x') once; the rest opens cuts (an example) and runs the part before each layer for x and x'.
    assert all(c.score is comparisons[0].score for c in comparisons)
    assert all(c.baseline_score is comparisons[0].baseline_score for c in comparisons)
    assert comparisons[0].tally.forwards.tolist() == [1] * 4


def test_another_layer_after_an_intervention_has_the_inputs_target_again(images):
    whole = cp.compare(cp.logit(Skipped(), 0), images, baseline=BLACK)
    put_in = whole.at("block", bypass="intervene")
    assert (put_in.baseline_score - whole.baseline_score).abs().min() > 1e-6
    given = whole.at("sum", layer_baseline="channel_mean")
    assert (given.baseline_score - whole.baseline_score).abs().min() > 1e-6
    for other in (put_in, given):
        for layer in ("input", "sum"):
            back = other.at(layer)
            torch.testing.assert_close(back.baseline_score, whole.baseline_score)
            torch.testing.assert_close(back.scores(back.start), whole.baseline_score)
            assert back.layer_baseline == "features of the baseline"


def pixel_question(pixels, **options):
    net = cp.Classifier(SmallNet(0), mean=(0.0, 0.0), std=(1.0, 1.0), size=6)
    return cp.compare(cp.logit(net), pixels, **{"baseline": cp.baselines.Black(), **options})


def test_pixels_of_a_classifier_must_lie_in_the_unit_interval():
    pixels = random_images(0)
    assert pixel_question(pixels).score.isfinite().all()
    with pytest.raises(InputError, match=r"inputs must be pixels in \[0, 1\].* 0..255 become that"):
        pixel_question(pixels * 255)
    with pytest.raises(InputError, match="baseline must be pixels"):
        pixel_question(pixels, baseline=cp.baselines.Constant(-1.0))
    with pytest.raises(ShapeError, match="images"):
        pixel_question(pixels[0])


def test_inputs_of_another_type_than_the_weights_are_told_so():
    with pytest.raises(InputError, match=r"inputs are torch.float32 .* weights are torch.float64"):
        cp.compare(cp.logit(SmallNet(0)), random_images(0).float(), baseline=cp.baselines.Black())


def test_several_methods_at_several_layers_cost_less_than_one_by_one(net, images):
    runs = {"first": 0, "last": 0}
    net.relu.register_forward_hook(lambda *_: runs.__setitem__("first", runs["first"] + 1))
    net.fc.register_forward_hook(lambda *_: runs.__setitem__("last", runs["last"] + 1))
    methods = [cp.methods.Gradient(), cp.methods.HiResCAM(), cp.methods.Taylor()]
    for layer in ("conv", "relu"):  # whether they can be cut is settled once, and not what is counted
        cp.compare(cp.logit(net, 1), images, baseline=BLACK, layer=layer)
    runs.update(first=0, last=0)
    for comparison in cp.compare_layers(cp.logit(net, 1), images, ["conv", "relu"], baseline=BLACK):
        for method in methods:
            comparison.explain(method)
    shared = dict(runs)
    runs.update(first=0, last=0)
    for layer in ("conv", "relu"):
        for method in methods:
            cp.compare(cp.logit(net, 1), images, baseline=BLACK, layer=layer).explain(method)
    # f(x), f(x'); then at each layer one gradient for each method and the zero features of HiResCAM.
    assert shared["last"] == 2 + 2 * 4
    assert runs["last"] == 2 * (3 * 2 + 4)
    assert shared["first"] < runs["first"] / 2
