"""Activation deviation and capped forward: hand-computed cases, floors, costs, and what is refused."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import counterpoint as cp
from counterpoint.errors import (
    InputError,
    LayerError,
    ModelError,
    NotFiniteError,
    ShapeError,
    UnknownNameError,
)
from counterpoint.metrics import activation_deviation, capped_forward
from counterpoint.metrics.nested import smooth_fields
from networks import SmallNet, random_images

BLACK = cp.baselines.Black()
MEASURES = ("total", "excess", "seams", "disinhibition")


class Pixels(nn.Module):
    """Its units are the pixels of a 2 x 2 image, the edge ReLU(p0 - p1), and a unit that is never active; two linear classes."""

    units = torch.tensor(
        [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [1, -1, 0, 0], [-1, 0, 0, 0]]
    ).double()
    classes = torch.tensor([[1, -2, 0, 4, 1, 1], [0, 0, 0, 0, 0, 0]]).double()

    def __init__(self):
        super().__init__()
        self.relu = nn.ReLU()
        self.rows = []

    def forward(self, x):
        self.rows.append(len(x))
        return self.relu(x.flatten(1) @ self.units.T) @ self.classes.T


class Given(cp.baselines.Baseline):
    """One image, whatever the input."""

    def __init__(self, image):
        self.image = image

    def __call__(self, inputs):
        return self.image.expand_as(inputs)


def square(*pixels):
    return torch.tensor(pixels, dtype=torch.float64).view(1, 1, 2, 2)


X, B = square(0.5, 1, 0, 0.25), square(1, 0, 0.5, 0.25)
"""Pixel 1 speaks against class 0. The edge p0 - p1 is off in X, on in B."""
FIRST = square(3, 4, 2, 1)[0]
"""Pixel 1 goes first, then pixel 0."""


def hand(measure=activation_deviation, x=X, b=B, saliency=FIRST, module=None, **options):
    score = cp.logit(module or Pixels(), 0)
    return measure(score, x, saliency, baseline=Given(b), **{"fractions": (0.25, 0.5), **options})


def test_the_four_numbers_are_those_computed_by_hand():
    found = hand()
    assert found.layers == ("relu",)
    assert found.fractions.tolist() == [0.25, 0.5]
    # Units at X: (.5, 1, 0, .25, 0, 0); sum 1.75, sum of squares 1.3125, |g h|: .5 + 2 + 0 + 1 = 3.5.
    # Insertion of pixel 1: (1, 1, .5, .25, 0, 0); of pixels 1 and 0: (.5, 1, .5, .25, 0, 0).
    inserted = found.paths["insertion"]
    expected = torch.tensor([math.sqrt(0.5), 0.5], dtype=torch.float64) / math.sqrt(1.3125)
    torch.testing.assert_close(inserted.total, expected.view(1, 1, 2))
    torch.testing.assert_close(inserted.excess, torch.tensor([[[1.0, 0.5]]]).double() / 1.75)
    assert torch.equal(inserted.seams, torch.zeros(1, 1, 2, dtype=torch.float64))
    assert torch.equal(inserted.disinhibition, torch.zeros(1, 1, 2, dtype=torch.float64))
    # Deletion of pixel 1: (.5, 0, 0, .25, .5, 0); of both: (1, 0, 0, .25, 1, 0). The edge is on in the baseline, by 1: no seam.
    deleted = found.paths["deletion"]
    expected = torch.tensor([math.sqrt(1.25), math.sqrt(2.25)], dtype=torch.float64) / math.sqrt(1.3125)
    torch.testing.assert_close(deleted.total, expected.view(1, 1, 2))
    torch.testing.assert_close(deleted.excess, torch.tensor([[[0.5, 1.5]]]).double() / 1.75)
    assert torch.equal(deleted.seams, torch.zeros(1, 1, 2, dtype=torch.float64))
    torch.testing.assert_close(deleted.disinhibition, torch.full((1, 1, 2), 2 / 3.5).double())


def test_a_seam_is_what_neither_image_has():
    found = hand(x=square(1, 1, 0, 0), b=square(0, 0, 0, 0), saliency=square(2, 1, 0, 0)[0])
    # Pixel 0 alone: the edge p0 - p1 is on, in neither image.
    assert found.paths["insertion"].excess.tolist() == [[[0.5, 0.0]]]
    assert found.paths["insertion"].seams.tolist() == [[[0.5, 0.0]]]
    assert found.paths["insertion"].seam_free_excess.tolist() == [[[0.0, 0.0]]]
    # Half a seam, where the baseline has half of the edge itself.
    found = hand(x=square(1, 1, 0, 0), b=square(0.5, 0, 0, 0), saliency=square(2, 1, 0, 0)[0])
    assert found.paths["insertion"].excess.tolist() == [[[0.5, 0.0]]]
    assert found.paths["insertion"].seams.tolist() == [[[0.25, 0.0]]]
    assert found.paths["insertion"].seam_free_excess.tolist() == [[[0.25, 0.0]]]
    # An edge that both have and the mask takes away is missing, not in excess.
    found = hand(x=square(1, 0.5, 0, 0), b=square(0.5, 0, 0, 0), saliency=square(2, 1, 0, 0)[0])
    assert found.paths["deletion"].excess.tolist() == [[[0.0, 0.0]]]
    assert found.paths["deletion"].seams.tolist() == [[[0.0, 0.0]]]


class Signed(Pixels):
    """The same units through a LeakyReLU, so that they have a sign."""

    def __init__(self):
        super().__init__()
        self.relu = nn.LeakyReLU(0.5)


def test_negative_activity_has_its_interval_below_zero():
    # Units at x: (1, 1, 0, 0, 0, -.5); at v, pixel 0 black: (0, 1, 0, 0, -.5, 0); at b: (0, 0, 0, 0, 0, 0).
    found = hand(x=square(1, 1, 0, 0), b=square(0, 0, 0, 0), saliency=square(2, 1, 0, 0)[0], module=Signed())
    deleted = found.paths["deletion"]
    torch.testing.assert_close(deleted.excess[0, 0], torch.tensor([0.5 / 2.5, 0]).double())
    torch.testing.assert_close(deleted.seams[0, 0], torch.tensor([0.5 / 2.5, 0]).double())
    torch.testing.assert_close(deleted.total[0, 0, 0], torch.tensor(math.sqrt(1.5 / 2.25)).double())
    # g = (1, -2, 0, 4, 1, 1): of what speaks against the class only pixel 1 falls, at the second fraction, by 1.
    torch.testing.assert_close(deleted.disinhibition[0, 0], torch.tensor([0, 2 / 3.5]).double())


def test_zero_lies_in_the_interval_of_a_unit_that_is_negative_in_both_images():
    # Units at x: (0, .5, 0, 0, -.25, 0); at b: (.5, 1, 0, 0, -.25, -.25).
    found = hand(x=square(0, 0.5, 0, 0), b=square(0.5, 1, 0, 0), module=Signed(), fractions=(0.25,))
    # Pixel 1 inserted: (.5, .5, 0, 0, 0, -.25), no seam. Deleted: (0, 1, 0, 0, -.5, 0), the edge below both.
    for kind, excess, seams in (("insertion", 0.75, 0.0), ("deletion", 0.75, 0.25)):
        torch.testing.assert_close(
            found.values("excess", kind), torch.full((1, 1, 1), excess / 0.75).double()
        )
        torch.testing.assert_close(found.values("seams", kind), torch.full((1, 1, 1), seams / 0.75).double())


def test_a_baseline_equal_to_the_image_deviates_nowhere():
    found = hand(b=X, floor=1)
    for kind in found.kinds:
        for measure in MEASURES:
            assert not found.values(measure, kind).any()
            assert not found.values(measure, kind, floor=True).any()


def images_and_maps(batch=2, size=12):
    return random_images(4, batch=batch, size=size), random_images(5, batch=batch, channels=1, size=size)[
        :, 0
    ]


def small(measure, kind="plain", batch=2, **options):
    images, maps = images_and_maps(batch)
    options = {"baseline": cp.baselines.Blur(sigma=2), "fractions": (0.2, 0.6), **options}
    return measure(cp.probability(SmallNet(3, kind), 0), images, maps, **options)


def numbers_of(found):
    """All numbers of a result, by kind and mask."""
    names = MEASURES if hasattr(found.paths["insertion"], "total") else ("scores", "capped")
    every = {(kind, "map"): found.paths[kind] for kind in found.kinds}
    every |= {(kind, k): each for kind in found.kinds for k, each in enumerate(found.floors[kind])}
    return {(*where, name): getattr(each, name) for where, each in every.items() for name in names}


@pytest.mark.parametrize("measure", [activation_deviation, capped_forward])
def test_an_image_has_the_same_numbers_alone_and_in_any_company_of_rows(measure):
    images, maps = images_and_maps()
    whole = measure(
        cp.probability(SmallNet(3), [0, 2]),
        images,
        maps,
        baseline=cp.baselines.Blur(sigma=2),
        fractions=(0.2, 0.6),
        micro_batch=5,
    )
    for i in range(2):
        alone = measure(
            cp.probability(SmallNet(3), 2 * i),
            images[i : i + 1],
            maps[i : i + 1],
            baseline=cp.baselines.Blur(sigma=2),
            fractions=(0.2, 0.6),
            micro_batch=1,
        )
        for where, numbers in numbers_of(alone).items():
            torch.testing.assert_close(numbers[0], numbers_of(whole)[where][i], rtol=1e-9, atol=1e-12)
            assert numbers.isfinite().all()


@pytest.mark.parametrize("measure", [activation_deviation, capped_forward])
def test_a_networks_style_changes_nothing(measure):
    expected = numbers_of(small(measure))
    for kind in ("inplace", "reused", "functional"):
        for where, numbers in numbers_of(small(measure, kind)).items():
            torch.testing.assert_close(numbers, expected[where], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("measure", [activation_deviation, capped_forward])
def test_the_floor_does_not_know_the_map_and_grows_with_its_number(measure):
    images, maps = images_and_maps()
    score = cp.probability(SmallNet(3), 0)
    first = numbers_of(measure(score, images, maps, baseline=BLACK, floor=1))
    other = numbers_of(measure(score, images, 1 - maps, baseline=BLACK, floor=2))
    seeded = numbers_of(measure(score, images, maps, baseline=BLACK, floor=1, seed=1))
    for where, numbers in first.items():
        if where[1] == "map":
            assert not torch.equal(numbers, other[where])
        else:
            assert torch.equal(numbers, other[where])
            assert not torch.equal(numbers, seeded[where])


def test_random_fields_are_as_smooth_as_they_say():
    fields = smooth_fields(3, 64, 48, seed=0)
    assert torch.equal(fields[:2], smooth_fields(2, 64, 48, seed=0))
    assert smooth_fields(0, 4, 4, seed=0).shape == (0, 4, 4)
    # The correlation of a white field under a Gaussian blur with its copy a step away: exp(-step^2 / (4 sigma^2)), sigma = 48 / 16.
    for step in (2, 4):
        for axis in (1, 2):
            shifted = fields.roll(step, axis)
            correlation = (fields * shifted).sum() / fields.square().sum()
            assert float(correlation) == pytest.approx(math.exp(-(step**2) / 36), abs=0.05)


@pytest.mark.parametrize("baseline", [BLACK, cp.baselines.NeighbourMean()])
@pytest.mark.parametrize("kinds", [("insertion",), ("deletion", "insertion")])
def test_the_cost_is_what_is_said(baseline, kinds):
    images, maps = random_images(4, channels=1, size=2), random_images(5, channels=1, size=2)[:, 0]
    for measure, ends, times, gradients in (
        (activation_deviation, 2, 1, 1),
        (capped_forward, 3, 2, 0),
    ):
        module = Pixels()
        found = measure(
            cp.logit(module, 0), images, maps, baseline=baseline, fractions=(0.25, 0.5), kinds=kinds, floor=3
        )
        paths = times * len(kinds) * 4 * 2
        forwards = 1 + ends + paths - baseline.fill_only * (1 if times == 1 else 2)
        assert found.forward_evaluations.tolist() == [forwards, forwards]
        assert sum(module.rows) == 2 * (forwards + gradients)
        if gradients:
            assert found.gradient_evaluations.tolist() == [1, 1]


@pytest.mark.parametrize("measure", [activation_deviation, capped_forward])
def test_no_more_rows_than_asked_for_are_run_at_once(measure):
    module = Pixels()
    hand(measure, module=module, fractions=(0.25, 0.5, 0.75), micro_batch=3)
    assert max(module.rows) == 3


@pytest.mark.parametrize("measure", [activation_deviation, capped_forward])
def test_model_and_inputs_are_left_as_they_were(measure):
    net = SmallNet(3, "inplace").train()
    images, maps = images_and_maps()
    before = images.clone()
    measure(cp.logit(net, 0), images, maps, baseline=BLACK, fractions=(0.5,))
    assert net.training
    assert torch.equal(images, before)
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in net.modules())
    assert all(p.requires_grad and p.grad is None for p in net.parameters())
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("measure", [activation_deviation, capped_forward])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_results_are_float32_at_least_and_work_without_gradients_too(measure, dtype):
    images, maps = images_and_maps()
    net = SmallNet(3).to(dtype)
    with torch.no_grad():
        found = measure(cp.logit(net, 0), images.to(dtype), maps, baseline=BLACK, fractions=(0.5,))
    wanted = torch.float64 if dtype == torch.float64 else torch.float32
    assert all(numbers.dtype == wanted for numbers in numbers_of(found).values())
    assert all(numbers.isfinite().all() for numbers in numbers_of(found).values())
    assert found.fractions.dtype == wanted


def test_a_baseline_that_only_fills_has_no_seams():
    found = small(activation_deviation, baseline=cp.baselines.NeighbourMean())
    for kind in found.kinds:
        assert found.values("seams", kind).isnan().all()
        assert found.values("seam_free_excess", kind).isnan().all()
        assert (found.values("excess", kind) > 0).all()
    capped = small(capped_forward, baseline=cp.baselines.NeighbourMean())
    assert capped.of_baseline.scores.isnan().all()
    assert capped.leak.isnan().all()
    assert capped.paths["deletion"].kept.isfinite().all()


def test_means_are_over_activations_and_fractions_and_the_floors_over_masks():
    found = small(activation_deviation, floor=3)
    each = found.paths["deletion"].excess
    assert each.shape == (2, 2, 2)
    torch.testing.assert_close(found.mean("excess", "deletion"), each.flatten(1).mean(1))
    floors = torch.stack([mask.excess for mask in found.floors["deletion"]])
    torch.testing.assert_close(found.values("excess", "deletion", floor=True), floors.mean(0))
    above = found.mean("excess", "deletion") - floors.mean((0, 2, 3))
    torch.testing.assert_close(found.above_floor("excess", "deletion"), above)
    with pytest.raises(UnknownNameError, match="unknown measure 'exces'; did you mean 'excess'"):
        found.mean("exces")
    with pytest.raises(UnknownNameError, match="unknown kind of path 'inserted'; did you mean 'insertion'"):
        found.mean("excess", "inserted")
    with pytest.raises(InputError, match="floor was 0"):
        small(activation_deviation, floor=0).mean("excess", floor=True)


@pytest.mark.parametrize(
    ("layers", "names"), [(None, ("activation", "other")), (1, ("other",)), (["activation"], ("activation",))]
)
def test_layers_can_be_chosen(layers, names):
    whole, part = small(activation_deviation), small(activation_deviation, layers=layers)
    assert part.layers == names
    here = [whole.layers.index(name) for name in names]
    assert torch.equal(part.paths["insertion"].total, whole.paths["insertion"].total[:, here])
    assert small(capped_forward, layers=layers).layers == names


def test_perturbed_images_are_those_of_the_curves():
    images, maps = images_and_maps(size=10)
    score, baseline = cp.probability(SmallNet(3), 0), cp.baselines.Blur(sigma=2)
    table = cp.metrics.curves(score, images, {"map": maps}, [baseline], steps=10, seed=3)
    fractions = [k / 10 for k in range(1, 10)]
    found = capped_forward(score, images, maps, baseline=baseline, fractions=fractions, seed=3)
    for kind in found.kinds:
        torch.testing.assert_close(
            found.paths[kind].scores, table.curve(kind).scores[:, 1:-1], rtol=1e-12, atol=0
        )
    torch.testing.assert_close(
        found.of_baseline.scores, table.curve("deletion").scores[:, -1], rtol=1e-12, atol=0
    )


def test_a_tie_is_broken_by_the_seed_and_its_share_is_reported():
    found = hand(saliency=torch.zeros(1, 2, 2))
    assert found.tied.tolist() == [1.0]


def test_capped_scores_are_those_computed_by_hand():
    x, b = square(1, 1, 0, 0.5), square(0, 0, 1, 1)
    found = hand(capped_forward, x=x, b=b, saliency=square(2, 1, 0, 0)[0])
    # f = p0 - 2 p1 + 4 p3 + edge. f(x) = 1 - 2 + 2 = 1. Insertion of pixel 0: 1 + 4 + 1 = 6; p3 capped at .5, the edge at 0: 1 + 2 = 3.
    # Of pixels 0 and 1: 1 - 2 + 4 = 3, capped 1 - 2 + 2 = 1.
    inserted = found.paths["insertion"]
    assert inserted.clean.tolist() == [1.0]
    assert inserted.scores.tolist() == [[6.0, 3.0]]
    assert inserted.capped.tolist() == [[3.0, 1.0]]
    assert inserted.kept.tolist() == [[1.0, 1.0]]
    assert inserted.overshoot.tolist() == [[2.0, 0.0]]
    # Deletion of pixel 0: -2 + 2 = 0, nothing to cap; of both: 2.
    assert found.paths["deletion"].scores.tolist() == [[0.0, 2.0]]
    assert found.paths["deletion"].capped.tolist() == [[0.0, 2.0]]
    assert found.paths["deletion"].kept.tolist() == [[0.0, 1.0]]
    assert found.paths["deletion"].overshoot.tolist() == [[0.0, 1.0]]
    assert found.of_baseline.scores.tolist() == [4.0]
    assert found.of_baseline.capped.tolist() == [2.0]
    assert found.leak.tolist() == [1.0]


@pytest.mark.parametrize("kind", SmallNet.KINDS)
def test_capped_at_the_image_itself_the_score_is_the_same_bit_for_bit(kind):
    images, maps = images_and_maps(1)

    found = capped_forward(
        cp.logit(SmallNet(3, kind), 0),
        images,
        maps,
        baseline=Given(images),
        fractions=(0.5,),
        kinds=("insertion",),
        floor=0,
        micro_batch=1,
    )
    assert torch.equal(found.of_baseline.capped, found.of_baseline.clean)
    assert torch.equal(found.paths["insertion"].capped[:, 0], found.of_baseline.clean)


def test_ratios_to_a_score_that_is_not_positive_are_undefined():
    found = hand(capped_forward)  # f(x) = .5 - 2 + 1 < 0
    assert found.paths["insertion"].kept.isnan().all()
    assert found.paths["insertion"].overshoot.isnan().all()
    assert found.leak.isnan().all()


class Silent(Pixels):
    """The edge once more, which is off in the image."""

    def forward(self, x):
        edge = F.gelu((x.flatten(1) @ self.units.T)[:, 4:5].clamp(min=0))
        return super().forward(x) + edge


def test_an_activation_that_is_silent_in_the_image_has_no_ratios():
    found = hand(module=Silent())
    assert found.layers == ("gelu", "relu")
    for measure in MEASURES:
        assert found.values(measure, "deletion")[:, 0].isnan().all()
        assert found.values(measure, "deletion")[:, 1].isfinite().all()


class Aside(Pixels):
    """An activation that the score does not depend on."""

    def forward(self, x):
        self.aside = F.gelu(x * 2)
        return super().forward(x)


def test_disinhibition_is_undefined_where_the_score_does_not_look():
    found = hand(module=Aside())
    assert found.layers == ("gelu", "relu")
    assert found.values("disinhibition")[:, 0].isnan().all()
    assert found.values("total")[:, 0].isfinite().all()
    torch.testing.assert_close(found.values("disinhibition")[:, 1], hand().values("disinhibition")[:, 0])


@pytest.mark.parametrize("measure", [activation_deviation, capped_forward])
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"saliency": torch.zeros(1, 3, 3)}, ShapeError, r"one number for each pixel of inputs, \(1, 2, 2\), but is \(1, 3, 3\)"),
        ({"saliency": square(0, math.nan, 0, 0)[0]}, NotFiniteError, "saliency must be finite, but 1 of 4"),
        ({"x": square(0, math.nan, 0, 0)}, NotFiniteError, "inputs must be finite"),
        ({"fractions": (0.0, 0.5)}, InputError, "above 0 and below 1"),
        ({"fractions": (0.5, 1.0)}, InputError, "above 0 and below 1"),
        ({"fractions": ()}, InputError, "at least one"),
        ({"fractions": 0.5}, InputError, "fractions must be a list of numbers"),
        ({"fractions": (0.5, 0.25)}, InputError, "fractions must rise"),
        ({"fractions": (0.5, 0.51)}, InputError, r"of 4 pixels \[0.5, 0.51\] are \[2, 2\]"),
        ({"fractions": (0.1,)}, InputError, r"differ by a pixel at least .* are \[0\]"),
        ({"kinds": ("inserted",)}, UnknownNameError, "did you mean 'insertion'"),
        ({"kinds": "insertion"}, InputError, "kinds must be a list"),
        ({"kinds": ()}, InputError, "kinds must be a list"),
        ({"floor": -1}, InputError, "floor must be how many random masks"),
        ({"floor": True}, InputError, "floor must be how many random masks"),
        ({"order": "sign"}, UnknownNameError, "did you mean 'signed'"),
        ({"seed": -1}, InputError, "seed must be a whole number"),
        ({"micro_batch": 0}, InputError, "micro_batch must be at least 1"),
        ({"layers": ["rel"]}, UnknownNameError, "unknown layer 'rel'; did you mean 'relu'"),
        ({"layers": 2}, InputError, "last 2 activations, but only 1 run"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("unchecked")
def test_bad_input_is_refused(measure, options, error, message):
    with pytest.raises(error, match=message):
        hand(measure, **options)


@pytest.mark.parametrize("measure", [activation_deviation, capped_forward])
def test_scores_models_and_baselines_that_will_not_do_are_refused(measure):
    images, maps = images_and_maps()
    with pytest.raises(InputError, match=r"score must be of a module .* got a callable"):
        measure(lambda x: x.flatten(1).sum(1), images, maps, baseline=BLACK)
    flat = nn.Sequential(nn.Flatten(), nn.Linear(288, 2), nn.Sigmoid()).double()
    with pytest.raises(InputError, match="no activations to look at: none of celu, elu"):
        measure(cp.logit(flat, 0), images, maps, baseline=BLACK)
    with pytest.raises(LayerError, match="no activation runs inside 'stem'"):
        small(measure, layers=["stem"])
    with pytest.raises(InputError, match="baseline must be one of"):
        small(measure, baseline="black")

    class TwoDraws(cp.baselines.Baseline):
        draws = 2

    with pytest.raises(InputError, match="has 2 draws"):
        small(measure, baseline=TwoDraws())


class Cold(Pixels):
    def forward(self, x):
        with torch.no_grad():
            return super().forward(x)


def test_a_score_without_gradient_is_refused():
    with pytest.raises(ModelError, match="the score has no gradient"):
        hand(module=Cold())


@pytest.mark.parametrize("measure", [activation_deviation, capped_forward])
def test_the_work_can_be_watched_and_cancelled(measure):
    from counterpoint.errors import Cancelled

    seen = []
    with cp.progress.listening(lambda done, total, what: seen.append((done / total, what))):
        small(measure, micro_batch=2)
    shares = [share for share, _ in seen]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert {what for _, what in seen} == {
        "activation deviation" if measure is activation_deviation else "capped forward"
    }

    def stop(done, total, what):
        if done / total > 0.4:
            raise Cancelled

    with pytest.raises(Cancelled), cp.progress.listening(stop):
        small(measure)


@pytest.mark.parametrize("measure", cp.metrics.deviation.MEASURES)
def test_the_figure_shows_the_map_its_floor_and_the_difference(measure):
    from counterpoint.report.pathway_figure import pathway_figure

    found = small(activation_deviation)
    figure = pathway_figure(found, measure=measure, caption="a map")
    panels = [axes for axes in figure.axes if axes.get_title()]
    assert [axes.get_title().rpartition("\n")[0] for axes in panels] == [
        "insertion\nthe map",
        "insertion\nrandom masks",
        "deletion\nthe map",
        "deletion\nrandom masks",
        "insertion\ndifference",
        "deletion\ndifference",
    ]
    shown = torch.as_tensor(panels[0].images[0].get_array().filled())
    torch.testing.assert_close(shown, found.values(measure).mean(0))
    difference = torch.as_tensor(panels[5].images[0].get_array().filled())
    torch.testing.assert_close(difference.mean(), found.above_floor(measure, "deletion").mean())
    assert [label.get_text() for label in panels[0].get_yticklabels()] == list(found.layers)
    figure.draw_without_rendering()
    bars = [axes for axes in figure.axes if not axes.get_title()]
    assert bars[0].get_position().x1 < bars[1].get_position().x0  # one does not lie over the other


def test_a_figure_of_one_image_without_floor_or_with_nothing_defined():
    from counterpoint.report.pathway_figure import pathway_figure

    found = small(activation_deviation, floor=0, baseline=cp.baselines.NeighbourMean(), kinds=("deletion",))
    figure = pathway_figure(found, image=1)
    assert len(figure.axes) == 2  # one panel, one bar
    shown = torch.as_tensor(figure.axes[0].images[0].get_array().filled())
    torch.testing.assert_close(shown, found.values("excess", "deletion")[1])
    pathway_figure(found, measure="seams").draw_without_rendering()
    with pytest.raises(InputError, match="image must be from 0 to 1, got 2"):
        pathway_figure(found, image=2)
    with pytest.raises(UnknownNameError, match="did you mean 'excess'"):
        pathway_figure(found, measure="exces")
