"""Several models that score the same gallery, each with features of its own."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from itm_lightning.distributed import ShardedFeatures
from itm_lightning.ranking.block_scorer import Block, BlockScorer
from itm_lightning.ranking.members import members_of
from itm_lightning.similarity.base import Similarity


class Panel:
    """What a :class:`BlockScorer` is, of the weighted mean of several models' scores.

    Each member goes through the gallery in the same blocks; only how it groups captions by length
    is its own.

    Args:
        weights: of each member; they sum to 1.
        members: a scorer of each, over one block_sizes.
    """

    def __init__(self, weights: Sequence[float], members: Sequence[BlockScorer]) -> None:
        self._weights, self._members = weights, members
        self.device = members[0].device

    @property
    def images_of_each(self) -> list[int]:
        """How many photos each process scores; they follow one another."""
        return self._members[0].images_of_each

    def positive_blocks(self) -> Iterator[Block]:
        """As :meth:`BlockScorer.positive_blocks`."""
        # in step: collectives come in one order on all processes
        for same in zip(*(member.positive_rounds() for member in self._members), strict=True):
            for blocks in zip(*same, strict=True):
                yield self._mean(blocks)

    def negative_blocks(self) -> Iterator[Block]:
        """As :meth:`BlockScorer.negative_blocks`, with all captions of a group in one block."""
        for same in zip(*(member.negative_rounds() for member in self._members), strict=True):
            by_unit = (itertools.groupby(blocks, _unit) for blocks in same)
            for of_unit in zip(*by_unit, strict=True):
                yield self._mean([_joined(blocks) for _, blocks in of_unit])

    def _mean(self, blocks: Sequence[Block]) -> Block:
        scores = (
            weight * block.scores.to(self.device)
            for weight, block in zip(self._weights, blocks, strict=True)
        )
        return Block(blocks[0].images, blocks[0].texts, functools.reduce(torch.add, scores))


def block_scorer_over(
    similarity: Similarity,
    images: ShardedFeatures,
    texts: ShardedFeatures,
    images_per_unit: int,
    texts_per_group: int,
    own: Sequence[int],
    progress: bool,
) -> BlockScorer | Panel:
    """A :class:`BlockScorer` of these arguments, or a :class:`Panel` of several models."""
    members = members_of(similarity, images, texts)
    scorers = [
        BlockScorer(
            m.similarity,
            m.images,
            m.texts,
            images_per_unit,
            texts_per_group,
            own,
            progress and m is members[0],
        )
        for m in members
    ]
    return scorers[0] if len(scorers) == 1 else Panel([m.weight for m in members], scorers)


def _unit(block: Block) -> int:
    return block.images.start


def _joined(blocks: Iterable[Block]) -> Block:
    """A unit with all captions of a group, in the order of their numbers."""
    parts = list(blocks)
    if len(parts) == 1:
        return parts[0]
    numbers: Tensor = torch.cat([part.texts for part in parts])
    order = numbers.argsort()
    scores = torch.cat([part.scores for part in parts], dim=1)[:, order]
    return Block(parts[0].images, numbers[order], scores)
