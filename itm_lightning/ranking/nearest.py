"""Nearest neighbours in both directions, streamed."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from itm_lightning.ranking.blocks import BLOCK_ELEMENTS, Blocks, photos_a_block
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
    block_elements: int = BLOCK_ELEMENTS,
    progress: bool = False,
) -> TopK:
    """The ``k`` nearest captions of every photo and the ``k`` nearest photos of every caption.

    Arguments and errors as in :func:`itm_lightning.ranking.rank`.
    """
    size = photos_a_block(similarity, images, texts, block_elements)
    photos = torch.arange(len(images), device=images.device).split(size)
    per_block = max(1, size * len(texts) // len(images))
    captions = torch.arange(len(texts), device=images.device).split(per_block)
    blocks = Blocks(similarity, images, texts, photos, captions, progress)
    i2t = [_nobody(rows) for rows in photos]
    t2i = [_nobody(rows) for rows in captions]
    for i, j in itertools.product(range(len(photos)), range(len(captions))):
        scores = blocks.score(i, j)
        i2t[i] = _nearer(i2t[i], scores, captions[j], k)
        t2i[j] = _nearer(t2i[j], scores.mT, photos[i], k)
    return TopK(_joined(i2t), _joined(t2i))


def _nobody(rows: Tensor) -> Neighbours:
    indices = rows.new_empty((len(rows), 0))
    return Neighbours(indices.float(), indices)


def _nearer(best: Neighbours, scores: Tensor, indices: Tensor, k: int) -> Neighbours:
    """The ``k`` best of those found so far and of a block's ``scores (queries, candidates)``."""
    candidates = torch.cat([best.indices, indices.expand(len(scores), -1)], dim=1)
    pool = torch.cat([best.scores, scores], dim=1)
    top = pool.topk(min(k, pool.shape[1]), dim=1)
    return Neighbours(top.values, candidates.gather(1, top.indices))


def _joined(parts: Sequence[Neighbours]) -> Neighbours:
    scores, indices = ([getattr(p, name) for p in parts] for name in ("scores", "indices"))
    return Neighbours(torch.cat(scores), torch.cat(indices))
