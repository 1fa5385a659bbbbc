"""What an explanation refers to: words joined of pieces, and the part of an image that is seen."""

import pytest
from torchvision.transforms import v2

from itm_lightning.encoders.base import Token
from itm_lightning.encoders.transforms import ToPixels
from itm_lightning.explain.inputs import crop_of, joined

PIECES = {
    "WordPiece": (["[CLS]", "play", "##ing", "dog", "##s", ".", "[SEP]"], [1, 3, 5]),
    "SentencePiece": (["▁playing", "▁dog", "s", "."], [0, 1]),
    "byte-level BPE": (["<s>", "play", "ing", "Ġdogs", ".", "</s>"], [1, 3]),
    "CLIP's BPE": (["<s>", "play", "ing</w>", "dogs</w>", ".</w>", "</s>"], [1, 3, 4]),
    "whole words": (["playing", "dogs"], [0, 1]),
}


@pytest.mark.parametrize("kind", PIECES)
def test_pieces_are_joined_to_words(kind):
    pieces, starts = PIECES[kind]
    marks = {"[CLS]", "[SEP]", "<s>", "</s>"}
    words = [w for w in joined([Token(p, p in marks) for p in pieces]) if not w.special]
    text = "".join(word.text for word in words)
    assert text in ("playingdogs.", "playingdogs")
    assert [word.tokens[0] for word in words] == starts
    assert [i for w in words for i in w.tokens] == [
        i for i, p in enumerate(pieces) if p not in marks
    ]


def test_a_mark_stands_alone_and_ends_a_word():
    words = joined([Token("dog", False), Token("[SEP]", True), Token("##s", False)])
    assert [word.text for word in words] == ["dog", "[SEP]", "s"]
    assert joined([Token("", True)])[0].text == "(whole text)"


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([v2.Resize((32, 32))], (0, 0, 1, 1)),
        ([v2.Resize(40), v2.CenterCrop(40)], (1 / 6, 0, 5 / 6, 1)),
        ([v2.Resize((64, 96)), v2.CenterCrop((32, 48))], (0.25, 0.25, 0.75, 0.75)),
    ],
)
def test_the_part_that_a_transform_keeps_is_measured(steps, expected):
    assert crop_of(ToPixels(steps), (300, 200)) == pytest.approx(expected, abs=0.01)
