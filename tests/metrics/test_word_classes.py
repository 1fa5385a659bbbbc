import pytest

from itm_lightning.data.sources.scenes.grammar import ABOVE, BELOW, LEFT, NUMBERS, RIGHT
from itm_lightning.data.sources.scenes.world import COLOURS, SHAPES, SIZES
from itm_lightning.metrics.word_classes import WORD_CLASSES, classes_in, word_class, words_of


def test_words_lose_case_and_punctuation():
    assert words_of("A man, who isn’t wet; doesn't 3-wheel.") == [
        *("a", "man", "who", "isn’t", "wet", "doesn't", "3", "wheel"),
    ]


@pytest.mark.parametrize(
    ("text", "classes"),
    [
        ("A dog runs", set()),
        ("A brown dog", {"attribute"}),
        ("Two dogs behind a fence.", {"count", "relation"}),
        ("A boy without a shirt isn't cold", {"negation"}),
        ("12 boys, 1 ball", {"count"}),
        ("1 ball", set()),
        ("", set()),
    ],
)
def test_classes_in_a_text(text, classes):
    assert classes_in(text) == classes


def test_no_word_is_in_two_classes():
    words = [word for words in WORD_CLASSES.values() for word in words]
    assert len(words) == len(set(words))


def test_the_words_of_scenes_have_their_class():
    assert {word_class(word) for word in (*COLOURS, *SIZES, "little", "large")} == {"attribute"}
    assert {word_class(word) for word in NUMBERS.values()} == {"count"}
    assert {word_class(word) for word in SHAPES} == {None}
    for relation in (*LEFT, *RIGHT, *ABOVE, *BELOW):
        assert classes_in(relation) == {"relation"}
