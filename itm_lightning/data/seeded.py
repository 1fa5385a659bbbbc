"""Reading that draws the same random numbers whoever reads, and whatever was read before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch.utils.data import Dataset

from itm_lightning.seeds import seeded
from itm_lightning.types import Batch


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
