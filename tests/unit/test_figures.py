"""The figure says everything, and nothing in it is clipped or lies over something else."""

import sys
from dataclasses import replace

import pytest
import torch

import counterpoint as cp
from counterpoint.errors import InputError, ShapeError
from counterpoint.report import plot, save_png
from counterpoint.report.sheet import _rounded_up
from counterpoint.report.wording import number, percent

WEIGHT = torch.linspace(-1.0, 1.5, 3 * 80 * 80).view(3, 80, 80)


def linear(x):
    return (x * WEIGHT).flatten(1).sum(1)


@pytest.fixture
def images():
    return torch.rand(2, 3, 80, 80, generator=torch.Generator().manual_seed(0))


def explained(images, *baselines, method=None, score=linear):
    method = method or cp.methods.Taylor()
    return [cp.compare(score, images, baseline=baseline).explain(method) for baseline in baselines]


def texts(figure):
    return [text.get_text() for text in figure.texts]


def check_layout(figure):
    """No text leaves the figure, and none lies over another text or a picture."""
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    whole = figure.bbox
    boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in figure.texts if text.get_text()]
    for text, box in boxes:
        assert box.x0 >= whole.x0, text
        assert box.x1 <= whole.x1, text
        assert box.y0 >= whole.y0, text
        assert box.y1 <= whole.y1, text
    pictures = [("picture", axes.get_window_extent(renderer)) for axes in figure.axes]
    for k, (text, box) in enumerate(boxes):
        for other, other_box in boxes[k + 1 :] + pictures:
            apart = (
                box.x1 <= other_box.x0
                or other_box.x1 <= box.x0
                or box.y1 <= other_box.y0 + 1
                or other_box.y1 <= box.y0 + 1
            )
            assert apart, f"{text!r} lies over {other!r}"


def test_three_baselines_stand_side_by_side_with_all_their_numbers(images):
    figure = plot(
        explained(images, cp.baselines.Black(), cp.baselines.Blur(), cp.baselines.Mean()), images, image=1
    )
    words = " ".join(texts(figure))
    attribution = explained(images, cp.baselines.Blur())[0]
    for expected in (
        "against black",
        "against blur (sigma 10)",
        "against mean",
        "score per 10 × 10 px",  # noqa: RUF001
        "smoothed by 1.1 px",
    ):
        assert expected in words
    for value in (attribution.score, attribution.baseline_score, attribution.target, attribution.result):
        assert number(float(value[1])) in words
    assert figure.get_size_inches()[0] * 100 >= 1200
    check_layout(figure)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_long_names_and_any_number_of_baselines_fit(images, count):
    baselines = [cp.baselines.Constant((k / 7, 0.123456789, 1 / 3)) for k in range(count)]
    methods = (cp.methods.SmoothGrad(samples=2), cp.methods.Taylor(reference="zeros"))
    found = [one for method in methods for one in explained(images, *baselines, method=method)]
    note = "A sentence that goes on and on. " * 12
    figure = plot(found, images, caption="a_very_long_file_name_" * 9 + ".jpg", note=note)
    check_layout(figure)
    assert any("zeros" in text for text in texts(figure))


def test_layers_share_no_scale_with_the_input(images):
    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, stride=4), torch.nn.Flatten(), torch.nn.LazyLinear(3)
    ).eval()
    with torch.no_grad():
        module(images)
    comparison = cp.compare(cp.logit(module, target=1), images, baseline=cp.baselines.Black())
    found = [comparison.explain(cp.methods.Taylor()), comparison.at("0").explain(cp.methods.GradCAM())]
    found.append(comparison.at("1").explain(cp.methods.Taylor()))
    figure = plot(found, images)
    words = " ".join(texts(figure))
    assert "at layer 0" in words
    assert "class 1" in words
    assert "No map:" in words  # flat features have no places
    assert sum("Drawn smoothed" in text for text in texts(figure)) == 1
    check_layout(figure)


def test_rates_have_no_result_and_say_so(images):
    figure = plot(explained(images, cp.baselines.Black(), method=cp.methods.Gradient()), images)
    assert "not defined" in texts(figure)
    assert any("rates of change" in text for text in texts(figure))


def test_a_large_error_a_missed_precision_and_a_tiny_target_stand_out(images):
    (attribution,) = explained(images, cp.baselines.Black())
    missed = replace(attribution, result=attribution.result * 2, converged=torch.tensor([False, True]))
    bold = [t.get_text() for t in plot(missed, images).texts if t.get_fontproperties().get_weight() == "bold"]
    assert "NOT reached" in bold
    assert any("100 % of target" in text for text in bold)
    tiny = replace(attribution, floor=attribution.target.abs() + 1)
    assert "target too small" in texts(plot(tiny, images))


def test_zeros_and_nan_are_drawn_or_refused_with_a_reason(images):
    (attribution,) = explained(images, cp.baselines.Black())
    zeros = replace(attribution, values=torch.zeros_like(attribution.values))
    assert "All values are zero." in texts(plot(zeros, images))
    broken = replace(attribution, values=attribution.values * torch.nan)
    assert any("NaN" in text for text in texts(plot(broken, images)))


def test_the_same_figure_is_the_same_file(images, tmp_path):
    for name in ("a.png", "b.png"):
        save_png(plot(explained(images, cp.baselines.Black()), images), tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_a_notebook_shows_it_and_pyplot_is_not_imported(images):
    before = "matplotlib.pyplot" in sys.modules  # by another library in this process
    figure = cp.plot(explained(images, cp.baselines.Black())[0], images)
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert ("matplotlib.pyplot" in sys.modules) == before


def test_a_loaded_attribution_of_an_unknown_baseline_is_drawn_without_its_picture(images, tmp_path):
    (attribution,) = explained(images, cp.baselines.Blur(sigma=3))
    path = attribution.save(tmp_path / "x.safetensors")
    loaded = cp.load_attribution(path)
    unknown = replace(loaded, baseline=replace(cp.baselines.Blur(3.0), sigma=3.0))
    assert texts(plot(loaded, images)) == texts(plot(unknown, images))
    from counterpoint.spec import Description

    described = replace(loaded, baseline=Description("mine.Own", {"size": 3}, 1))
    assert any("not drawn" in text for text in texts(plot(described, images)))


def test_what_makes_no_sense_is_refused(images):
    found = explained(images, cp.baselines.Black())
    with pytest.raises(InputError, match="at least one"):
        plot([], images)
    with pytest.raises(InputError, match="image must be from 0 to 1, got 2"):
        plot(found, images, image=2)
    with pytest.raises(ShapeError, match="those that were explained"):
        plot(found, images[:1])
    with pytest.raises(InputError, match="same score"):
        plot([*found, *explained(images, cp.baselines.Black(), score=lambda x: 2 * linear(x))], images)
    with pytest.raises(InputError, match="smooth"):
        plot(found, images, smooth=-1.0)


@pytest.mark.parametrize(
    ("value", "expected"), [(0.1201, 0.13), (0.12, 0.12), (9.95, 10.0), (123.0, 130.0), (3e-7, 3e-7), (0, 0)]
)
def test_scales_end_at_round_numbers(value, expected):
    assert _rounded_up(value) == expected


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        (0.0, "0 %"),
        (1e-6, "<0.01 %"),
        (0.00123, "0.12 %"),
        (0.4, "40 %"),
        (1.254, "125 %"),
        (12.0, "1200 %"),
        (None, "–"),  # noqa: RUF001
    ],
)
def test_percentages_have_two_digits(share, expected):
    assert percent(share) == expected


def test_a_small_spot_is_no_map_of_zeros():
    from counterpoint.report.scale import scale_end

    values = torch.zeros(100, 100)
    values[3:6, 3:6] = -0.5
    assert scale_end(values) == 0.5
    assert scale_end(torch.zeros(4, 4)) == 0.0
    values = torch.linspace(0, 1, 10_000)
    assert scale_end(values) == pytest.approx(0.99, abs=1e-3)
