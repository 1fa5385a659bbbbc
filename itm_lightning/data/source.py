"""Records and sources: what a dataset is to the rest of the package."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import get_worker_info
from typing_extensions import override

from itm_lightning.part import Part
from itm_lightning.types import Features
from itm_lightning.utils.internals import shared_storage


def empty(shape: tuple[int, ...], dtype: np.dtype) -> Tensor:
    """A tensor to be filled.

    In a loader's process it is memory that the trainer's process can see, as ``default_collate``
    takes too: what lies elsewhere is copied there to be sent.
    """
    if get_worker_info() is None:
        # numpy's, because it asks for huge pages: new memory costs more than filling it
        return torch.from_numpy(np.empty(shape, dtype))
    storage = shared_storage(math.prod(shape) * dtype.itemsize)
    return torch.from_numpy(np.empty(0, dtype)).set_(storage, 0, shape)  # type: ignore[call-overload]


def padded(regions: Sequence[Tensor]) -> Features:
    """Tokens ``(B, L, D)``, and their mask, of regions ``(L, D)`` that may differ in number."""
    lengths = [len(one) for one in regions]
    length, dim = max(lengths), regions[0].shape[1]
    tokens = empty((len(regions), length, dim), regions[0].numpy().dtype)
    for row, one in zip(tokens, regions, strict=True):
        row[: len(one)] = one
        row[len(one) :] = 0
    mask = torch.arange(length) < torch.tensor(lengths)[:, None]
    return Features(tokens, mask, pooled=None)


@dataclass(frozen=True)
class Box:
    """Where a named thing is: pixel edges in the photo as the source gives it, origin top left."""

    name: str
    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True)
class Record:
    """One photo and its captions, without the pixels.

    Attributes:
        image_id: unique within the split.
        texts: the photo's captions, raw.
        text_ids: one id a caption, unique within the split.
        location: where the source finds the pixels: a file name, a row, a scene's number.
        labels: names of the classes that occur in the photo.
        boxes: the photo's objects, where they are known.
        minimal_pair: ``image_id`` of the photo that forms a minimal pair with this one.
    """

    image_id: int
    texts: tuple[str, ...]
    text_ids: tuple[int, ...]
    location: str
    labels: tuple[str, ...] = ()
    boxes: tuple[Box, ...] = field(default=())
    minimal_pair: int | None = None


class Source(Part, ABC):
    """A dataset: records by split.

    It is a :class:`ImageSource` or a :class:`RegionSource`, by what it has of each record.
    """

    @abstractmethod
    def records(self, split: str) -> Sequence[Record]:
        """The records of ``"train"``, ``"val"`` or ``"test"``; empty where there is no such split.

        Raises:
            InputError: the dataset's files are missing or malformed.
        """

    @abstractmethod
    def verify(self, record: Record) -> None:
        """Checks before any long work that what belongs to the record is there and can be read.

        Raises:
            InputError: it is not; the message names it.
        """


class ImageSource(Source):
    """A dataset of photos."""

    @abstractmethod
    def image(self, record: Record) -> Image.Image:
        """The record's photo, RGB.

        Raises:
            InputError: the photo is missing or does not decode; the message names it.
        """

    @override
    def verify(self, record: Record) -> None:
        """Checks that the photo decodes; overridden where there is a cheaper way than decoding."""
        self.image(record)


class RegionSource(Source):
    """A dataset whose photos an encoder has seen before: it has their regions, not their pixels."""

    @abstractmethod
    def regions(self, record: Record) -> Tensor:
        """Regions ``(L, D)`` float of the record's photo; ``L`` may differ between photos."""

    def batch(self, records: Sequence[Record]) -> Features:
        """Regions of several photos, padded; overridden where they are read faster together."""
        return padded([self.regions(record) for record in records])

    @property
    def made_by(self) -> dict[str, Any] | None:
        """Fingerprint of the image encoder that made the regions; ``None`` where nobody knows."""
        return None
