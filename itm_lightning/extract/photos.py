"""The photos an extraction goes through."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from itm_lightning.data import PhotoSource, Record


@dataclass(frozen=True)
class Photos(Dataset[Tensor]):
    """Pixels ``(3, H, W)`` uint8 of the photos of a split, in their order."""

    source: PhotoSource
    records: Sequence[Record]
    transform: Callable[[Image.Image], Tensor]

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Tensor:
        return self.transform(self.source.photo(self.records[index]))

    def since(self, start: int) -> Photos:
        """Those from number ``start`` on."""
        return replace(self, records=self.records[start:])
