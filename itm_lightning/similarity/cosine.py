"""Cosine: the angle between the pooled vectors."""

from __future__ import annotations

from torch import Tensor

from itm_lightning.registry import register
from itm_lightning.similarity.base import Embedding, PooledSimilarity
from itm_lightning.similarity.functional import full_precision, inner_products, unit
from itm_lightning.types import Features


@register("similarity")
class Cosine(Embedding, PooledSimilarity):
    """Cosine of the photo's and the caption's pooled vector, in [-1, 1]."""

    def embedding(self, features: Features) -> Tensor:
        """The pooled vectors ``(B, D)``, scaled to length 1."""
        return unit(self.keep(features).pooled)

    def prepare(self, features: Features) -> Features:
        return Features.from_pooled(self.embedding(features))

    def score(self, images: Features, texts: Features) -> Tensor:
        with full_precision(images.pooled):
            return inner_products(images.pooled, texts.pooled)
