"""Streams: images that are cheap to read in the order of their rows, and how they are sampled."""

from __future__ import annotations

import itertools
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch.utils.data import IterableDataset, get_worker_info

from itm_lightning.data.loading.decoding import DecodedImages
from itm_lightning.data.loading.samples import Sample
from itm_lightning.data.source import Choice, ImageSource, Record
from itm_lightning.distributed import rank, world_size
from itm_lightning.utils.images import image_in
from itm_lightning.utils.seeds import generator, seed_of, seeded

ItemT = TypeVar("ItemT")

# Samples in each process's shuffle buffer: enough that few samples of a batch share an image. They
# are kept undecoded, in about 100 MB.
_WAITING = 2048


class StreamedSource(ImageSource):
    """A dataset of images that are cheap to read only in the order of its records.

    The data module reads it through a :class:`StreamDataset`.
    """

    @abstractmethod
    def encoded(self, record: Record) -> bytes:
        """The bytes of the record's image file.

        Raises:
            InputError: there is none.
        """


class StreamDataset(IterableDataset[Sample]):
    """Samples of a streamed source, each decoded only when it is given.

    For training there is one sample a text, shuffled through a buffer in an order that seed and
    epoch decide. For evaluation there is one sample an image, with all of its texts, in the order
    of the rows.

    Each rank has a contiguous run of the samples. All runs are equally long: the last sample is
    repeated where they do not divide, as a distributed sampler does, and scores count it once. Of
    a rank's run, each worker process has a contiguous part of whole batches, so that ``len`` gives
    the exact number of batches.

    Args:
        records: the split's records, in the source's order.
        images: the streamed source, and the transform of its images.
        batch_size: samples a batch.
        seed: the run's, for training; ``None`` for evaluation.
    """

    def __init__(
        self,
        records: Sequence[Record],
        images: DecodedImages,
        batch_size: int,
        seed: int | None = None,
    ) -> None:
        assert isinstance(images.source, StreamedSource)
        self.source = images.source
        self.transform = images.transform
        self.batch_size = batch_size
        self.seed = seed
        train = seed is not None
        every = [choice for record in records for choice in _choices(record, train)]
        # Here, not in __iter__: a loader's process does not know the rank.
        share = -(-len(every) // world_size())
        self.rank = rank()
        run = range(self.rank * share, (self.rank + 1) * share)
        self.choices = [every[min(number, len(every) - 1)] for number in run]
        # The epoch, and how many of its batches to skip, in memory that worker processes share:
        # they are kept for several epochs.
        self._next = torch.zeros(2, dtype=torch.int64).share_memory_()

    def __len__(self) -> int:
        return len(self.choices)

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch of the next iterator."""
        self._next[0] = epoch

    def skip(self, batches: int) -> None:
        """Leaves out so many first batches, until called again; they are not decoded."""
        self._next[1] = batches

    def __iter__(self) -> Iterator[Sample]:
        epoch, skipped = self._next.tolist()  # here, not when the first sample is asked for
        return self._evaluated() if self.seed is None else self._trained(self.seed, epoch, skipped)

    def _evaluated(self) -> Iterator[Sample]:
        for data, choice in self._undecoded(self._share(0)):
            yield self._sample(data, choice)

    def _trained(self, seed: int, epoch: int, skipped: int) -> Iterator[Sample]:
        share = self._share(skipped)
        process = seed, epoch, self.rank, share.number
        order = shuffled(self._undecoded(share), generator("order", *process))
        start = share.skipped * self.batch_size
        for number, (data, choice) in itertools.islice(enumerate(order), start, None):
            with seeded(seed_of("reading", *process, number)):
                sample = self._sample(data, choice)
            yield sample

    def _sample(self, data: bytes, choice: Choice) -> Sample:
        record, texts = choice
        image = image_in(data, f"{record.location} of {type(self.source).__name__}")
        return Sample(self.transform(image), record, texts)

    def _undecoded(self, share: Share) -> Iterator[tuple[bytes, Choice]]:
        """The samples of this process; the file of an image is read once for all its samples."""
        run = self.choices[share.start * self.batch_size : share.stop * self.batch_size]
        for _, choices in itertools.groupby(run, key=lambda choice: choice[0].image_id):
            first = next(choices)
            data = self.source.encoded(first[0])
            yield from ((data, choice) for choice in (first, *choices))

    def _share(self, skipped: int) -> Share:
        worker = get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        return share_of(number, workers, -(-len(self.choices) // self.batch_size), skipped)


@dataclass(frozen=True)
class Share:
    """A worker process's share of an epoch's batches.

    Attributes:
        number: the share's.
        start: its first batch.
        stop: the batch after its last.
        skipped: how many of its batches to skip.
    """

    number: int
    start: int
    stop: int
    skipped: int


def share_of(worker: int, workers: int, batches: int, skipped: int) -> Share:
    """The share of a worker process. A loader takes a batch of each worker in turn, from worker 0.

    Args:
        worker: the process's number, from 0.
        workers: the number of processes.
        batches: the number of batches in the epoch.
        skipped: how many batches, in the order in which the loader takes them, are skipped. Worker
            0 then has the share that the next batch belongs to.
    """
    bounds = [batches * number // workers for number in range(workers + 1)]
    sizes = [stop - start for start, stop in itertools.pairwise(bounds)]
    turns = [who for turn in range(max(sizes)) for who, size in enumerate(sizes) if turn < size]
    first = turns[skipped] if skipped < len(turns) else 0
    who = (worker + first) % workers
    return Share(who, bounds[who], bounds[who + 1], turns[:skipped].count(who))


def _choices(record: Record, train: bool) -> list[Choice]:
    texts = range(len(record.texts))
    return [(record, (k,)) for k in texts] if train else [(record, tuple(texts))]


def shuffled(
    items: Iterable[ItemT], generator: torch.Generator, waiting: int = _WAITING
) -> Iterator[ItemT]:
    """The items in random order; none comes more than ``waiting`` places before its own.

    Args:
        items: any number of them.
        generator: decides the order.
        waiting: the size of the buffer; each further item pushes out a random one.
    """

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
