"""Tokens of length 1 and their cosines: what heads on token sets start from."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor
from typing_extensions import override

from itm_lightning.similarity.base import TokenSimilarity, inner_products
from itm_lightning.similarity.tiles import in_tiles, recomputed
from itm_lightning.types import Features, Rows, at_least_float32, full_precision, unit_tokens

UnitTokensT = TypeVar("UnitTokensT", bound="UnitTokens")


@dataclass(frozen=True)
class UnitTokens(Rows):
    """A side prepared for cosines.

    Attributes:
        tokens: ``(B, L, D)`` of length 1, zero at padding.
        mask: ``(B, L)`` bool, ``True`` at real tokens.
    """

    tokens: Tensor
    mask: Tensor

    def trim(self: UnitTokensT) -> UnitTokensT:
        """Drops the columns of padding that no row of this batch needs."""
        used = self.mask.any(dim=0).nonzero()
        return self._first_tokens(int(used[-1]) + 1 if len(used) else 1)

    def _first_tokens(self: UnitTokensT, length: int) -> UnitTokensT:
        tokens, mask = self.tokens[:, :length], self.mask[:, :length]
        return replace(self, tokens=tokens, mask=mask)


class UnitTokenSimilarity(TokenSimilarity):
    """A head that sees of tokens nothing but their cosines.

    A subclass writes :meth:`compare`. It is given a few photos, and captions of similar length, at
    a time: what it makes of their cosines stays in the cache, little of it is spent on padding, and
    in training nothing but the cosines waits for the backward pass.
    """

    @abstractmethod
    def compare(self, cosines: Tensor, images: UnitTokens, texts: UnitTokens) -> Tensor:
        """Scores ``(n_images, n_texts)``, in the precision of the cosines.

        Args:
            cosines: ``(n_images, R, n_texts, L)``, zero at padding; not to be overwritten.
            images: the photos, prepared.
            texts: the captions, prepared.
        """

    @override
    def prepare(self, features: Features) -> UnitTokens:
        tokens, mask = self.tokens(features)
        return UnitTokens(unit_tokens(tokens, mask), mask)

    @override
    def score(self, images: UnitTokens, texts: UnitTokens) -> Tensor:
        # a training batch's captions come in any order
        order = texts.mask.sum(dim=1).argsort()
        texts = texts.map(lambda values: values.index_select(0, order))
        width = images.mask.shape[1] * texts.mask.shape[1]
        return in_tiles(self._score, images, texts, width)[:, order.argsort()]

    def cosines(self, images: UnitTokens, texts: UnitTokens) -> Tensor:
        """What :meth:`compare` is given."""
        return cosines(images, texts)

    def compared(self, images: Features, texts: Features) -> tuple[Tensor, Any, Any]:
        """The arguments of :meth:`compare`, for all photos and captions at once."""
        regions: Any = self.prepare_images(images)
        words: Any = self.prepare_texts(texts)
        return self.cosines(regions, words), regions, words

    def _score(self, images: UnitTokens, texts: UnitTokens) -> Tensor:
        images, texts = images.trim(), texts.trim()
        similarities = self.cosines(images, texts)
        with full_precision(similarities):
            return recomputed(self.compare)(similarities, images, texts)


def cosines(images: UnitTokens, texts: UnitTokens) -> Tensor:
    """Cosine ``(n_images, R, n_texts, L)`` of every region and every word; zero at padding.

    This product is most of the work, and the one step that autocast may run in half precision.

    Raises:
        InputError: the widths differ.
    """
    product = inner_products(images.tokens.flatten(0, 1), texts.tokens.flatten(0, 1))
    return at_least_float32(product).view(*images.mask.shape, *texts.mask.shape)


def hide_padding(cosines: Tensor, images: UnitTokens, texts: UnitTokens, value: float) -> Tensor:
    """The cosines with ``value`` at padding, and twice that where both tokens are."""
    # added: filling takes ten times as long
    of_regions = (~images.mask[:, :, None, None]).to(cosines.dtype) * value
    return (cosines + of_regions).add_((~texts.mask).to(cosines.dtype) * value)


#: Stands for the cosine of padding: nobody's nearest, and no score is infinite for it.
BELOW_ALL = -2.0

_REGIONS, _WORDS = 1, 3  # dimensions

#: ``(cosines, dim)`` to what each token finds along ``dim``.
Match = Callable[[Tensor, int], Tensor]
#: ``(matches (..., A), mask of who asks)`` to scores ``(...)``.
Aggregate = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Direction:
    """Who asks whom.

    Attributes:
        text_queries: words ask regions (``t2i``); else regions ask words (``i2t``).
    """

    text_queries: bool

    def scores(
        self,
        cosines: Tensor,
        images: UnitTokens,
        texts: UnitTokens,
        match: Match,
        aggregate: Aggregate,
    ) -> Tensor:
        """Scores ``(N, M)`` that aggregate what each asking token finds."""
        if self.text_queries:
            return aggregate(match(cosines, _REGIONS), texts.mask)
        return aggregate(match(cosines, _WORDS).mT, images.mask.unsqueeze(1))

    def nearest(self, cosines: Tensor, images: UnitTokens, texts: UnitTokens) -> Tensor:
        """``(N, M, R, L)``: 1 where the largest cosine of an asking token is, else 0."""
        asked = _REGIONS if self.text_queries else _WORDS
        asking = texts.mask if self.text_queries else images.mask[:, :, None, None]
        places = cosines.argmax(asked, keepdim=True)
        return (torch.zeros_like(cosines).scatter_(asked, places, 1) * asking).transpose(1, 2)


T2I, I2T = Direction(text_queries=True), Direction(text_queries=False)
DIRECTIONS = {"t2i": (T2I,), "i2t": (I2T,), "both": (T2I, I2T)}


def largest(cosines: Tensor, dim: int) -> Tensor:
    """The largest cosine: a :data:`Match`."""
    return cosines.amax(dim)
