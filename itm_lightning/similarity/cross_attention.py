"""CrossAttention (SCAN): words attend to regions, or regions attend to words."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from itm_lightning.errors import Positive
from itm_lightning.registry import register
from itm_lightning.similarity.attention import (
    AGGREGATOR_WEIGHTS,
    AGGREGATORS,
    ENTROPY,
    NORMALIZERS,
    Scale,
    attended_cosine,
    attention,
    attention_up_to_scale,
    inverse_length,
)
from itm_lightning.similarity.base import Additive, Aligning
from itm_lightning.similarity.functional import chosen
from itm_lightning.similarity.unit_tokens import UnitTokens, UnitTokenSimilarity, cosines, own
from itm_lightning.types import Features, full_precision


@dataclass(frozen=True)
class AttentionTokens(UnitTokens):
    """One side, prepared for attention.

    Attributes:
        tokens: ``(B, L, D)`` of length 1, zero at padding.
        mask: ``(B, L)`` bool, ``True`` at real tokens.
        gram: ``(B, L, L)`` inner products of a row's tokens; ``None`` where they are no context.
    """

    gram: Tensor | None

    @override
    def _first_tokens(self, length: int) -> AttentionTokens:
        trimmed = super()._first_tokens(length)
        if trimmed.gram is None:
            return trimmed
        return replace(trimmed, gram=own(trimmed.gram[:, :length, :length]))


@dataclass(frozen=True)
class AttentionDirection:
    """Which side's tokens are the queries, and how they attend to the other side, the context.

    Attributes:
        text_queries: words attend to regions (``t2i``); else regions attend to words (``i2t``).
        normalize: one of :data:`~itm_lightning.similarity.attention.NORMALIZERS`.
        aggregate: one of :data:`~itm_lightning.similarity.attention.AGGREGATORS`.
        temperature: λ₁ of the attention.
        lse_temperature: λ₂ of LogSumExp.
    """

    text_queries: bool
    normalize: str
    aggregate: str
    temperature: float
    lse_temperature: float

    def scores(self, cosines: Tensor, images: AttentionTokens, texts: AttentionTokens) -> Tensor:
        """Scores ``(N, M)`` of cosines ``(N, R, M, L)``."""
        cosines, context, queries = self._roles(cosines, images, texts)
        weights = attention_up_to_scale(cosines, *self._settings(context, queries))
        assert context.gram is not None  # prepared for the side that is the context
        attended = attended_cosine(weights, cosines, context.gram)
        scores = AGGREGATORS[self.aggregate](attended, queries.mask, self.lse_temperature)
        return scores if self.text_queries else scores.mT

    def alignment(self, cosines: Tensor, images: AttentionTokens, texts: AttentionTokens) -> Tensor:
        """Attention ``(N, M, R, L)`` of cosines ``(N, R, M, L)``; zero at padding."""
        cosines, context, queries = self._roles(cosines, images, texts)
        weights = attention(cosines, *self._settings(context, queries)) * queries.mask
        return weights.transpose(1, 2) if self.text_queries else weights.permute(2, 0, 3, 1)

    def contributions(
        self, cosines: Tensor, images: AttentionTokens, texts: AttentionTokens
    ) -> Tensor:
        """Parts ``(N, M, R, L)`` of the scores of cosines ``(N, R, M, L)``; zero at padding."""
        cosines, context, queries = self._roles(cosines, images, texts)
        weights = attention(cosines, *self._settings(context, queries))
        assert context.gram is not None
        # the cosine of a query and its attended vector, before it is summed over the context
        parts = weights * cosines * inverse_length(weights, context.gram).unsqueeze(1)
        of_queries = AGGREGATOR_WEIGHTS[self.aggregate]
        parts = parts * of_queries(parts.sum(dim=1), queries.mask, self.lse_temperature).unsqueeze(
            1
        )
        return parts.transpose(1, 2) if self.text_queries else parts.permute(2, 0, 3, 1)

    def _roles(
        self, cosines: Tensor, images: AttentionTokens, texts: AttentionTokens
    ) -> tuple[Tensor, AttentionTokens, AttentionTokens]:
        """Cosines ``(C, K, Q, A)``, the context side, and the query side."""
        if self.text_queries:
            return cosines, images, texts
        return cosines.permute(2, 3, 0, 1).contiguous(), texts, images

    def _settings(
        self, context: AttentionTokens, queries: AttentionTokens
    ) -> tuple[Tensor, Tensor, Scale, float]:
        return queries.mask, context.mask, NORMALIZERS[self.normalize], self.temperature


#: Directions as SCAN publishes them: text_queries, temperature, lse_temperature.
_T2I, _I2T = (True, 9.0, 6.0), (False, 4.0, 5.0)
_DIRECTIONS = {"t2i": (_T2I,), "i2t": (_I2T,), "both": (_T2I, _I2T)}


@register("similarity")
class CrossAttention(Aligning, Additive, UnitTokenSimilarity):
    """Stacked cross attention (SCAN; Lee et al., ECCV 2018, section 3.1).

    ``t2i``: each word attends to the regions, and is compared with the attended vector; the score
    aggregates the cosines of all words. ``i2t``: the same with regions that attend to words.
    ``both``: the mean of the two, as SCAN's ensembles average the scores of two models; it computes
    the product of regions and words once.

    Args:
        direction: ``"t2i"``, ``"i2t"`` or ``"both"``.
        normalize: SCAN's ``raw_feature_norm``, one of ``softmax, l2norm, clipped_l2norm, l1norm,
            clipped_l1norm, clipped, no_norm``: how similarities are normalised over the queries.
        aggregate: SCAN's ``agg_func``, one of ``LogSumExp, Mean, Max, Sum``.
        temperature: λ₁ of the attention's softmax; higher is sharper. By default as published for
            each direction: 9 for ``t2i``, 4 for ``i2t``.
        lse_temperature: λ₂ of LogSumExp; higher is nearer to Max. By default as published for each
            direction: 6 for ``t2i``, 5 for ``i2t``.

    Raises:
        InputError: a name is unknown; the message lists the known ones.
    """

    def __init__(
        self,
        direction: str = "t2i",
        normalize: str = "clipped_l2norm",
        aggregate: str = "LogSumExp",
        temperature: Positive | None = None,
        lse_temperature: Positive | None = None,
    ) -> None:
        super().__init__()
        directions = chosen(self, "direction", direction, _DIRECTIONS)
        chosen(self, "normalize", normalize, NORMALIZERS)
        chosen(self, "aggregate", aggregate, AGGREGATORS)
        self._directions = [
            AttentionDirection(
                text_queries,
                normalize,
                aggregate,
                published if temperature is None else temperature,
                lse_published if lse_temperature is None else lse_temperature,
            )
            for text_queries, published, lse_published in directions
        ]

    @override
    def prepare_images(self, images: Features) -> AttentionTokens:
        return self._prepared(
            images, is_context=any(each.text_queries for each in self._directions)
        )

    @override
    def prepare_texts(self, texts: Features) -> AttentionTokens:
        return self._prepared(
            texts, is_context=not all(each.text_queries for each in self._directions)
        )

    def _prepared(self, features: Features, is_context: bool) -> AttentionTokens:
        side = self.prepare(features)
        with full_precision(side.tokens):
            gram = side.tokens @ side.tokens.mT if is_context else None
        return AttentionTokens(side.tokens, side.mask, gram)

    @override
    def cosines(self, images: UnitTokens, texts: UnitTokens) -> Tensor:
        if any(each.text_queries for each in self._directions):
            return super().cosines(images, texts)
        # in the memory layout that region queries need: a copy would take a tenth of the time
        return cosines(texts, images).permute(2, 3, 0, 1)

    @override
    def compare(self, cosines: Tensor, images: Any, texts: Any) -> Tensor:
        scores = [each.scores(cosines, images, texts) for each in self._directions]
        return torch.stack(scores).mean(dim=0)

    def alignment(self, images: Features, texts: Features) -> Tensor:
        """Attention ``(n_images, n_texts, R, L)``; zero at padding.

        It sums to 1 over the regions for each word (``t2i``), or over the words for each region
        (``i2t``); with ``both`` it is the mean of the two. Memory grows with all four sizes: meant
        for a few images and texts.
        """
        compared = self.compared(images, texts)
        weights = [each.alignment(*compared) for each in self._directions]
        return torch.stack(weights).mean(dim=0)

    @property
    @override
    def left_out(self) -> str | None:
        return ENTROPY if self._directions[0].aggregate == "LogSumExp" else None

    def contributions(self, images: Features, texts: Features) -> Tensor:
        """``w_q · a_qk · s_qk / ‖Σ a_qk c_k‖ (n_images, n_texts, R, L)``; zero at padding.

        The part of query token ``q`` and context token ``k``: attention ``a``, cosine ``s``, and
        the weight ``w`` of the query's cosine in the aggregate (of LogSumExp, its derivative).
        """
        compared = self.compared(images, texts)
        parts = [each.contributions(*compared) for each in self._directions]
        return torch.stack(parts).mean(dim=0)
