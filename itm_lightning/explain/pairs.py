"""Pairs of a split, as they are explained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import torch
from PIL import Image
from torch import Tensor

from itm_lightning.data import ImageSource, ITMDataModule, Record, RegionSource, Source
from itm_lightning.data.sources.precomputed.files import read_manifest
from itm_lightning.data.sources.precomputed.source import Precomputed
from itm_lightning.encoders.base import Grid
from itm_lightning.errors import InputError
from itm_lightning.explain.inputs import RegionImage
from itm_lightning.utils.images import as_image

ItemT = TypeVar("ItemT")


def explained_records(
    data: ITMDataModule, split: str, count: int
) -> tuple[list[Record], list[Record]]:
    """The images of a split that are explained, each with its first text, and the other images.

    Args:
        data: the data. All images of the split are checked only where bad ones are to be skipped;
            else the few that are explained are read, and a bad one of these is refused then.
        split: ``"train"``, ``"val"`` or ``"test"``.
        count: the number of pairs; all where there are fewer images with texts.

    Returns:
        Images spread evenly over the split, and the rest; none without texts.

    Raises:
        InputError: the split has no texts.
    """
    all_of_it = data.records if data.on_bad_image == "skip" else data.source.records
    records = [record for record in all_of_it(split) if record.texts]
    if not records:
        raise InputError(f"{type(data.source).__name__} has no texts for the split {split}")
    chosen = spread(range(len(records)), count)
    others = sorted(set(range(len(records))) - set(chosen))
    return [records[number] for number in chosen], [records[number] for number in others]


def spread(items: Sequence[ItemT], count: int) -> list[ItemT]:
    """At most so many of the items, spread evenly."""
    count = min(count, len(items))
    return [items[number * len(items) // count] for number in range(count)]


def image_of(source: Source, record: Record) -> Image.Image | RegionImage:
    """A record's image; or its regions, with the image where its location names a file."""
    if isinstance(source, ImageSource):
        return source.image(record)
    assert isinstance(source, RegionSource)
    path, grid = Path(record.location), None
    image = as_image(path) if path.is_file() else None
    if isinstance(source, Precomputed):
        manifest = read_manifest(source.root)
        grid = manifest and manifest["grid"] and Grid(**manifest["grid"])
    boxes = source.region_boxes(record)
    return RegionImage(source.batch([record]), grid or None, _shares(boxes, image), image)


def _shares(boxes: Tensor | None, image: Image.Image | None) -> Tensor | None:
    """Boxes in pixels as shares of the image; of the furthest edges, where there is no image."""
    if boxes is None:
        return None
    boxes = boxes.float()
    if float(boxes.max()) <= 1:
        return boxes
    right, bottom = image.size if image else boxes[:, 2:].amax(dim=0).tolist()
    return (boxes / torch.tensor([right, bottom, right, bottom])).clamp(0, 1)
