"""Ranks of the correct answers, counted without the whole matrix.

Captions are sorted by their photo, so that with blocks of photos and blocks of exactly those
photos' captions every positive pair lies in a diagonal block. The diagonal blocks come first and
give the positives' scores; the blocks beside the diagonal then hold nothing but negatives, which
are counted against them. Every block is computed once, so that a positive's score is the same
number wherever it is compared.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from itm_lightning.errors import InputError
from itm_lightning.ranking.blocks import Blocks, photos_a_block
from itm_lightning.ranking.nearest import Nearest, TopK
from itm_lightning.similarity.base import Similarity
from itm_lightning.types import Features


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
    images: Features,
    texts: Features,
    image_ids: Tensor,
    text_image_ids: Tensor,
    *,
    block_elements: int | None = None,
    progress: bool = True,
) -> Ranks:
    """Ranks of the correct answers in both directions.

    A photo without captions stands in the gallery as a distractor, but asks no query. Ties count
    against the model. Scores are computed without autocast and compared in float32.

    Args:
        similarity: the head.
        images: of ``N`` photos.
        texts: of ``M`` captions; a photo may have any number of them, in any order.
        image_ids: ``(N,)`` int64, each once.
        text_image_ids: ``(M,)`` int64, the id of each caption's photo.
        block_elements: the most elements that a block's score or attention tensor should have; by
            the memory of the features' device where ``None``.
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
    images: Features,
    texts: Features,
    image_ids: Tensor,
    text_image_ids: Tensor,
    k: int,
    *,
    block_elements: int | None = None,
    progress: bool = True,
) -> tuple[Ranks, TopK]:
    """:func:`rank` and :func:`~itm_lightning.ranking.top_k`, for the price of scoring once."""
    owner = owners(image_ids.to(images.device), text_image_ids.to(images.device))
    n_captions = owner.bincount(minlength=len(images))
    order = (n_captions == 0).byte().argsort(stable=True)  # distractors last
    place = order.argsort()
    size = photos_a_block(similarity, images, texts, block_elements)
    photos = order.split(size)
    sizes = [int(n_captions[rows].sum()) for rows in photos]
    captions = [rows for rows in place[owner].argsort(stable=True).split(sizes) if len(rows)]

    best = torch.full((len(images),), -torch.inf, device=images.device)
    own = torch.empty(len(texts), device=images.device)
    i2t, t2i = torch.zeros_like(order), torch.zeros_like(owner)
    blocks = Blocks(similarity, images, texts, photos, captions, progress)
    nearest = Nearest(photos, captions, k)
    for d, columns in enumerate(captions):
        rows, scores = photos[d], blocks.score(d, d)
        nearest.see(d, d, scores)
        found = _positives(scores, place[owner[columns]] - d * size)
        best[rows], own[columns], i2t[rows], t2i[columns] = found
    for i, j in blocks.off_diagonal():
        rows, columns = photos[i], captions[j]
        scores = blocks.score(i, j)
        nearest.see(i, j, scores)
        i2t[rows] += (scores >= best[rows, None]).sum(dim=1)
        t2i[columns] += (scores >= own[columns]).sum(dim=0)
    return Ranks(i2t[n_captions > 0], t2i), nearest.found()


def ranks_from_scores(scores: Tensor, image_ids: Tensor, text_image_ids: Tensor) -> Ranks:
    """:func:`rank`, from a whole score matrix ``(N, M)``.

    Raises:
        InputError: as :func:`rank` does.
    """
    owner = owners(image_ids.to(scores.device), text_image_ids.to(scores.device))
    if scores.isnan().any():
        raise InputError("the score matrix holds NaN")
    _, _, i2t, t2i = _positives(scores, owner)
    return Ranks(i2t[owner.bincount(minlength=len(scores)) > 0], t2i)


def owners(image_ids: Tensor, text_image_ids: Tensor) -> Tensor:
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


def _positives(scores: Tensor, owner: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
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
