"""The studio's sentences: each is right for its numbers, and says nothing that they do not."""

import pytest

from counterpoint.studio import wording

ANSWER = {
    "score": 9.0,
    "baseline_score": 0.4,
    "target": 8.6,
    "result": 8.256,
    "relative_error": 0.04,
    "undefined": None,
    "claim": "shares",
    "label": "tabby",
    "baseline": "blur:sigma=20",
    "score_kind": "logit",
}


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, "Against a blurred image, 96.0 % of the 8.6 logits of “tabby” is explained."),
        (
            {"result": 5.16, "relative_error": 0.4},
            "Against a blurred image, 60 % of the 8.6 logits of “tabby” is explained.",
        ),
        (
            {"result": 8.7, "relative_error": 0.0116},
            "Against a blurred image, the 8.6 logits of “tabby” are explained with an error of 1.2 %.",
        ),
        (
            {"result": 12.9, "relative_error": 0.5},
            "Against a blurred image, the map explains the 8.6 logits of “tabby”, and 50 % more that is not there.",
        ),
        (
            {"result": -1.0, "relative_error": 1.12},
            "Against a blurred image, the map explains none of the 8.6 logits of “tabby”: its sum has the opposite sign.",
        ),
        (
            {"target": -2.0, "result": -1.9, "relative_error": 0.05},
            "Against a blurred image, 95.0 % of the 2.0 logits that “tabby” has less than there is explained.",
        ),
        (
            {"relative_error": None, "undefined": "target too small: |0.001| is at most 0.02"},
            "Against a blurred image there is next to nothing to explain for “tabby”: target too small: |0.001| is at most 0.02.",
        ),
        (
            {
                "baseline": "made_up:x=1",
                "score_kind": "probability",
                "target": 0.8,
                "result": 0.8,
                "relative_error": 0.0,
            },
            "Against the baseline “made up”, all of the 0.8 probability of “tabby” is explained.",
        ),
    ],
)
def test_a_sentence_says_what_the_numbers_say(changed, expected):
    assert wording.sentence({**ANSWER, **changed}) == expected


@pytest.mark.parametrize(
    ("claim", "word"), [("rate", "rates of change"), ("importance", "importances without a unit")]
)
def test_values_that_are_no_shares_are_not_said_to_explain(claim, word):
    text = wording.sentence({**ANSWER, "claim": claim, "relative_error": None})
    assert "explained" not in text
    assert word in text
    assert "falls by 8.6 logits" in text


def made(places, side=64) -> list[float]:
    values = [0.0] * (side * side)
    for row, column, value in places:
        values[row * side + column] = value
    return values


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        ([(3, 3, 2.0), (50, 50, 1.0)], "67 % of what speaks for it lies in the upper left quarter."),
        ([(3, 60, 1.0)], "100 % of what speaks for it lies in the upper right quarter."),
        (
            [(28, 28, 0.3), (36, 36, 0.3), (0, 0, 0.2), (60, 60, 0.2)],
            "60 % of what speaks for it lies in the middle.",
        ),
        ([(3, 3, 0.35), (3, 60, 0.35), (60, 3, 0.3)], "70 % of what speaks for it lies in the upper half."),
        (
            [(3, 3, 1.0), (3, 60, 1.0), (60, 3, 1.0), (60, 60, 1.0)],
            "No quarter or half of the picture dominates.",
        ),
        ([(3, 3, -1.0)], ""),
        # What cancels within a square speaks for nothing.
        (
            [(0, 0, 5.0), (0, 1, -5.0), (60, 60, 1.0)],
            "100 % of what speaks for it lies in the lower right quarter.",
        ),
    ],
)
def test_a_place_is_named_only_where_most_of_it_lies(places, expected):
    assert wording.where(made(places), 64, 64) == expected


def test_a_map_of_other_sizes_is_cut_into_squares_too():
    values = [0.0] * (30 * 50)
    values[2 * 50 + 45] = 1.0
    assert "upper right quarter" in wording.where(values, 30, 50)


def test_numbers_of_a_sum_have_one_count_of_decimals():
    assert wording.evenly(11.4, 2.351, 9.049, 8.97, -0.0786) == ["11.40", "2.35", "9.05", "8.97", "−0.08"]  # noqa: RUF001
    assert wording.evenly(0.75, None, -0.00001) == ["0.7500", "–", "0.0000"]  # noqa: RUF001 (a dash)


def test_text_forms_are_read_aloud_without_what_says_nothing():
    assert wording.form("blur:sigma=10.0") == "blur: sigma 10"
    assert (
        wording.form("integrated_gradients:tolerance=0.01,rule=none")
        == "integrated gradients: tolerance 0.01"
    )
    # What a parameter is given stays as it has to be written.
    assert (
        wording.form("integrated_gradients:rule=gauss_legendre(8),value_tolerance=0.1")
        == "integrated gradients: rule gauss_legendre(8), value tolerance 0.1"
    )
    assert (
        wording.form("lime:regions=grid(cells=4,b=2),samples=9")
        == "lime: regions grid(cells=4,b=2), samples 9"
    )
    assert wording.form("local_mean") == "local mean"


def test_bytes_of_a_map_are_its_numbers():
    assert list(wording.floats(b"\0\0\x80?\0\0\0\xc0")) == [1.0, -2.0]


@pytest.mark.parametrize(
    ("changed", "look", "word"),
    [
        ({}, "fine", ""),
        ({"cancellation": 30.0, "value_error": 0.001}, "fine", ""),
        ({"cancellation": 180.0}, "guarded", "180 times the target"),
        ({"value_error": 0.032}, "guarded", "about 3.2 %"),
        ({"relative_error": 0.3, "value_error": 0.4}, "alert", "about 40 %"),
        ({"relative_error": None, "value_error": 0.4}, "", ""),
    ],
)
def test_a_small_error_of_the_sum_is_only_good_news_where_it_says_something_of_the_map(changed, look, word):
    found, words = wording.reliance({**ANSWER, "relative_error": 0.0072, **changed})
    assert found == look
    assert word in words
    assert bool(words) == bool(word)


def test_what_random_weights_leave_is_said_of_the_values_and_of_their_sizes():
    steps = [{"spearman": 0.0011, "absolute_spearman": 0.43}]
    assert wording.random_weights({"layers": 20, "steps": steps}) == (
        "With all 20 layers random, the rank correlation with the map as it was is "
        "0.00 of the values and 0.43 of their sizes."
    )
    none = [{"spearman": None, "absolute_spearman": None}]
    assert "constant" in wording.random_weights({"layers": 20, "steps": none})
