"""One direction of SCAN's cross attention: words look at regions, or regions at words."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor
from typing_extensions import override

from itm_lightning.similarity.attention import (
    AGGREGATORS,
    NORMALIZERS,
    Scale,
    attended_cosine,
    attention,
    attention_up_to_scale,
)
from itm_lightning.similarity.unit_tokens import UnitTokens


@dataclass(frozen=True)
class AttentionTokens(UnitTokens):
    """A side prepared for attention.

    Attributes:
        tokens: ``(B, L, D)`` of length 1, zero at padding.
        mask: ``(B, L)`` bool, ``True`` at real tokens.
        gram: ``(B, L, L)`` inner products of a row's tokens; ``None`` where nobody looks at them.
    """

    gram: Tensor | None

    @override
    def _first_tokens(self, length: int) -> AttentionTokens:
        trimmed = super()._first_tokens(length)
        if trimmed.gram is None:
            return trimmed
        return replace(trimmed, gram=trimmed.gram[:, :length, :length])


@dataclass(frozen=True)
class Looking:
    """Who looks at whom, and how.

    Attributes:
        words_look: words look at regions (``t2i``); else regions look at words (``i2t``).
        normalize: one of :data:`~itm_lightning.similarity.attention.NORMALIZERS`.
        aggregate: one of :data:`~itm_lightning.similarity.attention.AGGREGATORS`.
        temperature: λ₁ of the attention.
        lse_temperature: λ₂ of LogSumExp.
    """

    words_look: bool
    normalize: str
    aggregate: str
    temperature: float
    lse_temperature: float

    def scores(self, cosines: Tensor, images: AttentionTokens, texts: AttentionTokens) -> Tensor:
        """Scores ``(N, M)`` of cosines ``(N, R, M, L)``."""
        cosines, context, queries = self._roles(cosines, images, texts)
        weights = attention_up_to_scale(cosines, *self._how(context, queries))
        assert context.gram is not None  # made of the side that is looked at
        found = attended_cosine(weights, cosines, context.gram)
        scores = AGGREGATORS[self.aggregate](found, queries.mask, self.lse_temperature)
        return scores if self.words_look else scores.mT

    def alignment(self, cosines: Tensor, images: AttentionTokens, texts: AttentionTokens) -> Tensor:
        """Attention ``(N, M, R, L)`` of cosines ``(N, R, M, L)``; zero at padding."""
        cosines, context, queries = self._roles(cosines, images, texts)
        weights = attention(cosines, *self._how(context, queries)) * queries.mask
        return weights.transpose(1, 2) if self.words_look else weights.permute(2, 0, 3, 1)

    def _roles(
        self, cosines: Tensor, images: AttentionTokens, texts: AttentionTokens
    ) -> tuple[Tensor, AttentionTokens, AttentionTokens]:
        """Cosines ``(C, K, Q, A)``, who is looked at, and who looks."""
        if self.words_look:
            return cosines, images, texts
        return cosines.permute(2, 3, 0, 1).contiguous(), texts, images

    def _how(
        self, context: AttentionTokens, queries: AttentionTokens
    ) -> tuple[Tensor, Tensor, Scale, float]:
        return queries.mask, context.mask, NORMALIZERS[self.normalize], self.temperature
