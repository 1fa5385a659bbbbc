"""What an extraction writes, and that it may be stopped at any moment."""

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from itm_lightning.data import Folder, Precomputed
from itm_lightning.errors import InputError
from itm_lightning.extract import extract, folder
from itm_lightning.part import from_config
from itm_lightning.utils import atomic_files
from tests.extract.conftest import Noise, Strips

SPLITS = ("train", "val")


def run(output, encoder, source, **more):
    settings = {"splits": SPLITS, "batch_size": 4, **more}
    return extract(encoder, source, source.records, output=output, **settings)


def contents(path):
    return {file.name: file.read_bytes() for file in path.iterdir()}


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_precomputed_reads_what_was_written(tmp_path, encoder, source, dtype):
    assert run(tmp_path, encoder, source, dtype=dtype)
    again = Precomputed(str(tmp_path))
    assert again.made_by == encoder.fingerprint()
    assert again.class_names == source.class_names
    encoder.eval()
    for split in SPLITS:
        records, expected = again.records(split), source.records(split)
        assert len(records) == len(expected)
        for read, record in zip(records, expected, strict=True):
            assert {k: getattr(read, k) for k in vars(record)} == vars(record)
            pixels = encoder.transform(False)(source.image(record))[None]
            with torch.no_grad():
                tokens = encoder.trunk(pixels)[0].to(getattr(torch, dtype))
            assert again.regions(read).dtype == tokens.dtype
            torch.testing.assert_close(again.regions(read), tokens)
    assert again.records("test") == ()


def test_the_files_are_scans(tmp_path, encoder, source):
    run(tmp_path, encoder, source)
    assert set(contents(tmp_path)) == {
        "manifest.json",
        *(f"{s}_{what}" for s in SPLITS for what in ("ims.npy", "caps.txt", "ids.txt")),
        *(f"{s}_records.jsonl" for s in SPLITS),
    }
    assert np.load(tmp_path / "train_ims.npy").shape == (11, 16, 3)
    texts = (tmp_path / "val_caps.txt").read_text().splitlines()
    assert texts == [
        "photo 0, caption 0 “ü”",
        *(f"photo 1, caption {k} “ü”" for k in range(2)),
        *(f"photo 2, caption {k} “ü”" for k in range(3)),
    ]
    assert (tmp_path / "val_ids.txt").read_text().split() == ["100", "99", "98"]


def test_the_manifest_says_what_made_them_and_where_the_tokens_are(tmp_path, encoder, source):
    run(tmp_path, encoder, source)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["grid"] == {"rows": 4, "columns": 4, "first": 0}
    assert manifest["splits"]["train"]["shape"] == [11, 16, 3]
    assert manifest["splits"]["val"]["texts"] == 6
    assert manifest["encoder"]["fingerprint"] == encoder.fingerprint()
    made = from_config(manifest["encoder"]["config"])
    assert made.fingerprint() == encoder.fingerprint()


def test_done_is_done(tmp_path, encoder, source):
    assert run(tmp_path, encoder, source)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert not run(tmp_path, encoder, source)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


class Stopped(BaseException):
    """The process is gone."""


def stop_at(monkeypatch, moment):
    """Stops at the ``moment``-th time that something reaches the disk."""
    moments = iter(range(1, moment + 1))

    def stopping(function):
        def wrapped(*args, **kwargs):
            if next(moments, None) is None:
                raise Stopped
            return function(*args, **kwargs)

        return wrapped

    monkeypatch.setattr(os, "replace", stopping(os.replace))
    monkeypatch.setattr(os, "fsync", stopping(os.fsync))
    monkeypatch.setattr(np.memmap, "flush", stopping(np.memmap.flush))
    monkeypatch.setattr(Path, "mkdir", stopping(Path.mkdir))
    monkeypatch.setattr(folder, "open_memmap", stopping(folder.open_memmap))
    monkeypatch.setattr(Strips, "_tokens", stopping(Strips._tokens))


def test_stopped_at_any_moment_it_goes_on_to_the_same_files(tmp_path, encoder, monkeypatch):
    source = Noise(5)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # slow, and no power is lost here
    monkeypatch.setattr(folder, "_SECONDS_BETWEEN_MARKS", 0)
    run(tmp_path / "unbroken", encoder, source)
    expected = contents(tmp_path / "unbroken")
    for moment in range(200):
        output = tmp_path / str(moment)
        with monkeypatch.context() as patch:
            stop_at(patch, moment)
            try:
                run(output, encoder, source)
            except Stopped:
                if (output / "train_ims.npy").exists() and not (output / "manifest.json").exists():
                    with pytest.raises(InputError, match="half done"):
                        Precomputed(str(output)).records("train")
            else:
                break
        run(output, encoder, source)
        assert contents(output) == expected, moment
    assert 40 < moment < 199  # it went through at last: all moments were tried


def test_it_goes_on_from_the_last_mark(tmp_path, encoder, source, monkeypatch):
    monkeypatch.setattr(folder, "_SECONDS_BETWEEN_MARKS", 0)
    seen = []
    original = Noise.image

    def image(self, record):
        if len(seen) == 8:
            raise Stopped
        seen.append(record.location)
        return original(self, record)

    monkeypatch.setattr(Noise, "image", image)
    with pytest.raises(Stopped):
        run(tmp_path, encoder, source, splits=("train",))
    marked = json.loads((tmp_path / "progress.json").read_text())["rows_done"]["train"]
    assert marked == 4  # one photo tells the shapes, the second batch of four is not whole
    seen[:] = []
    run(tmp_path, encoder, source, splits=("train",))
    assert seen == [f"train/{number}.jpg" for number in (0, *range(4, 11))]


def half_done(output, encoder, source, monkeypatch):
    with monkeypatch.context() as patch:
        stop_at(patch, 25)
        with pytest.raises(Stopped):
            run(output, encoder, source)
    assert (output / "progress.json").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"encoder": lambda: Strips(scale=2.0)}, "another image encoder"),
        ({"source": lambda: Noise(12)}, "another data of train"),
        ({"dtype": "float32"}, "another dtype"),
        ({"batch_size": 8}, "another batch_size"),
    ],
)
@pytest.mark.parametrize("complete", [True, False], ids=["complete", "half done"])
def test_another_extraction_is_refused_the_folder(
    tmp_path, encoder, source, monkeypatch, change, said, complete
):
    if complete:
        run(tmp_path, encoder, source)
    else:
        half_done(tmp_path, encoder, source, monkeypatch)
    before = contents(tmp_path)
    made = {name: change.get(name, lambda: None)() for name in ("encoder", "source")}
    settings = {name: value for name, value in change.items() if name not in made}
    with pytest.raises(InputError, match=f"{said}; give the same again, or another folder"):
        run(tmp_path, made["encoder"] or encoder, made["source"] or source, **settings)
    assert contents(tmp_path) == before


def test_a_split_can_be_added(tmp_path, encoder, source):
    assert run(tmp_path / "both", encoder, source)
    assert run(tmp_path / "one", encoder, source, splits=("val",))
    assert run(tmp_path / "one", encoder, source, splits=("train",))
    assert contents(tmp_path / "one") == contents(tmp_path / "both")
    assert not run(tmp_path / "one", encoder, source, splits=("train",))


def test_a_half_done_split_is_not_left_behind(tmp_path, encoder, source, monkeypatch):
    half_done(tmp_path, encoder, source, monkeypatch)
    with pytest.raises(InputError, match=r"is half done: finish it with --splits"):
        run(tmp_path, encoder, source, splits=("train",))


@pytest.mark.parametrize("complete", [True, False], ids=["complete", "half done"])
def test_a_replaced_photo_is_noticed(tmp_path, encoder, complete, monkeypatch):
    (tmp_path / "d" / "train").mkdir(parents=True)
    lines = []
    for number in range(9):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / "d" / "train" / f"{number}.png")
        lines.append(json.dumps({"file_name": f"train/{number}.png", "caption": "red"}))
    (tmp_path / "d" / "metadata.jsonl").write_text("\n".join(lines))
    source = Folder(str(tmp_path / "d"))
    if not complete:
        monkeypatch.setattr(folder.Folder, "finish", lambda self: None)
    run(tmp_path / "f", encoder, source, splits=("train",))
    Image.new("RGB", (8, 8), "blue").save(tmp_path / "d" / "train" / "5.png")
    with pytest.raises(InputError, match="begun with another content of the photos of train"):
        run(tmp_path / "f", encoder, source, splits=("train",))


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "{}", '{"splits": {"train": 1}, "rows_done": {}}', "\xff", "[" * 9999],
)
def test_an_unreadable_progress_is_noticed(tmp_path, encoder, source, monkeypatch, content):
    half_done(tmp_path, encoder, source, monkeypatch)
    (tmp_path / "progress.json").write_text(content, encoding="latin-1")
    with pytest.raises(InputError, match=r"progress\.json"):
        run(tmp_path, encoder, source)


def test_rows_that_are_gone_are_noticed(tmp_path, encoder, source, monkeypatch):
    half_done(tmp_path, encoder, source, monkeypatch)
    progress = json.loads((tmp_path / "progress.json").read_text())
    progress["rows_done"] = {"train": 4, "val": 1}
    (tmp_path / "progress.json").write_text(json.dumps(progress))
    (tmp_path / "train_ims.npy").write_bytes(b"")
    with pytest.raises(InputError, match=r"train_ims\.npy cannot be continued"):
        run(tmp_path, encoder, source)


def test_a_full_disk_is_found_before_the_work_and_leaves_nothing(
    tmp_path, encoder, source, monkeypatch
):
    def full(descriptor, start, length):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        with pytest.raises(InputError, match=r"no room for train_ims\.npy \(.*No space left"):
            run(tmp_path, encoder, source)
        assert contents(tmp_path) == {}
    run(tmp_path, encoder, source, splits=("train",))
    before = contents(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        with pytest.raises(InputError, match=r"no room for val_ims\.npy"):
            run(tmp_path, encoder, source)
    assert contents(tmp_path) == before


def test_a_folder_of_other_things_is_refused(tmp_path, encoder, source):
    (tmp_path / "thesis.doc").write_text("all there is")
    with pytest.raises(InputError, match="is not empty, and not by"):
        run(tmp_path, encoder, source)
    assert set(contents(tmp_path)) == {"thesis.doc"}
    with pytest.raises(InputError, match="is a file; give a folder"):
        run(tmp_path / "thesis.doc", encoder, source)


def test_a_source_of_regions_is_refused(tmp_path, encoder, source):
    run(tmp_path / "once", encoder, source)
    with pytest.raises(InputError, match="Precomputed has regions"):
        run(tmp_path / "twice", encoder, Precomputed(str(tmp_path / "once")))


def test_numbers_too_large_for_half_precision_are_refused(tmp_path, source):
    with pytest.raises(InputError, match="do not fit into float16: set --dtype float32"):
        run(tmp_path / "half", Strips(scale=1e6), source)
    run(tmp_path / "full", Strips(scale=1e6), source, dtype="float32")


def test_trainable_trunks_are_extracted_in_evaluation_mode(tmp_path, source):
    for trainable in (True, False):
        encoder = Strips(trainable=trainable).train()
        run(tmp_path / str(trainable), encoder, source)
    a, b = (np.load(tmp_path / name / "train_ims.npy") for name in ("True", "False"))
    assert np.array_equal(a, b)
    assert not encoder.network[0].weight.grad


def test_text_that_is_being_replaced_is_whole_or_the_old(tmp_path, monkeypatch):
    path = tmp_path / "text"
    atomic_files.write_text(path, "old")
    monkeypatch.setattr(os, "replace", lambda *names: (_ for _ in ()).throw(Stopped))
    with pytest.raises(Stopped):
        atomic_files.write_text(path, "new")
    assert path.read_text() == "old"
