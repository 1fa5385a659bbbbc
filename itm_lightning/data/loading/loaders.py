"""Loaders: batches of a split's records, for training, closed-form fitting and evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import torch
from torch.utils.data import DataLoader, DistributedSampler
from typing_extensions import override

from itm_lightning.data.loading.decoding import DecodedImages, ReadImages
from itm_lightning.data.loading.every_pair import EveryPairOnce
from itm_lightning.data.loading.samples import (
    Collate,
    ImageDataset,
    OneTextDataset,
    PairDataset,
    ReadTexts,
    SeededDataset,
    as_read,
)
from itm_lightning.data.loading.sampling import TrainingBatches, training_batches
from itm_lightning.data.loading.stream import StreamDataset, StreamedSource
from itm_lightning.data.source import Record, raw_texts
from itm_lightning.distributed import world_size
from itm_lightning.types import Batch


class TrainingLoader(DataLoader[Batch]):
    """Counts the batches of an epoch that it has given, and begins after them in a resumed run.

    Batches that worker processes have read ahead do not count. Lightning stores ``state_dict`` in
    checkpoints.

    The class has no ``__init__``: to train on several devices, Lightning builds a new loader from
    the attributes of a ``DataLoader``.
    """

    _given = 0
    _skipped = 0

    def state_dict(self) -> dict[str, Any]:
        """The number of batches that it has given in this epoch."""
        return {"batches": self._given}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Lets the next epoch begin after as many batches as ``state`` says."""
        self._skipped = state["batches"]

    @override
    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        # A generator, so that nothing happens before the first batch is asked for: Lightning may
        # make the iterator before it sets the epoch and the number of batches to skip.
        skipped, self._skipped = self._skipped, 0
        if isinstance(self.dataset, StreamDataset):
            self.dataset.skip(skipped)
        elif isinstance(self.batch_sampler, TrainingBatches):
            self.batch_sampler.skip(skipped)
        self._given = skipped
        for batch in super().__iter__():
            self._given += 1
            yield batch


@dataclass(frozen=True)
class Loading:
    """How batches are read.

    Attributes:
        batch_size: samples a batch.
        num_workers: processes that read; with 0 the trainer's process reads.
        on_gpu: whether the batches go to a GPU.
        class_names: the columns of the batches' labels.
        read_texts: reads texts of records; not from a stream, whose texts are strings.
    """

    batch_size: int
    num_workers: int = 0
    on_gpu: bool = False
    class_names: Sequence[str] = ()
    read_texts: ReadTexts = raw_texts


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
        read: reads the images of records.
        loading: how batches are read.
        seed: the run's; seed and epoch decide the batches and how their images are augmented.
        one_text: take one text of each image, drawn again in each epoch; not from a stream.
        bucketed: put texts of similar length into a batch; not from a stream.
    """
    size = loading.batch_size
    if _is_stream(read):
        stream: Any = StreamDataset(records, read, size, seed)
        drop_last = len(stream) >= size
        joined = _settings(loading, Collate(loading.class_names))
        loader = TrainingLoader(stream, batch_size=size, drop_last=drop_last, **joined)
        loader.sampler.set_epoch = stream.set_epoch  # type: ignore[attr-defined]  # Lightning asks
        return loader
    kind = OneTextDataset if one_text else PairDataset
    dataset = kind(records, read, loading.class_names, loading.read_texts)
    batches = training_batches(dataset, size, bucketed, seed)
    return TrainingLoader(SeededDataset(dataset), batch_sampler=batches, **_settings(loading))


def every_pair_loader(
    records: Sequence[Record], read: ReadImages, loading: Loading
) -> DataLoader[Batch]:
    """Batches of all pairs, each once over all processes; arguments as above."""
    pairs = PairDataset(records, read, loading.class_names, loading.read_texts)
    batches: Any = EveryPairOnce(pairs, loading.batch_size)
    return DataLoader(batches, batch_size=None, **_settings(loading, as_read))


def evaluation_loader(
    records: Sequence[Record], read: ReadImages, loading: Loading
) -> DataLoader[Batch]:
    """Batches of images with all of their texts, in order; arguments as above.

    Each of several processes reads a share; all are equally long, so some images come twice.
    """
    size = loading.batch_size
    if _is_stream(read):
        stream: Any = StreamDataset(records, read, size)
        joined = _settings(loading, Collate(loading.class_names))
        return DataLoader(stream, batch_size=size, **joined)
    images = ImageDataset(records, read, loading.class_names, loading.read_texts)
    share: Any = DistributedSampler(images, shuffle=False) if world_size() > 1 else None
    return DataLoader(images, batch_size=size, sampler=share, **_settings(loading))


def _is_stream(read: ReadImages) -> TypeGuard[DecodedImages]:
    return isinstance(read, DecodedImages) and isinstance(read.source, StreamedSource)


def _settings(loading: Loading, collate_fn: Callable[[Any], Batch] = as_read) -> dict[str, Any]:
    return {
        "collate_fn": collate_fn,
        "num_workers": loading.num_workers,
        "persistent_workers": loading.num_workers > 0,
        "pin_memory": loading.on_gpu,
        # of its own: a loader draws a number when it begins, which must not change the training's
        "generator": torch.Generator(),
    }
