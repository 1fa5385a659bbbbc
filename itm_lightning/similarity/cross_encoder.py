"""CrossEncoder: a head that reads the tokens of an image and of a text in one network."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from itm_lightning.similarity.base import TokenSimilarity
from itm_lightning.similarity.unit_tokens import in_tiles, pairs_of_a_tile, recomputed
from itm_lightning.types import Features, Rows


@dataclass(frozen=True)
class Embedded(Rows):
    """One side, as the network reads it.

    Attributes:
        tokens: ``(B, L, W)``.
        mask: ``(B, L)`` bool, ``True`` at real tokens.
    """

    tokens: Tensor
    mask: Tensor


class CrossEncoder(TokenSimilarity):
    """A head in which all tokens of a pair read each other, so that each pair costs a whole pass.

    That is thousands of times as much as a cosine: the protocol ``Shortlist`` lets a cheap head
    choose which pairs are worth it. A subclass writes :meth:`pair_scores`, and what one side alone
    decides in ``prepare_images`` and ``prepare_texts``, which return :class:`Embedded`.
    """

    dim: int

    @abstractmethod
    def pair_scores(self, images: Any, texts: Any) -> Tensor:
        """Scores ``(B,)`` of prepared image ``i`` with prepared text ``i``."""

    def score(self, images: Embedded, texts: Embedded) -> Tensor:
        """Scores ``(n_images, n_texts)``, a few pairs at a time."""
        block = recomputed(self._block, random=self.training)
        return in_tiles(block, images, texts, self._width(images, texts))

    @override
    def score_pairs(self, images: Features, texts: Features) -> Tensor:
        left, right = self.prepare_images(images), self.prepare_texts(texts)
        assert isinstance(left, Embedded)
        assert isinstance(right, Embedded)
        size = pairs_of_a_tile(left.device, self._width(left, right))
        rows = torch.arange(len(left), device=left.device).split(size)
        return torch.cat([self.pair_scores(left[part], right[part]) for part in rows])

    def _width(self, images: Embedded, texts: Embedded) -> int:
        return self.pair_elements(images.mask.shape[1], texts.mask.shape[1], self.dim)

    def _block(self, images: Embedded, texts: Embedded) -> Tensor:
        n, m = len(images), len(texts)
        images = images.map(lambda values: values.repeat_interleave(m, dim=0))
        texts = texts.map(lambda values: values.repeat(n, *[1] * (values.ndim - 1)))
        return self.pair_scores(images, texts).view(n, m)


def joined(*sides: Embedded) -> tuple[Tensor, Tensor]:
    """Tokens ``(B, L₁ + L₂ + …, W)`` of several :class:`Embedded` sides, and their mask."""
    return (
        torch.cat([side.tokens for side in sides], dim=1),
        torch.cat([side.mask for side in sides], dim=1),
    )
