"""Scenes: a dataset whose images and captions are generated."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from random import Random

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from typing_extensions import override

from itm_lightning.data.source import ImageSource, Mention, Record
from itm_lightning.data.sources.scenes.grammar import TEXTS, Template, draw_templates
from itm_lightning.data.sources.scenes.render import render
from itm_lightning.data.sources.scenes.world import (
    CLASS_NAMES,
    Scene,
    draw_minimal_pair,
    draw_scene,
)
from itm_lightning.errors import InputError, Natural, Seed, Share, Size
from itm_lightning.registry import register

KEPT = 2**14  # images; 200 MB at 64 pixels
SMALLEST = 32  # pixels; in smaller images, small shapes cannot be distinguished


@register("source")
class Scenes(ImageSource):
    """Images of two to four coloured shapes, each with five captions: no file, no network.

    The same arguments give the same captions and pixels on every machine. Some of a split's images
    come in minimal pairs (after Winoground, Thrush et al. 2022): two things of one image swap
    places, colours or sizes in the other, and the *k*-th captions of the two have the same words in
    another order, each true of its own image only. Labels are the colours and shapes that occur.

    Labels are the colours and shapes that occur in an image: :attr:`class_names`.

    Args:
        seed: of the dataset; another seed draws other images.
        train: the number of images in the split ``"train"``.
        val: the number of images in the split ``"val"``.
        test: the number of images in the split ``"test"``.
        pairs: share of each split's images that come in minimal pairs, 0 to 1; they are the first
            of the split, and the images of a pair follow each other.
        size: height and width of the images in pixels, at least 32.

    Raises:
        InputError: a count is negative, ``pairs`` is not a share, or ``size`` is too small.
    """

    def __init__(
        self,
        seed: Seed = 0,
        train: Natural = 3000,
        val: Natural = 500,
        test: Natural = 500,
        pairs: Share = 0.2,
        size: Size = 64,
    ) -> None:
        self.seed, self.pairs, self.size = seed, pairs, size
        self.counts = {"train": train, "val": val, "test": test}
        if size < SMALLEST:
            raise InputError(f"Scenes: size is {size}; give at least {SMALLEST} pixels")

    @property
    @override
    def class_names(self) -> tuple[str, ...]:
        """The colours and the shapes."""
        return CLASS_NAMES

    def records(self, split: str) -> Sequence[Record]:
        """The split's records, which are made at the first call.

        Raises:
            InputError: there is no such split.
        """
        return _records(*self._split(split))

    @override
    def verify(self, record: Record) -> None:
        """Checks nothing: an image is rendered when it is read, and no file can be missing."""

    def image(self, record: Record) -> Image.Image:
        """The record's image; the latest stay in memory, as training reads one for every caption.

        Raises:
            InputError: the record is of another dataset.
        """
        return Image.fromarray(_pixels(*self._found(record)))

    @override
    def mentions(self, record: Record) -> tuple[tuple[Mention, ...], ...]:
        """Of each text, the words of size, colour, shape, relation and count, with their boxes.

        Raises:
            InputError: the record is of another dataset.
        """
        *key, number = self._found(record)
        templates = _templates(*key)[number]
        return tuple(tuple(template.mentions(self.scene(record))) for template in templates)

    def scene(self, record: Record) -> Scene:
        """The scene of a record: of what looks, and where, its things are.

        :func:`~itm_lightning.data.sources.scenes.parser.parse` says whether a text is true of it.

        Raises:
            InputError: the record is of another dataset.
        """
        *key, number = self._found(record)
        return _scenes(*key)[number]

    def _found(self, record: Record) -> tuple[int, str, int, int, int, int]:
        """What determines the record's split, and the number of its scene."""
        split, _, number = record.location.partition("/")
        key = self._split(split)
        if not number.isdecimal() or int(number) >= len(_scenes(*key)):
            raise InputError(f"Scenes: no photo {record.location!r}; take a record of records()")
        return *key, int(number)

    def _split(self, split: str) -> tuple[int, str, int, int, int]:
        """What determines a split: seed, name, number of images, how many are in pairs, size."""
        if split not in self.counts:
            raise InputError(f"Scenes: no split {split!r}; there are {', '.join(self.counts)}")
        count = self.counts[split]
        return self.seed, split, count, 2 * int(count * self.pairs / 2), self.size


@functools.lru_cache(maxsize=16)
def _scenes(seed: int, split: str, count: int, paired: int, size: int) -> tuple[Scene, ...]:
    scenes: list[Scene] = []
    while len(scenes) < count:
        rng, in_pair = Random(f"{seed}/{split}/{len(scenes)}"), len(scenes) < paired
        scenes.append(draw_scene(rng, size, swappable=in_pair))
        if in_pair:
            scenes.append(draw_minimal_pair(rng, scenes[-1]))
    return tuple(scenes)


@functools.lru_cache(maxsize=KEPT)
def _pixels(
    seed: int, split: str, count: int, paired: int, size: int, number: int
) -> NDArray[np.uint8]:
    return render(_scenes(seed, split, count, paired, size)[number])


@functools.lru_cache(maxsize=16)
def _templates(
    seed: int, split: str, count: int, paired: int, size: int
) -> tuple[tuple[Template, ...], ...]:
    drawn: list[tuple[Template, ...]] = []
    for number, scene in enumerate(_scenes(seed, split, count, paired, size)):
        if number >= paired or number % 2 == 0:  # the second of a pair has the first's templates
            rng = Random(f"{seed}/{split}/{number}/captions")
            templates = draw_templates(rng, scene, paired=number < paired)
        drawn.append(templates)
    return tuple(drawn)


@functools.lru_cache(maxsize=16)
def _records(seed: int, split: str, count: int, paired: int, size: int) -> tuple[Record, ...]:
    key = seed, split, count, paired, size
    return tuple(
        Record(
            image_id=number,
            texts=tuple(template.fill(scene.looks) for template in templates),
            text_ids=tuple(range(number * TEXTS, (number + 1) * TEXTS)),
            location=f"{split}/{number}",
            labels=scene.labels(),
            boxes=scene.boxes(),
            minimal_pair=number ^ 1 if number < paired else None,  # 0 and 1, 2 and 3, …
        )
        for number, (scene, templates) in enumerate(
            zip(_scenes(*key), _templates(*key), strict=True)
        )
    )
