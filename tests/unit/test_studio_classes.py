"""Which class a typed text means: its label, a synonym or its number, and never one that was not typed."""

import pytest

from counterpoint.studio.classes import LARGEST, NoSuchClass, class_sought, suggestions

LABELS = ("tench, Tinca tinca", "crane", "tabby, tabby cat", "tiger cat", "Lynx", "crane", "1 litre jug")


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("lynx", 4),
        (" LYNX ", 4),
        ("tabby, tabby cat", 2),
        ("tabby", 2),
        ("Tabby  Cat", 2),
        ("tinca tinca", 0),
        ("4", 4),
        ("0", 0),
        ("4 lynx", 4),
        ("2 tabby cat", 2),
        ("5 crane", 5),
        ("1 litre jug", 6),
    ],
)
def test_a_label_a_synonym_or_a_number_means_its_class(text, index):
    assert class_sought(text, LABELS) == index


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("lynxx", "no class is called “lynxx”; near it: 4 Lynx."),
        ("cat", "near it: 2 tabby, tabby cat, 3 tiger cat."),
        ("crane", "“crane” names 2 classes, 1 crane, 5 crane: give its number."),
        ("3 tabby", "class 3 is “tiger cat”, and “tabby” is 2 tabby, tabby cat."),
        ("99 tabby", "there is no class 99, and “tabby” is 2"),
        ("7", "classes are numbered from 0 to 6."),
        ("-1", "there is no class -1"),
        ("-1 x", "no class is called “-1 x”"),
        ("9" * 25, "classes are numbered from 0 to 6."),
        ("9" * 99, "no class is called"),
        ("qqqqqqq", "type a part of its label"),
    ],
)
def test_what_names_no_class_or_several_is_refused_with_the_nearest(text, words):
    with pytest.raises(NoSuchClass) as refused:
        class_sought(text, LABELS)
    assert words in refused.value.words
    assert refused.value.status == 422
    assert refused.value.words.endswith(".")


def test_without_labels_only_a_number_names_a_class():
    assert class_sought("12", ()) == 12
    with pytest.raises(NoSuchClass, match="no labels"):
        class_sought("lynx", ())
    with pytest.raises(NoSuchClass, match="numbered"):
        class_sought(str(LARGEST + 1), ())


def test_suggestions_contain_what_is_typed_and_begin_with_it_first():
    assert suggestions("T", LABELS, 3) == [
        (0, "tench, Tinca tinca"),
        (2, "tabby, tabby cat"),
        (3, "tiger cat"),
    ]
    assert suggestions("4", LABELS, 9) == [(4, "Lynx")]
