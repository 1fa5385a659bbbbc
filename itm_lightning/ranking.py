"""The scoring engine: ranks and nearest neighbours, block by block, never the whole matrix.

Captions are sorted by their photo, so that with blocks of photos and blocks of exactly those
photos' captions every positive pair lies in a diagonal block. The diagonal blocks come first and
give the positives' scores; the blocks beside the diagonal then hold nothing but negatives, which
are counted against them. Every block is computed once, so a score is only ever compared with the
very number that it was computed as.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from tqdm import tqdm

from itm_lightning.errors import InputError
from itm_lightning.types import Features, Rows

BLOCK_ELEMENTS = 2**24  # 64 MB in float32; a token head holds a handful of such tensors


class Scorer(Protocol):
    """What the engine asks of a head: that part of ``similarity.Similarity`` which it calls."""

    def keep(self, features: Features) -> Features: ...
    def prepare_images(self, images: Features) -> Rows: ...
    def prepare_texts(self, texts: Features) -> Rows: ...
    def score(self, images: Any, texts: Any) -> Tensor: ...


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
def rank(
    similarity: Scorer,
    images: Features,
    texts: Features,
    image_ids: Tensor,
    text_image_ids: Tensor,
    *,
    block_elements: int = BLOCK_ELEMENTS,
    progress: bool = False,
) -> Ranks:
    """Ranks of the correct answers in both directions.

    A photo without captions stands in the gallery as a distractor, but asks no query. Ties count
    against the model. Scores are computed without autocast and compared in float32.

    Args:
        similarity: the head.
        images: of ``N`` photos.
        texts: of ``M`` captions; a photo may have any number of them, in any place.
        image_ids: ``(N,)`` int64, each once.
        text_image_ids: ``(M,)`` int64, the id of each caption's photo.
        block_elements: the most elements that a block's score or attention tensor may have.
        progress: show a progress bar.

    Raises:
        InputError: a photo's id occurs twice, a caption's photo is missing, there is nothing to
            rank, or a score is NaN.
    """
    owner = owners(image_ids.to(images.device), text_image_ids.to(images.device))
    n_captions = owner.bincount(minlength=len(images))
    order = (n_captions == 0).byte().argsort(stable=True)  # distractors last
    place = order.argsort()
    size = _photos_a_block(similarity, images, texts, block_elements)
    photos = order.split(size)
    captions = place[owner].argsort(stable=True)
    sizes = [int(n_captions[rows].sum()) for rows in photos]
    texts_of = [rows for rows in captions.split(sizes) if len(rows)]  # none beside distractors

    best, own = images_like(images), 0
    return Ranks(i2t[n_captions > 0], t2i)
