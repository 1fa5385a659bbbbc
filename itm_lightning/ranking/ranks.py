"""Ranks of the correct answers, counted without the whole score matrix.

Images are sorted by their ids and texts by their image, so that every positive pair lies in a block
of a unit of images with exactly their texts. These blocks come first and give the scores of the
positives; the other blocks then hold nothing but negatives, and those that score at least as high
as a positive are counted. Every pair is scored once, so that a positive's score is the same number
wherever it is compared.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from itm_lightning.distributed import ShardedFeatures, as_sharded
from itm_lightning.errors import InputError
from itm_lightning.ranking.block_scorer import Block, BlockScorer
from itm_lightning.ranking.blocks import block_sizes
from itm_lightning.similarity.base import Similarity
from itm_lightning.types import AnyFeatures


@dataclass(frozen=True)
class Ranks:
    """The places of the correct answers; 1 is first.

    Attributes:
        i2t: ``(n_queries,)`` int64, of every image that has texts, in the order given: the number
            of other images' texts that score at least as high as the best of its own, plus 1.
        t2i: ``(n_texts,)`` int64, of every text: the number of other images that score at least as
            high as its own, plus 1.
    """

    i2t: Tensor
    t2i: Tensor


@torch.no_grad()
def rank(
    similarity: Similarity,
    images: AnyFeatures | ShardedFeatures,
    texts: AnyFeatures | ShardedFeatures,
    image_ids: Tensor,
    text_image_ids: Tensor,
    *,
    block_elements: int | None = None,
    progress: bool = True,
) -> Ranks:
    """Ranks of the correct answers in both directions.

    Scores are computed where the head's weights lie, if it has any, or else the features; features
    that lie elsewhere are moved there a block at a time.

    An image without texts stands in the gallery as a distractor, but is no query. Ties count
    against the model. Scores are computed without autocast and compared in float32.

    Args:
        similarity: the head.
        images: of ``N`` images. Plain features are ranked by this process alone, and a
            :class:`~itm_lightning.distributed.ShardedFeatures` by all of its processes together.
        texts: of ``M`` texts; an image may have any number of them, in any order.
        image_ids: ``(N,)`` int64, each once.
        text_image_ids: ``(M,)`` int64, the id of each text's image.
        block_elements: the most elements that a block's score or attention tensor should have; by
            the memory of the device where ``None``.
        progress: show a progress bar if it takes long.

    Raises:
        InputError: an image's id occurs twice, a text's image is missing, there is nothing to
            rank, or a score is NaN.
    """
    gallery = SortedGallery(image_ids, text_image_ids)
    scorer = gallery.scorer(similarity, images, texts, block_elements, progress)
    return gallery.ranks(scorer, lambda block: None)


class SortedGallery:
    """The order in which a gallery is ranked: images by id, texts by image.

    Args:
        image_ids: ``(N,)`` int64.
        text_image_ids: ``(M,)`` int64.

    Attributes:
        image_order: ``(N,)`` int64 on the CPU, the rows of the images in that order.
        text_order: ``(M,)`` int64 on the CPU, those of the texts.

    Raises:
        InputError: see :func:`text_to_image_rows`.
    """

    def __init__(self, image_ids: Tensor, text_image_ids: Tensor) -> None:
        rows = text_to_image_rows(image_ids.cpu(), text_image_ids.cpu())
        self._is_query = rows.bincount(minlength=len(image_ids)) > 0
        self.image_order = image_ids.cpu().argsort()
        text_to_image = self.image_order.argsort()[rows]
        self.text_order = text_to_image.argsort(stable=True)
        self._text_to_image = text_to_image[self.text_order]

    def scorer(
        self,
        similarity: Similarity,
        images: AnyFeatures | ShardedFeatures,
        texts: AnyFeatures | ShardedFeatures,
        block_elements: int | None,
        progress: bool,
    ) -> BlockScorer:
        """A scorer of the images and texts in this order; arguments as of :func:`rank`."""
        images, texts = as_sharded(images), as_sharded(texts)
        sizes = block_sizes(similarity, images, texts, block_elements)
        edges = torch.arange(0, len(images) + sizes.images, sizes.images)
        text_offsets = torch.searchsorted(self._text_to_image, edges).tolist()
        images, texts = images[self.image_order], texts[self.text_order]
        return BlockScorer(similarity, images, texts, sizes, text_offsets, progress)

    def ranks(self, scorer: BlockScorer, also: Callable[[Block], None]) -> Ranks:
        """Counts the ranks, in the order in which the gallery was given; a collective.

        Args:
            scorer: from :meth:`scorer`.
            also: called with every block after it was counted.
        """
        counts = _Counts(self._text_to_image.to(scorer.device), len(self.image_order))
        for block in scorer.positive_blocks():
            counts.add_positives(block)
            also(block)
        counts.share_positives(scorer)
        for block in scorer.negative_blocks():
            counts.add_negatives(block)
            also(block)
        i2t, t2i = (found.to(scorer.result_device) for found in counts.compute(scorer))
        i2t = in_given_order(i2t, self.image_order.to(i2t.device))
        t2i = in_given_order(t2i, self.text_order.to(t2i.device))
        return Ranks(i2t[self._is_query.to(i2t.device)], t2i)


class _Counts:
    """The numbers from which ranks are counted, of a sorted gallery.

    Args:
        text_to_image: ``(M,)`` int64, the row of each text's image.
        n_images: how many there are.
    """

    def __init__(self, text_to_image: Tensor, n_images: int) -> None:
        self._text_to_image = text_to_image
        self._best = torch.full((n_images,), -torch.inf, device=text_to_image.device)
        self._positives = torch.zeros(len(text_to_image), device=text_to_image.device)
        self._i2t = text_to_image.new_zeros(n_images)
        self._t2i = torch.zeros_like(text_to_image)

    def add_positives(self, block: Block) -> None:
        """Counts images with all their texts, and no others."""
        rows, columns = block.images, block.texts
        counted = _count_positives(block.scores, self._text_to_image[columns] - rows.start)
        self._best[rows], self._positives[columns], self._i2t[rows], self._t2i[columns] = counted

    def share_positives(self, scorer: BlockScorer) -> None:
        """Tells all processes each text's score with its image; a collective."""
        self._positives = scorer.processes.sum(self._positives)  # to which all but one add zero

    def add_negatives(self, block: Block) -> None:
        """Counts images with texts of others."""
        rows, columns, scores = block.images, block.texts, block.scores
        self._i2t[rows] += _count_at_least(scores, self._best[rows, None], dim=1)
        self._t2i[columns] += _count_at_least(scores, self._positives[columns], dim=0)

    def compute(self, scorer: BlockScorer) -> tuple[Tensor, Tensor]:
        """Ranks ``i2t (N,)`` and ``t2i (M,)``, once all blocks are counted; a collective."""
        return scorer.processes.sum(self._i2t), scorer.processes.sum(self._t2i)


def _count_at_least(scores: Tensor, positives: Tensor, dim: int) -> Tensor:
    # ones in float32, which up to 2**24 count exactly: to sum booleans takes four times as long
    return torch.ge(scores, positives, out=torch.empty_like(scores)).sum(dim).long()


def ranks_from_scores(scores: Tensor, image_ids: Tensor, text_image_ids: Tensor) -> Ranks:
    """:func:`rank`, from a whole score matrix ``(N, M)``.

    Raises:
        InputError: as :func:`rank` does.
    """
    text_to_image = text_to_image_rows(
        image_ids.to(scores.device), text_image_ids.to(scores.device)
    )
    if not scores.isfinite().all():
        raise InputError("the score matrix holds NaN or infinite scores")
    _, _, i2t, t2i = _count_positives(scores, text_to_image)
    return Ranks(i2t[text_to_image.bincount(minlength=len(scores)) > 0], t2i)


def _count_positives(
    scores: Tensor, text_to_image: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Counts a matrix that holds every image with all its texts, and every text with its image.

    Returns:
        ``best (n,)``, the best score of each image's texts; ``positives (m,)``, each text's score
        with its image; and the ranks ``i2t (n,)`` and ``t2i (m,)`` within this matrix.
    """
    rows = torch.arange(len(scores), device=scores.device)
    positive = text_to_image[None, :] == rows[:, None]
    best = scores.masked_fill(~positive, -torch.inf).amax(dim=1)
    positives = scores.gather(0, text_to_image[None, :])[0]
    i2t = ((scores >= best[:, None]) & ~positive).sum(dim=1) + 1
    t2i = (scores >= positives).sum(dim=0)  # its image is one of them, so the first has rank 1
    return best, positives, i2t, t2i


def text_to_image_rows(image_ids: Tensor, text_image_ids: Tensor) -> Tensor:
    """``(M,)`` int64, the row of each text's image.

    Raises:
        InputError: there are no images or no texts, an image's id occurs twice, or a text's image
            is missing.
    """
    if not len(image_ids) or not len(text_image_ids):
        raise InputError(
            f"nothing to rank: {len(image_ids)} photos, {len(text_image_ids)} captions"
        )
    ids, rows = image_ids.sort()
    repeated = ids[1:][ids[1:] == ids[:-1]]
    if len(repeated):
        raise InputError(f"photo id {int(repeated[0])} stands twice; give every photo its own id")
    positions = torch.searchsorted(ids, text_image_ids).clamp(max=len(ids) - 1)
    missing = text_image_ids[ids[positions] != text_image_ids]
    if len(missing):
        raise InputError(f"a caption's photo, id {int(missing[0])}, is not among the photos")
    return rows[positions]


def in_given_order(values: Tensor, order: Tensor) -> Tensor:
    """Undoes ``given[order]``."""
    result = torch.empty_like(values)
    result[order] = values
    return result
