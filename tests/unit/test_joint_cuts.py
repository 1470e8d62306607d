"""Several layers as one cut, and cuts whose rows are no rows of the batch."""

import pytest
import torch
from torch import nn

import counterpoint as cp
from counterpoint.cut import open_cut
from counterpoint.errors import InputError, LayerError, UnknownNameError
from counterpoint.layouts import Joint
from laid_out import Pyramid, hugging_face_net

BLACK = cp.baselines.Black()


@pytest.fixture
def net():
    return Pyramid()


@pytest.fixture
def images():
    return torch.rand(2, 2, 6, 8, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def ask(net, images, layer="p1+p2", **settings):
    return cp.compare(cp.logit(net, 1), images, baseline=BLACK, layer=layer, **settings)


def test_joint_is_the_names_with_a_plus_between_them():
    assert cp.joint("p1", "p2") == "p1+p2"
    assert cp.joint("a.b", "c", "d") == cp.joint("a.b", "c+d") == "a.b+c+d"


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["p1"], "two layers or more, got 1"),
        (["p1", "p2", "p1"], "'p1' is there twice"),
        (["body", "body.conv"], r"'body\.conv' is inside 'body'"),
        (["body.conv.1", "body"], r"'body\.conv\.1' is inside 'body'"),
    ],
)
def test_a_joint_of_layers_whose_features_would_be_there_twice_is_refused(names, words):
    with pytest.raises(InputError, match=words):
        cp.joint(*names)


def test_layers_that_are_one_under_two_names_are_refused(net, images):
    net.alias = net.p1
    with pytest.raises(InputError, match="'p1' is there twice"):
        open_cut(net, "p1+alias", images)
    with pytest.raises(UnknownNameError, match="unknown layer 'p3'"):
        open_cut(net, "p1+p3", images)


def test_each_level_is_passed_by_and_both_together_are_a_real_cut(net, images):
    for level in ("p1", "p2"):
        with pytest.raises(LayerError, match=f"layer '{level}' is passed by"):
            open_cut(net, level, images)
    cut = open_cut(net, "p1+p2", images)
    assert (cut.kind, cut.layer) == ("replaced", "p1+p2")
    z = cut.features(images)
    p1, p2 = z.split([4 * 48, 3 * 12], 1)
    torch.testing.assert_close(p1.view(2, 4, 6, 8), net.p1(net.c1(images).relu()))
    torch.testing.assert_close(p2.view(2, 3, 3, 4), net.p2(net.c2(net.c1(images).relu()).relu()))
    torch.testing.assert_close(cut.head(z, images), net(images))
    # Each number goes where it belongs, though p2 runs first.
    expected = net.head1(((p1 + 1).view(2, 4, 6, 8) ** 2).mean((2, 3))) + net.head2(
        (2 * p2).view(2, 3, 3, 4).exp().mean((2, 3))
    )
    torch.testing.assert_close(cut.head(torch.cat([p1 + 1, 2 * p2], 1), images * 0), expected)


def test_the_order_of_the_features_is_that_of_the_names(net, images):
    one, other = open_cut(net, "p1+p2", images), open_cut(net, "p2+p1", images)
    split = [4 * 48, 3 * 12]
    first, second = one.features(images).split(split, 1)
    torch.testing.assert_close(other.features(images), torch.cat([second, first], 1))
    torch.testing.assert_close(other.head(other.features(images), images), net(images))


def test_inputs_of_another_size_are_cut_as_well(net, images):
    cut = open_cut(net, "p1+p2", images)
    larger = torch.rand(3, 2, 10, 12, dtype=torch.float64)
    fresh = open_cut(net, "p1+p2", images)
    z = cut.features(larger)
    for each in (cut, fresh):
        torch.testing.assert_close(each.head(z, larger), net(larger))


def test_layers_that_do_not_decide_together_are_refused_or_an_intervention(images):
    net = Passed()
    with pytest.raises(LayerError, match=r"layers 'p1\+p2' together are passed by") as caught:
        open_cut(net, "p1+p2", images)
    assert "bypass='intervene'" in str(caught.value)
    assert open_cut(net, "p1+p2", images, bypass="intervene").kind == "partial"


class Passed(Pyramid):
    """The same network, with the pixels passing by both levels."""

    def forward(self, x):
        return super().forward(x) + x.mean((1, 2, 3))[:, None]


def test_the_target_at_a_joint_cut_is_that_at_the_input_and_path_methods_explain_it(net, images):
    whole = cp.compare(cp.logit(net, 1), images, baseline=BLACK)
    there = whole.at(cp.joint("p1", "p2"))
    assert there.end.shape == (2, 4 * 48 + 3 * 12)
    assert isinstance(there.layout, Joint)
    attribution = there.explain(cp.methods.IntegratedGradients(rule=cp.quadrature.GaussLegendre(16)))
    torch.testing.assert_close(attribution.target, whole.score - whole.baseline_score)
    torch.testing.assert_close(attribution.result, attribution.target, rtol=1e-6, atol=1e-8)
    assert (attribution.layer, attribution.cut) == ("p1+p2", "replaced")
    heat = attribution.heatmap()
    assert heat.shape == (2, 6, 8)
    torch.testing.assert_close(heat.sum((1, 2)), attribution.result)


def test_each_level_has_its_own_weights_in_grad_cam(net, images):
    there = ask(net, images)
    found = there.explain(cp.methods.GradCAM(relu=False))
    parts = there.layout.split
    for values, z, gradient in zip(
        parts(found.values), parts(there.end), parts(there.gradients(there.end)), strict=True
    ):
        torch.testing.assert_close(values, gradient.mean((2, 3), keepdim=True) * z)
    drawn = there.explain(cp.methods.GradCAM())
    for values, before in zip(parts(drawn.values), parts(found.values), strict=True):
        torch.testing.assert_close(values, before * (before.sum(1, keepdim=True) > 0))


def test_a_level_alone_is_an_intervention_whose_gradient_is_its_part_of_the_joint_one(net, images):
    both, alone = ask(net, images), ask(net, images, "p2", bypass="intervene")
    torch.testing.assert_close(both.layout.split(both.gradients(both.end))[1], alone.gradients(alone.end))
    assert alone.explain(cp.methods.HiResCAM()).cut == "partial"


@pytest.mark.parametrize("layer_baseline", ["zeros", "channel_mean"])
def test_layer_baselines_work_on_each_level(net, images, layer_baseline):
    there = ask(net, images, layer_baseline=layer_baseline)
    for end, start in zip(there.layout.split(there.end), there.layout.split(there.start), strict=True):
        mean = end.mean((2, 3), keepdim=True).expand_as(end)
        torch.testing.assert_close(start, mean if layer_baseline == "channel_mean" else torch.zeros_like(end))


def test_a_folded_copy_keeps_all_levels_of_a_joint_cut(images):
    class Normed(Pyramid):
        """A batch norm behind each level, which folding would move into it."""

        def __init__(self) -> None:
            super().__init__()
            self.norm1, self.norm2 = nn.BatchNorm2d(4), nn.BatchNorm2d(3)
            for norm in (self.norm1, self.norm2):
                nn.init.uniform_(norm.weight, 0.5, 2.0)
                nn.init.uniform_(norm.running_mean, -1.0, 1.0)
            self.double().eval()

        def forward(self, x):
            c1 = self.c1(x).relu()
            p2 = self.norm2(self.p2(self.c2(c1).relu()))
            p1 = self.norm1(self.p1(c1))
            return self.head1((p1**2).mean((2, 3))) + self.head2(p2.exp().mean((2, 3)))

    net = Normed()
    plain, folded = ask(net, images), ask(net, images, fold=True)
    assert folded.folded
    torch.testing.assert_close(folded.end, plain.end)
    torch.testing.assert_close(folded.gradients(folded.end), plain.gradients(plain.end))


def test_a_joint_attribution_is_saved_with_its_layout(net, images, tmp_path):
    saved = ask(net, images).explain(cp.methods.LayerCAM())
    loaded = cp.load_attribution(saved.save(tmp_path / "joint.safetensors"))
    assert loaded.layout == saved.layout
    torch.testing.assert_close(loaded.heatmap(), saved.heatmap())


def test_the_model_is_left_without_hooks_also_after_an_exception(net, images):
    cut, net.idle = open_cut(net, "p1+p2", images), nn.Linear(2, 2)
    z = cut.features(images)
    with pytest.raises(RuntimeError):
        cut.head(z[:, :5], images)
    with pytest.raises(LayerError):
        open_cut(net, "p1+c2+idle", images)
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in net.modules())


def test_a_layer_of_a_joint_that_runs_twice_or_never_is_named(net, images):
    class Twice(Pyramid):
        def forward(self, x):
            self.p1(self.c1(x))
            return super().forward(x)

    with pytest.raises(LayerError, match="layer 'p1' runs 2 times"):
        open_cut(Twice(), "p2+p1", images)
    net.idle = nn.Linear(2, 2)
    with pytest.raises(LayerError, match="layer 'idle' does not run"):
        open_cut(net, "p1+idle", images)


def test_attention_within_windows_is_no_cut_and_the_nearest_real_one_is_named():
    swin = hugging_face_net(
        "Swin", image_size=32, patch_size=4, embed_dim=8, depths=[1], num_heads=[1], window_size=4
    )
    with pytest.raises(
        LayerError, match=r"returns \(4, 16, 8\) for 1 row of inputs: its first axis is not the batch"
    ) as caught:
        open_cut(swin, "swin.encoder.layers.0.blocks.0.attention.q_proj", torch.rand(1, 3, 32, 32))
    nearest = str(caught.value).split("real cut is '")[1].split("'")[0]
    assert open_cut(swin, nearest, torch.rand(1, 3, 32, 32)).kind == "replaced"


class Mixing(nn.Module):
    """Takes the mean over the batch away, as no network for one image does."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.mix, self.fc = nn.Conv2d(2, 3, 1), nn.Identity(), nn.Linear(3, 2)

    def forward(self, x):
        z = self.body(x)
        return self.fc(self.mix(z - z.mean(0, keepdim=True)).mean((2, 3)))


@pytest.mark.parametrize("rows", [1, 2])
def test_a_layer_that_mixes_the_rows_of_a_batch_is_no_cut(rows):
    net = Mixing().double().eval()
    with pytest.raises(LayerError, match="'mix' mixes the rows of a batch"):
        open_cut(net, "mix", torch.rand(rows, 2, 4, 4, dtype=torch.float64))
    assert open_cut(net, "body", torch.rand(rows, 2, 4, 4, dtype=torch.float64)).kind == "split"


def test_tokens_before_the_batch_are_noticed():
    class TokensFirst(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.turn, self.fc = nn.Identity(), nn.Linear(2, 3)

        def forward(self, x):
            return self.fc(self.turn(x.flatten(2).movedim(2, 0)).mean(0))

    with pytest.raises(LayerError, match="first axis is not the batch"):
        open_cut(TokensFirst().eval(), "turn", torch.rand(2, 2, 3, 3))
    # As many tokens as rows: only another number of rows shows it.
    with pytest.raises(LayerError, match=r"(mixes the rows|first axis)"):
        open_cut(TokensFirst().eval(), "turn", torch.rand(2, 2, 1, 2))
