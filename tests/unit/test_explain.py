"""Photographs in; figures, cards and values out."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import counterpoint as cp
from counterpoint import progress
from counterpoint.errors import Cancelled, InputError
from counterpoint.explain import Explained, explain_photographs, photographs_for
from counterpoint.one_by_one import Failed
from counterpoint.places import Places


class Counted(nn.Module):
    """A small network that counts the rows it has seen."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.act = nn.Softplus()
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
        self.rows = 0

    def forward(self, x):
        return self.head(self.act(self.conv(x)))


@pytest.fixture
def classifier():
    torch.manual_seed(0)
    return cp.Classifier(Counted().eval(), mean=0.0, std=1.0, size=24, labels=["a", "b", "c"])


@pytest.fixture
def photographs(tmp_path):
    generator = np.random.default_rng(0)
    paths = [tmp_path / "photos" / f"{name}.png" for name in "xyz"]
    paths[0].parent.mkdir()
    for path in paths:
        Image.fromarray(generator.integers(0, 255, (30, 24, 3), dtype=np.uint8)).save(path)
    return paths


RULE = cp.methods.IntegratedGradients(rule=cp.quadrature.Midpoint(2))


def run(classifier, photographs, out, **options):
    options = {"baselines": [cp.baselines.Black(), cp.baselines.Mean()], "methods": [RULE], **options}
    return explain_photographs(classifier, photographs, out=out, **options)


def test_layers_and_methods_share_the_target(classifier, photographs, tmp_path):
    methods = [RULE, cp.methods.GradCAM()]
    (result,) = run(
        classifier, photographs[:1], tmp_path / "out", methods=methods, layers=("input", "conv", "act")
    )
    found = [(e["baseline"]["name"], e["method"]["name"], e["layer"]) for e in result.facts["explanations"]]
    one = [("integrated_gradients", place) for place in ("input", "conv", "act")] + [
        ("grad_cam", p) for p in ("conv", "act")
    ]
    assert found == [(baseline, *pair) for baseline in ("black", "mean") for pair in one]
    targets = {(e["baseline"]["name"], e["attribution_target"]) for e in result.facts["explanations"]}
    assert len(targets) == 2
    assert [path.name for path in result.values][:2] == [
        "x.black.integrated_gradients.safetensors",
        "x.black.integrated_gradients.conv.safetensors",
    ]
    assert json.loads(result.card.read_text()) == result.facts
    assert all((tmp_path / "out" / e["values_file"]).is_file() for e in result.facts["explanations"])


def test_cams_without_a_layer_get_the_last_one_with_maps(classifier, photographs, tmp_path):
    (result,) = run(classifier, photographs[:1], tmp_path / "out", methods=[cp.methods.GradCAM()])
    assert {e["layer"] for e in result.facts["explanations"]} == {"act"}


def test_a_broken_photograph_is_recorded_and_the_rest_goes_on(classifier, photographs, tmp_path):
    photographs[1].write_bytes(photographs[1].read_bytes()[:60])
    for order in (photographs, photographs[::-1], photographs[1:] + photographs[:1]):
        results = run(classifier, order, tmp_path / "out")
        kinds = {result.photograph.name: type(result) for result in results}
        assert kinds == {"x.png": Explained, "y.png": Failed, "z.png": Explained}
        assert [result.photograph for result in results] == order


def test_a_wrong_question_ends_at_the_first_photograph(classifier, photographs, tmp_path):
    with pytest.raises(InputError, match="target"):
        run(classifier, photographs, tmp_path / "out", target=3)
    assert not (tmp_path / "out").exists()


def test_cancelling_leaves_whole_files_only(classifier, photographs, tmp_path):
    def stop(done, total, what):
        assert 0 <= done <= total
        if done >= 1.5:
            raise Cancelled

    with progress.listening(stop), pytest.raises(Cancelled):
        run(classifier, photographs, tmp_path / "out")
    assert sorted(path.suffix for path in (tmp_path / "out").iterdir()) == [
        ".json",
        ".png",
        ".safetensors",
        ".safetensors",
    ]


def test_progress_rises_from_nothing_to_all(classifier, photographs, tmp_path):
    seen = []
    with progress.listening(lambda done, total, what: seen.append((done / total, what))):
        run(classifier, photographs, tmp_path / "out")
    shares = [share for share, _ in seen]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)
    assert any("y.png: integrated gradients against mean" in what for _, what in seen)


def test_a_method_that_works_at_none_of_the_layers_is_refused():
    assert [layer for _, layer in Places.of([RULE, cp.methods.GradCAM()], ()).pairs] == ["input", ""]
    assert [layer for _, layer in Places.of([RULE, cp.methods.GradCAM()], ("input", "a")).pairs] == [
        "input",
        "a",
        "a",
    ]
    with pytest.raises(InputError, match=r"grad_cam.*only layer is the input"):
        Places.of([cp.methods.GradCAM()], ("input",))


def test_photographs_are_neither_overwritten_nor_figures(classifier, photographs, tmp_path):
    with pytest.raises(InputError, match="overwrite"):
        run(classifier, photographs, photographs[0].parent)
    out = photographs[0].parent / "results"
    run(classifier, photographs, out)
    assert photographs_for([str(photographs[0].parent)], out) == photographs
    assert photographs_for([str(out / "x.png")], out) == [out / "x.png"]


def test_the_same_photograph_twice_gives_the_same_files(classifier, photographs, tmp_path):
    first, second = (run(classifier, photographs[:1], tmp_path / name)[0] for name in ("one", "two"))
    assert first.figure.read_bytes() == second.figure.read_bytes()
    assert first.card.read_bytes() == second.card.read_bytes()
    for one, two in zip(first.values, second.values, strict=True):
        assert torch.equal(cp.load_attribution(one).values, cp.load_attribution(two).values)
