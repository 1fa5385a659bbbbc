"""Nearest neighbours and other reductions of scores, without the whole score matrix."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from itm_lightning.distributed import ShardedFeatures, as_sharded
from itm_lightning.ranking.block_scorer import Block, BlockScorer
from itm_lightning.ranking.blocks import block_sizes
from itm_lightning.ranking.ranks import Ranks, SortedGallery, in_given_order
from itm_lightning.similarity.base import Similarity
from itm_lightning.types import AnyFeatures

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
    """The nearest texts of every image, and the nearest images of every text."""

    i2t: Neighbours
    t2i: Neighbours


@torch.no_grad()
def top_k(
    similarity: Similarity,
    images: AnyFeatures | ShardedFeatures,
    texts: AnyFeatures | ShardedFeatures,
    k: int,
    *,
    block_elements: int | None = None,
    progress: bool = True,
) -> TopK:
    """The ``k`` nearest texts of every image and the ``k`` nearest images of every text.

    Arguments and errors as of :func:`itm_lightning.ranking.rank`.
    """
    images, texts = as_sharded(images), as_sharded(texts)
    sizes = block_sizes(similarity, images, texts, block_elements)
    no_positives = [0] * (-(-len(images) // sizes.images) + 1)
    scorer = BlockScorer(similarity, images, texts, sizes, no_positives, progress)
    nearest = Nearest(len(images), len(texts), k, scorer.device)
    for block in scorer.negative_blocks():
        nearest.update(block)
    return nearest.compute(scorer)


@torch.no_grad()
def rank_and_top_k(
    similarity: Similarity,
    images: AnyFeatures | ShardedFeatures,
    texts: AnyFeatures | ShardedFeatures,
    image_ids: Tensor,
    text_image_ids: Tensor,
    k: int,
    *,
    block_elements: int | None = None,
    progress: bool = True,
) -> tuple[Ranks, TopK]:
    """:func:`itm_lightning.ranking.rank` and :func:`top_k`, with every pair scored once."""
    gallery = SortedGallery(image_ids, text_image_ids)
    scorer = gallery.scorer(similarity, images, texts, block_elements, progress)
    nearest = Nearest(len(image_ids), len(text_image_ids), k, scorer.device)
    ranks = gallery.ranks(scorer, nearest.update)
    found = nearest.compute(scorer)
    return ranks, TopK(
        _in_given_order(found.i2t, gallery.image_order, gallery.text_order),
        _in_given_order(found.t2i, gallery.text_order, gallery.image_order),
    )


@torch.no_grad()
def reduce_scores(
    similarity: Similarity,
    images: AnyFeatures | ShardedFeatures,
    texts: AnyFeatures | ShardedFeatures,
    of: Literal["images", "texts"],
    reduce: Callable[[Tensor], Tensor],
    width: int,
    *,
    block_elements: int | None = None,
    progress: bool = True,
) -> Tensor:
    """Reduces each image's scores with all texts, or each text's scores with all images.

    Other arguments and errors as of :func:`itm_lightning.ranking.rank`.

    Args:
        of: the side that keeps its rows.
        reduce: ``(n, m)`` scores to ``(n, width)``, for any ``m ≥ width``; of its own results
            together with further scores it must make what it makes of all scores.
        width: how many numbers it makes.

    Returns:
        ``(N, width)``, on every process.
    """
    images, texts = as_sharded(images), as_sharded(texts)
    sizes = block_sizes(similarity, images, texts, block_elements)
    no_positives = [0] * (-(-len(images) // sizes.images) + 1)
    scorer = BlockScorer(similarity, images, texts, sizes, no_positives, progress)
    n_rows = len(images if of == "images" else texts)
    # reduced from the start, so that they have the dtype of what comes later
    state = reduce(torch.full((n_rows, width), -torch.inf, device=scorer.device))
    for block in scorer.negative_blocks():
        rows = block.images if of == "images" else block.texts
        scores = block.scores if of == "images" else block.scores.mT
        state[rows] = reduce(torch.cat([state[rows], scores], dim=1))

    processes = scorer.processes
    if of == "images":  # each belongs to one process, which scored it with all texts
        shares = scorer.images_of_process
        own = state.split(shares)[processes.rank]
    else:  # each process reduces what all of them made of a share of the texts
        shares = [len(rows) for rows in state[:, 0].tensor_split(processes.size)]
        n_own = shares[processes.rank]
        found = processes.all_to_all(state, shares, [n_own] * processes.size)
        own = reduce(found.view(processes.size, n_own, width).transpose(0, 1).flatten(1))
    return processes.all_gather(own, shares).to(scorer.result_device)


class Nearest:
    """Keeps the nearest neighbours of both sides while blocks of scores come, in any order.

    A score and its row are kept as one whole number that orders them. No two are equal, so the
    best of all blocks are the same in whatever order, and on however many processes, the blocks
    came.

    Args:
        n_images: how many there are.
        n_texts: how many there are.
        k: how many neighbours to keep of each.
        device: where the blocks' scores lie.
    """

    def __init__(self, n_images: int, n_texts: int, k: int, device: torch.device) -> None:
        sizes = (n_images, min(k, n_texts)), (n_texts, min(k, n_images))
        self._i2t, self._t2i = (torch.full(size, _NOBODY, device=device) for size in sizes)

    def update(self, block: Block) -> None:
        """Takes a block of scores; every pair of image and text comes once."""
        rows, columns = block.images, block.texts
        images = torch.arange(rows.start, rows.stop, device=columns.device)
        self._i2t[rows] = _nearer(self._i2t[rows], block.scores, columns)
        self._t2i[columns] = _nearer(self._t2i[columns], block.scores.mT, images)

    def compute(self, scorer: BlockScorer) -> TopK:
        """The neighbours, once all blocks of a scorer came; a collective."""
        processes, images_of_process = scorer.processes, scorer.images_of_process
        i2t = self._i2t.split(images_of_process)[processes.rank]
        i2t = processes.all_gather(i2t, images_of_process)
        # each process merges what all of them found for a share of the texts
        shares = [len(rows) for rows in self._t2i[:, 0].tensor_split(processes.size)]
        own = shares[processes.rank]
        found = processes.all_to_all(self._t2i, shares, [own] * processes.size)
        found = found.view(processes.size, own, -1).transpose(0, 1).flatten(1)
        t2i = processes.all_gather(found.topk(self._t2i.shape[1], dim=1).values, shares)
        return TopK(*(_neighbours(keys.to(scorer.result_device)) for keys in (i2t, t2i)))


def _in_given_order(found: Neighbours, queries: Tensor, answers: Tensor) -> Neighbours:
    device = found.indices.device
    queries, indices = queries.to(device), answers.to(device)[found.indices]
    return Neighbours(in_given_order(found.scores, queries), in_given_order(indices, queries))


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
    """Whole numbers in the order of the floats that these bits are; its own inverse."""
    return torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
