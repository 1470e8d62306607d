"""Class activation maps are the same numbers in every layout; what lies in no map has no value, and the budget says so."""

import pytest
import torch

import counterpoint as cp
from counterpoint.errors import LayerError
from counterpoint.layouts import Tokens
from laid_out import KINDS, Laid, Pyramid, tiny_timm_vit

BLACK = cp.baselines.Black()
M = cp.methods
CAMS = [
    M.GradCAM(), M.GradCAM(relu=False, reference="comparison"), M.HiResCAM(), M.LayerCAM(), M.LayerCAM(gamma=2.0), M.ODAM(),
    M.ODAM(sigma=1.0), M.DifferenceMap(), M.IntegratedGradCAM(steps=3), M.GradCAMPlusPlus(), M.XGradCAM(), M.ScoreCAM(),
    M.AblationCAM(), M.AblationCAM(reference="comparison"), M.EigenCAM(), M.EigenCAM(centred=True),
]  # fmt: skip


@pytest.fixture
def images():
    return torch.rand(2, 2, 6, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def ask(net, images, layer="laid", target=2):
    return cp.compare(cp.logit(net, target), images, baseline=BLACK, layer=layer)


@pytest.mark.parametrize("method", CAMS, ids=repr)
def test_a_map_is_the_same_in_every_layout(method, images):
    expected = ask(Laid("maps"), images).explain(method)
    assert expected.values.any()
    for kind in KINDS[1:]:
        there = ask(Laid(kind), images)
        found = there.explain(method)
        assert found.values.shape == there.end.shape
        torch.testing.assert_close(there.layout.maps(found.values)[0], expected.values)
        torch.testing.assert_close(found.heatmap(), expected.heatmap())
        torch.testing.assert_close(found.error, expected.error, equal_nan=True)
        for name, count in expected.extras.items():
            assert torch.equal(found.extras[name], count)


@pytest.mark.parametrize("method", CAMS, ids=repr)
def test_the_class_token_has_no_value(method, images):
    there = ask(Laid("tokens", weight=2.0), images)
    assert there.layout == Tokens(1, 3, 4)
    assert there.gradients(there.end)[:, 0].any()
    found = there.explain(method)
    assert not found.values[:, 0].any()
    assert found.values[:, 1:].any()
    torch.testing.assert_close(found.heatmap().sum((1, 2)), found.result)


def test_what_the_class_token_holds_is_missing_in_the_operator_step_of_the_budget(images):
    there = ask(Laid("tokens", weight=2.0), images)
    found = there.explain(M.HiResCAM())
    held = (there.gradients(there.end) * there.end)[:, 0].sum(1)
    budget = found.budget()
    assert (held.abs() > 0.1).all()
    torch.testing.assert_close(budget["operator"], held)
    torch.testing.assert_close(sum(budget.values()), found.error)
    # Nothing else is lost: without the token the step costs nothing.
    none = ask(Laid("maps"), images).explain(M.HiResCAM()).budget()["operator"]
    assert none.abs().max() < 1e-12


def test_integrated_gradients_give_the_class_token_its_share(images):
    there = ask(Laid("tokens", weight=2.0), images)
    found = there.explain(M.IntegratedGradients(rule=cp.quadrature.Midpoint(200)))
    assert found.values[:, 0].any()
    assert found.relative_error.max() < 0.02
    torch.testing.assert_close(found.heatmap().sum((1, 2)), found.result - found.values[:, 0].sum(1))


@pytest.mark.parametrize("method", CAMS, ids=repr)
def test_every_cam_works_on_a_joint_cut_and_gives_each_level_what_it_gets_alone(method, images):
    net = Pyramid()
    there = ask(net, images, cp.joint("p1", "p2"))
    found = there.explain(method)
    assert found.values.shape == there.end.shape
    assert found.values.any()
    torch.testing.assert_close(found.heatmap().sum((1, 2)), found.result)
    if isinstance(method, M.ScoreCAM | M.IntegratedGradCAM):
        return  # one softmax for all; on the way from the baseline the other level changes too
    for level, values in zip(("p1", "p2"), there.layout.split(found.values), strict=True):
        alone = cp.compare(cp.logit(net, 2), images, baseline=BLACK, layer=level, bypass="intervene")
        torch.testing.assert_close(alone.explain(method).values, values)


def test_scores_of_joined_channels_share_one_softmax_and_each_is_left_out_alone(images):
    there = ask(Pyramid(), images, cp.joint("p1", "p2"))
    found = there.explain(M.ScoreCAM(relu=False))
    assert found.forward_evaluations.tolist() == [7, 7]  # 4 channels and 3
    weights = torch.cat(
        [
            (values / features).mean((2, 3))
            for values, features in zip(
                there.layout.split(found.values), there.layout.split(there.end), strict=True
            )
        ],
        1,
    )
    torch.testing.assert_close(weights.sum(1), torch.ones(2).double())
    ablated = there.explain(M.AblationCAM(relu=False))
    z = there.end.clone()
    parts = there.layout.split(z)
    coarse = parts[1].clone()
    coarse[:, 2] = 0
    without = there.scores(torch.cat([parts[0].flatten(1), coarse.flatten(1)], 1))
    drop = (there.score - without) / there.score.abs()
    torch.testing.assert_close(
        there.layout.split(ablated.values)[1][:, 2], drop[:, None, None] * parts[1][:, 2]
    )


def test_a_layer_without_places_is_refused_with_the_reason():
    net = tiny_timm_vit()
    comparison = cp.compare(cp.logit(net, 1), torch.rand(1, 3, 32, 32), baseline=BLACK)
    with pytest.raises(
        LayerError, match=r"class activation maps need .* not layer 'fc_norm', which gives \(1, 12\)"
    ):
        comparison.at("fc_norm").explain(M.GradCAM())


def test_channel_means_are_those_of_the_channels_whatever_their_place(images):
    starts = {
        kind: cp.compare(
            cp.logit(Laid(kind), 1), images, baseline=BLACK, layer="laid", layer_baseline="channel_mean"
        ).start
        for kind in ("maps", "channels_last")
    }
    torch.testing.assert_close(starts["channels_last"].movedim(-1, 1), starts["maps"])
