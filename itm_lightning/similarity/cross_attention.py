"""CrossAttention: SCAN's words that look at regions, or regions that look at words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from itm_lightning.errors import InputError
from itm_lightning.registry import register
from itm_lightning.similarity.attention import (
    AGGREGATORS,
    NORMALIZERS,
    attended_cosine,
    attention,
)
from itm_lightning.similarity.base import Aligning, TokenSimilarity
from itm_lightning.similarity.functional import (
    at_least_float32,
    full_precision,
    inner_products,
    unit,
)
from itm_lightning.types import Features, Rows


@dataclass(frozen=True)
class AttentionTokens(Rows):
    """A side prepared for attention.

    Attributes:
        tokens: ``(B, L, D)`` of length 1, zero at padding.
        mask: ``(B, L)`` bool, ``True`` at real tokens.
        gram: ``(B, L, L)`` inner products of a row's tokens; ``None`` on the side of the queries.
    """

    tokens: Tensor
    mask: Tensor
    gram: Tensor | None


@register("similarity")
class CrossAttention(Aligning, TokenSimilarity):
    """Stacked cross attention (SCAN; Lee et al., ECCV 2018, section 3.1).

    ``t2i``: each word attends to the regions and is compared with what it saw; the caption's score
    aggregates its words' cosines. ``i2t``: the same with regions that attend to words. The
    published settings are temperatures 9 and 6 for ``t2i``, 4 and 5 for ``i2t``.

    Args:
        direction: ``"t2i"`` or ``"i2t"``.
        normalize: SCAN's ``raw_feature_norm``, one of ``softmax, l2norm, clipped_l2norm, l1norm,
            clipped_l1norm, clipped, no_norm``: how similarities are normalised over the queries.
        aggregate: SCAN's ``agg_func``, one of ``LogSumExp, Mean, Max, Sum``.
        temperature: λ₁ of the attention's softmax; higher is sharper.
        lse_temperature: λ₂ of LogSumExp; higher is nearer to Max.

    Raises:
        InputError: a name is unknown; the message lists those there are.
    """

    def __init__(
        self,
        direction: str = "t2i",
        normalize: str = "clipped_l2norm",
        aggregate: str = "LogSumExp",
        temperature: float = 9.0,
        lse_temperature: float = 6.0,
    ) -> None:
        super().__init__()
        self.words_query: bool = _chosen("direction", direction, {"t2i": True, "i2t": False})
        _chosen("normalize", normalize, NORMALIZERS)
        _chosen("aggregate", aggregate, AGGREGATORS)
        self.normalize, self.aggregate = normalize, aggregate
        self.temperature, self.lse_temperature = temperature, lse_temperature

    def prepare_images(self, images: Features) -> AttentionTokens:
        """Regions of length 1; in ``t2i`` their Gram matrix too."""
        return self._prepared(images, is_context=self.words_query)

    def prepare_texts(self, texts: Features) -> AttentionTokens:
        """Words of length 1; in ``i2t`` their Gram matrix too."""
        return self._prepared(texts, is_context=not self.words_query)

    def score(self, images: AttentionTokens, texts: AttentionTokens) -> Tensor:
        """Scores ``(n_images, n_texts)``; takes memory for all pairs of regions and words."""
        queries, contexts = self._roles(images, texts)
        similarities = _similarities(queries, contexts)
        with full_precision(similarities):
            weights = self._attention(similarities, queries, contexts)
            cosines = attended_cosine(weights, similarities, contexts.gram)
            aggregate = AGGREGATORS[self.aggregate]
            scores = aggregate(cosines, queries.mask.unsqueeze(-1), self.lse_temperature)
        return scores.mT if self.words_query else scores

    def alignment(self, images: Features, texts: Features) -> Tensor:
        """Attention ``(n_images, n_texts, R, L)``; zero at padding.

        It sums to 1 over the regions for each word (``t2i``), or over the words for each region
        (``i2t``). Memory grows with all four sizes: meant for a few photos and captions.
        """
        queries, contexts = self._roles(self.prepare_images(images), self.prepare_texts(texts))
        weights = self._attention(_similarities(queries, contexts), queries, contexts)
        weights = weights.masked_fill(~queries.mask[:, :, None, None], 0)
        return weights.permute(2, 0, 3, 1) if self.words_query else weights.transpose(1, 2)

    def _prepared(self, features: Features, is_context: bool) -> AttentionTokens:
        tokens, mask = self.tokens(features)
        # filled and not multiplied: padding may hold anything, even NaN
        tokens = unit(tokens.masked_fill(~mask.unsqueeze(-1), 0))
        with full_precision(tokens):
            return AttentionTokens(tokens, mask, tokens @ tokens.mT if is_context else None)

    def _roles(self, images: Any, texts: Any) -> tuple[Any, Any]:
        """Who asks, and who is looked at."""
        return (texts, images) if self.words_query else (images, texts)

    def _attention(
        self, similarities: Tensor, queries: AttentionTokens, contexts: AttentionTokens
    ) -> Tensor:
        normalise = NORMALIZERS[self.normalize]
        return attention(similarities, queries.mask, contexts.mask, normalise, self.temperature)


def _similarities(queries: AttentionTokens, contexts: AttentionTokens) -> Tensor:
    """Cosine ``(Q, A, C, K)`` of every query and every context token.

    This product is most of the work, and the one step that autocast may run in half precision.
    """
    product = inner_products(queries.tokens.flatten(0, 1), contexts.tokens.flatten(0, 1))
    return at_least_float32(product).view(*queries.mask.shape, *contexts.mask.shape)


def _chosen(what: str, name: str, choices: dict[str, Any]) -> Any:
    if name not in choices:
        raise InputError(f"CrossAttention: {what} must be one of {', '.join(choices)}, not {name}")
    return choices[name]
