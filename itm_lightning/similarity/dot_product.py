"""DotProduct: the inner product of the pooled vectors."""

from __future__ import annotations

from torch import Tensor

from itm_lightning.registry import register
from itm_lightning.similarity.base import Embedding, PooledSimilarity
from itm_lightning.similarity.functional import Vectors
from itm_lightning.types import Features, at_least_float32, full_precision, inner_products


@register("similarity")
class DotProduct(Embedding, PooledSimilarity):
    """``v · t`` of a photo's pooled vector ``v`` and a caption's ``t``, whatever their length.

    DeViSE (Frome et al., NeurIPS 2013) ranks by it. Nothing bounds it: the encoders
    can lower a margin loss by growing, so a temperature or weight decay should hold them.
    """

    def embedding(self, features: Features) -> Tensor:
        """The pooled vectors ``(B, D)`` as they are."""
        return at_least_float32(self.pooled(features))

    def prepare(self, features: Features) -> Vectors:
        """See :meth:`embedding`."""
        return Vectors(self.embedding(features))

    def score(self, images: Vectors, texts: Vectors) -> Tensor:
        """Scores ``(n_images, n_texts)``."""
        with full_precision(images.vectors):
            return inner_products(images.vectors, texts.vectors)
