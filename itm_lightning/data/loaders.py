"""Loaders: how records become batches, and which processes do the work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from torch.utils.data import DataLoader, Dataset

from itm_lightning.data.reading import DecodedPhotos, ReadPhotos
from itm_lightning.data.samples import (
    OneCaptionDataset,
    PairDataset,
    PhotoDataset,
    as_read,
    collate,
)
from itm_lightning.data.sampling import training_batches
from itm_lightning.data.source import Record
from itm_lightning.data.stream import StreamDataset, StreamedSource
from itm_lightning.types import Batch


@dataclass(frozen=True)
class Loading:
    """How batches are read.

    Attributes:
        batch_size: samples a batch.
        num_workers: processes that read; 0 for the own one.
        on_gpu: whether a GPU is to fetch the batches.
    """

    batch_size: int
    num_workers: int = 0
    on_gpu: bool = False


def training_loader(
    records: Sequence[Record],
    read: ReadPhotos,
    loading: Loading,
    one_caption: bool = False,
    bucketed: bool = False,
) -> DataLoader[Batch]:
    """Shuffled batches of pairs.

    Args:
        records: the train split.
        read: reads the photos of records.
        loading: how batches are read.
        one_caption: take one caption of each photo, drawn anew in each epoch; not from a stream.
        bucketed: captions of similar length in a batch; not from a stream.
    """
    size = loading.batch_size
    if _is_stream(read):
        stream = StreamDataset(records, read, size, train=True)
        few = len(stream) < size
        return _loader(stream, loading, batch_size=size, drop_last=not few, collate_fn=collate)
    dataset = (OneCaptionDataset if one_caption else PairDataset)(records, read)
    return _loader(dataset, loading, batch_sampler=training_batches(dataset, size, bucketed))


def evaluation_loader(
    records: Sequence[Record], read: ReadPhotos, loading: Loading
) -> DataLoader[Batch]:
    """Batches of photos with all of their captions, in order; arguments as above."""
    size = loading.batch_size
    if _is_stream(read):
        stream = StreamDataset(records, read, size, train=False)
        return _loader(stream, loading, batch_size=size, collate_fn=collate)
    return _loader(PhotoDataset(records, read), loading, batch_size=size)


def _is_stream(read: ReadPhotos) -> TypeGuard[DecodedPhotos]:
    return isinstance(read, DecodedPhotos) and isinstance(read.source, StreamedSource)


def _loader(
    dataset: Dataset[Any],
    loading: Loading,
    collate_fn: Callable[[Any], Batch] = as_read,
    **sampling: Any,
) -> DataLoader[Batch]:
    return DataLoader(
        dataset,
        **sampling,
        collate_fn=collate_fn,
        num_workers=loading.num_workers,
        persistent_workers=loading.num_workers > 0,
        pin_memory=loading.on_gpu,
    )
