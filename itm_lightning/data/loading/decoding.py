"""Reading the photos of a batch, each straight to its place in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from PIL import Image
from torch import Tensor

from itm_lightning.data.source import PhotoSource, Record, empty
from itm_lightning.types import Features

ReadPhotos = Callable[[Sequence[Record]], Tensor | Features]
"""Pixels ``(B, 3, H, W)`` or tokens ``(B, L, D)`` of ``B`` records."""


@dataclass(frozen=True)
class DecodedPhotos:
    """Decodes the photos of records and transforms them."""

    source: PhotoSource
    transform: Callable[[Image.Image], Tensor]

    def __call__(self, records: Sequence[Record]) -> Tensor:
        """Pixels ``(B, 3, H, W)`` uint8; in memory, the channels are last."""
        pixels: Tensor | None = None
        for row, record in enumerate(records):
            photo = self.transform(self.source.photo(record)).permute(1, 2, 0)
            if pixels is None:
                pixels = empty((len(records), *photo.shape), photo.numpy().dtype)
            pixels[row] = photo  # while the processor has it in its cache
        assert pixels is not None
        return pixels.permute(0, 3, 1, 2)
