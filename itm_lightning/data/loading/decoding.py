"""Reading the images of a batch: each is decoded and written to its row at once."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from itm_lightning.data.batch_memory import empty_tensor
from itm_lightning.data.source import ImageSource, Record
from itm_lightning.encoders.transforms import ToPixels
from itm_lightning.types import Features, MemberFeatures
from itm_lightning.utils.images import plain_jpeg, plain_jpeg_size

Transform = Callable[[Image.Image], Tensor]
ReadImages = Callable[[Sequence[Record]], Tensor | Features | MemberFeatures]
"""Reads pixels ``(B, 3, H, W)`` or tokens ``(B, L, D)`` of ``B`` records."""


class MemberTransforms:
    """Transforms a decoded image for every member of an ensemble; equal transforms run once.

    Args:
        transforms: one a member; those that pickle to the same bytes are equal.

    Attributes:
        distinct: the transforms that differ.
    """

    def __init__(self, transforms: Sequence[Transform]) -> None:
        pickled = [pickle.dumps(transform) for transform in transforms]
        first = dict.fromkeys(pickled)
        self.distinct = [transforms[pickled.index(key)] for key in first]
        self._of_member = [list(first).index(key) for key in pickled]

    def __call__(self, image: Image.Image) -> MemberFeatures:
        """The pixels ``(3, H, W)`` for each member."""
        return self.by_member([transform(image) for transform in self.distinct])

    def by_member(self, pixels: Sequence[Tensor]) -> MemberFeatures:
        """What each member reads, of what each distinct transform makes."""
        return MemberFeatures(tuple(pixels[number] for number in self._of_member))


@dataclass(frozen=True)
class DecodedImages:
    """Decodes the images of records and transforms them."""

    source: ImageSource
    transform: Transform | MemberTransforms

    def __call__(self, records: Sequence[Record]) -> Tensor | MemberFeatures:
        """Pixels ``(B, 3, H, W)`` uint8, or those for each member, with channels last in memory."""
        transform = self.transform
        transforms = transform.distinct if isinstance(transform, MemberTransforms) else [transform]
        batches: list[Tensor] = []
        ready = _is_of_files(self.source)
        for row, record in enumerate(records):
            stored = self._stored(record, transforms) if ready else None
            ready = stored is not None  # as a rule, all photos of a dataset are, or none
            image = self.source.image(record) if stored is None else None
            for number, each in enumerate(transforms):
                pixels = stored if image is None else _channels_last(each, image)
                if row == 0:
                    first = np.asarray(pixels)
                    batches.append(empty_tensor((len(records), *first.shape), first.dtype))
                batches[number].numpy()[row] = pixels  # at once: it is still in the cache
        batches = [batch.permute(0, 3, 1, 2) for batch in batches]
        if isinstance(transform, MemberTransforms):
            return transform.by_member(batches)
        return batches[0]

    def _stored(self, record: Record, transforms: Sequence[Transform]) -> NDArray[np.uint8] | None:
        """The pixels ``(H, W, 3)`` of a JPEG that all transforms leave as it is; of others none."""
        data = self.source.encoded(record)
        size = data and plain_jpeg_size(data)
        if not data or not size:
            return None
        keeping = (isinstance(each, ToPixels) and each.keeps(size) for each in transforms)
        return plain_jpeg(data) if all(keeping) else None


def _is_of_files(source: ImageSource) -> bool:
    """Whether an image is what its file has: a subclass may do more in an ``image`` of its own."""
    image, encoded = (
        next(each for each in type(source).__mro__ if name in vars(each))
        for name in ("image", "encoded")
    )
    return image is encoded


def _channels_last(transform: Transform, image: Image.Image) -> Image.Image | NDArray[Any]:
    """The pixels ``(H, W, 3)``; as a PIL image where they need no copy before they are stored."""
    if isinstance(transform, ToPixels):
        return transform.resized(image)
    return transform(image).permute(1, 2, 0).numpy()
