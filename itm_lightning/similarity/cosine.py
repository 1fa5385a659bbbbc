"""Cosine: the angle between the pooled vectors."""

from __future__ import annotations

from torch import Tensor

from itm_lightning.registry import register
from itm_lightning.similarity.base import Embedding, PooledSimilarity
from itm_lightning.similarity.functional import Vectors
from itm_lightning.types import Features, full_precision, inner_products, unit


@register("similarity")
class Cosine(Embedding, PooledSimilarity):
    """Cosine of the photo's and the caption's pooled vector, in [-1, 1]."""

    def embedding(self, features: Features) -> Tensor:
        """The pooled vectors ``(B, D)``, scaled to length 1."""
        return unit(self.pooled(features))

    def prepare(self, features: Features) -> Vectors:
        """See :meth:`embedding`."""
        return Vectors(self.embedding(features))

    def score(self, images: Vectors, texts: Vectors) -> Tensor:
        """Scores ``(n_images, n_texts)``."""
        with full_precision(images.vectors):
            return inner_products(images.vectors, texts.vectors)
