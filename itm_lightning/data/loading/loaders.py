"""Loaders: how records become batches, and which processes do the work."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import torch
from torch.utils.data import DataLoader
from typing_extensions import override

from itm_lightning.data.loading.decoding import DecodedImages, ReadImages
from itm_lightning.data.loading.every_pair import EveryPairOnce
from itm_lightning.data.loading.samples import (
    ImageDataset,
    OneTextDataset,
    PairDataset,
    SeededDataset,
    as_read,
    collate,
)
from itm_lightning.data.loading.sampling import TrainingBatches, training_batches
from itm_lightning.data.loading.stream import StreamDataset, StreamedSource
from itm_lightning.data.source import Record
from itm_lightning.types import Batch


class TrainingLoader(DataLoader[Batch]):
    """Knows how many batches of an epoch it has handed out, and begins after them when resumed.

    Worker processes read ahead of what is handed out; that does not count. Lightning stores
    ``state_dict`` in checkpoints.

    No ``__init__`` of its own: Lightning, training on several devices, builds it anew from the
    attributes of a ``DataLoader``.
    """

    _handed_out = 0
    _skipped = 0

    def state_dict(self) -> dict[str, Any]:
        """How far it is."""
        return {"batches": self._handed_out}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The next epoch begins after the batches that ``state`` tells of, without reading them."""
        self._skipped = state["batches"]

    @override
    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        # A generator, so that it begins with its first batch: Lightning may make the iterator
        # before it says which epoch comes and how far the run was.
        skipped, self._skipped = self._skipped, 0
        if isinstance(self.dataset, StreamDataset):
            self.dataset.skip(skipped)
        elif isinstance(self.batch_sampler, TrainingBatches):
            self.batch_sampler.skip(skipped)
        self._handed_out = skipped
        for batch in super().__iter__():
            self._handed_out += 1
            yield batch


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
    read: ReadImages,
    loading: Loading,
    seed: int,
    one_text: bool = False,
    bucketed: bool = False,
) -> TrainingLoader:
    """Shuffled batches of pairs.

    Args:
        records: the train split.
        read: reads the photos of records.
        loading: how batches are read.
        seed: the run's: with the epoch, it decides the batches and how their photos are augmented.
        one_text: take one caption of each photo, drawn anew in each epoch; not from a stream.
        bucketed: captions of similar length in a batch; not from a stream.
    """
    size = loading.batch_size
    if _is_stream(read):
        stream: Any = StreamDataset(records, read, size, seed)
        drop_last = len(stream) >= size
        joined = _settings(loading, collate)
        loader = TrainingLoader(stream, batch_size=size, drop_last=drop_last, **joined)
        loader.sampler.set_epoch = stream.set_epoch  # type: ignore[attr-defined]  # Lightning asks
        return loader
    dataset = (OneTextDataset if one_text else PairDataset)(records, read)
    batches = training_batches(dataset, size, bucketed, seed)
    return TrainingLoader(SeededDataset(dataset), batch_sampler=batches, **_settings(loading))


def every_pair_loader(
    records: Sequence[Record], read: ReadImages, loading: Loading
) -> DataLoader[Batch]:
    """Batches of all pairs, each once over all processes; arguments as above."""
    batches: Any = EveryPairOnce(PairDataset(records, read), loading.batch_size)
    return DataLoader(batches, batch_size=None, **_settings(loading, as_read))


def evaluation_loader(
    records: Sequence[Record], read: ReadImages, loading: Loading
) -> DataLoader[Batch]:
    """Batches of photos with all of their captions, in order; arguments as above."""
    size = loading.batch_size
    if _is_stream(read):
        stream: Any = StreamDataset(records, read, size)
        return DataLoader(stream, batch_size=size, **_settings(loading, collate))
    return DataLoader(ImageDataset(records, read), batch_size=size, **_settings(loading))


def _is_stream(read: ReadImages) -> TypeGuard[DecodedImages]:
    return isinstance(read, DecodedImages) and isinstance(read.source, StreamedSource)


def _settings(loading: Loading, collate_fn: Callable[[Any], Batch] = as_read) -> dict[str, Any]:
    return {
        "collate_fn": collate_fn,
        "num_workers": loading.num_workers,
        "persistent_workers": loading.num_workers > 0,
        "pin_memory": loading.on_gpu,
        # its own: a loader that begins draws a number, and must not from those of the training
        "generator": torch.Generator(),
    }
