import json
import pickle

import pytest
from torch.utils.data import DataLoader

from itm_lightning.data import Flickr30k, Karpathy
from itm_lightning.data.loading.stream import StreamedSource
from itm_lightning.data.sources.hub_tables import Repository, StreamedTable
from itm_lightning.errors import InputError
from tests import layouts

pytestmark = pytest.mark.usefixtures("hub_cache")
both_ways = pytest.mark.parametrize("streaming", [False, True])


def source(folder, rows, **arguments):
    layouts.write_parquet(rows, folder / "data" / "test-00000-of-00001.parquet", ["image"])
    return Flickr30k(str(folder), **arguments)


@pytest.fixture
def rows(karpathy_root):
    return [layouts.flickr30k_row(karpathy_root, e) for e in layouts.entries(karpathy_root)]


@pytest.fixture(scope="module")
def folder(karpathy_root, tmp_path_factory):
    return layouts.flickr30k(karpathy_root, tmp_path_factory.mktemp("hub") / "flickr30k")


@both_ways
def test_records_and_images_are_those_of_the_karpathy_dataset(folder, karpathy_root, streaming):
    plain, hub = Karpathy(str(karpathy_root)), Flickr30k(**folder, streaming=streaming)
    assert isinstance(hub, StreamedSource) == streaming
    for split in ("train", "val", "test"):
        for here, there in zip(hub.records(split), plain.records(split), strict=True):
            assert here.texts == there.texts
            assert (here.image_id, here.text_ids) == (there.image_id, there.text_ids)
            assert hub.image(here).tobytes() == plain.image(there).tobytes()
            hub.verify(here)


@both_ways
def test_images_can_be_asked_for_in_any_order_and_after_pickling(folder, streaming):
    hub = Flickr30k(**folder, streaming=streaming)
    records = hub.records("train")
    expected = [hub.image(record).tobytes() for record in records]
    there = pickle.loads(pickle.dumps(hub))
    assert type(there) is type(hub)
    assert [there.image(r).tobytes() for r in reversed(records)] == expected[::-1]


@both_ways
def test_worker_processes_read_the_same_images(folder, streaming):
    hub = Flickr30k(**folder, streaming=streaming)
    images = [hub.image(record) for record in hub.records("val")]

    class Images:
        def __len__(self):
            return len(images)

        def __getitem__(self, index):
            return hub.image(hub.records("val")[index]).tobytes()

    loader = DataLoader(Images(), batch_size=None, num_workers=2)
    assert list(loader) == [image.tobytes() for image in images]


def test_a_stream_reads_each_row_group_once_and_text_alone(folder, monkeypatch):
    import pyarrow.parquet as pq

    read = []
    by_group, by_batch = pq.ParquetFile.read_row_group, pq.ParquetFile.iter_batches

    def row_group(self, number, columns):
        read.append((number, columns))
        return by_group(self, number, columns=columns)

    def batches(self, columns):
        read.append(columns)
        return by_batch(self, columns=columns)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", row_group)
    monkeypatch.setattr(pq.ParquetFile, "iter_batches", batches)
    hub = Flickr30k(**folder, streaming=True)
    records = hub.records("train")
    text = ["caption", "img_id", "sentids", "split"]
    assert read == [["image.path"], text] * 2  # two files
    read.clear()
    for record in records:
        hub.encoded(record)
    # 16 train photos: the first file's 13 rows in groups of 4, then the second's first group
    assert read == [(number, ["image"]) for number in (0, 1, 2, 3, 0)]


def test_a_stream_does_not_take_its_images_along():
    table = StreamedTable.__new__(StreamedTable)
    table.__dict__.update(_files={}, _groups={}, _last=("key", "photos"))
    assert pickle.loads(pickle.dumps(table))._last == (None, None)


@both_ways
def test_texts_are_limited_and_ids_may_be_numbers_of_the_rows(folder, streaming):
    hub = Flickr30k(
        **folder, id_column=None, text_id_column=None, texts_per_image=2, streaming=streaming
    )
    records = hub.records("val")
    assert [r.image_id for r in records] == list(range(8))
    assert {len(r.texts) for r in records} == {2}
    assert len({i for r in records for i in r.text_ids}) == 16


def test_the_hubs_own_splits_can_be_the_splits(tmp_path, rows):
    for name, part in {"train": rows[:3], "dev": rows[3:5], "eval": rows[5:6]}.items():
        layouts.write_parquet(
            part, tmp_path / "d" / "data" / f"{name}-00000-of-00001.parquet", ["image"]
        )
    hub = Flickr30k(str(tmp_path / "d"), split_column=None, splits={"test": ["eval"]})
    assert [len(hub.records(split)) for split in ("train", "val", "test")] == [3, 2, 1]


@both_ways
@pytest.mark.parametrize("content", ["bytes", "text"])
def test_images_may_be_plain_bytes_and_a_text_may_stand_alone(tmp_path, rows, streaming, content):
    for row in rows:
        gone = f"gone/{row['filename']}"
        row["image"] = row["image"]["bytes"] if content == "bytes" else gone
        row["caption"], row["sentids"] = row["caption"][0], row["sentids"][0]
    layouts.write_parquet(rows, tmp_path / "d" / "train-00000-of-00001.parquet")
    hub = Flickr30k(str(tmp_path / "d"), streaming=streaming)
    record = hub.records("train")[0]
    assert len(record.texts) == 1
    if content == "bytes":
        assert hub.image(record).size == (64, 64)
    else:
        with pytest.raises(InputError, match=r"gone/\S+ is missing, though train/0 of"):
            hub.image(record)


@both_ways
@pytest.mark.parametrize(
    ("argument", "flag"),
    [
        ({"text_column": "captions"}, "data.source.text_column"),
        ({"image_column": "jpg"}, "data.source.image_column"),
        ({"split_column": "partition"}, "data.source.split_column"),
    ],
)
def test_a_column_that_is_not_there_is_named_with_those_there_are(
    folder, argument, flag, streaming
):
    (column,) = argument.values()
    there = "image, caption, sentids, split, img_id, filename"
    with pytest.raises(InputError, match=rf"no column '{column}' \({flag}\); it has {there}"):
        Flickr30k(**folder, **argument, streaming=streaming).records("train")


@both_ways
def test_splits_of_other_names_are_listed(tmp_path, rows, streaming):
    for row in rows:
        row["split"] = "everything"
    hub = source(tmp_path / "d", rows, streaming=streaming)
    with pytest.raises(
        InputError, match=r"has the splits 'everything' \(32\), .*data\.source\.splits"
    ):
        hub.records("train")


def test_a_split_of_our_own_that_is_none(folder):
    with pytest.raises(InputError, match=r"names valid; it takes train, val, test"):
        Flickr30k(**folder, splits={"valid": ["val"]})


@both_ways
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        ({"img_id": "0"}, r"image id 0 twice.*photos test/0 and test/1"),
        (
            {"img_id": None},
            r"photo test/1 in .* has the image id None, which is no whole number",
        ),
        ({"sentids": ["1"]}, r"row test/1 of .* has 5 captions but 1 ids: set .*text_id_column"),
        ({"sentids": list("01234")}, r"caption id 0 twice in a split"),
        ({"caption": ["a", " ", "c", "d", "e"]}, r"caption 2 of photo test/1 in .* is empty"),
    ],
)
def test_a_malformed_row_is_named(tmp_path, rows, spoil, message, streaming):
    rows[1].update(spoil)
    with pytest.raises(InputError, match=message) as caught:
        source(tmp_path / "d", rows, streaming=streaming).records("train")
    assert "\n" not in str(caught.value)


def test_a_broken_image_is_named(tmp_path, rows):
    rows[2]["image"]["bytes"] = rows[2]["image"]["bytes"][:200]
    hub = source(tmp_path / "d", rows)
    record = hub.records("train")[2]
    for read in (hub.verify, hub.image):
        with pytest.raises(InputError, match=r"photo test/2 of .*d does not decode"):
            read(record)


@both_ways
def test_offline_the_message_points_at_a_local_folder(streaming):
    with pytest.raises(InputError, match=r"'nlphuji/flickr30k'.*local folder") as caught:
        Flickr30k(streaming=streaming).records("train")
    assert "\n" not in str(caught.value)


@both_ways
def test_a_truncated_file_is_named(folder, tmp_path, streaming, rows):
    hub = source(tmp_path / "d", rows, streaming=streaming)
    (path,) = (tmp_path / "d" / "data").iterdir()
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"cannot be read"):
        hub.records("train")


def test_what_is_no_parquet_is_not_streamed(tmp_path):
    (tmp_path / "train.jsonl").write_text(json.dumps({"caption": "a"}) + "\n")
    with pytest.raises(InputError, match=r"is not Parquet .*train\.jsonl.*leave .*streaming out"):
        StreamedTable(Repository(str(tmp_path)))
