"""Ranks as counts of what scores at least as high as the correct answer.

Ranks of the correct answers, counted without the whole matrix.

Photos are sorted by their ids and captions by their photo, so that every positive pair lies in a
block of a unit of photos with exactly their captions. These blocks come first and give the
positives' scores; the other blocks then hold nothing but negatives, which are counted against
them. Every pair is scored once, so that a positive's score is the same number wherever it
is compared.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from itm_lightning.distributed import Processes, ShardedFeatures, as_sharded
from itm_lightning.errors import InputError
from itm_lightning.ranking.block_scorer import Block
from itm_lightning.ranking.blocks import block_sizes
from itm_lightning.ranking.nearest import Nearest, Neighbours, TopK
from itm_lightning.ranking.panel import block_scorer_over
from itm_lightning.similarity.base import Similarity
from itm_lightning.types import Features


class Counts:
    """What the ranks are counted from, of photos and captions sorted by photo.

    Args:
        owner: ``(M,)`` int64, the row of each caption's photo.
        n_images: how many there are.
    """

    def __init__(self, owner: Tensor, n_images: int) -> None:
        self._owner = owner
        self._best = torch.full((n_images,), -torch.inf, device=owner.device)
        self._own = torch.zeros(len(owner), device=owner.device)
        self._i2t, self._t2i = owner.new_zeros(n_images), torch.zeros_like(owner)

    def positives(self, block: Block) -> None:
        """Photos with all their captions, and no others."""
        rows, columns = block.images, block.texts
        found = positives(block.scores, self._owner[columns] - rows.start)
        self._best[rows], self._own[columns], self._i2t[rows], self._t2i[columns] = found

    def share_positives(self, processes: Processes) -> None:
        """Tells everybody every caption's score with its photo; a collective."""
        self._own = processes.sum(self._own)  # to which all but one add zero

    def negatives(self, block: Block) -> None:
        """Photos with captions of others."""
        rows, columns, scores = block.images, block.texts, block.scores
        self._i2t[rows] += (scores >= self._best[rows, None]).sum(dim=1)
        self._t2i[columns] += (scores >= self._own[columns]).sum(dim=0)

    def ranks(self, processes: Processes) -> tuple[Tensor, Tensor]:
        """``i2t (N,)`` and ``t2i (M,)``, once all blocks were seen; a collective."""
        return processes.sum(self._i2t), processes.sum(self._t2i)


def positives(scores: Tensor, owner: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of a matrix in which every photo meets all its captions, and every caption its photo.

    Returns:
        ``best (n,)``, the best score of each photo's captions; ``own (m,)``, each caption's score
        with its photo; and the ranks ``i2t (n,)`` and ``t2i (m,)`` within this matrix.
    """
    mine = owner[None, :] == torch.arange(len(scores), device=scores.device)[:, None]
    best = scores.masked_fill(~mine, -torch.inf).amax(dim=1)
    own = scores.gather(0, owner[None, :])[0]
    i2t = ((scores >= best[:, None]) & ~mine).sum(dim=1) + 1
    t2i = (scores >= own).sum(dim=0)  # its photo is one of them, so the first has rank 1
    return best, own, i2t, t2i


@dataclass(frozen=True)
class Ranks:
    """Where the correct answers stand; 1 is first.

    Attributes:
        i2t: ``(n_queries,)`` int64, of every photo that has captions, in the order given: the
            number of foreign captions that score at least as high as the best of its own, plus 1.
        t2i: ``(n_texts,)`` int64, of every caption: the number of other photos that score at least
            as high as its own, plus 1.
    """

    i2t: Tensor
    t2i: Tensor


@torch.no_grad()
def rank(
    similarity: Similarity,
    images: Features | ShardedFeatures,
    texts: Features | ShardedFeatures,
    image_ids: Tensor,
    text_image_ids: Tensor,
    *,
    block_elements: int | None = None,
    progress: bool = True,
) -> Ranks:
    """Ranks of the correct answers in both directions.

    Scores are made where the head's weights lie, where it has any, or else the features; features
    that lie elsewhere are moved there a block at a time.

    A photo without captions stands in the gallery as a distractor, but asks no query. Ties count
    against the model. Scores are computed without autocast and compared in float32.

    Args:
        similarity: the head.
        images: of ``N`` photos; plain features are this process's business alone, and a
            :class:`~itm_lightning.distributed.ShardedFeatures` is ranked by all of its processes.
        texts: of ``M`` captions; a photo may have any number of them, in any order.
        image_ids: ``(N,)`` int64, each once.
        text_image_ids: ``(M,)`` int64, the id of each caption's photo.
        block_elements: the most elements that a block's score or attention tensor should have; by
            the memory of the device where ``None``.
        progress: show a progress bar where it takes long.

    Raises:
        InputError: a photo's id occurs twice, a caption's photo is missing, there is nothing to
            rank, or a score is NaN.
    """
    return rank_and_top_k(
        similarity,
        images,
        texts,
        image_ids,
        text_image_ids,
        0,
        block_elements=block_elements,
        progress=progress,
    )[0]


@torch.no_grad()
def rank_and_top_k(
    similarity: Similarity,
    images: Features | ShardedFeatures,
    texts: Features | ShardedFeatures,
    image_ids: Tensor,
    text_image_ids: Tensor,
    k: int,
    *,
    block_elements: int | None = None,
    progress: bool = True,
) -> tuple[Ranks, TopK]:
    """:func:`rank` and :func:`~itm_lightning.ranking.top_k`, for the price of scoring once."""
    images, texts = as_sharded(images), as_sharded(texts)
    owner = text_to_image_rows(image_ids.cpu(), text_image_ids.cpu())
    asks = owner.bincount(minlength=len(images)) > 0
    image_order = image_ids.cpu().argsort()
    owner = image_order.argsort()[owner]
    text_order = owner.argsort(stable=True)
    owner = owner[text_order]

    sizes = block_sizes(similarity, images, texts, block_elements)
    edges = torch.arange(0, len(images) + sizes.images, sizes.images)
    own = torch.searchsorted(owner, edges).tolist()
    blocks = sizes.images, sizes.texts, own, progress
    scorer = block_scorer_over(similarity, images[image_order], texts[text_order], *blocks)
    counts = Counts(owner.to(scorer.device), len(images))
    nearest = Nearest(len(images), len(texts), k, scorer.device)
    for block in scorer.positive_blocks():
        counts.positives(block)
        nearest.update(block)
    counts.share_positives(images.processes)
    for block in scorer.negative_blocks():
        counts.negatives(block)
        nearest.update(block)
    i2t, t2i = counts.ranks(images.processes)
    found = nearest.compute(images.processes, scorer.images_of_each, images.device)
    image_order, text_order = image_order.to(images.device), text_order.to(images.device)
    ranks = Ranks(
        _in_given_order(i2t.to(images.device), image_order)[asks.to(images.device)],
        _in_given_order(t2i.to(images.device), text_order),
    )
    top = TopK(
        _as_given(found.i2t, image_order, text_order), _as_given(found.t2i, text_order, image_order)
    )
    return ranks, top


def ranks_from_scores(scores: Tensor, image_ids: Tensor, text_image_ids: Tensor) -> Ranks:
    """:func:`rank`, from a whole score matrix ``(N, M)``.

    Raises:
        InputError: as :func:`rank` does.
    """
    owner = text_to_image_rows(image_ids.to(scores.device), text_image_ids.to(scores.device))
    if scores.isnan().any():
        raise InputError("the score matrix holds NaN")
    _, _, i2t, t2i = positives(scores, owner)
    return Ranks(i2t[owner.bincount(minlength=len(scores)) > 0], t2i)


def text_to_image_rows(image_ids: Tensor, text_image_ids: Tensor) -> Tensor:
    """``(M,)`` int64, the row of each caption's photo.

    Raises:
        InputError: there are no photos or no captions, a photo's id occurs twice, or a caption's
            photo is missing.
    """
    if not len(image_ids) or not len(text_image_ids):
        raise InputError(
            f"nothing to rank: {len(image_ids)} photos, {len(text_image_ids)} captions"
        )
    ids, rows = image_ids.sort()
    repeated = ids[1:][ids[1:] == ids[:-1]]
    if len(repeated):
        raise InputError(f"photo id {int(repeated[0])} stands twice; give every photo its own id")
    place = torch.searchsorted(ids, text_image_ids).clamp(max=len(ids) - 1)
    missing = text_image_ids[ids[place] != text_image_ids]
    if len(missing):
        raise InputError(f"a caption's photo, id {int(missing[0])}, is not among the photos")
    return rows[place]


def _in_given_order(values: Tensor, order: Tensor) -> Tensor:
    result = torch.empty_like(values)
    result[order] = values
    return result


def _as_given(found: Neighbours, queries: Tensor, answers: Tensor) -> Neighbours:
    indices = answers[found.indices]
    return Neighbours(_in_given_order(found.scores, queries), _in_given_order(indices, queries))
