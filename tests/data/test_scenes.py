"""Scenes: captions are read back by an independent reader, boxes are held against the pixels."""

import hashlib
import itertools
import math
import pickle
import re
from collections import Counter
from dataclasses import replace
from random import Random

import numpy as np
import pytest

from itm_lightning.data.source import Box
from itm_lightning.data.sources.scenes import Scenes
from itm_lightning.data.sources.scenes.render import GRAIN, SUBPIXELS, coverage, render
from itm_lightning.data.sources.scenes.world import COLOURS, SHAPES, draw_scene
from itm_lightning.errors import InputError
from itm_lightning.part import from_config, to_config
from itm_lightning.registry import get

GAP = 3  # pixels at least between the things of a photo of 64
THING = re.compile(
    rf"\b(?:a|the) (?:(small|little|big|large) )?({'|'.join(COLOURS)}) ({'|'.join(SHAPES)})\b"
)
SIZES = {"small": "small", "little": "small", "big": "big", "large": "big"}
NUMBERS = {"two": 2, "three": 3, "four": 4}
RELATIONS = {
    "left of": lambda one, other: one.right + GAP <= other.left,
    "right of": lambda one, other: other.right + GAP <= one.left,
    "above": lambda one, other: one.bottom + GAP <= other.top,
    "over": lambda one, other: one.bottom + GAP <= other.top,
    "below": lambda one, other: other.bottom + GAP <= one.top,
    "under": lambda one, other: other.bottom + GAP <= one.top,
}
ROWS = {"from left to right": "left of", "from top to bottom": "above"}


@pytest.fixture(scope="module")
def source():
    return Scenes()


@pytest.fixture(scope="module")
def records(source):
    return source.records("test")


@pytest.fixture(scope="module")
def scenes():
    return [draw_scene(Random(f"scene {number}"), 64) for number in range(60)]


def claims(text, boxes):
    """What the caption says of the photo with these boxes, statement by statement: true or not."""
    by_name = {box.name.split(" ", 1)[1]: box for box in boxes}
    mentions = list(THING.finditer(text))
    things = [by_name.get(f"{mention[2]} {mention[3]}") for mention in mentions]
    yield bool(things)
    if None in things:
        yield False
        return
    for mention, thing in zip(mentions, things, strict=True):
        if mention[1]:
            yield thing.name.startswith(SIZES[mention[1]])
    for (one, other), (before, after) in zip(
        itertools.pairwise(things), itertools.pairwise(mentions), strict=True
    ):
        between = text[before.end() : after.start()]
        yield from (true(one, other) for word, true in RELATIONS.items() if word in between)
    for words, relation in ROWS.items():
        if words in text:
            yield all(RELATIONS[relation](*pair) for pair in itertools.pairwise(things))
    for word in re.findall(r"\b(two|three|four)\b", text):
        yield NUMBERS[word] == len(boxes)


def holds(text, boxes):
    return all(claims(text, boxes))


def relates(text):
    return any(word in text for word in (*RELATIONS, *ROWS))


def words(text):
    return Counter(re.findall(r"\w+", text))


@pytest.mark.parametrize(
    ("text", "true"),
    [
        ("a small red ring to the left of the blue square", True),
        ("a small red ring to the right of the blue square", False),
        ("a large red ring and a blue square", False),
        ("a blue ring, and a red square", False),
        ("from left to right: a red ring and a blue square", True),
        ("a blue square, then a red ring, from left to right", False),
        ("a red ring is above a blue square", False),
        ("three things: a red ring and a blue square", False),
    ],
)
def test_the_reader_of_these_tests_tells_true_from_false(text, true):
    boxes = [Box("small red ring", 2, 20, 14, 32), Box("big blue square", 30, 22, 52, 44)]
    assert holds(text, boxes) is true


def test_it_is_registered_and_rebuilt_from_its_recipe():
    source = get("source", "Scenes")(seed=3, val=6)
    assert from_config(to_config(source)).records("val") == source.records("val")


def test_counts_and_ids(source):
    for split, count in (("train", 3000), ("val", 500), ("test", 500)):
        records = source.records(split)
        assert len(records) == len({record.image_id for record in records}) == count
        assert len({i for record in records for i in record.text_ids}) == 5 * count
        assert source.records(split) is records


def test_five_different_true_texts_name_nearly_everything(records):
    for record in records:
        assert len(record.texts) == len(record.text_ids) == len(set(record.texts)) == 5
        for text in record.texts:
            assert holds(text, record.boxes), text
            named = len(THING.findall(text))
            assert max(2, len(record.boxes) - 1) <= named <= len(record.boxes)


def test_texts_tell_images_apart(records):
    texts = [(text, record) for record in records for text in record.texts]
    names = [{box.name.split(" ", 1)[1] for box in record.boxes} for record in records]
    alone = 0
    for text, own in texts:
        said = {f"{colour} {shape}" for _, colour, shape in THING.findall(text)}
        fits = [r for r, has in zip(records, names, strict=True) if said <= has]
        alone += [r for r in fits if holds(text, r.boxes)] == [own]
    assert alone > 0.97 * len(texts)
    assert sum(relates(text) for text, _ in texts) > 0.75 * len(texts)
    assert len({THING.sub("X", text) for text, _ in texts}) > 300  # wordings


def test_minimal_pairs_share_words_and_templates_and_each_text_is_true_of_one_only(records):
    paired = [record for record in records if record.minimal_pair is not None]
    assert len(paired) == 100
    for one, other in zip(paired[::2], paired[1::2], strict=True):
        assert (one.minimal_pair, other.minimal_pair) == (other.image_id, one.image_id)
        assert records.index(other) == records.index(one) + 1
        for mine, its in zip(one.texts, other.texts, strict=True):
            assert words(mine) == words(its)
            assert THING.sub("X", mine) == THING.sub("X", its)
            assert holds(mine, one.boxes)
            assert holds(its, other.boxes)
            assert not holds(mine, other.boxes), mine
            assert not holds(its, one.boxes), its


def test_minimal_pairs_swap_one_kind_of_thing_and_all_kinds_occur(source, records):
    def swapped(one, other):
        old, new = ([box.name.split() for box in r.boxes[:2]] for r in (one, other))
        assert one.boxes[2:] == other.boxes[2:]
        assert sorted(old[0] + old[1]) == sorted(new[0] + new[1])
        return tuple(a != b for a, b in zip(old[0], new[0], strict=True))

    paired = [record for record in records if record.minimal_pair is not None]
    changes = Counter(itertools.starmap(swapped, zip(paired[::2], paired[1::2], strict=True)))
    places = {(True, True, True), (False, True, True)}
    assert set(changes) == places | {(False, True, False), (True, False, False)}


def test_minimal_pairs_have_one_background(source, records):
    one, other = records[:2]
    bare = np.ones((64, 64), dtype=bool)
    for box in one.boxes + other.boxes:
        bare[int(box.top) : int(box.bottom), int(box.left) : int(box.right)] = False
    first, second = (np.asarray(source.image(record)) for record in (one, other))
    assert (first[bare] == second[bare]).all()
    assert (first != second).any()


@pytest.mark.parametrize(("count", "pairs", "paired"), [(9, 1.0, 8), (10, 0.0, 0), (10, 0.5, 4)])
def test_the_share_of_pairs_is_never_exceeded(count, pairs, paired):
    records = Scenes(val=count, pairs=pairs).records("val")
    assert sum(record.minimal_pair is not None for record in records) == paired


def test_boxes_fit_the_pixels_tightly(scenes):
    for scene in scenes:
        bare = render(replace(scene, looks=(), places=()))
        drawn = (render(scene) != bare).any(axis=2)
        for box in scene.boxes():
            left, top, right, bottom = map(int, (box.left, box.top, box.right, box.bottom))
            assert 0 <= left < right <= 64
            assert 0 <= top < bottom <= 64
            inside = drawn[top:bottom, left:right]
            assert inside[0].any()
            assert inside[-1].any()
            assert inside[:, 0].any()
            assert inside[:, -1].any()
            drawn[top:bottom, left:right] = False
        assert not drawn.any()


def test_things_stand_apart_and_wear_their_colour(scenes):
    for scene in scenes:
        image = render(scene).astype(int)
        for look, box in zip(scene.looks, scene.boxes(), strict=True):
            region = image[int(box.top) : int(box.bottom), int(box.left) : int(box.right)]
            close = (abs(region - COLOURS[look.colour]) <= GRAIN).all(axis=2)
            full = coverage(look.shape, look.size.side) == SUBPIXELS**2
            assert full.sum() >= 12  # a small star
            assert close[full].all()
        for one, other in itertools.combinations(scene.boxes(), 2):
            assert any(true(one, other) for true in RELATIONS.values())


def test_looks_differ_within_a_scene(scenes):
    assert {len(scene.looks) for scene in scenes} == {2, 3, 4}
    assert {look.shape for scene in scenes for look in scene.looks} == set(SHAPES)
    for scene in scenes:
        assert len({look.colour for look in scene.looks}) == len(scene.looks)
        assert len({look.shape for look in scene.looks}) == len(scene.looks)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape_touches_all_sides_of_its_square(shape):
    for side in range(5, 40):
        covered = coverage(shape, side)
        assert covered.shape == (side, side)
        assert (covered == covered[:, ::-1]).all()
        for edge in (covered[0], covered[-1], covered[:, 0], covered[:, -1]):
            assert edge.any()


@pytest.mark.parametrize(
    ("shape", "area"),
    [
        ("square", 1),
        ("circle", math.pi / 4),
        ("ring", 0.7 * math.pi / 4),
        ("triangle", 1 / 2),
        ("diamond", 1 / 2),
        ("cross", 1 - 0.7**2),
        # ten triangles from the centre to a tip and an inner corner, over width times height
        (
            "star",
            5
            * (math.cos(math.radians(72)) / math.cos(math.radians(36)))
            * math.sin(math.radians(36))
            / (2 * math.sin(math.radians(72)) * (1 + math.cos(math.radians(36)))),
        ),
    ],
)
def test_a_shape_has_its_area(shape, area):
    assert coverage(shape, 60).sum() / (60 * SUBPIXELS) ** 2 == pytest.approx(area, abs=0.01)


def test_labels_are_the_colours_and_shapes_that_occur(records):
    assert Scenes().class_names == (*COLOURS, *SHAPES)
    for record in records:
        occurring = {word for box in record.boxes for word in box.name.split()[1:]}
        assert record.labels == tuple(sorted(occurring))


def test_splits_and_seeds_differ(source):
    images = {
        source.image(source.records(split)[number]).tobytes()
        for split in ("train", "val", "test")
        for number in range(20)
    }
    assert len(images) == 60
    assert Scenes(seed=1).records("val")[0].texts != source.records("val")[0].texts


@pytest.mark.parametrize("size", [32, 97, 224])
def test_size_is_the_images_size(size):
    source = Scenes(val=10, size=size)
    for record in source.records("val"):
        image = source.image(record)
        assert (image.mode, image.size) == ("RGB", (size, size))
        assert all(box.right <= size and box.bottom <= size for box in record.boxes)


def test_a_worker_process_sees_the_same(source, records):
    copied = pickle.loads(pickle.dumps(source))
    assert copied.image(records[7]).tobytes() == source.image(records[7]).tobytes()


def test_golden_texts_and_pixels(source):
    digest = hashlib.sha256()
    for split, number in itertools.product(("train", "val", "test"), (0, 1, 200, 499)):
        record = source.records(split)[number]
        digest.update("\n".join(record.texts).encode())
        digest.update(source.image(record).tobytes())
    assert digest.hexdigest() == "603c4de85da8cd81c9e7218bc6f367419951efd041943ddf8eee476ef65ca575"


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("train", -1),
        ("val", -1),
        ("test", -1),
        ("pairs", -0.1),
        ("pairs", 1.1),
        ("pairs", math.nan),
        ("size", 31),
    ],
)
def test_a_bad_argument_is_named(argument, value):
    with pytest.raises(InputError, match=rf"\b{argument} is {value}"):
        Scenes(**{argument: value})


def test_an_empty_split_is_fine():
    assert Scenes(val=0).records("val") == ()


def test_an_unknown_split_or_image_is_named(source, records):
    with pytest.raises(InputError, match="'dev'; there are train, val, test"):
        source.records("dev")
    for location in ("test/500", "test/-1", "test", "dev/0"):
        with pytest.raises(InputError, match=location.split("/")[0]):
            source.image(replace(records[0], location=location))
