"""What an explanation refers to: words joined of pieces, and the part of an image that is seen."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from itm_lightning.data.sources.precomputed.source import Precomputed
from itm_lightning.encoders.base import Grid, Token
from itm_lightning.encoders.transforms import ToPixels
from itm_lightning.explain import Explanation
from itm_lightning.explain.inputs import crop_of, joined
from itm_lightning.explain.page import write_pages
from itm_lightning.explain.pairs import image_of

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


def regions_in(folder, boxes=None):
    rng = np.random.default_rng(0)
    np.save(folder / "val_ims.npy", rng.random((2, 3, 10), dtype=np.float32))
    (folder / "val_caps.txt").write_text("a dog\na cat\n")
    if boxes is not None:
        np.save(folder / "val_boxes.npy", boxes)
    return Precomputed(str(folder))


def test_boxes_in_pixels_become_shares(tmp_path):
    boxes = np.array([[[0, 0, 50, 20], [50, 0, 100, 10], [0, 0, 100, 40]]] * 2, dtype=np.float32)
    source = regions_in(tmp_path, boxes)
    image = image_of(source, source.records("val")[1])
    expected = torch.tensor([[0, 0, 0.5, 0.5], [0.5, 0, 1, 0.25], [0, 0, 1, 1]])
    torch.testing.assert_close(image.boxes, expected)
    assert image.grid is None
    assert image.regions.tokens.shape == (1, 3, 10)
    found = Explanation(
        image=Image.new("RGB", (100, 40)),
        text="a dog",
        words=["a", "dog"],
        maps=torch.tensor([[1.0, 0, -1], [0, 2, 0]]),
        grid=None,
        boxes=image.boxes,
        score=2.0,
        residue=0.0,
        method="contributions",
        unplaced=torch.zeros(2),
        special=[False, False],
        head="MaxSim",
        meaning="",
    )
    page = write_pages([[found]], ["MaxSim"], tmp_path / "pages").with_name("pair-1.html")
    html = page.read_text()
    assert html.count("<rect") == 3 * 3  # a map a word, and their sum
    assert 'x="50.0" y="0.0" width="50.0" height="25.0"' in html


def test_extracted_tokens_lie_on_the_manifests_grid(tmp_path):
    source = regions_in(tmp_path)
    manifest = {"version": 2, "grid": {"rows": 1, "columns": 2, "first": 1}, "class_names": []}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    assert image_of(source, source.records("val")[0]).grid == Grid(1, 2, 1)
