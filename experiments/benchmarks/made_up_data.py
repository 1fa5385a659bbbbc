"""Made-up data on disk, in the formats that our sources read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from itm_lightning.data import Folder, Precomputed, Scenes


def painted_images(root: Path, count: int, side: int) -> Folder:
    """Square JPEG files of rendered scenes; 384 pixels are about what Flickr30k has to decode."""
    scenes = Scenes(train=count, val=0, test=0, size=side)
    (root / "train").mkdir(parents=True)
    rows = []
    for record in tqdm(scenes.records("train"), desc="painting", unit="photo", leave=False):
        name = f"train/{record.image_id}.jpg"
        scenes.image(record).save(root / name)
        rows.append({"file_name": name, "caption": record.texts})
    lines = (json.dumps(row) for row in rows)
    (root / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return Folder(str(root))


def random_regions(root: Path, count: int, regions: int, dim: int) -> Precomputed:
    """SCAN's files: a memory map ``(count, regions, dim)`` float32, and five captions a photo."""
    root.mkdir()
    shape = (count, regions, dim)
    array = np.lib.format.open_memmap(root / "train_ims.npy", "w+", np.float32, shape)
    for row in tqdm(range(count), desc="writing", unit="photo", leave=False):
        array[row] = np.random.default_rng(row).standard_normal(shape[1:], np.float32)
    array.flush()
    texts = (f"caption {k} of photo {row}" for row in range(count) for k in range(5))
    (root / "train_caps.txt").write_text("\n".join(texts), encoding="utf-8")
    return Precomputed(str(root))
