"""The verdict on a map: each threshold, and what beats what."""

import pytest

from counterpoint.trusting.verdict import overall, verdict


def error(**changes):
    return {"claim": "shares", "relative_error": 0.01, "undefined": None, "error_is_forced": False, **changes}


def line(kind, place, area, baseline=0, far=None, scores=(10.0, 0.0)):
    far = None if far is None else {"beyond_limit": far}
    return {
        "kind": kind,
        "cell": place,
        "baseline": baseline,
        "area": area,
        "scores": list(scores),
        "out_of_distribution": far,
    }


def curves(gains=((4.0, 0.0),), **options):
    """(gain of the map, gain of the control) under each baseline, for a score that falls by 10."""
    lines = []
    for b, both in enumerate(gains):
        for place, gain in enumerate(both):
            lines += [
                line("insertion", place, gain, b, **options),
                line("deletion", place, 0.0, b, **options),
            ]
    return {"baselines": [f"b{k}" for k in range(len(gains))], "curves": lines}


def pathway(ratio=1.0, floor=0.2):
    return {
        "kinds": {kind: {"mean": ratio * floor, "mean_floor": floor} for kind in ("insertion", "deletion")}
    }


def weights(spearman=0.1, absolute=0.1):
    return {
        "steps": [
            {"spearman": 0.9, "absolute_spearman": 0.9},
            {"spearman": spearman, "absolute_spearman": absolute},
        ]
    }


def judged(**parts):
    every = {"error": error(), "curves": curves(), "pathway": pathway(), "weights": weights(), **parts}
    missing = {name: f"{name} is missing." for name, part in every.items() if part is None}
    return verdict(every, missing).as_dict()


def standings(**parts):
    return {reason["check"]: reason["standing"] for reason in judged(**parts)["reasons"]}


def test_a_map_that_passes_every_check_is_good():
    found = judged()
    assert found["standing"] == "good"
    assert {reason["standing"] for reason in found["reasons"]} == {"good"}
    assert all(reason["words"].endswith(".") for reason in found["reasons"])


@pytest.mark.parametrize(
    ("share", "standing"), [(0.05, "good"), (0.051, "doubtful"), (0.2, "doubtful"), (0.21, "bad")]
)
def test_the_error_decides_at_its_thresholds(share, standing):
    assert standings(error=error(relative_error=share))["error"] == standing


@pytest.mark.parametrize(
    "changes",
    [{"claim": "rate"}, {"error_is_forced": True}, {"relative_error": None, "undefined": "target too small"}],
)
def test_an_error_that_proves_nothing_is_unknown(changes):
    assert standings(error=error(**changes))["error"] == "unknown"


@pytest.mark.parametrize(
    ("gains", "standing"),
    [
        ([(0.6, 0.0), (9.0, 0.0)], "good"),
        ([(0.6, 0.0), (0.5, 0.0)], "doubtful"),
        ([(0.5, 0.0), (-2.0, 0.0)], "bad"),
        ([(3.0, 2.6), (3.0, 3.0)], "bad"),
    ],
)
def test_curves_must_beat_a_random_map_by_a_twentieth_of_the_fall(gains, standing):
    assert standings(curves=curves(gains))["curves"] == standing


def test_where_the_baseline_scores_higher_a_good_map_makes_the_score_rise():
    assert standings(curves=curves([(-4.0, 0.0)], scores=(0.0, 10.0)))["curves"] == "good"


def test_curves_of_a_score_that_does_not_change_say_nothing():
    assert standings(curves=curves(scores=(5.0, 5.0)))["curves"] == "unknown"
    assert standings(curves=curves(scores=(5.0, None)))["curves"] == "unknown"


def test_curves_far_from_real_photographs_are_doubted():
    assert standings(curves=curves(far=[True, True, False]))["distribution"] == "doubtful"
    assert "distribution" not in standings(curves=curves(far=[True, False]))


@pytest.mark.parametrize(
    ("ratio", "standing"), [(1.1, "good"), (1.2, "doubtful"), (1.49, "doubtful"), (1.6, "bad")]
)
def test_the_pathway_decides_at_its_thresholds(ratio, standing):
    assert standings(pathway=pathway(ratio))["pathway"] == standing


def test_without_a_floor_the_pathway_is_unknown():
    assert standings(pathway=pathway(floor=0.0))["pathway"] == "unknown"


@pytest.mark.parametrize(
    ("spearman", "absolute", "standing"),
    [
        (0.3, 0.0, "good"),
        (-0.4, 0.0, "doubtful"),
        (0.0, 0.5, "doubtful"),
        (0.0, 0.7, "bad"),
        (None, None, "unknown"),
    ],
)
def test_likeness_under_random_weights_decides_at_its_thresholds(spearman, absolute, standing):
    assert standings(weights=weights(spearman, absolute))["weights"] == standing


@pytest.mark.parametrize(
    ("spearman", "absolute", "words"),
    [
        (0.0011, 0.43, "0.00 of the values and 0.43 of their sizes (which decides): a part of it"),
        (-0.4, 0.1, "−0.40 of the values (which decides) and 0.10 of their sizes: a part of it"),  # noqa: RUF001
        (0.2, None, "0.20 of the values: it shows"),
        (0.11, 0.11, "0.11 of the values and 0.11 of their sizes: it shows"),
    ],
)
def test_likeness_is_named_as_of_the_values_and_of_their_sizes_and_says_which_decides(
    spearman, absolute, words
):
    reason = next(
        each for each in judged(weights=weights(spearman, absolute))["reasons"] if each["check"] == "weights"
    )
    assert f"its rank correlation with itself is {words}" in reason["words"]
    assert reason["value"] == max(abs(each) for each in (spearman, absolute) if each is not None)


def test_what_is_missing_is_named_with_its_reason():
    found = judged(pathway=None)
    reason = next(reason for reason in found["reasons"] if reason["check"] == "pathway")
    assert reason == {
        "check": "pathway",
        "standing": "unknown",
        "words": "Not known: pathway is missing.",
        "value": None,
    }


def test_bad_beats_doubtful_beats_good_and_good_needs_two():
    assert overall(["good", "doubtful", "bad"]) == "bad"
    assert overall(["good", "good", "doubtful"]) == "doubtful"
    assert overall(["good", "unknown", "good"]) == "good"
    assert overall(["good", "unknown", "unknown"]) == "unknown"
