"""Describe and build are one round trip."""

from dataclasses import dataclass

import pytest
import torch

import counterpoint as cp
from counterpoint import spec
from counterpoint.errors import InputError, UnknownNameError
from counterpoint.report.wording import command_text, telling


@pytest.mark.parametrize(
    ("kind", "text", "built"),
    [
        ("baseline", "blur:sigma=20", cp.baselines.Blur(sigma=20.0)),
        ("baseline", "blur:20", cp.baselines.Blur(sigma=20.0)),
        ("baseline", "constant:color=(0.1,0.2,0.3)", cp.baselines.Constant((0.1, 0.2, 0.3))),
        ("baseline", "constant:color=0.25", cp.baselines.Constant(0.25)),
        ("baseline", "grey", cp.baselines.Zero()),
        ("baseline", "uniform:low=0.2,seed=3", cp.baselines.Uniform(low=0.2, seed=3)),
        ("method", "smooth_grad:samples=10", cp.methods.SmoothGrad(samples=10)),
        ("method", "gradient_times_input", cp.methods.GradientTimesInput()),
        (
            "method",
            "integrated_gradients:rule=gauss_legendre(50)",
            cp.methods.IntegratedGradients(rule=cp.quadrature.GaussLegendre(50)),
        ),
        (
            "method",
            "integrated_gradients:rule=trapezoid(n=9)",
            cp.methods.IntegratedGradients(rule=cp.quadrature.Trapezoid(9)),
        ),
    ],
)
def test_a_text_builds_an_object_whose_description_builds_it_again(kind, text, built):
    thing = spec.build(kind, text)
    assert thing == built
    description = spec.describe(thing)
    assert spec.build(kind, description) == thing
    assert spec.build(kind, description.text) == thing
    assert spec.build(kind, description.as_dict()) == thing


# Images can be given in Python only: no text stands for them.
OF_IMAGES = ("nearest", "samples")


def test_every_registered_baseline_and_method_goes_round():
    for kind in ("baseline", "method"):
        for name in spec.registry(kind):
            if name in OF_IMAGES:
                with pytest.raises(InputError, match="images must be given, a tensor"):
                    spec.build(kind, name)
                continue
            if name.startswith("learned"):  # tests/unit/test_learned.py has files to go round with
                with pytest.raises(InputError, match="file must be given"):
                    spec.build(kind, name)
                continue
            if name == "seamless":
                with pytest.raises(InputError, match="needs picture"):
                    spec.build(kind, name)
                continue
            thing = spec.build(kind, name)
            assert spec.build(kind, spec.describe(thing).text) == thing


def test_a_method_can_be_a_parameter_of_another():
    from counterpoint.methods import FGVis, GradCAM, Occlusion

    assert spec.build("method", "fgvis:start=grad_cam") == FGVis(start=GradCAM())
    within = FGVis(start=Occlusion(size=8, stride=8))
    assert spec.build("method", spec.describe(within)) == within


@pytest.mark.parametrize(
    ("given", "short", "shown"),
    [
        ("seamless:blur", "seamless:picture=blur", "seamless:picture=blur(sigma=10),reach=0.06"),
        ("seamless:local_mean(cells=4)", "seamless:picture=local_mean(cells=4)", None),
        ("seamless:mean,reach=none", "seamless:picture=mean,reach=none", "seamless:picture=mean"),
    ],
)
def test_a_baseline_within_another_is_shown_by_what_is_worth_showing(given, short, shown):
    description = spec.describe(spec.build("baseline", given))
    assert spec.unusual("baseline", description).text == short
    assert spec.build("baseline", short) == spec.build("baseline", given)
    if shown:
        assert command_text(telling(description)) == shown


@pytest.mark.parametrize(
    ("kind", "text", "error", "words"),
    [
        ("baseline", "blurr", UnknownNameError, "did you mean 'blur'"),
        ("baseline", "blur:sgima=2", UnknownNameError, "did you mean 'sigma'"),
        ("baseline", "blur:sigma=red", InputError, "sigma of baseline 'blur' must be a number, got 'red'"),
        ("baseline", "blur:sigma=-1", InputError, "sigma must be above 0 and at most 1000, got -1"),
        ("baseline", "blur:sigma=nan", InputError, "sigma must be above 0"),
        ("baseline", "blur:sigma=inf", InputError, "sigma must be above 0 and at most 1000, got inf"),
        ("method", "integrated_gradients:tolerance=inf", InputError, "tolerance must be above 0, got inf"),
        ("baseline", "uniform:seed=1.5", InputError, "seed of baseline 'uniform' must be a whole number"),
        ("baseline", "blur:sigma=2,3", InputError, "expected parameter=value, got '3'"),
        ("baseline", "blur:1,2,3", InputError, "takes 1 parameters, got 3"),
        ("baseline", "constant:color=(0.1,0.2", InputError, "brackets do not match"),
        ("method", "taylor:at=left", InputError, "must be 'input' or 'baseline', got 'left'"),
        ("method", "integrated_gradients:rule=simpson(5)", UnknownNameError, "unknown rule 'simpson'"),
        (
            "method",
            "integrated_gradients:rule=gauss_legendre",
            InputError,
            "rule 'gauss_legendre' needs n: gauss_legendre(n=...)",
        ),
    ],
)
def test_a_wrong_text_says_what_was_expected_and_what_came(kind, text, error, words):
    with pytest.raises(error, match=None) as caught:
        spec.build(kind, text)
    assert words in str(caught.value)


def test_the_fingerprint_changes_with_name_parameter_and_version():
    one = spec.describe(cp.baselines.Blur(sigma=10.0))
    assert one.fingerprint == spec.describe(cp.baselines.Blur(sigma=10.0)).fingerprint
    others = [
        spec.describe(cp.baselines.Blur(sigma=11.0)),
        spec.Description("blurred", one.parameters, one.version),
        spec.Description(one.name, one.parameters, one.version + 1),
    ]
    assert len({one.fingerprint, *(other.fingerprint for other in others)}) == 4


def test_tensors_are_described_by_their_content():
    @dataclass(frozen=True, eq=False)
    class Picture:
        image: torch.Tensor

    one, same, other = (spec.describe(Picture(torch.full((2, 2), v))) for v in (1.0, 1.0, 2.0))
    assert one.parameters == same.parameters != other.parameters
    assert one.parameters["image"]["shape"] == [2, 2]
