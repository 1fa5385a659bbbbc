"""Precomputed reads SCAN's files, refuses what does not fit, and maps what it reads."""

import json
import os
import pickle

import numpy as np
import pytest
import torch

from itm_lightning.data import Box, ITMDataModule, Precomputed, Record
from itm_lightning.data.loading.loaders import Loading, evaluation_loader
from itm_lightning.data.records import check_disjoint
from itm_lightning.data.sources.precomputed.files import to_line
from itm_lightning.encoders import RegionFeatures
from itm_lightning.errors import InputError


def made_up(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def write(root, split, regions, texts, ids=None, **arrays):
    """A split as SCAN lays it out."""
    np.save(root / f"{split}_ims.npy", regions)
    (root / f"{split}_caps.txt").write_text("".join(f"{text}\n" for text in texts))
    if ids is not None:
        (root / f"{split}_ids.txt").write_text("".join(f"{number}\n" for number in ids))
    for name, array in arrays.items():
        np.save(root / f"{split}_{name}.npy", array)


def texts_of(images, each=5):
    return [f"caption {k} of photo {image}" for image in range(images) for k in range(each)]


@pytest.mark.parametrize("repeated", [1, 5], ids=["a row a photo", "a row a caption"])
@pytest.mark.parametrize("each_id", [None, 1, 5], ids=["no ids", "N ids", "M ids"])
def test_scan_layout(tmp_path, repeated, each_id):
    regions = made_up(3, 4, 6)
    names = [30, 10, 20]
    ids = None if each_id is None else np.repeat(names, each_id)
    write(tmp_path, "train", regions.repeat(repeated, axis=0), texts_of(3), ids)
    source = Precomputed(str(tmp_path))
    records = source.records("train")
    assert [r.image_id for r in records] == ([0, 1, 2] if ids is None else names)
    assert [c for r in records for c in r.texts] == texts_of(3)
    assert [i for r in records for i in r.text_ids] == list(range(15))
    for image, record in enumerate(records):
        source.verify(record)
        assert torch.equal(source.regions(record), torch.from_numpy(regions[image]))
        assert source.region_boxes(record) is None
    assert source.made_by is None


def test_ids_of_texts(tmp_path):
    write(tmp_path, "train", made_up(2, 4, 6), texts_of(2, 3), ids=[9, 7, 8, 3, 2, 1])
    records = Precomputed(str(tmp_path)).records("train")
    assert [r.image_id for r in records] == [0, 1]
    assert [r.text_ids for r in records] == [(9, 7, 8), (3, 2, 1)]


def test_ids_that_are_file_names(tmp_path):
    write(tmp_path, "train", made_up(2, 4, 6), texts_of(2), ids=["b.jpg", "a.jpg"])
    records = Precomputed(str(tmp_path)).records("train")
    assert [(r.image_id, r.location) for r in records] == [(0, "b.jpg"), (1, "a.jpg")]


def test_one_text_a_image(tmp_path):
    write(tmp_path, "train", made_up(4, 2, 6), texts_of(4, 1))
    assert [r.texts for r in Precomputed(str(tmp_path)).records("train")] == [
        (f"caption 0 of photo {image}",) for image in range(4)
    ]


def test_names_of_splits(tmp_path):
    write(tmp_path, "train", made_up(2, 3, 4), texts_of(2))
    write(tmp_path, "dev", made_up(3, 3, 4), texts_of(3))
    write(tmp_path, "testall", made_up(4, 3, 4), texts_of(4))
    source = Precomputed(str(tmp_path))
    assert [len(source.records(split)) for split in ("train", "val", "test")] == [2, 3, 0]
    named = Precomputed(str(tmp_path), splits={"test": "testall", "val": "train"})
    assert [len(named.records(split)) for split in ("train", "val", "test")] == [2, 2, 4]


def variable(root, repeated=1):
    """Photos of 1, 3 and 2 regions, with boxes; each photo's rows ``repeated`` times."""
    regions, boxes = made_up(6, 5), made_up(6, 4, seed=1)
    parts = [p for p in (slice(0, 1), slice(1, 4), slice(4, 6)) for _ in range(repeated)]
    rows = np.concatenate([np.arange(6)[part] for part in parts])
    offsets = np.cumsum([0] + [part.stop - part.start for part in parts])
    write(root, "train", regions[rows], texts_of(3), offsets=offsets, boxes=boxes[rows])
    return [(regions[part], boxes[part]) for part in parts[::repeated]]


@pytest.mark.parametrize("repeated", [1, 5])
def test_regions_that_differ_in_number_with_boxes(tmp_path, repeated):
    expected = variable(tmp_path, repeated)
    source = Precomputed(str(tmp_path))
    records = source.records("train")
    assert len(records) == 3
    for record, (regions, boxes) in zip(records, expected, strict=True):
        assert torch.equal(source.regions(record), torch.from_numpy(regions))
        assert torch.equal(source.region_boxes(record), torch.from_numpy(boxes))
    assert source.batch(records).mask.sum(dim=1).tolist() == [1, 3, 2]


def test_boxes_of_a_fixed_number_of_regions(tmp_path):
    boxes = made_up(2, 3, 4)
    write(tmp_path, "train", made_up(2, 3, 8), texts_of(2), boxes=boxes)
    source = Precomputed(str(tmp_path))
    assert torch.equal(source.region_boxes(source.records("train")[1]), torch.from_numpy(boxes[1]))


def test_nothing_is_read_before_it_is_asked_for(tmp_path):
    """A file far larger than memory may be: it is sparse, and only what is read takes room."""
    path = tmp_path / "train_ims.npy"
    array = np.lib.format.open_memmap(path, "w+", dtype=np.float32, shape=(2**14, 36, 2**16))
    array[5, :, 0] = 1
    del array
    (tmp_path / "train_caps.txt").write_text("a dog\n" * 2**15)
    source = Precomputed(str(tmp_path))
    record = source.records("train")[5]
    assert source.regions(record)[:, 0].sum() == 36


def test_writing_into_regions_leaves_the_file_alone(tmp_path):
    write(tmp_path, "train", made_up(2, 3, 4), texts_of(2))
    source = Precomputed(str(tmp_path))
    source.regions(source.records("train")[0]).zero_()
    assert np.array_equal(np.load(tmp_path / "train_ims.npy"), made_up(2, 3, 4))


def test_pickled_it_maps_the_files_anew(tmp_path):
    write(tmp_path, "train", made_up(50, 36, 64), texts_of(50))
    source = Precomputed(str(tmp_path))
    record = source.records("train")[7]
    expected = source.regions(record)
    kept = pickle.dumps(source)
    assert len(kept) < 1000
    assert torch.equal(pickle.loads(kept).regions(record), expected)


def test_worker_processes_read_the_same(tmp_path):
    variable(tmp_path)
    source = Precomputed(str(tmp_path))
    records, read = source.records("train"), source.batch
    (batch,) = evaluation_loader(records, read, Loading(batch_size=3, num_workers=1))
    assert torch.equal(batch.images.tokens, read(records).tokens)


def test_records_of_extract_are_preferred_and_keep_everything(tmp_path):
    record = Record(
        image_id=7,
        texts=("a ring\u2028above", "two\nlines"),
        text_ids=(70, 72),
        location="a/b.jpg",
        labels=("ring", "disc"),
        boxes=(Box("ring", 1, 2.5, 3, 4),),
        minimal_pair=9,
    )
    write(tmp_path, "train", made_up(1, 3, 4), ["other"])
    (tmp_path / "train_records.jsonl").write_text(to_line(record) + "\n")
    (read,) = Precomputed(str(tmp_path)).records("train")
    for name, value in vars(record).items():
        assert getattr(read, name) == value


# -- what does not fit ---------------------------------------------------------------------------


def breaks(root, change):
    write(root, "train", made_up(3, 4, 6), texts_of(3))
    change(root)
    with pytest.raises(InputError) as refused:
        Precomputed(str(root)).records("train")
    message = str(refused.value)
    assert "\n" not in message
    return message


def texts(count):
    return lambda root: (root / "train_caps.txt").write_text("a dog\n" * count)


def ids(*lines):
    return lambda root: (root / "train_ids.txt").write_text("".join(f"{i}\n" for i in lines))


def array(name, value):
    return lambda root: np.save(root / f"train_{name}.npy", value)


def cut(root):
    path = root / "train_ims.npy"
    path.write_bytes(path.read_bytes()[:300])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (texts(14), ["train_caps.txt", "14 captions", "3 photos", "train_ims.npy"]),
        (texts(2), ["train_caps.txt", "2 captions", "3 photos"]),
        (texts(0), ["train_caps.txt", "0 captions"]),
        (
            lambda root: (root / "train_caps.txt").write_text("a dog\n\n" + "a dog\n" * 13),
            ["train_caps.txt, line 2 is empty"],
        ),
        (lambda root: (root / "train_caps.txt").unlink(), ["train_caps.txt"]),
        (
            lambda root: (root / "train_caps.txt").write_bytes(b"\xff\xfe\n" * 15),
            ["train_caps.txt, line 1: this is not UTF-8"],
        ),
        (lambda root: (root / "train_ims.npy").unlink(), ["train_ims.npy is missing"]),
        (cut, ["train_ims.npy (300 bytes) is truncated"]),
        (
            lambda root: (root / "train_ims.npy").write_bytes(b""),
            ["train_ims.npy (0 bytes)", "no .npy file"],
        ),
        (array("ims", made_up(3)), ["train_ims.npy is (3,)"]),
        (array("ims", made_up(3, 0, 6)), ["train_ims.npy is (3, 0, 6)"]),
        (array("ims", made_up(3, 6)), ["train_ims.npy is (3, 6)", "train_offsets.npy"]),
        (array("ims", np.zeros((3, 4, 6), int)), ["train_ims.npy holds int64"]),
        (array("offsets", np.arange(4)), ["train_offsets.npy", "must be 2-D"]),
        (array("boxes", made_up(3, 4, 5)), ["train_boxes.npy is (3, 4, 5), not (3, 4, 4)"]),
        (ids(1, 2, 3, 4), ["train_ids.txt has 4 lines", "need 3 or 15"]),
        (ids(4, 5, 4), ["train_ids.txt: photo 4 is listed twice"]),
        (ids(*[1] * 4, *[2] * 6, *[3] * 5), ["train_ids.txt", "15 ids"]),
        (
            array("ims", made_up(5, 4, 6)[[0] * 5 + [1] * 4 + [2] * 6]),
            ["first 5 of 15 rows are one photo", "row 9"],
        ),
        (
            lambda root: (root / "train_records.jsonl").write_text("{}\n"),
            ["train_records.jsonl, line 1 is no record"],
        ),
        (
            lambda root: (root / "train_records.jsonl").write_text(
                to_line(Record(1, ("a",), (1,), "x")) + "\n"
            ),
            ["train_records.jsonl has 1 records", "3 photos"],
        ),
        (
            lambda root: (root / "progress.json").write_text("{}"),
            ["is half done", "lightning extract"],
        ),
        (
            lambda root: (root / "manifest.json").write_text(json.dumps({"version": 99})),
            ["manifest.json is of version 99, not 2"],
        ),
        (
            lambda root: (root / "manifest.json").write_text(json.dumps({"version": 1})),
            ["of version 1, not 2: run `lightning extract` again"],
        ),
        (lambda root: (root / "manifest.json").write_text("{"), ["manifest.json cannot be read"]),
    ],
)
def test_what_does_not_fit_is_named_with_its_numbers(tmp_path, change, said):
    message = breaks(tmp_path, change)
    for part in said:
        assert part in message


@pytest.mark.parametrize(
    ("offsets", "said"),
    [
        ([0, 2, 5], "goes from 0 to 5, not from 0 to 6"),
        ([1, 2, 6], "goes from 1 to 6"),
        ([0, 2, 2, 6], "photo 1 has no regions (from 2 to 2)"),
        ([0, 4, 3, 6], "photo 1 has no regions (from 4 to 3)"),
        ([0.0, 6.0], "(2,) float64"),
        ([[0, 6]], "(1, 2) int64"),
    ],
)
def test_offsets_that_do_not_fit(tmp_path, offsets, said):
    write(tmp_path, "train", made_up(6, 4), texts_of(3), offsets=np.array(offsets))
    with pytest.raises(InputError) as refused:
        Precomputed(str(tmp_path)).records("train")
    assert said in str(refused.value)


def test_a_folder_with_nothing_in_it(tmp_path):
    with pytest.raises(InputError, match=r"holds no train_ims\.npy: set data\.source\.root"):
        Precomputed(str(tmp_path)).records("train")
    with pytest.raises(InputError, match=r"missing: set data\.source\.root"):
        Precomputed(str(tmp_path / "nowhere")).records("train")


def test_a_split_that_was_named_must_be_there(tmp_path):
    write(tmp_path, "train", made_up(2, 3, 4), texts_of(2))
    with pytest.raises(InputError, match=r"testall_ims\.npy is missing"):
        Precomputed(str(tmp_path), splits={"test": "testall"}).records("test")
    with pytest.raises(InputError, match="'dev'; there are train, val, test"):
        Precomputed(str(tmp_path), splits={"dev": "val"})


def test_regions_are_read_without_worker_processes(tmp_path):
    write(tmp_path, "train", made_up(4, 3, 8), texts_of(4))
    data = ITMDataModule(Precomputed(str(tmp_path)), batch_size=4, num_workers=2)
    loader = data.connect(RegionFeatures(8)).train_dataloader()
    assert loader.num_workers == 0
    assert [len(batch.image_ids) for batch in loader] == [4] * 5


@pytest.mark.parametrize("workers", [0, 1])
def test_a_batch_of_rows_is_what_they_are_one_by_one(workers, tmp_path):
    regions = made_up(4, 3, 8).astype(np.float16)
    write(tmp_path, "train", regions, texts_of(4))
    source = Precomputed(str(tmp_path))
    records = source.records("train")[::-1]
    (batch,) = evaluation_loader(records, source.batch, Loading(4, num_workers=workers))
    assert torch.equal(batch.images.tokens, torch.from_numpy(regions[::-1].copy()))
    assert batch.images.mask.all()
    batch.images.tokens.zero_()  # the file stays as it is
    assert torch.equal(source.batch(records[:1]).tokens[0], torch.from_numpy(regions[3]))


@pytest.mark.parametrize("where", ["a region", "a box"])
@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_numbers_that_are_not_finite_are_found_before_the_training(tmp_path, where, split):
    for each in ("train", "val", "test"):
        regions, boxes = made_up(3, 4, 6, seed=ord(each[1])), made_up(3, 4, 4)
        if each == split:
            (regions if where == "a region" else boxes)[1, 3, 2] = np.nan
        write(tmp_path, each, regions, texts_of(3), ids=["a.jpg", "b.jpg", "c.jpg"], boxes=boxes)
    data = ITMDataModule(Precomputed(str(tmp_path)))
    with pytest.raises(InputError, match=rf"{split}_\w+\.npy: row 1, of photo b\.jpg"):
        data.setup("fit")
    with pytest.raises(InputError, match=rf"{split}_\w+\.npy: row 1, of photo b\.jpg, has .* NaN"):
        data.records(split)
    with pytest.warns(UserWarning, match="skipped 1 bad of 3"):
        kept = ITMDataModule(Precomputed(str(tmp_path)), on_bad_image="skip").records(split)
    assert [record.location for record in kept] == ["a.jpg", "c.jpg"]


@pytest.mark.parametrize("dtype", [">f4", ">f2", np.longdouble, np.int64, np.complex64])
def test_numbers_that_torch_cannot_read_are_named(tmp_path, dtype):
    write(tmp_path, "train", made_up(3, 4, 6).astype(dtype), texts_of(3))
    with pytest.raises(InputError, match=r"train_ims\.npy holds .* astype\('float32'\)"):
        Precomputed(str(tmp_path)).records("train")


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", ["train_ims.npy", "train_caps.txt"])
def test_pipes_are_no_files_of_regions(tmp_path, name):
    write(tmp_path, "train", made_up(3, 4, 6), texts_of(3))
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    with pytest.raises(InputError, match=rf"{name} is a pipe or a device"):
        Precomputed(str(tmp_path)).records("train")


def test_one_photo_in_two_splits_is_told_by_its_regions(tmp_path):
    write(tmp_path, "train", made_up(3, 4, 6), texts_of(3), ids=[0, 1, 2])
    write(tmp_path, "val", made_up(3, 4, 6, seed=1), texts_of(3), ids=[0, 1, 2])
    check_disjoint(Precomputed(str(tmp_path)))  # each split counts its own
    write(tmp_path, "test", made_up(3, 4, 6), texts_of(3), ids=[0, 1, 2])
    with pytest.raises(InputError, match=r"photo 0 of Precomputed is in split train .* split test"):
        check_disjoint(Precomputed(str(tmp_path)))
