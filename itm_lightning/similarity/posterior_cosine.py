"""PosteriorCosine: how alike the classes are that are seen in both sides."""

from __future__ import annotations

from torch import Tensor
from typing_extensions import override

from itm_lightning.registry import register
from itm_lightning.similarity.base import InnerProductSimilarity
from itm_lightning.types import Features, at_least_float32, unit


@register("similarity")
class PosteriorCosine(InnerProductSimilarity):
    """Cosine of the softmax of the pooled vectors, in [0, 1]: one number for each class.

    Semantic matching (Rasiwasia et al., "A New Approach to Cross-Modal Multimedia Retrieval", ACM
    MM 2010) of classifiers that are trained by gradient, such as those of the objective
    :class:`~itm_lightning.objectives.DeepSemanticMapping`.
    """

    @override
    def embed_images(self, images: Features) -> Tensor:
        return unit(at_least_float32(self.pooled(images)).softmax(dim=1))

    @override
    def embed_texts(self, texts: Features) -> Tensor:
        return unit(at_least_float32(self.pooled(texts)).softmax(dim=1))
