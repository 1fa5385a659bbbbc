"""Mentions: which words of a scene's caption speak of which things, held against the pixels."""

from dataclasses import replace

import numpy as np
import pytest

from itm_lightning.data import Karpathy, Scenes
from itm_lightning.data.sources.scenes.render import GRAIN
from itm_lightning.data.sources.scenes.world import COLOURS
from itm_lightning.errors import InputError
from tests.data.test_scenes import NUMBERS, RELATIONS, ROWS, SIZES


@pytest.fixture(scope="module")
def mentioned():
    """Image, text and mention of every word that speaks of things, in the first hundred scenes."""
    source = Scenes(test=100)
    return [
        (np.asarray(source.image(record)).astype(int), text, mention)
        for record in source.records("test")
        for text, mentions in zip(record.texts, source.mentions(record), strict=True)
        for mention in mentions
    ]


def words_of(mentioned, word_class):
    found = [case for case in mentioned if case[2].word_class == word_class]
    assert len(found) > 100
    return [(image, text, m, text[m.start : m.end]) for image, text, m in found]


def test_a_colours_pixels_are_in_its_box_and_nowhere_else(mentioned):
    for image, _, mention, word in words_of(mentioned, "colour"):
        (box,) = mention.boxes
        painted = (abs(image - COLOURS[word]) <= GRAIN).all(axis=2)
        assert painted.any()
        painted[int(box.top) : int(box.bottom), int(box.left) : int(box.right)] = False
        assert not painted.any()


@pytest.mark.parametrize(("word_class", "part"), [("size", 0), ("colour", 1), ("shape", 2)])
def test_the_words_of_a_name_speak_of_the_thing_that_has_it(mentioned, word_class, part):
    for _, _, mention, word in words_of(mentioned, word_class):
        (box,) = mention.boxes
        assert box.name.split()[part] == SIZES.get(word, word)


def test_a_relation_speaks_of_the_things_of_which_it_is_true(mentioned):
    for _, text, mention, word in words_of(mentioned, "relation"):
        if any(row in text for row in ROWS):
            assert len(mention.boxes) >= 2
        else:
            relation = next(true for name, true in RELATIONS.items() if name.startswith(word))
            assert relation(*mention.boxes)


def test_a_number_speaks_of_as_many_things(mentioned):
    for _, _, mention, word in words_of(mentioned, "count"):
        assert len(set(mention.boxes)) == NUMBERS[word]


def test_another_sources_record_is_named_and_photos_have_no_mentions(karpathy_root):
    source = Scenes(test=4)
    with pytest.raises(InputError, match="test/9"):
        source.mentions(replace(source.records("test")[0], location="test/9"))
    photos = Karpathy(karpathy_root)
    assert photos.mentions(photos.records("val")[0]) == ((),) * 5
