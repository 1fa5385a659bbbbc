"""Scores of all images with all texts, block by block, by all processes together.

Images are divided into units, and each process scores its own units with all texts: it fetches the
features of its images once, prepares and keeps them. Texts stay on the process that holds them and
are sent to all processes in groups, one at a time. So a process holds its share of the images and
one group of texts, and no process holds all scores.

Scores are computed without autocast, in float32 at least.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from itm_lightning.distributed import ShardedFeatures
from itm_lightning.errors import InputError
from itm_lightning.ranking.blocks import (
    BlockSizes,
    check_scores,
    length_groups,
    ready,
    scoring_device,
    selected,
)
from itm_lightning.similarity.base import Similarity
from itm_lightning.types import AnyFeatures, Rows
from itm_lightning.utils.progress_bars import progress_bar

_SECONDS_UNTIL_BAR = 5

T = TypeVar("T")


@dataclass(frozen=True)
class Block:
    """Scores of some images with some texts.

    Attributes:
        images: which images.
        texts: ``(m,)`` int64, which texts.
        scores: ``(n, m)`` float32.
    """

    images: slice
    texts: Tensor
    scores: Tensor


@dataclass(frozen=True)
class _Texts:
    """Texts of similar length, prepared.

    Attributes:
        prepared: what the head made of them.
        numbers: ``(m,)`` int64, which texts they are.
    """

    prepared: Rows
    numbers: Tensor

    def without(self, first: int, stop: int) -> _Texts:
        """The same without those numbered from ``first`` to before ``stop``."""
        kept = ((self.numbers < first) | (self.numbers >= stop)).nonzero().squeeze(1)
        return (
            self
            if len(kept) == len(self.numbers)
            else _Texts(self.prepared[kept], self.numbers[kept])
        )


class _Scorer:
    """Prepares images and texts, and scores them.

    It works on copies of features: where in memory a row lies can change a product's last bits.

    Args:
        similarity: the head.
        device: where to score; what is prepared is moved there first.
    """

    def __init__(self, similarity: Similarity, device: torch.device) -> None:
        self._similarity, self._device = similarity, device

    def images(self, features: AnyFeatures) -> Rows:
        """Prepares images."""
        features = features[torch.arange(len(features))]
        with torch.autocast(self._device.type, enabled=False):
            return self._similarity.prepare_images(ready(features, self._device, self._similarity))

    def texts(self, features: AnyFeatures, start: int) -> list[_Texts]:
        """Prepares texts numbered from ``start``, in groups of similar length.

        So little of the work is spent on padding. Within a group shorter texts come first: a head
        need not sort them for every unit of images.
        """
        numbers = torch.arange(len(features), device=features.device)
        groups: tuple[Tensor, ...] = (numbers,)
        masks = [part.mask for part in features.parts if part.mask is not None]
        if not all(mask.all() for mask in masks):
            lengths = torch.stack([mask.sum(dim=1) for mask in masks]).amax(dim=0)
            groups = lengths.argsort(stable=True).split(length_groups(lengths))
        parts = [features[group] for group in groups]
        with torch.autocast(self._device.type, enabled=False):
            return [
                _Texts(
                    self._similarity.prepare_texts(ready(part, self._device, self._similarity)),
                    (group + start).to(self._device),
                )
                for part, group in zip(parts, groups, strict=True)
            ]

    def score(self, images: Rows, texts: _Texts) -> Tensor:
        """Scores ``(n, m)`` in float32.

        Raises:
            InputError: one is not finite, or they have another shape.
        """
        with torch.autocast(self._device.type, enabled=False):
            scores = self._similarity.score(images, texts.prepared).float()
        if scores.shape != (len(images), len(texts.numbers)):
            raise InputError(
                f"{type(self._similarity).__name__}.score gave {tuple(scores.shape)}, not "
                f"(n_images, n_texts) = {(len(images), len(texts.numbers))}"
            )
        check_scores(scores, self._similarity, images, texts.prepared)
        return scores

    def score_all(self, images: Rows, groups: list[_Texts]) -> Tensor:
        """Scores of several groups, the texts in the order of their numbers."""
        order = torch.cat([group.numbers for group in groups]).argsort()
        return torch.cat([self.score(images, group) for group in groups], dim=1)[:, order]


class BlockScorer:
    """This process's part of a gallery's scores.

    Making one is a collective, and so is iterating over its blocks, which must be done to the end.

    Args:
        similarity: the head.
        images: of ``N`` images.
        texts: of ``M`` texts, sharded over the same processes.
        sizes: of a unit of images and of a group of texts.
        text_offsets: ``(units + 1,)`` where the texts of each unit's images begin, and where the
            last of them end; the texts of a unit follow one another.
        progress: show a progress bar, on the first process, if it takes long.

    Attributes:
        device: where the scores are computed.
        result_device: where what is made of them should lie: where the features are used.
        processes: those that score together.

    Raises:
        InputError: a score is not finite on any process; raised on all of them.
    """

    def __init__(
        self,
        similarity: Similarity,
        images: ShardedFeatures,
        texts: ShardedFeatures,
        sizes: BlockSizes,
        text_offsets: Sequence[int],
        progress: bool,
    ) -> None:
        self.processes = images.processes
        self.device = scoring_device(similarity, images)
        self.result_device = images.device
        self._units = torch.arange(len(images)).split(sizes.images)
        self._units_of_process = torch.arange(len(self._units)).tensor_split(self.processes.size)
        self._groups = torch.arange(len(texts)).split(sizes.texts)
        self._text_offsets = text_offsets
        self._scorer = _Scorer(similarity, self.device)
        self._texts = selected(similarity, texts)
        self._images: dict[int, Rows] = {}
        self._fetch_images(selected(similarity, images))
        own_units = self._units_of_process[self.processes.rank]
        self._bar = progress_bar(
            total=len(own_units) * len(self._groups),
            desc="scoring",
            unit="block",
            disable=not progress or self.processes.rank != 0,
            delay=_SECONDS_UNTIL_BAR,
            leave=False,
        )

    @property
    def images_of_process(self) -> list[int]:
        """How many images each process scores; they follow one another."""
        return [sum(len(self._units[unit]) for unit in units) for units in self._units_of_process]

    def positive_blocks(self) -> Iterator[Block]:
        """Each of this process's units with its own texts; units without any are left out."""
        texts = [torch.arange(a, b) for a, b in itertools.pairwise(self._text_offsets)]
        for unit, features in self._one_unit_each(self._texts, texts):
            yield from self._together(self._positive_block(unit, features))

    def negative_blocks(self) -> Iterator[Block]:
        """All pairs that :meth:`positive_blocks` leaves out."""
        for group in self._groups:
            features = self._texts.fetch(group)
            yield from self._together(self._negative_blocks(features, int(group[0])))
        self._bar.close()

    def _fetch_images(self, images: ShardedFeatures) -> None:
        for unit, features in self._one_unit_each(images, self._units):
            for prepared in self._together(self._prepared(unit, features)):
                self._images[unit] = prepared

    def _one_unit_each(
        self, rows: ShardedFeatures, of_unit: Sequence[Tensor]
    ) -> Iterator[tuple[int, AnyFeatures]]:
        """One unit's rows for each process at a time; unit -1 where it has no more."""
        nothing = torch.arange(0)
        for units in itertools.zip_longest(*(part.tolist() for part in self._units_of_process)):
            wanted = [nothing if unit is None else of_unit[unit] for unit in units]
            unit = units[self.processes.rank]
            yield -1 if unit is None else unit, rows.take(wanted)

    def _prepared(self, unit: int, features: AnyFeatures) -> Iterator[Rows]:
        if unit >= 0:
            yield self._scorer.images(features)

    def _positive_block(self, unit: int, features: AnyFeatures) -> Iterator[Block]:
        if len(features):
            start = self._text_offsets[unit]
            groups = self._scorer.texts(features, start)
            scores = self._scorer.score_all(self._images[unit], groups)
            numbers = torch.arange(start, start + len(features), device=self.device)
            yield Block(self._slice(unit), numbers, scores)

    def _negative_blocks(self, features: AnyFeatures, start: int) -> Iterator[Block]:
        groups = self._scorer.texts(features, start)
        for unit, images in self._images.items():
            first, stop = self._text_offsets[unit], self._text_offsets[unit + 1]
            has_positives = first < start + len(features) and stop > start
            for group in groups:
                part = group.without(first, stop) if has_positives else group
                if len(part.numbers):
                    scores = self._scorer.score(images, part)
                    yield Block(self._slice(unit), part.numbers, scores)
            self._bar.update()

    def _slice(self, unit: int) -> slice:
        rows = self._units[unit]
        return slice(int(rows[0]), int(rows[-1]) + 1)

    def _together(self, made: Iterable[T]) -> Iterator[T]:
        """What is made, until that fails on any process: then all of them raise."""
        error = None
        try:
            yield from made
        except Exception as failure:
            error = failure
        self.processes.raise_together(error)
