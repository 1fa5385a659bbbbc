"""Scores block by block."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from tqdm import tqdm

from itm_lightning.errors import InputError
from itm_lightning.similarity.base import Similarity
from itm_lightning.types import Features

BLOCK_ELEMENTS = 2**22  # 16 MB in float32: a token head holds several such tensors in the cache


class Blocks:
    """Scores of blocks of photos and captions; each side is prepared once, and kept.

    Args:
        similarity: the head.
        images: of all photos.
        texts: of all captions.
        photos: rows of each block of photos.
        captions: rows of each block of captions.
        progress: show a progress bar over all pairs of blocks.
    """

    def __init__(
        self,
        similarity: Similarity,
        images: Features,
        texts: Features,
        photos: Sequence[Tensor],
        captions: Sequence[Tensor],
        progress: bool,
    ) -> None:
        self._similarity = similarity
        self._device_type = images.device.type
        images, texts = similarity.keep(images), similarity.keep(texts)
        with torch.autocast(self._device_type, enabled=False):
            self._images = [similarity.prepare_images(_block(images, rows)) for rows in photos]
            self._texts = [similarity.prepare_texts(_block(texts, rows)) for rows in captions]
        total = len(photos) * len(captions)
        self._bar = tqdm(total=total, desc="scoring", unit="block", disable=not progress)

    def score(self, i: int, j: int) -> Tensor:
        """Scores in float32 of photo block ``i`` and caption block ``j``."""
        with torch.autocast(self._device_type, enabled=False):
            scores = self._similarity.score(self._images[i], self._texts[j]).float()
        if scores.isnan().any():
            raise InputError(
                f"{type(self._similarity).__name__} gave a NaN score: training has diverged, or "
                "the features hold NaN"
            )
        self._bar.update()
        return scores

    def off_diagonal(self) -> Iterator[tuple[int, int]]:
        """Every ``(i, j)`` with ``i != j``."""
        pairs = itertools.product(range(len(self._images)), range(len(self._texts)))
        return ((i, j) for i, j in pairs if i != j)


def _block(features: Features, rows: Tensor) -> Features:
    """Rows without the padding they do not need, in float32 at least."""
    block = features[rows].trim()

    def full(values: Tensor | None) -> Tensor | None:
        return None if values is None else values.to(torch.promote_types(values.dtype, torch.float))

    return Features(full(block.tokens), block.mask, full(block.pooled))


def photos_a_block(similarity: Similarity, images: Features, texts: Features, elements: int) -> int:
    """So many that they and their captions (on average) make a block of that many elements."""
    regions, words = (similarity.keep(side[:1]).tokens for side in (images, texts))
    pair = 1 if regions is None or words is None else regions.shape[1] * words.shape[1]
    return max(1, math.isqrt(int(elements * len(images) / (pair * len(texts)))))
