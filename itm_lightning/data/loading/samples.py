"""Datasets of records: which images, texts and labels make a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate
from typing_extensions import override

from itm_lightning.data.loading.decoding import ReadImages
from itm_lightning.data.source import Choice, Record, raw_texts
from itm_lightning.types import Batch, Features, MemberFeatures
from itm_lightning.utils.seeds import seeded


@dataclass(frozen=True)
class SeededRows:
    """The rows of a dataset that make a batch.

    Attributes:
        rows: their numbers.
        seed: for the random numbers that are drawn while they are read, as by augmentation.
    """

    rows: list[int]
    seed: int


class ReadsBatches(Protocol):
    """A dataset that reads whole batches."""

    def __len__(self) -> int: ...

    def __getitems__(self, rows: list[int]) -> Batch: ...


class SeededDataset(Dataset[Batch]):
    """Reads :class:`SeededRows` from a dataset that reads rows by their numbers."""

    def __init__(self, dataset: ReadsBatches) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitems__(self, drawn: SeededRows) -> Batch:
        with seeded(drawn.seed):
            return self.dataset.__getitems__(drawn.rows)


ReadTexts = Callable[[Sequence[Choice]], list[str] | Features]
"""Reads the texts that are chosen, in order."""


def multi_hot(records: Sequence[Record], class_names: Sequence[str]) -> Tensor:
    """Labels ``(N, C)`` bool of ``N`` records: which of ``C`` classes each image has."""
    labels = torch.zeros(len(records), len(class_names), dtype=torch.bool)
    column = {name: number for number, name in enumerate(class_names)}
    if column:
        for row, record in enumerate(records):
            labels[row, [column[name] for name in record.labels]] = True
    return labels


class ImageDataset(Dataset[Batch]):
    """One sample an image, with all of its texts: how a split is evaluated.

    Args:
        records: of the images.
        read: reads the images of records.
        class_names: the columns of the batches' labels.
        read_texts: reads texts of records.
    """

    def __init__(
        self,
        records: Sequence[Record],
        read: ReadImages,
        class_names: Sequence[str] = (),
        read_texts: ReadTexts = raw_texts,
    ) -> None:
        self.records = records
        self.read = read
        self.class_names = class_names
        self.read_texts = read_texts

    def __len__(self) -> int:
        return len(self.records)

    def __getitems__(self, rows: Sequence[int]) -> Batch:
        records = [self.records[row] for row in rows]
        chosen = [(record, tuple(range(len(record.texts)))) for record in records]
        return _batch(chosen, self.read(records), self.class_names, self.read_texts)


class PairDataset(Dataset[Batch]):
    """One sample a text, with its image: how a split is trained on; arguments as above."""

    def __init__(
        self,
        records: Sequence[Record],
        read: ReadImages,
        class_names: Sequence[str] = (),
        read_texts: ReadTexts = raw_texts,
    ) -> None:
        self.records = records
        self.read = read
        self.read_texts = read_texts
        # tensors, which processes share: of a list, each would end up with a copy of its own
        self._labels = multi_hot(records, class_names)
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
            texts=self.read_texts([(r, (k,)) for r, k in zip(records, numbers, strict=True)]),
            image_ids=image_ids,
            text_image_ids=image_ids,
            text_ids=self._text_ids[pairs],
            labels=self._labels[rows],
        )

    def draw(self, numbers: Tensor, generator: torch.Generator) -> Tensor:
        """The pairs that an epoch takes for a sampler's numbers below ``len``: the same numbers."""
        return numbers

    def text_lengths(self) -> Tensor:
        """The number of words, separated by blanks, in each pair's text: ``(P,)``."""
        return torch.tensor([len(c.split()) for record in self.records for c in record.texts])


class OneTextDataset(PairDataset):
    """The same pairs; an epoch takes one an image, so that the length is the number of images."""

    @override
    def __len__(self) -> int:
        return len(self.records)

    @override
    def draw(self, numbers: Tensor, generator: torch.Generator) -> Tensor:
        """A random pair of each image, which does not depend on order or number of processes."""
        draws = torch.randint(2**62, (len(self),), generator=generator)
        return (self._starts + draws % self._counts)[numbers]


def as_read(batch: Batch) -> Batch:
    """The batch unchanged: the collate function of datasets that read whole batches."""
    return batch


@dataclass(frozen=True)
class Sample:
    """An image's pixels ``(3, H, W)`` and some of its texts, for datasets that read one by one."""

    image: Tensor | MemberFeatures
    record: Record
    texts: tuple[int, ...]  # numbers of the record's texts


@dataclass(frozen=True)
class Collate:
    """Joins samples into a :class:`~itm_lightning.types.Batch`.

    Attributes:
        class_names: the columns of its labels.
    """

    class_names: Sequence[str] = ()

    def __call__(self, samples: Sequence[Sample]) -> Batch:
        """The batch of these samples."""
        chosen = [(sample.record, sample.texts) for sample in samples]
        return _batch(chosen, _stacked([sample.image for sample in samples]), self.class_names)


def _stacked(images: list[Any]) -> Tensor | MemberFeatures:
    first = images[0]
    if not isinstance(first, MemberFeatures):
        return default_collate(images)
    columns = zip(*(image.tensors() for image in images), strict=True)
    stacked = iter([default_collate(list(column)) for column in columns])
    return first.map(lambda _: next(stacked))


def _batch(
    chosen: Sequence[Choice],
    images: Tensor | Features | MemberFeatures,
    class_names: Sequence[str],
    read_texts: ReadTexts = raw_texts,
) -> Batch:
    """Images with the texts that are chosen of them."""
    pairs = [(record, k) for record, numbers in chosen for k in numbers]
    return Batch(
        images=images,
        texts=read_texts(chosen),
        image_ids=torch.tensor([record.image_id for record, _ in chosen], dtype=torch.int64),
        text_image_ids=torch.tensor([record.image_id for record, _ in pairs], dtype=torch.int64),
        text_ids=torch.tensor([record.text_ids[k] for record, k in pairs], dtype=torch.int64),
        labels=multi_hot([record for record, _ in chosen], class_names),
    )
