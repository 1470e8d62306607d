"""`cp.trust`: what each check is given, what it costs, and what is refused."""

import pytest
import torch

import counterpoint as cp
from counterpoint.baselines import Learned
from counterpoint.errors import InputError, ShapeError, UnknownNameError
from counterpoint.metrics.bank import model_hash
from networks import SmallNet, random_images

JUDGES = (cp.baselines.Black(), cp.baselines.Mean())


def asked(net=None, score=cp.logit, count=1, baseline=None, **options):
    images = random_images(4, size=12)[:count]
    baseline = cp.baselines.Grey() if baseline is None else baseline
    return cp.compare(score(net or SmallNet(0), 1), images, baseline=baseline, **options)


def test_every_check_is_made_and_has_a_reason():
    found = cp.trust(asked(), cp.methods.IntegratedGradients(), judges=JUDGES, steps=4)
    assert list(found.facts) == ["error", "curves", "pathway", "weights"]
    assert found.missing == {}
    assert [reason.check for reason in found.verdict.reasons] == ["error", "curves", "pathway", "weights"]
    assert found.standing == found.verdict.standing
    assert found.attribution.result.shape == (1,)


def test_curves_are_the_librarys_of_the_map_and_of_a_random_one():
    comparison = asked()
    found = cp.trust(comparison, cp.methods.Gradient(), judges=JUDGES, steps=4, checks=["curves"])
    maps = {
        "0": found.attribution.heatmap(),
        "1": comparison.explain(cp.methods.RandomMap()).heatmap(),
    }
    table = cp.metrics.curves(cp.logit(SmallNet(0), 1), comparison.inputs, maps, list(JUDGES), steps=4)
    for line in found.facts["curves"]["curves"]:
        curve = table.curve(line["kind"], baseline=JUDGES[line["baseline"]], saliency=str(line["cell"]))
        assert line["area"] == pytest.approx(float(curve.area[0]), rel=1e-6)
        assert line["scores"] == pytest.approx(curve.scores[0].tolist(), rel=1e-6)


def test_a_random_map_has_no_control_and_no_good_curves():
    found = cp.trust(asked(), cp.methods.RandomMap(), judges=JUDGES, steps=4, checks=["curves"])
    assert {line["cell"] for line in found.facts["curves"]["curves"]} == {0}
    assert {r.check: r.standing for r in found.verdict.reasons}["curves"] == "unknown"


def test_a_map_of_the_image_alone_fails_the_check_with_random_weights():
    found = cp.trust(asked(), cp.methods.EdgeMap(), checks=["weights"])
    assert found.facts["weights"]["steps"][-1]["spearman"] == pytest.approx(1.0)
    assert found.standing == "bad"


def test_the_check_with_random_weights_keeps_class_score_and_layer():
    comparison = asked(score=lambda net, target: cp.contrast(net, target, against=2), layer="last")
    found = cp.trust(comparison, cp.methods.GradCAM(), checks=["weights"])

    def explain(module, images):
        at = cp.compare(cp.contrast(module, 1, against=2), images, baseline=cp.baselines.Grey(), layer="last")
        return at.explain(cp.methods.GradCAM())

    every = cp.metrics.randomised_weights(SmallNet(0), explain, comparison.inputs, steps=4)
    ours = [step["spearman"] for step in found.facts["weights"]["steps"]]
    torch.testing.assert_close(
        torch.tensor(ours, dtype=torch.float64),
        every.similarity.spearman[:, 0].double(),
        rtol=1e-5,
        atol=1e-6,
        equal_nan=True,
    )


def test_a_learned_baseline_serves_random_models_too():
    net = SmallNet(0)
    learned = Learned(image=random_images(1, size=12)[0].float(), model=model_hash(net))
    found = cp.trust(asked(net, baseline=learned), cp.methods.Gradient(), checks=["weights"])
    assert found.missing.get("weights") is None
    assert found.facts["weights"]["steps"]


def test_a_check_that_cannot_be_made_says_why_and_is_no_reason():
    comparison = asked(layer="last", layer_baseline="zeros")
    found = cp.trust(comparison, cp.methods.GradCAM(), checks=["weights"])
    assert "layer_baseline" in found.missing["weights"]
    assert {r.check: r.standing for r in found.verdict.reasons}["weights"] == "unknown"
    assert found.missing["curves"] == "it was not asked for."


@pytest.mark.parametrize(
    ("make", "options", "error", "word"),
    [
        (lambda: asked(count=2), {}, ShapeError, "one image"),
        (asked, {"judges": ()}, InputError, "judges"),
        (asked, {"checks": ["curve"]}, UnknownNameError, "curves"),
        (asked, {"checks": []}, InputError, "checks"),
        (asked, {"steps": 1}, InputError, "steps"),
        (
            lambda: cp.compare(
                cp.callable_score(lambda x, *_: x.flatten(1).sum(1)),
                random_images(1, size=6)[:1],
                baseline=JUDGES[0],
            ),
            {},
            InputError,
            "class score",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(make, options, error, word):
    with pytest.raises(error, match=word):
        cp.trust(make(), cp.methods.Gradient(), **options)
