"""Scores of a block of photos and captions, in full precision.

Scores of all photos with all captions, block by block, by all processes together.

Photos are dealt out in units, and each process scores its own against everything: it fetches
their features once, prepares and keeps them. Captions stay where they are and pass by in groups,
one at a time. So a process holds its share of the photos and one group of captions, and nobody
holds the scores.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor
from tqdm import tqdm

from itm_lightning.distributed import ShardedFeatures
from itm_lightning.errors import InputError
from itm_lightning.similarity.base import Similarity
from itm_lightning.types import Features, Rows, at_least_float32

LENGTH_GROUPS = 8  # with captions of 8 to 17 words, about 5 % of what is scored is padding
_FEWEST_TEXTS = 8  # of a group: fewer cost more in calls than they save in padding


@dataclass(frozen=True)
class Texts:
    """Captions of similar length, prepared.

    Attributes:
        prepared: what the head made of them.
        numbers: ``(m,)`` int64, which captions they are, ascending.
    """

    prepared: Rows
    numbers: Tensor

    def without(self, first: int, stop: int) -> Iterator[Texts]:
        """The same without those numbered from ``first`` to before ``stop``, in up to two parts.

        Parts of what there is, not copies.
        """
        left = int((self.numbers < first).sum())
        right = int((self.numbers < stop).sum())
        for rows in (slice(None, left), slice(right, None)):
            if len(self.numbers[rows]):
                yield Texts(self.prepared[rows], self.numbers[rows])


class Scorer:
    """Prepares photos and captions, and scores them: without autocast, in float32 at least.

    It works on copies of features: where in memory a row lies can change a product's last bits.

    Args:
        similarity: the head.
        device: where to score; what is prepared is moved there first.
    """

    def __init__(self, similarity: Similarity, device: torch.device) -> None:
        self._similarity, self._device = similarity, device

    def images(self, features: Features) -> Rows:
        """Prepares photos."""
        features = features[torch.arange(len(features))]
        with torch.autocast(self._device.type, enabled=False):
            return self._similarity.prepare_images(self._ready(features))

    def texts(self, features: Features, start: int) -> list[Texts]:
        """Prepares captions numbered from ``start``, in groups of similar length.

        So little of the work is spent on padding.
        """
        numbers = torch.arange(len(features), device=features.device)
        groups: tuple[Tensor, ...] = (numbers,)
        if features.mask is not None and not features.mask.all():
            order = features.mask.sum(dim=1).argsort(stable=True)
            n_groups = min(LENGTH_GROUPS, -(-len(order) // _FEWEST_TEXTS))
            groups = tuple(group.sort().values for group in order.tensor_split(n_groups))
        parts = [features[group] for group in groups]
        with torch.autocast(self._device.type, enabled=False):
            return [
                Texts(
                    self._similarity.prepare_texts(self._ready(part)),
                    (group + start).to(self._device),
                )
                for part, group in zip(parts, groups, strict=True)
            ]

    def score(self, images: Rows, texts: Texts) -> Tensor:
        """Scores ``(n, m)`` in float32.

        Raises:
            InputError: one is NaN.
        """
        with torch.autocast(self._device.type, enabled=False):
            scores = self._similarity.score(images, texts.prepared).float()
        # one pass, where isnan().any() takes two: a sum is NaN where an element is, or where
        # infinities of both signs meet
        if scores.sum().isnan() and scores.isnan().any():
            raise InputError(
                f"{type(self._similarity).__name__} gave a NaN score: training has diverged, or "
                "the features hold NaN"
            )
        return scores

    def score_all(self, images: Rows, groups: list[Texts]) -> Tensor:
        """Scores of several groups, their captions in the order of their numbers."""
        if len(groups) == 1:
            return self.score(images, groups[0])
        order = torch.cat([group.numbers for group in groups]).argsort()
        return torch.cat([self.score(images, group) for group in groups], dim=1)[:, order]

    def _ready(self, features: Features) -> Features:
        """Without needless padding, where scores are made."""
        features = features.trim().to(self._device)
        tokens, pooled = (
            None if values is None else at_least_float32(values)
            for values in (features.tokens, features.pooled)
        )
        return Features(tokens, features.mask, pooled)


def scoring_device(similarity: Similarity, images: ShardedFeatures) -> torch.device:
    """The head's; where it has no weights, that of the features."""
    weights = next(itertools.chain(similarity.parameters(), similarity.buffers()), None)
    return images.device if weights is None else weights.device


_SECONDS_UNTIL_BAR = 5

T = TypeVar("T")


@dataclass(frozen=True)
class Block:
    """Scores of some photos with some captions.

    Attributes:
        images: which photos.
        texts: ``(m,)`` int64, which captions, ascending.
        scores: ``(n, m)`` float32.
    """

    images: slice
    texts: Tensor
    scores: Tensor


class BlockScorer:
    """This process's part of a gallery's scores.

    Making one is a collective, and so is going through its blocks, which must be done to the end.

    Args:
        similarity: the head.
        images: of ``N`` photos.
        texts: of ``M`` captions, spread over the same processes.
        images_per_unit: how many make a unit.
        texts_per_group: how many make a group.
        own: ``(units + 1,)`` where the captions that belong to each unit's photos begin, and where
            the last of them end; a unit's captions follow one another.
        progress: show a progress bar, on the first process, if it takes long.

    Raises:
        InputError: a score is NaN on any process; raised on all of them.
    """

    def __init__(
        self,
        similarity: Similarity,
        images: ShardedFeatures,
        texts: ShardedFeatures,
        images_per_unit: int,
        texts_per_group: int,
        own: Sequence[int],
        progress: bool,
    ) -> None:
        self._processes = images.processes
        self._units = torch.arange(len(images)).split(images_per_unit)
        self._shares = torch.arange(len(self._units)).tensor_split(self._processes.size)
        self._groups = torch.arange(len(texts)).split(texts_per_group)
        self._own = own
        self.device = scoring_device(similarity, images)
        self._scorer = Scorer(similarity, self.device)
        self._texts = texts.map(similarity.select)
        mine = self._shares[self._processes.rank].tolist()
        self._images: dict[int, Rows] = {}
        self._fetch_images(images.map(similarity.select))
        self._bar = tqdm(
            total=len(mine) * len(self._groups),
            desc="scoring",
            unit="block",
            disable=not progress or self._processes.rank != 0,
            delay=_SECONDS_UNTIL_BAR,
            leave=False,
        )

    @property
    def images_of_each(self) -> list[int]:
        """How many photos each process scores; they follow one another."""
        return [sum(len(self._units[unit]) for unit in share) for share in self._shares]

    def positive_blocks(self) -> Iterator[Block]:
        """Each of this process's units with its own captions; units without any are left out."""
        return itertools.chain.from_iterable(self.positive_rounds())

    def negative_blocks(self) -> Iterator[Block]:
        """All that :meth:`positive_blocks` leaves out."""
        return itertools.chain.from_iterable(self.negative_rounds())

    def positive_rounds(self) -> Iterator[Iterator[Block]]:
        """:meth:`positive_blocks`, round by round: as many rounds on every process.

        A round brings one block, or none.
        """
        texts = [torch.arange(a, b) for a, b in itertools.pairwise(self._own)]
        for unit, features in self._rounds(self._texts, texts):
            yield self._agreed(self._positive_block(unit, features))

    def negative_rounds(self) -> Iterator[Iterator[Block]]:
        """:meth:`negative_blocks`, round by round, likewise.

        A round is a group of captions; its blocks are unit by unit.
        """
        for group in self._groups:
            features = self._texts.fetch(group)
            yield self._agreed(self._blocks(features, int(group[0])))
        self._bar.close()

    def _fetch_images(self, images: ShardedFeatures) -> None:
        for unit, features in self._rounds(images, self._units):
            for prepared in self._agreed(self._prepared(unit, features)):
                self._images[unit] = prepared

    def _rounds(
        self, rows: ShardedFeatures, of_unit: Sequence[Tensor]
    ) -> Iterator[tuple[int, Features]]:
        """One unit's rows for each process at a time; unit -1 where it has no more."""
        nothing = torch.arange(0)
        for units in itertools.zip_longest(*(share.tolist() for share in self._shares)):
            wanted = [nothing if unit is None else of_unit[unit] for unit in units]
            mine = units[self._processes.rank]
            yield -1 if mine is None else mine, rows.take(wanted)

    def _prepared(self, unit: int, features: Features) -> Iterator[Rows]:
        if unit >= 0:
            yield self._scorer.images(features)

    def _positive_block(self, unit: int, features: Features) -> Iterator[Block]:
        if len(features):
            start = self._own[unit]
            groups = self._scorer.texts(features, start)
            scores = self._scorer.score_all(self._images[unit], groups)
            numbers = torch.arange(start, start + len(features), device=self.device)
            yield Block(self._slice(unit), numbers, scores)

    def _blocks(self, features: Features, start: int) -> Iterator[Block]:
        groups = self._scorer.texts(features, start)
        for unit, images in self._images.items():
            first, stop = self._own[unit], self._own[unit + 1]
            meets_own = first < start + len(features) and stop > start
            for group in groups:
                for part in group.without(first, stop) if meets_own else (group,):
                    scores = self._scorer.score(images, part)
                    yield Block(self._slice(unit), part.numbers, scores)
            self._bar.update()

    def _slice(self, unit: int) -> slice:
        rows = self._units[unit]
        return slice(int(rows[0]), int(rows[-1]) + 1)

    def _agreed(self, made: Iterable[T]) -> Iterator[T]:
        """What is made, until that fails on any process: then all of them raise."""
        error = None
        try:
            yield from made
        except Exception as failure:
            error = failure
        self._processes.agree(error)
