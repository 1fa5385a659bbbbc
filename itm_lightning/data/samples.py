"""Samples and batches: what a loader reads of a dataset, and how it joins them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from itm_lightning.data.source import PhotoSource, Record
from itm_lightning.types import Batch, Features

LoadPhoto = Callable[[Record], Tensor]


@dataclass(frozen=True)
class Sample:
    """A photo, as pixels ``(3, H, W)`` or as regions ``(L, D)``, with captions."""

    photo: Tensor
    record: Record
    captions: tuple[int, ...]  # which of the record's captions


@dataclass(frozen=True)
class DecodedPhotos:
    """Loads a record's photo and transforms it: pixels ``(3, H, W)`` uint8."""

    source: PhotoSource
    transform: Callable[[Image.Image], Tensor]

    def __call__(self, record: Record) -> Tensor:
        """Pixels of the record's photo."""
        return self.transform(self.source.photo(record))


class PhotoDataset(Dataset[Sample]):
    """One sample a photo, with all of its captions: how a split is evaluated."""

    def __init__(self, records: Sequence[Record], load: LoadPhoto) -> None:
        self.records = records
        self.load = load

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Sample:
        record = self.records[index]
        return Sample(self.load(record), record, tuple(range(len(record.captions))))


class PairDataset(Dataset[Sample]):
    """One sample a caption, with its photo: how a split is trained on."""

    def __init__(self, records: Sequence[Record], load: LoadPhoto) -> None:
        self.load = load
        self.pairs = [(record, k) for record in records for k in range(len(record.captions))]

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        record, caption = self.pairs[index]
        return Sample(self.load(record), record, (caption,))


def collate(samples: Sequence[Sample]) -> Batch:
    """Joins samples into a :class:`~itm_lightning.types.Batch`; captions stay strings."""
    chosen = [(s.record, k) for s in samples for k in s.captions]
    return Batch(
        photos=_stack([sample.photo for sample in samples]),
        captions=[record.captions[k] for record, k in chosen],
        image_ids=torch.tensor([s.record.image_id for s in samples], dtype=torch.int64),
        text_image_ids=torch.tensor([record.image_id for record, _ in chosen], dtype=torch.int64),
        text_ids=torch.tensor([record.caption_ids[k] for record, k in chosen], dtype=torch.int64),
        labels=[sample.record.labels for sample in samples],
    )


def _stack(photos: list[Tensor]) -> Tensor | Features:
    if photos[0].ndim == 3:
        return torch.stack(photos)
    lengths = torch.tensor([len(regions) for regions in photos])
    mask = torch.arange(int(lengths.max())) < lengths[:, None]
    return Features(tokens=pad_sequence(photos, batch_first=True), mask=mask, pooled=None)
