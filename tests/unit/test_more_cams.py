"""Closed forms of class activation maps with weights of their own, in float64."""

import pytest
import torch
from torch import nn

import counterpoint as cp
from counterpoint.errors import LayerError
from counterpoint.progress import listening
from networks import SmallNet, random_images

BLACK = cp.baselines.Black()
CAMS = [
    cp.methods.GradCAMPlusPlus,
    cp.methods.XGradCAM,
    cp.methods.ScoreCAM,
    cp.methods.AblationCAM,
    cp.methods.EigenCAM,
]


class Weighted(nn.Module):
    """The layer `maps` returns the pixels; logits are weighted sums over channels and places, of an even power of them."""

    def __init__(self, weight, power=1):
        super().__init__()
        self.maps, self.power = nn.Identity(), power
        self.register_buffer("weight", weight.contiguous())  # (class, channel, height, width)

    def forward(self, x):
        return torch.einsum("bchw,kchw->bk", self.maps(x) ** self.power, self.weight)


def weights_for(seed, *, pooled=False):
    """A class for each of two, over two channels of 6 x 6 places; pooled: the same in all places."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(2, 2, *((1, 1) if pooled else (6, 6)), generator=generator, dtype=torch.float64)
    return weight.expand(2, 2, 6, 6)


def explain(method, net, inputs, *, target=0, baseline=BLACK, layer="maps", **settings):
    return cp.compare(cp.logit(net, target), inputs, baseline=baseline, layer=layer, **settings).explain(
        method
    )


def positive(maps):
    """Places with a negative channel sum dropped."""
    return maps * (maps.sum(1, keepdim=True) > 0)


def from_0_to_1(maps):
    low, high = maps.amin((2, 3), keepdim=True), maps.amax((2, 3), keepdim=True)
    return (maps - low) / (high - low)


@pytest.mark.parametrize("make", CAMS)
def test_a_layer_without_places_is_refused(make):
    class Flat(nn.Module):
        def __init__(self):
            super().__init__()
            self.flat = nn.Flatten()

        def forward(self, x):
            return self.flat(x)[:, :3]

    with pytest.raises(
        LayerError, match=r"class activation maps need features \(batch, channel, height, width\)"
    ):
        explain(make(), Flat(), random_images(0), layer="flat")


def test_grad_cam_plus_plus_of_a_linear_score_is_its_formula():
    weight, inputs = weights_for(1), random_images(2)
    attribution = explain(cp.methods.GradCAMPlusPlus(relu=False), Weighted(weight), inputs)
    gradient, total = weight[:1], inputs.sum((2, 3), keepdim=True)
    # As published, second and third derivatives of exp(f) over exp(f) being g^2 and g^3.
    alpha = gradient**2 / (2 * gradient**2 + total * gradient**3)
    weights = (alpha * gradient.relu()).sum((2, 3), keepdim=True)
    torch.testing.assert_close(attribution.values, weights * inputs)
    shown = explain(cp.methods.GradCAMPlusPlus(), Weighted(weight), inputs)
    torch.testing.assert_close(shown.values, positive(weights * inputs))
    assert attribution.claim == "importance"


def test_grad_cam_plus_plus_survives_gradients_that_underflow_or_vanish():
    inputs = random_images(2)
    tiny = explain(cp.methods.GradCAMPlusPlus(), Weighted(weights_for(1) * 1e-200), inputs)
    # So small that the damping is 1 / 2 everywhere.
    expected = (weights_for(1)[:1].relu() / 2).sum((2, 3), keepdim=True) * inputs
    torch.testing.assert_close(tiny.values * 1e200, expected)
    none = explain(cp.methods.GradCAMPlusPlus(), Weighted(weights_for(1) * 0.0), inputs)
    assert not none.values.any()
    # 2 + g sum A = 0: no weight, not infinity.
    features = torch.full((1, 2, 6, 6), -1.0 / 18, dtype=torch.float64)
    cancelled = explain(
        cp.methods.GradCAMPlusPlus(relu=False), Weighted(torch.ones(2, 2, 6, 6).double()), features
    )
    assert not cancelled.values.any()


@pytest.mark.parametrize("layer", ["stem", "activation", "last"])
@pytest.mark.parametrize("reference", ["zeros", "comparison"])
def test_xgrad_cam_conserves_each_channels_gradient_times_features(layer, reference):
    net, images, baseline = SmallNet(3, "smooth"), random_images(4), cp.baselines.White()
    method = cp.methods.XGradCAM(relu=False, reference=reference)
    attribution = explain(method, net, images, baseline=baseline, layer=layer)
    one_step = explain(cp.methods.HiResCAM(reference=reference), net, images, baseline=baseline, layer=layer)
    torch.testing.assert_close(attribution.values.sum((2, 3)), one_step.values.sum((2, 3)))
    torch.testing.assert_close(attribution.error, one_step.error)
    torch.testing.assert_close(attribution.own_error, one_step.own_error)
    assert attribution.budget()["operator"].abs().max() < 1e-9
    assert not attribution.extras["left_out"].any()


def test_xgrad_cam_spreads_each_channel_by_its_features():
    weight, inputs = weights_for(1), random_images(2)
    attribution = explain(cp.methods.XGradCAM(relu=False), Weighted(weight), inputs)
    weights = (weight[:1] * inputs).sum((2, 3), keepdim=True) / inputs.sum((2, 3), keepdim=True)
    torch.testing.assert_close(attribution.values, weights * inputs)
    shown = explain(cp.methods.XGradCAM(), Weighted(weight), inputs)
    torch.testing.assert_close(shown.values, positive(weights * inputs))


def test_xgrad_cam_is_grad_cam_where_the_gradient_is_the_same_everywhere():
    net, inputs = Weighted(weights_for(1, pooled=True)), random_images(2)
    ours, mean = (explain(make(), net, inputs) for make in (cp.methods.XGradCAM, cp.methods.GradCAM))
    torch.testing.assert_close(ours.values, mean.values)


def test_xgrad_cam_leaves_out_channels_that_cancel_and_says_so():
    inputs = random_images(2)
    inputs[0, 1] -= inputs[0, 1].mean()  # no sum to divide by
    inputs[1, 0] = 0.0  # a dead channel misses nothing
    attribution = explain(cp.methods.XGradCAM(relu=False), Weighted(weights_for(1)), inputs)
    assert attribution.extras["left_out"].tolist() == [1, 0]
    assert not attribution.values[0, 1].any()
    assert attribution.values[0, 0].all()


@pytest.mark.parametrize("baseline", [BLACK, cp.baselines.White(), cp.baselines.Uniform(seed=3)])
def test_score_cam_weights_are_the_scores_of_the_image_blended_into_its_baseline(baseline):
    weight, inputs = weights_for(1), random_images(2)
    kept, other = from_0_to_1(inputs), baseline(inputs)
    increase = torch.stack(
        [((kept[:, k : k + 1] * (inputs - other)) * weight[0]).flatten(1).sum(1) for k in range(2)], 1
    )
    plain = explain(
        cp.methods.ScoreCAM(softmax=False, relu=False), Weighted(weight), inputs, baseline=baseline
    )
    torch.testing.assert_close(plain.values, increase[:, :, None, None] * inputs)
    published = explain(cp.methods.ScoreCAM(), Weighted(weight), inputs, baseline=baseline)
    torch.testing.assert_close(published.values, increase.softmax(1)[:, :, None, None] * inputs)
    assert published.forward_evaluations.tolist() == [2, 2]
    assert published.gradient_evaluations.tolist() == [0, 0]


def test_score_cam_leaves_out_channels_that_mask_nothing():
    inputs = random_images(2)
    inputs[0, 1] = 0.7
    inputs[1] = 0.5
    attribution = explain(cp.methods.ScoreCAM(), Weighted(weights_for(1)), inputs)
    assert attribution.extras["left_out"].tolist() == [1, 2]
    assert attribution.forward_evaluations.tolist() == [1, 0]
    # One channel alone has the whole softmax.
    torch.testing.assert_close(attribution.values[0, 0], inputs[0, 0])
    assert not attribution.values[0, 1].any()
    assert not attribution.values[1].any()


def test_score_cam_enlarges_between_the_centres_of_cells_before_it_stretches():
    class Pooled(nn.Module):
        def __init__(self):
            super().__init__()
            self.maps = nn.AvgPool2d(3)

        def forward(self, x):
            return self.maps(x).sum((2, 3))

    inputs = random_images(4)
    attribution = explain(cp.methods.ScoreCAM(softmax=False, relu=False), Pooled(), inputs)
    cells = inputs.unflatten(2, (2, 3)).unflatten(4, (2, 3)).mean((3, 5))
    # Six pixels between two centres at 1 and 4: the outermost stay, the two between go by thirds.
    line = torch.tensor([[1, 1, 2 / 3, 1 / 3, 0, 0], [0, 0, 1 / 3, 2 / 3, 1, 1]], dtype=torch.float64)
    kept = from_0_to_1(line.T @ cells @ line)
    increase = [(kept[:, k] * inputs[:, 0]).sum((1, 2)) / 9 for k in range(2)]
    torch.testing.assert_close(attribution.values, torch.stack(increase, 1)[:, :, None, None] * cells)


@pytest.mark.parametrize("target", [0, 1])
def test_ablation_weights_of_an_additive_score_are_what_each_channel_adds(target):
    weight, inputs = weights_for(5), random_images(2)
    adds = (weight[target] * inputs**2).sum((2, 3))  # (batch, channel)
    score = adds.sum(1)
    attribution = explain(cp.methods.AblationCAM(relu=False), Weighted(weight, 2), inputs, target=target)
    weights = adds / score.abs()[:, None]
    torch.testing.assert_close(attribution.values, weights[:, :, None, None] * inputs)
    shown = explain(cp.methods.AblationCAM(), Weighted(weight, 2), inputs, target=target)
    torch.testing.assert_close(shown.values, positive(attribution.values))
    assert attribution.forward_evaluations.tolist() == [2, 2]
    assert attribution.reference == "zero features"


def test_a_channel_that_speaks_against_a_negative_score_still_counts_against_it():
    weight = torch.tensor([[-2.0, 1.0]]).double().view(1, 2, 1, 1).expand(1, 2, 6, 6)
    inputs = random_images(2)
    attribution = explain(cp.methods.AblationCAM(relu=False), Weighted(weight), inputs)
    assert (attribution.score < -1).all()
    weights = (weight * inputs).sum((2, 3), keepdim=True) / -attribution.score.view(2, 1, 1, 1)
    torch.testing.assert_close(attribution.values, weights * inputs)
    assert (attribution.values[:, 0] <= 0).all()
    assert (attribution.values[:, 1] >= 0).all()


def test_ablation_to_the_baselines_features():
    weight, inputs = weights_for(5), random_images(2)
    inputs[0, 1] = 0.5  # already the baseline's: nothing to ablate
    grey = cp.baselines.Grey()
    attribution = explain(
        cp.methods.AblationCAM(relu=False, reference="comparison"), Weighted(weight, 2), inputs, baseline=grey
    )
    adds = (weight[0] * inputs**2).sum((2, 3))
    drop = (weight[0] * (inputs**2 - 0.25)).sum((2, 3))
    weights = drop / adds.sum(1, keepdim=True).abs()
    torch.testing.assert_close(attribution.values, weights[:, :, None, None] * (inputs - 0.5))
    assert attribution.forward_evaluations.tolist() == [1, 2]
    assert attribution.reference == "comparison"


def test_ablation_of_a_score_of_zero_gives_finite_weights():
    weight = torch.tensor([[1.0, -1.0]]).double().view(1, 2, 1, 1).expand(1, 2, 6, 6)
    inputs = random_images(2)[:, :1].expand(2, 2, 6, 6).contiguous()
    attribution = explain(cp.methods.AblationCAM(relu=False), Weighted(weight), inputs)
    assert attribution.score.abs().max() < 1e-12
    assert attribution.values.isfinite().all()


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_eigen_cam_of_one_pattern_is_that_pattern(sign):
    pattern, share = random_images(3)[:, :1], torch.tensor([0.6, 0.8]).double()
    # Turned so that it is high where the features are, also where all of them are negative: then it is -|pattern| there.
    inputs = sign * pattern * share.view(1, 2, 1, 1)
    attribution = explain(cp.methods.EigenCAM(), Weighted(weights_for(1)), inputs)
    torch.testing.assert_close(attribution.values.sum(1), sign * pattern[:, 0])


def test_eigen_cam_is_the_projection_of_most_size_or_of_most_variance_and_knows_no_class():
    net, inputs = SmallNet(3), random_images(4)
    features = cp.compare(cp.logit(net, 0), inputs, baseline=BLACK, layer="last").end
    for centred in (False, True):
        method = cp.methods.EigenCAM(centred=centred)
        maps = explain(method, net, inputs, layer="last").values.sum(1)
        matrix = features - features.mean((2, 3), keepdim=True) if centred else features
        largest = torch.linalg.matrix_norm(matrix.flatten(2), ord=2)
        torch.testing.assert_close(maps.flatten(1).norm(dim=1), largest)
        assert ((maps * matrix.sum(1)).sum((1, 2)) > 0).all()
        other = explain(method, net, inputs, layer="last", target=2).values.sum(1)
        torch.testing.assert_close(maps, other, rtol=0, atol=0)
        assert abs(maps.mean()) < 1e-12 or not centred


@pytest.mark.parametrize("make", [cp.methods.ScoreCAM, cp.methods.AblationCAM])
def test_changed_images_and_features_are_made_for_one_micro_batch_at_a_time(make):
    inputs, seen = random_images(4), []
    question = cp.compare(
        cp.logit(SmallNet(3), 0), inputs, baseline=cp.baselines.Mean(), layer="last", micro_batch=3
    )
    with listening(lambda done, total, what: seen.append((done, total))):
        few = question.explain(make())
    assert seen == [(3, 8), (6, 8), (8, 8)]
    many = explain(make(), SmallNet(3), inputs, baseline=cp.baselines.Mean(), layer="last")
    torch.testing.assert_close(few.values, many.values)
