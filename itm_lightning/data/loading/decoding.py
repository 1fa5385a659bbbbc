"""Reading the images of a batch: each is decoded and written to its row at once."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from PIL import Image
from torch import Tensor

from itm_lightning.data.batch_memory import empty_tensor
from itm_lightning.data.source import ImageSource, Record
from itm_lightning.types import Features, MemberFeatures

Transform = Callable[[Image.Image], Tensor]
ReadImages = Callable[[Sequence[Record]], Tensor | Features | MemberFeatures]
"""Reads pixels ``(B, 3, H, W)`` or tokens ``(B, L, D)`` of ``B`` records."""


class MemberTransforms:
    """Transforms a decoded image for every member of an ensemble; equal transforms run once.

    Args:
        transforms: one a member; those that pickle to the same bytes are equal.
    """

    def __init__(self, transforms: Sequence[Transform]) -> None:
        pickled = [pickle.dumps(transform) for transform in transforms]
        self._distinct = dict(zip(pickled, transforms, strict=True))
        self._of_member = pickled

    def __call__(self, image: Image.Image) -> MemberFeatures:
        """The pixels ``(3, H, W)`` for each member."""
        pixels = {key: transform(image) for key, transform in self._distinct.items()}
        return MemberFeatures(tuple(pixels[key] for key in self._of_member))


@dataclass(frozen=True)
class DecodedImages:
    """Decodes the images of records and transforms them."""

    source: ImageSource
    transform: Transform | MemberTransforms

    def __call__(self, records: Sequence[Record]) -> Tensor | MemberFeatures:
        """Pixels ``(B, 3, H, W)`` uint8, or those for each member, with channels last in memory."""
        batch: MemberFeatures | None = None
        for row, record in enumerate(records):
            image = self.transform(self.source.image(record))
            pixels = image if isinstance(image, MemberFeatures) else MemberFeatures((image,))
            if batch is None:
                batch = pixels.map(partial(_rows_of, len(records)))
            for rows, values in zip(batch.tensors(), pixels.tensors(), strict=True):
                rows[row] = values  # while it is still in the processor's cache
        assert batch is not None
        return batch if isinstance(self.transform, MemberTransforms) else batch.parts[0]


def _rows_of(count: int, image: Tensor) -> Tensor:
    """A tensor ``(count, 3, H, W)`` to be filled with images like this one, ``(3, H, W)``."""
    last = image.permute(1, 2, 0)
    return empty_tensor((count, *last.shape), last.numpy().dtype).permute(0, 3, 1, 2)
