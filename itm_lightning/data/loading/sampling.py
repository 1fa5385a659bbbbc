"""Which pairs make a training batch: seed and epoch alone decide it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.data import BatchSampler, RandomSampler, Sampler
from typing_extensions import override

from itm_lightning.data.loading.samples import PairDataset, SeededRows
from itm_lightning.distributed import rank, world_size
from itm_lightning.utils.seeds import generator, seed_of

_WINDOW = 64  # batches sorted together: similar lengths, and yet other batches in each epoch


class Shuffle(RandomSampler):
    """Numbers below a dataset's length, in an order that seed and epoch decide.

    It is a ``RandomSampler`` so that Lightning knows that the data are shuffled.
    """

    def __init__(self, dataset: PairDataset, seed: int) -> None:
        super().__init__(dataset)
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch of the next order; Lightning calls this as well."""
        self.epoch = epoch

    @override
    def __iter__(self) -> Iterator[int]:
        order = torch.randperm(len(self), generator=generator("order", self.seed, self.epoch))
        return iter(order.tolist())


class TrainingBatches(BatchSampler):
    """Batches of a :class:`PairDataset`'s pairs, each with the seed of its random numbers.

    It is a ``BatchSampler`` with an argument ``sampler`` because Lightning, to train on several
    devices, makes another one around a sampler that gives equally many numbers to each device.

    Args:
        sampler: numbers below the dataset's length, in random order; its ``epoch`` is used here.
        batch_size: pairs a batch.
        drop_last: whether to leave out pairs that do not fill a batch.
        dataset: draws pairs for the sampler's numbers.
        seed: the run's.
        lengths: ``(P,)``, of each pair, where the texts of a batch are to be of similar length.
    """

    def __init__(
        self,
        sampler: Sampler[int] | Iterable[int],
        batch_size: int,
        drop_last: bool,
        dataset: PairDataset,
        seed: int,
        lengths: Tensor | None = None,
    ) -> None:
        super().__init__(sampler, batch_size, drop_last)
        self.dataset = dataset
        self.seed = seed
        self.lengths = lengths
        self._skipped = 0

    def skip(self, batches: int) -> None:
        """Leaves out so many first batches, until called again.

        This holds for more than the next iterator: a loader may make two and use one of them.
        """
        self._skipped = batches

    @override
    def __iter__(self) -> Iterator[SeededRows]:  # type: ignore[override]
        epoch = getattr(self.sampler, "epoch", 0)  # a sampler that keeps the order has none
        numbers = torch.tensor(list(self.sampler))
        pairs = self.dataset.draw(numbers, generator("captions", self.seed, epoch))
        if self.drop_last:
            pairs = pairs[: len(self) * self.batch_size]
        batches: Sequence[Tensor] = pairs.split(self.batch_size)
        if self.lengths is not None:
            order = generator("batches", self.seed, epoch)
            batches = buckets(pairs, self.lengths[pairs], self.batch_size, order)
        seeded = (
            SeededRows(batch.tolist(), seed_of("reading", self.seed, epoch, rank(), number))
            for number, batch in enumerate(batches)
        )
        return itertools.islice(seeded, self._skipped, None)


def training_batches(
    dataset: PairDataset, batch_size: int, bucketed: bool, seed: int
) -> TrainingBatches:
    """Shuffled batches; all are full where a device has pairs enough for one.

    Args:
        dataset: the pairs.
        batch_size: pairs a batch.
        bucketed: whether the texts of a batch are to be of similar length.
        seed: the run's.
    """
    # A small batch has few negatives; its pairs get another chance in the next epoch's shuffle.
    drop_last = len(dataset) // world_size() >= batch_size
    lengths = dataset.text_lengths() if bucketed else None
    shuffle = Shuffle(dataset, seed)
    return TrainingBatches(shuffle, batch_size, drop_last, dataset, seed, lengths)


def buckets(
    items: Tensor,
    lengths: Tensor,
    batch_size: int,
    generator: torch.Generator,
    window: int = _WINDOW,
) -> list[Tensor]:
    """Batches of items of similar length, in random order.

    Args:
        items: ``(N,)``, in random order.
        lengths: ``(N,)``.
        batch_size: items a batch; the last one may have fewer.
        generator: draws the order of the batches.
        window: the number of batches that are sorted together.
    """
    runs = zip(items.split(window * batch_size), lengths.split(window * batch_size), strict=True)
    batches = [
        batch
        for run, run_lengths in runs
        for batch in run[run_lengths.argsort(stable=True)].split(batch_size)
    ]
    order = torch.randperm(len(batches), generator=generator)
    return [batches[number] for number in order.tolist()]
