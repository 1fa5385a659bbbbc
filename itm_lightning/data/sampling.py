"""Which pairs make a training batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.data import BatchSampler, RandomSampler, Sampler
from typing_extensions import override

from itm_lightning.data.samples import PairDataset
from itm_lightning.distributed import world_size

_WINDOW = 64  # batches sorted together: alike in length, yet others in each epoch


class TrainingBatches(BatchSampler):
    """Batches of a :class:`PairDataset`'s pairs.

    Lightning, training on several devices, builds it anew around a sampler that gives each of them
    the same number: hence it is a ``BatchSampler`` with an argument ``sampler``.

    Args:
        sampler: numbers below the dataset's length, in random order.
        batch_size: pairs a batch.
        drop_last: whether the remainder waits for the next epoch.
        dataset: makes pairs of the sampler's numbers.
        lengths: ``(P,)``, each pair's, where the captions of a batch are to be of similar length.
    """

    def __init__(
        self,
        sampler: Sampler[int] | Iterable[int],
        batch_size: int,
        drop_last: bool,
        dataset: PairDataset,
        lengths: Tensor | None = None,
    ) -> None:
        super().__init__(sampler, batch_size, drop_last)
        self.dataset = dataset
        self.lengths = lengths

    @override
    def __iter__(self) -> Iterator[list[int]]:
        pairs = self.dataset.draw(torch.tensor(list(self.sampler)))
        if self.drop_last:
            pairs = pairs[: len(self) * self.batch_size]
        batches: Sequence[Tensor] = pairs.split(self.batch_size)
        if self.lengths is not None:
            batches = buckets(pairs, self.lengths[pairs], self.batch_size)
        # a generator: torch's loaders draw their own seed between asking for it and its first
        for batch in batches:
            yield batch.tolist()


def training_batches(dataset: PairDataset, batch_size: int, bucketed: bool) -> TrainingBatches:
    """Shuffled batches, each device's of full size where it has enough.

    Args:
        dataset: the pairs.
        batch_size: pairs a batch.
        bucketed: whether the captions of a batch are to be of similar length.
    """
    # A batch of few has few negatives: the remainder waits for the next epoch's shuffle.
    drop_last = len(dataset) // world_size() >= batch_size
    lengths = dataset.caption_lengths() if bucketed else None
    return TrainingBatches(RandomSampler(dataset), batch_size, drop_last, dataset, lengths)


def buckets(items: Tensor, lengths: Tensor, batch_size: int, window: int = _WINDOW) -> list[Tensor]:
    """Batches of items of similar length, in random order.

    Args:
        items: ``(N,)``, in random order.
        lengths: ``(N,)``.
        batch_size: items a batch; one has the remainder.
        window: batches that are sorted together.
    """
    runs = zip(items.split(window * batch_size), lengths.split(window * batch_size), strict=True)
    batches = [
        batch
        for run, run_lengths in runs
        for batch in run[run_lengths.argsort(stable=True)].split(batch_size)
    ]
    return [batches[number] for number in torch.randperm(len(batches)).tolist()]
