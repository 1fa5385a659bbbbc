"""Reading the photos of a batch, each straight to its place in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from PIL import Image
from torch import Tensor

from itm_lightning.data.source import ImageSource, Record, empty
from itm_lightning.types import Features

ReadImages = Callable[[Sequence[Record]], Tensor | Features]
"""Pixels ``(B, 3, H, W)`` or tokens ``(B, L, D)`` of ``B`` records."""


@dataclass(frozen=True)
class DecodedImages:
    """Decodes the photos of records and transforms them."""

    source: ImageSource
    transform: Callable[[Image.Image], Tensor]

    def __call__(self, records: Sequence[Record]) -> Tensor:
        """Pixels ``(B, 3, H, W)`` uint8; in memory, the channels are last."""
        pixels: Tensor | None = None
        for row, record in enumerate(records):
            image = self.transform(self.source.image(record)).permute(1, 2, 0)
            if pixels is None:
                pixels = empty((len(records), *image.shape), image.numpy().dtype)
            pixels[row] = image  # while the processor has it in its cache
        assert pixels is not None
        return pixels.permute(0, 3, 1, 2)
