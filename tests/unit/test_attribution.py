"""Target, result, error; heat maps that keep the sum; save and load."""

import math

import pytest
import torch

import counterpoint as cp
from counterpoint.errors import InputError, OutputError, ShapeError
from counterpoint.spec import Description
from laid_out import KINDS, Laid


def attribution(method, *, score=None, size=6, dtype=torch.float64, baseline=None):
    inputs = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(
        dtype
    )
    score = score or (lambda x: (x**2).sum((1, 2, 3)))
    return cp.compare(score, inputs, baseline=baseline or cp.baselines.Black()).explain(method)


def test_the_error_of_one_step_on_a_square_is_the_target_itself():
    # f = sum x^2 against 0: the target is f(x); x * f'(x) = 2 x^2 explains twice of it.
    result = attribution(cp.methods.Taylor(at="input"))
    torch.testing.assert_close(result.result, 2 * result.target)
    torch.testing.assert_close(result.error, -result.target)
    torch.testing.assert_close(result.relative_error, torch.ones(2, dtype=torch.float64))
    torch.testing.assert_close(result.cancellation, torch.full((2,), 2.0, dtype=torch.float64))
    assert result.undefined == (None, None)


def test_rates_have_no_error_and_say_why():
    result = attribution(cp.methods.Gradient())
    assert result.error.isnan().all()
    assert result.relative_error.isnan().all()
    assert result.undefined == ("values are rates, not shares of the score",) * 2


def test_a_target_too_small_to_divide_by_is_named():
    # The score of a classifier whose classes differ by 1000, and whose class 0 hardly moves.
    class Model(torch.nn.Module):
        def forward(self, x):
            small = 0.1 * x.mean((1, 2, 3))
            return torch.stack([small, small + 1000], 1)

    result = attribution(cp.methods.Taylor(), score=cp.logit(Model(), 0))
    assert result.relative_error.isnan().all()
    assert "target too small" in result.undefined[0]
    assert not result.error.isnan().any()


def test_a_method_with_a_reference_of_its_own_reports_both_errors():
    result = attribution(cp.methods.GradientTimesInput(), baseline=cp.baselines.White())
    assert result.reference == "zeros"
    # x * f'(x) = 2 x^2 against f(x) - f(0) = x^2 and against f(x) - f(1).
    torch.testing.assert_close(result.own_target, result.score)
    torch.testing.assert_close(result.own_error, -result.score)
    torch.testing.assert_close(result.error, result.score - 108.0 - 2 * result.score)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_values_have_the_type_of_the_inputs_and_numbers_are_float32_at_least(dtype):
    result = attribution(cp.methods.IntegratedGradients(rule=cp.quadrature.Midpoint(3)), dtype=dtype)
    exact = torch.float64 if dtype == torch.float64 else torch.float32
    assert result.values.dtype == dtype
    for numbers in (
        result.score,
        result.baseline_score,
        result.result,
        result.target,
        result.error,
        result.path_error,
    ):
        assert numbers.dtype == exact


def test_the_heat_map_has_the_size_of_the_image_and_sums_to_the_result():
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.pool = torch.nn.AvgPool2d(3, stride=2)

        def forward(self, x):
            return self.pool(x).pow(2).flatten(1)[:, :4]

    inputs = torch.rand(2, 3, 17, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    comparison = cp.compare(cp.logit(Net(), 1), inputs, baseline=cp.baselines.White(), layer="pool")
    result = comparison.explain(cp.methods.Taylor())
    heat = result.heatmap()
    assert result.values.shape == (2, 3, 8, 5)
    assert heat.shape == (2, 17, 12)
    torch.testing.assert_close(heat.sum((1, 2)), result.result)


def test_the_heat_map_of_pixels_is_the_channel_sum():
    result = attribution(cp.methods.Gradient())
    torch.testing.assert_close(result.heatmap(), result.values.sum(1))


@pytest.mark.parametrize("space", [(9,), (3, 4, 5)], ids=["signal", "volume"])
def test_the_heat_map_of_signals_and_volumes_is_the_channel_sum_and_orders_their_curves(space):
    inputs = torch.rand(2, 3, *space, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def score(rows):
        return rows.flatten(1).pow(2).sum(1)

    result = cp.compare(score, inputs, baseline=cp.baselines.Black()).explain(cp.methods.Taylor())
    assert result.heatmap().shape == (2, *space)
    torch.testing.assert_close(result.heatmap(), 2 * inputs.pow(2).sum(1))
    best, worst = (
        cp.metrics.deletion_curve(score, inputs, saliency, baseline=cp.baselines.Black(), steps=4).area
        for saliency in (result, -result.heatmap())
    )
    assert (best < worst).all()


def test_no_heat_map_without_places():
    inputs = torch.rand(2, 5)
    result = cp.compare(lambda x: x.sum(1), inputs, baseline=cp.baselines.Black()).explain(
        cp.methods.Gradient()
    )
    with pytest.raises(ShapeError, match=r"a heat map needs values .* got \(2, 5\)"):
        result.heatmap()


def test_tokens_lie_on_the_grid_of_patches_and_extra_ones_are_left_out():
    class Tokens(torch.nn.Module):
        """Patches of 4 x 4 as tokens, behind two tokens that hold the mean."""

        def __init__(self):
            super().__init__()
            self.embed = torch.nn.Identity()

        def forward(self, x):
            patches = torch.nn.functional.unfold(x, 4, stride=4).transpose(1, 2)
            mean = patches.mean(1, keepdim=True)
            return self.embed(torch.cat([mean, mean, patches], 1)).pow(2).mean(1)

    inputs = torch.zeros(1, 3, 8, 12, dtype=torch.float64)
    inputs[0, :, 4:, 8:] = 1.0  # the last patch
    comparison = cp.compare(cp.logit(Tokens(), 0), inputs, baseline=cp.baselines.Black(), layer="embed")
    result = comparison.explain(cp.methods.Taylor())
    assert result.values.shape == (1, 8, 48)
    heat = result.heatmap()
    assert heat.shape == (1, 8, 12)
    torch.testing.assert_close(heat.sum(), result.values[:, 2:].sum())
    assert heat[0, 4:, 8:].sum() > 0.5 * heat.sum()
    assert heat[0, :4, :4].abs().max() == 0


def test_tokens_without_a_grid_say_why():
    class Odd(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = torch.nn.Identity()

        def forward(self, x):
            return self.embed(x.flatten(2)[:, :, :7]).sum(2)

    inputs = torch.rand(1, 40, 7, 11)
    result = cp.compare(cp.logit(Odd(), 0), inputs, baseline=cp.baselines.White(), layer="embed").explain(
        cp.methods.Taylor()
    )
    with pytest.raises(
        ShapeError, match="40 tokens, up to 16 of them left out, fit no grid of square patches on 7 x 11"
    ):
        result.heatmap()


def test_save_and_load_is_a_round_trip(tmp_path):
    method = cp.methods.IntegratedGradients(rule=cp.quadrature.GaussLegendre(4))
    saved = attribution(method, baseline=cp.baselines.Blur(sigma=2.0))
    loaded = cp.load_attribution(saved.save(tmp_path / "cat.safetensors"))
    assert (loaded.method, loaded.baseline, loaded.claim) == (method, cp.baselines.Blur(sigma=2.0), "shares")
    assert (loaded.layer, loaded.image_size, loaded.reference) == ("input", (6, 6), "comparison")
    for name in (
        "values",
        "target",
        "result",
        "error",
        "relative_error",
        "path_error",
        "pieces",
        "gradient_evaluations",
    ):
        torch.testing.assert_close(
            getattr(loaded, name), getattr(saved, name), rtol=0, atol=0, equal_nan=True
        )
    torch.testing.assert_close(loaded.heatmap(), saved.heatmap())
    assert [p.name for p in tmp_path.iterdir()] == ["cat.safetensors"]


def rewritten(path, change):
    """The file with its facts changed, as another version would have written it."""
    import json

    from safetensors import safe_open
    from safetensors.torch import save_file

    with safe_open(path, framework="pt") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}
    facts = json.loads(metadata["facts"])
    change(facts)
    save_file(tensors, path, metadata={**metadata, "facts": json.dumps(facts)})
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_the_layout_is_saved_and_files_from_before_layouts_still_have_their_heat_maps(kind, tmp_path):
    inputs = torch.rand(2, 2, 6, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    comparison = cp.compare(cp.logit(Laid(kind), 1), inputs, baseline=cp.baselines.Black(), layer="laid")
    saved = comparison.explain(cp.methods.HiResCAM())
    path = saved.save(tmp_path / "a.safetensors")
    loaded = cp.load_attribution(path)
    assert loaded.layout == saved.layout == comparison.layout
    torch.testing.assert_close(loaded.heatmap(), saved.heatmap())
    old = cp.load_attribution(rewritten(path, lambda facts: facts.pop("layout")))
    if kind != "channels_last":  # which they could not have
        assert old.layout == saved.layout
        torch.testing.assert_close(old.heatmap(), saved.heatmap())


def test_values_without_a_layout_stay_without_one(tmp_path):
    inputs = torch.rand(2, 5)
    saved = cp.compare(lambda x: x.sum(1), inputs, baseline=cp.baselines.Black()).explain(
        cp.methods.Gradient()
    )
    loaded = cp.load_attribution(saved.save(tmp_path / "a.safetensors"))
    assert saved.layout is loaded.layout is None


def test_what_the_registry_does_not_know_is_loaded_as_a_description(tmp_path):
    from dataclasses import dataclass

    @dataclass(frozen=True)
    class Checkers(cp.baselines.Baseline):
        cells: int = 3

        def __call__(self, inputs):
            return inputs * 0

    path = attribution(cp.methods.Gradient(), baseline=Checkers()).save(tmp_path / "a.safetensors")
    baseline = cp.load_attribution(path).baseline
    assert isinstance(baseline, Description)
    assert baseline.parameters == {"cells": 3}
    assert baseline.name.endswith("Checkers")


def test_files_that_are_no_attributions_are_refused(tmp_path):
    other = tmp_path / "other.safetensors"
    other.write_bytes(b"not tensors at all")
    with pytest.raises(InputError, match="cannot read attribution"):
        cp.load_attribution(other)
    with pytest.raises(InputError, match="cannot read attribution"):
        cp.load_attribution(tmp_path / "missing.safetensors")
    from safetensors.torch import save_file

    save_file({"a": torch.ones(1)}, other)
    with pytest.raises(InputError, match="not an attribution"):
        cp.load_attribution(other)


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path):
    result = attribution(cp.methods.Gradient())
    with pytest.raises(OutputError, match="cannot write"):
        result.save(tmp_path / "missing" / "cat.safetensors")
    assert list(tmp_path.iterdir()) == []
    assert math.isnan(result.error[0])
