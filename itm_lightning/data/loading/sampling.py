"""Which pairs make a training batch: a function of seed and epoch, whatever came before."""

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

_WINDOW = 64  # batches sorted together: alike in length, yet others in each epoch


class Shuffle(RandomSampler):
    """Numbers below a dataset's length, in an order that follows from seed and epoch.

    A ``RandomSampler``, as by this Lightning tells that the data are to be shuffled.
    """

    def __init__(self, dataset: PairDataset, seed: int) -> None:
        super().__init__(dataset)
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Says which epoch comes next; Lightning does so, too."""
        self.epoch = epoch

    @override
    def __iter__(self) -> Iterator[int]:
        order = torch.randperm(len(self), generator=generator("order", self.seed, self.epoch))
        return iter(order.tolist())


class TrainingBatches(BatchSampler):
    """Batches of a :class:`PairDataset`'s pairs, each with the seed of its random numbers.

    Lightning, training on several devices, builds it anew around a sampler that gives each of them
    the same number: hence it is a ``BatchSampler`` with an argument ``sampler``.

    Args:
        sampler: numbers below the dataset's length, in random order; its ``epoch`` is this one's.
        batch_size: pairs a batch.
        drop_last: whether the remainder waits for the next epoch.
        dataset: makes pairs of the sampler's numbers.
        seed: the run's.
        lengths: ``(P,)``, each pair's, where the captions of a batch are to be of similar length.
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
        """Leaves out the first batches, until it is told otherwise.

        (Not of the next iterator alone: a loader may ask for two to take one.)
        """
        self._skipped = batches

    @override
    def __iter__(self) -> Iterator[SeededRows]:  # type: ignore[override]
        epoch = getattr(self.sampler, "epoch", 0)  # one that keeps the order has none
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
    """Shuffled batches, each device's of full size where it has enough.

    Args:
        dataset: the pairs.
        batch_size: pairs a batch.
        bucketed: whether the captions of a batch are to be of similar length.
        seed: the run's.
    """
    # A batch of few has few negatives: the remainder waits for the next epoch's shuffle.
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
        batch_size: items a batch; one has the remainder.
        generator: of the batches' order.
        window: batches that are sorted together.
    """
    runs = zip(items.split(window * batch_size), lengths.split(window * batch_size), strict=True)
    batches = [
        batch
        for run, run_lengths in runs
        for batch in run[run_lengths.argsort(stable=True)].split(batch_size)
    ]
    order = torch.randperm(len(batches), generator=generator)
    return [batches[number] for number in order.tolist()]
