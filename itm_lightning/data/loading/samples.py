"""Samples and batches: what a loader reads of a dataset, and how it joins them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate
from typing_extensions import override

from itm_lightning.data.loading.decoding import ReadImages
from itm_lightning.data.source import Record
from itm_lightning.types import Batch, Features, MemberFeatures
from itm_lightning.utils.seeds import seeded


@dataclass(frozen=True)
class SeededRows:
    """Rows of a dataset that make a batch.

    Attributes:
        rows: their numbers.
        seed: of the random numbers that reading them takes, as augmentation does.
    """

    rows: list[int]
    seed: int


class ReadsBatches(Protocol):
    """A dataset that reads whole batches."""

    def __len__(self) -> int: ...

    def __getitems__(self, rows: list[int]) -> Batch: ...


class SeededDataset(Dataset[Batch]):
    """A dataset that takes :class:`SeededRows`, where the one it wraps takes numbers."""

    def __init__(self, dataset: ReadsBatches) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitems__(self, drawn: SeededRows) -> Batch:
        with seeded(drawn.seed):
            return self.dataset.__getitems__(drawn.rows)


Choice = tuple[Record, tuple[int, ...]]
"""A photo, and which of its captions."""


class ImageDataset(Dataset[Batch]):
    """One sample a photo, with all of its captions: how a split is evaluated."""

    def __init__(self, records: Sequence[Record], read: ReadImages) -> None:
        self.records = records
        self.read = read

    def __len__(self) -> int:
        return len(self.records)

    def __getitems__(self, rows: Sequence[int]) -> Batch:
        records = [self.records[row] for row in rows]
        chosen = [(record, tuple(range(len(record.texts)))) for record in records]
        return _batch(chosen, self.read(records))


class PairDataset(Dataset[Batch]):
    """One sample a caption, with its photo: how a split is trained on."""

    def __init__(self, records: Sequence[Record], read: ReadImages) -> None:
        self.records = records
        self.read = read
        # tensors: of a list, every process would come to have its own copy
        self._counts = torch.tensor([len(record.texts) for record in records])
        self._starts = self._counts.cumsum(0) - self._counts
        self._rows = torch.arange(len(records)).repeat_interleave(self._counts)
        self._image_ids = torch.tensor([record.image_id for record in records])
        self._text_ids = torch.tensor([k for record in records for k in record.text_ids])

    def __len__(self) -> int:
        return len(self._rows)

    def __getitems__(self, pairs: Sequence[int]) -> Batch:
        rows = self._rows[pairs]
        numbers = (torch.tensor(pairs) - self._starts[rows]).tolist()
        records = [self.records[row] for row in rows.tolist()]
        image_ids = self._image_ids[rows]
        return Batch(
            images=self.read(records),
            texts=[r.texts[number] for r, number in zip(records, numbers, strict=True)],
            image_ids=image_ids,
            text_image_ids=image_ids,
            text_ids=self._text_ids[pairs],
            labels=torch.zeros(len(records), 0, dtype=torch.bool),
        )

    def draw(self, numbers: Tensor, generator: torch.Generator) -> Tensor:
        """The pairs that an epoch takes for a sampler's numbers, all below ``len``: themselves."""
        return numbers

    def text_lengths(self) -> Tensor:
        """Words of each pair's caption, ``(P,)``, as blanks part them."""
        return torch.tensor([len(c.split()) for record in self.records for c in record.texts])


class OneTextDataset(PairDataset):
    """The same pairs, of which an epoch takes one a photo: its length is the number of photos."""

    @override
    def __len__(self) -> int:
        return len(self.records)

    @override
    def draw(self, numbers: Tensor, generator: torch.Generator) -> Tensor:
        """A pair of each photo, at random: the same in whatever order, on whichever device."""
        draws = torch.randint(2**62, (len(self),), generator=generator)
        return (self._starts + draws % self._counts)[numbers]


def as_read(batch: Batch) -> Batch:
    """The batch: a dataset that reads whole batches leaves nothing to join."""
    return batch


@dataclass(frozen=True)
class Sample:
    """An image's pixels ``(3, H, W)``, with texts, where samples come one by one."""

    image: Tensor | MemberFeatures
    record: Record
    texts: tuple[int, ...]  # which of the record's captions


def collate(samples: Sequence[Sample]) -> Batch:
    """Joins samples into a :class:`~itm_lightning.types.Batch`."""
    chosen = [(sample.record, sample.texts) for sample in samples]
    return _batch(chosen, _stacked([sample.image for sample in samples]))


def _stacked(images: list[Any]) -> Tensor | MemberFeatures:
    first = images[0]
    if not isinstance(first, MemberFeatures):
        return default_collate(images)
    columns = zip(*(image.tensors() for image in images), strict=True)
    stacked = iter([default_collate(list(column)) for column in columns])
    return first.map(lambda _: next(stacked))


def _batch(chosen: Sequence[Choice], images: Tensor | Features | MemberFeatures) -> Batch:
    """Photos with the captions chosen of them, which stay strings."""
    pairs = [(record, k) for record, numbers in chosen for k in numbers]
    return Batch(
        images=images,
        texts=[record.texts[k] for record, k in pairs],
        image_ids=torch.tensor([record.image_id for record, _ in chosen], dtype=torch.int64),
        text_image_ids=torch.tensor([record.image_id for record, _ in pairs], dtype=torch.int64),
        text_ids=torch.tensor([record.text_ids[k] for record, k in pairs], dtype=torch.int64),
        labels=torch.zeros(len(chosen), 0, dtype=torch.bool),
    )
