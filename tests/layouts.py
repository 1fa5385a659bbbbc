"""The same photos and captions in every layout that a source reads.

Each writer takes the root of a Karpathy dataset and a new folder, and returns the arguments with
which a source reads what it wrote there.
"""

import csv
import json
from pathlib import Path

import pytest


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    """What ``datasets`` keeps on disk goes into the test's own folder."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "hub-cache"))
    datasets.disable_progress_bars()


def entries(root):
    return json.loads((root / "dataset_tiny.json").read_text())["images"]


def texts(entry):
    return [sentence["raw"] for sentence in entry["sentences"]]


def text_ids(entry):
    return [sentence["sentid"] for sentence in entry["sentences"]]


def flickr30k_row(root, entry):
    """A row as ``nlphuji/flickr30k`` has it: ids are text."""
    image = root / "images" / entry["filename"]
    return {
        "image": {"bytes": image.read_bytes(), "path": image.name},
        "caption": texts(entry),
        "sentids": [str(number) for number in text_ids(entry)],
        "split": entry["split"],
        "img_id": str(entry["imgid"]),
        "filename": image.name,
    }


def write_parquet(rows, path, images=(), rows_a_group=4):
    """What ``datasets`` writes: photos as bytes, the features in the schema's metadata."""
    import datasets

    table = datasets.Dataset.from_list(rows)
    for name in images:
        table = table.cast_column(name, datasets.Image(decode=False))
        table = table.cast_column(name, datasets.Image())
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_parquet(path, batch_size=rows_a_group)


def flickr30k(root, folder):
    """All rows in one Hub split, in two files, in the folders of ``refs/convert/parquet``."""
    rows = [flickr30k_row(root, entry) for entry in entries(root)]
    for number, part in enumerate((rows[:13], rows[13:])):
        write_parquet(part, folder / "TEST" / "test" / f"{number:04}.parquet", ["image"])
    return {"repository": str(folder)}


def streamed_flickr30k(root, folder):
    return {**flickr30k(root, folder), "streaming": True}


def coco_row(entry, hub_split):
    return {
        "filepath": "images",
        "sentids": text_ids(entry),
        "filename": entry["filename"],
        "imgid": 1000 + entry["imgid"],
        "split": hub_split,
        "sentences": texts(entry),
        "cocoid": entry["imgid"],
    }


def coco(root, folder):
    """Hub splits as ``yerevann/coco-karpathy`` has them; the last train photos are restval."""
    hub_splits = {"train": [], "restval": [], "validation": [], "test": []}
    for entry in entries(root):
        hub_split = "validation" if entry["split"] == "val" else entry["split"]
        if hub_split == "train" and len(hub_splits["train"]) == 10:
            hub_split = "restval"
        hub_splits[hub_split].append(coco_row(entry, hub_split))
    for name, rows in hub_splits.items():
        write_parquet(rows, folder / "data" / f"{name}-00000-of-00001.parquet")
    return {"repository": str(folder), "images": str(root)}


def streamed_coco(root, folder):
    return {**coco(root, folder), "streaming": True}


def coco_json(root, split):
    chosen = [entry for entry in entries(root) if entry["split"] == split]
    return {
        "images": [{"id": e["imgid"], "file_name": e["filename"]} for e in chosen],
        "annotations": [
            {"id": number, "image_id": entry["imgid"], "caption": text}
            for k in range(5)  # COCO's are not in the order of the photos
            for entry in chosen
            for number, text in [(text_ids(entry)[k], texts(entry)[k])]
        ],
    }


def coco_captions(root, folder):
    arguments = {"root": str(folder)}
    folder.mkdir()
    for split in ("train", "val", "test"):
        (folder / f"captions_{split}.json").write_text(json.dumps(coco_json(root, split)))
        arguments[split] = f"captions_{split}.json"
        arguments[f"{split}_images"] = str(root / "images")
    return arguments


def _linked(root, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(root / "images" / path.name)


def folder_json_lines(root, folder):
    """An imagefolder of sub-folders, each with its table of lists."""
    for split in ("train", "val", "test"):
        lines = []
        for entry in entries(root):
            if entry["split"] == split:
                _linked(root, folder / split / entry["filename"])
                lines.append({"file_name": entry["filename"], "caption": texts(entry)})
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / split / "metadata.jsonl").write_text(text)
    return {"root": str(folder), "allow_outside": True}


def folder_parquet(root, folder):
    """One table with a column of splits."""
    rows = []
    for entry in entries(root):
        _linked(root, folder / entry["filename"])
        rows.append({"file_name": entry["filename"], "text": texts(entry), "split": entry["split"]})
    write_parquet(rows, folder / "metadata.parquet")
    return {"root": str(folder), "text_column": "text", "allow_outside": True}


def folder_csv(root, folder):
    """A CSV of path and caption, one row a caption; the split is the path's first folder."""
    rows = []
    for entry in entries(root):
        path = Path(entry["split"]) / entry["filename"]
        _linked(root, folder / path)
        rows += [{"path": path.as_posix(), "caption": text} for text in texts(entry)]
    with (folder / "captions.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["path", "caption"])
        writer.writeheader()
        writer.writerows(rows)
    return {
        "root": str(folder),
        "metadata": "captions.csv",
        "file_column": "path",
        "allow_outside": True,
    }
