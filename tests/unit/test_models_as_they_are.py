"""Models as users have them: each kind works, with the numbers of a plain one, or is refused with a reason and a way out."""

import re
import warnings

import pytest
import torch
from torch import nn

import counterpoint as cp
from counterpoint.errors import InputError, LayerError, ModelError, ShapeError
from counterpoint.methods import METHODS
from networks import SmallNet, random_images

MEAN = cp.baselines.Mean()
IG = cp.methods.IntegratedGradients(rule=cp.quadrature.Midpoint(4))
# Gradients, a path, hooks on activations, a cam, forwards only.
SOME = (
    cp.methods.Gradient(),
    IG,
    cp.methods.GuidedBackprop(),
    cp.methods.GradCAM(),
    cp.methods.Occlusion(2, 2),
)


def explained(net, images, method=IG, **options):
    layer = "last" if method.level == "layer" else None
    return cp.compare(cp.logit(net, 0, **options), images, baseline=MEAN, layer=layer).explain(method)


def assert_explained_alike(net, other, images, tolerance=0.0):
    for method in SOME:
        ours, theirs = explained(net, images, method), explained(other, images, method)
        torch.testing.assert_close(ours.values, theirs.values, rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(ours.target, theirs.target, rtol=tolerance, atol=tolerance)
    for fold in (False, True):
        one, two = (
            cp.metrics.deletion_curve(
                cp.logit(each, 0), images, images.sum(1), baseline=MEAN, steps=6, fold=fold
            )
            for each in (net, other)
        )
        torch.testing.assert_close(
            one.scores, two.scores, rtol=max(tolerance, 1e-9), atol=max(tolerance, 1e-9)
        )


# activations


@pytest.mark.parametrize("kind", ["inplace", "reused", "functional"])
def test_activations_in_place_reused_or_called_as_functions_change_nothing(kind):
    assert_explained_alike(SmallNet(0, kind), SmallNet(0), random_images(0), 1e-12)


def test_torchvisions_networks_with_activations_in_place_are_explained_like_those_without():
    models = pytest.importorskip("torchvision.models")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = models.mobilenet_v3_small(weights=None, num_classes=5).double().eval()
    images = random_images(0, batch=1, channels=3, size=32)
    apart = models.mobilenet_v3_small(weights=None, num_classes=5).double().eval()
    apart.load_state_dict(net.state_dict())
    for part in apart.modules():
        if hasattr(part, "inplace"):
            part.inplace = False
    assert any(getattr(part, "inplace", False) for part in net.modules())
    for layer in ("input", "features.4"):
        one, two = (
            cp.compare(cp.logit(each, 0), images, baseline=MEAN, layer=layer).explain(IG)
            for each in (net, apart)
        )
        torch.testing.assert_close(one.values, two.values, rtol=1e-9, atol=1e-12)


def test_a_module_that_runs_twice_is_no_layer_and_the_nearest_that_is_one_is_named():
    with pytest.raises(
        LayerError, match=r"'activation' runs 2 times.*nearest layer that is a real cut is '\w+'"
    ):
        cp.compare(cp.logit(SmallNet(0, "reused")), random_images(0), baseline=MEAN, layer="activation")


# hooks and wrappers


def test_the_users_own_hooks_fire_and_stay():
    net, doubled, fired = SmallNet(0), SmallNet(0), []
    images = random_images(0)
    with torch.no_grad():
        for parameter in doubled.body.parameters():
            parameter.mul_(2)

    def double(module, arguments, output):
        fired.append(len(output))
        return output * 2

    net.body.register_forward_hook(double)
    net.last.register_forward_pre_hook(lambda module, arguments: None)
    net.head.register_full_backward_hook(lambda module, inputs, outputs: fired.append(-1))
    before = [dict(part._forward_hooks) | dict(part._backward_hooks) for part in net.modules()]
    assert_explained_alike(net, doubled, images, 1e-12)
    assert min(fired) == -1 < max(fired)
    assert [dict(part._forward_hooks) | dict(part._backward_hooks) for part in net.modules()] == before


def test_a_model_under_data_parallel_is_explained_as_without():
    assert_explained_alike(nn.DataParallel(SmallNet(0)), SmallNet(0), random_images(0))


def test_a_compiled_model_runs_uncompiled_and_says_so():
    net, images = SmallNet(0), random_images(0)
    graphs = []
    compiled = torch.compile(net, backend=lambda graph, inputs: graphs.append(graph) or graph)
    with pytest.warns(UserWarning, match="compiled by torch.compile; Counterpoint runs it uncompiled"):
        score = cp.logit(compiled, 0)
    assert score.module is net
    with pytest.warns(UserWarning, match="runs it uncompiled"):
        classifier = cp.Classifier(torch.compile(net), mean=(0.0, 0.0), std=(1.0, 1.0), size=6)
    assert classifier.network is net
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert_explained_alike(compiled, SmallNet(0), images)
    assert graphs == []


def test_a_model_compiled_in_place_is_refused_with_the_way_back():
    net = SmallNet(0)
    net.body.compile(backend="eager")
    with pytest.raises(InputError, match=r"'body' was compiled in place.*part._compiled_call_impl = None"):
        cp.logit(net)
    for part in net.modules():
        part._compiled_call_impl = None
    assert_explained_alike(net, SmallNet(0), random_images(0))


# numbers


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_classifier_of_half_precision_takes_pixels_in_float32(dtype):
    net, images = SmallNet(0).to(dtype), random_images(0).float()
    classifier = cp.Classifier(net, mean=(0.2, 0.3), std=(1.0, 1.0), size=6)
    whole = cp.Classifier(SmallNet(0).to(dtype).float(), mean=(0.2, 0.3), std=(1.0, 1.0), size=6)
    for method in SOME:
        ours, exact = explained(classifier, images, method), explained(whole, images, method)
        assert ours.values.dtype == ours.target.dtype == torch.float32
        largest = exact.values.abs().max()
        assert (ours.values - exact.values).abs().max() < 0.15 * largest, method
    curve = cp.metrics.deletion_curve(cp.logit(classifier), images, images.sum(1), baseline=MEAN, steps=4)
    assert curve.scores.isfinite().all()
    # The type is looked up at each run: a cut that is known still fits after the weights changed theirs.
    classifier.module.float()
    torch.testing.assert_close(
        explained(classifier, images, cp.methods.GradCAM()).values,
        explained(whole, images, cp.methods.GradCAM()).values,
    )


def test_a_bare_module_gets_its_inputs_in_the_type_of_its_weights_or_says_so():
    images = random_images(0)
    assert explained(SmallNet(0).to(torch.float16), images.half()).values.dtype == torch.float16
    with pytest.raises(
        InputError,
        match=r"inputs are torch.float64 on cpu, but the model's weights are torch.bfloat16.*inputs.to\(",
    ):
        cp.logit(SmallNet(0).to(torch.bfloat16)).bind(images)


def test_a_model_that_returns_half_precision_is_scored_in_float32():
    class Half(SmallNet):
        def forward(self, x):
            return super().forward(x).half()

    attribution = explained(Half(0), random_images(0))
    assert attribution.target.dtype == torch.float32
    assert attribution.relative_error.max() < 0.05


def test_channels_last_changes_nothing():
    images = random_images(0).to(memory_format=torch.channels_last)
    net = SmallNet(0).to(memory_format=torch.channels_last)
    assert_explained_alike(net, SmallNet(0), images, 1e-12)
    assert explained(net, images).values.shape == images.shape


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("way", ["dynamic", "static"])
def test_a_quantised_model_has_no_gradients_but_scores_and_curves(way):
    from torch.ao import quantization

    images = random_images(0).float()
    if way == "dynamic":
        net = quantization.quantize_dynamic(SmallNet(0).float(), {nn.Linear}, dtype=torch.qint8)
    else:
        torch.backends.quantized.engine = torch.backends.quantized.supported_engines[-1]
        layers = (nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
        net = nn.Sequential(quantization.QuantStub(), *layers, quantization.DeQuantStub()).eval()
        net.qconfig = quantization.default_qconfig
        net = quantization.prepare(net)
        net(images)
        net = quantization.convert(net)
    for method in (cp.methods.Gradient(), IG, cp.methods.GuidedBackprop()):
        with pytest.raises(
            ModelError, match=r"the model is quantised: layer '\w+' \(\w+\).*cp.methods.RISE\(\)"
        ):
            explained(net, images, method)
    for method in (
        cp.methods.Occlusion(2, 2),
        cp.methods.RISE(masks=16, cells=2),
        cp.methods.FeatureAblation(),
    ):
        assert explained(net, images, method).values.abs().max() > 0
    curve = cp.metrics.deletion_curve(cp.logit(net, 0), images, images.sum(1), baseline=MEAN, steps=4)
    assert curve.scores.isfinite().all()


def test_a_quantised_part_beside_a_skip_connection_is_refused_though_torch_finds_a_gradient():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch.ao import quantization

        class Skips(nn.Module):
            def __init__(self):
                super().__init__()
                self.body = nn.Linear(4, 4)

            def forward(self, x):
                return x + self.body(x)

        net = quantization.quantize_dynamic(Skips(), {nn.Linear}, dtype=torch.qint8)
    with pytest.raises(ModelError, match=r"layer 'body' .* computes with whole numbers"):
        cp.compare(cp.logit(net, 0), torch.rand(2, 4), baseline=cp.baselines.Black()).explain(
            cp.methods.Gradient()
        )


# modes


@pytest.mark.parametrize(
    ("part", "words"),
    [(nn.BatchNorm2d(2), r"'0' \(BatchNorm2d\)"), (nn.Dropout(0.5), r"'0' \(Dropout\)")],
)
def test_a_model_in_training_mode_is_warned_of(part, words):
    net = nn.Sequential(part, nn.Flatten(), nn.Linear(72, 3)).double()
    with pytest.warns(UserWarning, match=rf"training mode, where {words} make.*call model.eval\(\) first"):
        cp.logit(net, 0).bind(random_images(0))
    net.eval()
    assert explained(net, random_images(0)).values.isfinite().all()


# what forward does


def test_a_model_that_writes_on_its_input_gets_copies_and_the_inputs_stay():
    class Writes(SmallNet):
        def forward(self, x):
            x.sub_(0.5).mul_(2)
            return super().forward(x)

    class Plain(SmallNet):
        def forward(self, x):
            return super().forward((x - 0.5) * 2)

    images = random_images(0)
    kept = images.clone()
    assert_explained_alike(Writes(0), Plain(0), images, 1e-12)
    torch.testing.assert_close(images, kept, rtol=0, atol=0)


def test_a_forward_under_no_grad_has_scores_but_no_gradients():
    class NoGrad(SmallNet):
        @torch.no_grad()
        def forward(self, x):
            return super().forward(x)

    with pytest.raises(
        ModelError, match=r"the score has no gradient.*torch.no_grad\(\).*cp.methods.Occlusion\(\)"
    ):
        explained(NoGrad(0), random_images(0))
    assert explained(NoGrad(0), random_images(0), cp.methods.Occlusion(2, 2)).values.abs().max() > 0


def test_a_score_that_does_not_reach_its_input_says_so():
    bias = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    images = random_images(0)
    comparison = cp.compare(lambda x: x.detach().flatten(1).sum(1) + bias, images, baseline=MEAN)
    for ask in (lambda: comparison.gradients(images), lambda: comparison.hessian_products(images, images)):
        with pytest.raises(ModelError, match="the score has no gradient"):
            ask()


def test_a_forward_that_cannot_be_called_with_one_tensor_is_told_two_ways_out():
    class Keyword(SmallNet):
        def forward(self, *, pixel_values):
            return super().forward(pixel_values)

    class Two(SmallNet):
        def forward(self, x: torch.Tensor, metadata: torch.Tensor, scale: float = 1.0):
            return super().forward(x) + scale * metadata

    images = random_images(0)
    with pytest.raises(ModelError, match=r"Keyword.forward is \(\*, pixel_values\).*a module of your own"):
        cp.logit(Keyword(0)).bind(images)
    with pytest.raises(
        ModelError,
        match=r"Two.forward is \(x, metadata, scale=1.0\): missing a required argument: 'metadata'.*cp.callable_score",
    ):
        cp.logit(nn.DataParallel(Two(0))).bind(images)


def test_a_wrapper_of_ones_own_passes_the_rest_and_keeps_the_names_of_layers():
    class Keyword(SmallNet):
        def forward(self, *, pixel_values, scale):
            return super().forward(pixel_values) * scale

    class Wrapper(nn.Module):
        wraps = "model"

        def __init__(self, model):
            super().__init__()
            self.model = model.eval()
            self.eval()

        def forward(self, x):
            return self.model(pixel_values=x, scale=1.0)

    assert_explained_alike(Wrapper(Keyword(0)), SmallNet(0), random_images(0), 1e-12)


def test_a_model_with_a_second_input_for_each_image_is_a_function():
    class Two(SmallNet):
        def forward(self, x, metadata):
            return super().forward(x) * metadata

    net, images = Two(0), random_images(0, batch=3)
    metadata = torch.tensor([[1.0], [2.0], [-3.0]], dtype=torch.float64)
    score = cp.callable_score(lambda rows, image: net(rows, metadata[image])[:, 0])
    ours = cp.compare(score, images, baseline=MEAN, micro_batch=2).explain(IG)
    plain = explained(SmallNet(0), images)
    torch.testing.assert_close(ours.values, plain.values * metadata[:, :, None, None])


# shapes

SMALL = {
    "meaningful_perturbation": {"steps": 4, "cells": 3, "jitter": 1},
    "extremal_perturbation": {"steps": 4, "step": 2, "sigma": 2.0, "areas": (0.1, 0.3)},
    "igos": {"steps": 2, "points": 2, "cells": 3},
    "igos_pp": {"steps": 2, "points": 2, "cells": 3},
    "fgvis": {"steps": 4},
    "fei": {"steps": 6, "quantiles": 3, "every": 2, "measure": 4},
    "rise": {"masks": 16},
    "sobol": {},
}
# These look at attention, and SmallNet has none.
OF_ATTENTION = ("attention_rollout", "gae")


SHAPES = pytest.mark.parametrize("shape", [(2, 5, 9), (1, 6, 6), (4, 8, 8), (2, 1, 1)], ids=str)


def assert_maps_of(shape, methods):
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(1, *shape, generator=generator, dtype=torch.float64)
    net = SmallNet(0, channels=shape[0])
    for method in methods:
        attribution = explained(net, images, method)
        assert attribution.values.isfinite().all(), method
        assert attribution.heatmap().shape == (1, *shape[1:]), method
    table = cp.metrics.curves(cp.logit(net), images, {"map": attribution}, [MEAN], steps=1)
    assert table.scores.isfinite().all()


@SHAPES
def test_images_may_have_any_sides_and_channels(shape):
    assert_maps_of(shape, SOME)


@pytest.mark.slow
@SHAPES
def test_every_method_takes_images_of_any_sides_and_channels(shape):
    assert_maps_of(
        shape, [METHODS[name](**SMALL.get(name, {})) for name in METHODS if name not in OF_ATTENTION]
    )


class AnyAxes(nn.Module):
    """A network of signals (one axis) or volumes (three)."""

    def __init__(self, axes):
        super().__init__()
        convolution = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[axes]
        self.stem = convolution(2, 4, 3, padding=1)
        self.activation = nn.ReLU()
        self.last = nn.Identity()
        self.head = nn.Linear(4, 3)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
        self.double()

    def forward(self, x):
        return self.head(self.last(self.activation(self.stem(x))).flatten(2).mean(2))


def places(*sides):
    return torch.rand(2, 2, *sides, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


ANY_AXES = (
    "gradient smooth_grad taylor gradient_times_input integrated_gradients expected_gradients guided_backprop deep_lift lrp occlusion "
    "feature_ablation random_map"
).split()
SLOWER = (
    "var_grad square_grad revised_ig idgi gradient_shap guided_ig ig2 deconvnet excitation_backprop kernel_shap lime sobol hsic"
).split()


@pytest.mark.parametrize(
    "names", [ANY_AXES, pytest.param(SLOWER, marks=pytest.mark.slow)], ids=["usual", "slower"]
)
@pytest.mark.parametrize("sides", [(9,), (3, 4, 5)], ids=["signal", "volume"])
def test_signals_and_volumes_are_explained_by_what_makes_sense_there(sides, names):
    net, inputs = AnyAxes(len(sides)), places(*sides)
    for name in names:
        attribution = explained(net, inputs, METHODS[name]())
        assert attribution.values.shape == inputs.shape, name
        assert attribution.values.isfinite().all(), name
        if name in ("integrated_gradients", "deep_lift"):
            assert attribution.relative_error.max() < 0.01, name
    with pytest.raises(
        ShapeError, match=r"must be images.*signals and volumes go through gradients, path methods"
    ):
        explained(net, inputs, cp.methods.RISE())
    at_layer = cp.compare(cp.logit(net, 0), inputs, baseline=MEAN, layer="last").explain(IG)
    assert at_layer.cut == "split"
    assert at_layer.error.abs().max() < 1e-12


@pytest.mark.parametrize(
    "method", [cp.methods.Occlusion(3, 2), cp.methods.FeatureAblation(cp.methods.Grid(3))]
)
def test_a_signal_is_explained_like_the_image_of_one_row_that_it_is(method):
    net, flat, signal = AnyAxes(2), AnyAxes(1), places(9)
    with torch.no_grad():
        # Of a row with zeros above and below, a convolution of two dimensions sees its middle row.
        flat.stem.weight.copy_(net.stem.weight[:, :, 1])
        flat.stem.bias.copy_(net.stem.bias)
        flat.head.load_state_dict(net.head.state_dict())
    image = signal.unsqueeze(2)
    of_image, of_signal = explained(net, image, method), explained(flat, signal, method)
    torch.testing.assert_close(of_signal.values, of_image.values[:, :, 0])


@pytest.mark.parametrize("sides", [(12,), (2, 3, 4)], ids=["signal", "volume"])
@pytest.mark.parametrize(
    "baseline",
    [
        cp.baselines.Black(),
        cp.baselines.Constant((0.2, 0.4)),
        MEAN,
        cp.baselines.Median(),
        cp.baselines.Uniform(),
        cp.baselines.Normal(),
        cp.baselines.Blur(2.0),
    ],
    ids=lambda baseline: type(baseline).__name__,
)
def test_curves_of_signals_and_volumes_have_their_closed_form(sides, baseline):
    inputs = places(*sides)
    weight = torch.randn(inputs.shape[1:], generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def linear(x):
        return (x * weight).flatten(1).sum(1)

    attribution = cp.compare(linear, inputs, baseline=baseline).explain(cp.methods.IntegratedGradients())
    table = cp.metrics.curves(linear, inputs, {"ig": attribution}, [baseline], steps=12, fold=False)
    shares = attribution.values.sum(1).flatten(1).sort(descending=True).values
    count = shares.shape[1]
    counts = [round(k * count / 12) for k in range(13)]
    removed = torch.stack([shares[:, :n].sum(1) for n in counts], 1)
    curve = table.curve("deletion")
    torch.testing.assert_close(curve.scores, attribution.score[:, None] - removed)
    torch.testing.assert_close(table.curve("insertion").scores, attribution.baseline_score[:, None] + removed)


def test_a_blur_along_one_axis_is_that_of_an_image_of_equal_rows():
    signal = places(12)
    rows = signal.unsqueeze(2).expand(-1, -1, 5, -1)
    blur = cp.baselines.Blur(2.0)
    torch.testing.assert_close(blur(rows)[:, :, 0], blur(signal))
    volume = signal[:, :, None, None].expand(-1, -1, 3, 4, -1)
    torch.testing.assert_close(blur(volume)[:, :, 1, 2], blur(signal))


def test_curves_of_signals_refuse_maps_and_baselines_that_do_not_fit(unchecked):
    net, signal = AnyAxes(1), places(9)
    at_layer = cp.compare(cp.logit(net, 0), signal, baseline=MEAN, layer="last").explain(IG)
    with pytest.raises(
        ShapeError, match=r"maps at the input only: values must be \(2, 2, 9\), but those of layer 'last'"
    ):
        cp.metrics.deletion_curve(cp.logit(net, 0), signal, at_layer, baseline=MEAN, steps=3)
    with pytest.raises(ShapeError, match=r"must be images .*got \(\d, 2, 9\)"):
        cp.metrics.deletion_curve(
            cp.logit(net, 0), signal, signal[:, 0], baseline=cp.baselines.ROAD(), steps=3
        )
    with pytest.raises(ShapeError, match=re.escape("(2, 9), but is (2, 2, 9); sum its channels")):
        cp.metrics.deletion_curve(cp.logit(net, 0), signal, signal, baseline=MEAN, steps=3)
    with pytest.raises(ShapeError, match=r"must have channels and places.*got \(2, 4\)"):
        cp.metrics.deletion_curve(
            lambda x: x.sum(1), torch.rand(2, 4), torch.rand(2), baseline=cp.baselines.Black(), steps=1
        )


@pytest.mark.filterwarnings("ignore:the model is in training mode")
def test_a_network_in_training_mode_keeps_its_running_statistics_and_the_random_numbers():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3),
        nn.BatchNorm2d(4),
        nn.Dropout(0.5),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 3),
    )
    images = torch.rand(2, 2, 8, 8)
    before = {name: buffer.clone() for name, buffer in net.named_buffers()}
    state = torch.get_rng_state()
    score = cp.logit(net, 0)
    attribution = cp.compare(score, images, baseline=cp.baselines.Black()).explain(
        cp.methods.IntegratedGradients(rule=cp.quadrature.GaussLegendre(4))
    )
    cp.metrics.curves(score, images, {"map": attribution}, [cp.baselines.Mean()], steps=4)
    assert net.training
    assert torch.equal(torch.get_rng_state(), state)
    for name, buffer in net.named_buffers():
        assert torch.equal(buffer, before[name]), name


def test_batch_norms_with_learned_offsets_are_not_called_random_though_their_statistics_were_folded():
    def net(offset):
        made = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
        ).eval()
        with torch.no_grad():
            made[1].bias.add_(offset)
        return cp.Classifier(made, mean=0.5, std=0.5, size=8)

    assert net(0.0).card()["random_weights"] is True
    assert net(0.1).card()["random_weights"] is None
