"""What FEI found as a figure: its pictures are points of its curves, and the command writes it beside the values."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image
from torch import nn

import counterpoint as cp
from counterpoint import spec
from counterpoint.errors import InputError
from counterpoint.explain import explain_photographs
from counterpoint.report.fei_figure import fei_figure
from counterpoint.report.wording import number

FEI = cp.methods.FEI(quantiles=2, steps=8, grids=(4,), every=2, measure=5, start="noise", learning_rate=0.3)
BASELINE = cp.baselines.Black()


class Net(nn.Module):
    def __init__(self, activation=None):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.conv, self.act, self.fc = nn.Conv2d(3, 4, 3, padding=1), activation or nn.ReLU(), nn.Linear(4, 3)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator)

    def forward(self, x):
        return self.fc(self.act(self.conv(x)).mean((2, 3)))


@pytest.fixture(scope="module")
def images():
    return torch.rand(2, 3, 20, 20, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def found(images):
    return cp.compare(cp.logit(Net().eval(), 0), images, baseline=BASELINE).explain(FEI)


@pytest.fixture(scope="module")
def deviation(images, found):
    return cp.metrics.activation_deviation(cp.logit(Net().eval(), 0), images, found, baseline=BASELINE)


def titled(figure, start):
    (panel,) = (panel for panel in figure.axes if panel.get_title().startswith(start))
    return panel


def test_each_picture_scores_what_stands_below_it(images, found):
    figure = fei_figure(found, images, image=1)
    figure.draw_without_rendering()
    pictures = [panel for panel in figure.axes if "% kept" in panel.get_title()]
    assert [panel.get_title() for panel in pictures] == ["20 % kept", "40 % kept", "60 % kept", "80 % kept"]
    for panel in pictures:
        shown = torch.as_tensor(np.asarray(panel.images[0].get_array())).permute(2, 0, 1)[None]
        p = Net().eval()(shown).softmax(1)[0, 0].detach()
        assert panel.get_xlabel() == f"p = {float(p):.2g}"
    dots = titled(figure, "area between").lines[2].get_ydata()
    assert [panel.get_xlabel() for panel in pictures] == [f"p = {p:.2g}" for p in dots]


def test_the_areas_are_those_of_the_result_and_its_start(images, found):
    figure = fei_figure(found, images)
    best, start = float(found.extras["measured"][0].amax()), float(found.extras["start"][0])
    title = titled(figure, "area between").get_title()
    assert title == f"area between {number(best, 3)}, of the start map {number(start, 3)}"
    assert best > start


def test_the_deviation_stands_beside_what_is_above_its_floor(images, found, deviation):
    figure = fei_figure(found, images, deviation, image=1)
    figure.draw_without_rendering()
    for kind in ("insertion", "deletion"):
        excess, above = (
            torch.as_tensor(titled(figure, f"{kind}: {meaning}").images[0].get_array().filled())
            for meaning in ("excess", "minus")
        )
        own = deviation.values("excess", kind)[1].T
        torch.testing.assert_close(excess, own.double())
        floor = deviation.values("excess", kind, floor=True)[1].T
        torch.testing.assert_close(above, (own - floor).double(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("last", ["measured", "the model has no activation that is 0 at 0, " * 6, None])
def test_no_text_leaves_the_figure_and_no_panel_lies_over_another(images, found, deviation, last):
    shown = deviation if last == "measured" else last
    figure = fei_figure(found, images, shown, caption="cat.png  ·  tiny")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    texts = [text for row in figure.subfigs for text in row.texts]
    assert len(texts) == 2 + (last is not None)
    assert last in (None, "measured") or last.strip() in texts[-1].get_text().replace("\n", " ")
    boxes = [each.get_tightbbox(renderer) for each in (*figure.axes, *texts)]
    for k, box in enumerate(boxes):
        assert box.x0 >= -1
        assert box.y0 >= -1
        assert box.x1 <= figure.bbox.x1 + 1
        assert box.y1 <= figure.bbox.y1 + 1
        for other in boxes[k + 1 :]:
            apart = box.x1 <= other.x0 + 1 or other.x1 <= box.x0 + 1
            assert apart or box.y1 <= other.y0 + 1 or other.y1 <= box.y0 + 1


def test_a_score_without_classes_is_called_a_score(images):
    score = lambda x: x[:, :, 4:8, 4:8].mean((1, 2, 3))  # noqa: E731
    found = cp.compare(score, images, baseline=BASELINE).explain(replace(FEI, rule="none"))
    figure = fei_figure(found, images)
    assert titled(figure, "photograph").get_xlabel().startswith("score = ")


def test_what_cannot_be_drawn_is_refused(images, found):
    taylor = cp.compare(cp.logit(Net().eval(), 0), images, baseline=BASELINE).explain(cp.methods.Taylor())
    with pytest.raises(InputError, match="must be FEI's, but has no insertion"):
        fei_figure(taylor, images)
    with pytest.raises(InputError, match="only its description"):
        fei_figure(replace(found, baseline=spec.describe(BASELINE)), images)
    with pytest.raises(InputError, match="image must be from 0 to 1, got 2"):
        fei_figure(found, images, image=2)


# written with the rest


@pytest.fixture
def photograph(tmp_path):
    path = tmp_path / "photos" / "cat.png"
    path.parent.mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (20, 20, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def size_of(path):
    with Image.open(path) as picture:
        return picture.size


def explained(photograph, out, methods, net=None):
    classifier = cp.Classifier((net or Net()).eval(), mean=0.0, std=1.0, size=20, labels=["a", "b", "c"])
    baselines = [BASELINE, cp.baselines.White()]
    (result,) = explain_photographs(classifier, [photograph], baselines=baselines, methods=methods, out=out)
    return result


def test_fei_gets_a_figure_for_each_baseline_and_other_methods_none(photograph, tmp_path):
    result = explained(photograph, tmp_path / "out", [FEI, cp.methods.Taylor()])
    names = ["cat.black.fei.png", "cat.white.fei.png"]
    assert [path.name for path in result.further] == names
    assert {path.name for path in (tmp_path / "out").glob("*.png")} == {*names, "cat.png"}
    assert all(size_of(path)[0] > 1200 for path in result.further)
    named = [each.get("figure_file") for each in json.loads(result.card.read_text())["explanations"]]
    assert named == [names[0], None, names[1], None]
    assert not list((tmp_path / "out").glob(".*"))


def test_a_network_without_activations_gets_the_figure_without_its_deviation(photograph, tmp_path):
    result = explained(photograph, tmp_path / "out", [FEI], net=Net(nn.Sigmoid()))
    whole = explained(photograph, tmp_path / "whole", [FEI])
    short, tall = (size_of(each.further[0])[1] for each in (result, whole))
    assert short < tall


def test_a_photograph_with_the_name_of_that_figure_is_not_overwritten(photograph):
    other = photograph.with_name("cat.black.fei.png")
    other.write_bytes(photograph.read_bytes())
    classifier = cp.Classifier(Net().eval(), mean=0.0, std=1.0, size=20)
    renamed = photograph.rename(photograph.with_suffix(".bmp"))
    with pytest.raises(InputError, match=r"overwrite the photograph '.*cat\.black\.fei\.png'"):
        explain_photographs(
            classifier, [renamed, other], baselines=[BASELINE], methods=[FEI], out=photograph.parent
        )
