"""Nearest neighbours in both directions, streamed."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from itm_lightning.ranking.blocks import Blocks, photos_a_block
from itm_lightning.similarity.base import Similarity
from itm_lightning.types import Features


@dataclass(frozen=True)
class Neighbours:
    """The best answers of every query, best first; ``k`` of them, or as many as there are.

    Attributes:
        scores: ``(n_queries, k)`` float32.
        indices: ``(n_queries, k)`` int64, rows of the other side. Which of two equal scores comes
            first is left open.
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
    images: Features,
    texts: Features,
    k: int,
    *,
    block_elements: int | None = None,
    progress: bool = True,
) -> TopK:
    """The ``k`` nearest captions of every photo and the ``k`` nearest photos of every caption.

    Arguments and errors as in :func:`itm_lightning.ranking.rank`.
    """
    size = photos_a_block(similarity, images, texts, block_elements)
    photos = torch.arange(len(images), device=images.device).split(size)
    per_block = max(1, size * len(texts) // len(images))
    captions = torch.arange(len(texts), device=images.device).split(per_block)
    blocks = Blocks(similarity, images, texts, photos, captions, progress)
    nearest = Nearest(photos, captions, k)
    for i, j in itertools.product(range(len(photos)), range(len(captions))):
        nearest.see(i, j, blocks.score(i, j))
    return nearest.found()


class Nearest:
    """Keeps the nearest neighbours of both sides while blocks of scores go by, in any order.

    Args:
        photos: rows of each block of photos.
        captions: rows of each block of captions.
        k: how many to keep of each; 0 costs nothing.
    """

    def __init__(self, photos: Sequence[Tensor], captions: Sequence[Tensor], k: int) -> None:
        self._photos, self._captions, self._k = photos, captions, k
        self._i2t = [_nobody(rows) for rows in photos]
        self._t2i = [_nobody(rows) for rows in captions]

    def see(self, i: int, j: int, scores: Tensor) -> None:
        """Takes in the scores of photo block ``i`` and caption block ``j``, each pair once."""
        if not self._k:
            return
        self._i2t[i] = _nearer(self._i2t[i], scores, self._captions[j], self._k)
        self._t2i[j] = _nearer(self._t2i[j], scores.mT, self._photos[i], self._k)

    def found(self) -> TopK:
        """The neighbours, once every pair of blocks was seen."""
        return TopK(_joined(self._i2t, self._photos), _joined(self._t2i, self._captions))


def _nobody(rows: Tensor) -> Neighbours:
    indices = rows.new_empty((len(rows), 0))
    return Neighbours(indices.float(), indices)


def _nearer(best: Neighbours, scores: Tensor, indices: Tensor, k: int) -> Neighbours:
    """The ``k`` best of those found so far and of a block's ``scores (queries, candidates)``."""
    top = scores.topk(min(k, scores.shape[1]), dim=1)
    candidates = torch.cat([best.indices, indices[top.indices]], dim=1)
    pool = torch.cat([best.scores, top.values], dim=1)
    top = pool.topk(min(k, pool.shape[1]), dim=1)
    return Neighbours(top.values, candidates.gather(1, top.indices))


def _joined(parts: Sequence[Neighbours], rows: Sequence[Tensor]) -> Neighbours:
    place = torch.cat(list(rows)).argsort()
    scores, indices = ([getattr(p, name) for p in parts] for name in ("scores", "indices"))
    return Neighbours(torch.cat(scores)[place], torch.cat(indices)[place])
