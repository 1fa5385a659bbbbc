import json

import pytest

from itm_lightning.data import Folder, Karpathy
from itm_lightning.errors import InputError
from tests import layouts

LAYOUTS = [layouts.folder_json_lines, layouts.folder_parquet, layouts.folder_csv]


@pytest.mark.parametrize("write", LAYOUTS)
def test_records_and_images_are_those_of_the_karpathy_dataset(write, karpathy_root, tmp_path):
    plain, folder = Karpathy(str(karpathy_root)), Folder(**write(karpathy_root, tmp_path / "mine"))
    ids = []
    for split in ("train", "val", "test"):
        for here, there in zip(folder.records(split), plain.records(split), strict=True):
            assert here.texts == there.texts
            assert folder.image(here).tobytes() == plain.image(there).tobytes()
            ids += here.text_ids
    assert len(set(ids)) == len(ids) == 32 * 5


def written(folder, text, name="metadata.csv"):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder)


def test_rows_of_one_image_add_up_and_are_limited(tmp_path):
    text = "file_name,caption,split\na.jpg,one,train\nb.jpg,two,dev\na.jpg,three,train\n"
    root = written(tmp_path, text)
    (record,) = Folder(root).records("train")
    assert record.texts == ("one", "three")
    assert Folder(root).records("val")[0].texts == ("two",)
    (record,) = Folder(root, texts_per_image=1).records("train")
    assert record.texts == ("one",)


def test_a_spreadsheets_mark_and_commas_within_quotes(tmp_path):
    text = '\ufefffile_name,caption\ntest/a.jpg,"one, or two\nlines"\n'
    (record,) = Folder(written(tmp_path, text)).records("test")
    assert record.texts == ("one, or two\nlines",)
    assert record.location == "test/a.jpg"


def test_other_names_of_splits(tmp_path):
    root = written(tmp_path, "file_name,caption,set\na.jpg,one,held out\nb.jpg,two,more\n")
    folder = Folder(root, split_column="set", splits={"test": ["held out"]})
    assert [len(folder.records(split)) for split in ("train", "val", "test")] == [0, 0, 1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,caption\na.jpg,one\n", r"row 1 of .*no column 'file_name' .*it has path, caption$"),
        ("file_name,text\na.jpg,one\n", r"'caption' \(data\.source\.text_column\); it has file"),
        (
            "file_name,caption\na.jpg,one\n",
            r"row 1 of .* says no split: .*data\.source\.split_colu",
        ),
        ("file_name,caption\nx/a.jpg,one\n", r"has the splits 'x' \(1\), .* data\.source\.splits"),
        ("file_name,caption\ntest/a.jpg,\n", r"caption 1 of photo test/a\.jpg in .* is empty"),
        (
            "file_name,caption,split\na.jpg,one,train\na.jpg,two,val\n",
            r"row 2 of .* puts photo a\.jpg into split val, another row into train",
        ),
    ],
)
def test_a_malformed_table_is_named(tmp_path, text, message):
    with pytest.raises(InputError, match=message) as caught:
        Folder(written(tmp_path, text)).records("test")
    assert "metadata.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("metadata.jsonl", '{"file_name": "a.jpg"\n', r"row 1 of .* is no valid JSON"),
        ("metadata.jsonl", "[1]\n", r"row 1 of .* is no JSON object"),
        ("metadata.parquet", "no parquet", r"is no valid \.parquet table"),
    ],
)
def test_a_file_that_is_no_table_is_named(tmp_path, name, text, message):
    folder = Folder(written(tmp_path, text, name))
    with pytest.raises(InputError, match=message) as caught:
        folder.records("train")
    assert name in str(caught.value)


def test_what_is_missing_is_named_with_its_flag(tmp_path):
    for arguments, message in [
        ({"root": str(tmp_path / "none")}, r"none is missing: set data\.source\.root"),
        ({"root": str(tmp_path)}, r"metadata\.jsonl, metadata\.csv.*: set data\.source\.metadata"),
        (
            {"root": str(tmp_path), "metadata": "a.csv"},
            r"a\.csv is missing: set data\.source\.meta",
        ),
        ({"root": str(tmp_path), "metadata": "a.txt"}, r"a\.txt is no table: it must end in \.jso"),
    ]:
        with pytest.raises(InputError, match=message):
            Folder(**arguments).records("train")


def test_two_tables_in_one_folder_are_not_guessed_between(tmp_path):
    written(tmp_path, "", "train/metadata.csv")
    written(tmp_path, "", "train/metadata.jsonl")
    with pytest.raises(InputError, match=r"train holds several of metadata\.jsonl, .*keep one"):
        Folder(str(tmp_path)).records("train")


def test_a_missing_image_is_named_with_its_table(tmp_path):
    line = json.dumps({"file_name": "a.jpg", "caption": "one", "split": "train"})
    folder = Folder(written(tmp_path, line, "metadata.jsonl"))
    with pytest.raises(InputError, match=r"a\.jpg is missing, though .*metadata\.jsonl names it"):
        folder.verify(folder.records("train")[0])
