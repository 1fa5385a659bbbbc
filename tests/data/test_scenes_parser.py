"""The parser knows every sentence of the scenes' grammar, and whether it is true."""

import pytest

from itm_lightning.data.sources.scenes import Scenes
from itm_lightning.data.sources.scenes.parser import Meaning, Thing, parse
from itm_lightning.data.sources.scenes.world import Ground, Look, Place, Scene, Size

RED, SMALL_PINK = Thing("big", "red", "circle"), Thing("small", "pink", "ring")
BLUE, PINK = Thing(None, "blue", "star"), Thing(None, "pink", "ring")
# a big red circle top left, a small blue star to its right, a small pink ring below the star
SCENE = Scene(
    64,
    (
        Look(Size("big", 20), "red", "circle"),
        Look(Size("small", 12), "blue", "star"),
        Look(Size("small", 12), "pink", "ring"),
    ),
    (Place(14, 14, 20), Place(44, 16, 12), Place(46, 44, 12)),
    Ground((120, 120, 120), (0, 0), 0),
)
TRUE = [
    "a red circle left of a blue star",
    "there is a big red circle to the left of the small blue star that is above a small pink ring",
    "a photo of a pink ring, as well as a red circle left of the blue star",
    "there is a pink ring, while a red circle sits to the left of a blue star",
    "a little pink ring lies under a little blue star, which is right of the large red circle",
    "three things: a red circle, a pink ring and a blue star",
    "there are three things: a red circle, and a blue star over the pink ring",
    "from top to bottom: a blue star and a pink ring",
    "a red circle, then a blue star, from left to right",
]
FALSE = [
    "a red circle right of a blue star",
    "a red circle above a blue star",
    "a pink ring left of a blue star",  # it is a little, but farther below
    "a red star left of a blue circle",
    "a small red circle left of a small blue star",
    "a red circle left of a red circle",
    "two things: a red circle and a blue star",
    "from left to right: a blue star and a red circle",
    "from left to right: a blue star and a pink ring",  # they overlap on that axis
    "a blue star, then a red circle, from top to bottom",
]
UNGRAMMATICAL = [
    "",
    "a red circle",
    "a photo of a dog left of a cat",
    "a red circle left of blue star",
    "a red circle left of a blue star.",
    "a red circle left of a blue star left of a pink ring",
    "a red circle, and a blue star, and a pink ring",
    "a red circle left of a blue star, and a pink ring, as well as a green cross, and a black star",
    "two things: a red circle, a blue star and a pink ring",
    "two things: a red circle, and a blue star",
    "a red circle sits left of a blue star, and a pink ring lies above a green cross",
    "a small red circle left of a blue star",
    "a small red circle left of a large blue star",
    "from left to right: a red circle above a blue star",
    "a reddish circle left of a blue stars",
]


@pytest.mark.parametrize("text", TRUE)
def test_a_true_sentence(text):
    meaning = parse(text)
    assert meaning is not None
    assert meaning.is_true_of(SCENE)


@pytest.mark.parametrize("text", FALSE)
def test_a_false_sentence(text):
    meaning = parse(text)
    assert meaning is not None
    assert not meaning.is_true_of(SCENE)


@pytest.mark.parametrize("text", UNGRAMMATICAL)
def test_what_is_no_sentence(text):
    assert parse(text) is None


def test_what_a_sentence_says():
    below, right = ("below", "under"), ("right of", "to the right of")
    assert parse("a blue star under the pink ring that is to the right of a blue star") == Meaning(
        (BLUE, PINK, BLUE), ((0, below), (1, right)), None, None
    )
    assert parse("a large red circle, then a little pink ring, from top to bottom") == Meaning(
        (RED, SMALL_PINK), (), None, 1
    )
    assert parse("there are two things: a blue star and a pink ring") == Meaning(
        (BLUE, PINK), (), 2, None
    )


def test_every_caption_of_the_source_is_true_of_its_own_scene_only():
    source = Scenes(train=400, pairs=0.5)
    records = source.records("train")
    for record in records:
        meanings = [parse(text) for text in record.texts]
        assert all(meanings)
        assert all(meaning.is_true_of(source.scene(record)) for meaning in meanings)
        if record.minimal_pair is not None:
            other = source.scene(records[record.minimal_pair])
            assert not any(meaning.is_true_of(other) for meaning in meanings)
