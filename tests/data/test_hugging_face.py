"""HuggingFace finds columns and splits where they are plain, and asks where they are not."""

import io
import json
import warnings

import pytest
from PIL import Image

from itm_lightning.data import HuggingFace
from itm_lightning.data.loading.stream import StreamedSource
from itm_lightning.errors import InputError
from tests.layouts import write_parquet

pytestmark = pytest.mark.usefixtures("hub_cache")
both_ways = pytest.mark.parametrize("streaming", [False, True])


def png(number):
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (number, 0, 0)).save(file, "PNG")
    return file.getvalue()


def row(number, /, **texts):
    return {"image": {"bytes": png(number), "path": f"{number}.png"}, **texts}


def dataset(folder, columns, sizes=None):
    """Parquet files of some Hub splits; ``columns`` makes a row's further cells of its number."""
    first = 0
    for name, size in (sizes or {"train": 4, "validation": 2, "test": 2}).items():
        rows = [row(number, **columns(number)) for number in range(first, first + size)]
        write_parquet(rows, folder / f"{name}-00000-of-00001.parquet", ["image"])
        first += size
    return str(folder)


def caption(number):
    return {"caption": f"photo {number}"}


def red(source, record):
    """The number of the photo, which is its colour."""
    return source.image(record).getpixel((0, 0))[0]


@both_ways
@pytest.mark.parametrize(
    ("columns", "texts"),
    [
        (lambda n: {"label": n, "caption": f"photo {n}"}, ("photo 0",)),
        (lambda n: {"sentences_raw": [f"photo {n}", "b"], "sentids": ["1", "2"]}, ("photo 0", "b")),
        (lambda n: {"caption_1": "b", "caption_0": f"photo {n}", "url": "u"}, ("photo 0", "b")),
        (lambda n: {"text": f"photo {n}", "text_id": str(n), "file_path": "p"}, ("photo 0",)),
    ],
)
def test_plain_columns_are_found(tmp_path, columns, texts, streaming):
    source = HuggingFace(dataset(tmp_path / "d", columns), streaming=streaming)
    assert isinstance(source, StreamedSource) == streaming
    sizes = {split: len(source.records(split)) for split in ("train", "val", "test")}
    assert sizes == {"train": 4, "val": 2, "test": 2}
    assert source.records("train")[0].texts == texts
    assert [red(source, record) for record in source.records("val")] == [4, 5]


@both_ways
@pytest.mark.parametrize(
    ("columns", "arguments", "message"),
    [
        (
            lambda n: {"caption": "a", "text": "b"},
            {},
            "has several columns that may hold captions (caption, text): set "
            "data.source.text_column to one of image, caption, text",
        ),
        (
            lambda n: {"prompt": "a"},
            {},
            "has no column that plainly holds captions: set data.source.text_column to one of "
            "image, prompt",
        ),
        (
            lambda n: {"caption": "a", "mask": {"bytes": png(n), "path": "m"}, "image": None},
            {"image_column": "photo"},
            "has no column 'photo' (data.source.image_column); it has image, caption, mask",
        ),
    ],
)
def test_columns_that_are_not_plain_are_listed(tmp_path, columns, arguments, message, streaming):
    folder = dataset(tmp_path / "d", columns)
    with pytest.raises(InputError) as refused:
        HuggingFace(folder, **arguments, streaming=streaming).records("train")
    assert str(refused.value) == f"dataset {folder!r} {message}"


def test_columns_may_be_named(tmp_path):
    folder = dataset(tmp_path / "d", lambda n: {"alt_text": "a", "caption": "b", "number": n + 7})
    source = HuggingFace(folder, text_column=["caption", "alt_text"], id_column="number")
    record = source.records("train")[0]
    assert (record.image_id, record.texts, record.text_ids) == (7, ("b", "a"), (0, 1))


def made_splits(folder, **arguments):
    """The numbers of the photos of each split, and what was said of it."""
    source = HuggingFace(folder, **arguments)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = {
            split: [red(source, record) for record in source.records(split)]
            for split in ("test", "train", "val")
        }
    return found, [str(w.message) for w in said if "split" in str(w.message)]


@both_ways
@pytest.mark.parametrize("name", ["train", "everything"])
def test_without_splits_some_are_made_by_a_seed(tmp_path, name, streaming):
    folder = dataset(tmp_path / "d", caption, {name: 40})
    found, said = made_splits(folder, streaming=streaming)
    assert said == [
        f"dataset {folder!r} has no val and no test split: its 40 images are divided by "
        "data.source.seed 0; there are 32 for train, 4 for val, 4 for test"
    ]
    assert sorted(found["train"] + found["val"] + found["test"]) == list(range(40))
    assert all(numbers == sorted(numbers) for numbers in found.values())  # a stream's order
    assert made_splits(folder)[0] == found
    assert made_splits(folder, seed=1)[0] != found


@both_ways
def test_only_a_val_split_is_made_where_there_is_a_test_split(tmp_path, streaming):
    folder = dataset(tmp_path / "d", caption, {"train": 20, "test": 5})
    found, (said,) = made_splits(folder, streaming=streaming)
    assert said.endswith("data.source.seed 0; there are 18 for train, 2 for val, 5 for test")
    assert found["test"] == list(range(20, 25))
    assert sorted(found["train"] + found["val"]) == list(range(20))


def test_a_dataset_for_evaluation_alone_stays_as_it_is(tmp_path):
    found, said = made_splits(dataset(tmp_path / "d", caption, {"test": 5}))
    assert (found, said) == ({"test": list(range(5)), "train": [], "val": []}, [])


@both_ways
def test_a_column_of_splits_is_found(tmp_path, streaming):
    def columns(number):
        return {**caption(number), "split": ["train", "restval", "val", "test"][number % 4]}

    found, said = made_splits(dataset(tmp_path / "d", columns, {"test": 8}), streaming=streaming)
    assert (found, said) == ({"train": [0, 1, 4, 5], "val": [2, 6], "test": [3, 7]}, [])


def test_what_lies_on_disk_in_other_forms(tmp_path):
    import datasets

    rows = [row(number, **caption(number)) for number in range(20)]
    write_parquet(rows, tmp_path / "one.parquet", ["image"])
    stored = datasets.Dataset.from_parquet(str(tmp_path / "one.parquet"))
    stored.save_to_disk(tmp_path / "stored")
    lines = [{"file_name": f"{n}.png", **caption(n)} for n in range(20)]
    for folder in ("folder", "lines"):
        (tmp_path / folder).mkdir()
        for number in range(20):
            (tmp_path / folder / f"{number}.png").write_bytes(png(number))
        name = "metadata.jsonl" if folder == "folder" else "captions.jsonl"
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (tmp_path / folder / name).write_text(text)
    names = "one.parquet", "stored", "folder", "lines/captions.jsonl"
    expected, *others = [made_splits(str(tmp_path / name))[0] for name in names]
    assert {split: len(found) for split, found in expected.items()} == {
        "train": 16,
        "val": 2,
        "test": 2,
    }
    assert others == [expected] * 3


def photos_of_five_rows(folder, kind):
    """Ten photos, each in five rows that lie apart, in a file or folder of some kind."""
    rows = [(number % 10, f"photo {number % 10}, text {number // 10}") for number in range(50)]
    if kind == "parquet":
        cells = [{"image": {"bytes": png(n), "path": f"{n}.png"}, "caption": t} for n, t in rows]
        write_parquet(cells, folder / "train-00000-of-00001.parquet", ["image"])
        return str(folder)
    folder.mkdir()
    for number in range(10):
        (folder / f"{number}.png").write_bytes(png(number))
    lines = ["image,caption", *(f'{n}.png,"{t}"' for n, t in rows)]
    (folder / "captions.csv").write_text("\n".join(lines))
    return str(folder / "captions.csv")


@pytest.mark.parametrize(
    ("kind", "streaming"), [("csv", False), ("parquet", False), ("parquet", True)]
)
def test_the_rows_of_one_photo_are_one_image_in_one_split(tmp_path, kind, streaming):
    source_of = photos_of_five_rows(tmp_path / "d", kind)
    found, (said,) = made_splits(source_of, streaming=streaming)
    assert "its 10 images" in said
    assert sorted(found["train"] + found["val"] + found["test"]) == list(range(10))
    source = HuggingFace(source_of, streaming=streaming)
    with pytest.warns(UserWarning, match="no val and no test split"):
        records = [record for split in found for record in source.records(split)]
    for record in records:
        number = red(source, record)
        assert record.texts == tuple(f"photo {number}, text {text}" for text in range(5))
    ids = [number for record in source.records("train") for number in record.text_ids]
    assert len(set(ids)) == len(ids) == 5 * 8
    few = HuggingFace(source_of, streaming=streaming, texts_per_image=2)
    with pytest.warns(UserWarning, match="8 for train"):
        assert {len(record.texts) for record in few.records("train")} == {2}


def test_photos_of_one_name_and_other_sizes_or_without_names_stay_apart(tmp_path):
    def same_name(number):
        return {"image": {"bytes": png(0) + b"0" * number, "path": "a.png"}, **caption(number)}

    def no_name(number):
        return {"image": {"bytes": png(0), "path": None}, **caption(number)}

    for name, cells in (("a", same_name), ("b", no_name)):
        file = tmp_path / name / "test-00000-of-00001.parquet"
        write_parquet([cells(number) for number in range(3)], file, ["image"])
        assert len(HuggingFace(str(tmp_path / name)).records("test")) == 3


def test_a_file_that_is_no_table_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(InputError, match=r"is a file of no kind in \.parquet, \.jsonl, \.json"):
        HuggingFace(str(tmp_path / "a.txt")).records("train")
