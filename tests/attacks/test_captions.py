"""Caption files that are odd, damaged or meant to harm: read as they are meant, or one line."""

import io
import json
import os
import random
import warnings

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from itm_lightning.data import (
    CocoCaptions,
    Folder,
    HuggingFace,
    ITMDataModule,
    Karpathy,
    Record,
    Scenes,
)
from itm_lightning.data.records import check_disjoint
from itm_lightning.data.validation import warn_of_texts
from itm_lightning.encoders import RecurrentText
from itm_lightning.encoders.vocabulary import split_treebank, split_words
from itm_lightning.errors import InputError
from itm_lightning.objectives.caption_vocabulary import split_caption
from tests import layouts

SPLITS = ("train", "val", "test")


@pytest.fixture
def root(tmp_path):
    """A folder with a photo for each split."""
    for number, split in enumerate(SPLITS):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / f"{split}.png")
    return tmp_path


def rows(**changes):
    """A row for each split; the first one changed."""
    made = [{"file_name": f"{s}.png", "caption": f"a {s}", "split": s} for s in SPLITS]
    made[0] |= changes
    return made


def karpathy(root, **changes):
    """A Karpathy JSON with an image for each split; the first one changed."""
    images = [
        {
            "filename": f"{split}.png",
            "split": split,
            "imgid": number,
            "sentences": [{"raw": f"a {split}", "sentid": number}],
        }
        for number, split in enumerate(SPLITS)
    ]
    images[0] = {k: v for k, v in (images[0] | changes).items() if v is not ...}
    (root / "dataset_x.json").write_text(json.dumps({"images": images}))
    return Karpathy(str(root), images=".")


def lines(root, made):
    (root / "metadata.jsonl").write_text("\n".join(map(json.dumps, made)))
    return Folder(str(root))


def texts_of(source, split="train"):
    return [text for record in source.records(split) for text in record.texts]


# -- encodings and rows -----------------------------------------------------------------------

JSON_LINES = "".join(json.dumps(row) + "\n" for row in rows())
CSV = "file_name,caption,split\n" + "".join(f"{s}.png,a {s},{s}\n" for s in SPLITS)
READ = {
    "plain": ("jsonl", JSON_LINES.encode()),
    "BOM": ("jsonl", b"\xef\xbb\xbf" + JSON_LINES.encode()),
    "CRLF": ("jsonl", JSON_LINES.replace("\n", "\r\n").encode()),
    "blank lines": ("jsonl", b"\n\n" + JSON_LINES.encode() + b"\n \n"),
    "CSV": ("csv", CSV.encode()),
    "CSV, BOM": ("csv", b"\xef\xbb\xbf" + CSV.encode()),
    "CSV, CRLF": ("csv", CSV.replace("\n", "\r\n").encode()),
    "CSV, quoted": ("csv", CSV.replace("a train", '"a train"').encode()),
    "CSV, blank lines": ("csv", CSV.replace("\n", "\n\n").encode()),
}


@pytest.mark.parametrize("kind", READ)
def test_read_as_it_is_meant(root, kind):
    suffix, content = READ[kind]
    (root / f"metadata.{suffix}").write_bytes(content)
    assert texts_of(Folder(str(root))) == ["a train"]


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\r"])
@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_other_separators_stay_within_a_caption(root, mark, suffix):
    text = f"a{mark}dog"
    if suffix == "jsonl":
        content = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows(caption=text))
    else:
        content = CSV.replace("a train", f'"{text}"')
    if mark in "\x0b\x0c\x1c\r" and suffix == "jsonl":
        content = content.replace(mark, json.dumps(mark)[1:-1])  # JSON has them as escapes
    (root / f"metadata.{suffix}").write_bytes(content.encode())
    assert texts_of(Folder(str(root))) == [text]


@pytest.mark.parametrize("text", ["a dog,\nrunning, fast", "a " * 200_000], ids=["lines", "long"])
def test_a_cell_holds_lines_and_long_captions(root, text):
    (root / "metadata.csv").write_text(CSV.replace("a train", f'"{text}"'))
    assert texts_of(Folder(str(root))) == [text]


BROKEN = {
    "a broken row": ("jsonl", JSON_LINES.replace('"a val"', '"a val').encode(), "row 2 of .*JSON"),
    "a row after blanks": ("jsonl", b'\n\n\n{"a":\n', "row 4 of .*JSON"),
    "a list": ("jsonl", b"[1]\n", "row 1 of .* is no JSON object"),
    "deep": ("jsonl", b"[" * 100_000, "row 1 of"),
    "a key twice": (
        "jsonl",
        JSON_LINES.replace('"caption": "a val"', '"caption": "a", "caption": "b"').encode(),
        "row 2 of .* 'caption' twice",
    ),
    "a long number": ("jsonl", b"1" * 5000, "row 1 of"),
    "UTF-16": ("jsonl", JSON_LINES.encode("utf-16"), "not UTF-8.*iconv -f UTF-16"),
    "UTF-16, CSV": ("csv", CSV.encode("utf-16"), "not UTF-8.*iconv -f UTF-16"),
    "CP1252": ("csv", CSV.replace("a val", "un café").encode("cp1252"), "line 3.*not UTF-8"),
    "binary": ("jsonl", os.urandom(99) + b"\xff", "not UTF-8"),
    "commas": ("csv", CSV.replace("a val", "a val, wet").encode(), r"row 2 .*line 3.* 4 cells"),
    "few cells": ("csv", CSV.replace("a val,", "").encode(), r"row 2 .*line 3.* 2 cells"),
    "a stray quote": ("csv", CSV.replace("a val", '"a val').encode(), "line 3"),
    "two of them": (
        "csv",
        CSV.replace("a train", '"a train').replace("a test", 'a test"').encode(),
        "row 1 .*line 2",
    ),
    "a quote within": ("csv", CSV.replace("a val", '"a "val"').encode(), "line 3"),
    "a column twice": ("csv", b"file_name,caption,caption\n", "two columns 'caption'"),
    "semicolons": ("csv", CSV.replace(",", ";").encode(), "no column 'file_name'"),
    "no Parquet": ("parquet", b"PAR1" + b"\0" * 99 + b"PAR1", r"no valid \.parquet"),
    "no rows": ("csv", b"", "no captions"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_is_named_with_its_row(root, kind):
    suffix, content, said = BROKEN[kind]
    (root / f"metadata.{suffix}").write_bytes(content)
    with pytest.raises(InputError, match=said) as caught:
        ITMDataModule(Folder(str(root))).records("train")
    assert str(caught.value).isprintable()


OF_A_REPOSITORY = {
    "commas": ("csv", CSV.replace("a val", "a val, wet"), r"row 2 of .* has 4 cells"),
    "lost quotes": (
        "csv",
        CSV.replace("a train", '"a train').replace("a val", 'a val"'),
        "goes on over what looks like a row",
    ),
    "a broken row": ("jsonl", JSON_LINES.replace('"a val"', '"a val'), "row 2 of"),
    "nothing": ("jsonl", "", "has no rows"),
    "half a pair": ("jsonl", JSON_LINES.replace("a val", r"a \ud800"), "surrogate pair"),
    "a photo in two splits": (
        "jsonl",
        JSON_LINES + json.dumps({"file_name": "train.png", "caption": "b", "split": "val"}),
        "photo train/0 .* has rows in the splits train, val",
    ),
}


@pytest.mark.parametrize("kind", OF_A_REPOSITORY)
def test_a_broken_table_of_a_repository_is_named(root, kind):
    suffix, content, said = OF_A_REPOSITORY[kind]
    (root / f"table.{suffix}").write_text(content)
    with pytest.raises(InputError, match=said):
        HuggingFace(str(root / f"table.{suffix}")).records("train")


@pytest.mark.timeout(20)
@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_a_pipe_is_no_table(root, suffix):
    os.mkfifo(root / f"metadata.{suffix}")
    with pytest.raises(InputError, match="is a pipe or a device"):
        Folder(str(root)).records("train")


# -- captions and ids -------------------------------------------------------------------------

NO_CAPTIONS = {
    "a number": (3, "caption 1 of photo train.png .* is a number, 3"),
    "null": (None, "is null"),
    "a boolean": (True, "is a boolean"),
    "NaN": (float("nan"), "is a number, nan"),
    "an object": ({"en": "a dog", "de": "ein Hund"}, "is an object"),
    "a list of numbers": (["a", 3], "caption 2 .* is a number"),
    "a list of lists": ([["a"]], "is a list"),
    "blanks": (" \t\n", "is empty"),
    "empty": ("", "is empty"),
    "a list as text": ("['a dog', 'a cat']", "is a list within a text"),
    "JSON as text": ('["a dog", "a cat"]', "is a list within a text"),
    "half a pair": ("a \ud800 dog", "no valid Unicode"),
}


@pytest.mark.parametrize("kind", NO_CAPTIONS)
def test_what_is_no_caption_is_named(root, kind):
    value, said = NO_CAPTIONS[kind]
    with pytest.raises(InputError, match=said):
        lines(root, rows(caption=value)).records("train")


@pytest.mark.parametrize("text", ["[blurry] a dog", "'a dog' it says", "3", "a|b <b>c</b>", "a\0b"])
def test_what_is_a_caption_stays_as_it_is(root, text):
    assert texts_of(lines(root, rows(caption=text))) == [text]


IDS = {"text": "img_1", "a zero first": "0017", "a file": "p.jpg#0", "a sign": "+7", "wide": "１"}
NO_IDS = {
    "a float": (0.5, "the (image|caption) id 0.5, which is no whole number and no text"),
    "a whole float": (1.0, "id 1.0"),
    "a boolean": (True, "id True"),
    "null": (None, "id None"),
    "empty": ("", "id ''"),
    "a list": ([1], r"id \[1\]"),
    "beyond 64 bits": (2**63, "beyond 64 bits"),
    "below": (-(2**63) - 1, "beyond 64 bits"),
}


@pytest.mark.parametrize("kind", IDS)
def test_text_ids_work(root, kind):
    (record,) = karpathy(root, imgid=IDS[kind]).records("train")
    assert record.image_id == 0
    sentences = [{"raw": "a", "sentid": IDS[kind]}, {"raw": "b", "sentid": 3}]
    (record,) = karpathy(root, sentences=sentences).records("train")
    assert record.text_ids == (0, 1)


def test_ids_that_are_numbers_stay_also_as_text(root):
    (record,) = karpathy(root, imgid="17", sentences=[{"raw": "a", "sentid": 2**63 - 1}]).records(
        "train"
    )
    assert (record.image_id, record.text_ids) == (17, (2**63 - 1,))


@pytest.mark.parametrize("key", ["imgid", "cocoid", "sentid"])
@pytest.mark.parametrize("kind", NO_IDS)
def test_what_is_no_id_is_named(root, kind, key):
    value, said = NO_IDS[kind]
    changes = {"sentences": [{"raw": "a", key: value}]} if key == "sentid" else {key: value}
    with pytest.raises(InputError, match=rf"photo train\.png in \S+dataset_x\.json has .*{said}"):
        karpathy(root, **changes).records("train")


@pytest.mark.parametrize("key", ["imgid", "sentences", "filename"])
@pytest.mark.parametrize("value", [..., 3, None, "x", {}])
def test_a_karpathy_entry_that_lacks_something_is_named(root, key, value):
    if (key, value) in (("imgid", "x"), ("imgid", 3), ("filename", "x")):
        pytest.skip("that is one")
    data = ITMDataModule(karpathy(root, **{key: value}))
    with pytest.raises(InputError, match=r"dataset_x\.json"):
        data.records("train")


def test_an_id_twice_is_named(root):
    twice = [{"raw": "a", "sentid": "x"}, {"raw": "b", "sentid": "x"}]
    with pytest.raises(InputError, match="caption id 0 twice"):
        karpathy(root, sentences=twice).records("train")


@pytest.mark.parametrize("value", [None, 3, "", [], {"a": 1}])
def test_what_is_no_file_name_is_named(root, value):
    with pytest.raises(InputError, match=r"row 1 of .* no file name"):
        lines(root, rows(file_name=value)).records("train")


# -- splits -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["trian", "Train", "train ", "training", "", None, 3])
def test_a_split_name_that_counts_as_none_is_listed_with_its_count(root, name):
    listed = rf"'{name}' \(1\), 'val' \(1\), 'test' \(1\), of which '{name}' "
    with pytest.raises(InputError, match=listed):
        lines(root, rows(split=name)).records("val")
    if isinstance(name, str):
        with pytest.raises(InputError, match=listed):
            karpathy(root, split=name).records("val")


def test_a_split_is_left_out_where_the_user_says_so_and_is_counted(root):
    lines(root, rows(split="more"))
    source = Folder(str(root), splits={"train": ["val"], "val": ["val"]})
    with pytest.warns(UserWarning, match=r"'more' \(1\).*; 'more' are left out"):
        assert len(source.records("test")) == 1


@pytest.mark.parametrize("other", ["val", "test"])
def test_a_photo_in_two_splits_is_refused_in_every_source(root, other):
    text = rf"photo \S*train\.png of {{}} is in split train .*and in split {other}"
    source = karpathy(root)
    content = json.loads((root / "dataset_x.json").read_text())
    content["images"].append(content["images"][0] | {"split": other, "imgid": 9})
    (root / "dataset_x.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=text.format("Karpathy")):
        check_disjoint(source)
    for number, split in enumerate(("train", other)):
        image = {"id": number, "file_name": "train.png"}
        captions = [{"id": number, "image_id": number, "caption": "a"}]
        written = json.dumps({"images": [image], "annotations": captions})
        (root / f"{split}.json").write_text(written)
    names = {split: f"{split}.json" for split in ("train", other)}
    folders = {f"{split}_images": "." for split in SPLITS}
    coco = CocoCaptions(str(root), **{"val": None, **names}, **folders)
    with pytest.raises(InputError, match=text.format("CocoCaptions")):
        check_disjoint(coco)


@pytest.mark.parametrize("tested", ["red", "yellow"])
def test_photos_of_a_repository_are_told_apart_by_name_and_pixels(tmp_path, hub_cache, tested):
    for split, colours in (("train", ["red", "green"]), ("test", [tested])):
        made = []
        for number, colour in enumerate(colours):
            file = io.BytesIO()
            Image.new("RGB", (8, 8), colour).save(file, "BMP")  # all of one size
            image = {"bytes": file.getvalue(), "path": f"{number}.bmp"}
            made.append({"image": image, "caption": "a"})
        path = tmp_path / "d" / f"{split}-00000-of-00001.parquet"
        layouts.write_parquet(made, path, ["image"])
    source = HuggingFace(str(tmp_path / "d"))
    if tested == "red":
        with pytest.raises(InputError, match=r"photo test/0 of HuggingFace is in split train"):
            check_disjoint(source)
    else:
        check_disjoint(source)


OF_REPOSITORIES = {
    "dots": ({"file_name": "../train.png"}, "lies outside of .*allow_outside: true"),
    "absolute": ({"file_name": "/dev/zero"}, "lies outside of"),
    "a pipe": ({"file_name": "pipe.png"}, "is a pipe or a device"),
    "a folder": ({"file_name": "."}, "is a folder"),
    "a split": ({"split": "trian"}, r"'trian' \(1\), 'val' \(1\)"),
    "null": ({"caption": None}, "caption 1 of photo train/0 .* is null"),
    "a list as text": ({"caption": "['a', 'b']"}, "is a list within a text"),
    "an id": ({"id": 0.5}, "has the image id 0.5"),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", OF_REPOSITORIES)
def test_tables_of_repositories_are_checked_alike(root, hub_cache, kind):
    changes, said = OF_REPOSITORIES[kind]
    folder = root / "d"
    folder.mkdir()
    os.mkfifo(folder / "pipe.png")
    made = [{"id": number + 0.25} | row for number, row in enumerate(rows(**changes))]
    (folder / "x.jsonl").write_text("\n".join(map(json.dumps, made)))
    source = HuggingFace(str(folder / "x.jsonl"), id_column="id" if kind == "an id" else None)
    data = ITMDataModule(source)
    with pytest.raises(InputError, match=said):
        data.records("val" if kind == "a split" else "train")


def test_coco_finds_its_test_file(root):
    (root / "annotations").mkdir()
    source = CocoCaptions(str(root), train=None, val=None, test_images=".")
    assert source.records("test") == ()
    image = {"id": "a", "file_name": "test.png"}
    captions = [{"id": 1, "image_id": "a", "caption": "a"}]
    (root / "annotations" / "captions_test2017.json").write_text(
        json.dumps({"images": [image], "annotations": captions})
    )
    assert len(CocoCaptions(str(root), train=None, val=None, test_images=".").records("test")) == 1


# -- words ------------------------------------------------------------------------------------

WORDS = {
    "The dog’s ball!": ["the", "dog's", "ball"],
    "cafe\u0301 CAFÉ": ["café", "café"],
    "नमस्ते दुनिया": ["नमस्ते", "दुनिया"],
    "สวัสดีครับ": ["สวัสดีครับ"],
    "שָׁלוֹם": ["שָׁלוֹם"],
    "می‌خواهم": ["می‌خواهم"],
    "一只狗在草地上": list("一只狗在草地上"),
    "犬がいる": list("犬がいる"),
    "개가 뛴다": ["개가", "뛴다"],
    "東京tower 2": ["東", "京", "tower", "2"],
    "❤️ 👍🏽": [],
    "_a_b": ["a", "b"],
}


@pytest.mark.parametrize("text", WORDS)
def test_words_of_any_script(text):
    import unicodedata

    expected = [unicodedata.normalize("NFC", word) for word in WORDS[text]]
    assert split_words(text) == expected
    assert split_words(unicodedata.normalize("NFD", text)) == expected
    if text.isascii():
        return
    spoken = [word for word in split_caption(text) if any(c.isalnum() for c in word)]
    assert [word.replace("’", "'") for word in spoken] == expected


def test_treebank_reads_chinese_by_character():
    assert split_treebank("狗 is cafe\u0301.")[1:-1] == ["狗", "is", "café", "."]


def test_a_caption_of_a_megabyte_is_cut():
    encoder = RecurrentText(hidden=4, word_dim=4, max_length=20)
    texts = ["a dog " * 170_000, "a cat", "one " * 20]
    encoder.learn_vocabulary(texts)
    assert encoder(texts).tokens.shape[1] == 20
    assert [len(words) for words in encoder.words(texts)] == [20, 2, 20]
    assert encoder.count_cut(texts) == 1


def test_captions_that_are_cut_or_unknown_are_counted():
    encoder = RecurrentText(hidden=4, word_dim=4, max_length=3)
    encoder.learn_vocabulary(["a dog runs", "a cat"])
    german = [Record(k, ("ein Hund rennt schnell",), (k,), "a") for k in range(4)]
    source = Scenes()
    with pytest.warns(UserWarning, match="RecurrentText") as warned:
        warn_of_texts(encoder, source, german, "test")
    first, second = (str(each.message) for each in warned)
    assert first.startswith("RecurrentText cuts 4 of 4 captions of split 'test'")
    assert second.startswith("RecurrentText does not know 100% of the words of split 'test'")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_texts(encoder, source, [Record(0, ("a cat runs",), (0,), "a")], "test")


# -- whatever the file is ---------------------------------------------------------------------

SEEDS = [("jsonl", JSON_LINES.encode()), ("csv", CSV.encode())]
CHANGES = st.tuples(st.sampled_from([0, 1, 2]), st.integers(0, 2**32), st.integers(1, 8))
PIECES = [b'"', b",", b"\n", b"\r", b"\xff", b"\0", b"{", b"]", b"null", b"1e999", b"\\ud800", b"'"]


def read_or_one_line(root, change):
    kind, seed, count = change[0], random.Random(change[1]), change[2]
    karpathy(root)
    suffix, content = SEEDS[kind] if kind < 2 else ("", (root / "dataset_x.json").read_bytes())
    data = bytearray(content)
    for _ in range(count):
        place = seed.randrange(len(data))
        end = place + seed.choice((0, 0, 1, 1, 9))
        data[place:end] = seed.choice((seed.randbytes(1), seed.choice(PIECES), b""))
    for path in root.glob("metadata.*"):
        path.unlink()
    path = root / (f"metadata.{suffix}" if suffix else "dataset_x.json")
    path.write_bytes(data)
    source = Folder(str(root)) if suffix else Karpathy(str(root), images=".")
    said = ""
    try:
        for split in SPLITS:
            for record in ITMDataModule(source).records(split):
                assert all(isinstance(text, str) for text in record.texts)
                assert isinstance(record.image_id, int)
        check_disjoint(source)
    except InputError as error:
        said = str(error)
    assert said.isprintable()


@pytest.fixture(scope="module")
def shared_root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    for split in SPLITS:
        Image.new("RGB", (8, 8)).save(folder / f"{split}.png")
    return folder


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(change=CHANGES)
def test_any_caption_file_is_read_or_one_line(shared_root, change):
    read_or_one_line(shared_root, change)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@settings(max_examples=2000, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(change=CHANGES)
def test_any_caption_file_is_read_or_one_line_2000_times(shared_root, change):
    read_or_one_line(shared_root, change)
