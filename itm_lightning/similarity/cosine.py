"""Cosine: the angle between the pooled vectors."""

from __future__ import annotations

from torch import Tensor
from typing_extensions import override

from itm_lightning.registry import register
from itm_lightning.similarity.base import InnerProductSimilarity
from itm_lightning.types import Features, unit


@register("similarity")
class Cosine(InnerProductSimilarity):
    """Cosine of the image's and the text's pooled vector, in [-1, 1]."""

    @override
    def embed_images(self, images: Features) -> Tensor:
        return unit(self.pooled(images))

    @override
    def embed_texts(self, texts: Features) -> Tensor:
        return unit(self.pooled(texts))
