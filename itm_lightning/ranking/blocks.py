"""Scores block by block."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from itm_lightning.errors import InputError
from itm_lightning.precision import at_least_float32
from itm_lightning.ranking.budget import block_elements
from itm_lightning.similarity.base import Similarity
from itm_lightning.types import Features, Rows

_LENGTH_GROUPS = 8  # with captions of 8 to 17 words, about 5 % of what is scored is padding
_SECONDS_UNTIL_BAR = 5


class Blocks:
    """Scores of blocks of photos and captions; each side is prepared once, and kept.

    Within a block, captions are scored in groups of similar length, so that little of the work is
    spent on padding.

    Args:
        similarity: the head.
        images: of all photos.
        texts: of all captions.
        photos: rows of each block of photos.
        captions: rows of each block of captions.
        progress: show a progress bar over all pairs of blocks, if they take long.
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
            self._texts = [_prepared_by_length(similarity, texts[rows]) for rows in captions]
        self._bar = tqdm(
            total=len(photos) * len(captions),
            desc="scoring",
            unit="block",
            disable=not progress,
            delay=_SECONDS_UNTIL_BAR,
            leave=False,
        )

    def score(self, i: int, j: int) -> Tensor:
        """Scores in float32 of photo block ``i`` and caption block ``j``."""
        images, texts = self._images[i], self._texts[j]
        with torch.autocast(self._device_type, enabled=False):
            parts = [self._similarity.score(images, group).float() for group in texts.groups]
        scores = parts[0] if texts.order is None else torch.cat(parts, dim=1)[:, texts.order]
        # one pass, where isnan().any() takes two: a sum is NaN where an element is, or where
        # infinities of both signs meet
        if scores.sum().isnan() and scores.isnan().any():
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


@dataclass(frozen=True)
class _Captions:
    """A block of captions, prepared in groups of similar length.

    Attributes:
        groups: the prepared captions.
        order: ``(m,)`` int64, where each caption of the block stands in the groups, one after the
            other; ``None`` if there is but one group.
    """

    groups: list[Rows]
    order: Tensor | None


def _prepared_by_length(similarity: Similarity, texts: Features) -> _Captions:
    if texts.mask is None or texts.mask.all():
        return _Captions([similarity.prepare_texts(_full(texts))], None)
    order = texts.mask.sum(dim=1).argsort(stable=True)
    groups = order.tensor_split(min(_LENGTH_GROUPS, len(order)))
    prepared = [similarity.prepare_texts(_block(texts, rows)) for rows in groups]
    return _Captions(prepared, order.argsort())


def _block(features: Features, rows: Tensor) -> Features:
    """Rows without the padding they do not need, in float32 at least."""
    return _full(features[rows].trim())


def _full(features: Features) -> Features:
    def full(values: Tensor | None) -> Tensor | None:
        return None if values is None else at_least_float32(values)

    return Features(full(features.tokens), features.mask, full(features.pooled))


def photos_a_block(
    similarity: Similarity, images: Features, texts: Features, elements: int | None
) -> int:
    """How many photos make a block with their captions (of which each has the average number).

    Args:
        similarity: the head.
        images: of all photos.
        texts: of all captions.
        elements: the most that a tensor should have; by the device's memory where ``None``.
    """
    elements = block_elements(images.device) if elements is None else elements
    kept = similarity.keep(images[:1]), similarity.keep(texts[:1])
    regions, words = (0 if side.tokens is None else side.tokens.shape[1] for side in kept)
    first = next(value for value in (kept[0].tokens, kept[0].pooled) if value is not None)
    pair = similarity.pair_elements(regions, words, first.shape[-1])
    groups = _LENGTH_GROUPS if words else 1
    return max(1, math.isqrt(int(groups * elements * len(images) / (pair * len(texts)))))
