"""Streams: photos that are cheap to read in the order of their rows, and how they are sampled."""

from __future__ import annotations

import itertools
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import torch
from torch.utils.data import IterableDataset, get_worker_info

from itm_lightning.data.photo_files import photo_in
from itm_lightning.data.reading import DecodedPhotos
from itm_lightning.data.samples import Choice, Sample
from itm_lightning.data.source import PhotoSource, Record
from itm_lightning.distributed import rank, world_size

ItemT = TypeVar("ItemT")

# Samples that wait in each process: enough that few of a batch share a photo. They wait undecoded,
# as some 100 MB.
_WAITING = 2048


class StreamedSource(PhotoSource):
    """A dataset whose photos are cheap to read in the order of its records, and in no other.

    The data module reads it through a :class:`StreamDataset`.
    """

    @abstractmethod
    def encoded(self, record: Record) -> bytes:
        """The record's photo as the file it was, undecoded.

        Raises:
            InputError: there is none.
        """


class StreamDataset(IterableDataset[Sample]):
    """Samples of a streamed source, each decoded when its turn comes.

    To train, one sample a caption, in an order shuffled through a buffer, seeded from torch's
    global generator anew in each epoch; to evaluate, one a photo with all of its captions, in the
    order of the rows.

    The samples are dealt in runs of rows: to the ranks in runs of the same length (the last sample
    repeated where they do not divide, as a distributed sampler does; scores count it once), and of
    these to the worker processes in whole batches, so that ``len`` tells exactly how many batches
    there will be.

    Args:
        records: the split's photos, in the order of the source's records.
        photos: the streamed source, and the transform of its photos.
        batch_size: samples a batch.
        train: whether to train.
    """

    def __init__(
        self, records: Sequence[Record], photos: DecodedPhotos, batch_size: int, train: bool
    ) -> None:
        assert isinstance(photos.source, StreamedSource)
        self.source = photos.source
        self.transform = photos.transform
        self.batch_size = batch_size
        self.train = train
        every = [choice for record in records for choice in _choices(record, train)]
        # Now, not when iterating: a loader's process does not know the rank.
        share = -(-len(every) // world_size())
        run = range(rank() * share, (rank() + 1) * share)
        self.choices = [every[min(number, len(every) - 1)] for number in run]

    def __len__(self) -> int:
        return len(self.choices)

    def __iter__(self) -> Iterator[Sample]:
        undecoded = self._undecoded()
        for data, (record, captions) in shuffled(undecoded) if self.train else undecoded:
            photo = photo_in(data, f"{record.location} of {type(self.source).__name__}")
            yield Sample(self.transform(photo), record, captions)

    def _undecoded(self) -> Iterator[tuple[bytes, Choice]]:
        """The samples of this process; what a photo's samples share is read once."""
        for _, choices in itertools.groupby(self._run(), key=lambda choice: choice[0].image_id):
            first = next(choices)
            data = self.source.encoded(first[0])
            yield from ((data, choice) for choice in (first, *choices))

    def _run(self) -> Sequence[Choice]:
        worker = get_worker_info()
        if worker is None:
            return self.choices
        batches = -(-len(self.choices) // self.batch_size)
        start, stop = (
            batches * number // worker.num_workers * self.batch_size
            for number in (worker.id, worker.id + 1)
        )
        return self.choices[start:stop]


def _choices(record: Record, train: bool) -> list[Choice]:
    captions = range(len(record.captions))
    return [(record, (k,)) for k in captions] if train else [(record, tuple(captions))]


def shuffled(items: Iterable[ItemT], waiting: int = _WAITING) -> Iterator[ItemT]:
    """The items in a random order in which none comes more than ``waiting`` places too early.

    Args:
        items: of any number.
        waiting: how many are held back, one of them at random giving way to the next.
    """
    generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))

    def one_of(held: list[ItemT]) -> ItemT:
        place = int(torch.randint(len(held), (), generator=generator))
        held[place], held[-1] = held[-1], held[place]
        return held.pop()

    held: list[ItemT] = []
    for item in items:
        held.append(item)
        if len(held) > waiting:
            yield one_of(held)
    while held:
        yield one_of(held)
