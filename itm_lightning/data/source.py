"""Records and sources: what the rest of the package knows of a dataset."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from typing_extensions import override

from itm_lightning.data.batch_memory import pad_regions
from itm_lightning.part import Part
from itm_lightning.types import Features

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Box:
    """A named object's place: edges in pixels of the source's image, the origin at its top left."""

    name: str
    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True)
class Mention:
    """A word of a text that speaks of objects whose places are known.

    Attributes:
        start: the word's first character in the raw text.
        end: the character after its last.
        word_class: what kind of word it is, by the source: ``"shape"``, ``"colour"``, ….
        boxes: the objects: one, or several where it relates or counts them.
    """

    start: int
    end: int
    word_class: str
    boxes: tuple[Box, ...]


@dataclass(frozen=True)
class Record:
    """One image and its texts, without the pixels.

    Attributes:
        image_id: unique within the split.
        texts: the image's raw texts; none for a distractor, an image that evaluation ranks
            together with the others and training leaves out.
        text_ids: one id a text, unique within the split.
        location: where the source finds the image: a file name, a row, a scene's number.
        labels: names of the classes that occur in the image, each among the source's
            :attr:`Source.class_names`.
        boxes: the objects in the image, where the source knows them.
        minimal_pair: ``image_id`` of the image that forms a minimal pair with this one.
    """

    image_id: int
    texts: tuple[str, ...]
    text_ids: tuple[int, ...]
    location: str
    labels: tuple[str, ...] = ()
    boxes: tuple[Box, ...] = field(default=())
    minimal_pair: int | None = None


def texts_by_id(records: Iterable[Record]) -> dict[int, str]:
    """Every text of the records, by its id."""
    return {
        text_id: text
        for record in records
        for text_id, text in zip(record.text_ids, record.texts, strict=True)
    }


Choice = tuple[Record, tuple[int, ...]]
"""An image's record, and the numbers of the texts that are chosen of it."""


def raw_texts(chosen: Sequence[Choice]) -> list[str]:
    """The texts that are chosen, in order."""
    return [record.texts[number] for record, numbers in chosen for number in numbers]


class Source(Part, ABC):
    """A dataset: records by split.

    Every source is an :class:`ImageSource`, which has images, or a :class:`RegionSource`, which
    has only the regions that an encoder made of them; a :class:`VectorSource` has vectors of
    images and texts.
    """

    @abstractmethod
    def records(self, split: str) -> Sequence[Record]:
        """The records of ``"train"``, ``"val"`` or ``"test"``; empty where there is no such split.

        Raises:
            InputError: the dataset's files are missing or malformed.
        """

    @abstractmethod
    def verify(self, record: Record) -> None:
        """Checks, before any long work, that the record's image or regions can be read.

        Raises:
            InputError: they cannot; the message names them.
        """

    def upright(self, record: Record) -> Record:
        """The record with its boxes where they are in :meth:`ImageSource.image`.

        A source overrides this where boxes are of the pixels in a file, which may be turned.
        """
        return record

    def photo_key(self, record: Record) -> Hashable | None:
        """What two records have in common if they may be of one photo; ``None`` if it is unknown.

        It tells whether a photo is in two splits.
        """
        return None

    @abstractmethod
    def are_same(self, first: Record, second: Record) -> bool:
        """Whether two records that have :meth:`photo_key` in common are of one photo indeed."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """All classes that records may have as labels, in a fixed order; empty without classes."""
        return ()


class ImageSource(Source):
    """A dataset of images."""

    @abstractmethod
    def image(self, record: Record) -> Image.Image:
        """The record's image, RGB.

        Raises:
            InputError: the image is missing or does not decode; the message names it.
        """

    def encoded(self, record: Record) -> bytes | None:
        """The bytes of the record's image file; ``None`` where there is none, or none at hand.

        Raises:
            InputError: the file is missing; the message names it.
        """
        return None

    @override
    def are_same(self, first: Record, second: Record) -> bool:
        return self.image(first).tobytes() == self.image(second).tobytes()

    def mentions(self, record: Record) -> tuple[tuple[Mention, ...], ...]:
        """Of each of the record's texts, the words whose objects' places the source knows."""
        return ((),) * len(record.texts)

    @override
    def verify(self, record: Record) -> None:
        """Decodes the image; a subclass overrides this where there is a cheaper check."""
        self.image(record)


class RegionSource(Source):
    """A dataset that has, of every image, the regions that an encoder made of it."""

    @abstractmethod
    def regions(self, record: Record) -> Tensor:
        """Regions ``(L, D)`` float of the record's image; ``L`` may differ between images."""

    @override
    def are_same(self, first: Record, second: Record) -> bool:
        return torch.equal(self.regions(first), self.regions(second))

    def batch(self, records: Sequence[Record]) -> Features:
        """Regions of several images, padded; overridden where reading them together is faster."""
        return pad_regions([self.regions(record) for record in records])

    def region_boxes(self, record: Record) -> Tensor | None:
        """Boxes ``(L, 4)`` of the regions, in the source's units; ``None`` where it has none."""
        return None

    @property
    def made_by(self) -> dict[str, Any] | None:
        """Fingerprint of the image encoder that made the regions; ``None`` where it is unknown."""
        return None


class VectorSource(RegionSource):
    """A dataset that has a vector for each image and each text, and neither images nor words.

    A record's texts are descriptions for people to read.
    """

    @abstractmethod
    def image_vectors(self, records: Sequence[Record]) -> Tensor:
        """Vectors ``(N, D)`` float32 of the images of ``N`` records."""

    @abstractmethod
    def text_vectors(self, chosen: Sequence[Choice]) -> Tensor:
        """Vectors ``(T, E)`` float32 of the ``T`` texts that are chosen, in order."""

    @override
    def regions(self, record: Record) -> Tensor:
        return self.image_vectors([record])

    @override
    def batch(self, records: Sequence[Record]) -> Features:
        return Features.from_tokens(self.image_vectors(records).unsqueeze(1))

    def read_texts(self, chosen: Sequence[Choice]) -> Features:
        """What :class:`~itm_lightning.encoders.TextVectors` reads of the texts that are chosen."""
        return Features.from_pooled(self.text_vectors(chosen))
