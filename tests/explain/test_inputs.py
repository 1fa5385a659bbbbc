"""What an explanation refers to: words joined of pieces, and the part of an image that is seen."""

import json
import re

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from itm_lightning.data.sources.precomputed.source import Precomputed
from itm_lightning.encoders.base import Grid, Token
from itm_lightning.encoders.transforms import ToPixels
from itm_lightning.errors import InputError
from itm_lightning.explain import Explanation
from itm_lightning.explain.inputs import crop_of
from itm_lightning.explain.page import write_pages
from itm_lightning.explain.pairs import image_of
from itm_lightning.explain.words import joined

PIECES = {
    "WordPiece": (
        ["[CLS]", "play", "##ing", "dog", "##s", ".", "[SEP]"],
        {"playing": (1, 2), "dogs": (3, 4), ".": (5,)},
    ),
    "SentencePiece": (["▁playing", "▁dog", "s", "."], {"playing": (0,), "dogs.": (1, 2, 3)}),
    "byte-level BPE": (
        ["<s>", "play", "ing", "Ġdogs", ".", "</s>"],
        {"playing": (1, 2), "dogs.": (3, 4)},
    ),
    "CLIP's BPE": (
        ["<s>", "play", "ing</w>", "dogs</w>", ".</w>", "</s>"],
        {"playing": (1, 2), "dogs": (3,), ".": (4,)},
    ),
    "whole words": (["playing", "dogs"], {"playing": (0,), "dogs": (1,)}),
}


@pytest.mark.parametrize("kind", PIECES)
def test_pieces_are_joined_to_words(kind):
    pieces, expected = PIECES[kind]
    marks = {"[CLS]", "[SEP]", "<s>", "</s>"}
    words = [w for w in joined([Token(p, p in marks) for p in pieces]) if not w.special]
    assert [(word.text, word.tokens) for word in words] == list(expected.items())


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


@pytest.mark.parametrize("size", [(1, 60), (60, 1), (1, 1), (2, 600), (3000, 2)])
def test_an_image_of_a_pixel_or_two_has_a_part_that_is_kept(size):
    left, top, right, bottom = crop_of(ToPixels([v2.Resize(40), v2.CenterCrop(40)]), size)
    assert 0 <= left < right <= 1
    assert 0 <= top < bottom <= 1
    assert right - left >= 1 / size[0] - 1e-9
    assert bottom - top >= 1 / size[1] - 1e-9


def found_of(image, boxes=None, grid=None):
    """An explanation of two words and three places."""
    return Explanation(
        image=image,
        text="a dog",
        words=["a", "dog"],
        maps=torch.tensor([[1.0, 0, -1], [0, 2, 0]]),
        grid=grid,
        boxes=boxes,
        score=2.0,
        residue=0.0,
        method="contributions",
        unplaced=torch.zeros(2),
        special=[False, False],
        head="MaxSim",
        meaning="",
    )


@pytest.mark.parametrize("size", [(1, 3000), (3000, 1)])
def test_pages_of_an_image_of_a_line_are_bounded(tmp_path, size):
    found = found_of(Image.new("RGB", size), grid=Grid(1, 3, 0))
    page = write_pages([[found]], 1, ["MaxSim"], tmp_path).with_name("pair-1.html")
    ratio = float(re.search(r"aspect-ratio: ([\d.]+)", page.read_text())[1])
    assert 0.2 < ratio < 10
    assert Image.open(tmp_path / "pair-1.png").height < 1000


def test_places_are_the_grids_cells_or_the_boxes():
    image = Image.new("RGB", (6, 2))
    expected = torch.tensor([[0, 0, 1, 1], [1, 0, 2, 1], [2, 0, 3, 1]]) / torch.tensor([3, 1, 3, 1])
    assert torch.equal(found_of(image, grid=Grid(1, 3, 0)).places, expected)
    assert torch.equal(found_of(image, boxes=expected / 2).places, expected / 2)
    assert found_of(image).places is None


def test_pages_of_an_earlier_run_go_and_other_files_stay(tmp_path):
    found = [found_of(Image.new("RGB", (6, 2)))]
    write_pages([found] * 3, 3, ["MaxSim"], tmp_path)
    for name in ("measures.json", "pair-1-notes.html", "notes.png"):
        (tmp_path / name).write_text("")
    write_pages([found], 1, ["MaxSim"], tmp_path)
    ours = {"index.html", "pair-1.html", "pair-1.png"}
    assert {path.name for path in tmp_path.iterdir()} == ours | {"pair-1-notes.html", "notes.png"}


def test_what_was_explained_is_kept_where_a_later_pair_fails(tmp_path):
    def pairs():
        yield [found_of(Image.new("RGB", (6, 2)))]
        raise InputError("photo 2 does not decode")

    with pytest.raises(InputError, match="photo 2"):
        write_pages(pairs(), 5, ["MaxSim"], tmp_path)
    assert (tmp_path / "pair-1.html").is_file()
    assert "pair-1.html" in (tmp_path / "index.html").read_text()


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
    found = found_of(Image.new("RGB", (100, 40)), image.boxes)
    page = write_pages([[found]], 1, ["MaxSim"], tmp_path / "pages").with_name("pair-1.html")
    html = page.read_text()
    assert html.count("<rect") == 3 * 3  # a map a word, and their sum
    assert 'x="50.0" y="0.0" width="50.0" height="25.0"' in html


def test_extracted_tokens_lie_on_the_manifests_grid(tmp_path):
    source = regions_in(tmp_path)
    manifest = {"version": 2, "grid": {"rows": 1, "columns": 2, "first": 1}, "class_names": []}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    assert image_of(source, source.records("val")[0]).grid == Grid(1, 2, 1)
