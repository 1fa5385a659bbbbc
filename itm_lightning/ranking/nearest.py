"""Nearest neighbours in both directions, streamed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from itm_lightning.distributed import Processes, ShardedFeatures, as_sharded
from itm_lightning.ranking.block_scorer import Block
from itm_lightning.ranking.blocks import block_sizes
from itm_lightning.ranking.panel import block_scorer_over
from itm_lightning.similarity.base import Similarity
from itm_lightning.types import Features

_NOBODY = torch.iinfo(torch.int64).min  # below the key of any score
_LOW = 2**32 - 1
_MANY = 4


@dataclass(frozen=True)
class Neighbours:
    """The best answers of every query, best first; ``k`` of them, or as many as there are.

    Attributes:
        scores: ``(n_queries, k)`` float32.
        indices: ``(n_queries, k)`` int64, rows of the other side. Which of two equal scores comes
            first is left open, but the same for any number of processes.
    """

    scores: Tensor
    indices: Tensor


@dataclass(frozen=True)
class TopK:
    """Nearest captions of every photo, nearest photos of every caption."""

    i2t: Neighbours
    t2i: Neighbours


@torch.no_grad()
def top_k(
    similarity: Similarity,
    images: Features | ShardedFeatures,
    texts: Features | ShardedFeatures,
    k: int,
    *,
    block_elements: int | None = None,
    progress: bool = True,
) -> TopK:
    """The ``k`` nearest captions of every photo and the ``k`` nearest photos of every caption.

    Arguments and errors as in :func:`itm_lightning.ranking.rank`.
    """
    images, texts = as_sharded(images), as_sharded(texts)
    sizes = block_sizes(similarity, images, texts, block_elements)
    nobody = [0] * (-(-len(images) // sizes.images) + 1)
    blocks = sizes.images, sizes.texts, nobody, progress
    scorer = block_scorer_over(similarity, images, texts, *blocks)
    nearest = Nearest(len(images), len(texts), k, scorer.device)
    for block in scorer.negative_blocks():
        nearest.update(block)
    return nearest.compute(images.processes, scorer.images_of_each, images.device)


class Nearest:
    """Keeps the nearest neighbours of both sides while blocks of scores go by, in any order.

    A score and its row are kept as one whole number that orders them: no two are equal, so the
    best of all blocks are the same ones in whatever order, and on however many processes, the
    blocks went by.

    Args:
        n_images: how many there are.
        n_texts: how many there are.
        k: how many neighbours to keep of each; 0 costs nothing.
        device: where the blocks' scores lie.
    """

    def __init__(self, n_images: int, n_texts: int, k: int, device: torch.device) -> None:
        self._k = k
        sizes = (n_images, min(k, n_texts)), (n_texts, min(k, n_images))
        self._i2t, self._t2i = (torch.full(size, _NOBODY, device=device) for size in sizes)

    def update(self, block: Block) -> None:
        """Takes in a block of scores, each pair of photo and caption once."""
        if not self._k:
            return
        rows, columns = block.images, block.texts
        images = torch.arange(rows.start, rows.stop, device=columns.device)
        self._i2t[rows] = _nearer(self._i2t[rows], block.scores, columns)
        self._t2i[columns] = _nearer(self._t2i[columns], block.scores.mT, images)

    def compute(
        self, processes: Processes, images_of_each: list[int], device: torch.device
    ) -> TopK:
        """The neighbours, once all blocks were seen; a collective.

        Args:
            processes: who saw them.
            images_of_each: how many photos each of them saw; they follow one another.
            device: where the result should lie.
        """
        if not self._k:
            return TopK(_neighbours(self._i2t.to(device)), _neighbours(self._t2i.to(device)))
        i2t = self._i2t.split(images_of_each)[processes.rank]
        i2t = processes.share(i2t, images_of_each)
        # each process merges what all of them found for a share of the captions
        shares = [len(rows) for rows in self._t2i[:, 0].tensor_split(processes.size)]
        mine = shares[processes.rank]
        found = processes.exchange(self._t2i, shares, [mine] * processes.size)
        found = found.view(processes.size, mine, -1).transpose(0, 1).flatten(1)
        t2i = processes.share(found.topk(self._t2i.shape[1], dim=1).values, shares)
        return TopK(_neighbours(i2t.to(device)), _neighbours(t2i.to(device)))


def _nearer(found: Tensor, scores: Tensor, rows: Tensor) -> Tensor:
    """The best of those found so far, and of a block's ``scores (queries, candidates)``."""
    k = found.shape[1]
    rows = rows.expand(scores.shape)
    if scores.shape[1] > _MANY * k:  # else it is quicker to choose once
        scores, best = scores.topk(k, dim=1)
        rows = rows.gather(1, best)
    return torch.cat([found, _keys(scores, rows)], dim=1).topk(k, dim=1).values


def _keys(scores: Tensor, rows: Tensor) -> Tensor:
    """Whole numbers in the order of the scores and, where these are equal, lower rows first."""
    bits = (scores + 0.0).view(torch.int32)  # -0.0 + 0.0 is 0.0
    return _monotone(bits).long() << 32 | (_LOW - rows)


def _neighbours(keys: Tensor) -> Neighbours:
    bits = _monotone((keys >> 32).int())
    return Neighbours(bits.view(torch.float32), _LOW - (keys & _LOW))


def _monotone(bits: Tensor) -> Tensor:
    """Of a float's bits a whole number in the float's order; its own inverse."""
    return torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
